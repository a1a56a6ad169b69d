"""A gateway inside a program: asked without a socket, served with one, started and ended in every way."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.config import Config
from ray.embed import Gateway
from ray.errors import RayError
from tests.fakes.provider import STOP, FakeProvider, Step, until
from tests.integration.backend import Answer, ask

TINY: dict[str, object] = {
    "profile": "tiny",
    "model": {"adapter": {"kind": "mock", "latencyMs": 1}},
    # A busy machine must not change what a test sees.
    "gracefulDegradation": {"enabled": False},
}


def endless() -> list[Step]:
    """An answer that never ends by itself."""
    return ["Hello", asyncio.Event(), STOP]


def embedded(
    document: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    provider: FakeProvider | None = None,
    log: io.StringIO | None = None,
    drain_ms: int = 10_000,
) -> Gateway:
    """A gateway of which the test's own environment decides nothing."""
    return Gateway(
        {**TINY, **(document or {})}, environ=environ or {}, provider=provider, log=log or io.StringIO(),
        drain_ms=drain_ms,
    )  # fmt: skip


def with_jobs(directory: Path) -> dict[str, object]:
    return {"asyncQueue": {"enabled": True, "storageDir": str(directory / "jobs")}}


async def over_http(
    gateway: Gateway, method: str, path: str, document: object = None, key: str | None = None
) -> Answer:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return await asyncio.to_thread(ask, gateway.port, method, path, document, headers)


def test_given_keywords_or_a_body_when_asked_then_the_answer_is_the_one_of_the_route() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            by_keywords = await gateway.infer(input="Say hello.", max_tokens=20, cache=False)
            by_body = await gateway.infer({"input": "Say hello.", "maxTokens": 20, "cache": False})
            await gateway.listen(port=0)
            asked = {"input": "Say hello.", "maxTokens": 20, "cache": False}
            over_the_route = (await over_http(gateway, "POST", "/v1/infer", asked)).json()
        assert by_keywords["output"] == by_body["output"] == over_the_route["output"]
        assert set(by_keywords) == set(over_the_route)
        assert by_keywords["id"].startswith("req_")
        json.dumps(by_keywords)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"input": "   "}, "input"),
        ({}, "input"),
        ({"input": "x", "temperature": "warm"}, "temperature"),
        ({"input": "x", "seed": None}, "seed"),
        ({"input": "x", "templateId": "none-such"}, "templateId"),
        ({"input": "x", "stream": True}, "stream"),
        ({"input": "x", "stream": "yes"}, "stream"),
        ({"input": b"bytes"}, "body"),
        ({"input": "x", "temperature": float("nan")}, "body"),
        ({"input": "x", "metadata": {"loop": object()}}, "body"),
    ],
)
def test_given_a_faulty_body_when_asked_then_it_is_refused_as_over_http_and_counted(
    body: dict[str, object], named: str
) -> None:
    async def main() -> None:
        async with embedded() as gateway:
            with pytest.raises(RayError) as refusal:
                await gateway.infer(body)
            assert refusal.value.code == "invalid_request"
            assert isinstance(refusal.value.details, dict)
            assert refusal.value.details["field"] == named
            await gateway.listen(port=0)
            metrics = await asyncio.to_thread(ask, gateway.port, "GET", "/metrics", None, {"accept": "text/plain"})
            assert b'ray_requests_rejected_total{code="invalid_request"} 1' in metrics.body

    asyncio.run(main())


def test_given_auth_and_a_rate_limit_when_asked_in_process_then_neither_applies_and_over_the_socket_both_do() -> None:
    limited = {"enabled": True, "maxRequests": 1, "windowMs": 60_000}

    async def main() -> None:
        document = {"auth": {"enabled": True}, "rateLimit": limited}
        async with embedded(document, environ={"RAY_API_KEYS": "a-key-of-the-test"}) as gateway:
            for _ in range(3):
                await gateway.infer(input="Say hello.")
            await gateway.listen(port=0)
            question = {"input": "Say hello."}
            assert (await over_http(gateway, "POST", "/v1/infer", question)).status == 401
            statuses = [
                (await over_http(gateway, "POST", "/v1/infer", question, "a-key-of-the-test")).status for _ in range(2)
            ]
            assert statuses == [200, 429]

    asyncio.run(main())


def test_given_a_stream_when_iterated_then_its_texts_are_the_output_of_its_result() -> None:
    async def main() -> None:
        async with embedded(provider=FakeProvider(["One", " two", STOP])) as gateway:
            stream = gateway.stream(input="Count.", cache=False)
            texts = [text async for text in stream]
            assert texts == ["One", " two"]
            assert (await stream.result())["output"] == "One two"

    asyncio.run(main())


@pytest.mark.parametrize("entered", [True, False])
def test_given_a_stream_when_left_early_then_its_work_is_cancelled(entered: bool) -> None:
    async def main() -> None:
        provider = FakeProvider(endless())
        async with embedded(provider=provider) as gateway:
            if entered:
                async with gateway.stream(input="Go on.") as stream:
                    async for text in stream:
                        assert text == "Hello"
                        break
                    assert provider.active == 1
            else:
                async for _ in gateway.stream(input="Go on."):
                    break
            await until(lambda: provider.cancelled == 1 and provider.active == 0)

    asyncio.run(main())


def test_given_a_stream_that_is_only_asked_for_its_result_when_that_is_cancelled_then_the_work_ends() -> None:
    async def main() -> None:
        provider = FakeProvider(endless())
        async with embedded(provider=provider) as gateway:
            asking = asyncio.create_task(gateway.stream(input="Go on.").result())
            await until(lambda: provider.active == 1)
            asking.cancel()
            await until(lambda: provider.cancelled == 1 and provider.active == 0)

    asyncio.run(main())


def test_given_a_stream_that_is_iterated_when_waiting_for_its_result_is_cancelled_then_it_goes_on() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["One", gate, " two", STOP])
        async with embedded(provider=provider) as gateway:
            stream = gateway.stream(input="Count.")
            texts = aiter(stream)
            assert await anext(texts) == "One"
            waiting = asyncio.create_task(stream.result())
            await asyncio.sleep(0)
            waiting.cancel()
            gate.set()
            assert [text async for text in texts] == [" two"]
            assert (await stream.result())["output"] == "One two"

    asyncio.run(main())


def test_given_a_result_that_was_waited_for_first_then_the_stream_can_still_be_iterated() -> None:
    async def main() -> None:
        async with embedded(provider=FakeProvider(["One", " two", STOP])) as gateway:
            stream = gateway.stream(input="Count.")
            assert (await stream.result())["output"] == "One two"
            assert [text async for text in stream] == ["One", " two"]

    asyncio.run(main())


def test_given_a_refusal_when_streamed_then_the_iteration_raises_it() -> None:
    async def main() -> None:
        async with embedded(provider=FakeProvider([RayError("provider_upstream_error", "no"), STOP])) as gateway:
            with pytest.raises(RayError) as failure:
                _ = [text async for text in gateway.stream(input="Go on.")]
            assert failure.value.code == "provider_upstream_error"
            with pytest.raises(RayError, match="input is required"):
                await gateway.stream(input=" ").result()

    asyncio.run(main())


def test_given_an_infer_when_its_task_is_cancelled_then_the_backend_is_free_and_the_gateway_answers_on() -> None:
    async def main() -> None:
        provider = FakeProvider(endless(), ["fine", STOP])
        async with embedded(provider=provider) as gateway:
            asking = asyncio.create_task(gateway.infer(input="Go on."))
            await until(lambda: provider.active == 1)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: provider.cancelled == 1 and provider.active == 0)
            assert (await gateway.infer(input="And now?"))["output"] == "fine"

    asyncio.run(main())


def test_given_a_timeout_of_the_program_when_asked_then_it_holds() -> None:
    async def main() -> None:
        provider = FakeProvider(endless())
        async with embedded(provider=provider) as gateway:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await gateway.infer(input="Go on.")
            await until(lambda: provider.active == 0)

    asyncio.run(main())


def test_given_an_answer_under_way_when_the_block_is_left_then_it_finishes_and_nothing_new_is_taken() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["Hello", gate, " again", STOP])
        gateway = embedded(provider=provider)
        await gateway.start()
        asking = asyncio.create_task(gateway.infer(input="Wait."))
        await until(lambda: provider.active == 1)
        ending = asyncio.create_task(gateway.stop())
        await asyncio.sleep(0)
        with pytest.raises(RayError) as refusal:
            await gateway.infer(input="Too late.")
        assert refusal.value.code == "gateway_draining"
        assert not ending.done()
        gate.set()
        await ending
        assert (await asking)["output"] == "Hello again"
        assert provider.closed

    asyncio.run(main())


def test_given_an_answer_that_takes_too_long_when_the_block_is_left_then_it_is_aborted() -> None:
    async def main() -> None:
        provider = FakeProvider(endless())
        gateway = embedded(provider=provider, drain_ms=20)
        await gateway.start()
        asking = asyncio.create_task(gateway.infer(input="Wait."))
        await until(lambda: provider.active == 1)
        await gateway.stop()
        with pytest.raises(RayError) as failure:
            await asking
        assert failure.value.code == "request_aborted"
        assert provider.active == 0

    asyncio.run(main())


def test_given_a_complete_stream_that_nobody_reads_when_the_block_is_left_then_it_does_not_hold_up_the_end() -> None:
    async def main() -> None:
        async with embedded(drain_ms=3_600_000) as gateway:
            texts = aiter(gateway.stream(input="Say hello."))
            await anext(texts)
        assert [text async for text in texts]  # what was there can still be read

    asyncio.run(main())


def test_given_a_gateway_outside_its_block_when_used_then_the_error_says_how_to_use_it() -> None:
    async def main() -> None:
        gateway = embedded()
        with pytest.raises(RuntimeError, match="async with"):
            await gateway.infer(input="x")
        async with gateway:
            with pytest.raises(RuntimeError, match="started already"):
                await gateway.start()
            with pytest.raises(RuntimeError, match="listen"):
                _ = gateway.url
        with pytest.raises(RuntimeError, match="async with"):
            await gateway.infer(input="x")
        await gateway.stop()

    asyncio.run(main())


def test_given_a_gateway_that_has_ended_when_entered_again_then_it_answers_also_on_another_loop() -> None:
    gateway = embedded()

    async def main() -> str:
        async with gateway:
            return (await gateway.infer(input="Say hello."))["output"]

    assert asyncio.run(main()) == asyncio.run(main())


def test_given_two_gateways_in_one_program_then_they_know_nothing_of_each_other() -> None:
    async def main() -> None:
        one, two = FakeProvider(["one", STOP]), FakeProvider(["two", STOP])
        async with embedded(provider=one) as first, embedded(provider=two) as second:
            await asyncio.gather(first.listen(port=0), second.listen(port=0))
            assert first.port != second.port
            answers = await asyncio.gather(first.infer(input="x"), second.infer(input="x"))
        assert [answer["output"] for answer in answers] == ["one", "two"]

    asyncio.run(main())


def test_given_another_event_loop_when_used_from_it_then_the_error_says_what_to_do() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            for use in (gateway.infer(input="x"), gateway.stop()):
                with pytest.raises(RuntimeError, match="another event loop"):
                    await asyncio.to_thread(asyncio.run, use)

    asyncio.run(main())


def test_an_embedded_gateway_leaves_signals_and_the_event_loop_as_they_were() -> None:
    async def main() -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with embedded() as gateway:
            serving = asyncio.create_task(gateway.serve(port=0))
            await until(lambda: _listens(gateway))
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
            assert asyncio.get_running_loop().get_exception_handler() is None
            serving.cancel()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

    asyncio.run(main())


def _listens(gateway: Gateway) -> bool:
    try:
        return gateway.port > 0
    except RuntimeError:
        return False


def test_given_a_serving_gateway_when_serve_is_cancelled_then_the_port_closes_and_the_gateway_works_on() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            for _ in range(2):  # and it can be served again
                serving = asyncio.create_task(gateway.serve(port=0))
                await until(lambda: _listens(gateway))
                port = gateway.port
                assert gateway.url == f"http://127.0.0.1:{port}"
                assert (await over_http(gateway, "GET", "/livez")).status == 200
                serving.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await serving
                with pytest.raises(ConnectionError):
                    await asyncio.open_connection("127.0.0.1", port)
                assert (await gateway.infer(input="x"))["output"]

    asyncio.run(main())


def test_given_an_http_answer_that_holds_up_the_end_of_serve_when_cancelled_again_then_it_is_cut_off() -> None:
    async def main() -> None:
        provider = FakeProvider(endless(), ["fine", STOP])
        async with embedded(provider=provider, drain_ms=3_600_000) as gateway:
            serving = asyncio.create_task(gateway.serve(port=0))
            await until(lambda: _listens(gateway))
            asking = asyncio.create_task(over_http(gateway, "POST", "/v1/infer", {"input": "Wait."}))
            async with asyncio.timeout(60):
                while provider.active == 0:  # noqa: ASYNC110 - it comes through a socket
                    await asyncio.sleep(0.005)
            serving.cancel()
            await until(lambda: not _listens(gateway))
            assert not serving.done()
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                await asking
            assert provider.active == 0
            assert (await gateway.infer("And now?"))["output"] == "fine"

    asyncio.run(main())


def test_given_a_serving_gateway_when_stopped_elsewhere_then_serve_returns() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            serving = asyncio.create_task(gateway.serve(port=0))
            await until(lambda: _listens(gateway))
            await gateway.stop()
            await serving

    asyncio.run(main())


def test_given_an_http_answer_under_way_when_the_block_is_left_then_it_finishes() -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["Hello", gate, STOP])
        gateway = embedded(provider=provider)
        await gateway.start()
        await gateway.listen(port=0)
        asking = asyncio.create_task(over_http(gateway, "POST", "/v1/infer", {"input": "Wait."}))
        async with asyncio.timeout(60):
            while provider.active == 0:  # noqa: ASYNC110 - it comes through a socket
                await asyncio.sleep(0.005)
        ending = asyncio.create_task(gateway.stop())
        await asyncio.sleep(0)
        gate.set()
        await ending
        assert (await asking).json()["output"] == "Hello"

    asyncio.run(main())


def test_given_a_taken_port_when_told_to_listen_then_listen_failed_and_the_gateway_works_on() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            async with embedded() as gateway:
                with pytest.raises(RayError) as refusal:
                    await gateway.serve(port=taken.getsockname()[1])
                assert refusal.value.code == "listen_failed"
                assert (await gateway.infer(input="x"))["output"]
                await gateway.listen(port=0)
                with pytest.raises(RuntimeError, match="listens already"):
                    await gateway.listen(port=0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_given_a_listening_address_then_the_url_is_one_that_can_be_connected_to(host: str, shown: str) -> None:
    from ray.embed.gateway import _reachable

    assert _reachable(host) == shown


@pytest.mark.parametrize(
    ("document", "environ"),
    [
        ({"server": {"port": 0}}, {}),
        ({"profile": "huge"}, {}),
        ({"auth": {"enabled": True}}, {}),
        ({}, {"RAY_PORT": "many"}),
    ],
)
def test_given_a_config_that_cannot_be_used_when_started_then_it_is_a_ray_error(
    document: dict[str, object], environ: dict[str, str]
) -> None:
    async def main() -> None:
        async with embedded(document, environ=environ):
            raise AssertionError("it started")

    with pytest.raises(RayError) as refusal:
        asyncio.run(main())
    assert refusal.value.code == "config_validation_error"


def test_given_a_job_when_submitted_in_process_then_it_ends_and_belongs_to_the_program_alone(tmp_path: Path) -> None:
    async def main() -> str:
        async with embedded(with_jobs(tmp_path)) as gateway:
            accepted = await gateway.submit_job(input="Work.", max_tokens=8, idempotency_key="once")
            identifier = accepted["id"]
            assert set(accepted) == {"id", "status", "createdAt", "location"}
            assert (await gateway.submit_job(input="Work.", max_tokens=8, idempotency_key="once"))["id"] == identifier
            record = await gateway.job(identifier, wait_s=20)
            assert record["status"] == "succeeded"
            await gateway.listen(port=0)
            assert (await over_http(gateway, "GET", f"/v1/jobs/{identifier}")).status == 404
            return identifier

    async def later(identifier: str) -> None:
        async with embedded(with_jobs(tmp_path)) as gateway:
            assert (await gateway.job(identifier))["status"] == "succeeded"

    asyncio.run(later(asyncio.run(main())))


def test_given_a_running_job_when_cancelled_then_it_ends_as_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider(endless())
        async with embedded(with_jobs(tmp_path), provider=provider) as gateway:
            accepted = await gateway.submit_job({"input": "Work."})
            async with asyncio.timeout(60):
                while provider.active == 0:  # noqa: ASYNC110 - it comes through a disk
                    await asyncio.sleep(0.005)
            await gateway.cancel_job(accepted["id"])
            assert (await gateway.job(accepted["id"], wait_s=20))["status"] == "cancelled"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"input": " "}, "invalid_request"), ({"input": "x", "resultTtlMs": "long"}, "invalid_request")],
)
def test_given_a_faulty_job_when_submitted_then_it_is_refused_and_counted_as_over_http(
    fields: dict[str, object], code: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with embedded(with_jobs(tmp_path)) as gateway:
            with pytest.raises(RayError) as refusal:
                await gateway.submit_job(fields)
            assert refusal.value.code == code
            with pytest.raises(RayError, match="no such job"):
                await gateway.job("job_0123456789abcdef")
            await gateway.listen(port=0)
            metrics = (
                await asyncio.to_thread(ask, gateway.port, "GET", "/metrics", None, {"accept": "text/plain"})
            ).body
            assert f'ray_requests_rejected_total{{code="{code}"}} 1'.encode() in metrics
            assert b'ray_requests_rejected_total{code="job_not_found"} 1' in metrics

    asyncio.run(main())


def test_given_no_job_queue_when_a_job_is_submitted_then_the_refusal_names_the_setting() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            with pytest.raises(RayError, match=r"asyncQueue\.enabled") as refusal:
                await gateway.submit_job(input="x")
            assert refusal.value.code == "async_queue_disabled"

    asyncio.run(main())


def test_given_a_job_store_in_use_when_started_then_it_is_refused_and_nothing_is_left_open(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider()
        async with embedded(with_jobs(tmp_path)) as first:
            second = embedded(with_jobs(tmp_path), provider=provider)
            with pytest.raises(RayError) as refusal:
                await second.start()
            assert refusal.value.code == "async_queue_locked"
            assert provider.closed
            assert (await first.infer(input="x"))["output"]
        await second.start()  # the first one is gone, and the second is whole
        await second.stop()

    asyncio.run(main())


def test_given_a_start_that_is_cancelled_then_the_job_store_is_free(tmp_path: Path) -> None:
    async def main() -> None:
        starting = asyncio.create_task(embedded(with_jobs(tmp_path)).start())
        await asyncio.sleep(0)  # it has begun to open the store
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        async with embedded(with_jobs(tmp_path)) as gateway:
            assert await gateway.ready()

    asyncio.run(main())


def test_given_a_program_that_ends_with_the_gateway_in_a_task_then_the_job_is_taken_up_by_the_next_one(
    tmp_path: Path,
) -> None:
    """`asyncio.run` cancels everything at once then: the task that holds the gateway, and the gateway's own."""
    provider = FakeProvider(endless())

    async def main() -> str:
        identifiers: asyncio.Queue[str] = asyncio.Queue()

        async def hold() -> None:
            async with embedded(with_jobs(tmp_path), provider=provider) as gateway:
                accepted = await gateway.submit_job(input="Work.")
                identifiers.put_nowait(accepted["id"])
                await asyncio.Event().wait()

        holding = asyncio.create_task(hold())
        identifier = await identifiers.get()
        async with asyncio.timeout(60):
            while provider.active == 0:  # noqa: ASYNC110 - it comes through a disk
                await asyncio.sleep(0.005)
        assert not holding.done()
        return identifier

    async def next_one(identifier: str) -> None:
        async with embedded(with_jobs(tmp_path)) as gateway:
            assert (await gateway.job(identifier, wait_s=20))["status"] == "succeeded"

    asyncio.run(next_one(asyncio.run(main())))


def test_given_a_loop_that_was_closed_under_the_gateway_when_stopped_on_another_then_the_job_store_is_free(
    tmp_path: Path,
) -> None:
    gateway = embedded(with_jobs(tmp_path))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it would complain of the tasks that are left in it
    loop.run_until_complete(gateway.start())
    loop.run_until_complete(gateway.infer(input="x"))
    loop.close()

    async def main() -> None:
        with pytest.raises(RuntimeError):
            await gateway.infer(input="x")
        await gateway.stop()
        async with embedded(with_jobs(tmp_path)) as other:
            assert (await other.infer(input="x"))["output"]

    asyncio.run(main())


def test_given_a_log_stream_then_it_has_one_json_object_per_line(capfd: pytest.CaptureFixture[str]) -> None:
    log = io.StringIO()

    async def main() -> None:
        provider = FakeProvider(warm_steps=[[RayError("provider_upstream_error", "not there")]])
        document = {"model": {"warmOnBoot": True, "adapter": {"kind": "mock", "latencyMs": 1}}}
        async with embedded(document, provider=provider, log=log):
            await until(lambda: "warmup_failed" in log.getvalue())

    asyncio.run(main())
    assert "warmup_failed" in [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert capfd.readouterr() == ("", "")


def test_given_no_log_stream_then_lines_go_to_pythons_logging_at_their_own_level(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        provider = FakeProvider(warm_steps=[[RayError("provider_upstream_error", "not there")]])
        document = {**TINY, "model": {"warmOnBoot": True, "adapter": {"kind": "mock", "latencyMs": 1}}}
        async with Gateway(document, environ={}, provider=provider):
            await until(lambda: any(record.levelno == logging.ERROR for record in caplog.records))

    asyncio.run(main())
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.name == "ray"
    assert json.loads(record.getMessage())["event"] == "warmup_failed"
    assert capfd.readouterr().out == ""


def test_given_a_backend_when_asked_for_health_then_it_is_what_the_routes_say() -> None:
    async def main() -> None:
        async with embedded() as gateway:
            assert await gateway.ready() is True
            health = await gateway.health()
            await gateway.listen(port=0)
            over_the_route = (await over_http(gateway, "GET", "/health")).json()
        assert health["status"] == "ok"
        assert set(health) == set(over_the_route)

    asyncio.run(main())


def test_given_a_checked_config_when_embedded_then_it_is_used_as_it_is() -> None:
    config = embedded().config
    assert isinstance(config, Config)
    assert Gateway(config, environ={"RAY_PORT": "4711"}).config is config
