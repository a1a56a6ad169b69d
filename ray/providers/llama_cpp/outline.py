"""What a chat template puts around a system text and a user's message, learned from the server's own renderings.

A scaffold belongs to one system text. Where many come, each only once, the server would be asked twice for every one of
them, although its text differs in nothing but the system text. Two renderings with different system texts show that:
they must be the same but for these. From then on a scaffold is put together without asking.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

# A template may write today's date into a prompt, so what was learned is compared again from time to time.
TRUSTED_SECONDS = 600.0
# Chat templates look for tags in messages, and for switches such as `/no_think` in the system text.
_TAG = re.compile(r"</?[A-Za-z|_]")
_SWITCH = re.compile(r"(?:^|\s)/[A-Za-z_]")


def is_plain(text: str) -> bool:
    """Whether a message is one that chat templates take as it is: they trim messages and look for tags in them."""
    return text != "" and text == text.strip() and not _TAG.search(text)


@dataclass(frozen=True, slots=True)
class _Around:
    """The text before the system text, between it and the message, and after the message."""

    before: str
    between: str
    after: str


class Outline:
    """What is known of one server's template. `clock`: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._around: _Around | None = None
        self._system = ""
        self._trusted_until: float | None = None

    def around_message(self, system: str) -> tuple[str, str] | None:
        """What stands before and after a user's message in a conversation that opens with `system`; None while that is
        not known for sure."""
        around = self._around
        if around is None or self._trusted_until is None or self._clock() >= self._trusted_until:
            return None
        if not _is_ordinary(system):
            return None
        return around.before + system + around.between, around.after

    def learn(self, system: str, head: str, tail: str) -> None:
        """The server has put `head` before a user's message and `tail` after it, when the system text was `system`."""
        if not _is_ordinary(system):
            return
        around = self._around
        if around is not None and around.before + system + around.between == head and around.after == tail:
            if system != self._system:
                self._trusted_until = self._clock() + TRUSTED_SECONDS
            return
        # The first one, or another one than before: the next has to agree with it.
        before, found, between = head.partition(system)
        is_single = found and system not in between
        self._around = _Around(before, between, tail) if is_single else None
        self._system = system
        self._trusted_until = None

    def forget(self) -> None:
        """The server is another one."""
        self._around = None
        self._trusted_until = None


def _is_ordinary(system: str) -> bool:
    return is_plain(system) and not _SWITCH.search(system)
