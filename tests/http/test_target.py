"""Host values and request targets: the tables of what is accepted."""

from __future__ import annotations

import pytest

from ray.http import HttpError, Limits
from ray.http.target import parse_host, resolve_target

LIMITS = Limits()


def refusal(target: str, host: str | None) -> HttpError:
    with pytest.raises(HttpError) as caught:
        resolve_target(target, host, LIMITS)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    return caught.value


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("localhost", "localhost", 80),
        ("Example.COM:3000", "example.com", 3000),
        ("example.com.", "example.com", 80),
        ("example.com.:81", "example.com", 81),
        ("127.0.0.1:3000", "127.0.0.1", 3000),
        ("a-b.c1", "a-b.c1", 80),
        ("a" * 63, "a" * 63, 80),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc", 80),
        ("a:1", "a", 1),
        ("a:65535", "a", 65_535),
        ("[::1]", "::1", 80),
        ("[::1]:3000", "::1", 3000),
        ("[2001:DB8::1]:80", "2001:db8::1", 80),
        ("[::ffff:10.0.0.1]", "::ffff:10.0.0.1", 80),
    ],
)
def test_a_host_is_a_name_or_an_address_with_an_optional_port(value: str, host: str, port: int) -> None:
    assert parse_host(value) == (host, port)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "a b",
        "a\tb",
        "http://example.com",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "a\\b",
        "a_b",
        "-a",
        "a-",
        "a..b",
        ".a",
        ".",
        "a..",
        "a" * 64,
        ".".join(["a" * 49] * 5) + ".abcd",
        "a:",
        "a:0",
        "a:65536",
        "a:123456",
        "a:+80",
        "a:8o",
        "a:80:80",
        "::1",
        "2001:db8::1",
        "[::1",
        "::1]",
        "[]",
        "[::g]",
        "[127.0.0.1]",
        "[::1]x",
        "[::1]:",
        "[::1]:0",
        "[fe80::1%eth0]",
        "a,b",
        "a, a",
        "m\xfcnchen",
        "a\n",
    ],
)
def test_any_other_host_is_refused(value: str) -> None:
    refusal("/", value)


def test_a_long_host_is_refused_with_numbers() -> None:
    assert refusal("/", "a" * 513).details == {"maxChars": 512, "actualChars": 513}


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/livez", "/livez", ""),
        ("/livez/", "/livez/", ""),
        ("/v1/jobs/a%2Fb?x=1&y=?", "/v1/jobs/a%2Fb", "x=1&y=?"),
        ("/v1/../livez", "/v1/../livez", ""),
        ("/a//b", "/a//b", ""),
        ("/http://a", "/http://a", ""),
        ("http://a:80/livez?q", "/livez", "q"),
        ("HTTP://A/livez", "/livez", ""),
        ("http://a", "/", ""),
        ("http://a?q", "/", "q"),
    ],
)
def test_a_target_is_split_and_not_rewritten(target: str, path: str, query: str) -> None:
    assert resolve_target(target, "a", LIMITS) == (path, query)


def test_an_absolute_target_for_the_same_host_and_port_is_served() -> None:
    assert resolve_target("http://[::1]:3000/x", "[::1]:3000", LIMITS) == ("/x", "")
    assert resolve_target("http://example.com/x", "EXAMPLE.com:80", LIMITS) == ("/x", "")


@pytest.mark.parametrize(
    "target",
    [
        "",
        "//a/livez",
        "*",
        "livez",
        "a:443",
        "https://a/livez",
        "ftp://a/",
        "mailto:a",
        "http:/a",
        "http:a",
        "http://",
        "http:///x",
        "http://[::1",
        "http://user@a/",
        "http://a:x/",
        "/\\host/livez",
        "/a#b",
        "http://a\\b/",
    ],
)
def test_any_other_target_is_refused(target: str) -> None:
    refusal(target, "a")


@pytest.mark.parametrize("target", ["http://[::1", "http://a:x/", "http://a:0/", f"http://{'a.' * 127}a/"])
def test_a_refused_authority_is_not_blamed_on_host(target: str) -> None:
    assert "the authority of the request target" in refusal(target, "a").message


def test_an_absolute_target_for_another_host_is_refused_with_both_names() -> None:
    assert refusal("http://other:81/x", "example.com:3000").details == {
        "host": "example.com:3000",
        "requestHost": "other:81",
    }
    details = refusal("http://" + "b." * 80 + "b/", "a." * 80 + "a").details
    assert details == {"host": ("a." * 80)[:128], "requestHost": ("b." * 80)[:128]}


def test_an_absolute_target_without_host_is_refused() -> None:
    refusal("http://a/", None)


def test_without_host_an_origin_form_is_fine() -> None:
    assert resolve_target("/x", None, LIMITS) == ("/x", "")
