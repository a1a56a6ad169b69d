"""Time and names: deadlines nest and extend, timestamps are ISO, ids are unique."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.clock import Deadline, iso_now, iso_timestamp, new_id, parse_iso


@pytest.mark.parametrize(
    ("epoch_seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_795_283_514.25, "2026-11-21T17:51:54.250Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (0.0019, "1970-01-01T00:00:00.001Z"),
    ],
)
def test_given_unix_seconds_then_the_timestamp_is_utc_with_milliseconds(epoch_seconds: float, text: str) -> None:
    assert iso_timestamp(epoch_seconds) == text


@given(st.integers(-30_000_000_000_000, 253_402_300_799_999))
def test_given_any_whole_millisecond_when_written_and_read_then_it_is_the_same(milliseconds: int) -> None:
    assert parse_iso(iso_timestamp(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-02-29T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "2026-11-21T24:00:00.000Z",
        "2026-11-21T17:60:00.000Z",
        "2026-11-21T17:51:54Z",
        "2026-11-21T17:51:54.25Z",
        "2026-11-21T17:51:54.250+00:00",
        "2026-11-21 17:51:54.250Z",
        "2026-11-21T17:51:54.250Z\n",
        "+026-11-21T17:51:54.250Z",
        "\uff12026-11-21T17:51:54.250Z",
    ],
)
def test_given_any_other_form_of_a_time_when_read_then_it_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a UTC timestamp"):
        parse_iso(text)


def test_given_the_wall_clock_then_the_timestamp_has_the_documented_form() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso_now())


def test_given_a_deadline_in_the_past_then_it_has_expired() -> None:
    assert Deadline.after_ms(-1).expired()
    assert not Deadline.after_ms(60_000).expired()


def test_given_a_deadline_within_another_then_it_never_lies_later_than_the_outer_one() -> None:
    outer = Deadline.after_ms(1_000)

    assert outer.within_ms(60_000).at == outer.at
    assert outer.within_ms(10).at < outer.at


def test_given_the_outer_deadline_is_extended_then_the_inner_one_follows_up_to_its_own_limit() -> None:
    outer = Deadline.after_ms(1_000)
    inner = outer.within_ms(2_000)
    later = Deadline(time.monotonic() + 60)

    outer.extend_to(later)

    assert inner.at < later.at
    assert inner.remaining() > 1.5


def test_given_an_earlier_deadline_when_extending_to_it_then_nothing_moves() -> None:
    deadline = Deadline.after_ms(5_000)
    before = deadline.at

    deadline.extend_to(Deadline.after_ms(10))

    assert deadline.at == before


def test_given_many_ids_then_all_differ_and_have_the_documented_form() -> None:
    ids = {new_id("req") for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"req_[0-9a-f]{16}", name) for name in ids)
