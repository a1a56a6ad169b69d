"""OpenAI's own Python client against the gateway and a real model: everything it offers works, or fails honestly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import openai
import pytest
from openai import OpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.integration.backend import PATIENCE_SECONDS, GatewayProcess, LlamaServerProcess, llama_cpp_config, wait_until
from tests.integration.conftest import Backend, StartGateway, StartLlamaServer

# The small model's own chat template knows no tools.
TOOL_TEMPLATE = Path(__file__).with_name("tool_template.jinja")
ANSWER_SECONDS = 100.0
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Name three colours of the rainbow."}]
STORY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Write a very long story about a river."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def patient_config(server: LlamaServerProcess, **scheduler: object) -> dict[str, object]:
    """A busy machine may take its time; what a test says about time it sets itself."""
    config = llama_cpp_config(server)
    model, settings = config["model"], config["scheduler"]
    assert isinstance(model, dict)
    assert isinstance(settings, dict)
    model["adapter"]["timeoutMs"] = 90_000
    model["adapter"]["launchProfile"]["alias"] = "smol"
    settings |= {"requestTimeoutMs": 90_000, **scheduler}
    return config


def client_of(
    gateway: GatewayProcess, *, key: str = "any", retries: int = 0, timeout: float = ANSWER_SECONDS
) -> OpenAI:
    url = f"http://127.0.0.1:{gateway.port}/v1"
    return OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=timeout)


def answered(gateway: GatewayProcess, path: str, status: int) -> int:
    """How many requests of a path were answered with this status."""
    text = gateway.get("/metrics", headers={"accept": "text/plain;version=0.0.4"}).body.decode()
    for line in text.splitlines():
        if line.startswith("ray_http_requests_total{") and f'"{path}"' in line and f'"{status}"' in line:
            return int(float(line.rpartition(" ")[2]))
    return 0


def cached_tokens(usage: CompletionUsage | None) -> int:
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens is not None
    return usage.prompt_tokens_details.cached_tokens


@pytest.fixture(scope="module")
def able_server(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServerProcess]:
    """A `llama-server` that can call tools and embed."""
    log = tmp_path_factory.mktemp("able-llama-server") / "llama-server.log"
    extra = ("--jinja", "--chat-template-file", str(TOOL_TEMPLATE), "--embeddings", "--pooling", "mean")
    server = LlamaServerProcess(backend.binary, backend.model, log, extra=extra)
    server.start()
    try:
        server.wait_healthy()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def gateway(able_server: LlamaServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(patient_config(able_server), tmp_path_factory.mktemp("gateway"))
    gateway.start()
    try:
        gateway.wait_ready()
        yield gateway
    finally:
        gateway.stop()


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with client_of(gateway) as client:
        yield client


@pytest.fixture
def model(client: OpenAI) -> str:
    return client.models.list().data[0].id


def test_given_models_when_listed_then_the_configured_one_and_it_is_known_by_its_alias(
    client: OpenAI, model: str
) -> None:
    assert model == "SmolLM2-135M-Instruct.Q4_1"
    assert client.models.retrieve(model).id == model
    assert client.models.retrieve("smol").id == model
    assert client.chat.completions.create(model="smol", messages=QUESTION, max_tokens=4).model == model

    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("org/other")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert (unknown.value.code, unknown.value.param, unknown.value.type) == (
        "model_not_found",
        "model",
        "invalid_request_error",
    )


def test_given_a_chat_when_asked_then_text_usage_and_a_true_finish_reason(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, max_completion_tokens=6, temperature=0)

    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6
    assert answer.usage.prompt_tokens > 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert answer.id.startswith("chatcmpl-")
    assert answer._request_id


def test_given_a_stream_when_read_then_its_pieces_are_the_whole_answer_and_the_usage_comes_last(
    client: OpenAI, model: str
) -> None:
    no_cache = {"cache": False}
    whole = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=12, temperature=0, extra_body=no_cache
    )
    with client.chat.completions.create(
        model=model,
        messages=QUESTION,
        max_tokens=12,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
        extra_body=no_cache,
    ) as stream:
        chunks = list(stream)

    *parts, last = chunks
    assert parts[0].choices[0].delta.role == "assistant"
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (last.choices, last.usage is not None) == ([], True)
    assert {chunk.id for chunk in chunks} == {last.id}
    probabilities = [part.choices[0].logprobs for part in parts if part.choices[0].logprobs]
    assert probabilities
    for entry in probabilities:
        assert entry.content
        assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in entry.content)


def test_given_a_json_schema_when_asked_then_the_answer_conforms(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Anna is 7 years old. Say it as JSON."}],
        max_tokens=80,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
    )

    assert answer.choices[0].finish_reason == "stop"
    person = json.loads(answer.choices[0].message.content or "")
    assert set(person) == {"name", "age"}
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


def weather_talk(*cities: str) -> list[ChatCompletionMessageParam]:
    """Earlier turns that show the model how it is done: it is small, and with three of them another processor, which
    adds up in another order, was enough to make it speak instead."""
    turns: list[ChatCompletionMessageParam] = []
    for index, city in enumerate(cities):
        arguments = json.dumps({"city": city})
        turns += [
            {"role": "user", "content": f"Weather in {city}?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": f"call_{index}",
                        "type": "function",
                        "function": {"name": "weather", "arguments": arguments},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": f"call_{index}", "content": "sunny"},
            {"role": "assistant", "content": f"It is sunny in {city}."},
        ]
    return turns


def test_given_tools_when_the_model_calls_one_then_its_result_is_answered_in_the_same_conversation(
    client: OpenAI, model: str
) -> None:
    turns = weather_talk("Paris", "Rome", "Oslo", "Lima", "Cairo")
    turns.append({"role": "user", "content": "Weather in Bern?"})
    asked = client.chat.completions.create(
        model=model, messages=turns, tools=[WEATHER], tool_choice="required", max_tokens=60, temperature=0
    )

    (choice,) = asked.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}

    echoed = cast("ChatCompletionMessageParam", choice.message.model_dump())
    turns += [echoed, {"role": "tool", "tool_call_id": call.id, "content": "rainy"}]
    answer = client.chat.completions.create(model=model, messages=turns, tools=[WEATHER], max_tokens=24, temperature=0)
    assert answer.choices[0].message.content
    assert asked.usage is not None
    assert cached_tokens(answer.usage) >= asked.usage.prompt_tokens - 1, "the earlier turns were not read again"


def test_given_tools_when_streamed_then_the_pieces_of_a_call_add_up(client: OpenAI, model: str) -> None:
    turns = weather_talk("Paris", "Rome", "Oslo", "Lima", "Cairo")
    # A question of its own, so that it is not answered from the cache.
    turns.append({"role": "user", "content": "Weather in Rome?"})
    with client.chat.completions.create(
        model=model,
        messages=turns,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
        temperature=0,
        stream=True,
    ) as stream:
        choices = [chunk.choices[0] for chunk in stream]

    parts = [part for choice in choices for part in choice.delta.tool_calls or []]
    names = [part.function.name for part in parts if part.function and part.function.name]
    arguments = "".join(part.function.arguments or "" for part in parts if part.function)
    assert names == ["weather"]
    assert set(json.loads(arguments)) == {"city"}
    assert choices[-1].finish_reason == "tool_calls"


def test_given_a_model_without_tools_when_they_are_sent_then_400_names_them_and_the_remedy(
    llama_server: LlamaServerProcess, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(patient_config(llama_server))
    with client_of(gateway) as client, pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="smol", messages=QUESTION, tools=[WEATHER])
    assert refused.value.param == "tools"
    assert "--jinja" in refused.value.message


def test_given_a_prompt_when_completed_then_it_is_continued_whole_and_streamed(client: OpenAI, model: str) -> None:
    prompt = "Once upon a"
    whole = client.completions.create(model=model, prompt=prompt, max_tokens=8, temperature=0, logprobs=2)
    with client.completions.create(
        model=model, prompt=[prompt], max_tokens=8, temperature=0, stream=True, extra_body={"cache": False}
    ) as stream:
        text = "".join(chunk.choices[0].text for chunk in stream)

    (choice,) = whole.choices
    assert choice.text == text
    assert choice.finish_reason == "length"
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == text
    assert whole.usage is not None
    assert whole.usage.prompt_tokens <= 5, "no chat template was put around the prompt"


def test_given_texts_when_embedded_then_one_vector_each_and_equal_texts_have_equal_ones(
    client: OpenAI, model: str
) -> None:
    packed = client.embeddings.create(model=model, input=["a river", "a stone", "a river"])
    plain = client.embeddings.create(model=model, input="a river", encoding_format="float")

    first, second, third = (entry.embedding for entry in packed.data)
    assert len(first) == len(second) > 100
    assert first == pytest.approx(third, abs=1e-4)
    assert first != pytest.approx(second, abs=1e-4)
    assert plain.data[0].embedding == pytest.approx(first, abs=1e-3)
    assert packed.usage.prompt_tokens > 3


def test_given_a_backend_without_embeddings_when_asked_then_one_honest_error_that_is_not_repeated(
    llama_server: LlamaServerProcess, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(patient_config(llama_server))
    with client_of(gateway, retries=2) as client, pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="smol", input="a river")

    assert (refused.value.status_code, refused.value.code) == (501, "embeddings_unsupported")
    assert "--embeddings" in refused.value.message
    wait_until(lambda: answered(gateway, "/v1/embeddings", 501) > 0, PATIENCE_SECONDS, "the answer is counted")
    assert answered(gateway, "/v1/embeddings", 501) == 1


def test_given_two_turns_of_a_conversation_when_asked_then_the_second_reads_only_what_is_new(
    client: OpenAI, model: str
) -> None:
    turns: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You are a gardener who answers in one short sentence."},
        {"role": "user", "content": "Which flowers like the shade of old trees?"},
    ]
    first = client.chat.completions.create(model=model, messages=turns, max_tokens=24, temperature=0)
    turns += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And which like the sun?"},
    ]
    second = client.chat.completions.create(model=model, messages=turns, max_tokens=24, temperature=0)

    assert first.usage is not None
    assert second.usage is not None
    read = second.usage.prompt_tokens - cached_tokens(second.usage)
    new = second.usage.prompt_tokens - first.usage.total_tokens
    assert cached_tokens(second.usage) >= first.usage.prompt_tokens
    assert read <= new + 4, "the end of the answer may have been split into other tokens"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": 1e9}, "temperature"),
        ({"presence_penalty": 1.5}, "presence_penalty"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
    ],
)
def test_given_what_cannot_be_honoured_when_sent_then_a_bad_request_that_names_the_field(
    client: OpenAI, model: str, body: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=model, messages=QUESTION, extra_body=body)
    assert (refused.value.param, refused.value.code) == (param, "invalid_request")
    assert refused.value.request_id


def test_given_a_client_that_gives_up_when_its_time_is_over_then_the_slot_is_free_again(
    gateway: GatewayProcess, able_server: LlamaServerProcess, model: str
) -> None:
    before = able_server.tokens_written()
    with client_of(gateway, timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model=model, messages=STORY, max_tokens=256, extra_body={"cache": False})

    able_server.wait_idle()
    assert able_server.tokens_written() - before < 256, "it wrote on for nobody"


def test_given_a_client_that_closes_its_stream_then_the_slot_is_free_again(
    gateway: GatewayProcess, able_server: LlamaServerProcess, client: OpenAI, model: str
) -> None:
    before = able_server.tokens_written()
    stream = client.chat.completions.create(
        model=model, messages=STORY, max_tokens=256, stream=True, extra_body={"cache": False}
    )
    next(stream)
    assert able_server.busy_slots() == 1
    stream.close()

    able_server.wait_idle()
    assert able_server.tokens_written() - before < 256, "it wrote on for nobody"
    gauges = gateway.get("/metrics").json()["gauges"]
    assert isinstance(gauges, dict)
    assert gauges["inference.in_flight"] == 0


def test_given_many_chats_at_once_when_streamed_asynchronously_then_each_gets_its_own_answer(
    gateway: GatewayProcess, model: str
) -> None:
    async def ask(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": f"Count to {number}."}], max_tokens=6, stream=True
        )
        async with stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def main() -> list[str]:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=ANSWER_SECONDS) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(2, 6)))

    assert all(asyncio.run(main()))


def test_given_a_deadline_when_it_passes_in_mid_stream_then_the_client_gets_the_error(
    able_server: LlamaServerProcess, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(patient_config(able_server, requestTimeoutMs=4_000))
    gateway.wait_ready()
    with client_of(gateway) as client, ExitStack() as afterwards:
        stream = client.chat.completions.create(
            model="smol", messages=STORY, max_tokens=256, stream=True, extra_body={"cache": False}
        )
        next(stream)
        able_server.pause()  # however fast it is, the answer does not end before the deadline
        afterwards.callback(able_server.resume)
        with pytest.raises(openai.APIError) as late:
            list(stream)
        assert late.value.code == "request_timeout"
        with pytest.raises(openai.InternalServerError) as whole:
            client.chat.completions.create(model="smol", messages=STORY, max_tokens=256, extra_body={"cache": False})
        assert (whole.value.status_code, whole.value.code) == (504, "request_timeout")
        assert whole.value.response.headers["retry-after"] == "5"


def test_given_a_backend_that_dies_in_mid_stream_then_the_client_gets_the_error(
    start_llama_server: StartLlamaServer, start_gateway: StartGateway
) -> None:
    server = start_llama_server()
    gateway = start_gateway(patient_config(server))
    gateway.wait_ready()
    with client_of(gateway) as client:
        stream = client.chat.completions.create(
            model="smol", messages=STORY, max_tokens=256, stream=True, extra_body={"cache": False}
        )
        next(stream)
        server.kill9()
        with pytest.raises(openai.APIError) as broken:
            list(stream)
    assert broken.value.code == "provider_request_failed"


def test_given_keys_and_a_limit_when_exceeded_then_the_client_waits_as_told_and_succeeds(
    start_gateway: StartGateway,
) -> None:
    limits = {"enabled": True, "windowMs": 1_500, "maxRequests": 1}
    config = {"profile": "tiny", "auth": {"enabled": True}, "rateLimit": limits}
    gateway = start_gateway(config, {"RAY_API_KEYS": "sesame"})
    with client_of(gateway, key="wrong") as stranger, pytest.raises(openai.AuthenticationError) as unknown:
        stranger.chat.completions.create(model="tiny-dev", messages=QUESTION)
    assert unknown.value.code == "unauthorized"

    with client_of(gateway, key="sesame", retries=0) as hasty, client_of(gateway, key="sesame", retries=3) as patient:
        hasty.chat.completions.create(model="tiny-dev", messages=QUESTION)
        with pytest.raises(openai.RateLimitError) as limited:
            hasty.chat.completions.create(model="tiny-dev", messages=QUESTION)
        assert limited.value.code == "rate_limited"
        assert int(limited.value.response.headers["retry-after"]) >= 1
        raw = patient.chat.completions.with_raw_response.create(model="tiny-dev", messages=QUESTION)
    assert raw.retries_taken >= 1
    assert raw.parse().choices[0].message.content


def test_given_a_full_queue_when_asked_then_503_and_a_repetition_succeeds_once_there_is_room(
    able_server: LlamaServerProcess, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(patient_config(able_server, concurrency=1, maxQueue=1, affinityLookahead=1))
    gateway.wait_ready()

    def waiting() -> float:
        return cast("dict[str, float]", gateway.get("/metrics").json()["gauges"])["queue.depth"]

    with client_of(gateway, retries=5) as client, ThreadPoolExecutor(2) as pool:
        running = client.chat.completions.create(
            model="smol", messages=STORY, max_tokens=256, stream=True, extra_body={"cache": False}
        )
        next(running)
        queued = pool.submit(client.chat.completions.create, model="smol", messages=QUESTION, max_tokens=4)
        wait_until(lambda: waiting() == 1, PATIENCE_SECONDS, "one request waits")
        refused = pool.submit(
            lambda: client.chat.completions.with_raw_response.create(
                model="smol", messages=[{"role": "user", "content": "Hello?"}], max_tokens=4
            )
        )
        wait_until(
            lambda: answered(gateway, "/v1/chat/completions", 503) >= 1, PATIENCE_SECONDS, "one request was refused"
        )
        running.close()
        assert queued.result(ANSWER_SECONDS).choices
        answer = refused.result(ANSWER_SECONDS)
    assert answer.retries_taken >= 1
    assert answer.parse().choices[0].message.content is not None
