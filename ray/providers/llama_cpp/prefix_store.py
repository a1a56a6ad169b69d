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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from ray.clock import Deadline
from ray.config import LaunchProfile, PrefixStoreConfig
from ray.errors import RayError
from ray.host import DiskThread
from ray.providers.base import PrefixObserver, PromptPrefix
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.llama_cpp.fingerprint import prefix_key
from ray.providers.llama_cpp.known_backend import KnownBackend
from ray.providers.llama_cpp.prefix_books import Level, PrefixBooks, ReadingSpeed
from ray.providers.llama_cpp.prefixes import Sightings
from ray.providers.llama_cpp.proofs import Proofs, covers
from ray.providers.llama_cpp.slot_actions import Evaluation, SlotActions
from ray.providers.llama_cpp.snapshot_files import snapshot_name, unfinished_name
from ray.providers.llama_cpp.snapshots import Backoff, Snapshots
from ray.providers.upstream import upstream_status
from ray.types import MIB, PrefixState, PrefixUse, ProviderDiagnostics

# How long slots are asked whether they are busy, after something has shown that somebody else may use the server.
SUSPICION_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Placement:
    """What was done for one generation. `slot`: to name in the request, None to let the server choose; `state` and
    `reused`: how the prefix came in, and its tokens that were not read again on the way; `ready`: the prefix is claimed
    to be in the slot, all `tokens` of it; `continues`: so are earlier turns of the conversation; `intrusions`: how many
    there had been before."""

    slot: int | None
    state: PrefixState = "none"
    prefix: PromptPrefix | None = None
    reused: int = 0
    tokens: int = 0
    ready: bool = False
    continues: bool = False
    intrusions: int = 0


class PrefixStore:
    """One backend's slots and one directory of snapshots. Used from the event loop only."""

    def __init__(
        self,
        config: PrefixStoreConfig,
        profile: LaunchProfile | None,
        actions: SlotActions,
        look: Callable[[], Awaitable[Capabilities]],
        observer: PrefixObserver | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look` asks the backend what it is, and never raises."""
        self.min_tokens = config.min_tokens
        self.epoch = 0
        self.intrusions = 0
        self._intruders = 0
        self._min_sightings = config.min_sightings
        self._actions = actions
        self._clock = clock
        self._books = PrefixBooks(observer, self._level)
        self._disk = DiskThread("ray-prefixes")
        self._snapshots = Snapshots(config.storage_dir, config.max_mib * MIB, self._disk, self._books, clock=clock)
        self._sightings = Sightings()
        self._restoring = Backoff(clock)
        self._backend = KnownBackend(
            profile,
            actions,
            look,
            self._disk,
            opened=self._opened,
            renewed=self._renewed,
            lost=self.lost,
            changed=self._books.changed,
            clock=clock,
        )
        self._is_open = False
        self._proofs = Proofs()
        self._verdict_is_told = False
        self._held: dict[int, str] = {}
        self._reading: dict[str, asyncio.Future[None]] = {}
        self._suspicious_until = 0.0
        self._speed = ReadingSpeed()

    # -- what is usable

    @property
    def assignable_slots(self) -> int | None:
        """How many slots may be assigned; None while the server chooses."""
        return self._backend.slots if self._backend.obstacle is None and self._proofs.verdict is None else None

    def health(self) -> Mapping[str, object]:
        """The block of `/health`; `reason` says why the store is not in use."""
        reason = self._proofs.verdict or self._backend.obstacle
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
        await self._backend.meet(found)

    def lost(self) -> None:
        """The backend has lost its KV caches, or has gone: nothing is hot any more, and it is looked at again."""
        if self._held:
            self._held.clear()
        self.epoch += 1
        self._backend.doubt()

    def intruder_came(self) -> None:
        """Something else may use slots of the server's own choice from now on."""
        self._intruders += 1

    def intruder_left(self, *, used_slots: bool) -> None:
        """It is over; what the slots hold is not known if it used any."""
        self._intruders -= 1
        if used_slots:
            self._held.clear()
            self.epoch += 1
            self.intrusions += 1

    # -- before and after a generation

    def prefix(self, text: str, tokens: int, *, wanted: bool) -> PromptPrefix | None:
        """The prefix of a request that has just arrived, counted as seen; None when it is too short to keep or the
        store is not in use. `wanted`: worth saving however seldom it was seen."""
        fingerprint = self._backend.fingerprint
        if fingerprint is None or self.assignable_slots is None or tokens < self.min_tokens:
            return None
        key = prefix_key(fingerprint, text)
        sightings = self._sightings.add(key, self._min_sightings if wanted else 1)
        return PromptPrefix(key, text, tokens, worth_saving=sightings >= self._min_sightings)

    async def place(
        self,
        slot: int,
        prefix: PromptPrefix | None,
        hot: bool,
        deadline: Deadline,
        crowding: Sequence[int] = (),
        *,
        continues: bool = False,
    ) -> Placement:
        """Bring `prefix` into `slot`. `hot`: the scheduler knows nothing against its being there already; `crowding`:
        idle slots that may leave no room for it, and are emptied; `continues`: the slot holds the earlier turns of this
        conversation, which restoring or evaluating the prefix would cut off.

        While this runs, and if it is cancelled, nothing is claimed about the slot. Raises `request_timeout` only.
        """
        slots = self.assignable_slots
        if slots is None or slot >= slots:
            return Placement(None)
        await self._make_room(crowding, deadline)
        if self._clock() < self._suspicious_until and await self._actions.is_busy(slot):
            self._held.pop(slot, None)
            self._books.failed("busy")
            return Placement(None, prefix=prefix)
        held = self._held.pop(slot, None)
        if prefix is None or not self._backend.is_of(prefix):
            return Placement(slot)
        if continues and held is not None and self._proofs.trusts_hot:
            return self._left_alone(slot, prefix, held)
        is_hot = hot and held == prefix.key and self._proofs.trusts_hot
        if not is_hot:
            restored = await self._restored(slot, prefix, deadline)
            if restored is not None:
                return restored
        if self._is_worth_saving(prefix) and prefix.key not in self._reading:
            reading = self._reading[prefix.key] = asyncio.get_running_loop().create_future()
            try:
                if await self._backend.is_still(prefix) and await self._snapshots.may_write(prefix.key):
                    return await self._evaluated(slot, prefix, is_hot, deadline)
            finally:
                del self._reading[prefix.key]
                reading.set_result(None)
        return self._left_alone(slot, prefix, held if is_hot else None)

    def _left_alone(self, slot: int, prefix: PromptPrefix, held: str | None) -> Placement:
        if held != prefix.key:
            # Read as a part of the whole prompt, unless the slot happens to hold it.
            return Placement(slot, "evaluated", prefix)
        self._held[slot] = held
        return Placement(slot, "hot", prefix, tokens=prefix.tokens, ready=True)

    def reading_over(self, placement: Placement) -> None:
        """The first token of the answer has come, so the whole prompt is in the slot."""
        if placement.slot is not None:
            self._held[placement.slot] = "" if placement.prefix is None else placement.prefix.key

    def broken(self, placement: Placement) -> None:
        """The generation failed: nobody knows what the slot holds."""
        if placement.slot is not None:
            self._held.pop(placement.slot, None)

    def over(self, placement: Placement, answer: ProviderDiagnostics) -> PrefixUse:
        """The generation is over: is what was claimed true?"""
        timings = answer.timings
        if timings is not None and answer.tokens_evaluated is not None:
            self._speed.learn(answer.tokens_evaluated - (answer.tokens_cached or 0), timings.prompt_ms)
        if placement.slot is None:
            # The server has chosen, so what it chose now holds something else.
            self._held.pop(-1 if answer.slot_id is None else answer.slot_id, None)
            return PrefixUse("none", 0)
        if answer.slot_id is not None and answer.slot_id != placement.slot:
            self._slot_ignored(placement.slot, answer.slot_id)
            return PrefixUse("none", 0)
        self._proofs.slot_kept()
        prefix = placement.prefix
        read_before = answer.tokens_cached or 0
        if prefix is None:
            return PrefixUse("hot", read_before) if placement.continues and read_before else PrefixUse("none", 0)
        cached = min(read_before, prefix.tokens)
        state, reused = placement.state, placement.reused
        if not self._proven(placement, read_before):
            state, reused = "none", min(reused, cached)
        elif not placement.ready:
            # Nothing was claimed, but the slot may have held the prefix by chance.
            state, reused = "hot" if covers(cached, prefix.tokens) else "evaluated", cached
        elif state != "evaluated":
            reused = cached
        if state == "hot":
            # Whatever else of the conversation was there has not been read again either.
            reused = read_before
        self._books.hit(state, reused, self._speed.seconds(reused))
        return PrefixUse(state, reused)

    async def close(self) -> None:
        """Finish what is being written."""
        await self._snapshots.close()
        await self._disk.close()

    # -- the backend

    def _renewed(self) -> None:
        """It is another one, to be judged anew."""
        self._proofs = Proofs()
        self._verdict_is_told = False
        self._speed = ReadingSpeed()
        self.lost()

    async def _opened(self) -> str | None:
        """Why the directory of the snapshots cannot be used, None when it can."""
        if self._is_open:
            return None
        refused = await self._snapshots.open()
        self._is_open = refused is None
        if refused is not None:
            self._books.failed("directory")
        return refused

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
        """None when there is no snapshot, or it cannot be had.

        Waits while another slot reads the same prefix to save it: two readings side by side take as long as one after
        the other, and restoring takes milliseconds.
        """
        while (reading := self._reading.get(prefix.key)) is not None and not deadline.expired():
            await asyncio.wait([reading], timeout=deadline.remaining())
        if self._restoring.pausing or not self._snapshots.known(prefix.key) or not await self._backend.is_still(prefix):
            return None
        snapshot = await self._snapshots.find(prefix.key)
        if snapshot is None:
            return None
        try:
            tokens = await self._actions.restore(slot, snapshot_name(prefix.key), deadline)
        except RayError as error:
            self._action_failed("restore", error, self._restoring)
            if error.code == "provider_request_failed":
                # The server may have died of this file; it must not do so again as soon as it is back.
                self._snapshots.discard(prefix.key)
            return None
        if not covers(tokens, snapshot.tokens):
            self._books.failed("restore")
            self._snapshots.discard(prefix.key)
            return None
        self._restoring.worked()
        self._books.restored()
        self._speed.suppose(snapshot.tokens, snapshot.read_ms)
        self._held[slot] = prefix.key
        return Placement(slot, "restored", prefix, tokens=snapshot.tokens, ready=True)

    async def _make_room(self, crowding: Sequence[int], deadline: Deadline) -> None:
        """A shared KV cache is emptied of idle slots by the server itself when it reads a prompt, but not when it
        restores one: that is refused instead."""
        for slot in crowding:
            self._held.pop(slot, None)
            try:
                await self._actions.erase(slot, deadline)
            except RayError as error:
                if error.code == "request_timeout":
                    raise
                self._books.failed("erase")

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
        self._speed.learn(evaluation.tokens - evaluation.cached, evaluation.prompt_ms)
        await self._save(slot, prefix, evaluation, deadline)
        self._held[slot] = prefix.key
        is_hot = is_hot and covers(evaluation.cached, evaluation.tokens)
        return Placement(
            slot,
            "hot" if is_hot else "evaluated",
            prefix,
            reused=min(evaluation.cached, prefix.tokens),
            tokens=evaluation.tokens,
            ready=True,
        )

    async def _save(self, slot: int, prefix: PromptPrefix, evaluation: Evaluation, deadline: Deadline) -> None:
        try:
            tokens = await self._actions.save(slot, unfinished_name(prefix.key), deadline)
        except RayError as error:
            self._snapshots.discard_unfinished(prefix.key)
            self._action_failed("save", error, None)
            return
        except asyncio.CancelledError:
            # Nobody would count what is left half-way, and nobody would remove it before the next start.
            self._snapshots.discard_unfinished(prefix.key)
            raise
        if not covers(tokens, evaluation.tokens) or tokens > evaluation.tokens:
            # Fewer: nothing worth restoring. More: somebody else's words are in it, and they are not to be kept.
            self._snapshots.write_failed()
            self._snapshots.discard_unfinished(prefix.key)
            self._suspect()
            return
        self._snapshots.adopt(prefix.key, tokens, round(1000 * self._speed.seconds(tokens)))

    def _action_failed(self, operation: str, error: RayError, backoff: Backoff | None) -> None:
        if error.code == "request_timeout":
            raise error
        if upstream_status(error) in (404, 501):
            self._backend.refused_actions()
        if error.code == "provider_timeout":
            self._suspect()
        if error.code == "provider_request_failed":
            self.lost()
        if backoff is None:
            self._snapshots.write_failed(operation)
        else:
            self._books.failed(operation)
            backoff.failed()
        self._books.changed()

    # -- proof

    def _proven(self, placement: Placement, cached: int) -> bool:
        """Whether the answer covers what was claimed, and what follows if it does not."""
        prefix = placement.prefix
        if not placement.ready or prefix is None:
            return True
        if covers(cached, placement.tokens):
            self._proofs.held(placement.state)
            return True
        if self._intruders or placement.intrusions != self.intrusions:
            # Not the backend's fault.
            return False
        self._books.proof_failed()
        self._suspect()
        if placement.state == "hot":
            # One slot was not what it should be; neither may the others be, after a restart that nobody noticed.
            self._held.clear()
            self.epoch += 1
        elif placement.state == "restored":
            self._snapshots.discard(prefix.key)
        self._proofs.failed(placement.state)
        self._heed_verdict()
        return False

    def _slot_ignored(self, asked: int, got: int) -> None:
        self._held.pop(asked, None)
        self._held.pop(got, None)
        self._books.failed("slot_ignored")
        self._proofs.slot_ignored()
        self._heed_verdict()

    def _heed_verdict(self) -> None:
        """At the moment of the verdict, everything stops and one warning is given."""
        if self._proofs.verdict is not None and not self._verdict_is_told:
            self._verdict_is_told = True
            self._held.clear()
            self._books.switched_off(self._proofs.verdict)
            self._books.changed()

    def _suspect(self) -> None:
        self._suspicious_until = self._clock() + SUSPICION_SECONDS
