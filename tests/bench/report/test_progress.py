"""Progress: the estimate follows the pace so far, and pieces do not fill the screen."""

from __future__ import annotations

import pytest

from ray.bench.report.progress import PIECES_SECONDS, Steps, about_left, time_left


def test_the_time_left_is_what_the_rest_takes_at_this_pace() -> None:
    assert time_left(0, 10, 5.0) is None
    assert time_left(4, 10, 8.0) == 12.0
    assert time_left(12, 10, 8.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.4, ""),
        (41.6, ", about 42 s left"),
        (119.0, ", about 119 s left"),
        (150.0, ", about 2 min left"),
    ],
)
def test_the_time_left_is_told_in_seconds_or_minutes(seconds: float | None, text: str) -> None:
    assert about_left(seconds) == text


def test_each_part_is_told_with_the_time_that_is_left_once_there_is_a_pace() -> None:
    now = [100.0]
    told: list[str] = []
    steps = Steps(told.append, 10.0, lambda: now[0])
    steps.begin("first")
    now[0] += 6.0
    steps.did(2.0)
    steps.begin("second")
    now[0] += 24.0
    steps.did(8.0)
    steps.begin("end")
    assert told == ["first", "second, about 24 s left", "end"]


def test_pieces_are_told_every_few_seconds_and_not_right_after_a_part_began() -> None:
    now = [0.0]
    told: list[str] = []
    steps = Steps(told.append, 100.0, lambda: now[0])
    steps.begin("part")
    for piece in range(8):
        now[0] += PIECES_SECONDS / 2
        steps.did(10.0, f"piece {piece + 1}")
    assert told == [
        "part",
        "piece 2, about 20 s left",
        "piece 4, about 15 s left",
        "piece 6, about 10 s left",
        "piece 8, about 5 s left",
    ]
