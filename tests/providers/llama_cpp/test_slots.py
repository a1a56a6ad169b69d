"""Reading `/slots`."""

from __future__ import annotations

import pytest

from ray.providers.llama_cpp.slots import SlotState, has_begun_anew, read_slots


def test_given_todays_server_when_read_then_each_slot_tells_what_it_holds() -> None:
    entry = {
        "id": 1,
        "n_ctx": 1024,
        "is_processing": True,
        "id_task": 12,
        "n_prompt_tokens": 139,
        "n_prompt_tokens_processed": 21,
        "n_prompt_tokens_cache": 118,
        "next_token": [{"n_decoded": 3}],
    }
    assert read_slots([entry], 4096) == (SlotState(1, True, 12, 1024, 21, 139),)


@pytest.mark.parametrize("document", [None, {}, "x", 7, {"slots": None}, [None, 1, "x", []]])
def test_given_no_list_of_slots_when_read_then_there_are_none(document: object) -> None:
    assert read_slots(document, 4096) == ()


def test_given_ids_that_cannot_be_when_read_then_those_slots_are_skipped() -> None:
    ids: list[object] = [-1, 1.5, 1_000_000_001, True, None, 0]
    assert [slot.id for slot in read_slots([{"id": number} for number in ids], 4096)] == [0]
    assert read_slots([{"id": "bad", "id_slot": 3}], 4096)[0].id == 3


def test_given_figures_above_the_window_when_read_then_the_slot_stays_and_they_go() -> None:
    entry = {"id": 0, "n_ctx": 4097, "n_prompt_tokens": 4097, "n_prompt_tokens_processed": 4097}
    assert read_slots({"slots": [entry]}, 4096) == (SlotState(0, False),)


def test_given_eighty_slots_when_read_then_the_first_64_are_kept_in_order() -> None:
    assert [slot.id for slot in read_slots([{"id": number} for number in range(80)], 4096)] == list(range(64))


@pytest.mark.parametrize("value", [1, "true", None])
def test_given_anything_but_true_when_read_then_the_slot_is_not_processing(value: object) -> None:
    assert read_slots([{"id": 0, "is_processing": value}], 4096)[0].is_processing is False


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {0: 3}, False),
        ({0: None}, {0: None}, False),
        ({0: None}, {0: 3}, False),
        ({0: 3}, {0: 3}, False),
        ({0: 3, 1: None}, {0: 9, 1: 4}, False),
        ({0: 3}, {}, False),
        ({0: 3}, {0: 0}, True),
        ({0: 3, 1: 5}, {0: 9, 1: 4}, True),
        ({0: 3}, {0: None}, True),
    ],
)
def test_given_two_looks_at_the_slots_then_a_task_that_went_backwards_shows_a_server_that_has_begun_anew(
    before: dict[int, int | None], now: dict[int, int | None], expected: bool
) -> None:
    assert has_begun_anew(before, now) is expected
