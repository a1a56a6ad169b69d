"""Addresses, the backend's URL, and callback hosts."""

from __future__ import annotations

import pytest

from ray.config.hosts import (
    BaseUrl,
    base_url_problem,
    hosts_overlap,
    is_loopback,
    is_wildcard,
    origin,
    parse_base_url,
)
from ray.config.names import callback_host_problem
from tests.config.support import changed, load_with, refusal


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("http://127.0.0.1:8081", BaseUrl("http", "127.0.0.1", 8081, "")),
        ("http://127.0.0.1:8081/", BaseUrl("http", "127.0.0.1", 8081, "/")),
        ("HTTPS://Models.Example/v1/x", BaseUrl("https", "models.example", 443, "/v1/x")),
        ("http://[::1]:65535", BaseUrl("http", "::1", 65_535, "")),
        ("http://a-b.c.", BaseUrl("http", "a-b.c.", 80, "")),
    ],
)
def test_url_parts(value: str, parts: BaseUrl) -> None:
    assert parse_base_url(value) == parts
    assert load_with("vps", model__adapter__baseUrl=value).model.adapter.base_url == value  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("127.0.0.1:8081", "must be an absolute URL"),
        ("//127.0.0.1:8081", "must be an absolute URL"),
        ("http:/127.0.0.1", "must be an absolute URL"),
        ("localhost:8081", "must be an absolute URL"),
        ("file:///etc/passwd", "must use http or https"),
        ("ftp://127.0.0.1", "must use http or https"),
        ("http://127.0.0.1:8081?token=x", "must not have a query or a fragment"),
        ("http://127.0.0.1:8081#x", "must not have a query or a fragment"),
        ("http://127.0.0.1:8081/?", "must not have a query or a fragment"),
        ("http://ray:secret@127.0.0.1:8081", "must not contain a user name or password"),
        ("http://ray@127.0.0.1:8081", "must not contain a user name or password"),
        ("http://127.0.0.1:8081/a\tb", "must not contain whitespace or control characters"),
        (" http://127.0.0.1:8081", "must not contain whitespace or control characters"),
        ("http://127.0.0.1:8081\x7f", "must not contain whitespace or control characters"),
        ("http://127.0.0.1:65536", "a port from 1 to 65535"),
        ("http://127.0.0.1:0", "a port from 1 to 65535"),
        ("http://127.0.0.1:", "a port from 1 to 65535"),
        ("http://127.0.0.1:80:80", "must have a host name"),
        ("http://", "must have a host name"),
        ("http:///path", "must have a host name"),
        ("http://:8081", "must have a host name"),
        ("http://127.1:3000", "must have a host name, a dotted IPv4"),
        ("http://2130706433:3000", "must have a host name, a dotted IPv4"),
        ("http://0x7f.1:3000", "must have a host name, a dotted IPv4"),
        ("http://127.0.0.01:3000", "must have a host name, a dotted IPv4"),
        ("http://999.1.1.1", "must have a host name, a dotted IPv4"),
        ("http://::1:3000", "must have a host name, a dotted IPv4"),
        ("http://[127.0.0.1]", "must have a host name, a dotted IPv4"),
        ("http://[fe80::1%eth0]", "must have a host name, a dotted IPv4"),
        ("http://under_score", "must have a host name, a dotted IPv4"),
        ("http://-a.example", "must have a host name, a dotted IPv4"),
        ("http://bücher.example", "must be ASCII"),
        ("http://host\\evil", "must be ASCII without backslashes"),
    ],
)
def test_bad_url_is_refused_and_not_repeated(value: str, words: str) -> None:
    problem = base_url_problem(value)
    assert problem is not None
    assert words in problem
    assert "secret" not in problem
    assert words in refusal(changed("vps", model__adapter__baseUrl=value))


def test_url_length() -> None:
    stem = "http://127.0.0.1/"
    load_with("vps", model__adapter__baseUrl=stem + "a" * (2048 - len(stem)))
    assert "at most 2048" in refusal(changed("vps", model__adapter__baseUrl=stem + "a" * (2049 - len(stem))))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", " 127.0.0.1 ", "127.9.9.9", "::1", "[::1]", "0:0:0:0:0:0:0:1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "::2", "localhost.example", "127.1", "fe80::1"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001"])
def test_mapped_addresses_are_ipv4(host: str) -> None:
    assert is_loopback(host)
    assert hosts_overlap(host, "127.0.0.1")


def test_wildcards() -> None:
    assert all(is_wildcard(host) for host in ("0.0.0.0", "::", "0:0:0:0:0:0:0:0", "[::]"))
    assert not is_wildcard("127.0.0.1")


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("0.0.0.0", "10.0.0.1", True),
        ("127.0.0.1", "::", True),
        ("localhost", "::1", True),
        ("localhost", "127.0.0.2", True),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "127.0.0.2", False),
        ("a.example", "A.example", True),
        ("a.example", "b.example", False),
        ("localhost", "10.0.0.1", False),
    ],
)
def test_overlap_is_symmetric(one: str, other: str, overlap: bool) -> None:
    assert hosts_overlap(one, other) is overlap
    assert hosts_overlap(other, one) is overlap


def test_origin_spells_addresses_one_way() -> None:
    assert origin("0:0:0:0:0:0:0:1", 80) == "http://[::1]:80"
    assert origin("::ffff:7f00:1", 81) == "http://127.0.0.1:81"
    assert origin("Host.Example", 82) == "http://host.example:82"


@pytest.mark.parametrize(
    "entry",
    [
        "a.example",
        "Example.COM.",
        "*.trusted.example",
        "*.com",
        "localhost",
        "127.0.0.1",
        "999.1.1.1",
        "[2001:db8::1]",
        "2001:db8::1",
        "xn--bcher-kva.example",
        "a" * 63 + ".example",
    ],
)
def test_callback_host_is_kept_as_written(entry: str) -> None:
    assert callback_host_problem(entry) is None
    config = load_with("tiny", asyncQueue__callbackAllowedHosts=[entry])
    assert config.async_queue.callback_allowed_hosts == (entry,)


@pytest.mark.parametrize(
    "entry",
    [
        "https://h/x",
        "h:443",
        "bad host",
        "*",
        "*.",
        "a.*.b",
        "**.a",
        " a",
        "a ",
        "under_score",
        "-a",
        "a-",
        "a..b",
        ".",
        "a/b",
        "a?b",
        "a#b",
        "u@h",
        "[127.0.0.1]",
        "[::1",
        "a" * 64,
        "bücher.example",
        "",
        "a\0b",
    ],
)
def test_bad_callback_host_is_refused_with_its_index(entry: str) -> None:
    message = refusal(changed("tiny", asyncQueue__callbackAllowedHosts=["ok.example", entry]))
    assert message.startswith("asyncQueue.callbackAllowedHosts[1] must ")


def test_callback_hosts_have_a_limit() -> None:
    hosts = [f"h{number}.example" for number in range(65)]
    assert "at most 64 entries, not 65" in refusal(changed("tiny", asyncQueue__callbackAllowedHosts=hosts))
    load_with("tiny", asyncQueue__callbackAllowedHosts=hosts[:64])


@pytest.mark.parametrize("host", ["127.0.0.1 ", " x", "a b", "a\nb"])
def test_listen_address_with_blanks_is_refused_at_load(host: str) -> None:
    assert refusal(changed("tiny", server__host=host)).startswith("server.host must not contain ")


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.org",
        "http://localhost:5173",
        "http://127.0.0.1:8080",
        "http://[::1]:3000",
        "https://xn--bcher-kva.example:8443",
        "http://example.org:443",
        "tauri://localhost",
        "chrome-extension://abcdefghijklmnop",
    ],
)
def test_given_an_origin_as_browsers_send_it_when_loaded_then_it_is_kept(origin: str) -> None:
    assert load_with("tiny", server__corsAllowedOrigins=[origin]).server.cors_allowed_origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "problem"),
    [
        ("*", "`*` would let every page"),
        ("null", "must not be null"),
        ("chat.example.org", "must be an origin such as"),
        ("https://chat.example.org/", "without a slash or a path"),
        ("https://chat.example.org/app", "without a slash or a path"),
        ("https://chat.example.org?x", "without a slash or a path"),
        ("https://Chat.example.org", "must be in lower case"),
        ("HTTPS://chat.example.org", "must be in lower case"),
        ("https://chat.example.org:443", "must leave out the port"),
        ("http://chat.example.org:80", "must leave out the port"),
        ("http://chat.example.org:080", "leading zeros"),
        ("http://chat.example.org:0", "port from 1 to 65535"),
        ("http://chat.example.org:65536", "port from 1 to 65535"),
        ("https://user@chat.example.org", "user name"),
        ("https://bücher.example", "xn--"),
        ("https://*.example.org", "must have a host name"),
        ("https://", "must have a host name"),
        ("https://a b", "must have a host name"),
    ],
)
def test_given_another_spelling_of_an_origin_when_loaded_then_it_is_refused_with_the_remedy(
    origin: str, problem: str
) -> None:
    message = refusal(changed("tiny", server__corsAllowedOrigins=["https://ok.example", origin]))
    assert message.startswith("server.corsAllowedOrigins[1] must ")
    assert problem in message
