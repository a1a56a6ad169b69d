"""Which addresses and ports a callback may reach: own tables, decided on packed bytes.

A client chooses the URL, and Ray makes the request from inside the network. So every address of a name is judged, what
is special is refused, and the connection goes to the judged address. The tables are Ray's own because what libraries
call "global" differs between their releases; text is never compared because one address has many spellings.
Source: jobs, sections 10.3, 10.4 and 17 (B8); the IANA special-purpose address registries.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from ray.config import BaseUrl, Config, LlamaCppAdapter, MockAdapter, parse_base_url
from ray.jobs.urls import DEFAULT_PORTS, CallbackUrl

FIRST_UNPRIVILEGED_PORT = 1_024

_V4_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2
_NAT64 = b"\x00\x64\xff\x9b" + bytes(8)  # 64:ff9b::/96, RFC 6052 section 2.1
_V6_LOOPBACK = bytes(15) + b"\1"


def _networks(*texts: str) -> tuple[tuple[int, int], ...]:
    """(bits to drop on the right, what remains) for each `address/length`."""
    parsed = []
    for text in texts:
        address, _, length = text.partition("/")
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        drop = len(packed) * 8 - int(length)
        parsed.append((drop, int.from_bytes(packed, "big") >> drop))
    return tuple(parsed)


_SPECIAL_V4 = _networks(
    "0.0.0.0/8",  # this network; 0.0.0.0 is this machine to Linux
    "10.0.0.0/8",  # private
    "100.64.0.0/10",  # shared by carriers
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local; cloud metadata
    "172.16.0.0/12",  # private
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # old 6to4 relays
    "192.168.0.0/16",  # private
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/3",  # multicast, reserved, broadcast
)
_GLOBAL_V6 = _networks("2000::/3")
_SPECIAL_V6 = _networks(
    "2001::/23",  # Teredo, ORCHID, benchmarking and other protocol assignments
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4: an IPv4 address inside
    "3fff::/20",  # documentation
)


def unmapped(packed: bytes) -> bytes:
    """The IPv4 address inside an IPv4-mapped IPv6 one; any other address as it is."""
    return packed[12:] if len(packed) == 16 and packed.startswith(_V4_MAPPED) else packed


def is_public(packed: bytes) -> bool:
    """Whether a packed address (4 or 16 bytes) belongs to the public internet.

    IPv4-mapped and NAT64 addresses are what the IPv4 address inside them is: behind DNS64 every IPv4-only receiver has
    a NAT64 address. Of IPv6 only 2000::/3 is public, less its special parts.
    """
    if len(packed) == 16 and packed.startswith((_V4_MAPPED, _NAT64)):
        packed = packed[12:]
    number = int.from_bytes(packed, "big")
    if len(packed) == 4:
        return not _within(number, _SPECIAL_V4)
    return len(packed) == 16 and _within(number, _GLOBAL_V6) and not _within(number, _SPECIAL_V6)


def is_this_machine(packed: bytes) -> bool:
    """A loopback or unspecified address: what connects there connects to this machine."""
    address = unmapped(packed)
    return address[0] in (0, 127) if len(address) == 4 else address in (_V6_LOOPBACK, bytes(16))


def _within(number: int, networks: tuple[tuple[int, int], ...]) -> bool:
    return any(number >> drop == network for drop, network in networks)


def packed_address(text: str) -> bytes | None:
    """The packed form of an address in dotted or colon spelling; None for anything else, zones included."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):  # ValueError: NUL or non-ASCII inside
            continue
    return None


def address_text(packed: bytes) -> str:
    """The number to connect to."""
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


class AllowedHosts:
    """The hosts of `asyncQueue.callbackAllowedHosts`: names, `*.` names (any depth below, not the name itself) and
    addresses. Upper and lower case, brackets and one trailing dot make no difference; addresses compare packed."""

    __slots__ = ("_addresses", "_names", "_suffixes")

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._addresses: set[bytes] = set()
        suffixes: list[str] = []
        for entry in entries:
            name = entry.strip().lower().removesuffix(".")
            packed = packed_address(name.removeprefix("[").removesuffix("]"))
            if packed is not None:
                self._addresses.add(unmapped(packed))
            elif name.startswith("*."):
                suffixes.append(name[1:])
            else:
                self._names.add(name)
        self._suffixes = tuple(suffixes)

    def __contains__(self, url: CallbackUrl) -> bool:
        if url.address is not None:
            return unmapped(url.address) in self._addresses
        return url.host in self._names or url.host.endswith(self._suffixes)


def own_ports(config: Config) -> frozenset[int]:
    """The ports of the gateway and of its backend, which no callback may reach unless they are listed as allowed.

    A backend behind a web port (80, 443) is a service elsewhere: that port stays open, or nothing could be called.
    """
    ports = {config.server.port}
    adapter = config.model.adapter
    if not isinstance(adapter, MockAdapter):
        url = parse_base_url(adapter.base_url)
        if isinstance(url, BaseUrl) and url.port not in DEFAULT_PORTS.values():
            ports.add(url.port)
    if isinstance(adapter, LlamaCppAdapter) and adapter.launch_profile is not None:
        ports.add(adapter.launch_profile.port)
    return frozenset(ports)


def is_open_port(port: int, own: frozenset[int], allowed: Iterable[int]) -> bool:
    """80, 443 and the unprivileged ports but Ray's own, and whatever the operator lists."""
    if port in allowed:
        return True
    return port not in own and (port in DEFAULT_PORTS.values() or port >= FIRST_UNPRIVILEGED_PORT)
