"""Callback URLs: one strict grammar, and the one spelling in which a URL is stored and used.

What two readers could take for different places is refused instead of repaired: user names, fragments, backslashes, odd
spellings of IPv4 addresses (`127.1`, `0x7f.1`, `2130706433`), IPv6 zones, names outside ASCII. Whether the place may be
reached is decided elsewhere (`addresses.py`). Lengths are counted in characters.
Source: jobs, sections 10.1 and 17 (B8).
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from ray.errors import RayError

MAX_URL_CHARS = 2_048
MAX_HOST_CHARS = 253
DEFAULT_PORTS = {"http": 80, "https": 443}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Everything up to the path is ASCII; `re` lets `$` match before a final newline, so only `fullmatch` is used.
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OCTET = r"(?:0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
_DOTTED_QUAD = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
# A name that ends like this is an IPv4 address to many clients (WHATWG URL, section 3.5, "ends in a number").
_ENDS_IN_A_NUMBER = re.compile(r"[0-9]+|0x.*")
_CONTROL_OR_BLANK = re.compile(r"[\x00-\x20\x7f]")
# What may stand in a path or query as it is (RFC 3986 section 3.3 and 3.4); `%` begins an escape or is left alone.
_OUTSIDE_PATH = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:/?%-]+")


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """The parts of a normalised URL. `host`: lower-case name or address, IPv6 without brackets. `target`: path and
    query as the request line has them. `address`: the packed address when the host is one."""

    scheme: str
    host: str
    port: int
    target: str
    address: bytes | None

    @property
    def authority(self) -> str:
        """Host and port as in the URL and in the `Host` header: IPv6 in brackets, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parsed_url(value: object) -> CallbackUrl:
    """The parts of a callback URL, normalised: lower-case scheme and host, no default port, `/` for an empty path, the
    rest percent-encoded where needed. Normalising twice changes nothing. Raises `RayError` invalid_request, which never
    shows the URL: its query may hold a token."""
    if not isinstance(value, str) or not value.strip():
        raise _refused("must be a non-empty string")
    if len(value) > MAX_URL_CHARS:
        raise _refused(f"must be at most {MAX_URL_CHARS} characters")
    if _CONTROL_OR_BLANK.search(value):
        raise _refused("must not contain whitespace or control characters")
    for mark in "@#\\":
        if mark in value:
            raise _refused(f"must not contain {mark!r}: no user name, no fragment (in a path or query write %XX)")
    scheme = _SCHEME.match(value)
    if scheme is None or scheme[1].lower() not in DEFAULT_PORTS:
        raise _refused("must be an absolute http or https URL")
    rest = value[scheme.end() :]
    end = next((place for place, character in enumerate(rest) if character in "/?"), len(rest))
    url = _url(scheme[1].lower(), rest[:end], rest[end:])
    if len(str(url)) > MAX_URL_CHARS:
        raise _refused(f"must be at most {MAX_URL_CHARS} characters once its path is percent-encoded")
    return url


def _url(scheme: str, authority: str, target: str) -> CallbackUrl:
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _refused(
            "must have a host name in ASCII (an international one in its xn-- form), a dotted IPv4 or a bracketed "
            "IPv6 address, and a port from 1 to 65535 or none"
        )
    port = int(parts[2]) if parts[2] else DEFAULT_PORTS[scheme]
    if port > 65_535:
        raise _refused("must have a port from 1 to 65535")
    host, address = _host(parts[1].lower())
    if not target.startswith("/"):
        target = "/" + target
    try:
        return CallbackUrl(scheme, host, port, _OUTSIDE_PATH.sub(_percent_encoded, target), address)
    except UnicodeEncodeError:
        raise _refused("must not contain half of a surrogate pair") from None


def _host(text: str) -> tuple[str, bytes | None]:
    """The host's one spelling, and the packed address if it is one."""
    if text.startswith("["):
        try:
            packed = socket.inet_pton(socket.AF_INET6, text[1:-1])
        except OSError:
            raise _refused("has no valid IPv6 address between the brackets") from None
        return socket.inet_ntop(socket.AF_INET6, packed), packed
    if _DOTTED_QUAD.fullmatch(text):
        return text, bytes(int(part) for part in text.split("."))
    name = text.removesuffix(".")
    labels = name.split(".")
    if _ENDS_IN_A_NUMBER.fullmatch(labels[-1]):
        raise _refused("must spell an IPv4 address as four decimal numbers without leading zeros")
    if len(name) > MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("must have a valid host name: labels of 1 to 63 letters, digits and inner hyphens")
    return name, None


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8"))


def _refused(problem: str) -> RayError:
    details = {"field": "callbackUrl", "reason": "invalid_url"}
    return RayError("invalid_request", f"callbackUrl {problem}", details=details)
