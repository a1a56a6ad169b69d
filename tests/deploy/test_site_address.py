"""Site addresses: a host with scheme and port, and nothing else that Caddy would understand."""

from __future__ import annotations

import pytest

from ray.deploy.site_address import SiteAddress, parse_site_address


def parsed(text: str) -> SiteAddress:
    address = parse_site_address(text)
    assert isinstance(address, SiteAddress), address
    return address


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("ray.example.com", None, "ray.example.com", None),
        ("Ray.Example.COM", None, "ray.example.com", None),
        ("ray.example.com.", None, "ray.example.com.", None),
        ("https://ray.example.com:8443", "https", "ray.example.com", 8443),
        ("http://localhost:8080", "http", "localhost", 8080),
        ("*.example.com", None, "*.example.com", None),
        (":443", None, "", 443),
        ("203.0.113.9", None, "203.0.113.9", None),
        ("[2001:db8::1]:443", None, "2001:db8::1", 443),
        ("[::ffff:7f00:1]:8443", None, "::ffff:7f00:1", 8443),
        ("xn--bcher-kva.example.com", None, "xn--bcher-kva.example.com", None),
    ],
)
def test_addresses_are_taken_apart(text: str, scheme: str | None, host: str, port: int | None) -> None:
    assert parsed(text) == SiteAddress(text, scheme, host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ray.example.com",
        "ray.example.com\n",
        "a b",
        "x {",
        "x}",
        "a.com,b.com",
        "#x",
        '"q"',
        "`q`",
        "ray.example.com/path",
        "ray.example.com:0",
        "ray.example.com:65536",
        "ray.example.com:",
        "ray.example.com:\u0664\u0664\u0663",
        "ftp://ray.example.com",
        "http://",
        "https://:x",
        "{$DOMAIN}",
        "{env.DOMAIN}",
        "(snippet)",
        "a..b",
        "-a.example.com",
        "a_b.example.com",
        "b\u00fccher.example.com",
        "2001:db8::1",
        "[ray.example.com]",
        "[1.2.3.4]",
        "127.1",
        "0x7f.1",
        "x\0y",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    assert isinstance(parse_site_address(text), str)


@pytest.mark.parametrize("length", [254, 513, 100_000])
def test_long_names_are_refused(length: int) -> None:
    assert isinstance(parse_site_address(("a" * 60 + ".") * (length // 61) + "a" * (length % 61)), str)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("ray.example.com", False),
        ("https://ray.example.com", False),
        ("http://ray.example.com", False),
        ("*.example.com", False),
        ("8.8.8.8", False),
        ("[2606:4700::1111]", False),
        (":443", True),
        ("ray.local", True),
        ("ray.local.", True),
        ("*.local", True),
        ("localhost", True),
        ("foo.localhost", True),
        ("box", True),
        ("ray.internal", True),
        ("ray.test", True),
        ("ray.home.arpa", True),
        ("0.0.0.0", True),
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("127.0.0.1", True),
        ("169.254.1.1", True),
        ("172.31.0.1", True),
        ("192.0.0.8", True),
        ("192.0.2.1", True),
        ("192.168.1.1", True),
        ("198.18.0.1", True),
        ("198.51.100.1", True),
        ("203.0.113.9", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("[::]", True),
        ("[::1]", True),
        ("[fc00::1]", True),
        ("[fe80::1]", True),
        ("[ff02::1]", True),
        ("[2001:db8::1]", True),
        ("[::ffff:7f00:1]:8443", True),
    ],
)
def test_addresses_that_no_authority_can_reach_are_local(text: str, local: bool) -> None:
    assert parsed(text).is_local is local
