"""Names to addresses, within a deadline that `getaddrinfo` does not have.

`getaddrinfo` cannot be cancelled, so it runs in a few daemon threads. An answer that comes too late is dropped; a
question that nobody waits for any more is not asked. Addresses are packed bytes: their text is never looked at.
Source: jobs, sections 17 (B8) and 18.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Lookup = Callable[[str], tuple[bytes, ...]]


class ResolutionFailed(Exception):
    """The name has no address, or the name servers did not say."""


def system_lookup(name: str) -> tuple[bytes, ...]:
    """All addresses of a name in the system's order, packed, each once. Blocks. Raises OSError."""
    # As bytes: for text, Python would load its codec for international names, and the name is ASCII already.
    found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    # A link-local answer carries its zone ("fe80::1%eth0"), which is no part of the address.
    texts = [(family, str(address[0]).partition("%")[0]) for family, _, _, _, address in found]
    return tuple(dict.fromkeys(socket.inet_pton(family, text) for family, text in texts))


@dataclass(slots=True, eq=False)
class _Question:
    name: str
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[tuple[bytes, ...]]


class Resolver:
    """At most `threads` lookups at a time; more wait within their own time. Used from one event loop."""

    def __init__(self, threads: int, name: str, lookup: Lookup = system_lookup) -> None:
        self._limit = threads
        self._name = name
        self._lookup = lookup
        self._changed = threading.Condition()
        self._questions: deque[_Question] = deque()
        self._started = 0
        self._free = 0
        self._closed = False

    async def resolve(self, name: str, timeout_s: float | None) -> tuple[bytes, ...]:
        """The packed addresses of a name, at least one. Raises `ResolutionFailed`, and `TimeoutError` after
        `timeout_s` seconds (None: the caller keeps the time)."""
        loop = asyncio.get_running_loop()
        question = _Question(name, loop, loop.create_future())
        self._ask(question)
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await question.answer
        finally:
            self._forget(question)
        if not addresses:
            raise ResolutionFailed(name)
        return addresses

    def close(self) -> None:
        """End the idle threads. One inside a lookup ends after it; being a daemon, it holds up no exit."""
        with self._changed:
            self._closed = True
            self._questions.clear()
            self._changed.notify_all()

    def _ask(self, question: _Question) -> None:
        with self._changed:
            if self._closed:
                raise ResolutionFailed("the resolver is closed")
            self._questions.append(question)
            if len(self._questions) > self._free and self._started < self._limit:
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
            else:
                self._changed.notify()

    def _forget(self, question: _Question) -> None:
        with self._changed, contextlib.suppress(ValueError):
            self._questions.remove(question)

    def _work(self) -> None:
        while (question := self._next()) is not None:
            try:
                addresses = self._lookup(question.name)
            except (OSError, UnicodeError, ValueError):
                addresses = ()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                question.loop.call_soon_threadsafe(_give, question.answer, addresses)

    def _next(self) -> _Question | None:
        with self._changed:
            self._free += 1
            try:
                while not self._questions:
                    if self._closed:
                        return None
                    self._changed.wait()
                return self._questions.popleft()
            finally:
                self._free -= 1


def _give(answer: asyncio.Future[tuple[bytes, ...]], addresses: tuple[bytes, ...]) -> None:
    """Late answers find the future cancelled and are dropped."""
    if not answer.done():
        answer.set_result(addresses)
