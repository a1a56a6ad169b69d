"""What the queue's tests share: a queue around a scripted provider and a store in memory that can be made to fail."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from ray.clock import iso_timestamp
from ray.config import Config
from ray.errors import RayError
from ray.jobs.queue import JobQueue, JobSubmission
from ray.jobs.record import JobRecord, decode, encode
from ray.jobs.store import Recovery, StorageRoom
from ray.runtime import HostPressure, Runtime, normalise_request
from ray.telemetry import Logger, Metrics
from ray.types import Caller
from tests.fakes.provider import FakeProvider
from tests.host.trees import NOWHERE
from tests.runtime.support import ALICE, TINY

MIB = 1_048_576
NOON = 1_795_000_000.0


def queue_config(scheduler: dict[str, object] | None = None, **settings: object) -> Config:
    """The profile `tiny` with the queue on and these of its settings (snake_case)."""
    settings = {"enabled": True, "poll_interval_ms": 1000, **settings}
    return replace(
        TINY,
        async_queue=replace(TINY.async_queue, **settings),  # type: ignore[arg-type]  # names of its fields
        scheduler=replace(TINY.scheduler, **(scheduler or {})),  # type: ignore[arg-type]
        model=replace(TINY.model, warm_on_boot=False),
    )


class MemoryStore:
    """Keeps the bytes that a real store would write. `files` may be handed to the next one, as a disk is.

    `failing`: every operation is refused. `gate`: writes wait for it. `fails_for`: which records are not taken.
    `half_fails_for`: which are refused although the disk has them already, as when a directory cannot be synced.
    """

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = {} if files is None else files
        self.failing = False
        self.room_unknown = False
        self.fails_for: Callable[[JobRecord], bool] = lambda record: False
        self.half_fails_for: Callable[[JobRecord], bool] = lambda record: False
        self.gate: asyncio.Event | None = None
        self.available = StorageRoom(10_000 * MIB, 1_000_000, 0, 0)
        self.writes: list[JobRecord] = []
        self.removed: list[str] = []
        self.waiting = 0
        self.closed = False
        self.quarantined = 0

    async def open(self) -> Recovery:
        return Recovery(tuple(decode(data, job_id) for job_id, data in self.files.items()))

    async def read(self, job_id: str) -> JobRecord | None:
        await self._turn()
        return decode(self.files[job_id], job_id) if job_id in self.files else None

    async def put(self, record: JobRecord) -> None:
        data = encode(record)
        await self._turn()
        if self.gate is not None:
            self.waiting += 1
            await self.gate.wait()
            self.waiting -= 1
        if self.fails_for(record):
            raise storage_error()
        self.files[record.id] = data
        if self.half_fails_for(record):
            raise storage_error()
        self.writes.append(record)

    async def remove(self, job_id: str) -> None:
        await self._turn()
        self.files.pop(job_id, None)
        self.removed.append(job_id)

    async def room(self) -> StorageRoom | None:
        await asyncio.sleep(0)
        return None if self.room_unknown else self.available

    async def close(self) -> None:
        self.closed = True

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.failing:
            raise storage_error()

    def record(self, job_id: str) -> JobRecord:
        """What is durable."""
        return decode(self.files[job_id], job_id)


def storage_error() -> RayError:
    return RayError("async_queue_storage_error", "No space left on device")


class JobHouse:
    """One queue with everything around it. `now`: the wall clock, moved by hand. Jitter takes the whole range."""

    def __init__(
        self,
        provider: FakeProvider | None = None,
        config: Config | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.config = config or queue_config()
        self.provider = provider or FakeProvider()
        self.store = store or MemoryStore()
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.now = NOON
        logger = Logger("test", "info", self.log, self.log)
        self.runtime = Runtime(self.config, self.provider, logger, self.metrics, HostPressure(NOWHERE))
        self.queue = JobQueue(
            self.config,
            self.store,
            self.runtime,
            None,
            logger,
            self.metrics,
            wall=lambda: self.now,
            uniform=lambda low, high: high,
        )

    async def open(self) -> JobHouse:
        await self.queue.start()
        self.queue.resume()
        return self

    async def close(self) -> None:
        await self.queue.stop(0)
        await self.runtime.close()

    async def submit(
        self, text: str = "hello", *, caller: Caller = ALICE, key: str | None = None, ttl_ms: int | None = None
    ) -> JobSubmission:
        request = normalise_request({"input": text, "cache": False}, self.config)
        return await self.queue.submit(request, caller, None, key, ttl_ms)

    async def job(self, text: str = "hello", *, caller: Caller = ALICE) -> str:
        """The id of a job that was submitted."""
        return (await self.submit(text, caller=caller)).record.id

    def status(self, job_id: str) -> str:
        """What is published."""
        entry = self.queue._book.get(job_id)
        return entry.record.status if entry is not None else "gone"

    def is_over(self, job_id: str) -> bool:
        return self.status(job_id) in ("succeeded", "failed", "cancelled")

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def events(self) -> list[object]:
        return [line["event"] for line in self.lines()]

    def counter(self, name: str, **labels: str) -> float:
        return self.metrics.counter(f"async_queue.{name}", **labels).value


def stored(records: Iterable[JobRecord]) -> MemoryStore:
    """A store in which these records were left."""
    return MemoryStore({record.id: encode(record) for record in records})


def a_record(job_id: str = "job_1", **changes: object) -> JobRecord:
    """A queued job, as of an hour before `NOON`."""
    record = JobRecord(
        id=job_id,
        status="queued",
        request={"input": "hello", "maxTokens": 8, "temperature": 0.2, "topP": 0.95, "cache": False, "metadata": {}},
        created_at=at(-3600),
        updated_at=at(-3600),
        attempts=0,
        max_attempts=3,
        deadline_at=at(82_800),
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # names of its fields


def at(seconds: float) -> str:
    """A timestamp so many seconds after `NOON`."""
    return iso_timestamp(NOON + seconds)
