"""One gateway's worth of durable jobs in this process, from the start to a crash, on any disk and in virtual time.

Real are the store, the queue, the callbacks and the runtime; scripted are the backend, the receiver and the disk. All
of it runs on one event loop without threads, so that the same scenario does the same operations each time.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TypeVar

from ray.config import Config, config_from_mapping
from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.callbacks import Callbacks
from ray.jobs.disk import StoreDisk
from ray.jobs.queue import JobQueue
from ray.jobs.record import public_document
from ray.jobs.sender import DeliveryOutcome, Sender
from ray.jobs.store import JobStore
from ray.providers import CallContext, Preparation
from ray.runtime import HostPressure, Runtime, normalise_request
from ray.telemetry import Logger, Metrics
from ray.types import Caller, Chunk
from tests.fakes.provider import STOP, FakeProvider, Step
from tests.faults.jobs.ledger import Document, Entry, Ledger, settled
from tests.faults.jobs.receiver import Answer, Delivery
from tests.host.trees import NOWHERE

STORAGE = "/var/lib/ray/queue"
CLIENT = Caller("a" * 64, "192.0.2.1")
EPOCH = 1_790_000_000.0
SETTLE_SECONDS = 3_600.0
POLL_SECONDS = 0.01
STORAGE_ERRORS = frozenset({"async_queue_storage_error", "async_queue_storage_low"})
RECEIVER = "http://127.0.0.1:8000/hook/"

Result = TypeVar("Result")


class StorageErrorsSuppressed:
    """What a client is told while the disk does not work, it takes as: later."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, RayError) and error.code in STORAGE_ERRORS


def config_of(**async_queue: object) -> Config:
    """The tiny profile with a job queue that retries within milliseconds."""
    return config_from_mapping(
        {
            "profile": "tiny",
            "scheduler": {"concurrency": 4},
            "cache": {"enabled": False},
            "gracefulDegradation": {"enabled": False},
            "adaptiveTuning": {"enabled": False},
            "asyncQueue": {
                "enabled": True,
                "storageDir": STORAGE,
                "minFreeStorageMiB": 1,
                "pollIntervalMs": 10,
                "dispatchConcurrency": 2,
                "maxAttempts": 3,
                "maxCallbackAttempts": 4,
                "callbackAllowPrivateNetwork": True,
                **async_queue,
            },
        }
    )


@dataclass(slots=True)
class World:
    """What outlives a gateway: its clients, its receiver, what the backend was asked, and the wall clock.

    `starts`: how often the backend began each text. `submissions`: how each key is submitted, also when it is sent
    again. `clock_offset`: Unix seconds at monotonic zero.
    """

    ledger: Ledger = field(default_factory=Ledger)
    deliveries: list[Delivery] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    submissions: dict[str, tuple[bool, int | None]] = field(default_factory=dict)
    clock_offset: float = EPOCH

    def wall(self) -> float:
        return self.clock_offset + time.monotonic()

    def fork(self) -> World:
        """The same past with a future of its own."""
        copied = self.ledger.fork(), list(self.deliveries), Counter(self.starts), dict(self.submissions)
        return World(*copied, self.clock_offset)

    def at(self, wall: float) -> World:
        """The same past, with the wall clock at `wall` now."""
        return replace(self, clock_offset=wall - time.monotonic())


class DirectThread(DiskThread):
    """A disk thread without a thread. Once its process is dead it never answers again."""

    def __init__(self) -> None:
        super().__init__("disk")
        self._dead = False

    async def run(self, work: Callable[[], Result]) -> Result:
        await asyncio.sleep(0)
        if not self._dead:
            return work()
        never: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        return await never

    def die(self) -> None:
        self._dead = True


class Backend(FakeProvider):
    """Answers with the text it was asked, after the steps that are scripted for the text: one list per attempt."""

    def __init__(self, world: World, scripts: Mapping[str, Sequence[Sequence[Step]]]) -> None:
        super().__init__()
        self._world = world
        self._steps = {text: [list(steps) for steps in attempts] for text, attempts in scripts.items()}

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        text = preparation.request.messages[-1].content
        self._world.starts[text] += 1
        attempts = self._steps.get(text, [])
        for step in attempts.pop(0) if attempts else ():
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, BaseException):
                raise step
        await asyncio.sleep(0.001)
        yield Chunk(f"answer to {text}")
        yield Chunk(finish=STOP)


class Post(Sender):
    """Carries callbacks to a receiver that answers as scripted for the key in the path; without a script it accepts."""

    def __init__(self, policy: CallbackPolicy, world: World, answers: Mapping[str, Sequence[Answer]]) -> None:
        super().__init__(policy)
        self._world = world
        self._answers = {key: list(given) for key, given in answers.items()}

    async def deliver(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> DeliveryOutcome:
        await asyncio.sleep(0.001)
        path = url.removeprefix("http://127.0.0.1:8000")
        left = self._answers.get(path.rpartition("/")[2])
        answer: Answer = left.pop(0) if left else "accept"
        self._world.deliveries.append(Delivery(path, dict(headers)["webhook-id"], body, time.monotonic(), answer, None))
        await asyncio.sleep(0.001)
        if answer == "accept":
            return DeliveryOutcome("delivered", "http_204")
        return DeliveryOutcome("retry", "http_503" if answer == "refuse" else "connection_lost")


class Life:
    """A gateway's jobs from one start to its death or stop."""

    def __init__(
        self,
        disk: StoreDisk,
        world: World,
        config: Config,
        *,
        backend: Mapping[str, Sequence[Sequence[Step]]] | None = None,
        receiver: Mapping[str, Sequence[Answer]] | None = None,
    ) -> None:
        self.world = world
        self.config = config
        self.log = io.StringIO()
        self._thread = DirectThread()
        logger, metrics = Logger("test", "info", self.log, self.log), Metrics()
        self.metrics = metrics
        self.runtime = Runtime(config, Backend(world, backend or {}), logger, metrics, HostPressure(NOWHERE))
        policy = CallbackPolicy(config.async_queue, frozenset())
        callbacks = Callbacks(
            policy, None, None, logger, metrics, sender=Post(policy, world, receiver or {}), wall=world.wall
        )
        store = JobStore(config.async_queue.storage_dir, disk, self._thread, wall=world.wall)
        self.queue = JobQueue(
            config, store, self.runtime, callbacks, logger, metrics, wall=world.wall, uniform=lambda a, b: (a + b) / 2
        )
        callbacks.owner = self.queue

    async def start(self, *, resume: bool = True) -> None:
        await self.queue.start()
        if resume:
            self.queue.resume()

    async def stop(self, timeout_s: float = 5.0) -> None:
        await self.queue.stop(timeout_s)
        await self.runtime.close()

    async def die(self) -> None:
        """Nothing of this life goes on: its tasks end, and what they still try reaches neither disk nor network."""
        self._thread.die()
        own = asyncio.current_task()
        for _ in range(20):
            tasks = [task for task in asyncio.all_tasks() if task is not own]
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)

    async def submit(self, key: str, *, callback: bool = False, ttl_ms: int | None = None) -> Entry:
        """Submit under an idempotency key and note the acknowledgement."""
        entry = self.world.ledger.intend(key, f"text {key}")
        self.world.submissions[key] = callback, ttl_ms
        request = normalise_request({"input": entry.text, "maxTokens": 16}, self.config)
        url = RECEIVER + key if callback else None
        submission = await self.queue.submit(request, CLIENT, url, key, ttl_ms)
        self.world.ledger.acknowledge(entry, {"id": submission.record.id, "status": submission.record.status})
        return entry

    async def submit_again(self) -> None:
        """What every client does that has seen no acknowledgement."""
        for entry in self.world.ledger.unacknowledged():
            callback, ttl_ms = self.world.submissions[entry.key]
            await self.submit(entry.key, callback=callback, ttl_ms=ttl_ms)

    async def record(self, entry: Entry) -> Document | None:
        """What a client is shown of the job, noted in the ledger; None when there is no such job."""
        assert entry.job_id is not None
        try:
            document = public_document(await self.queue.find(entry.job_id, CLIENT))
        except RayError as error:
            if error.code in ("job_not_found", "job_expired"):
                self.world.ledger.missing(entry, error.status)
                return None
            raise
        self.world.ledger.observe(document)
        return document

    async def until(
        self, entry: Entry, condition: Callable[[Document], bool], poll_s: float = POLL_SECONDS
    ) -> Document:
        """Look at the job until the condition holds; what cannot be read now is looked at again."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                with StorageErrorsSuppressed():
                    document = await self.record(entry)
                    assert document is not None, f"{entry.key} is gone"
                    if condition(document):
                        return document
                await asyncio.sleep(poll_s)

    async def settle(self, *entries: Entry) -> None:
        """Until these jobs, or all acknowledged ones, have ended and nothing is left to be delivered."""
        for entry in entries or self.world.ledger.acknowledged():
            await self.until(entry, settled)

    async def cancel(self, entry: Entry) -> None:
        assert entry.job_id is not None
        entry.cancel_asked = True
        await self.queue.cancel(entry.job_id, CLIENT)
        entry.cancel_acknowledged = True

    async def delete(self, entry: Entry) -> None:
        assert entry.job_id is not None
        entry.delete_asked = True
        await self.queue.delete(entry.job_id, CLIENT)
        entry.deleted = True

    def visible(self) -> dict[str, Document]:
        """What a list of the jobs would show at this very moment, by id; outcomes without answers."""
        shown: dict[str, Document] = {}
        for record in self.queue.page(CLIENT, limit=100).records:
            document = public_document(record)
            document.pop("result", None)
            shown[record.id] = document
        return shown
