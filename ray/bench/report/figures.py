"""Figures out of samples: quantiles, and a median with its spread.

Pure arithmetic, no units: whoever asks knows whether the samples are seconds, MB or requests per second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `low` and `high` span the repetitions it was taken from (`samples` of them)."""

    value: float
    low: float
    high: float
    samples: int


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample below which `share` (0 to 1) of the others lie: index floor((n - 1) x share), not interpolated.

    What comes out is therefore always a time that really happened. Raises `ValueError` when there are no samples.
    """
    if not samples:
        raise ValueError("a quantile needs at least one sample")
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile's share lies between 0 and 1, not at {share}")
    return sorted(samples)[int((len(samples) - 1) * share)]


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the two in the middle. Raises `ValueError` when there are none."""
    if not samples:
        raise ValueError("a median needs at least one sample")
    ordered = sorted(samples)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def repeated(samples: Sequence[float]) -> Figure:
    """The median of repeated measurements, with the smallest and the largest of them as its spread."""
    return Figure(median(samples), min(samples), max(samples), len(samples))


def single(value: float) -> Figure:
    """A number that was taken once, so it has no spread."""
    return Figure(value, value, value, 1)
