"""Every option is checked when a client is made, and what is wrong is named without being shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from ray.client import AsyncRayClient, RayClient, Retries
from ray.client.calls import infer_call
from ray.client.options import Options, checked_options

URL = "http://127.0.0.1:3000"
SECRET = "sk-never-shown"
check = cast(Callable[..., Options], checked_options)


@pytest.mark.parametrize(
    ("url", "origin", "prefix"),
    [
        ("http://example.org", "http://example.org:80", ""),
        ("https://example.org/", "https://example.org:443", ""),
        ("HTTP://Example.org:8080/ray", "http://example.org:8080", "/ray"),
        (f"http://{'a' * 63}.example.", f"http://{'a' * 63}.example.:80", ""),
        ("http://[::1]:3000/a/b/", "http://[::1]:3000", "/a/b"),
        ("http://h/" + "a" * 2039, "http://h:80", "/" + "a" * 2039),
    ],
)
def test_given_a_base_url_when_checked_then_its_parts_are_known_and_one_slash_is_dropped(
    url: str, origin: str, prefix: str
) -> None:
    address = checked_options(url).address

    assert (address.origin, address.prefix) == (origin, prefix)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (None, TypeError),
        (b"http://h", TypeError),
        ("", ValueError),
        ("http://h/" + "a" * 2040, ValueError),
        ("h:3000", ValueError),
        ("ftp://h", ValueError),
        ("http://", ValueError),
        ("http://h:0", ValueError),
        ("http://h:99999", ValueError),
        ("http://h:port", ValueError),
        ("http://[::1", ValueError),
        (f"http://user:{SECRET}@h", ValueError),
        ("http://h?", ValueError),
        ("http://h/#", ValueError),
        ("http://h/a b", ValueError),
        ("http://h\n", ValueError),
        ("http://h/\x7f", ValueError),
        ("http://h\\evil", ValueError),
        ("http://grün.example", ValueError),
        ("http://a..example", ValueError),
        (f"http://{'a' * 64}.example", ValueError),
    ],
)
def test_given_a_base_url_that_cannot_be_when_checked_then_the_error_names_the_option(
    url: object, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="base_url") as failure:
        check(url)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("key", ["", "a" * 1025, f"{SECRET} x", f"{SECRET}\n", f"{SECRET}\x00", f"{SECRET}ü", 5, b"x"])
def test_given_a_key_that_cannot_be_when_checked_then_the_error_does_not_show_it(key: object) -> None:
    with pytest.raises((TypeError, ValueError), match="api_key") as failure:
        check(URL, api_key=key)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    "headers",
    [
        5,
        {f"x-{number}": "" for number in range(65)},
        {"x" * 129: ""},
        {"": ""},
        {"a b": ""},
        {"a:": ""},
        {5: ""},
        {"x": 5},
        {"x": "y" * 8193},
        {"x": f"{SECRET}\r\nevil: 1"},
        {"x": f"{SECRET}\0"},
        {"x": f"{SECRET}\u20ac"},
        {"X-A": "1", "x-a": "2"},
        *({name: "x"} for name in (
            "Connection", "content-encoding", "Content-Length", "CONTENT-TYPE", "host", "keep-alive",
            "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
        )),
    ],
)  # fmt: skip
def test_given_headers_that_cannot_be_when_checked_then_the_error_does_not_show_their_values(headers: object) -> None:
    with pytest.raises((TypeError, ValueError), match="headers") as failure:
        check(URL, headers=headers)
    assert SECRET not in str(failure.value)


def test_given_a_key_and_a_question_when_the_objects_that_hold_them_are_shown_then_they_are_not() -> None:
    options = checked_options(URL, api_key=SECRET, headers={"x-token": SECRET})
    call = infer_call(SECRET, {}, options)

    assert SECRET in str(options.headers)
    assert SECRET.encode() in (call.body or b"")
    for shown in (options, call, RayClient(URL, api_key=SECRET), AsyncRayClient(URL, api_key=SECRET)):
        assert SECRET not in repr(shown)


def test_given_headers_when_a_client_is_made_then_later_changes_of_the_mapping_change_nothing() -> None:
    headers = {"X-Team": "one"}
    options = checked_options(URL, headers=headers)
    headers["X-Team"] = "two"

    assert options.headers == (("x-team", "one"),)


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("timeout_ms", 1, 600_000),
        ("request_body_limit_bytes", 1, 1_048_576),
        ("response_body_limit_bytes", 1, 67_108_864),
    ],
)
def test_given_a_number_at_its_limits_when_checked_then_only_what_is_beyond_is_refused(
    name: str, lowest: int, highest: int
) -> None:
    for fine in (lowest, highest):
        assert getattr(check(URL, **{name: fine}), name) == fine
    for wrong in (lowest - 1, highest + 1):
        with pytest.raises(ValueError, match=f"{name} must be from"):
            check(URL, **{name: wrong})
    for foreign in (1.5, True, "10", None):
        with pytest.raises(TypeError, match=name):
            check(URL, **{name: foreign})


@pytest.mark.parametrize("make", [RayClient, AsyncRayClient])
def test_given_an_option_that_does_not_exist_when_a_client_is_made_then_it_is_refused(
    make: Callable[..., object],
) -> None:
    with pytest.raises(TypeError, match="baseUrl"):
        make(URL, baseUrl=URL)
    with pytest.raises(ValueError, match="timeout_ms"):
        make(URL, timeout_ms=0)
    with pytest.raises(TypeError, match="retries"):
        make(URL, retries=3)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"attempts": 11}, {"longest_wait_ms": -1}])
def test_given_retries_that_cannot_be_when_made_then_the_error_names_the_number(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Retries(**wrong)
