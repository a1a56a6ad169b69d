"""The slots of a llama-server as `/slots` shows them: which are busy, and how many tokens each one holds.

For people and for health only. Polling is rare (once a second at most) because it takes part in the server's task
queue and wakes a sleeping server; a server without the endpoint is asked again after a minute.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from ray.errors import RayError
from ray.providers.reading import count, mapping
from ray.providers.upstream import Upstream

MAX_SLOTS = 64
MIN_POLL_SECONDS = 1.0
FAILURE_MEMORY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot. `prompt_tokens`: tokens of its last prompt that were read; `cache_tokens`: tokens it holds now."""

    id: int
    is_processing: bool
    task_id: int | None = None
    context_window: int | None = None
    prompt_tokens: int | None = None
    cache_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SlotSnapshot:
    """`slots` is None when they could not be read; then `error` says why, if it was tried."""

    slots: tuple[SlotState, ...] | None = None
    error: str | None = None


class SlotReader:
    """Reads `/slots`, seldom. `restarts`: how often what it read showed a server that had begun anew."""

    def __init__(self, upstream: Upstream, context_window: int, timeout_ms: int) -> None:
        self._upstream = upstream
        self._context_window = context_window
        self._timeout_ms = timeout_ms
        self._snapshot = SlotSnapshot()
        self._next_read_at = 0.0
        self._tasks: dict[int, int | None] = {}
        self.restarts = 0

    async def snapshot(self) -> SlotSnapshot:
        """The slots, at most a second old. Never raises."""
        if time.monotonic() < self._next_read_at:
            return self._snapshot
        self._next_read_at = time.monotonic() + MIN_POLL_SECONDS
        try:
            document = await self._upstream.call("GET", "/slots", timeout_ms=self._timeout_ms)
            slots = read_slots(document, self._context_window)
            tasks = {slot.id: slot.task_id for slot in slots}
            self.restarts += has_begun_anew(self._tasks, tasks)
            self._tasks = tasks
            self._snapshot = SlotSnapshot(slots)
        except RayError as error:
            self._snapshot = SlotSnapshot(error=error.message)
            self._next_read_at = time.monotonic() + FAILURE_MEMORY_SECONDS
        return self._snapshot

    def read_soon(self) -> None:
        """The server is in trouble: what comes after may be another process, and is looked at without delay."""
        self._next_read_at = 0.0

    def forget(self) -> None:
        """The server is another one: what was seen, and what failed, no longer holds."""
        self._snapshot, self._next_read_at = SlotSnapshot(), 0.0
        self._tasks = {}


def has_begun_anew(before: Mapping[int, int | None], now: Mapping[int, int | None]) -> bool:
    """Whether a slot's last task (by slot id) lies in the past of the one seen before, or is gone.

    llama-server numbers its tasks upwards from its start, and a slot keeps the number of its last one while it is
    idle. So this shows a process that took the place of another one, with the same model, between two looks.
    """
    for slot, task in now.items():
        known = before.get(slot)
        if known is not None and (task is None or task < known):
            return True
    return False


def read_slots(document: object, context_window: int) -> tuple[SlotState, ...]:
    """Up to 64 slots from a list or `{"slots": [...]}`; entries without a usable id are skipped, counts above
    `context_window` are left out."""
    entries = document if isinstance(document, list) else mapping(document).get("slots")
    slots: list[SlotState] = []
    for entry in entries if isinstance(entries, list) else []:
        given = mapping(entry)
        number = count(given.get("id"))
        if number is None:
            number = count(given.get("id_slot"))
        if number is None:
            continue
        task = count(given.get("id_task"))
        slots.append(
            SlotState(
                id=number,
                is_processing=given.get("is_processing") is True,
                task_id=count(given.get("task_id")) if task is None else task,
                context_window=count(given.get("n_ctx"), context_window),
                prompt_tokens=count(given.get("n_prompt_tokens_processed"), context_window),
                cache_tokens=count(given.get("n_prompt_tokens"), context_window),
            )
        )
        if len(slots) == MAX_SLOTS:
            break
    return tuple(slots)
