"""Vectors of texts, through the same scheduler as answers: counted, bounded by the deadline, never in anybody's way.

A few texts at a time: each group is a short job with a cost of its own, so a long list neither needs room for all its
tokens at once nor keeps others waiting. The backend reads them in whichever slots it likes, so the scheduler neither
gives one nor believes that an idle one still holds what it held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from ray.clock import Deadline
from ray.config import Config
from ray.errors import RayError
from ray.providers import Provider
from ray.runtime.books import Books
from ray.runtime.generation import Phase, timed_out
from ray.runtime.result import CHARS_PER_TOKEN
from ray.runtime.scheduler import Scheduler, Ticket
from ray.types import Embeddings

MAX_TEXTS_PER_GROUP = 8


class Embedder:
    """Has texts embedded by a runtime's provider. `alive` is called for each answer of the backend, `noted` for each
    failure."""

    def __init__(
        self,
        config: Config,
        provider: Provider,
        scheduler: Scheduler,
        books: Books,
        *,
        alive: Callable[[], None],
        noted: Callable[[RayError], None],
    ) -> None:
        self._timeout_ms = config.scheduler.request_timeout_ms
        self._provider = provider
        self._scheduler = scheduler
        self._books = books
        self._alive = alive
        self._noted = noted

    async def embed(self, texts: tuple[str, ...], deadline: Deadline, request_id: str) -> Embeddings:
        """One vector for each text. Logs and counts its own failure, as a reader does.

        Raises `RayError`: what the scheduler and the provider raise, and `request_timeout` at the deadline.
        """
        started_at = time.monotonic()
        found: list[Embeddings] = []
        try:
            for group, cost in groups(texts, self._scheduler.largest_cost):
                found.append(await self._one(group, cost, deadline))
        except RayError as error:
            self._books.unanswered(request_id, error)
            raise
        counts = [each.tokens for each in found if each.tokens is not None]
        tokens = sum(counts) if len(counts) == len(found) else None
        self._books.embedded(time.monotonic() - started_at, tokens)
        model = found[0].model if found else self._provider.model_id
        return Embeddings(model, tuple(vector for each in found for vector in each.vectors), tokens)

    async def _one(self, texts: tuple[str, ...], cost: int, deadline: Deadline) -> Embeddings:
        """The vectors of one group."""
        phase: Phase = "queue"
        try:
            async with (
                asyncio.timeout(deadline.remaining()),
                self._scheduler.admit(Ticket(cost, "short", deadline, is_pinnable=False)) as admission,
            ):
                phase = "generate"
                self._books.admitted("short", admission.queue_time_ms)
                found = await self._provider.embed(texts, deadline)
        except (TimeoutError, RayError) as error:
            # The backend call ends at the same moment and may report first; the client's time ran out all the same.
            is_late = isinstance(error, TimeoutError) or deadline.expired()
            failure = timed_out(phase, self._timeout_ms) if is_late else error
            assert isinstance(failure, RayError)
            if is_late and phase == "queue":
                self._books.refused(failure)
            elif not is_late:
                self._noted(failure)
            raise failure from None
        self._alive()
        return found


def groups(texts: Sequence[str], limit: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """The texts in order, a few together, each time with what they cost: tokens, four characters each.

    No group costs more than `limit` unless a single text does.
    """
    group: list[str] = []
    together = 0
    for text in texts:
        cost = max(1, -(-len(text) // CHARS_PER_TOKEN))
        if group and (len(group) >= MAX_TEXTS_PER_GROUP or together + cost > limit):
            yield tuple(group), together
            group, together = [], 0
        group.append(text)
        together += cost
    if group:
        yield tuple(group), together
