"""What both clients do alike, against the real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.client import RayClientError, RayRefused, RayRequestError, RayTimeout, Retries, delta_text
from tests.client.both import BOTH, Ask
from tests.client.serving import KEY, GatewayThread, gateway_in_a_thread
from tests.integration.backend import free_port

both = pytest.mark.parametrize("ask", BOTH, ids=lambda ask: ask.__name__)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayThread]:
    store = tmp_path_factory.mktemp("jobs") / "store"
    document = {"auth": {"enabled": True}, "asyncQueue": {"enabled": True, "storageDir": str(store)}}
    with gateway_in_a_thread(document, environ={"RAY_API_KEYS": KEY}) as running:
        yield running


def document(found: object) -> dict[str, object]:
    assert isinstance(found, dict)
    return found


@both
@pytest.mark.parametrize("request_", ["Name a colour.", {"input": "Name a colour.", "maxTokens": 20}])
def test_given_a_question_when_asked_then_the_answer_is_the_document_of_the_route(
    ask: Ask, gateway: GatewayThread, request_: object
) -> None:
    answer = document(ask(gateway.url, "infer", request_, api_key=KEY))

    assert str(answer["output"]).endswith("Name a colour.")
    assert answer["finishReason"] == "stop"


@both
def test_given_keywords_when_asked_then_they_go_over_the_request_and_a_slip_of_the_pen_is_seen(
    ask: Ask, gateway: GatewayThread
) -> None:
    asked = {"input": "Name a colour.", "maxTokens": 5, "seed": 1}
    answer = document(ask(gateway.url, "infer", asked, api_key=KEY, max_tokens=77, seed=None))

    diagnostics = document(answer["diagnostics"])
    assert document(diagnostics["degradation"])["requestedMaxTokens"] == 77
    for method in ("infer", "stream", "create_job"):
        with pytest.raises(TypeError, match="max_token'"):
            ask(gateway.url, method, "Name a colour.", api_key=KEY, max_token=5)


@both
def test_given_a_question_when_streamed_then_the_pieces_are_the_output_of_the_result(
    ask: Ask, gateway: GatewayThread
) -> None:
    streamed = ask(gateway.url, "stream", "Name three colours and one number.", api_key=KEY)

    assert isinstance(streamed, tuple)
    pieces, result = streamed
    assert "".join(pieces) == result["output"]
    assert result["output"].endswith("Name three colours and one number.")


@both
@pytest.mark.parametrize(
    "request_",
    [
        "Name a colour.",
        [{"role": "user", "content": "Name a colour."}],
        {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 50},
    ],
)
def test_given_a_chat_when_asked_whole_or_in_chunks_then_the_text_is_the_same(
    ask: Ask, gateway: GatewayThread, request_: object
) -> None:
    whole = document(ask(gateway.url, "chat", request_, api_key=KEY))
    streamed = ask(gateway.url, "stream_chat", request_, api_key=KEY)

    assert isinstance(streamed, tuple)
    assert isinstance(whole["choices"], list)
    assert "".join(delta_text(chunk) for chunk in streamed[0]) == whole["choices"][0]["message"]["content"]


@both
def test_given_the_routes_that_only_show_when_asked_then_each_gives_its_document(
    ask: Ask, gateway: GatewayThread
) -> None:
    assert document(ask(gateway.url, "livez"))["status"] == "ok"
    assert "providerStatus" in document(ask(gateway.url, "readyz", api_key=KEY))
    assert document(ask(gateway.url, "health", api_key=KEY))["modelId"] == "tiny-dev"
    assert "counters" in document(ask(gateway.url, "metrics", api_key=KEY))
    assert document(ask(gateway.url, "config", api_key=KEY))["profile"] == "tiny"
    assert document(ask(gateway.url, "templates", api_key=KEY))["templates"]
    models = ask(gateway.url, "models", api_key=KEY)
    assert isinstance(models, list)
    assert [model["id"] for model in models] == ["tiny-dev"]
    assert document(ask(gateway.url, "model", "tiny-dev", api_key=KEY))["id"] == "tiny-dev"
    vectors = document(ask(gateway.url, "embeddings", ["one", "two"], api_key=KEY))["data"]
    assert isinstance(vectors, list)
    assert len(vectors) == 2


@both
@pytest.mark.parametrize("method", ["infer", "stream", "chat", "stream_chat", "create_job"])
def test_given_no_key_when_asking_then_the_refusal_says_so_and_names_the_request(
    ask: Ask, gateway: GatewayThread, method: str
) -> None:
    with pytest.raises(RayRefused) as refusal:
        ask(gateway.url, method, "Name a colour.")

    error = refusal.value
    assert (error.status, error.code, error.retry_after) == (401, "unauthorized", None)
    assert error.request_id
    assert error.body


@both
def test_given_a_model_that_is_not_there_when_asked_for_then_the_code_says_so(ask: Ask, gateway: GatewayThread) -> None:
    with pytest.raises(RayRefused) as refusal:
        ask(gateway.url, "model", "some/other model", api_key=KEY)

    assert (refusal.value.status, refusal.value.code) == (404, "model_not_found")


@both
def test_given_a_job_when_waited_for_then_it_has_succeeded_is_listed_and_can_be_deleted(
    ask: Ask, gateway: GatewayThread
) -> None:
    made = document(ask(gateway.url, "create_job", "Name a colour.", api_key=KEY))
    job = document(ask(gateway.url, "wait_job", made["id"], api_key=KEY))
    listed = ask(gateway.url, "jobs", api_key=KEY, status="succeeded", page_size=1)
    gone = ask(gateway.url, "delete_job", made["id"], api_key=KEY)

    assert made["status"] == "queued"
    assert job["status"] == "succeeded"
    assert str(document(job["result"])["output"]).endswith("Name a colour.")
    assert isinstance(listed, list)
    assert made["id"] in [entry["id"] for entry in listed]
    assert gone is None
    with pytest.raises(RayRefused) as refusal:
        ask(gateway.url, "job", made["id"], api_key=KEY)
    assert refusal.value.code == "job_not_found"


@both
def test_given_more_jobs_than_a_page_holds_when_listed_then_all_come_newest_first(
    ask: Ask, gateway: GatewayThread
) -> None:
    made = [document(ask(gateway.url, "create_job", f"Colour {n}.", api_key=KEY))["id"] for n in range(3)]

    listed = ask(gateway.url, "jobs", api_key=KEY, page_size=2)

    assert isinstance(listed, list)
    ids = [entry["id"] for entry in listed]
    assert set(made) <= set(ids)
    assert len(ids) == len(set(ids))


@both
def test_given_an_idempotency_key_when_a_job_is_submitted_twice_then_there_is_one(
    ask: Ask, gateway: GatewayThread
) -> None:
    key = f"order-{ask.__name__}"  # type: ignore[attr-defined]
    first = document(ask(gateway.url, "create_job", "Name a colour.", api_key=KEY, idempotency_key=key))
    second = document(ask(gateway.url, "create_job", "Name a colour.", api_key=KEY, idempotency_key=key))

    assert first["id"] == second["id"]


@both
def test_given_a_job_that_has_ended_when_cancelled_then_it_comes_back_as_it_is(
    ask: Ask, gateway: GatewayThread
) -> None:
    made = document(ask(gateway.url, "create_job", "Name a colour.", api_key=KEY))
    ask(gateway.url, "wait_job", made["id"], api_key=KEY)

    assert document(ask(gateway.url, "cancel_job", made["id"], api_key=KEY))["status"] == "succeeded"


@both
@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("infer", {"input": float("nan")}),
        ("infer", {"input": {1, 2}}),
        ("infer", {"input": "\ud800"}),
        ("infer", 5),
        ("infer", {"input": "x", "stream": True}),
        ("chat", {"messages": [], "stream": True}),
        ("chat", 5),
        ("chat", [{"role": "user", "content": object()}]),
        ("embeddings", ["\ud800"]),
        ("infer", {"input": "x" * 2000}),
        ("job", ""),
        ("job", "job/../../livez"),
        ("job", "j" * 129),
        ("cancel_job", "job_1?x"),
        ("delete_job", 7),
        ("model", ""),
    ],
    ids=lambda value: str(value)[:20].encode("ascii", "replace").decode(),
)
def test_given_what_cannot_be_sent_when_asked_then_it_is_refused_without_a_connection(
    ask: Ask, method: str, argument: object
) -> None:
    # Nobody listens there: a connection would end as RayUnreachable.
    with pytest.raises(RayRequestError):
        ask(f"http://127.0.0.1:{free_port()}", method, argument, request_body_limit_bytes=1000)


@both
def test_given_a_gateway_that_is_busy_when_retries_are_wanted_then_they_wait_as_long_as_it_says_and_succeed(
    ask: Ask,
) -> None:
    document = {"rateLimit": {"enabled": True, "windowMs": 1000, "maxRequests": 1}}
    with gateway_in_a_thread(document) as gateway:

        def ask_until_refused() -> None:
            for number in range(100):  # on a slow machine a window may close between two of them
                ask(gateway.url, "infer", f"Question {number}.")

        with pytest.raises(RayRefused) as refusal:
            ask_until_refused()
        answer = ask(gateway.url, "infer", "Three.", retries=Retries(attempts=5))

    assert (refusal.value.status, refusal.value.code) == (429, "rate_limited")
    assert refusal.value.retry_after is not None
    assert str(answer["output"]).endswith("Three.")  # type: ignore[index]


@both
def test_given_a_model_that_is_slow_when_the_clients_time_is_over_then_the_error_names_it(ask: Ask) -> None:
    slow = {"model": {"adapter": {"kind": "mock", "latencyMs": 5000}, "warmOnBoot": False}}
    with gateway_in_a_thread(slow) as gateway:
        for method in ("infer", "stream"):
            with pytest.raises(RayTimeout, match="within 100 ms"):
                ask(gateway.url, method, "Name a colour.", timeout_ms=100)


@both
def test_given_a_closed_port_when_asked_then_the_error_says_that_nothing_was_sent(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(RayClientError, match="cannot reach the gateway") as failure:
        ask(f"http://127.0.0.1:{free_port()}", "infer", "Name a colour.")

    assert type(failure.value).__name__ == "RayUnreachable"
    assert failure.value.status is None
