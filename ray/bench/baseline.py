"""Baselines: thresholds in a file that a run is held against, and how such a file is made from a run.

A threshold is exact and inclusive. Room for noise is given when the file is written: each threshold lies beyond what
the run measured by a tolerance, or by what chance alone could have made of the same samples, whichever is more.
"""

from __future__ import annotations

import json
import posixpath
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ray.bench.figures import quantile
from ray.bench.process import MeasurementError
from ray.bench.run_report import RunSettings, Sample
from ray.bench.values import read_list, read_number, read_object, read_text, read_whole

BASELINE_VERSION = 1
MAX_BASELINE_BYTES = 262_144
DEFAULT_TOLERANCE = 0.3
RESAMPLES = 400
CHANCE = 0.995

# Assertion, the figure of the summary it is about, and whether more is better.
_ASSERTIONS: Mapping[str, tuple[str, bool]] = {
    "maxLatencyP50Ms": ("latencyP50Ms", False),
    "maxLatencyP95Ms": ("latencyP95Ms", False),
    "maxQueueDelayP95Ms": ("queueDelayP95Ms", False),
    "maxTtftP95Ms": ("ttftP95Ms", False),
    "maxClientLatencyP50Ms": ("clientLatencyP50Ms", False),
    "maxClientTtftP50Ms": ("clientTtftP50Ms", False),
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
    """One file. `clients` or `rate`: the loop that the thresholds are for."""

    label: str
    machine_class: str
    requests: int
    assertions: Mapping[str, float]
    clients: int | None = None
    rate: float | None = None
    workload: str | None = None


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
    """A run against a baseline."""

    path: str
    baseline: Baseline
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def document(self) -> dict[str, object]:
        """The block `comparison` of the report."""
        return {
            "baselinePath": str(Path(self.path).absolute()),
            "baselineLabel": self.baseline.label,
            "machineClass": self.baseline.machine_class,
            "passed": self.passed,
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
    if "assertions" not in document:
        raise MeasurementError("assertions are missing")
    if ("concurrency" in document) == ("rate" in document):
        raise MeasurementError("it must have either concurrency (closed loop) or rate (open loop)")
    notes = read_list(document.get("notes", []), "notes", 16)
    for place, note in enumerate(notes):
        read_text(note, f"notes[{place}]", 1_024, blank=True)
    workload = document.get("workloadPath")
    rate = document.get("rate")
    return Baseline(
        label=read_text(document.get("label"), "label", 256),
        machine_class=read_text(document.get("machineClass"), "machineClass", 256),
        requests=read_whole(document.get("requests"), "requests", 1, 10_000),
        assertions=_assertions(document["assertions"]),
        clients=read_whole(document["concurrency"], "concurrency", 1, 64) if rate is None else None,
        rate=None if rate is None else read_number(rate, "rate", 0, None),
        workload=None if workload is None else read_text(workload, "workloadPath", 4_096),
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
        checks.append(Check("workloadPath", "===", expected, actual, expected == actual))
    for key, limit in baseline.assertions.items():
        metric, at_least = _ASSERTIONS[key]
        value = summary.get(metric)
        actual_value = float(value) if isinstance(value, int | float) else None
        held = actual_value is not None and (actual_value >= limit if at_least else actual_value <= limit)
        checks.append(Check(metric, ">=" if at_least else "<=", limit, actual_value, held))
    return Comparison(path, baseline, tuple(checks))


def baseline_document(
    label: str,
    machine_class: str,
    settings: RunSettings,
    samples: Sequence[Sample],
    summary: Mapping[str, object],
    tolerance: float,
) -> dict[str, object]:
    """A baseline that this run passes, with room for noise. `tolerance`: 0.3 lets a time grow by 30 %."""
    assertions: dict[str, float] = {}
    answered = [sample for sample in samples if sample.answered]
    for key, share, pick in _TIMES:
        values = [value for value in map(pick, answered) if value is not None]
        if values:
            most = max(quantile(values, share) * (1 + tolerance), chance_bound(values, share))
            assertions[key] = round(most + 1)  # times of a millisecond and less are reported in whole ones
    speeds = [sample.tokens_per_second for sample in answered if sample.tokens_per_second]
    if speeds:
        assertions["minCompletionTokensPerSecondAvg"] = round(sum(speeds) / len(speeds) / (1 + tolerance), 2)
    for key in ("minQualityPassRate", "minQualityScoreAvg", "minValidJsonRate"):
        value = summary.get(_ASSERTIONS[key][0])
        if isinstance(value, int | float):
            assertions[key] = round(value / (1 + tolerance), 2)
    errors = summary.get("errorRate")
    assertions["maxErrorRate"] = float(errors) if isinstance(errors, int | float) else 0.0
    loop = {"concurrency": settings.clients} if settings.rate is None else {"rate": settings.rate}
    return {
        "version": BASELINE_VERSION,
        "label": label,
        "machineClass": machine_class,
        "workloadPath": settings.workload,
        **loop,
        "requests": settings.requests,
        "assertions": assertions,
        "notes": [f"Written from a run, with a tolerance of {tolerance:.0%}."],
    }


def chance_bound(values: Sequence[float], share: float) -> float:
    """How large the quantile of as many samples could have been by chance: the 99.5th percentile over resamples
    (bootstrap). The resamples are always the same ones, so that a file can be made again."""
    chance = random.Random(1)  # statistics, not secrets
    return quantile([quantile(chance.choices(values, k=len(values)), share) for _ in range(RESAMPLES)], CHANCE)


def _assertions(value: object) -> dict[str, float]:
    given = read_object(value, "assertions", len(_ASSERTIONS) * 2, 128)
    for key in given:
        if key not in _ASSERTIONS:
            raise MeasurementError(f"assertions.{key} is not known; possible are {', '.join(_ASSERTIONS)}")
    return {key: float(read_number(limit, f"assertions.{key}", 0, None)) for key, limit in given.items()}


def _equal(metric: str, expected: float | None, actual: float | None) -> Check:
    return Check(metric, "===", "none" if expected is None else expected, actual, expected == actual)


_Pick = Callable[[Sample], float | None]
# What a written baseline asserts of times: medians, which move least, and one tail.
_TIMES: tuple[tuple[str, float, _Pick], ...] = (
    ("maxLatencyP50Ms", 0.5, lambda sample: sample.gateway_ms),
    ("maxLatencyP95Ms", 0.95, lambda sample: sample.gateway_ms),
    ("maxClientLatencyP50Ms", 0.5, lambda sample: sample.latency_ms),
    ("maxClientTtftP50Ms", 0.5, lambda sample: sample.ttft_ms),
)
