"""What the runtime's tests share: a small config, a runtime around a scripted provider, its log as data."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace

from ray.clock import Deadline
from ray.config import Config, config_from_mapping
from ray.runtime import HostPressure, Reader, Runtime, normalise_request
from ray.telemetry import Logger, Metrics, metrics_json
from ray.types import Caller, InferenceResult
from tests.fakes.provider import FakeProvider
from tests.host.trees import NOWHERE

ALICE = Caller("a" * 64, "192.0.2.1")
BOB = Caller("b" * 64, "192.0.2.2")

TINY = config_from_mapping({"profile": "tiny"})


def tiny_config(
    *,
    scheduler: dict[str, object] | None = None,
    cache: dict[str, object] | None = None,
    degradation: dict[str, object] | None = None,
    tuning: dict[str, object] | None = None,
    warm_on_boot: bool = False,
) -> Config:
    """The profile `tiny` with fields of some sections replaced (snake_case), past the cross-field rules of a file."""
    return replace(
        TINY,
        scheduler=replace(TINY.scheduler, **(scheduler or {})),  # type: ignore[arg-type]  # names of its fields
        cache=replace(TINY.cache, **(cache or {})),  # type: ignore[arg-type]
        graceful_degradation=replace(TINY.graceful_degradation, **(degradation or {})),  # type: ignore[arg-type]
        adaptive_tuning=replace(TINY.adaptive_tuning, **(tuning or {})),  # type: ignore[arg-type]
        model=replace(TINY.model, warm_on_boot=warm_on_boot),
    )


class House:
    """One runtime with its provider, log and metrics."""

    def __init__(
        self, provider: FakeProvider | None = None, config: Config | None = None, host: HostPressure | None = None
    ) -> None:
        """`host`: a machine that tells nothing unless given, so that a busy one does not change what a test sees."""
        self.config = config or tiny_config()
        self.provider = provider or FakeProvider()
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.host = host or HostPressure(NOWHERE)
        logger = Logger("test", "info", self.log, self.log)
        self.runtime = Runtime(self.config, self.provider, logger, self.metrics, self.host)
        self._asked = 0

    async def ask(
        self, body: Mapping[str, object] | None = None, *, caller: Caller = ALICE, timeout_ms: float = 60_000
    ) -> Reader:
        """A reader of the answer to a JSON body; the input is `hello` unless it or a template is given."""
        self._asked += 1
        body = body or {}
        request = normalise_request(body if "templateId" in body else {"input": "hello", **body}, self.config)
        return await self.runtime.generate(request, caller, Deadline.after_ms(timeout_ms), f"req_{self._asked}")

    async def answer(self, body: Mapping[str, object] | None = None) -> InferenceResult:
        """An answer that is waited for."""
        async with await self.ask(body) as reader:
            return await reader.result()

    def lines(self) -> list[dict[str, object]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    def events(self) -> list[object]:
        return [line["event"] for line in self.lines()]

    def counter(self, name: str, **labels: str) -> float:
        return self.metrics.counter(name, **labels).value

    def gauges(self) -> dict[str, float]:
        self.runtime.refresh_gauges()
        gauges = metrics_json(self.metrics, include_recent=False)["gauges"]
        assert isinstance(gauges, dict)
        return gauges

    def is_idle(self) -> bool:
        """Nothing waits, nothing runs, nothing is held."""
        queue = self.runtime.queue_snapshot()
        gauges = self.gauges()
        return (
            queue.queue_depth == queue.in_flight == queue.queued_tokens == queue.in_flight_tokens == 0
            and gauges["preparation.active"] == gauges["preparation.queued"] == 0
            and self.provider.active == self.provider.preparing == 0
        )
