"""What the backend's slots hold: how they begin, where they end, and pure functions that choose a slot from it.

Two ways to know. While Ray assigns the slots, the table is exact: each slot holds what the last generation in it began
with. While the backend chooses, the table is what the answers told, good for a preference and no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

# The most slots that are remembered while the backend names them.
MAX_LEARNED_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of the backend.

    `holds`: the affinity that its KV cache begins with, None when empty or unknown; `tokens`: cells of the KV cache
    that it fills at most; `used`: number of its last use, rising; `busy`: a generation runs in it; `turns`: keys of the
    conversation that it holds, the last answer included, and of the turns before that answer's question.
    """

    id: int
    holds: str | None = None
    tokens: int = 0
    used: int = 0
    busy: bool = False
    turns: tuple[str, ...] = ()


def free_and_hot(slots: Iterable[Slot]) -> frozenset[str]:
    """The affinities and the conversations that free slots hold."""
    free = [slot for slot in slots if not slot.busy]
    turns = (key for slot in free for key in slot.turns)
    return frozenset((*(slot.holds for slot in free if slot.holds is not None), *turns))


def assign(
    slots: Iterable[Slot], affinity: str | None, wanted: AbstractSet[str | None], continues: str | None = None
) -> Slot | None:
    """The free slot for a generation, or None if all are busy.

    First one that holds the turns it `continues`; then one that holds its affinity; then one that holds nothing; then
    one whose beginning nobody waiting wants (`wanted`). Among equals first one whose conversation nobody waiting wants,
    then one whose conversation nobody ever came back to, then the one not used for longest.
    """

    def sacrifice(slot: Slot) -> tuple[int, bool, bool, int]:
        if continues is not None and continues in slot.turns:
            return (0, False, False, slot.used)
        if slot.holds is None:
            rank = 2
        elif slot.holds == affinity:
            rank = 1
        else:
            rank = 4 if slot.holds in wanted else 3
        return (rank, not wanted.isdisjoint(slot.turns), len(slot.turns) > 1, slot.used)

    return min((slot for slot in slots if not slot.busy), key=sacrifice, default=None)


def crowded_out(slots: Iterable[Slot], pool: int) -> list[Slot]:
    """The idle slots that a shared pool of `pool` cells may no longer have room for, next to what runs.

    llama-server never fails a generation for what idle slots hold: when the unified KV cache is full it empties them
    one by one, lowest id first (measured), and tells nobody. A restore it refuses instead. The tokens of busy slots are
    the most that they will need, so a slot named here may still hold its content; taking it for lost costs one restore.
    """
    filled = sorted((slot for slot in slots if slot.tokens > 0), key=lambda slot: slot.id)
    excess = sum(slot.tokens for slot in filled) - pool
    lost: list[Slot] = []
    for slot in filled:
        if excess <= 0:
            break
        if not slot.busy:
            lost.append(slot)
            excess -= slot.tokens
    return lost


def _unknown(slot: Slot) -> Slot:
    """The slot, with nothing known of what it holds."""
    return replace(slot, holds=None, turns=())


class SlotTable:
    """The table and its upkeep. `count`: slots that Ray assigns, None while the backend chooses."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.epoch = 0
        self._slots: dict[int, Slot] = {}
        self._uses = 0

    def follow(self, count: int | None, epoch: int) -> None:
        """Adopt what the provider says now. When the backend's caches are gone, or somebody else chose the slots until
        now, nothing is known any more. What runs keeps its slot."""
        if epoch == self.epoch and count == self.count:
            return
        if (count is None) != (self.count is None):
            self._slots = {slot.id: _unknown(slot) for slot in self._slots.values() if slot.busy}
        elif epoch != self.epoch:
            # Their cells count as filled until that is known better: what was disproven may still lie in them.
            self._slots = {slot.id: _unknown(slot) for slot in self._slots.values()}
        self.epoch, self.count = epoch, count
        if count is not None:
            self._slots = {slot.id: slot for slot in self._slots.values() if slot.busy or slot.id < count}
            for number in range(count):
                self._slots.setdefault(number, Slot(number))

    @property
    def slots(self) -> list[Slot]:
        """Those that may be assigned, and while the backend chooses those it has named."""
        if self.count is None:
            return [slot for slot in self._slots.values() if not slot.busy]
        return [slot for slot in self._slots.values() if slot.id < self.count]

    @property
    def is_telling(self) -> bool:
        """Something is known about slots; if not, a prefix that was read once cannot be found again."""
        return self.count is not None or bool(self._slots)

    def hot(self, running: Iterable[str | None]) -> frozenset[str]:
        """What a free slot holds, see `free_and_hot`. `running`: affinities of all running generations; while the
        backend chooses, each is taken to sit in a slot that held it."""
        if self.count is not None:
            return free_and_hot(self._slots.values())
        free = Counter(slot.holds for slot in self.slots)
        free.subtract(running)
        return frozenset(affinity for affinity, count in free.items() if affinity is not None and count > 0)

    def take(self, number: int, tokens: int) -> None:
        """A generation of up to `tokens` starts in a slot, next to what is still in it. What it leaves there is known
        when it ends: see `holds`, `ends_with` and `forget`."""
        self._uses += 1
        slot = self._slots[number]
        self._slots[number] = replace(slot, tokens=max(slot.tokens, tokens), used=self._uses, busy=True, turns=())

    def holds(self, number: int, affinity: str | None) -> None:
        """The beginning of a running generation's prompt is in its slot."""
        slot = self._slots.get(number)
        if slot is not None:
            self._slots[number] = replace(slot, holds=affinity)

    def ends_with(self, number: int, turns: tuple[str, ...]) -> None:
        """The conversation that a generation leaves in its slot."""
        slot = self._slots.get(number)
        if slot is not None:
            self._slots[number] = replace(slot, turns=turns)

    def give_back(self, number: int, tokens: int | None = None) -> None:
        """A generation ended in a slot and leaves up to `tokens` cells filled; None: it may not have begun."""
        slot = self._slots.get(number)
        if slot is None:
            return
        if self.count is None or number >= self.count:
            del self._slots[number]
        else:
            self._slots[number] = replace(slot, tokens=slot.tokens if tokens is None else tokens, busy=False)

    def forget(self, number: int) -> None:
        """Nobody knows what the slot holds."""
        slot = self._slots.get(number)
        if slot is not None:
            self._slots[number] = _unknown(slot)

    def forget_idle(self, tokens: int) -> None:
        """Work of up to `tokens` was done in slots that nobody chose: any that is free now may hold it."""
        for slot in self._slots.values():
            if not slot.busy:
                self._slots[slot.id] = replace(_unknown(slot), tokens=max(slot.tokens, tokens))

    def clear_away(self, lost: Iterable[Slot]) -> None:
        """These idle slots may lose their content, and are not given away while somebody may empty them."""
        for slot in lost:
            self._slots[slot.id] = replace(_unknown(slot), busy=True)

    def learn(self, number: int, affinity: str | None) -> None:
        """While the backend chooses: it used this slot for a prompt of this affinity."""
        if self.count is None and 0 <= number < MAX_LEARNED_SLOTS:
            self._uses += 1
            busy = number in self._slots and self._slots[number].busy
            self._slots[number] = Slot(number, affinity, used=self._uses, busy=busy)
