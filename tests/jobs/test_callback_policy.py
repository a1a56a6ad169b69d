"""Whether a URL may be called: addresses, ports, schemes, exceptions, and words that give nothing away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest

from ray.errors import RayError
from ray.jobs.addresses import packed_address
from ray.jobs.callback_policy import CallbackPolicy, CallbackRefused, CheckedTarget
from ray.jobs.resolver import ResolutionFailed
from tests.jobs.callback_stage import Names, settings

CLOSED = {"callbackAllowPrivateNetwork": False}
OWN = frozenset({3000, 8081})


def addresses(*texts: str) -> tuple[bytes, ...]:
    found = tuple(packed_address(text) for text in texts)
    assert None not in found
    return tuple(address for address in found if address is not None)


NAMES: Mapping[str, list[tuple[bytes, ...]]] = {
    "public.example": [addresses("8.8.8.8", "2606:4700::1111")],
    "nat64.example": [addresses("64:ff9b::808:808")],
    "private.example": [addresses("198.51.100.7")],
    "mapped.example": [addresses("::ffff:10.0.0.1")],
    "mapped-public.example": [addresses("::ffff:8.8.8.8", "8.8.8.8")],
    "nat64-private.example": [addresses("64:ff9b::10.0.0.1")],
    "mixed.example": [addresses("8.8.8.8", "127.0.0.1", "1.1.1.1")],
    "hooks.trusted.example": [addresses("10.0.0.1")],
    "trusted.example": [addresses("10.0.0.1")],
    "localhost": [addresses("127.0.0.1")],
}


def check(value: object, **changes: object) -> CheckedTarget:
    async def main() -> CheckedTarget:
        policy = CallbackPolicy(settings(**{**CLOSED, **changes}), OWN, lookup=Names(NAMES))
        try:
            return await policy.check(value)
        finally:
            policy.close()

    return asyncio.run(main())


def refusal(value: object, **changes: object) -> tuple[str, RayError]:
    with pytest.raises(RayError) as caught:
        check(value, **changes)
    error = caught.value
    assert (error.code, error.status) == ("invalid_request", 400)
    assert isinstance(error.details, dict)
    assert error.details["field"] == "callbackUrl"
    return str(error.details["reason"]), error


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://public.example/x", addresses("8.8.8.8", "2606:4700::1111")),
        ("http://8.8.8.8:8080/", addresses("8.8.8.8")),
        ("http://[::ffff:8.8.8.8]/", addresses("8.8.8.8")),
        ("https://nat64.example/", addresses("64:ff9b::808:808")),
        ("https://mapped-public.example/", addresses("8.8.8.8")),
    ],
)
def test_given_a_public_receiver_when_checked_then_the_judged_addresses_are_what_to_connect_to(
    url: str, found: tuple[bytes, ...]
) -> None:
    assert check(url).addresses == found


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/x",
        "http://203.0.113.10/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://[2001:db8::1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:c0a8:1]/",
        "http://[::1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[fec0::1]/",
        "http://localhost/",
        "https://private.example/",
        "https://mapped.example/",
        "https://nat64-private.example/",
        "https://mixed.example/",
    ],
)
def test_given_one_address_that_is_not_public_when_checked_then_it_is_refused_and_no_address_is_named(url: str) -> None:
    reason, error = refusal(url)
    assert reason == "blocked_address"
    shown = str(error.envelope())
    for secret in ("10.0.0", "127.0", "198.51", "8.8.8", "private.example", "mixed.example"):
        assert secret not in shown


def test_given_a_name_that_is_unknown_when_checked_then_it_is_refused_in_the_same_coarse_way() -> None:
    assert refusal("https://unknown.example/")[0] == "dns_failed"


@pytest.mark.parametrize(
    ("url", "allowed", "reason"),
    [
        ("https://hooks.trusted.example/", ["*.trusted.example"], None),
        ("https://trusted.example/", ["*.trusted.example"], "blocked_address"),
        ("https://trusted.example/", ["trusted.example"], None),
        ("http://127.0.0.1:9000/", ["127.0.0.1"], None),
        ("http://127.0.0.2:9000/", ["127.0.0.1"], "blocked_address"),
        ("http://[2001:db8::1]/", ["[2001:db8::1]"], None),
        ("https://unknown.example/", ["unknown.example"], "dns_failed"),
    ],
)
def test_given_an_allowed_host_when_checked_then_only_the_range_check_falls_away(
    url: str, allowed: list[str], reason: str | None
) -> None:
    if reason is None:
        assert check(url, callbackAllowedHosts=allowed).addresses
    else:
        assert refusal(url, callbackAllowedHosts=allowed)[0] == reason


def test_given_private_networks_are_allowed_when_checked_then_names_are_still_resolved_once() -> None:
    assert check("http://private.example/", callbackAllowPrivateNetwork=True).addresses == addresses("198.51.100.7")


@pytest.mark.parametrize(
    ("url", "changes", "reason"),
    [
        ("http://public.example:22/", {}, "blocked_port"),
        ("http://public.example:1023/", {}, "blocked_port"),
        ("http://public.example:1024/", {}, None),
        ("http://public.example:3000/", {}, "blocked_port"),
        ("http://public.example:8081/", {}, "blocked_port"),
        ("http://public.example:22/", {"callbackAllowedPorts": [22]}, None),
        ("http://public.example:3000/", {"callbackAllowedPorts": [3000]}, None),
        ("http://trusted.example:3000/", {"callbackAllowedHosts": ["trusted.example"]}, "blocked_port"),
        ("http://127.0.0.1:3000/", {"callbackAllowPrivateNetwork": True}, "blocked_port"),
        # Listed for a receiver elsewhere: still no way to call the gateway or its backend on this machine.
        (
            "http://localhost:3000/",
            {"callbackAllowedPorts": [3000], "callbackAllowPrivateNetwork": True},
            "blocked_port",
        ),
        ("http://[::]:8081/", {"callbackAllowedPorts": [8081], "callbackAllowPrivateNetwork": True}, "blocked_port"),
        ("http://public.example/", {"callbackRequireHttps": True}, "https_required"),
        ("https://public.example/", {"callbackRequireHttps": True}, None),
        ("ftp://public.example/", {}, "invalid_url"),
        (None, {}, "invalid_url"),
    ],
)
def test_given_ports_and_schemes_when_checked_then_the_rules_hold_for_every_host(
    url: object, changes: dict[str, object], reason: str | None
) -> None:
    if reason is None:
        assert check(url, **changes).addresses
    else:
        assert refusal(url, **changes)[0] == reason


def test_given_a_name_server_that_never_answers_when_checked_then_it_ends_with_the_callbacks_timeout() -> None:
    may_answer = threading.Event()

    def lookup(name: str) -> tuple[bytes, ...]:
        may_answer.wait(10)
        return ()

    async def main() -> RayError:
        policy = CallbackPolicy(settings(callbackTimeoutMs=25), OWN, lookup=lookup)
        with pytest.raises(RayError) as caught:
            await policy.check("https://slow.example/")
        # Stuck submissions leave the threads of deliveries free.
        await policy.resolve("http://127.0.0.1:9999/")
        policy.close()
        may_answer.set()
        return caught.value

    assert asyncio.run(main()).details == {"field": "callbackUrl", "reason": "timeout"}


def test_given_a_stored_url_when_resolved_for_an_attempt_then_it_is_judged_afresh() -> None:
    names = Names({"a.example": [addresses("8.8.8.8"), addresses("127.0.0.1")]})

    async def main() -> None:
        policy = CallbackPolicy(settings(**CLOSED), OWN, lookup=names)
        await policy.check("https://a.example/")
        with pytest.raises(CallbackRefused, match="blocked_address"):
            await policy.resolve("https://a.example/")
        with pytest.raises(CallbackRefused, match="invalid_url"):
            await policy.resolve("https://a.example/#x")
        with pytest.raises(CallbackRefused, match="blocked_port"):
            await policy.resolve("https://a.example:3000/")
        with pytest.raises(ResolutionFailed):
            await policy.resolve("https://b.example/")
        policy.close()

    asyncio.run(main())
    assert names.asked == ["a.example", "a.example", "b.example"]
