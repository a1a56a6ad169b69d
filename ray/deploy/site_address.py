"""The public address of the site: what Caddy serves, and whether the internet can reach it.

A host, with scheme and port where wanted. Caddy's file takes far more in this place (lists, paths, placeholders,
comments, quotes), and most of it would change the meaning of the lines that follow, so it is refused.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_BYTES = 512
_PARTS = re.compile(r"(?:(https?)://)?(\[[0-9a-fA-F:.]+\]|[^:/\[\]]*)(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER_LIKE = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Names that never have a public address: RFC 6761, RFC 6762, RFC 8375, and what ICANN set aside for private use.
_LOCAL_SUFFIXES = ("local", "localhost", "internal", "test", "invalid", "home.arpa", "lan", "example")
# Written down here because `ipaddress.is_global` changes with the Python (IANA special-purpose registries, RFC 6890).
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/3"),
            *("::/127", "2001:db8::/32", "fc00::/7", "fe80::/10", "ff00::/8"),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class SiteAddress:
    """A checked address. `host`: lower-case, without brackets, empty for `:443`. `scheme`: as given, or None."""

    text: str
    scheme: str | None
    host: str
    port: int | None

    @property
    def is_local(self) -> bool:
        """Can no certificate authority reach it? True for no host, a local name, or an address that is not public."""
        if not self.host:
            return True
        address = _address(self.host)
        if address is not None:
            return any(address in network for network in _NOT_PUBLIC)
        name = self.host.removesuffix(".").removeprefix("*.")
        return "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _LOCAL_SUFFIXES))


def parse_site_address(text: str) -> SiteAddress | str:
    """The parts of a site address, or the problem with it ("must …")."""
    wanted = "must be a host name such as ray.example.com, with http:// or https:// and a port where wanted"
    if not text or text != text.strip() or len(text.encode(errors="replace")) > MAX_BYTES:
        return wanted
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return wanted
    scheme, host, digits = parts[1], parts[2].lower().strip("[]"), parts[3]
    port = int(digits) if digits else None
    if (not host and port is None) or (port is not None and not 1 <= port <= 65_535):
        return wanted
    bracketed = parts[2].startswith("[")
    if host and not _is_host(host, bracketed=bracketed):
        return wanted
    return SiteAddress(text, scheme, host, port)


def _is_host(host: str, *, bracketed: bool) -> bool:
    address = _address(host)
    if address is not None or bracketed:
        # As it is spelled: an IPv4-mapped IPv6 address is still written in brackets.
        return address is not None and bracketed == (":" in host)
    labels = host.removesuffix(".").removeprefix("*.").split(".")
    # A name whose last label is a number is an IPv4 address to some clients (WHATWG URL, section 3.5).
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _NUMBER_LIKE.fullmatch(labels[-1])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
