"""Waiting for what another process does: bounded polling, for tests that start real ones."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(happened: Callable[[], bool], seconds: float = 90) -> None:
    """Return as soon as `happened`; fail after `seconds`."""
    give_up = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.005)
