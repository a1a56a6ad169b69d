"""The waiting line and the choice of who goes next: values and pure functions, no books and no clock of their own."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from ray.types import Lane

# The starvation guard: past this share of the request timeout, and at most this long, a ticket goes before all others.
GUARD_SHARE_OF_TIMEOUT = 0.25
MAX_GUARD_MS = 5_000.0

NOBODY: frozenset[str] = frozenset()


class Weights(NamedTuple):
    """What moves a ticket forward, in points. `hot`: its prefix lies in the KV cache of a free slot. `continues`: so do
    all earlier turns of its conversation, which the slot's next guest would wipe out. `company`: others in line share
    its prefix, so reading it serves them all, and a lonely one may find company meanwhile."""

    hot: float = 220.0  # worth 5.5 s of waiting, more than the guard lets anybody wait for it
    continues: float = 40.0  # worth 1 s
    short_lane: float = 120.0  # worth 3 s
    company: float = 80.0  # worth 2 s
    waited_ms_per_point: float = 25.0


WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Waiting:
    """One place in the waiting line. `since`: seconds on the scheduler's clock; `order`: arrival number; `affinity`:
    what requests with the same beginning have in common, or None; `continues`: key of the turns that it goes on with,
    or None."""

    cost: int
    lane: Lane
    since: float
    order: int
    affinity: str | None = None
    continues: str | None = None


def guard_seconds(request_timeout_ms: float) -> float:
    """How long a ticket may wait before it goes first."""
    return min(MAX_GUARD_MS, request_timeout_ms * GUARD_SHARE_OF_TIMEOUT) / 1000


def score(
    place: Waiting,
    now: float,
    hot: AbstractSet[str] = NOBODY,
    company: AbstractSet[str] = NOBODY,
    weights: Weights = WEIGHTS,
) -> float:
    """How strongly a waiting ticket asks to go next, in points. All age at the same rate."""
    points = (now - place.since) * 1000 / weights.waited_ms_per_point
    if place.lane == "short":
        points += weights.short_lane
    if place.continues in hot:
        points += weights.hot + weights.continues
    elif place.affinity in hot:
        points += weights.hot
    if place.affinity in company:
        points += weights.company
    return points


def in_company(line: Sequence[Waiting]) -> set[str]:
    """The affinities that more than one place of the line has."""
    seen: set[str] = set()
    shared: set[str] = set()
    for place in line:
        if place.affinity is not None:
            (shared if place.affinity in seen else seen).add(place.affinity)
    return shared


def choose(
    line: Sequence[Waiting],
    *,
    now: float,
    free_tokens: int,
    lookahead: int,
    guard_s: float,
    hot: AbstractSet[str] = NOBODY,
    held: AbstractSet[str] = NOBODY,
    weights: Weights = WEIGHTS,
) -> Waiting | None:
    """Who goes next of `line` (in order of arrival), or None if nobody may go now.

    The oldest ticket past the guard goes first, held or not; while it does not fit, its tokens are being saved up and
    nobody overtakes it. Otherwise each lane offers its best of the first `lookahead` places that may go (if none of
    these may, of all that may), and the higher score wins; a tie goes to the earlier place, between lanes to `short`.

    A ticket may go when it fits into `free_tokens` and its affinity is not in `held`: one whose prefix is being read
    just now, so that waiting for it is cheaper than reading it again. `hot`: affinities that a free slot holds.
    """
    if line and now - line[0].since >= guard_s:
        return line[0] if line[0].cost <= free_tokens else None
    company = in_company(line)
    best: Waiting | None = None
    best_score = 0.0
    for lane in ("short", "draft"):
        in_lane = [place for place in line if place.lane == lane]
        ready = [place for place in in_lane[:lookahead] if place.cost <= free_tokens and place.affinity not in held]
        if not ready:
            later = in_lane[lookahead:]
            ready = [place for place in later if place.cost <= free_tokens and place.affinity not in held]
        for place in ready:
            points = score(place, now, hot, company, weights)
            if best is None or points > best_score:
                best, best_score = place, points
    return best
