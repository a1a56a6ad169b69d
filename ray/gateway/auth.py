"""Bearer keys: who may ask.

Keys are known only as SHA-256 digests, and a presented token is compared, as a digest, with every one of them: the time
taken says nothing about which key was near. No token ever reaches a log line, an error or a rate-limit key.
Source: http-api, section 9; RFC 6750, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest

from ray.errors import RayError
from ray.types import Caller

MAX_TOKEN_CHARS = 1_024
_CONTROLS = bytes(range(0x21)) + b"\x7f"
CHALLENGE = ("www-authenticate", 'Bearer realm="ray"')


class Authenticator:
    """Turns the `Authorization` lines of a request into a `Caller`. With auth off, every caller is anonymous."""

    __slots__ = ("_digests", "_enabled")

    def __init__(self, enabled: bool, digests: frozenset[bytes]) -> None:
        """`digests`: SHA-256 of each key, 32 bytes; not looked at when auth is off."""
        self._enabled = enabled
        self._digests = tuple(digests)

    @property
    def enabled(self) -> bool:
        return self._enabled

    def identify(self, authorization: Sequence[str], address: str) -> Caller:
        """The caller behind these header lines.

        With auth off a presented token is ignored everywhere: anonymous. Raises RayError `unauthorized`.
        """
        if not self._enabled:
            return Caller(None, address)
        token = bearer_token(authorization)
        if token is not None:
            digest = sha256(token).digest()
            known = False
            for candidate in self._digests:  # no early exit: all keys take the same time
                known |= compare_digest(candidate, digest)
            if known:
                return Caller(digest.hex(), address)
        raise RayError(
            "unauthorized",
            "a valid API key is required: send it as `Authorization: Bearer <key>`",
        )


def bearer_token(authorization: Sequence[str]) -> bytes | None:
    """The token's bytes, or None when the lines do not hold exactly one acceptable bearer token.

    `authorization`: the values of all `Authorization` lines, decoded as Latin-1, so encoding them gives the bytes the
    client sent (keys may hold UTF-8). The same line twice is one token; two different lines are none.
    """
    if not authorization or (len(authorization) > 1 and len(set(authorization)) > 1):
        return None
    try:
        parts = authorization[0].encode("latin-1").split()
    except UnicodeEncodeError:
        return None
    if len(parts) != 2 or parts[0].lower() != b"bearer":
        return None
    token = parts[1]
    if len(token.translate(None, _CONTROLS)) != len(token):
        return None
    chars = len(token) if token.isascii() else len(token.decode("utf-8", "replace"))
    return token if chars <= MAX_TOKEN_CHARS else None
