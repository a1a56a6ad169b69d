"""HTTP to a backend: limits, the API key, and the mapping of every failure to a code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ray.clock import Deadline
from ray.config import LlamaCppAdapter
from ray.errors import RayError
from ray.providers.upstream import Upstream, gather_seconds, is_loading, upstream_status
from tests.fakes.llama_server import (
    Answer,
    FakeLlamaServer,
    body_answer,
    context_exceeded_answer,
    cut_answer,
    error_answer,
    hanging_answer,
    json_answer,
    loading_answer,
    raw_answer,
    redirect_answer,
)
from tests.providers.setting import LLAMA, config_for, context_for, run


@asynccontextmanager
async def upstream(
    adapter: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None, path: str = ""
) -> AsyncIterator[tuple[FakeLlamaServer, Upstream]]:
    async with FakeLlamaServer() as fake:
        settings = config_for(LLAMA, fake.base_url + path, adapter).model.adapter
        assert isinstance(settings, LlamaCppAdapter)
        it = Upstream(settings, environ or {}, threads=2, name="test-upstream")
        try:
            yield fake, it
        finally:
            await it.close()


async def post(it: Upstream, body: object = None, milliseconds: float = 15_000) -> object:
    return await it.call("POST", "/x", {} if body is None else body, deadline=Deadline.after_ms(milliseconds))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"a": 1}), {"a": 1}),
        (json_answer({"a": 1}, content_type="application/vnd.openai+json; charset=utf-8"), {"a": 1}),
        (body_answer(b'{"a": 1}', content_type="text/plain; note=application/json"), '{"a": 1}'),
        (body_answer(b"", 204, ""), None),
        (json_answer(None), None),
    ],
)
def test_given_a_success_when_called_then_its_value_is_returned(answer: Answer, expected: object) -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.script("/x", answer)
            assert await post(it) == expected

    run(main())


@pytest.mark.parametrize(
    ("answer", "code", "status"),
    [
        (error_answer(400), "provider_upstream_error", 502),
        (error_answer(401), "provider_upstream_error", 502),
        (error_answer(404), "provider_upstream_error", 502),
        (error_answer(429), "provider_upstream_error", 502),
        (error_answer(500), "provider_upstream_error", 502),
        (error_answer(503, "busy"), "provider_upstream_error", 502),
        (loading_answer(), "provider_upstream_error", 503),
        (redirect_answer("http://127.0.0.1:9/"), "provider_upstream_error", 502),
        (context_exceeded_answer(900, 512), "request_context_window_exceeded", 413),
        (body_answer(b"{"), "provider_invalid_response", 502),
        (body_answer(b'{"a": NaN}'), "provider_invalid_response", 502),
        (body_answer(b'"' + b"x" * 1_048_576 + b'"'), "provider_response_too_large", 502),
        (cut_answer(), "provider_request_failed", 502),
        (cut_answer(reset=True), "provider_request_failed", 502),
        (raw_answer(b"\x00\x01\x02"), "provider_request_failed", 502),
        (raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"), "provider_request_failed", 502),
    ],
)
def test_given_a_failure_when_called_then_it_has_its_code_and_status(answer: Answer, code: str, status: int) -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.script("/x", answer)
            with pytest.raises(RayError) as caught:
                await post(it)
            assert (caught.value.code, caught.value.status) == (code, status)
            assert details_of(caught.value)["pathname"] == "/x"
            assert len(fake.requests) == 1

    run(main())


def details_of(error: RayError) -> dict[str, object]:
    assert isinstance(error.details, dict)
    return error.details


async def failure_of(it: Upstream, body: object = None, milliseconds: float = 15_000) -> RayError:
    with pytest.raises(RayError) as caught:
        await post(it, body, milliseconds)
    return caught.value


def test_given_a_loading_backend_when_called_then_a_retry_is_suggested() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.loading = True
            error = await failure_of(it)
            assert (error.status, error.retry_after) == (503, 2)
            assert is_loading(error)
            assert upstream_status(error) == 503

    run(main())


def test_given_a_prompt_that_does_not_fit_when_called_then_the_counts_are_told() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.script("/x", context_exceeded_answer(900, 512))
            details = details_of(await failure_of(it))
            assert (details["promptTokens"], details["contextWindow"]) == (900, 512)

    run(main())


def test_given_a_long_error_page_when_called_then_its_beginning_is_kept() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.script("/x", body_answer(b"e" * 16_384, 500, "text/html"))
            details = details_of(await failure_of(it))
            assert details["body"] == "e" * 4_096
            assert (details["truncated"], details["bytesRead"], details["limitBytes"]) == (True, 4_096, 4_096)
            assert (details["contentType"], details["upstreamStatus"]) == ("text/html", 500)

    run(main())


def test_given_an_error_with_stack_traces_when_called_then_they_are_gone_and_odd_keys_stay() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            document = {"error": {"message": "m", "Stack": "s", "inner": [{"STACK": "t", "__proto__": {"a": 1}}]}}
            fake.script("/x", json_answer(document, 500))
            body = details_of(await failure_of(it))["body"]
            assert isinstance(body, str)
            assert json.loads(body) == {"error": {"message": "m", "inner": [{"__proto__": {"a": 1}}]}}

    run(main())


def test_given_a_declared_size_over_the_limit_when_called_then_nothing_is_read() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
            fake.script("/x", raw_answer(head, then_cut=False))
            details = details_of(await failure_of(it))
            assert (details["bytesRead"], details["declaredContentLength"]) == (0, 1_048_577)

    run(main())


def test_given_a_request_body_over_the_limit_when_called_then_nothing_is_sent() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            error = await failure_of(it, {"prompt": "x" * 1_048_577})
            assert (error.code, error.status) == ("provider_request_too_large", 413)
            assert details_of(error)["limitBytes"] == 1_048_576
            assert fake.connections == 0

    run(main())


def test_given_a_closed_port_when_called_then_it_is_a_failed_request() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            await fake.stop()
            error = await failure_of(it)
            assert error.code == "provider_request_failed"
            assert "refused" in str(details_of(error)["error"])
            await fake.start()

    run(main())


def test_given_a_silent_backend_when_its_timeout_passes_then_it_is_a_provider_timeout() -> None:
    async def main() -> None:
        async with upstream({"timeoutMs": 30, "slotSnapshotTimeoutMs": 30}) as (fake, it):
            fake.script("/x", hanging_answer())
            error = await failure_of(it)
            assert (error.code, error.status) == ("provider_timeout", 504)
            assert details_of(error) == {"pathname": "/x", "timeoutMs": 30}

    run(main())


def test_given_a_silent_backend_when_the_request_deadline_passes_first_then_it_is_a_request_timeout() -> None:
    async def main() -> None:
        async with upstream() as (fake, it):
            fake.script("/x", hanging_answer())
            assert (await failure_of(it, milliseconds=30)).code == "request_timeout"

    run(main())


def test_given_a_key_when_called_then_it_replaces_a_configured_authorization_in_any_case() -> None:
    async def main() -> None:
        adapter = {"apiKeyEnv": "BACKEND_KEY", "headers": {"Authorization": "X", "X-Team": "t"}}
        async with upstream(adapter, {"BACKEND_KEY": "sk-1"}) as (fake, it):
            fake.script("/x", json_answer({}))
            await post(it)
            assert fake.requests[0].headers["authorization"] == "Bearer sk-1"
            assert fake.requests[0].headers["x-team"] == "t"
            assert fake.requests[0].headers["content-type"] == "application/json"

    run(main())


def test_given_a_key_that_changes_when_called_again_then_the_new_one_is_sent() -> None:
    async def main() -> None:
        environ = {"BACKEND_KEY": "one"}
        async with upstream({"apiKeyEnv": "BACKEND_KEY"}, environ) as (fake, it):
            fake.script("/x", json_answer({}), json_answer({}), json_answer({}))
            await post(it)
            environ["BACKEND_KEY"] = "two"
            await post(it)
            del environ["BACKEND_KEY"]
            await post(it)
            sent = [request.headers.get("authorization") for request in fake.requests]
            assert sent == ["Bearer one", "Bearer two", None]

    run(main())


@pytest.mark.parametrize("key", ["", "k" * 1_025, "two words", "tab\tkey", "line\nkey", "schlüssel"])
def test_given_an_unusable_key_when_called_then_the_variable_is_named_and_nothing_is_sent(key: str) -> None:
    async def main() -> None:
        async with upstream({"apiKeyEnv": "BACKEND_KEY"}, {"BACKEND_KEY": key}) as (fake, it):
            error = await failure_of(it)
            assert error.code == "provider_request_failed"
            assert "BACKEND_KEY" in error.message
            assert not key or key not in str(error.envelope())
            assert fake.connections == 0

    run(main())


def test_given_a_backend_that_echoes_the_key_when_it_refuses_then_the_key_is_not_passed_on() -> None:
    async def main() -> None:
        async with upstream({"apiKeyEnv": "BACKEND_KEY"}, {"BACKEND_KEY": "sk-secret"}) as (fake, it):
            fake.script("/x", error_answer(401, "bad key sk-secret"), body_answer(b"key: sk-secret", 401, "text/plain"))
            for _ in range(2):
                error = await failure_of(it)
                assert "sk-secret" not in str(error.envelope())
                assert "[redacted]" in str(details_of(error)["body"])

    run(main())


def test_given_a_base_url_with_a_path_when_it_fails_then_the_pathname_is_the_whole_one() -> None:
    async def main() -> None:
        async with upstream(path="/v1") as (fake, it):
            assert it.base_path == "/v1"
            assert details_of(await failure_of(it))["pathname"] == "/v1/x"
            assert fake.requests[0].path == "/v1/x"

    run(main())


def test_when_nobody_watches_an_answer_then_its_tokens_may_be_gathered_longer() -> None:
    watched = context_for()
    unwatched = replace(watched, is_watched=lambda: False)
    assert 0 < gather_seconds(watched) <= 0.05 < gather_seconds(unwatched) <= 0.5
