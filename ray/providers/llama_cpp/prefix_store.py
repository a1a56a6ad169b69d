"""The prefix store: a prompt's prefix is read once, kept on disk, and put back into a slot instead of read again.

With the store in use the scheduler assigns the slots, and before each generation `place` brings the prefix into the
slot: it is there already (hot), or a snapshot is restored, or it is evaluated, and saved once it was seen often enough.
What is saved is the prefix alone, so no snapshot holds a customer's words.

What a server claims is not believed: the answer's own count of reused tokens proves that a prefix was there. After
three restores in a row without that proof the store is out of use for this backend. No failure of the store fails a
request: at worst a prompt is read as if there were no store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ray.clock import Deadline
from ray.config import LaunchProfile, PrefixStoreConfig
from ray.errors import RayError
from ray.host import DiskThread
from ray.providers.base import PrefixObserver, PromptPrefix
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.llama_cpp.fingerprint import backend_fingerprint, prefix_key
from ray.providers.llama_cpp.prefix_books import Level, PrefixBooks
from ray.providers.llama_cpp.prefixes import Sightings
from ray.providers.llama_cpp.slot_actions import Evaluation, SlotActions
from ray.providers.llama_cpp.snapshot_files import snapshot_name, unfinished_name
from ray.providers.llama_cpp.snapshots import MIB, Backoff, Snapshots
from ray.providers.upstream import upstream_status
from ray.types import PrefixState, PrefixUse, ProviderDiagnostics

# Where a prefix ends and a value begins, a token or two may come out differently; sliding windows are rewound in steps.
TOLERATED_TOKENS = 8
MAX_FAILED_PROOFS = 3
# After so many hot slots in a row that had to be read again, the backend cannot go back inside its cache (a sliding
# window, a recurrent state), or somebody else uses it: restoring is cheap and does not depend on that.
MAX_FAILED_HOT_PROOFS = 2
MAX_IGNORED_SLOTS = 3
# How long slots are asked whether they are busy, after something has shown that somebody else may use the server.
SUSPICION_SECONDS = 60.0
RETRY_SECONDS = 60.0
# Reading speed is learned from prompts of at least that many tokens.
MIN_TIMED_TOKENS = 32
NO_SLOT_ACTIONS = "the backend was started without --slot-save-path"


@dataclass(frozen=True, slots=True)
class Placement:
    """What was done for one generation. `slot`: to name in the request, None to let the server choose; `state` and
    `reused`: how the prefix came in, and its tokens that were not read again on the way; `required`: tokens that the
    answer must report as reused, 0 when there is nothing to prove; `ready`: the prefix is in the slot."""

    slot: int | None
    state: PrefixState = "none"
    prefix: PromptPrefix | None = None
    reused: int = 0
    required: int = 0
    ready: bool = False


class PrefixStore:
    """One backend's slots and one directory of snapshots. Used from the event loop only."""

    def __init__(
        self,
        config: PrefixStoreConfig,
        profile: LaunchProfile | None,
        actions: SlotActions,
        observer: PrefixObserver | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.min_tokens = config.min_tokens
        self.epoch = 0
        self._min_sightings = config.min_sightings
        self._profile = profile
        self._actions = actions
        self._clock = clock
        self._books = PrefixBooks(observer, self._level)
        self._disk = DiskThread("ray-prefixes")
        self._snapshots = Snapshots(config.storage_dir, config.max_mib * MIB, self._disk, self._books, clock=clock)
        self._sightings = Sightings()
        self._restoring = Backoff(clock)
        self._meeting = asyncio.Lock()
        self._met: Capabilities | None = None
        self._marks: object = None
        self._instance: str | None = None
        self._fingerprint: str | None = None
        self._slots: int | None = None
        self._is_open = False
        # Why the store is not in use: until the next look at the backend, or for good on this backend.
        self._obstacle: str | None = "the backend has not been asked yet"
        self._switched_off: str | None = None
        self._look_again_at = 0.0
        self._held: dict[int, str] = {}
        self._failed_proofs = self._failed_evaluations = self._failed_hot_proofs = self._ignored_slots = 0
        self._suspicious_until = 0.0
        self._ms_per_token: float | None = None

    # -- what is usable

    @property
    def assignable_slots(self) -> int | None:
        """How many slots may be assigned; None while the server chooses."""
        return self._slots if self._obstacle is None and self._switched_off is None else None

    def health(self) -> Mapping[str, object]:
        """The block of `/health`; `reason` says why the store is not in use."""
        reason = self._switched_off or self._obstacle
        return {
            "enabled": True,
            "active": reason is None,
            **({} if reason is None else {"reason": reason}),
            "slots": self.assignable_slots or 0,
            "entries": self._snapshots.entries,
            "bytes": self._snapshots.bytes,
            "maxBytes": self._snapshots.max_bytes,
            "unknownFiles": self._snapshots.unknown_files,
            **self._books.figures(),
        }

    async def meet(self, found: Capabilities) -> None:
        """Take note of what the backend is now: another one, restarted, with or without slot actions. Never raises."""
        if self._is_current(found):
            return
        async with self._meeting:
            if not self._is_current(found):
                await self._meet(found)

    def lost(self) -> None:
        """The backend has lost its KV caches, or has gone: nothing is hot any more, and it is looked at again."""
        if self._held:
            self._held.clear()
        self.epoch += 1
        self._met = None

    # -- before and after a generation

    def prefix(self, text: str, tokens: int, *, wanted: bool) -> PromptPrefix | None:
        """The prefix of a request that has just arrived, counted as seen; None when it is too short to keep or the
        store is not in use. `wanted`: worth saving however seldom it was seen."""
        if self._fingerprint is None or self.assignable_slots is None or tokens < self.min_tokens:
            return None
        key = prefix_key(self._fingerprint, text)
        sightings = self._sightings.add(key, self._min_sightings if wanted else 1)
        return PromptPrefix(key, text, tokens, worth_saving=sightings >= self._min_sightings)

    async def place(self, slot: int, prefix: PromptPrefix | None, hot: bool, deadline: Deadline) -> Placement:
        """Bring `prefix` into `slot`. `hot`: the scheduler knows nothing against its being there already.

        While this runs, and if it is cancelled, nothing is claimed about the slot. Raises `request_timeout` only.
        """
        if self._slots is None or self.assignable_slots is None or slot >= self._slots:
            return Placement(None)
        if self._clock() < self._suspicious_until and await self._actions.is_busy(slot):
            self._held.pop(slot, None)
            self._books.failed("busy")
            return Placement(None, prefix=prefix)
        held = self._held.pop(slot, None)
        if prefix is None:
            return Placement(slot)
        is_hot = hot and held == prefix.key and self._failed_hot_proofs < MAX_FAILED_HOT_PROOFS
        if not is_hot:
            restored = await self._restored(slot, prefix, deadline)
            if restored is not None:
                return restored
        if self._is_worth_saving(prefix) and await self._snapshots.may_write(prefix.key):
            return await self._evaluated(slot, prefix, is_hot, deadline)
        if is_hot:
            self._held[slot] = prefix.key
            required = prefix.tokens - TOLERATED_TOKENS
            return Placement(slot, "hot", prefix, required=required, ready=True)
        # Read as a part of the whole prompt.
        return Placement(slot, "evaluated", prefix)

    def reading_over(self, placement: Placement) -> None:
        """The first token of the answer has come, so the whole prompt is in the slot."""
        if placement.slot is not None and placement.prefix is not None:
            self._held[placement.slot] = placement.prefix.key

    def broken(self, placement: Placement) -> None:
        """The generation failed: nobody knows what the slot holds."""
        if placement.slot is not None:
            self._held.pop(placement.slot, None)

    def over(self, placement: Placement, answer: ProviderDiagnostics) -> PrefixUse:
        """The generation is over: is what was claimed true?"""
        self._learn_speed(answer)
        if placement.slot is None:
            # The server has chosen, so what it chose now holds something else.
            self._held.pop(-1 if answer.slot_id is None else answer.slot_id, None)
            return PrefixUse("none", 0)
        if answer.slot_id is not None and answer.slot_id != placement.slot:
            self._slot_ignored(placement.slot, answer.slot_id)
            return PrefixUse("none", 0)
        self._ignored_slots = 0
        prefix = placement.prefix
        if prefix is None:
            return PrefixUse("none", 0)
        cached = min(answer.tokens_cached or 0, prefix.tokens)
        state, reused = placement.state, placement.reused
        if not self._proven(placement, answer.tokens_cached or 0):
            state, reused = "none", min(reused, cached)
        elif not placement.ready:
            # Nothing was claimed, but the slot may have held the prefix by chance.
            state, reused = "hot" if cached >= prefix.tokens - TOLERATED_TOKENS else "evaluated", cached
        elif state != "evaluated":
            reused = cached
        self._books.hit(state, reused, reused * (self._ms_per_token or 0.0) / 1000)
        return PrefixUse(state, reused)

    async def close(self) -> None:
        """Finish what is being written."""
        await self._snapshots.settle()
        await self._disk.close()

    # -- meeting the backend

    def _is_current(self, found: Capabilities) -> bool:
        if found.fingerprint is None:
            # It could not be asked.
            return True
        return found is self._met and (self._obstacle is None or self._clock() < self._look_again_at)

    async def _meet(self, found: Capabilities) -> None:
        marks = (found.fingerprint, found.instance, found.model_ftype, found.slot_window, found.total_slots)
        is_same = marks == self._marks and self._met is not None and not found.is_sleeping
        if not (is_same and self._obstacle is None):
            self._look_again_at = self._clock() + RETRY_SECONDS
            fingerprint = await self._disk.run(partial(backend_fingerprint, found, self._profile))
            if fingerprint != self._fingerprint:
                self._renew(fingerprint)
            elif found.instance != self._instance or found.is_sleeping:
                # Restarted, or asleep without its model.
                self.lost()
            self._slots, self._marks, self._instance = found.total_slots, marks, found.instance
            if not found.is_sleeping:
                self._obstacle = await self._find_obstacle(found)
            self._books.changed()
        self._met = found

    def _renew(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._switched_off = None
        self._failed_proofs = self._failed_evaluations = self._failed_hot_proofs = self._ignored_slots = 0
        self._ms_per_token = None
        self.lost()

    async def _find_obstacle(self, found: Capabilities) -> str | None:
        """Why the store cannot be used at the moment."""
        if not found.total_slots:
            return "the backend does not say how many slots it has"
        if not self._is_open:
            refused = await self._snapshots.open()
            if refused is not None:
                self._books.failed("directory")
                return f"the directory of the snapshots cannot be used: {refused}"
            self._is_open = True
        try:
            return None if await self._actions.supported() else NO_SLOT_ACTIONS
        except RayError as error:
            return error.message

    def _level(self) -> Level:
        snapshots = self._snapshots
        return snapshots.bytes, snapshots.entries, snapshots.unknown_files, self.assignable_slots is not None

    # -- bringing a prefix in

    def _is_worth_saving(self, prefix: PromptPrefix) -> bool:
        """Asked late, because relatives that arrived while this one waited count as well."""
        if self._snapshots.known(prefix.key):
            return False
        return prefix.worth_saving or self._sightings.count(prefix.key) >= self._min_sightings

    async def _restored(self, slot: int, prefix: PromptPrefix, deadline: Deadline) -> Placement | None:
        """None when there is no snapshot, or it cannot be had."""
        if self._restoring.pausing:
            return None
        snapshot = await self._snapshots.find(prefix.key)
        if snapshot is None:
            return None
        required = snapshot.tokens - TOLERATED_TOKENS
        try:
            tokens = await self._actions.restore(slot, snapshot_name(prefix.key), deadline)
        except RayError as error:
            self._action_failed("restore", error, self._restoring)
            return None
        if tokens < required:
            self._books.failed("restore")
            self._snapshots.discard(prefix.key)
            return None
        self._restoring.worked()
        self._books.restored()
        self._held[slot] = prefix.key
        return Placement(slot, "restored", prefix, required=required, ready=True)

    async def _evaluated(self, slot: int, prefix: PromptPrefix, is_hot: bool, deadline: Deadline) -> Placement:
        """Read the prefix alone, and save it. A hot one costs a token, so that the rest is not saved with it."""
        try:
            evaluation = await self._actions.evaluate(slot, prefix.text, deadline)
        except RayError as error:
            if error.code == "request_timeout":
                raise
            self._books.failed("evaluate")
            return Placement(slot, "evaluated", prefix)
        if evaluation.slot is not None and evaluation.slot != slot:
            self._slot_ignored(slot, evaluation.slot)
            return Placement(None, prefix=prefix)
        self._learn_reading(evaluation.tokens - evaluation.cached, evaluation.prompt_ms)
        await self._save(slot, prefix, evaluation, deadline)
        self._held[slot] = prefix.key
        is_hot = is_hot and evaluation.cached >= evaluation.tokens - TOLERATED_TOKENS
        return Placement(
            slot,
            "hot" if is_hot else "evaluated",
            prefix,
            reused=min(evaluation.cached, prefix.tokens),
            required=evaluation.tokens - TOLERATED_TOKENS,
            ready=True,
        )

    async def _save(self, slot: int, prefix: PromptPrefix, evaluation: Evaluation, deadline: Deadline) -> None:
        try:
            tokens = await self._actions.save(slot, unfinished_name(prefix.key), deadline)
        except RayError as error:
            self._action_failed("save", error, None)
            self._snapshots.discard_unfinished(prefix.key)
            return
        if not evaluation.tokens - TOLERATED_TOKENS <= tokens <= evaluation.tokens:
            # Fewer: nothing worth restoring. More: somebody else's words are in it, and they are not to be kept.
            self._snapshots.write_failed()
            self._snapshots.discard_unfinished(prefix.key)
            self._suspect()
            return
        self._snapshots.adopt(prefix.key, tokens)

    def _action_failed(self, operation: str, error: RayError, backoff: Backoff | None) -> None:
        if error.code == "request_timeout":
            raise error
        if upstream_status(error) in (404, 501):
            self._obstacle, self._look_again_at = NO_SLOT_ACTIONS, self._clock() + RETRY_SECONDS
        if error.code == "provider_timeout":
            self._suspect()
        if backoff is None:
            self._snapshots.write_failed(operation)
        else:
            self._books.failed(operation)
            backoff.failed()
        self._books.changed()

    # -- proof

    def _proven(self, placement: Placement, cached: int) -> bool:
        """Whether the answer covers what was claimed, and what follows if it does not."""
        if placement.required <= 0:
            return True
        if cached >= placement.required:
            if placement.state == "restored":
                self._failed_proofs = 0
            elif placement.state == "evaluated":
                self._failed_evaluations = 0
            elif self._failed_hot_proofs < MAX_FAILED_HOT_PROOFS:
                self._failed_hot_proofs = 0
            return True
        self._books.proof_failed()
        self._suspect()
        if placement.state == "hot":
            # One slot was not what it should be; neither may the others be, after a restart that nobody noticed.
            self._failed_hot_proofs += 1
            self._held.clear()
            self.epoch += 1
        elif placement.state == "restored":
            self._failed_proofs += 1
            if placement.prefix is not None:
                self._snapshots.discard(placement.prefix.key)
        else:
            self._failed_evaluations += 1
        if max(self._failed_proofs, self._failed_evaluations) >= MAX_FAILED_PROOFS:
            self._switch_off(
                f"the backend read prompts again {MAX_FAILED_PROOFS} times in a row after their prefix had been "
                f"{placement.state}: its model or build cannot use a saved KV cache. Models with a sliding window "
                "can when llama-server is started with --swa-full"
            )
        return False

    def _slot_ignored(self, asked: int, got: int) -> None:
        self._held.pop(asked, None)
        self._held.pop(got, None)
        self._books.failed("slot_ignored")
        self._ignored_slots += 1
        if self._ignored_slots >= MAX_IGNORED_SLOTS:
            self._switch_off(f"the backend answered {MAX_IGNORED_SLOTS} times in a row from another slot than asked")

    def _switch_off(self, reason: str) -> None:
        if self._switched_off is None:
            self._switched_off = reason
            self._held.clear()
            self._books.switched_off(reason)
            self._books.changed()

    def _suspect(self) -> None:
        self._suspicious_until = self._clock() + SUSPICION_SECONDS

    # -- speed

    def _learn_speed(self, answer: ProviderDiagnostics) -> None:
        timings = answer.timings
        if timings is not None and timings.prompt_ms is not None and answer.tokens_evaluated is not None:
            self._learn_reading(answer.tokens_evaluated - (answer.tokens_cached or 0), timings.prompt_ms)

    def _learn_reading(self, tokens: int, milliseconds: float) -> None:
        if tokens >= MIN_TIMED_TOKENS and milliseconds > 0:
            seen, known = milliseconds / tokens, self._ms_per_token
            self._ms_per_token = seen if known is None else 0.8 * known + 0.2 * seen
