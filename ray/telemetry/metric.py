"""What one row of the metric catalogue says, and the few kinds of rows there are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

MetricKind = Literal["counter", "gauge", "total", "histogram", "state"]
JsonBlock = Literal["counters", "gauges"]

# JSON units per Prometheus base unit.
MS_PER_SECOND = 1_000.0
USEC_PER_SECOND = 1_000_000.0
PERCENT_PER_RATIO = 100.0
MIB_PER_BYTE = 1 / 1_048_576  # a power of two, so the division is exact

# What a label value becomes that is not in its set.
OTHER = "other"


_NO_CONSTANT: Mapping[str, str] = MappingProxyType({})
_NO_LABELS: Mapping[str, tuple[str, ...]] = MappingProxyType({})


class Metric(NamedTuple):
    """One row.

    Kinds: a `counter` is incremented event by event and stands at 0 from the start (unless `precreated` is off, for a
    family with many label combinations). A `gauge` is set. A `total` is a monotonic figure that somebody else keeps,
    the kernel or the cache, set as it is read: a gauge in JSON, a counter to Prometheus. A `histogram` is observed, in
    base units. A `state` is a one-hot gauge: the current value of its label is 1, all others are 0; JSON has a figure.

    `json`: the block of the JSON view, None for Prometheus only; `prometheus`: None for JSON only, where others can
    compute it. `divisor`: the recorded value divided by it is in the base unit. `decimals`: of the JSON figure, None
    for as recorded. `constant`: labels that tell this row from others of its family. `labels`: variable label names
    with their permitted values. `buckets`: upper bounds, ascending, without +Inf.
    """

    name: str
    kind: MetricKind
    prometheus: str | None
    help: str = ""
    json: JsonBlock | None = None
    divisor: float = 1.0
    decimals: int | None = None
    constant: Mapping[str, str] = _NO_CONSTANT
    labels: Mapping[str, tuple[str, ...]] = _NO_LABELS
    buckets: tuple[float, ...] = ()
    precreated: bool = True

    @property
    def prometheus_type(self) -> str:
        """The word after `# TYPE`."""
        return {"total": "counter", "state": "gauge"}.get(self.kind, self.kind)


def counter(
    name: str, prometheus: str, help: str, *, json: bool = True, precreated: bool = True, **labels: tuple[str, ...]
) -> Metric:
    """Events that Ray counts itself."""
    block: JsonBlock | None = "counters" if json else None
    return Metric(name, "counter", prometheus, help, block, labels=labels, precreated=precreated)


def gauge(
    name: str,
    prometheus: str | None = None,
    help: str = "",
    *,
    json: bool = True,
    divisor: float = 1.0,
    decimals: int | None = None,
    **constant: str,
) -> Metric:
    """A figure that goes up and down."""
    return Metric(name, "gauge", prometheus, help, "gauges" if json else None, divisor, decimals, constant)


def total(name: str, prometheus: str, help: str, *, json: bool = True, divisor: float = 1.0, **constant: str) -> Metric:
    """A monotonic figure that is read, not counted."""
    return Metric(name, "total", prometheus, help, "gauges" if json else None, divisor, None, constant)


def histogram(name: str, prometheus: str, help: str, buckets: tuple[float, ...], **labels: tuple[str, ...]) -> Metric:
    """A distribution."""
    return Metric(name, "histogram", prometheus, help, labels=labels, buckets=buckets)
