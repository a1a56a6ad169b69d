"""An event loop whose time jumps to the next timer instead of waiting for it: a day of load in a second, exactly."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

Result = TypeVar("Result")


class _Jumping(selectors.SelectSelector):
    """Where the loop would sleep, `now` moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is scheduled any more: the test would hang")
            self.now += max(0.0, timeout)
        return ready


def run_in_virtual_time(main: Coroutine[Any, Any, Result], patch: pytest.MonkeyPatch) -> Result:
    """Run `main` to its end. `time.monotonic` and with it every deadline follow the loop's own time; whoever kept a
    reference to the real function does not."""
    selector = _Jumping()
    patch.setattr(time, "monotonic", lambda: selector.now)
    loop = asyncio.SelectorEventLoop(selector)
    # What goes wrong in a timer's callback has nobody to be raised to.
    broken: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: broken.append(context.get("exception") or AssertionError(context)))
    try:
        result = loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
        patch.undo()
    if broken:
        raise broken[0]
    return result
