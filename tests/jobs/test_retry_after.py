"""`Retry-After`: seconds and dates, capped at an hour, anything else ignored."""

from __future__ import annotations

import pytest

from ray.jobs.retry_after import retry_after_seconds

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("9" * 32, 3600.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sun, 06 Nov 1994 08:49:00 GMT", 0.0),
        ("Mon, 07 Nov 1994 08:49:37 GMT", 3600.0),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("+5", None),
        ("٣", None),
        ("5 s", None),
        ("9" * 33, None),
        ("soon", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", None),
        ("Sun, 06 nov 1994 08:49:37 GMT", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    ],
)
def test_given_a_retry_after_when_read_then_it_is_seconds_from_now(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOW) == seconds
