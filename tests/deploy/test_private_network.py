"""Which addresses are private, and who may connect to a gateway on one of them."""

from __future__ import annotations

import pytest

from ray.deploy.private_network import allowed_peers, private_network, proxies_of, proxies_problem

PRIVATE = {
    "10.0.0.0": "10.0.0.0/8",
    "10.255.255.255": "10.0.0.0/8",
    "172.16.0.1": "172.16.0.0/12",
    "172.31.255.255": "172.16.0.0/12",
    "192.168.255.1": "192.168.0.0/16",
    "100.64.0.1": "100.64.0.0/10",
    "100.127.255.255": "100.64.0.0/10",
    "fd12::1": "fc00::/7",
    "[FD12::1]": "fc00::/7",
    "::ffff:10.0.0.1": "10.0.0.0/8",
}
OTHERS = (
    *("9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.0.1", "192.169.0.1", "100.63.0.1"),
    *("100.128.0.0", "127.0.0.1", "0.0.0.0", "::", "::1", "169.254.0.1", "203.0.113.1", "2001:db8::1", "fe80::1"),
    *("fe00::1", "fd00::1%eth0", "::ffff:203.0.113.1", "10.1", "10.0.0.1/8", "node.internal", "", "10.0.0.01"),
)


@pytest.mark.parametrize(("host", "network"), PRIVATE.items())
def test_an_address_of_a_private_network_is_known_by_it(host: str, network: str) -> None:
    assert private_network(host) == network


@pytest.mark.parametrize("host", OTHERS)
def test_everything_else_is_not_private_and_nobody_is_let_in_for_it(host: str) -> None:
    assert private_network(host) is None
    assert allowed_peers(host, ("10.0.0.2",)) is None


@pytest.mark.parametrize("text", ["10.0.0.2", "10.0.0.2,10.0.0.3", "10.0.0.2, fd00::2", "[fd00::2]"])
def test_addresses_of_proxies_are_taken(text: str) -> None:
    assert proxies_problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "10.0.0.2,", "10.0.0.0/8", "203.0.113.9", "127.0.0.1", "any", "proxy.internal", "10.0.0.2 any"),
        *("fd00::1%i", ",".join(f"10.0.0.{number}" for number in range(9))),
    ],
)
def test_what_would_let_others_in_is_refused(text: str) -> None:
    problem = proxies_problem(text)
    assert problem is not None
    assert "private network" in problem


def test_proxies_are_named_once_and_in_one_spelling() -> None:
    assert proxies_of("10.0.0.2, fd00:0::2,[fd00::2],::ffff:10.0.0.2") == ("10.0.0.2", "fd00::2")


def test_a_machine_may_always_reach_its_own_gateway() -> None:
    """What connects to an address of its own machine comes from that address, and not from localhost."""
    assert allowed_peers("10.0.0.11", ("10.0.0.2",)) == ("localhost", "10.0.0.11", "10.0.0.2")
    assert allowed_peers("10.0.0.11", ()) == ("localhost", "10.0.0.0/8")
