"""Whose address counts: the peer's, or what a trusted proxy says."""

from __future__ import annotations

import pytest

from ray.gateway.client_address import client_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9.", "203.0.113.9"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("2001:0db8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:5DB8:D822", "93.184.216.34"),
        ("0:0:0:0:0:ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::1"),
        ("", "unknown"),
        ("not-an-ip", "unknown"),
        ("203.0.113", "unknown"),
        ("203.0.113.256", "unknown"),
        ("0203.0.113.9", "unknown"),
        ("203.0.113.9:80", "unknown"),
        ("[2001:db8::1]:80", "unknown"),
        ("2001:db8::1::2", "unknown"),
        ("203.0.113.9\0", "unknown"),
        ("2o3.0.113.9", "unknown"),
        ("٢٠٣.0.113.9", "unknown"),
        ("fe80::1%" + "e" * 56, "fe80::1"),
        ("fe80::1%" + "e" * 57, "unknown"),
    ],
)
def test_an_address_is_normalised_or_unknown(text: str, address: str) -> None:
    assert client_address(text, [], trust_proxy_headers=False) == address


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("127.0.0.1", ["203.0.113.10, 10.0.0.2"], "203.0.113.10"),
        ("198.51.100.7", ["203.0.113.10, 10.0.0.2"], "198.51.100.7"),
        ("127.0.0.1", ["spoofed, 198.51.100.9, 10.0.0.2"], "198.51.100.9"),
        ("127.0.0.1", ["203.0.113.66, 198.51.100.9"], "198.51.100.9"),
        ("127.0.0.1", ["not-an-ip"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.1," + " " * 4_084], "203.0.113.1"),
        ("127.0.0.1", ["203.0.113.1," + " " * 4_085], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.10:4711"], "127.0.0.1"),
        ("127.0.0.1", ["::ffff:5db8:d822"], "93.184.216.34"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["10.0.0.9, 192.168.0.7"], "192.168.0.7"),
        ("127.0.0.1", ["203.0.113.1", "203.0.113.2"], "203.0.113.2"),
        ("127.0.0.1", ["203.0.113.1", "x" * 4_097], "203.0.113.1"),
        # Only the last four lines count.
        ("127.0.0.1", ["203.0.113.1", "junk", "junk", "junk", "junk"], "127.0.0.1"),
        # Only the last 32 addresses count.
        ("127.0.0.1", ["203.0.113.1" + ", 10.0.0.2" * 32], "10.0.0.2"),
        ("127.0.0.1", ["203.0.113.1" + ", 10.0.0.2" * 31], "203.0.113.1"),
        ("unix", ["203.0.113.1"], "unknown"),
    ],
)
def test_the_rightmost_public_address_of_a_trusted_proxy_counts(peer: str, lines: list[str], client: str) -> None:
    assert client_address(peer, lines, trust_proxy_headers=True) == client


def test_given_untrusted_headers_when_a_local_peer_sends_them_then_the_peer_counts() -> None:
    assert client_address("127.0.0.1", ["203.0.113.10"], trust_proxy_headers=False) == "127.0.0.1"


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("0.0.0.1", True),
        ("10.255.255.255", True),
        ("100.63.255.255", False),
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("127.0.0.2", True),
        ("169.253.1.1", False),
        ("169.254.1.1", True),
        ("172.15.255.255", False),
        ("172.16.0.0", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.167.1.1", False),
        ("192.168.1.1", True),
        ("::", True),
        ("::1", True),
        ("::2", False),
        ("fc00::1", True),
        ("fdff::1", True),
        ("fe00::1", False),
        ("fe80::1", True),
        ("febf::1", True),
        ("fec0::1", False),
        ("2001:db8::1", False),
        ("::ffff:10.0.0.1", True),
    ],
)
def test_only_a_private_peer_is_believed(peer: str, trusted: bool) -> None:
    client = client_address(peer, ["203.0.113.10"], trust_proxy_headers=True)
    assert (client == "203.0.113.10") is trusted
