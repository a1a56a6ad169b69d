"""Whose request is this? The client's address, from the connection and, behind a trusted proxy, from X-Forwarded-For.

The header is believed only when the operator said so and the connection itself comes from a private address, and then
from the right: the rightmost address that is not private is the one the outermost trusted proxy saw.
Source: http-api, section 10. Addresses are read with the C library's own parser (`inet_pton`), which is
strict, a hundred nanoseconds cheap, and already loaded; `ipaddress` would cost start-up time for the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

UNKNOWN_ADDRESS = "unknown"
MAX_ADDRESS_CHARS = 64
MAX_FORWARDED_LINES = 4
MAX_FORWARDED_LINE_CHARS = 4_096
MAX_FORWARDED_ADDRESSES = 32

_IPV4_MAPPED_PREFIX = bytes(10) + b"\xff\xff"  # RFC 4291, section 2.5.5.2


def client_address(peer: str, forwarded_lines: Sequence[str], *, trust_proxy_headers: bool) -> str:
    """The client's canonical IP address, or `unknown`.

    `peer`: the address of the connection; `forwarded_lines`: the values of all X-Forwarded-For lines, in order.
    """
    packed_peer = _packed(peer)
    if packed_peer is None:
        return UNKNOWN_ADDRESS
    if trust_proxy_headers and forwarded_lines and _is_private(packed_peer):
        forwarded = _forwarded_client(forwarded_lines)
        if forwarded is not None:
            return _text(forwarded)
    return _text(packed_peer)


def _forwarded_client(lines: Sequence[str]) -> bytes | None:
    candidates: list[bytes] = []
    for line in lines[-MAX_FORWARDED_LINES:]:
        if len(line) > MAX_FORWARDED_LINE_CHARS:
            continue
        for part in line.split(","):
            packed = _packed(part)
            if packed is not None:
                candidates.append(packed)
    if not candidates:
        return None
    for packed in reversed(candidates[-MAX_FORWARDED_ADDRESSES:]):
        if not _is_private(packed):
            return packed
    return candidates[-1]


def _packed(text: str) -> bytes | None:
    """Four or sixteen bytes, or None when `text` is no IP address."""
    text = text.strip()
    if len(text) > MAX_ADDRESS_CHARS:
        return None
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    text = text.removesuffix(".")
    try:
        if ":" not in text:
            return inet_pton(AF_INET, text)
        # A link-local peer carries its interface (`fe80::1%eth0`), which inet_pton does not read.
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):  # ValueError: NUL or a character beyond ASCII
        return None
    return packed[12:] if packed.startswith(_IPV4_MAPPED_PREFIX) else packed


def _text(packed: bytes) -> str:
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def _is_private(packed: bytes) -> bool:
    """The ranges a reverse proxy on the same machine or network has; deliberately narrower than "not global"."""
    first, second = packed[0], packed[1]
    if len(packed) == 4:
        return (
            first in (0, 10, 127)
            or (first == 100 and 64 <= second < 128)
            or (first == 169 and second == 254)
            or (first == 172 and 16 <= second < 32)
            or (first == 192 and second == 168)
        )
    unspecified_or_loopback = packed[:15] == bytes(15) and packed[15] <= 1
    return unspecified_or_loopback or first & 0xFE == 0xFC or (first == 0xFE and second & 0xC0 == 0x80)
