"""The report document of a run: every sample of it, the queue over time, and the summary drawn from them.

What a run writes to a file, `compare` reads from two and the HTML page draws. Schema version 1: keys are camelCase,
times are milliseconds, what was not measured has no key. A reader ignores keys it does not know and refuses other
versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ray.bench.processes.process import MeasurementError
from ray.bench.report.report import envelope
from ray.bench.run.rows import run_rows
from ray.bench.run.sample import QueuePoint, Sample
from ray.types import as_json

RUN_KIND = "benchmark-summary"
RUN_VERSION = 1
# JSON has whole numbers that no float can hold.
LARGEST_NUMBER = sys.float_info.max
LARGEST_REPORT_BYTES = 64 * 1024 * 1024
_OF_THE_ENVELOPE = ("label", "generatedAt", "settings", "facts")
_TOP = "report"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What was asked for. `target`: base URL without credentials; `workload`: file name or the built-in one's name;
    `workload_digest`: SHA-256 in hex over the items as they are sent, so that equal digests mean equal requests;
    `clients`: closed loop of so many; `rate`: open loop of so many arrivals per second. One of the two is given."""

    target: str
    workload: str
    workload_digest: str
    items: int
    requests: int
    clients: int | None = None
    rate: float | None = None
    warmup: int = 0
    no_cache: bool = False

    @property
    def mode(self) -> str:
        return "closed" if self.rate is None else "open"


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run. `generated_at`: ISO time in UTC; `wall_ms`: of the measured part; `broken_off`: why it ended before all
    requests were sent, None when it did not; `facts`: machine and versions, as text; `summary` and `comparison`: as the
    run printed them, by the names that are documented, not read back into anything here."""

    label: str
    generated_at: str
    settings: RunSettings
    wall_ms: float
    samples: tuple[Sample, ...]
    queue: tuple[QueuePoint, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, object] = field(default_factory=dict)
    comparison: Mapping[str, object] | None = None
    broken_off: str | None = None

    @property
    def target(self) -> str:
        return self.settings.target

    def settings_document(self) -> dict[str, object]:
        settings = as_json(self.settings)
        if not isinstance(settings, dict):
            raise TypeError("settings become a JSON object")
        return settings

    def to_document(self) -> dict[str, object]:
        """The report as plain JSON data."""
        body = as_json(self)
        if not isinstance(body, dict):
            raise TypeError("a report becomes a JSON object")
        parts = {key: part for key, part in body.items() if key not in _OF_THE_ENVELOPE}
        return envelope(
            RUN_KIND,
            run_rows(self.samples, self.wall_ms, self.queue),
            label=self.label,
            facts=self.facts,
            settings=self.settings_document(),
            version=RUN_VERSION,
            generated_at=self.generated_at,
            parts=parts,
        )

    @classmethod
    def from_document(cls, document: object, *, any_version: bool = False) -> RunReport:
        """The report of such data. Raises `MeasurementError` that names the key which is not as it should be.
        `any_version`: read another schema version as if it were this one."""
        part = Part.of(document, _TOP)
        kind = part.text("kind")
        if kind != RUN_KIND:
            raise MeasurementError(f'this is a report of kind "{kind}", not the "{RUN_KIND}" that a run writes')
        version = part.count("version")
        if version != RUN_VERSION and not any_version:
            raise MeasurementError(
                f"the report has schema version {version}, and this Ray reads version {RUN_VERSION}: "
                "use the Ray that wrote it, or measure again"
            )
        return cls(
            label=part.text("label"),
            generated_at=part.text("generatedAt"),
            settings=_settings(part.part("settings")),
            wall_ms=part.number("wallMs"),
            samples=tuple(_sample(one) for one in part.parts("samples")),
            queue=tuple(_queue_point(one) for one in part.parts("queue")),
            facts=part.texts_by_name("facts"),
            summary=part.mapping("summary") or {},
            comparison=part.mapping("comparison"),
            broken_off=part.maybe_text("brokenOff"),
        )


def load_run_report(path: str, *, any_version: bool = False) -> RunReport:
    """The report in a file. Raises `MeasurementError` that names the file, and `OSError` when it cannot be read."""
    with Path(path).open("rb") as file:
        content = file.read(LARGEST_REPORT_BYTES + 1)
    if len(content) > LARGEST_REPORT_BYTES:
        raise MeasurementError(f"{path}: larger than {LARGEST_REPORT_BYTES} bytes; is it a report of a run?")
    try:
        return RunReport.from_document(json.loads(content), any_version=any_version)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{path}: not JSON ({error})") from error
    except MeasurementError as error:
        raise MeasurementError(f"{path}: {error}") from error


@dataclass(frozen=True, slots=True)
class Part:
    """A JSON object that is being read, with its place in the document for the messages. Every method raises
    `MeasurementError` when the value is not of its kind; the `maybe_` ones give None where there is no key."""

    values: Mapping[str, object]
    where: str

    @classmethod
    def of(cls, value: object, where: str) -> Part:
        if not isinstance(value, dict):
            raise MeasurementError(f"{where} must be a JSON object")
        return cls(value, where)

    def text(self, key: str) -> str:
        return self._given(key, self.maybe_text(key), "text")

    def maybe_text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "text")
        return value

    def number(self, key: str) -> float:
        return self._given(key, self.maybe_number(key), "a number of 0 or more")

    def maybe_number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST_NUMBER:
            raise self._wrong(key, "a number of 0 or more")
        return value

    def count(self, key: str) -> int:
        return self._given(key, self.maybe_count(key), "a whole number of 0 or more")

    def maybe_count(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, "a whole number of 0 or more")
        return value

    def flag(self, key: str) -> bool:
        return self.maybe_flag(key) or False

    def maybe_flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def mapping(self, key: str) -> Mapping[str, object] | None:
        value = self.values.get(key)
        return None if value is None else Part.of(value, f"{self.where}.{key}").values

    def part(self, key: str) -> Part:
        return Part.of(self.values.get(key), f"{self.where}.{key}")

    def parts(self, key: str) -> Sequence[Part]:
        return [Part.of(one, f"{self.where}.{key}[{place}]") for place, one in enumerate(self._items(key))]

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._items(key)
        if not all(isinstance(one, str) for one in items):
            raise self._wrong(key, "a list of texts")
        return tuple(str(one) for one in items)

    def texts_by_name(self, key: str) -> Mapping[str, str]:
        values = self.mapping(key) or {}
        if not all(isinstance(one, str) for one in values.values()):
            raise self._wrong(key, "an object of texts")
        return {name: str(one) for name, one in values.items()}

    def _items(self, key: str) -> Sequence[object]:
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, "a list")
        return value

    def _given(self, key: str, value: _T | None, what: str) -> _T:
        if value is None:
            raise self._wrong(key, what)
        return value

    def _wrong(self, key: str, what: str) -> MeasurementError:
        return MeasurementError(f"{self.where}.{key} must be {what}")


def _settings(part: Part) -> RunSettings:
    clients, rate = part.maybe_count("clients"), part.maybe_number("rate")
    if (clients is None) == (rate is None):
        raise MeasurementError(f"{part.where} must have either clients or rate")
    return RunSettings(
        target=part.text("target"),
        workload=part.text("workload"),
        workload_digest=part.text("workloadDigest"),
        items=part.count("items"),
        requests=part.count("requests"),
        clients=clients,
        rate=rate,
        warmup=part.maybe_count("warmup") or 0,
        no_cache=part.flag("noCache"),
    )


def _sample(part: Part) -> Sample:
    return Sample(
        number=part.count("number"),
        item=part.count("item"),
        started_ms=part.number("startedMs"),
        latency_ms=part.number("latencyMs"),
        ttft_ms=part.maybe_number("ttftMs"),
        code=part.maybe_text("code"),
        cached=part.flag("cached"),
        deduplicated=part.flag("deduplicated"),
        degraded=part.flag("degraded"),
        queue_ms=part.maybe_number("queueMs"),
        gateway_ms=part.maybe_number("gatewayMs"),
        prompt_tokens=part.maybe_count("promptTokens"),
        completion_tokens=part.maybe_count("completionTokens"),
        cached_tokens=part.maybe_count("cachedTokens"),
        prefix=part.maybe_text("prefix"),
        prompt_format=part.maybe_text("promptFormat"),
        provider_ttft_ms=part.maybe_number("providerTtftMs"),
        tokens_per_second=part.maybe_number("tokensPerSecond"),
        quality_score=part.maybe_number("qualityScore"),
        quality_failures=part.texts("qualityFailures"),
        valid_json=part.maybe_flag("validJson"),
    )


def _queue_point(part: Part) -> QueuePoint:
    return QueuePoint(part.number("atMs"), part.count("depth"), part.count("inFlight"))
