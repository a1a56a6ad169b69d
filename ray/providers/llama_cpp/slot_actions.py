"""What Ray has llama-server do with a slot that it owns: evaluate a prefix in it, save it, restore it.

Needs `--slot-save-path`. Saving and restoring take milliseconds; on a slot that is busy they wait until it is free, and
that is the only way to find out without `/slots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.llama_cpp.completion import COMPLETION_PATH, RESPONSE_FIELDS
from ray.providers.llama_cpp.slots import read_slots
from ray.providers.reading import count, mapping, number, parse_json
from ray.providers.upstream import Upstream, upstream_status

# A large model's snapshot takes a second on a slow disk; what takes longer waits for a slot that somebody else uses.
ACTION_TIMEOUT_MS = 10_000
PROBE_TIMEOUT_MS = 2_500


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A prefix was read. `tokens`: all of it; `cached`: those that had not to be read again; `slot`: where, by the
    server's own words; `prompt_ms`: time for the others."""

    tokens: int
    cached: int
    slot: int | None
    prompt_ms: float


class SlotActions:
    """Slot calls of one server. All raise `RayError` with a `provider_…` code, or `request_timeout`."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def supported(self) -> bool:
        """Whether the server was started with `--slot-save-path`. Changes nothing: an action that does not exist is
        refused with 400 where actions are allowed, and with 501 where they are not."""
        try:
            await self._upstream.call("POST", "/slots/0?action=none", {}, timeout_ms=PROBE_TIMEOUT_MS)
        except RayError as error:
            status = upstream_status(error)
            if status is None or status == 503:
                raise
            return status == 400
        return False

    async def evaluate(self, slot: int, text: str, deadline: Deadline) -> Evaluation:
        """Read `text` into a slot and generate nothing. Streamed, so that cancelling frees the slot at once."""
        body: dict[str, object] = {
            "prompt": text,
            "n_predict": 0,
            "temperature": 0,
            "id_slot": slot,
            "cache_prompt": True,
            "stream": True,
            "response_fields": list(RESPONSE_FIELDS),
        }
        last: object = None
        async with self._upstream.stream(COMPLETION_PATH, body, deadline=deadline) as answer:
            if not answer.is_event_stream:
                last = await answer.document()
            else:
                async for events in answer:
                    for data in events:
                        last = _event(self._upstream, data)
                    if mapping(last).get("stop") is True or "error" in mapping(last):
                        break
        return self._evaluation(mapping(last))

    async def save(self, slot: int, file_name: str, deadline: Deadline) -> int:
        """Write what the slot holds to a file in the server's own directory; the number of tokens."""
        return await self._act(slot, "save", file_name, "n_saved", deadline)

    async def restore(self, slot: int, file_name: str, deadline: Deadline) -> int:
        """Replace what the slot holds by a file; the number of tokens. The file must be intact: the server crashes on
        one that is cut short."""
        return await self._act(slot, "restore", file_name, "n_restored", deadline)

    async def erase(self, slot: int, deadline: Deadline) -> None:
        """Empty the slot: its cells of a shared KV cache are free for others."""
        await self._upstream.call(
            "POST", f"/slots/{slot}?action=erase", {}, deadline=deadline, timeout_ms=ACTION_TIMEOUT_MS
        )

    async def is_busy(self, slot: int) -> bool:
        """Whether somebody uses the slot at this moment. False when the server does not tell."""
        try:
            document = await self._upstream.call("GET", "/slots", timeout_ms=PROBE_TIMEOUT_MS)
        except RayError:
            return False
        return any(seen.id == slot and seen.is_processing for seen in read_slots(document, 1))

    async def _act(self, slot: int, action: str, file_name: str, figure: str, deadline: Deadline) -> int:
        path = f"/slots/{slot}?action={action}"
        answer = mapping(
            await self._upstream.call(
                "POST", path, {"filename": file_name}, deadline=deadline, timeout_ms=ACTION_TIMEOUT_MS
            )
        )
        tokens = count(answer.get(figure))
        if tokens is None:
            raise self._upstream.invalid(path, f"has no {figure}")
        return tokens

    def _evaluation(self, last: Mapping[str, object]) -> Evaluation:
        if "error" in last:
            raise self._upstream.reported(COMPLETION_PATH, last["error"] or "unspecified")
        given = mapping(last.get("timings"))
        tokens = count(last.get("tokens_evaluated"))
        if last.get("stop") is not True or tokens is None:
            raise self._upstream.invalid(COMPLETION_PATH, "does not end like a completion")
        return Evaluation(
            tokens, count(given.get("cache_n")) or 0, count(last.get("id_slot")), number(given.get("prompt_ms")) or 0.0
        )


def _event(upstream: Upstream, data: str) -> object:
    try:
        return parse_json(data)
    except ValueError as error:
        raise upstream.invalid(COMPLETION_PATH, f"holds an event that is not JSON ({error})") from None
