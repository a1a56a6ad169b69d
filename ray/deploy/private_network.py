"""Networks that are private: where a node of a pool may listen, and who may connect to it.

Between Caddy and a node on another machine there is no TLS, so neither end may have a public address. What counts: RFC
1918, the shared space of RFC 6598 (which WireGuard-like meshes use), and the unique local addresses of RFC 4193.
"""

from __future__ import annotations

import ipaddress

MAX_PROXIES = 8
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NETWORKS = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)


def address_of(host: str) -> Address | None:
    """The address that `host` spells, in brackets or without, IPv4 in IPv6 as IPv4; None for a name.

    An address with a zone (`fe80::1%eth0`) is none: it means something on one link of one machine only.
    """
    try:
        address = ipaddress.ip_address(host.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if getattr(address, "scope_id", None) is not None:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def private_network(host: str) -> str | None:
    """The private network that the address `host` belongs to, such as `10.0.0.0/8`; None when it is in none."""
    address = address_of(host)
    return next((str(network) for network in _NETWORKS if address is not None and address in network), None)


def proxies_problem(text: str) -> str | None:
    """The problem with the addresses of proxies, separated by commas ("must …")."""
    hosts = text.split(",")
    if len(hosts) <= MAX_PROXIES and all(map(private_network, hosts)):
        return None
    return f"must be up to {MAX_PROXIES} addresses of a private network, separated by commas, such as 10.0.0.2"


def proxies_of(text: str) -> tuple[str, ...]:
    """The addresses in `text`, in their normal spelling and each once, where `proxies_problem` finds nothing."""
    return tuple(dict.fromkeys(str(address_of(host)) for host in text.split(",")))


def allowed_peers(host: str, proxies: tuple[str, ...]) -> tuple[str, ...] | None:
    """Who may connect to a gateway on this private address; None when it is no private address.

    This machine, also by its own address (what connects to 10.0.0.11 here comes from 10.0.0.11), and the proxies;
    without a proxy that is named, the whole private network.
    """
    network = private_network(host)
    if network is None:
        return None
    return ("localhost", *dict.fromkeys((str(address_of(host)), *proxies))) if proxies else ("localhost", network)
