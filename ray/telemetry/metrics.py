"""The registry: one cell per series of the catalogue, made at the start and never added to afterwards.

Recording is a few dictionary look-ups and one addition, because it happens about ten times per request. It belongs to
the event loop: there are no locks. An unknown metric or label name is a mistake in the program and raises `KeyError`;
an unknown label value is counted as `other`.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from ray.telemetry.catalogue import CATALOGUE, RECENT_KEYS
from ray.telemetry.metric import OTHER, Metric
from ray.version import VERSION

# Beyond this a double no longer counts in ones.
MAX_VALUE = 1e15

Labels = tuple[tuple[str, str], ...]


class Counter:
    """A sum that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def increment(self, by: float = 1) -> None:
        """Raises `ValueError`, and counts nothing, for a negative or non-finite step or a sum beyond 1e15."""
        total = self.value + by
        if not (by >= 0 and total <= MAX_VALUE):
            raise ValueError(f"a counter at {self.value} cannot grow by {by}")
        self.value = total


class Gauge:
    """A figure as it is now. None: unknown, and left out of both views."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float | None = None

    def set(self, value: float | None) -> None:
        """Raises `ValueError` for a non-finite value or one beyond 1e15."""
        if value is not None and not -MAX_VALUE <= value <= MAX_VALUE:
            raise ValueError(f"{value} is not a figure a gauge can show")
        self.value = value


class Histogram:
    """How many values fell into each bucket, and their sum. `counts` has one more entry than `bounds`, for +Inf."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """A value on a bound belongs to that bucket (`le` means less or equal). Raises `ValueError` for a negative or
        non-finite value."""
        if not 0 <= value <= MAX_VALUE:
            raise ValueError(f"{value} is not a value a histogram can take")
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Cell = TypeVar("Cell", Counter, Gauge, Histogram)


class Family(Generic[Cell]):
    """One catalogue row with its cells, one per combination of label values."""

    __slots__ = ("_cells", "_labels", "_new", "row")

    def __init__(self, row: Metric, new: Callable[[], Cell]) -> None:
        self.row = row
        self._new: Callable[[], Cell] = new
        self._labels = tuple((name, frozenset(values)) for name, values in row.labels.items())
        self._cells: dict[tuple[str, ...], Cell] = {}
        if not row.labels:
            self._cells[()] = new()
        elif row.precreated:
            for key in _combinations(tuple(row.labels.values())):
                self._cells[key] = new()

    def cell(self, labels: Mapping[str, str]) -> Cell:
        """The cell for these labels. Raises `KeyError` when the label names are not the declared ones."""
        if len(labels) != len(self._labels):
            raise self._wrong_labels(labels)
        try:
            key = tuple([value if (value := labels[name]) in permitted else OTHER for name, permitted in self._labels])
        except KeyError:
            raise self._wrong_labels(labels) from None
        found = self._cells.get(key)
        if found is None:
            found = self._cells[key] = self._new()
        return found

    def samples(self) -> Iterator[tuple[Labels, Cell]]:
        """Every cell with its labels, the constant ones first."""
        constant: Labels = tuple(self.row.constant.items())
        names = tuple(self.row.labels)
        for key, cell in self._cells.items():
            yield constant + tuple(zip(names, key, strict=True)), cell

    def _wrong_labels(self, labels: Mapping[str, str]) -> KeyError:
        expected = ", ".join(name for name, _ in self._labels) or "no labels"
        return KeyError(f"metric {self.row.name!r} takes {expected}, not {', '.join(labels) or 'none'}")


class State:
    """A one-hot gauge: which of its states holds, and the figure JSON shows for it."""

    __slots__ = ("current", "figure", "label", "row", "states")

    def __init__(self, row: Metric) -> None:
        self.row = row
        ((self.label, self.states),) = row.labels.items()
        self.current: str | None = None
        self.figure = Gauge()

    def select(self, value: float | None, labels: Mapping[str, str]) -> None:
        """`labels` names the state that holds now; an undeclared state is shown as the first declared one."""
        if set(labels) != {self.label}:
            raise KeyError(f"metric {self.row.name!r} takes {self.label}, not {', '.join(labels) or 'none'}")
        self.figure.set(value)
        state = labels[self.label]
        self.current = None if value is None else state if state in self.states else self.states[0]


AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram] | State
Collector = Callable[["Metrics"], None]


class Metrics:
    """All figures of one process.

    Collectors run before each view is rendered and set what is read rather than counted: memory, queue depths,
    connections. They must not raise.
    """

    __slots__ = ("_collectors", "_counters", "_gauges", "_histograms", "_states", "build", "families", "recent")

    def __init__(self, build: Mapping[str, str] | None = None) -> None:
        """`build`: the labels of `ray_build_info`; this copy's version and Python's when not given."""
        self.build = dict(build) if build is not None else {"version": VERSION, "python": _python_version()}
        self._counters: dict[str, Family[Counter]] = {}
        self._gauges: dict[str, Family[Gauge]] = {}
        self._histograms: dict[str, Family[Histogram]] = {}
        self._states: dict[str, State] = {}
        self._collectors: list[Collector] = []
        self.recent: dict[str, float | str | None] = dict.fromkeys(RECENT_KEYS)
        # In the catalogue's order, which is the order of both views.
        self.families: tuple[AnyFamily, ...] = tuple(self._declare(row) for row in CATALOGUE)

    def _declare(self, row: Metric) -> AnyFamily:
        if row.kind == "counter":
            return self._counters.setdefault(row.name, Family(row, Counter))
        if row.kind == "histogram":
            return self._histograms.setdefault(row.name, Family(row, lambda: Histogram(row.buckets)))
        if row.kind == "state":
            return self._states.setdefault(row.name, State(row))
        return self._gauges.setdefault(row.name, Family(row, Gauge))

    def increment(self, name: str, by: float = 1, **labels: str) -> None:
        """Count `by` events. Raises `KeyError` for an unknown name or wrong labels, `ValueError` as `Counter`."""
        self._counters[name].cell(labels).increment(by)

    def set(self, name: str, value: float | None, **labels: str) -> None:
        """Set a figure, in the unit of its JSON name. None: unknown from now on, left out of both views.

        Raises `KeyError` for an unknown name or wrong labels, `ValueError` as `Gauge`.
        """
        family = self._gauges.get(name)
        if family is not None:
            family.cell(labels).set(value)
        else:
            self._states[name].select(value, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value in base units (seconds, tokens per second). Raises as `increment` does."""
        self._histograms[name].cell(labels).observe(value)

    def note(self, key: str, value: float | str | None) -> None:
        """Remember what happened last, for the `recent` block. Raises `KeyError` for an unknown key."""
        if key not in self.recent:
            raise KeyError(key)
        self.recent[key] = value

    def counter(self, name: str, **labels: str) -> Counter:
        """The cell itself, for places that count often: `increment` on it costs no look-up."""
        return self._counters[name].cell(labels)

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The cell itself, for places that observe often."""
        return self._histograms[name].cell(labels)

    def add_collector(self, collector: Collector) -> None:
        """Have `collector(metrics)` called before each view is rendered, in the order of adding."""
        self._collectors.append(collector)

    def collect(self) -> None:
        """Bring the figures that are read rather than counted up to date."""
        for collector in self._collectors:
            collector(self)


def _combinations(sets: tuple[tuple[str, ...], ...]) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = [()]
    for values in sets:
        keys = [(*key, value) for key in keys for value in values]
    return keys


def _python_version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])
