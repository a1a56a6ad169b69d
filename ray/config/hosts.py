"""Hosts and the backend's URL: what is the same address, what stays on this machine, what points back at the gateway.

`ipaddress` and `urllib.parse` cost several milliseconds of start-up; `socket.inet_pton` is already loaded and as
strict as needed: dotted IPv4 with four decimal parts only, IPv6 without zone. Short, octal and decimal spellings of
an IPv4 address (`127.1`, `2130706433`) are refused as hosts, because clients disagree on what they mean.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

MAX_HOST_CHARS = 253
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER_LIKE = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_V4_MAPPED = b"\0" * 10 + b"\xff\xff"
_WILDCARDS = (bytes(4), bytes(16))
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The parts of a checked backend URL. `host` is lower-case and without brackets."""

    scheme: str
    host: str
    port: int
    path: str


def parse_address(host: str) -> bytes | None:
    """The packed IP address that a text spells, 4 or 16 bytes; IPv4-mapped IPv6 counts as IPv4. None for names."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, host)
        except (OSError, ValueError):  # ValueError: NUL or non-ASCII inside
            continue
        return packed[12:] if packed.startswith(_V4_MAPPED) else packed
    return None


def is_ipv6(host: str) -> bool:
    """Is this the text of an IPv6 address, without brackets?"""
    return ":" in host and parse_address(host) is not None


def is_dns_name(name: str) -> bool:
    """Lower-case labels of 1 to 63 letters, digits and inner hyphens; at most 253 characters together."""
    return len(name) <= MAX_HOST_CHARS and all(_LABEL.fullmatch(label) for label in name.split("."))


def normal_host(host: str) -> bytes | str:
    """What two spellings of one host have in common: the packed address, or the lower-case name."""
    name = host.strip().lower()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return parse_address(name) or name


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 or ::1, in any spelling."""
    normal = normal_host(host)
    if isinstance(normal, str):
        return normal == "localhost"
    return normal[0] == 127 if len(normal) == 4 else normal == bytes(15) + b"\1"


def is_wildcard(host: str) -> bool:
    """`0.0.0.0` or `::`: every address of the machine."""
    return normal_host(host) in _WILDCARDS


def hosts_overlap(one: str, other: str) -> bool:
    """Could a socket bound to one of them be reached by the other?"""
    if is_wildcard(one) or is_wildcard(other) or normal_host(one) == normal_host(other):
        return True
    return "localhost" in (normal_host(one), normal_host(other)) and is_loopback(one) and is_loopback(other)


def points_at_gateway(url: BaseUrl, server_host: str, server_port: int) -> bool:
    """Would calls to this URL come back to the gateway itself?"""
    if url.port != server_port:
        return False
    is_here = is_loopback(url.host) or is_wildcard(url.host) or normal_host(url.host) == normal_host(server_host)
    return is_here and hosts_overlap(url.host, server_host)


def origin(host: str, port: int) -> str:
    """`http://HOST:PORT` with the host in its normal spelling, IPv6 in brackets."""
    normal = normal_host(host)
    if isinstance(normal, bytes):
        normal = (
            socket.inet_ntop(socket.AF_INET, normal)
            if len(normal) == 4
            else f"[{socket.inet_ntop(socket.AF_INET6, normal)}]"
        )
    return f"http://{normal}:{port}"


def base_url_problem(value: str) -> str | None:
    """The problem with a backend URL, or None. The URL itself is never repeated: it may hold a password."""
    parsed = parse_base_url(value)
    return parsed if isinstance(parsed, str) else None


def parse_base_url(value: str) -> BaseUrl | str:
    """The parts of an absolute http(s) URL, or the problem with it."""
    if any(character <= " " or character == "\x7f" for character in value):
        return "must not contain whitespace or control characters"
    scheme = _SCHEME.match(value)
    if scheme is None:
        return "must be an absolute URL such as http://127.0.0.1:8081"
    if scheme[1].lower() not in DEFAULT_PORTS:
        return "must use http or https"
    rest = value[scheme.end() :]
    if "?" in rest or "#" in rest:
        return "must not have a query or a fragment"
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        return "must not contain a user name or password; name a variable in apiKeyEnv instead"
    if not value.isascii() or "\\" in value:
        return "must be ASCII without backslashes (encode other characters in the path as %XX)"
    parts = _AUTHORITY.fullmatch(authority)
    host = parts[1].lower() if parts else ""
    port = int(parts[2]) if parts and parts[2] else DEFAULT_PORTS[scheme[1].lower()]
    if not host or not _is_url_host(host) or not 1 <= port <= 65_535:
        return "must have a host name, a dotted IPv4 or a bracketed IPv6 address, and a port from 1 to 65535"
    return BaseUrl(scheme[1].lower(), host.strip("[]"), port, slash + path)


def web_origin_problem(value: str) -> str | None:
    """The problem with the origin of a web page, or None. It has to be spelled as browsers send it (RFC 6454, section
    6.2), for it is compared with their `Origin` header letter by letter."""
    if value == "*":
        return "must be one exact origin: `*` would let every page on the web use this gateway"
    if value == "null":
        return "must not be null: every sandboxed page and local file has that origin"
    scheme = _SCHEME.match(value)
    if scheme is None:
        return "must be an origin such as https://chat.example.org or http://localhost:5173"
    authority = value[scheme.end() :]
    if any(character in authority for character in "/?#"):
        return "must end after the host and port, without a slash or a path"
    if "@" in authority:
        return "must not contain a user name or password"
    if not value.isascii():
        return "must be ASCII (write an international name in its xn-- form)"
    if value != value.lower():
        return "must be in lower case, as browsers send it"
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not _is_url_host(parts[1]):
        return "must have a host name, a dotted IPv4 or a bracketed IPv6 address, and no more than a port after it"
    port = parts[2]
    if port is not None and (str(int(port)) != port or not 1 <= int(port) <= 65_535):
        return "must have a port from 1 to 65535 without leading zeros"
    if port is not None and int(port) == DEFAULT_PORTS.get(scheme[1]):
        return "must leave out the port that is the scheme's own, as browsers do"
    return None


def _is_url_host(host: str) -> bool:
    if host.startswith("["):
        return is_ipv6(host[1:-1])
    if parse_address(host) is not None:
        return True
    # A name whose last label is a number is an IPv4 address to some clients (WHATWG URL, section 3.5).
    name = host.removesuffix(".")
    return is_dns_name(name) and not _NUMBER_LIKE.fullmatch(name.rpartition(".")[2])
