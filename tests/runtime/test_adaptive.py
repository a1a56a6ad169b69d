"""Allowances that follow the recent pace and what prompt families need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ray.runtime.adaptive import AdaptiveWindow, FamilyHistory, Pace, learned_cap, nearest_rank, tune
from ray.types import AdaptiveTuningDiagnostics, Lane
from tests.host.trees import FakeClock
from tests.runtime.support import TINY

CONFIG = replace(
    TINY.adaptive_tuning,
    enabled=True,
    queue_latency_threshold_ms=400,
    min_completion_tokens_per_second=10,
    max_output_reduction_ratio=0.5,
    min_output_tokens=32,
    learned_cap_min_samples=3,
    learned_cap_headroom_tokens=24,
    draft_percentile=0.95,
    short_percentile=0.9,
)
OFF = replace(CONFIG, enabled=False)


# Tuning


@pytest.mark.parametrize(
    ("queue_ms", "speed", "asked", "applied", "ratio", "reason"),
    [
        (None, None, 128, 128, 0, None),
        (0, None, 128, 128, 0, None),
        (400, 10, 128, 128, 0, None),
        (800, None, 128, 96, 0.25, "queue_latency"),
        (0, 5, 128, 96, 0.25, "throughput"),
        (0, 2, 128, 64, 0.5, "throughput"),
        (99_999, None, 128, 64, 0.5, "queue_latency"),
        (600, 5, 128, 96, 0.25, "queue_latency+throughput"),
        (1200, 5, 128, 64, 0.5, "queue_latency+throughput"),
        (800, None, 40, 32, 0.25, "queue_latency"),
        (99_999, None, 32, 32, 0, None),
        (99_999, 0.1, 16, 16, 0, None),
        (401, None, 33, 32, 0.0006, "queue_latency"),
        (99_999, None, 1, 1, 0, None),
    ],
)
def test_slow_times_cut_the_allowance(
    queue_ms: float | None, speed: float | None, asked: int, applied: int, ratio: float, reason: str | None
) -> None:
    expected = AdaptiveTuningDiagnostics(applied < asked, asked, applied, ratio, reason)
    assert tune(asked, Pace(queue_ms, speed), CONFIG) == expected


def test_given_tuning_off_when_everything_is_slow_then_nothing_is_cut() -> None:
    assert tune(128, Pace(99_999, 0.1), OFF) == AdaptiveTuningDiagnostics(False, 128, 128, 0)


def test_given_no_permitted_reduction_when_everything_is_slow_then_nothing_is_cut() -> None:
    config = replace(CONFIG, max_output_reduction_ratio=0)
    assert tune(128, Pace(99_999, 0.1), config) == AdaptiveTuningDiagnostics(False, 128, 128, 0)


# The window


def test_the_pace_is_the_mean_of_the_window_and_speeds_that_nobody_reported_do_not_count() -> None:
    window = AdaptiveWindow(3, FakeClock())
    assert window.pace() == Pace()
    window.record(900, 1, 50)
    window.record(100, 10, 50)
    window.record(200, None, 50)
    assert window.pace() == Pace(400, 5.5)
    window.record(300, 20, None)
    assert window.pace() == Pace(200, 15)
    window.record(300, 0, 50)
    window.record(300, None, 50)
    window.record(300, None, 50)
    assert window.pace() == Pace(300, None)


@pytest.mark.parametrize(("tokens", "counts"), [(0, False), (3, False), (4, True), (None, True)])
def test_the_speed_of_a_few_tokens_is_noise(tokens: int | None, counts: bool) -> None:
    window = AdaptiveWindow(4, FakeClock())
    window.record(10, 1_000_000, tokens)
    assert window.pace() == Pace(10, 1_000_000 if counts else None)


def test_samples_older_than_five_minutes_are_forgotten() -> None:
    clock = FakeClock()
    window = AdaptiveWindow(8, clock)
    window.record(1000, 5, 50)
    clock.advance(200)
    window.record(0, 15, 50)
    clock.advance(100)
    assert window.pace() == Pace(500, 10)
    clock.advance(0.5)
    assert window.pace() == Pace(0, 15)
    clock.advance(200)
    assert window.pace() == Pace()


# Families


@pytest.mark.parametrize(
    ("lengths", "lane", "asked", "cap", "applied"),
    [
        ([40, 40], "draft", 192, None, 192),
        ([40, 40, 40], "draft", 192, 64, 64),
        ([1, 1, 1], "draft", 192, 25, 32),
        ([1, 1, 1], "draft", 16, 25, 16),
        ([200, 200, 200], "draft", 192, 224, 192),
        ([40, 40, 40], "draft", 64, 64, 64),
        ([*range(1, 101)], "draft", 192, 95 + 24, 119),
        ([*range(100, 0, -1)], "short", 192, 90 + 24, 114),
    ],
)
def test_a_family_with_enough_answers_caps_the_next_one(
    lengths: list[int], lane: Lane, asked: int, cap: int | None, applied: int
) -> None:
    learned = learned_cap(asked, "f" * 16, lane, lengths, CONFIG)
    assert (learned.learned_cap_tokens, learned.applied_max_tokens) == (cap, applied)
    assert learned.applied is (applied < asked)
    assert (learned.requested_max_tokens, learned.sample_count) == (asked, len(lengths))
    assert (learned.family_key, learned.lane) == ("f" * 16, lane)
    assert learned.percentile == (0.9 if lane == "short" else 0.95)


@pytest.mark.parametrize("config", [OFF, replace(CONFIG, learned_family_cap_enabled=False)])
def test_given_caps_off_when_there_are_answers_then_only_their_number_is_told(config: object) -> None:
    assert isinstance(config, type(CONFIG))
    learned = learned_cap(192, "f", "draft", [40] * 9, config)
    assert (learned.applied, learned.learned_cap_tokens, learned.sample_count) == (False, None, 9)


def test_a_family_that_begins_to_say_more_gets_more() -> None:
    history = FamilyHistory(8)
    for _ in range(8):
        history.record("f", 40)
    caps = []
    for _ in range(12):
        cap = learned_cap(192, "f", "draft", history.lengths("f"), CONFIG).applied_max_tokens
        caps.append(cap)
        history.record("f", cap)
    assert caps[0] == 64
    assert caps == sorted(caps)
    assert caps[-1] > 100


def test_the_last_answers_of_a_family_are_kept_and_empty_ones_are_not() -> None:
    history = FamilyHistory(3)
    for tokens in (1, 0, 2, -5, 3, 4):
        history.record("f", tokens)
    assert list(history.lengths("f")) == [2, 3, 4]
    assert list(history.lengths("unknown")) == []


def test_of_520_families_the_512_last_recorded_are_remembered() -> None:
    history = FamilyHistory(2)
    for number in range(520):
        if number == 512:
            history.record("family 0", 7)  # recorded again: it stays
            history.lengths("family 1")  # only looked at: it goes
        history.record(f"family {number}", 5)
    assert len(history) == 512
    assert list(history.lengths("family 0")) == [5, 7]
    assert list(history.lengths("family 1")) == []
    assert list(history.lengths("family 8")) == []
    assert list(history.lengths("family 9")) == [5]


@pytest.mark.parametrize(("percentile", "expected"), [(0, 10), (0.49, 10), (0.5, 20), (0.99, 20), (1, 30)])
def test_the_percentile_is_rounded_down_to_an_answer_that_was_given(percentile: float, expected: int) -> None:
    assert nearest_rank([30, 10, 20], percentile) == expected
