"""`POST /v1/infer`: whole answers, event streams, and clients that leave."""

from __future__ import annotations

import asyncio
import json

import pytest

from ray.errors import RayError
from ray.gateway import answer_events
from ray.gateway.exchange import ANONYMOUS, Exchange
from ray.gateway.routes import infer
from ray.http import Headers, Request
from ray.runtime import normalise_request
from ray.types import Finish
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import Reply, request_bytes, running, soon

JSON = {"content-type": "application/json"}
QUESTION = {"input": "hello"}
STREAMED = {"input": "hello", "stream": True}


def test_a_whole_answer_is_one_object() -> None:
    async def main() -> None:
        async with running(provider=FakeProvider(["Hel", "lo", STOP])) as ray:
            reply = await ray.post("/v1/infer", QUESTION)
            document = reply.json()
            assert reply.status == 200
            assert (document["output"], document["model"]) == ("Hello", "fake-model")
            assert (document["cached"], document["deduplicated"], document["finishReason"]) == (False, False, "stop")
            assert document["usage"] == {"chars": {"prompt": 5, "completion": 5, "total": 10}}

    asyncio.run(main())


@pytest.mark.parametrize("stream", [False, True])
def test_stream_false_is_a_whole_answer_and_true_an_event_stream(stream: bool) -> None:
    async def main() -> None:
        async with running(provider=FakeProvider(["Hello", STOP])) as ray:
            reply = await ray.post("/v1/infer", {**QUESTION, "stream": stream})
            expected = "text/event-stream; charset=utf-8" if stream else "application/json; charset=utf-8"
            assert reply.headers["content-type"] == expected

    asyncio.run(main())


def test_given_stream_when_asked_then_tokens_and_then_the_whole_unary_object() -> None:
    async def main() -> None:
        provider = FakeProvider(["Grü", "ße\n", "🐍", Finish("length")])
        async with running(provider=provider) as ray:
            reply = await ray.post("/v1/infer", STREAMED)
            assert reply.status == 200
            assert reply.headers["x-accel-buffering"] == "no"
            assert reply.headers["cache-control"] == "no-store"
            *tokens, (last, result) = reply.events()
            assert tokens == [("token", {"text": "Grü"}), ("token", {"text": "ße\n"}), ("token", {"text": "🐍"})]
            assert (last, result["output"], result["finishReason"]) == ("result", "Grüße\n🐍", "length")
            assert result["id"] == reply.headers["x-request-id"]
            unary = (await ray.post("/v1/infer", QUESTION)).json()
            assert unary.keys() == result.keys()

    asyncio.run(main())


def test_given_a_cached_answer_when_streamed_then_it_comes_in_one_token() -> None:
    async def main() -> None:
        async with running(provider=FakeProvider(["Hel", "lo", STOP])) as ray:
            await ray.post("/v1/infer", QUESTION)
            events = (await ray.post("/v1/infer", STREAMED)).events()
            assert [name for name, _ in events] == ["token", "result"]
            assert events[1][1]["cached"] is True

    asyncio.run(main())


def test_given_an_empty_answer_when_streamed_then_only_the_result_comes() -> None:
    async def main() -> None:
        async with running(provider=FakeProvider([STOP])) as ray:
            ((name, result),) = (await ray.post("/v1/infer", STREAMED)).events()
            assert (name, result["output"]) == ("result", "")

    asyncio.run(main())


def test_given_a_slow_model_when_streamed_then_each_token_arrives_before_the_next_is_made() -> None:
    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        provider = FakeProvider(["one", first, "two", second, STOP])
        async with running(provider=provider) as ray, ray.connect() as client:
            await client.send(request_bytes("POST", "/v1/infer", headers=JSON, body=json.dumps(STREAMED).encode()))
            assert (await client.head())[0] == 200
            assert await client.piece() == b'event: token\ndata: {"text":"one"}\n\n'
            first.set()
            assert await client.piece() == b'event: token\ndata: {"text":"two"}\n\n'
            second.set()
            assert (await client.piece()).startswith(b"event: result\n")
            assert await client.piece() == b""

    asyncio.run(main())


@pytest.mark.parametrize(
    ("code", "status"), [("provider_request_failed", 502), ("provider_timeout", 504), ("provider_upstream_error", 502)]
)
def test_given_a_failure_before_the_first_token_when_streamed_then_it_is_an_ordinary_http_error(
    code: str, status: int
) -> None:
    async def main() -> None:
        async with running(provider=FakeProvider([RayError(code, "no")])) as ray:
            reply = await ray.post("/v1/infer", STREAMED)
            assert (reply.status, reply.code) == (status, code)
            assert reply.headers["content-type"] == "application/json; charset=utf-8"

    asyncio.run(main())


def test_given_a_failure_after_a_token_when_streamed_then_the_last_event_is_the_error() -> None:
    async def main() -> None:
        failure = RayError("provider_request_failed", "the backend went away", details={"pathname": "/completion"})
        async with running(provider=FakeProvider(["Hel", failure])) as ray:
            reply = await ray.post("/v1/infer", STREAMED)
            assert reply.status == 200
            assert reply.events() == [
                ("token", {"text": "Hel"}),
                (
                    "error",
                    {
                        "error": {
                            "code": "provider_request_failed",
                            "message": "the backend went away",
                            "details": {"pathname": "/completion"},
                        }
                    },
                ),
            ]
            failed = [line["message"] for line in ray.lines() if "error" in line]
            assert failed == ["inference failed"]

    asyncio.run(main())


def test_given_a_silent_model_when_streamed_then_a_comment_keeps_the_stream_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        monkeypatch.setattr(answer_events, "KEEP_ALIVE_SECONDS", 0.01)
        gate = asyncio.Event()
        async with running(provider=FakeProvider(["Hel", gate, "lo", STOP])) as ray, ray.connect() as client:
            headers = {"content-type": "application/json"}
            await client.send(request_bytes("POST", "/v1/infer", headers=headers, body=json.dumps(STREAMED).encode()))
            status, _ = await client.head()
            body = b""
            while b": keep-alive\n\n" not in body:
                body += await client.piece()
            gate.set()  # more comments may come until then
            while piece := await client.piece():
                body += piece
            events = Reply(status, {}, body, []).events()
            assert [name for name, _ in events] == ["token", "token", "result"]

    asyncio.run(main())


@pytest.mark.parametrize("document", [QUESTION, STREAMED])
@pytest.mark.parametrize("first_token", [True, False])
def test_given_a_client_that_leaves_when_nobody_else_reads_then_the_work_is_cancelled(
    document: dict[str, object], first_token: bool
) -> None:
    async def main() -> None:
        never = asyncio.Event()
        provider = FakeProvider(["Hel", never, STOP] if first_token else [never, STOP])
        async with running(provider=provider, log_level="debug") as ray:
            async with ray.connect() as client:
                posting = asyncio.ensure_future(client.post("/v1/infer", document))
                await soon(lambda: provider.active == 1)
                posting.cancel()
                await asyncio.wait([posting])
            await soon(lambda: provider.active == 0)
            assert provider.cancelled == 1
            assert not ray.lines("request failed")
            assert not ray.lines("inference failed")

    asyncio.run(main())


@pytest.mark.parametrize("leaves", [True, False])
def test_the_access_line_of_a_stream_tells_whether_its_client_left_in_the_middle(leaves: bool) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["Hel", gate, STOP])
        async with running(provider=provider, log_level="debug") as ray:
            async with ray.connect() as client:
                await client.send(request_bytes("POST", "/v1/infer", headers=JSON, body=json.dumps(STREAMED).encode()))
                await client.head()
                await client.piece()
                if not leaves:
                    gate.set()
                    while await client.piece():
                        pass
            await soon(lambda: bool(ray.lines("request completed")))
            assert [line["cutShort"] for line in ray.lines("request completed")] == [leaves]

    asyncio.run(main())


def test_given_two_readers_of_one_generation_when_one_leaves_then_the_other_gets_its_answer() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["Hel", gate, "lo", STOP])
        async with running(provider=provider) as ray, ray.connect() as staying:
            async with ray.connect() as leaving:
                first = asyncio.ensure_future(leaving.post("/v1/infer", STREAMED))
                await soon(lambda: provider.active == 1)
                second = asyncio.ensure_future(staying.post("/v1/infer", QUESTION))
                await soon(lambda: ray.gateway.services.connections().active_requests == 2)
                first.cancel()
                await asyncio.wait([first])
            await soon(lambda: ray.gateway.services.connections().sockets == 1)
            gate.set()
            reply = await second
            assert (reply.status, reply.json()["output"], reply.json()["deduplicated"]) == (200, "Hello", True)
            assert len(provider.streamed) == 1

    asyncio.run(main())


def test_given_a_stream_that_nobody_began_to_read_when_closed_then_the_reader_leaves() -> None:
    async def main() -> None:
        never = asyncio.Event()
        provider = FakeProvider(["Hel", never, STOP])
        async with running(provider=provider) as ray:
            services = ray.gateway.services
            request = normalise_request(QUESTION, services.config)
            reader = await services.runtime.generate(request, ANONYMOUS, services.runtime.new_deadline(), "req_1")
            exchange = Exchange(Request("POST", "/v1/infer", "/v1/infer", "", "1.1", Headers(), "127.0.0.1", 0.0))
            response = await answer_events.start_events(reader, exchange, infer.InferEvents(exchange))
            assert provider.active == 1
            assert isinstance(response.body, answer_events.AnswerEvents)
            await response.body.aclose()
            await soon(lambda: provider.active == 0)
            assert provider.cancelled == 1

    asyncio.run(main())


def test_given_a_model_that_never_answers_when_the_deadline_passes_then_504() -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        settings: dict[str, object] = {"scheduler": {"requestTimeoutMs": 30, "batchWindowMs": 0}}
        async with running(settings, provider=provider) as ray:
            reply = await ray.post("/v1/infer", QUESTION)
            assert (reply.status, reply.code, reply.headers["retry-after"]) == (504, "request_timeout", "5")
            (line,) = ray.lines("inference rejected")
            assert line["requestId"] == reply.headers["x-request-id"]
            assert not ray.lines("request rejected"), "one line per failure"

    asyncio.run(main())


def test_given_a_full_queue_when_one_more_asks_then_503_and_the_gateway_still_answers() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider([gate, "ok", STOP])
        settings: dict[str, object] = {
            "scheduler": {"concurrency": 1, "maxQueue": 2, "dedupeInflight": False, "affinityLookahead": 1},
            "gracefulDegradation": {"queueDepthThreshold": 1},
        }
        async with running(settings, provider=provider) as ray:
            asking = [asyncio.ensure_future(ray.post("/v1/infer", QUESTION))]
            await soon(lambda: provider.active == 1)
            asking += [asyncio.ensure_future(ray.post("/v1/infer", QUESTION)) for _ in range(2)]
            await soon(lambda: ray.gateway.services.runtime.queue_snapshot().queue_depth == 2)
            refused = await ray.post("/v1/infer", QUESTION)
            assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "queue_full", "1")
            assert (await ray.ask("GET", "/livez")).status == 200
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["reasons"]) == (200, ["queue_pressure"])
            gate.set()
            assert [(await reply).status for reply in asking] == [200, 200, 200]

    asyncio.run(main())
