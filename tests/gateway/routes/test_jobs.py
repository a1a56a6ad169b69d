"""`/v1/jobs` over real sockets: submitting, looking, waiting, listing, cancelling, deleting, and the guards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.jobs import WebhookSecrets
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import Reply, Running, put_together, request_bytes, running, soon

QUESTION = {"input": "hello"}
KEYS = {"RAY_API_KEYS": "alpha,beta"}
ALPHA, BETA = {"authorization": "Bearer alpha"}, {"authorization": "Bearer beta"}
WARMED = {"model": {"adapter": {"kind": "mock"}, "warmOnBoot": True}}
EVERY_ROUTE = [
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("HEAD", "/v1/jobs"),
    ("GET", "/v1/jobs/job_1"),
    ("HEAD", "/v1/jobs/x"),
    ("DELETE", "/v1/jobs/job_1"),
    ("POST", "/v1/jobs/job_1/cancel"),
]


@asynccontextmanager
async def queueing(
    directory: Path,
    provider: FakeProvider | None = None,
    document: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[Running]:
    """A gateway with durable jobs in `directory`; `settings`: of `asyncQueue`."""
    asked = {**store_in(directory, **settings), **(document or {})}
    async with running(asked, provider=provider, environ=environ) as ray:
        yield ray


def store_in(directory: Path, **settings: object) -> dict[str, object]:
    """A config with durable jobs."""
    queue = {"enabled": True, "storageDir": str(directory / "store"), "minFreeStorageMiB": 1, "minFreeInodes": 1}
    return {"asyncQueue": {**queue, **settings}}


async def submitted(ray: Running, document: object = QUESTION, headers: Mapping[str, str] | None = None) -> str:
    """The id of a new job."""
    reply = await ray.post("/v1/jobs", document, headers)
    assert reply.status == 202, reply.body
    return str(reply.json()["id"])


async def ended(ray: Running, identifier: str, headers: Mapping[str, str] | None = None) -> Reply:
    """What the job became."""
    return await ray.ask("GET", f"/v1/jobs/{identifier}?wait=20", headers=headers)


def on_disk(directory: Path, identifier: str) -> dict[str, object]:
    document = json.loads((directory / "store" / "jobs" / f"{identifier}.json").read_text())
    assert isinstance(document, dict)
    return document


# Without a queue


@pytest.mark.parametrize(("method", "path"), EVERY_ROUTE)
def test_given_no_queue_when_asked_then_it_is_disabled(method: str, path: str) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask(method, path)
            assert (reply.status, "retry-after" in reply.headers) == (503, False)
            assert method == "HEAD" or reply.code == "async_queue_disabled"
            assert ray.lines() == []

    asyncio.run(main())


def test_given_no_queue_then_submitting_takes_budget_and_everything_else_does_not() -> None:
    async def main() -> None:
        async with running({"rateLimit": {"enabled": True, "maxRequests": 1}}) as ray:
            for method, path in EVERY_ROUTE[1:]:
                other = await ray.ask(method, path)
                assert (other.status, "x-ratelimit-limit" in other.headers) == (503, False)
            first, second = await ray.ask("POST", "/v1/jobs"), await ray.ask("POST", "/v1/jobs")
            assert (first.status, first.headers["x-ratelimit-remaining"]) == (503, "0")
            assert second.status == 429

    asyncio.run(main())


def test_given_no_queue_and_a_body_that_never_comes_when_submitted_then_the_refusal_comes_at_once_and_closes() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(request_bytes("POST", "/v1/jobs", headers={"content-length": "100"}))
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (503, "close")

    asyncio.run(main())


# Submitting, and the answer


def test_given_a_job_when_submitted_then_202_says_queued_and_where_and_it_is_on_disk(tmp_path: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        async with queueing(tmp_path, FakeProvider([gate, STOP])) as ray:
            reply = await ray.post("/v1/jobs", QUESTION)
            document = reply.json()
            assert reply.status == 202
            assert set(document) == {"id", "status", "createdAt", "location"}
            assert (document["status"], document["location"]) == ("queued", f"/v1/jobs/{document['id']}")
            assert reply.headers["location"] == document["location"]
            assert "idempotent-replayed" not in reply.headers
            assert on_disk(tmp_path, str(document["id"]))["createdAt"] == document["createdAt"]

    asyncio.run(main())


def test_given_a_job_when_waited_for_then_its_whole_answer_comes_and_it_can_be_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        output = "ü" * 70_000
        roomy = {"model": {"adapter": {"kind": "mock"}, "contextWindow": 4096, "maxOutputTokens": 2048}}
        async with queueing(tmp_path, FakeProvider([output, STOP]), roomy) as ray:
            identifier = await submitted(ray)
            reply = await ended(ray, identifier)
            document = reply.json()
            assert (reply.status, document["status"], document["attempts"]) == (200, "succeeded", 1)
            result, request = document["result"], document["request"]
            assert isinstance(result, dict)
            assert isinstance(request, dict)
            assert (result["output"], request["input"]) == (output, "hello")
            assert not {"owner", "idempotency", "v"} & set(document)
            assert (await ray.ask("GET", f"/v1/jobs/{identifier}")).json() == document
            gone = await ray.ask("DELETE", f"/v1/jobs/{identifier}")
            assert (gone.status, gone.body) == (204, b"")
            assert (await ray.ask("GET", f"/v1/jobs/{identifier}")).code == "job_not_found"
            assert not list((tmp_path / "store" / "jobs").iterdir())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "value"),
        ([], "value"),
        ({}, "input"),
        ({"input": "hi", "callbackUrl": None}, "callbackUrl"),
        ({"input": "hi", "callbackUrl": 123}, "callbackUrl"),
        ({"input": "hi", "callbackUrl": "   "}, "callbackUrl"),
        ({"input": "hi", "callbackUrl": "http://127.0.0.1:8080/hook"}, "callbackUrl"),
        ({"input": "hi", "callbackUrl": "https://user:pw@h.example/"}, "callbackUrl"),
        ({"input": "hi", "resultTtlMs": 0}, "resultTtlMs"),
        ({"input": "hi", "resultTtlMs": 86_400_001}, "resultTtlMs"),
        ({"input": "hi", "stream": True}, "stream"),
    ],
)
def test_given_a_body_that_makes_no_job_when_submitted_then_400_and_nothing_is_kept(
    tmp_path: Path, document: object, field: str
) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider([STOP])) as ray:
            reply = await ray.post("/v1/jobs", document)
            assert (reply.status, reply.code) == (400, "invalid_request")
            assert field == "value" or reply.details["field"] == field
            assert (await ray.ask("GET", "/v1/jobs")).json() == {"jobs": []}
            assert not list((tmp_path / "store" / "jobs").iterdir())

    asyncio.run(main())


def test_given_a_short_time_to_live_when_the_job_has_ended_then_its_record_says_until_when(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider(["hi", STOP])) as ray:
            kept = (await ended(ray, await submitted(ray, {"input": "hello", "resultTtlMs": 3_600_000}))).json()
            assert str(kept["expiresAt"])[:10] >= str(kept["completedAt"])[:10]
            assert str(kept["expiresAt"]) > str(kept["completedAt"])

    asyncio.run(main())


# Idempotency keys


def test_given_a_key_when_submitted_twice_then_the_second_answer_is_the_first_even_in_a_full_store(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider(["hi", STOP]), maxJobs=1) as ray:
            first = await ray.post("/v1/jobs", QUESTION, {"idempotency-key": "order-42"})
            await ended(ray, str(first.json()["id"]))
            again = await ray.post("/v1/jobs", QUESTION, {"idempotency-key": '"order-42"'})
            assert (again.status, again.body) == (202, first.body)
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["location"] == first.headers["location"]
            other = await ray.post("/v1/jobs", {"input": "something else"}, {"idempotency-key": "order-42"})
            assert (other.status, other.code) == (422, "idempotency_key_reused")
            full = await ray.post("/v1/jobs", QUESTION, {"idempotency-key": "order-43"})
            assert (full.status, full.code, full.headers["retry-after"]) == (503, "async_queue_full", "1")
            assert (await ray.gauges())["async_queue.jobs_replayed"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("key", ["", "a b", '"a"b"', "k" * 256])
def test_given_a_key_that_is_none_when_submitted_then_400(tmp_path: Path, key: str) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider([STOP])) as ray:
            reply = await ray.post("/v1/jobs", QUESTION, {"idempotency-key": key})
            assert (reply.status, reply.code, reply.details["field"]) == (400, "invalid_request", "Idempotency-Key")

    asyncio.run(main())


# Routes, guards, owners


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/v1/jobs/job_1", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/job_1/cancel", "POST"),
        ("HEAD", "/v1/jobs/job_1/cancel", "POST"),
    ],
)
def test_given_a_job_route_with_a_wrong_method_then_405_names_the_right_ones(
    tmp_path: Path, method: str, path: str, allowed: str
) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            reply = await ray.ask(method, path)
            assert (reply.status, reply.headers["allow"]) == (405, allowed)

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/v1/jobs/", "/v1/jobs//cancel", "/v1/jobs/a/b", "/v1/jobs/a/cancel/", "/v1/jobs/a/"])
def test_given_a_path_that_is_no_job_then_404(tmp_path: Path, path: str) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            assert (await ray.ask("GET", path)).code == "not_found"

    asyncio.run(main())


@pytest.mark.parametrize("identifier", ["x" * 129, "a%2fb", "job.json", ".."])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel")])
def test_given_an_id_that_is_none_then_400_with_the_limit(
    tmp_path: Path, identifier: str, method: str, rest: str
) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            reply = await ray.ask(method, f"/v1/jobs/{identifier}{rest}")
            assert (reply.code, reply.details) == ("invalid_request", {"field": "id", "maxChars": 128})

    asyncio.run(main())


@pytest.mark.parametrize("query", ["status=done", "limit=0", "limit=101", "limit=x", "cursor=%%", "cursor=abc"])
def test_given_a_list_query_that_makes_no_sense_then_400_names_the_parameter(tmp_path: Path, query: str) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            reply = await ray.ask("GET", f"/v1/jobs?{query}")
            assert (reply.status, reply.code) == (400, "invalid_request")
            assert reply.details["field"] == query.partition("=")[0]

    asyncio.run(main())


def test_given_a_budget_when_jobs_are_polled_then_every_look_costs_and_unknown_jobs_say_so(tmp_path: Path) -> None:
    async def main() -> None:
        limited = {"rateLimit": {"enabled": True, "maxRequests": 4}}
        async with queueing(tmp_path, FakeProvider(["hi", STOP]), limited) as ray:
            left = []
            left.append((await ray.post("/v1/jobs", QUESTION)).headers["x-ratelimit-remaining"])
            left.append((await ray.ask("GET", "/v1/jobs/job_missing")).headers["x-ratelimit-remaining"])
            left.append((await ray.ask("GET", "/v1/jobs")).headers["x-ratelimit-remaining"])
            left.append((await ray.ask("POST", "/v1/jobs/job_missing/cancel")).headers["x-ratelimit-remaining"])
            assert left == ["3", "2", "1", "0"]
            assert (await ray.ask("DELETE", "/v1/jobs/job_missing")).code == "rate_limited"

    asyncio.run(main())


def test_given_two_keys_then_a_job_exists_for_its_owner_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider(["hi", STOP]), {"auth": {"enabled": True}}, KEYS) as ray:
            assert (await ray.post("/v1/jobs", QUESTION)).code == "unauthorized"
            identifier = await submitted(ray, QUESTION, ALPHA)
            assert (await ended(ray, identifier, ALPHA)).json()["status"] == "succeeded"
            for method, rest in [("GET", ""), ("GET", "?wait=1"), ("DELETE", ""), ("POST", "/cancel")]:
                reply = await ray.ask(method, f"/v1/jobs/{identifier}{rest}", headers=BETA)
                assert (reply.status, reply.code) == (404, "job_not_found")
            assert (await ray.ask("GET", "/v1/jobs", headers=BETA)).json() == {"jobs": []}
            mine = (await ray.ask("GET", "/v1/jobs", headers=ALPHA)).json()["jobs"]
            assert isinstance(mine, list)
            assert [job["id"] for job in mine] == [identifier]

    asyncio.run(main())


def test_given_several_jobs_when_listed_then_pages_are_newest_first_and_without_texts(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider(["an answer", STOP])) as ray:
            made = [await submitted(ray, {"input": f"secret {number}"}) for number in range(3)]
            for identifier in made:
                await ended(ray, identifier)
            first = await ray.ask("GET", "/v1/jobs?limit=2&status=succeeded")
            second = await ray.ask("GET", f"/v1/jobs?limit=2&cursor={first.json()['nextCursor']}")
            assert "nextCursor" not in second.json()
            pages = [first.json()["jobs"], second.json()["jobs"]]
            listed = [job for page in pages if isinstance(page, list) for job in page]
            assert sorted(job["id"] for job in listed) == sorted(made)
            assert [job["createdAt"] for job in listed] == sorted((job["createdAt"] for job in listed), reverse=True)
            assert set(listed[0]) == {"id", "status", "createdAt", "updatedAt", "attempts"}
            assert b"secret" not in first.body + second.body
            assert b"answer" not in first.body + second.body
            assert (await ray.ask("HEAD", "/v1/jobs")).status == 200

    asyncio.run(main())


# Cancelling and deleting


def test_given_a_running_job_when_cancelled_then_202_and_its_work_stops_and_a_second_time_says_200(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with queueing(tmp_path, provider) as ray:
            identifier = await submitted(ray)
            await soon(lambda: provider.active == 1)
            busy = await ray.ask("DELETE", f"/v1/jobs/{identifier}")
            assert (busy.status, busy.code) == (409, "job_not_settled")
            asked = await ray.ask("POST", f"/v1/jobs/{identifier}/cancel")
            assert (asked.status, asked.json()["id"]) == (202, identifier)
            assert (await ended(ray, identifier)).json()["status"] == "cancelled"
            await soon(lambda: provider.active == 0)
            again = await ray.ask("POST", f"/v1/jobs/{identifier}/cancel")
            assert (again.status, again.json()["status"]) == (200, "cancelled")
            assert on_disk(tmp_path, identifier)["status"] == "cancelled"

    asyncio.run(main())


def test_given_a_queued_job_when_cancelled_then_200_and_it_never_runs(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with queueing(tmp_path, provider, dispatchConcurrency=1) as ray:
            await submitted(ray)
            await soon(lambda: provider.active == 1)
            waiting = await submitted(ray, {"input": "the second"})
            reply = await ray.ask("POST", f"/v1/jobs/{waiting}/cancel")
            assert (reply.status, reply.json()["status"]) == (200, "cancelled")
            assert len(provider.streamed) == 1

    asyncio.run(main())


# Waiting, and the gateway's own life


def test_given_a_long_poll_when_the_gateway_stops_then_it_is_answered_as_it_stands(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with queueing(tmp_path, provider) as ray, ray.connect() as client:
            identifier = await submitted(ray)
            await soon(lambda: provider.active == 1)
            waiting = asyncio.ensure_future(client.ask("GET", f"/v1/jobs/{identifier}?wait=20"))
            await soon(lambda: ray.gateway.services.connections().active_requests == 1)
            async with asyncio.timeout(60):
                await ray.gateway.stop(2_500)
                reply = await waiting
            assert (reply.status, reply.json()["status"]) == (200, "running")
            assert not ray.lines("gateway shutdown timeout reached; closing active connections")

    asyncio.run(main())


def test_given_a_job_that_does_not_end_when_stopped_then_it_is_queued_without_having_lost_the_attempt(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with queueing(tmp_path, provider) as ray:
            identifier = await submitted(ray)
            await soon(lambda: provider.active == 1)
            assert on_disk(tmp_path, identifier)["attempts"] == 1
            await ray.gateway.stop(20)
            kept = on_disk(tmp_path, identifier)
            assert (kept["status"], kept["attempts"], provider.active) == ("queued", 0, 0)
        async with queueing(tmp_path, FakeProvider(["done", STOP])) as ray:
            document = (await ended(ray, identifier)).json()
            assert (document["status"], document["attempts"]) == ("succeeded", 1)

    asyncio.run(main())


def test_given_a_running_job_when_stopped_then_it_may_finish_within_the_time(tmp_path: Path) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        provider = FakeProvider(["one", gate, STOP])
        async with queueing(tmp_path, provider) as ray:
            identifier = await submitted(ray)
            waiting = await submitted(ray, {"input": "the second"})
            await soon(lambda: provider.active == 1)
            stopping = asyncio.ensure_future(ray.gateway.stop(30_000))
            await soon(lambda: ray.gateway.draining)
            gate.set()
            await stopping
            assert on_disk(tmp_path, identifier)["status"] == "succeeded"
            assert (on_disk(tmp_path, waiting)["status"], len(provider.streamed)) == ("queued", 1)

    asyncio.run(main())


def test_given_a_gateway_that_is_ended_at_once_then_its_jobs_are_queued_again(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider([asyncio.Event(), STOP])
        async with queueing(tmp_path, provider) as ray:
            identifier = await submitted(ray)
            await soon(lambda: provider.active == 1)
            await ray.gateway.abandon()
            await ray.gateway.abandon()
            assert on_disk(tmp_path, identifier)["attempts"] == 0

    asyncio.run(main())


def test_given_a_warm_up_under_way_when_jobs_are_waiting_then_none_runs_before_it_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        warm = asyncio.Event()
        provider = FakeProvider(["hi", STOP], warm_steps=[[warm]])
        async with queueing(tmp_path, provider, WARMED) as ray:
            identifier = await submitted(ray)
            await soon(lambda: provider.warmed == 1)
            assert (await ray.ask("GET", f"/v1/jobs/{identifier}")).json()["status"] == "queued"
            assert not provider.streamed
            warm.set()
            assert (await ended(ray, identifier)).json()["status"] == "succeeded"

    asyncio.run(main())


def test_given_a_failed_first_warm_up_then_jobs_run_all_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider(["hi", STOP], warm_steps=[[RayError("provider_request_failed", "not there")]])
        async with queueing(tmp_path, provider, WARMED) as ray:
            await soon(lambda: provider.warmed == 1)
            assert (await ended(ray, await submitted(ray))).json()["status"] == "succeeded"

    asyncio.run(main())


def test_given_a_directory_in_use_when_another_gateway_starts_then_it_refuses_by_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path) as ray:
            with pytest.raises(RayError) as error:
                async with queueing(tmp_path):
                    pass
            assert error.value.code == "async_queue_locked"
            assert str(tmp_path / "store") in error.value.message
            assert (await ray.ask("GET", "/v1/jobs")).status == 200

    asyncio.run(main())


def test_given_a_taken_port_when_started_then_the_store_is_let_go_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with running() as other:
            gateway = put_together(store_in(tmp_path))
            with pytest.raises(RayError) as error:
                await gateway.start(port=other.gateway.port)
            assert error.value.code == "listen_failed"
        async with queueing(tmp_path) as ray:
            assert (await ray.ask("GET", "/v1/jobs")).status == 200

    asyncio.run(main())


# What is seen


def test_given_jobs_then_health_readiness_and_metrics_say_the_same(tmp_path: Path) -> None:
    async def main() -> None:
        async with queueing(tmp_path, FakeProvider(["hi", STOP]), maxJobs=10) as ray:
            for number in range(8):
                await ended(ray, await submitted(ray, {"input": f"question {number}"}))
            relaxed = (await ray.ask("GET", "/readyz")).json()
            assert relaxed["reasons"] == []
            await ended(ray, await submitted(ray))
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["reasons"]) == (200, ["async_queue_pressure"])
            health = (await ray.ask("GET", "/health")).json()
            block = health["asyncQueue"]
            assert isinstance(block, dict)
            assert (health["status"], block["degraded"], block["jobsPressure"]) == ("degraded", True, True)
            assert (block["enabled"], block["totalJobs"], block["maxJobs"], block["jobsRatio"]) == (True, 9, 10, 0.9)
            gauges = await ray.gauges()
            for key, name in [
                ("totalJobs", "total_jobs"),
                ("succeeded", "succeeded"),
                ("jobsPressure", "jobs_pressure"),
                ("callbackConcurrency", "callback_concurrency"),
                ("pendingAdmissions", "pending_admissions"),
                ("storageAdmissionLow", "storage_admission_low"),
                ("maxCallbackAttempts", "max_callback_attempts"),
            ]:
                assert gauges[f"async_queue.{name}"] == block[key], key
            assert gauges["async_queue.jobs_submitted"] == gauges["async_queue.jobs_succeeded"] == 9
            text = (await ray.ask("GET", "/metrics?format=prometheus")).body.decode()
            assert 'ray_jobs{state="succeeded"} 9' in text
            assert "ray_job_duration_seconds_count 9" in text

    asyncio.run(main())


def test_given_no_queue_then_neither_health_nor_metrics_have_its_figures() -> None:
    async def main() -> None:
        async with running() as ray:
            assert "asyncQueue" not in (await ray.ask("GET", "/health")).json()
            assert not [name for name in await ray.gauges() if name.startswith("async_queue.")]

    asyncio.run(main())


def test_given_a_job_then_its_texts_and_its_callback_path_are_in_no_log_line(tmp_path: Path) -> None:
    async def main() -> None:
        provider = FakeProvider(["an answer nobody logs", STOP])
        async with queueing(tmp_path, provider, callbackAllowedHosts=["127.0.0.1"], callbackAllowedPorts=[9]) as ray:
            document = {"input": "a private question", "callbackUrl": "http://127.0.0.1:9/hidden?token=t0ken"}
            await ended(ray, await submitted(ray, document))
            log = ray.log.getvalue()
            assert "job_accepted" in log
            for text in ("private question", "nobody logs", "hidden", "t0ken"):
                assert text not in log

    asyncio.run(main())


SECRET = "whsec_" + "QUJD" * 10


@asynccontextmanager
async def receiver(status: int = 204) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """Something that takes callbacks: its URL, and what has come so far (headers, body)."""
    came: list[tuple[dict[str, str], bytes]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        came.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 %d Whatever\r\ncontent-length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", came


@pytest.mark.parametrize("payload", ["full", "thin"])
def test_given_a_callback_when_the_job_has_ended_then_the_receiver_is_told_once_and_signed(
    tmp_path: Path, payload: str
) -> None:
    async def main() -> None:
        hosts, signed = ["127.0.0.1"], {"RAY_WEBHOOK_SECRETS": SECRET}
        async with (
            receiver() as (url, came),
            queueing(
                tmp_path,
                FakeProvider(["hi", STOP]),
                environ=signed,
                callbackAllowedHosts=hosts,
                callbackPayload=payload,
            ) as ray,
        ):
            identifier = await submitted(ray, {"input": "hello", "callbackUrl": url})
            await ended(ray, identifier)
            await soon(lambda: b'"delivered"' in (tmp_path / "store/jobs" / f"{identifier}.json").read_bytes())
            ((headers, body),) = came
            sender = WebhookSecrets.from_environment(signed)
            assert sender is not None
            sent_at = int(headers["webhook-timestamp"])
            assert headers["webhook-id"] == f"msg_{identifier}"
            assert headers["webhook-signature"] == sender.signature(headers["webhook-id"], sent_at, body)
            told = json.loads(body)
            assert (told["type"], told["data"]["job"]["id"]) == ("job.succeeded", identifier)
            assert ("result" in told["data"]["job"]) == (payload == "full")
            document = (await ray.ask("GET", f"/v1/jobs/{identifier}")).json()
            callback = document["callback"]
            assert isinstance(callback, dict)
            assert (callback["status"], callback["attempts"], callback["url"]) == ("delivered", 1, url)
            gauges = await ray.gauges()
            assert (gauges["async_queue.callback_attempts"], gauges["async_queue.callback_delivered"]) == (1, 1)
            assert len(ray.lines("callback delivered")) == 1

    asyncio.run(main())


def test_given_a_receiver_that_is_gone_for_good_when_told_then_it_is_not_told_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            receiver(410) as (url, came),
            queueing(tmp_path, FakeProvider(["hi", STOP]), callbackAllowedHosts=["127.0.0.1"]) as ray,
        ):
            identifier = await submitted(ray, {"input": "hello", "callbackUrl": url})
            await soon(lambda: b'"http_410"' in (tmp_path / "store/jobs" / f"{identifier}.json").read_bytes())
            callback = (await ended(ray, identifier)).json()["callback"]
            assert isinstance(callback, dict)
            assert (callback["status"], callback["attempts"]) == ("failed", 1)
            assert len(came) == 1
            assert "webhook-signature" not in came[0][0]
            assert (await ray.ask("DELETE", f"/v1/jobs/{identifier}")).status == 204

    asyncio.run(main())
