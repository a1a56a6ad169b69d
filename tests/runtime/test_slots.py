"""The table of slots: which one a generation gets, what each holds, and when that is forgotten."""

from __future__ import annotations

import pytest

from ray.runtime.slots import MAX_LEARNED_SLOTS, Slot, SlotTable, assign, crowded_out, free_and_hot


@pytest.mark.parametrize(
    ("slots", "affinity", "wanted", "expected"),
    [
        ([Slot(0, "a", used=1), Slot(1, "b", used=2)], "b", set(), 1),
        ([Slot(0, "b", used=1), Slot(1)], "b", set(), 0),
        ([Slot(0, "a", used=1), Slot(1, used=2)], "c", set(), 1),
        ([Slot(0, "a", used=2), Slot(1, "b", used=1)], "c", set(), 1),
        ([Slot(0, "a", used=2), Slot(1, "b", used=1)], "c", {"b"}, 0),
        ([Slot(0, "a", used=2), Slot(1, "b", used=1)], "c", {"a", "b"}, 1),
        ([Slot(0, "a", used=2), Slot(1, "b", used=1)], None, {"b"}, 0),
        ([Slot(0, "c", busy=True), Slot(1, "b", used=1)], "c", {"b"}, 1),
        ([Slot(0, "c", busy=True)], "c", set(), None),
        ([], "c", set(), None),
    ],
    ids=[
        "the one that holds it",
        "that one rather than an empty one",
        "an empty one rather than another family's",
        "the one not used for longest",
        "not what somebody waiting wants",
        "unless everything is wanted",
        "without an affinity too",
        "never a busy one",
        "all busy",
        "no slots",
    ],
)
def test_assignment(slots: list[Slot], affinity: str | None, wanted: set[str | None], expected: int | None) -> None:
    slot = assign(slots, affinity, wanted)
    assert (None if slot is None else slot.id) == expected


@pytest.mark.parametrize(
    ("slots", "wanted", "expected"),
    [
        ([Slot(0, "a", used=1), Slot(1, "a", used=2, turns=("x", "y"))], set(), 1),
        ([Slot(0, "a", used=1), Slot(1, "b", used=2, turns=("y",))], set(), 1),
        ([Slot(0, "a", used=1), Slot(1, "b", used=2, turns=("y",))], {"b", "y"}, 1),
        ([Slot(0, "a", used=1, busy=True, turns=("y",)), Slot(1)], set(), 1),
        ([Slot(0, "a", used=1, turns=("z",)), Slot(1, "a", used=2, turns=("w",))], set(), 0),
        ([Slot(0, "a", used=1, turns=("z",)), Slot(1, "a", used=2, turns=("w",))], {"z"}, 1),
        ([Slot(0, "a", used=1, turns=("v", "z")), Slot(1, "a", used=2, turns=("w",))], set(), 1),
        ([Slot(0, "a", used=1, turns=("v", "z")), Slot(1, "a", used=2, turns=("w",))], {"w"}, 0),
        ([Slot(0, "a", used=1, turns=("z",)), Slot(1)], {"z"}, 0),
    ],
    ids=[
        "the one that holds its turns",
        "that one rather than its affinity",
        "though others want it",
        "never a busy one",
        "among strangers the one not used for longest",
        "unless somebody waits to go on there",
        "or somebody came back to it before",
        "who counts for less than somebody waiting",
        "but its affinity comes before a stranger's conversation",
    ],
)
def test_assignment_of_the_next_turn_of_a_conversation(
    slots: list[Slot], wanted: set[str | None], expected: int
) -> None:
    slot = assign(slots, "a", wanted, "y")
    assert slot is not None
    assert slot.id == expected


def test_the_conversations_in_free_slots_are_hot() -> None:
    slots = [Slot(0, "a", turns=("x", "y")), Slot(1, "b", busy=True, turns=("z",)), Slot(2, turns=("w",))]
    assert free_and_hot(slots) == {"a", "x", "y", "w"}


def test_what_a_busy_slot_holds_is_not_hot_in_a_free_one() -> None:
    assert free_and_hot([Slot(0, "a", busy=True), Slot(1, "b"), Slot(2)]) == {"b"}


@pytest.mark.parametrize(
    ("running_tokens", "expected"),
    [(200, []), (212, []), (213, [0]), (312, [0]), (313, [0, 2]), (512, [0, 2])],
)
def test_a_full_shared_pool_empties_idle_slots_from_the_lowest_id_on(running_tokens: int, expected: list[int]) -> None:
    slots = [Slot(2, "c", tokens=200), Slot(0, "a", tokens=100), Slot(1, tokens=running_tokens, busy=True), Slot(3)]
    assert [slot.id for slot in crowded_out(slots, 512)] == expected


def table_of(count: int) -> SlotTable:
    table = SlotTable()
    table.follow(count, 0)
    return table


def filled(count: int = 2) -> SlotTable:
    """Every slot used once, by the families a, b, c, …"""
    table = table_of(count)
    for number in range(count):
        table.take(number, 10)
        table.holds(number, "abcdefgh"[number])
        table.give_back(number, 10)
    return table


def held(table: SlotTable) -> dict[int, str | None]:
    return {slot.id: slot.holds for slot in table.slots}


def test_a_slot_holds_a_prefix_from_the_moment_it_is_ready() -> None:
    table = table_of(1)
    table.take(0, 10)
    assert held(table) == {0: None}
    table.holds(0, "a")
    assert held(table) == {0: "a"}
    assert table.hot([]) == frozenset()
    table.give_back(0, 10)
    assert table.hot([]) == {"a"}


def test_a_backend_that_lost_its_caches_holds_nothing() -> None:
    table = filled()
    table.take(1, 10)
    table.follow(2, 1)
    assert held(table) == {0: None, 1: None}
    assert [slot.busy for slot in sorted(table.slots, key=lambda slot: slot.id)] == [False, True]


def test_when_slots_are_no_longer_assigned_nothing_is_known_until_answers_tell() -> None:
    table = filled()
    table.follow(None, 0)
    assert (table.slots, table.is_telling) == ([], False)
    table.learn(1, "z")
    assert table.hot([]) == {"z"}
    table.follow(2, 0)
    assert held(table) == {0: None, 1: None}


def test_fewer_slots_leave_those_alone_that_run_and_more_are_empty() -> None:
    table = filled(3)
    table.take(2, 10)
    table.follow(1, 0)
    assert held(table) == {0: "a"}
    table.follow(4, 0)
    assert {slot.id: slot.busy for slot in table.slots} == {0: False, 1: False, 2: True, 3: False}
    table.follow(1, 0)
    table.give_back(2, 10)
    table.follow(3, 0)
    assert held(table) == {0: "a", 1: None, 2: None}


def test_all_slots_are_there_after_the_caches_were_lost_while_more_run_than_there_are_slots() -> None:
    table = filled(4)
    table.take(2, 10)
    table.take(3, 10)
    table.follow(2, 1)
    assert held(table) == {0: None, 1: None}


def test_while_the_backend_chooses_a_running_relative_is_taken_to_sit_in_the_hot_slot() -> None:
    table = SlotTable()
    table.learn(0, "a")
    assert table.hot([]) == {"a"}
    assert table.hot(["a"]) == frozenset()
    table.learn(1, "a")
    assert table.hot(["a", None, "b"]) == {"a"}


@pytest.mark.parametrize("number", [-1, MAX_LEARNED_SLOTS, 10**9])
def test_a_slot_number_that_cannot_be_is_not_learned(number: int) -> None:
    table = SlotTable()
    table.learn(number, "a")
    assert not table.is_telling


def test_while_slots_are_assigned_nothing_is_learned_from_answers() -> None:
    table = table_of(2)
    table.learn(1, "z")
    assert held(table) == {0: None, 1: None}


def ended(count: int = 2) -> SlotTable:
    """Every slot holds a conversation."""
    table = filled(count)
    for number in range(count):
        table.ends_with(number, (f"turns {number}",))
    return table


def turns(table: SlotTable) -> list[tuple[str, ...]]:
    return [slot.turns for slot in sorted(table.slots, key=lambda slot: slot.id)]


def test_a_conversation_is_gone_as_soon_as_another_generation_starts_in_its_slot() -> None:
    table = ended()
    table.take(0, 10)
    assert turns(table) == [(), ("turns 1",)]
    table.give_back(0, 10)
    assert turns(table) == [(), ("turns 1",)]


def test_a_conversation_is_gone_with_everything_else_that_was_known_of_its_slot() -> None:
    table = ended()
    table.forget(0)
    assert turns(table) == [(), ("turns 1",)]
    table.clear_away(table.slots[1:])
    assert turns(table) == [(), ()]
    table = ended()
    table.follow(2, 1)
    assert turns(table) == [(), ()]
    table = ended()
    table.follow(None, 0)
    table.follow(2, 0)
    assert turns(table) == [(), ()]


def test_after_work_in_unknown_slots_only_those_are_known_that_were_busy() -> None:
    table = ended(3)
    table.take(1, 20)
    table.ends_with(1, ("later",))
    table.forget_idle(15)
    assert held(table) == {0: None, 1: "b", 2: None}
    assert turns(table) == [(), ("later",), ()]
    assert [slot.tokens for slot in table.slots] == [15, 20, 15]


def test_what_may_lose_its_content_is_not_given_away_until_that_has_happened() -> None:
    table = filled()
    table.clear_away([slot for slot in table.slots if slot.id == 0])
    assert held(table) == {0: None, 1: "b"}
    slot = assign(table.slots, "c", set())
    assert slot is not None
    assert slot.id == 1
    table.give_back(0)
    assert table.slots[0] == Slot(0, tokens=10, used=1)
    table.clear_away(table.slots[:1])
    table.give_back(0, 0)
    assert table.slots[0] == Slot(0, used=1)


def test_a_generation_that_may_not_have_begun_leaves_the_cells_of_the_one_before() -> None:
    table = table_of(1)
    table.take(0, 300)
    table.give_back(0, 250)
    table.take(0, 20)
    assert table.slots[0].tokens == 250
    table.give_back(0)
    assert table.slots[0].tokens == 250
    table.take(0, 400)
    table.give_back(0, 30)
    assert table.slots[0].tokens == 30
