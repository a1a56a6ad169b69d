"""The `Retry-After` header: seconds, or a date. Source: RFC 9110 sections 10.2.3 and 5.6.7."""

from __future__ import annotations

import re

from ray.clock import parse_iso

MAX_RETRY_AFTER_S = 3_600.0

_SECONDS = re.compile(r"[0-9]{1,32}")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# The one form of date that may still be written: `Sun, 06 Nov 1994 08:49:37 GMT`.
_IMF_FIXDATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([0-9]{{4}}) "
    r"([0-9]{2}:[0-9]{2}:[0-9]{2}) GMT"
)


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Seconds to wait from `now` (Unix seconds), 0 to 3600; None when the header is absent or says nothing usable."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER_S)
    found = _IMF_FIXDATE.fullmatch(value)
    if found is None:
        return None
    month = _MONTHS.index(found[2]) + 1
    try:
        moment = parse_iso(f"{found[3]}-{month:02d}-{found[1]}T{found[4]}.000Z")
    except ValueError:  # the 31st of February
        return None
    return min(max(moment - now, 0.0), MAX_RETRY_AFTER_S)
