"""What a receiver does: the public Standard Webhooks rules, written without a look at the sender."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

TOLERANCE_SECONDS = 300


class NotGenuine(Exception):
    """Do not act on this request."""


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float) -> None:
    """Raises `NotGenuine` unless the request was signed with `secret` within 300 s of `now`. Names in lower case."""
    try:
        identity, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        signatures = headers["webhook-signature"].split(" ")
        moment = int(timestamp)
    except (KeyError, ValueError) as error:
        raise NotGenuine("a header is missing or unreadable") from error
    if abs(now - moment) > TOLERANCE_SECONDS:
        raise NotGenuine("too old, or from the future")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = base64.b64encode(mac.digest()).decode()
    for entry in signatures:
        version, _, value = entry.partition(",")
        if version == "v1" and hmac.compare_digest(value, expected):
            return
    raise NotGenuine("no signature fits")
