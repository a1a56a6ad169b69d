"""Schemas, probabilities of tokens and raw prompts on llama-server's own completion route."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray.errors import RayError
from ray.types import InferenceRequest, Message, TokenLogprob
from tests.fakes.llama_server import error_answer, json_answer
from tests.providers.setting import ask, backend, context_for, request_for, run

COMPLETION = "/completion"
SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}'


def with_schema(schema: str = SCHEMA) -> InferenceRequest:
    return replace(request_for("Where?"), response_format="json_schema", json_schema=schema)


def test_given_a_schema_when_sent_then_the_grammar_is_made_of_it() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            await ask(provider, with_schema())
            assert fake.received(COMPLETION)[0].document["json_schema"] == {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            }

    run(main())


def test_given_a_schema_that_the_backend_cannot_use_when_asked_then_the_client_learns_the_reason() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            fake.script(
                COMPLETION, error_answer(400, "JSON schema conversion failed:\nat #/a: unrecognized type strnig")
            )
            with pytest.raises(RayError) as caught:
                await ask(provider, with_schema())
            assert (caught.value.code, caught.value.status) == ("invalid_request", 400)
            assert "at #/a: unrecognized type strnig" in caught.value.message
            await ask(provider)
            # Nothing is wrong with the backend.
            assert len(fake.received("/props")) == 1

    run(main())


@pytest.mark.parametrize(("top", "asked", "kept"), [(0, 1, 0), (1, 1, 1), (3, 3, 3)])
def test_given_probabilities_when_asked_for_then_every_token_has_its_own(top: int, asked: int, kept: int) -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            answer = await ask(provider, replace(request_for(), top_logprobs=top))
            tokens = [token for chunk in answer.chunks for token in chunk.logprobs]
            assert [token.token for token in tokens] == fake.pieces
            assert {token.logprob for token in tokens} == {-0.25}
            assert {len(token.top) for token in tokens} == {kept}
            body = fake.received(COMPLETION)[0].document
            assert body["n_probs"] == asked
            assert "completion_probabilities" in list(body["response_fields"])  # type: ignore[call-overload]

    run(main())


def test_given_no_wish_for_probabilities_when_the_backend_gives_some_then_they_are_left_out() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            probabilities = [{"token": "hi", "logprob": -1.0, "top_logprobs": []}]
            whole = {"content": "hi", "stop": True, "completion_probabilities": probabilities}
            fake.script(COMPLETION, json_answer(whole), json_answer(whole))
            answer = await ask(provider)
            assert (answer.text, [chunk.logprobs for chunk in answer.chunks]) == ("hi", [(), ()])
            answer = await ask(provider, replace(request_for(), top_logprobs=0))
            assert answer.chunks[0].logprobs == (TokenLogprob("hi", -1.0),)

    run(main())


def test_given_a_raw_prompt_when_answered_then_the_model_reads_it_as_it_was_sent() -> None:
    async def main() -> None:
        async with backend() as (fake, provider):
            prompt = "  <|im_start|>user\nhi </s>\n "
            request = InferenceRequest((Message("user", prompt),), max_tokens=8, is_raw=True)
            prepared = await provider.prepare(request, context_for())
            assert prepared.prompt == prompt
            assert prepared.prompt_tokens == len(prompt.split())
            answer = await ask(provider, request)
            assert fake.received(COMPLETION)[0].document["prompt"] == prompt
            assert answer.diagnostics.prompt_format == "raw"
            rendered = [request.document["messages"] for request in fake.received("/apply-template")]
            assert prompt not in str(rendered)

    run(main())


def test_given_a_raw_prompt_and_a_message_of_the_same_text_when_prepared_then_they_stay_apart() -> None:
    async def main() -> None:
        async with backend() as (_, provider):
            plain = request_for("hi")
            prompts = [
                (await provider.prepare(each, context_for())).prompt for each in (plain, replace(plain, is_raw=True))
            ]
            assert prompts == ["<user>hi\n<assistant>", "hi"]

    run(main())
