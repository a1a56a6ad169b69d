"""What the backend did over a run: how often each prompt format, slot route, model and so on was reported.

Fed with the `diagnostics.provider` block of each answer; figures that an answer does not have do not count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from ray.bench.report.figures import quantile

# Key in the diagnostics, and of the counts in the summary.
_COUNTED = (
    ("requestShape", "requestShapes"),
    ("promptFormat", "promptFormats"),
    ("promptFormatReason", "promptFormatReasons"),
    ("slotRouteReason", "slotRouteReasons"),
    ("modelRef", "modelRefs"),
    ("backendModel", "backendModels"),
    ("launchPreset", "launchPresets"),
)


class ProviderTally:
    """Counts and figures over all answers that were added."""

    def __init__(self) -> None:
        self._answers = 0
        self._counts: dict[str, Counter[str]] = {name: Counter() for _, name in _COUNTED}
        self._contexts: list[float] = []
        self._cached: list[float] = []
        self._repairs = self._repaired = 0
        self._total_slots: float | None = None
        self._routed = self._reused = 0

    def add(self, provider: Mapping[str, object]) -> None:
        """Count one answer's diagnostics."""
        if not provider:
            return
        self._answers += 1
        for key, name in _COUNTED:
            value = provider.get(key)
            if isinstance(value, str) and value:
                self._counts[name][value] += 1
        self._repairs += provider.get("jsonRepairAttempted") is True
        self._repaired += provider.get("jsonRepairSucceeded") is True
        self._total_slots = figure(provider, "totalSlots") or self._total_slots
        slot, preferred = figure(provider, "slotId"), figure(provider, "preferredSlot")
        if slot is not None and preferred is not None:
            self._routed += 1
            self._reused += slot == preferred
        context, cached = figure(provider, "contextWindow"), figure(provider, "tokensCached")
        if context:
            self._contexts.append(context)
        if cached is not None:
            self._cached.append(cached)

    def include(self, other: ProviderTally) -> None:
        """Count what another tally has counted."""
        self._answers += other._answers
        for name, counts in other._counts.items():
            self._counts[name].update(counts)
        self._contexts += other._contexts
        self._cached += other._cached
        self._repairs += other._repairs
        self._repaired += other._repaired
        self._total_slots = other._total_slots or self._total_slots
        self._routed += other._routed
        self._reused += other._reused

    def document(self) -> dict[str, object] | None:
        """The block of the summary; None when no answer had diagnostics."""
        if not self._answers:
            return None
        document: dict[str, object] = {name: dict(sorted(counts.items())) for name, counts in self._counts.items()}
        if self._repairs:
            document |= {"jsonRepairAttempts": self._repairs, "jsonRepairSuccesses": self._repaired}
        if self._total_slots is not None:
            document["totalSlots"] = int(self._total_slots)
        if self._contexts:
            document["contextWindowP50"] = quantile(self._contexts, 0.5)
        if self._routed:
            document["slotReuseRate"] = 100 * self._reused / self._routed
        if self._cached:
            document["cachedTokensAvg"] = sum(self._cached) / len(self._cached)
        return {name: value for name, value in document.items() if value != {}}


def figure(document: Mapping[str, object], key: str) -> float | None:
    """A finite number of 0 or more, None when there is none."""
    value = document.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(value)
