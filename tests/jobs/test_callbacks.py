"""Delivery from schedule to outcome, with real receivers: turns, signatures, retries, full disks, the end."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ray.clock import iso_now
from ray.errors import RayError
from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.callbacks import INTERRUPTED, Callbacks
from ray.jobs.record import JobRecord
from ray.jobs.sender import DeliveryOutcome
from ray.jobs.signing import WebhookSecrets
from ray.telemetry import Logger, Metrics
from tests.jobs.callback_stage import NO_CONTENT, Names, Receiver, answering, settings
from tests.jobs.ended_job import ended_job
from tests.jobs.standard_webhooks import NotGenuine, verify

HERE = bytes((127, 0, 0, 1))
HOSTS: dict[str, list[tuple[bytes, ...]]] = {f"{name}.example": [(HERE,)] for name in ("a", "b", "c", "d", "e")}
OLD, NEW = ("whsec_" + base64.b64encode(bytes([fill]) * 32).decode() for fill in (1, 2))


class Owner:
    """Keeps records in memory, and may refuse to write like a full disk."""

    def __init__(self) -> None:
        self.records: dict[str, JobRecord] = {}
        self.outcomes: list[tuple[str, DeliveryOutcome]] = []
        self.next_due: dict[str, float] = {}
        self.refuse_starts = self.refuse_ends = 0
        self.changed = asyncio.Condition()

    async def attempt_started(self, job_id: str) -> JobRecord | None:
        await asyncio.sleep(0)
        if self.refuse_starts:
            self.refuse_starts -= 1
            raise RayError("async_queue_storage_error", "the disk is full")
        record = self.records.get(job_id)
        if record is None or record.callback is None:
            return None
        begun = replace(record.callback, attempts=record.callback.attempts + 1, last_attempt_at=iso_now())
        record = self.records[job_id] = replace(record, callback=begun)
        return record

    async def attempt_ended(self, job_id: str, outcome: DeliveryOutcome) -> float | None:
        if self.refuse_ends:
            self.refuse_ends -= 1
            raise RayError("async_queue_storage_error", "the disk is full")
        async with self.changed:
            self.outcomes.append((job_id, outcome))
            self.changed.notify_all()
        return self.next_due.get(job_id) if outcome.kind == "retry" else None

    async def until(self, ended: int) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: len(self.outcomes) >= ended)


class House:
    """Callbacks, their owner, and what they log and count."""

    def __init__(
        self, *, secrets: str | None = None, workers: int = 2, changes: dict[str, object] | None = None
    ) -> None:
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.owner = Owner()
        policy = CallbackPolicy(settings(**(changes or {})), frozenset(), lookup=Names(HOSTS))
        environ = {} if secrets is None else {"RAY_WEBHOOK_SECRETS": secrets}
        logger = Logger("test", "info", self.log, self.log)
        self.callbacks = Callbacks(
            policy, WebhookSecrets.from_environment(environ), self.owner, logger, self.metrics, workers=2
        )

    def add(self, job_id: str, host: str, port: int, due_at: float = 0.0) -> None:
        """A job whose outcome is to be told to `host`."""
        self.owner.records[job_id] = ended_job(job_id, f"http://{host}:{port}/in?token=s3cret")
        self.callbacks.schedule(job_id, host, due_at)

    def lines(self, event: str) -> list[dict[str, object]]:
        parsed = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in parsed if line["event"] == event]


def run(scene: Callable[[House], Awaitable[None]], house: Callable[[], House] = House) -> House:
    async def main() -> House:
        made = house()
        try:
            await scene(made)
        finally:
            await made.callbacks.stop(5)
        return made

    return asyncio.run(main())


def test_given_an_ended_job_when_delivered_then_the_receiver_can_verify_it_and_nobody_logs_its_url() -> None:
    receiver = Receiver()

    async def scene(house: House) -> None:
        async with receiver:
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)

    house = run(scene, lambda: House(secrets=OLD))
    assert house.owner.outcomes == [("job_1", DeliveryOutcome("delivered", "http_204"))]
    [request] = receiver.arrived
    assert request.headers["webhook-id"] == "msg_job_1"
    assert request.headers["content-type"] == "application/json"
    verify(OLD, request.headers, request.body, now=time.time())
    with pytest.raises(NotGenuine):
        verify(OLD, request.headers, request.body.replace(b"Hello.", b"Hullo."), now=time.time())
    with pytest.raises(NotGenuine):
        verify(OLD, request.headers, request.body, now=time.time() + 302)
    assert json.loads(request.body)["type"] == "job.succeeded"
    [line] = house.lines("job_callback_delivered")
    assert (line["jobId"], line["callbackHost"], line["attempt"], line["reason"]) == (
        "job_1",
        "a.example",
        1,
        "http_204",
    )
    for secret in ("s3cret", "/in", "Say hello", "Hello.", "127.0.0.1", OLD[6:]):
        assert secret not in house.log.getvalue()


def test_given_a_rotation_when_delivered_then_receivers_with_either_secret_verify() -> None:
    receiver = Receiver()

    async def scene(house: House) -> None:
        async with receiver:
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)

    run(scene, lambda: House(secrets=f"{NEW},{OLD}"))
    for secret in (OLD, NEW):
        verify(secret, receiver.arrived[0].headers, receiver.arrived[0].body, now=time.time())


def test_given_no_secrets_when_delivered_then_it_is_unsigned_and_the_log_says_so_once() -> None:
    receiver = Receiver()

    async def scene(house: House) -> None:
        async with receiver:
            house.add("job_1", "a.example", receiver.port)
            house.add("job_2", "a.example", receiver.port)
            await house.owner.until(2)

    house = run(scene)
    for request in receiver.arrived:
        assert "webhook-signature" not in request.headers
        assert request.headers["webhook-id"].startswith("msg_job_")
        assert request.headers["webhook-timestamp"].isdecimal()
    assert len(house.lines("job_callbacks_unsigned")) == 1


def test_given_a_receiver_that_fails_first_when_retried_then_id_and_bytes_stay_and_the_outcomes_are_told() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\n\r\n"
    receiver = Receiver(answering(busy, b"HTTP/1.1 500 No\r\n\r\n", NO_CONTENT))

    async def scene(house: House) -> None:
        async with receiver:
            house.owner.next_due["job_1"] = 0.0
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(3)

    house = run(scene, lambda: House(secrets=OLD))
    assert [outcome for _, outcome in house.owner.outcomes] == [
        DeliveryOutcome("retry", "http_503", 7.0),
        DeliveryOutcome("retry", "http_500"),
        DeliveryOutcome("delivered", "http_204"),
    ]
    assert len({(request.body, request.headers["webhook-id"]) for request in receiver.arrived}) == 1
    for request in receiver.arrived:
        verify(OLD, request.headers, request.body, now=time.time())
    assert [line["attempt"] for line in house.lines("job_callback_retry")] == [1, 2]
    for outcome, count in (("retry", 2), ("delivered", 1), ("give_up", 0)):
        assert house.metrics.counter("async_queue.callback_attempts", outcome=outcome).value == count


def test_given_410_when_delivered_then_it_is_given_up_at_once() -> None:
    receiver = Receiver(answering(b"HTTP/1.1 410 Gone\r\n\r\n"))

    async def scene(house: House) -> None:
        async with receiver:
            house.owner.next_due["job_1"] = 0.0
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)

    house = run(scene)
    assert house.owner.outcomes == [("job_1", DeliveryOutcome("give_up", "http_410"))]
    assert len(receiver.arrived) == 1


def test_given_nothing_to_deliver_when_due_then_nothing_is_sent() -> None:
    receiver = Receiver()

    async def scene(house: House) -> None:
        async with receiver:
            house.callbacks.schedule("job_unknown", "a.example", 0.0)
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)

    assert [job_id for job_id, _ in run(scene).owner.outcomes] == ["job_1"]
    assert len(receiver.arrived) == 1


def test_given_a_thin_payload_when_delivered_then_prompt_and_answer_stay_here() -> None:
    receiver = Receiver()

    async def scene(house: House) -> None:
        async with receiver:
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)

    run(scene, lambda: House(changes={"callbackPayload": "thin"}))
    assert json.loads(receiver.arrived[0].body)["data"] == {"job": {"id": "job_1", "status": "succeeded"}}


def test_given_a_dead_receiver_with_many_jobs_when_others_are_due_then_it_holds_up_nobody() -> None:
    async def scene(house: House) -> None:
        release = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(NO_CONTENT)

        async with Receiver(hold) as dead, Receiver() as alive:
            for number in range(10):
                house.add(f"job_dead_{number}", "a.example", dead.port)
            for number in range(5):
                house.add(f"job_alive_{number}", "b.example", alive.port)
            await house.owner.until(5)
            assert {job_id for job_id, _ in house.owner.outcomes} == {f"job_alive_{number}" for number in range(5)}
            assert dead.connections == 1
            assert house.callbacks.scheduled == 9
            release.set()
            await house.owner.until(15)
            assert dead.connections == 10

    run(scene)


def test_given_many_hosts_when_due_then_no_more_workers_than_allowed_deliver() -> None:
    async def scene(house: House) -> None:
        release, most = asyncio.Event(), 0

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await release.wait()
            writer.write(NO_CONTENT)

        async with Receiver(hold) as receiver:
            for name in "abcde":
                house.add(f"job_{name}", f"{name}.example", receiver.port)
            async with asyncio.timeout(30):
                while receiver.connections < 2:
                    most = max(most, house.callbacks.active)
                    await asyncio.sleep(0.001)
            assert max(most, house.callbacks.active) == 2
            release.set()
            await house.owner.until(5)

    run(scene)


def test_given_a_time_in_the_future_when_scheduled_then_it_waits_and_earlier_ones_come_first() -> None:
    async def scene(house: House) -> None:
        async with Receiver() as receiver:
            now = time.time()
            house.add("job_far", "c.example", receiver.port, now + 3_600)
            house.add("job_soon", "a.example", receiver.port, now + 0.05)
            house.add("job_now", "b.example", receiver.port, now)
            await house.owner.until(2)
            assert [job_id for job_id, _ in house.owner.outcomes] == ["job_now", "job_soon"]
            assert house.callbacks.scheduled == 1

    assert len(run(scene).owner.outcomes) == 2


def test_given_a_job_that_is_scheduled_twice_when_due_then_it_is_delivered_once() -> None:
    async def scene(house: House) -> None:
        async def again(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if receiver.connections == 1:  # job_1 is under way
                house.callbacks.schedule("job_1", "a.example", 0.0)
            writer.write(NO_CONTENT)

        async with Receiver(again) as receiver:
            house.add("job_1", "a.example", receiver.port)
            house.add("job_1", "a.example", receiver.port)
            house.add("job_2", "a.example", receiver.port)
            await house.owner.until(2)

    assert [job_id for job_id, _ in run(scene).owner.outcomes] == ["job_1", "job_2"]


def test_given_a_disk_that_is_full_before_the_attempt_when_it_has_room_then_the_attempt_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.jobs.callbacks._FIRST_SETBACK_S", 0.001)

    async def scene(house: House) -> None:
        async with Receiver() as receiver:
            house.owner.refuse_starts = 3
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)
            assert len(receiver.arrived) == 1

    house = run(scene)
    assert len(house.lines("job_callback_delayed")) == 3
    assert house.owner.records["job_1"].callback is not None


def test_given_a_disk_that_is_full_after_the_attempt_when_it_has_room_then_the_outcome_is_noted_and_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.jobs.callbacks._FIRST_SETBACK_S", 0.001)

    async def scene(house: House) -> None:
        async with Receiver() as receiver:
            house.owner.refuse_ends = 3
            house.add("job_1", "a.example", receiver.port)
            await house.owner.until(1)
            assert len(receiver.arrived) == 1

    assert run(scene).owner.outcomes == [("job_1", DeliveryOutcome("delivered", "http_204"))]


def test_given_a_stop_when_a_delivery_hangs_then_it_is_interrupted_and_its_owner_is_told() -> None:
    async def scene(house: House) -> None:
        asked = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()

        async with Receiver(hold) as receiver:
            house.owner.next_due["job_1"] = 0.0
            house.add("job_1", "a.example", receiver.port)
            house.add("job_2", "a.example", receiver.port)
            async with asyncio.timeout(30):
                await asked.wait()
            assert not await house.callbacks.stop(0.01)
            assert house.owner.outcomes == [("job_1", DeliveryOutcome("retry", INTERRUPTED))]
            assert (house.callbacks.active, house.callbacks.scheduled) == (0, 0)
            house.callbacks.schedule("job_2", "a.example", 0.0)
            assert house.callbacks.scheduled == 0
            assert receiver.connections == 1

    run(scene)


def test_given_a_stop_when_a_delivery_ends_in_time_then_its_outcome_is_noted() -> None:
    async def scene(house: House) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await release.wait()
            writer.write(NO_CONTENT)

        async with Receiver(hold) as receiver:
            house.add("job_1", "a.example", receiver.port)
            async with asyncio.timeout(30):
                await asked.wait()
            house.callbacks.cancel_all()
            stopping = asyncio.ensure_future(house.callbacks.stop(5))
            release.set()
            assert await stopping
            assert house.owner.outcomes == [("job_1", DeliveryOutcome("delivered", "http_204"))]

    run(scene)


def test_given_nothing_under_way_when_stopped_then_it_ends_at_once_and_may_be_stopped_again() -> None:
    async def scene(house: House) -> None:
        assert await house.callbacks.stop(0)
        assert await house.callbacks.stop(0)

    run(scene)


def test_given_a_submission_when_admitted_then_the_stored_form_of_its_url_comes_back() -> None:
    async def scene(house: House) -> None:
        assert await house.callbacks.admit("HTTP://A.example:80?x=1") == "http://a.example/?x=1"
        with pytest.raises(RayError) as caught:
            await house.callbacks.admit("http://unknown.example/")
        assert caught.value.code == "invalid_request"

    run(scene)
