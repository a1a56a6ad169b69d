"""What a long measurement says on the way: which part begins, and about how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

# How often a part that consists of many equal pieces says where it is.
PIECES_SECONDS = 5.0

Say = Callable[[str], None]


def time_left(done: float, whole: float, seconds: float) -> float | None:
    """Seconds that the rest takes when it goes on like this; None before anything is done."""
    return None if done <= 0 else seconds * max(0.0, whole - done) / done


def about_left(seconds: float | None) -> str:
    """`seconds` as the end of a line of progress; nothing where nothing is known, or is left."""
    if seconds is None or seconds < 1:
        return ""
    return f", about {seconds:.0f} s left" if seconds < 120 else f", about {seconds / 60:.0f} min left"


@dataclass(slots=True)
class Steps:
    """The way through a measurement whose parts are known before it begins. A part's `cost` is about the seconds that
    it takes on two cores; only the ratios count, as the estimate goes by the pace so far. `whole`: of all parts."""

    say: Say
    whole: float
    clock: Callable[[], float] = time.monotonic
    done: float = 0.0
    began: float = field(init=False)
    _said: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self._said = self.clock()

    def begin(self, what: str) -> None:
        """A part begins."""
        self._said = self.clock()
        left = time_left(self.done, self.whole, self._said - self.began)
        self.say(f"{what}{about_left(left)}")

    def did(self, cost: float, piece: str | None = None) -> None:
        """So much more is done. `piece` says where a part is, and is passed on every few seconds."""
        self.done += cost
        if piece is not None and self.clock() - self._said >= PIECES_SECONDS:
            self.begin(piece)
