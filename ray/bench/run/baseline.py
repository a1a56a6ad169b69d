"""Baselines: thresholds in a file that a run is held against, and how such a file is made from a run.

A threshold is exact and inclusive. Room for noise is made in three other ways. What is written is about figures that
one slow answer does not move. Each threshold lies beyond what was measured by a tolerance. And both sides take the best
of several passes: a neighbour on the machine only ever makes a pass slower, and mostly not each of them, while what has
got slower by itself is slow in each.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.bench.processes.process import MeasurementError
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.values import read_flag, read_list, read_number, read_object, read_text, read_whole

BASELINE_VERSION = 1
MAX_BASELINE_BYTES = 262_144
DEFAULT_TOLERANCE = 0.35
DEFAULT_PASSES = 5
# Timers, wake-ups and turns of the scheduler cost milliseconds that have nothing to do with the work.
GRAIN_MS = 5.0

_SAME = "==="

# Assertion, the figure of the summary it is about, and whether more is better.
_ASSERTIONS: Mapping[str, tuple[str, bool]] = {
    "maxLatencyP50Ms": ("latencyP50Ms", False),
    "maxLatencyP95Ms": ("latencyP95Ms", False),
    "maxQueueDelayP95Ms": ("queueDelayP95Ms", False),
    "maxTtftP95Ms": ("ttftP95Ms", False),
    "maxClientLatencyP50Ms": ("clientLatencyP50Ms", False),
    "maxClientTtftP50Ms": ("clientTtftP50Ms", False),
    "maxTypicalLatencyMs": ("typicalLatencyMs", False),
    "maxTypicalTtftMs": ("typicalTtftMs", False),
    "maxErrorRate": ("errorRate", False),
    "minCompletionTokensPerSecondAvg": ("completionTokensPerSecondAvg", True),
    "minPromptCacheHitRate": ("promptCacheHitRate", True),
    "minPromptCacheReuseRatio": ("promptCacheReuseRatio", True),
    "minEmailsPerHour": ("emailsPerHour", True),
    "minQualityPassRate": ("qualityPassRate", True),
    "minQualityScoreAvg": ("qualityScoreAvg", True),
    "minValidJsonRate": ("validJsonRate", True),
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """One file. `clients` or `rate`: the loop that the thresholds are for. `no_cache` and `digest` (of the workload):
    None when any will do."""

    label: str
    machine_class: str
    requests: int
    assertions: Mapping[str, float]
    clients: int | None = None
    rate: float | None = None
    workload: str | None = None
    no_cache: bool | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. `actual`: None when the run has no such figure, which fails."""

    metric: str
    operator: str
    expected: float | str
    actual: float | str | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run against a baseline. `passes`: how many were measured until it was held, or until there were no more."""

    path: str
    baseline: Baseline
    checks: tuple[Check, ...]
    passes: int = 1

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def missed(self) -> list[str]:
        return [check.metric for check in self.checks if not check.passed]

    @property
    def could_be_noise(self) -> bool:
        """What was missed was measured: another kind of run, or one without the figure, is missed again each time."""
        return all(check.passed or (check.operator != _SAME and check.actual is not None) for check in self.checks)

    def document(self) -> dict[str, object]:
        """The block `comparison` of the report."""
        return {
            "baselinePath": str(Path(self.path).absolute()),
            "baselineLabel": self.baseline.label,
            "machineClass": self.baseline.machine_class,
            "passed": self.passed,
            "passes": self.passes,
            "checks": [
                {
                    "metric": check.metric,
                    "operator": check.operator,
                    "expected": check.expected,
                    "actual": "missing" if check.actual is None else check.actual,
                    "passed": check.passed,
                }
                for check in self.checks
            ],
        }


def load_baseline(path: str) -> Baseline:
    """The baseline in a file. Raises `MeasurementError`."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BASELINE_BYTES + 1)
    except OSError as error:
        raise MeasurementError(f"cannot read the baseline {path}: {error.strerror}") from error
    if len(data) > MAX_BASELINE_BYTES:
        raise MeasurementError(f"the baseline {path} has more than {MAX_BASELINE_BYTES} bytes: is it one?")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"the baseline {path} is not JSON: {error}") from None
    try:
        return read_baseline(document)
    except MeasurementError as error:
        raise MeasurementError(f"the baseline {path}: {error}") from None


def read_baseline(document: object) -> Baseline:
    """A baseline from JSON data. Keys that are not known are not looked at, except among the assertions."""
    if not isinstance(document, dict):
        raise MeasurementError("it must be a JSON object")
    version = document.get("version")
    if version != BASELINE_VERSION or isinstance(version, bool):
        raise MeasurementError(
            f"its schema version is {json.dumps(version)}, and this Ray reads version {BASELINE_VERSION}: write it "
            "anew with --write-baseline"
        )
    if isinstance(document.get("kind"), str):
        raise MeasurementError(f'it is a report of kind "{document["kind"]}": baselines come from --write-baseline')
    if "assertions" not in document:
        raise MeasurementError("assertions are missing")
    if ("concurrency" in document) == ("rate" in document):
        raise MeasurementError("it must have either concurrency (closed loop) or rate (open loop)")
    notes = read_list(document.get("notes", []), "notes", 16)
    for place, note in enumerate(notes):
        read_text(note, f"notes[{place}]", 1_024, blank=True)
    workload = document.get("workloadPath")
    rate, no_cache, digest = (document.get(key) for key in ("rate", "noCache", "workloadDigest"))
    return Baseline(
        label=read_text(document.get("label"), "label", 256),
        machine_class=read_text(document.get("machineClass"), "machineClass", 256),
        requests=read_whole(document.get("requests"), "requests", 1, 10_000),
        assertions=_assertions(document["assertions"]),
        clients=read_whole(document["concurrency"], "concurrency", 1, 64) if rate is None else None,
        rate=None if rate is None else read_number(rate, "rate", 0, None),
        workload=None if workload is None else read_text(workload, "workloadPath", 4_096),
        no_cache=None if no_cache is None else read_flag(no_cache, "noCache"),
        digest=None if digest is None else read_text(digest, "workloadDigest", 64),
    )


def compare(path: str, baseline: Baseline, settings: RunSettings, summary: Mapping[str, object]) -> Comparison:
    """Every check. That the run was of the same kind comes first."""
    if baseline.rate is None:
        checks = [_equal("concurrency", baseline.clients, settings.clients)]
    else:
        checks = [_equal("rate", baseline.rate, settings.rate)]
    checks.append(_equal("requests", baseline.requests, settings.requests))
    if baseline.workload is not None:
        # As text: what a path means depends on the directory it is used in.
        expected, actual = (posixpath.normpath(name) for name in (baseline.workload, settings.workload))
        checks.append(Check("workloadPath", _SAME, expected, actual, expected == actual))
    if baseline.digest is not None:
        same = baseline.digest == settings.workload_digest
        checks.append(Check("workloadDigest", _SAME, baseline.digest, settings.workload_digest, same))
    if baseline.no_cache is not None:
        # A truth value would be shown as a number in the table.
        wanted, was = (str(value).lower() for value in (baseline.no_cache, settings.no_cache))
        checks.append(Check("noCache", _SAME, wanted, was, wanted == was))
    for key, limit in baseline.assertions.items():
        metric, at_least = _ASSERTIONS[key]
        value = summary.get(metric)
        actual_value = float(value) if isinstance(value, int | float) else None
        held = actual_value is not None and (actual_value >= limit if at_least else actual_value <= limit)
        checks.append(Check(metric, ">=" if at_least else "<=", limit, actual_value, held))
    return Comparison(path, baseline, tuple(checks))


def baseline_document(
    label: str, machine_class: str, passes: Sequence[RunReport], tolerance: float
) -> dict[str, object]:
    """A baseline that the best of these passes holds, with room for noise. `tolerance`: 0.3 lets times grow by 30 %."""
    room = 1 + tolerance
    assertions: dict[str, float] = {}
    for key in ("maxTypicalLatencyMs", "maxTypicalTtftMs"):
        if times := _figures(passes, key):
            assertions[key] = round(min(times) * room + GRAIN_MS, 1)
    if speeds := _figures(passes, "minCompletionTokensPerSecondAvg"):
        assertions["minCompletionTokensPerSecondAvg"] = round(max(speeds) / room, 2)
    # Answers are not faster or slower but others: here the worst pass shows what may happen on a good day.
    for key in ("minQualityPassRate", "minQualityScoreAvg", "minValidJsonRate"):
        if shares := _figures(passes, key):
            assertions[key] = round(min(shares) / room, 2)
    if shares := _figures(passes, "maxErrorRate"):
        assertions["maxErrorRate"] = max(shares)
    settings = passes[0].settings
    return {
        "version": BASELINE_VERSION,
        "label": label,
        "machineClass": machine_class,
        "workloadPath": settings.workload,
        "workloadDigest": settings.workload_digest,
        **({"concurrency": settings.clients} if settings.rate is None else {"rate": settings.rate}),
        "requests": settings.requests,
        "noCache": settings.no_cache,
        "assertions": assertions,
        "notes": [
            f"Written from {len(passes)} pass{'' if len(passes) == 1 else 'es'}, the slowest of which took "
            f"{slowest_to_best(passes):.2f} times as long as the best, with a tolerance of {tolerance:.0%}."
        ],
    }


def slowest_to_best(passes: Sequence[RunReport]) -> float:
    """How far passes that should be equal lie apart in their typical latency: 1 for not at all."""
    times = _figures(passes, "maxTypicalLatencyMs")
    return max(times) / min(times) if times and min(times) > 0 else 1.0


def _figures(passes: Sequence[RunReport], key: str) -> list[float]:
    """What the passes measured of that which an assertion is about."""
    found = (report.summary.get(_ASSERTIONS[key][0]) for report in passes)
    return [float(value) for value in found if isinstance(value, int | float)]


def _assertions(value: object) -> dict[str, float]:
    given = read_object(value, "assertions", len(_ASSERTIONS) * 2, 128)
    for key in given:
        if key not in _ASSERTIONS:
            raise MeasurementError(f"assertions.{key} is not known; possible are {', '.join(_ASSERTIONS)}")
    return {key: float(read_number(limit, f"assertions.{key}", 0, None)) for key, limit in given.items()}


def _equal(metric: str, expected: float | None, actual: float | None) -> Check:
    return Check(metric, _SAME, "none" if expected is None else expected, actual, expected == actual)
