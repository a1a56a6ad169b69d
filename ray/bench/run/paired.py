"""The scores of two sides that were asked the same items: is one better, or is it the luck of the draw?

The answers to the same item are compared, because items differ far more than answers do, and the mean difference gets
its bounds from Student's t distribution (95 %). They are about other items of the same sort, too: more draws of the
same few items make them narrower only down to how much the items themselves differ. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ray.bench.report.figures import Figure
from ray.bench.run.sample import Sample

# Scores come in a few steps, so a few items easily differ by the same one, and then there seems to be no noise at all.
# That four toss the same way happens in one of sixteen cases.
FEWEST_ITEMS = 5
# Two-sided 95 %, for 1, 2, … degrees of freedom; beyond, the last one is a little too wide.
_STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def scores_by_item(samples: Iterable[Sample], *, failed: float | None = None) -> dict[int, float]:
    """The mean quality score of each item's answers. `failed`: what a request without an answer scores, None to leave
    it out."""
    scores: dict[int, list[float]] = {}
    for sample in samples:
        score = sample.quality_score if sample.answered else failed
        if score is not None:
            scores.setdefault(sample.item, []).append(score)
    return {item: sum(each) / len(each) for item, each in scores.items()}


def paired_difference(before: Mapping[int, float], after: Mapping[int, float]) -> Figure | None:
    """The mean difference over the items that both have, after minus before, with its 95 % bounds; `samples`: items.
    None when there are fewer than `FEWEST_ITEMS`."""
    differences = [after[item] - before[item] for item in before if item in after]
    count = len(differences)
    if count < FEWEST_ITEMS:
        return None
    mean = sum(differences) / count
    deviation = math.sqrt(sum((each - mean) ** 2 for each in differences) / (count - 1))
    reach = _STUDENT_T[min(count - 1, len(_STUDENT_T)) - 1] * deviation / math.sqrt(count)
    return Figure(mean, mean - reach, mean + reach, count)


def with_bounds(difference: Figure) -> str:
    """`+4.2 (-1.0..+9.4)`."""
    return f"{difference.value:+.1f} ({difference.low:+.1f}..{difference.high:+.1f})"
