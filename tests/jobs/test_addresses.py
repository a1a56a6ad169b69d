"""Which addresses are public: every edge of every table, and the same answer as an oracle of another make."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.config import config_from_mapping
from ray.jobs.addresses import (
    AllowedHosts,
    address_text,
    is_open_port,
    is_public,
    is_this_machine,
    own_ports,
    packed_address,
    unmapped,
)
from ray.jobs.urls import parsed_url


def words(text: str) -> list[str]:
    return text.split()


SPECIAL_V4 = words("""
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3""")
SPECIAL_V6 = words("2001::/23 2001:db8::/32 2002::/16 3fff::/20")
# Right below and right above the special ranges.
PUBLIC_V4 = words("""
1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.1.255 192.0.3.0 192.88.98.255 192.88.100.0
192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
223.255.255.255 8.8.8.8""")
PUBLIC_V6 = words("""
2000:: 2000:ffff:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2001:4860:4860::8888 2003:: 2606:4700::1111
3ffe:ffff:: 3fff:1000:: 3fff:ffff:ffff::""")
NOT_PUBLIC_V6 = words("""
:: ::1 ::2 ::10.0.0.1 ::8.8.8.8 64:ff9b:1::1 64:ff9b:0:1::8.8.8.8 100::1 100:0:0:1::1 1fff:ffff::
4000:: 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1 ::ffff:0:8.8.8.8 2001::1 2001:1ff:ffff:: 2001:10::1
2002:808:808:: 3fff:fff:ffff::""")


def packed(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def mapped(v4: bytes) -> bytes:
    return bytes.fromhex("00000000000000000000ffff") + v4


def nat64(v4: bytes) -> bytes:
    return bytes.fromhex("0064ff9b0000000000000000") + v4


@pytest.mark.parametrize("network", SPECIAL_V4 + SPECIAL_V6)
def test_given_the_first_and_last_address_of_a_special_network_when_judged_then_neither_is_public(network: str) -> None:
    whole = ipaddress.ip_network(network)
    assert not is_public(whole[0].packed)
    assert not is_public(whole[-1].packed)


@pytest.mark.parametrize("text", PUBLIC_V4 + PUBLIC_V6)
def test_given_an_address_beside_a_special_network_when_judged_then_it_is_public(text: str) -> None:
    assert is_public(packed(text))


@pytest.mark.parametrize("text", NOT_PUBLIC_V6)
def test_given_an_ipv6_address_outside_the_global_range_when_judged_then_it_is_not_public(text: str) -> None:
    assert not is_public(packed(text))


@given(st.binary(min_size=4, max_size=4))
def test_given_any_ipv4_address_when_judged_then_all_its_forms_are_judged_alike(v4: bytes) -> None:
    address = ipaddress.IPv4Address(v4)
    special = any(address in ipaddress.IPv4Network(network) for network in SPECIAL_V4)
    assert is_public(v4) is not special
    assert is_public(mapped(v4)) is not special
    assert is_public(nat64(v4)) is not special
    assert not is_public(bytes(12) + v4)  # IPv4-compatible, ::a.b.c.d
    assert not is_public(b"\x20\x02" + v4 + bytes(10))  # 6to4
    assert unmapped(mapped(v4)) == v4
    assert packed_address(address_text(v4)) == v4


@given(
    st.one_of(
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=14, max_size=14).map(b"\x20\x01".__add__),
        st.binary(min_size=15, max_size=15).map(b"\x3f".__add__),
    )
)
def test_given_any_ipv6_address_when_judged_then_the_answer_is_that_of_the_oracle(v6: bytes) -> None:
    address = ipaddress.IPv6Address(v6)
    if v6.startswith((mapped(b""), nat64(b""))):
        return
    special = any(address in ipaddress.IPv6Network(network) for network in SPECIAL_V6)
    assert is_public(v6) is (address in ipaddress.IPv6Network("2000::/3") and not special)


@pytest.mark.parametrize("wrong", [b"", b"\x08" * 3, b"\x20" * 15, b"\x20" * 17])
def test_given_bytes_that_are_no_address_when_judged_then_they_are_not_public(wrong: bytes) -> None:
    assert not is_public(wrong)


@pytest.mark.parametrize(
    ("text", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1", False),
        ("::2", False),
    ],
)
def test_given_an_address_when_asked_whether_it_is_this_machine_then_loopback_and_unspecified_are(
    text: str, here: bool
) -> None:
    assert is_this_machine(packed(text)) is here


@pytest.mark.parametrize(
    ("entry", "url", "matches"),
    [
        ("trusted.example", "https://trusted.example/", True),
        ("Trusted.Example.", "https://trusted.example/", True),
        ("trusted.example", "https://TRUSTED.example.:8443/", True),
        ("trusted.example", "https://hooks.trusted.example/", False),
        ("trusted.example", "https://untrusted.example/", False),
        ("*.trusted.example", "https://hooks.trusted.example/", True),
        ("*.trusted.example", "https://a.b.trusted.example/", True),
        ("*.trusted.example", "https://trusted.example/", False),
        ("*.trusted.example", "https://eviltrusted.example/", False),
        ("127.0.0.1", "http://127.0.0.1:8080/", True),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]/", True),
        ("127.0.0.1", "http://127.0.0.2/", False),
        ("[2001:db8::1]", "http://[2001:db8:0:0::1]/", True),
        ("2001:0db8::0001", "http://[2001:db8::1]/", True),
        ("2001:db8::1", "http://[2001:db8::2]/", False),
        ("*.example", "http://1.2.3.4/", False),
    ],
)
def test_given_an_allowed_host_when_a_url_is_looked_up_then_name_suffix_or_address_decide(
    entry: str, url: str, matches: bool
) -> None:
    assert (parsed_url(url) in AllowedHosts([entry])) is matches


def test_given_no_allowed_hosts_when_a_url_is_looked_up_then_it_is_not_among_them() -> None:
    assert parsed_url("https://trusted.example/") not in AllowedHosts([])


@pytest.mark.parametrize(
    ("port", "allowed", "is_open"),
    [
        (80, (), True),
        (443, (), True),
        (1024, (), True),
        (65_535, (), True),
        (1023, (), False),
        (22, (), False),
        (25, (), False),
        (1, (), False),
        (3000, (), False),
        (8081, (), False),
        (25, (25,), True),
        (3000, (3000,), True),
    ],
)
def test_given_a_port_when_judged_then_web_and_unprivileged_ports_are_open_but_not_rays_own(
    port: int, allowed: tuple[int, ...], is_open: bool
) -> None:
    assert is_open_port(port, frozenset({3000, 8081}), allowed) is is_open


@pytest.mark.parametrize(
    ("document", "ports"),
    [
        ({"profile": "tiny", "server": {"port": 3100}}, {3100}),
        ({"profile": "sub1b"}, {3000, 8081}),
        ({"profile": "vps", "model": {"adapter": {"baseUrl": "http://10.0.0.5:9000"}}}, {3000, 9000}),
        ({"profile": "vps", "model": {"adapter": {"baseUrl": "https://models.example/v1"}}}, {3000}),
    ],
)
def test_given_a_config_when_its_own_ports_are_listed_then_a_remote_web_port_is_none_of_them(
    document: dict[str, object], ports: set[int]
) -> None:
    assert own_ports(config_from_mapping(document)) == ports
