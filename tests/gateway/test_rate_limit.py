"""Fixed windows, a bounded table of keys, and what the headers say."""

from __future__ import annotations

import pytest

from ray.config import RateLimitConfig
from ray.gateway.rate_limit import Decision, RateLimiter, limit_key
from ray.types import Caller

HASH = "a" * 64
WALL_MS = 1_700_000_000_250


class Clock:
    """Milliseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 5_000

    def __call__(self) -> int:
        return self.now


def caller(address: str, key_hash: str | None = None) -> Caller:
    return Caller(key_hash, address)


def limiter(
    clock: Clock, *, max_requests: int = 2, max_keys: int = 16, window_ms: int = 60_000, key_strategy: str = "ip"
) -> RateLimiter:
    config = RateLimitConfig(
        enabled=True,
        window_ms=window_ms,
        max_requests=max_requests,
        max_keys=max_keys,
        key_strategy=key_strategy,  # type: ignore[arg-type]  # the tests' own literals
        trust_proxy_headers=True,
    )
    return RateLimiter(config, clock_ms=clock, wall_ms=lambda: WALL_MS + clock.now - 5_000)


def test_given_a_budget_of_two_when_three_ask_in_one_window_then_the_third_is_refused() -> None:
    clock = Clock()
    table = limiter(clock)
    decisions = [table.take(caller("1.2.3.4")) for _ in range(4)]
    assert [decision.allowed for decision in decisions] == [True, True, False, False]
    assert [decision.remaining for decision in decisions] == [1, 0, 0, 0]


def test_given_a_full_window_when_it_closes_then_the_next_request_opens_a_new_one() -> None:
    clock = Clock()
    table = limiter(clock, max_requests=1)
    table.take(caller("1.2.3.4"))
    clock.now += 59_999
    assert not table.take(caller("1.2.3.4")).allowed
    clock.now += 1
    assert table.take(caller("1.2.3.4")) == Decision(True, 1, 0, 1_700_000_121, 60)


def test_given_refused_requests_when_they_go_on_then_the_window_is_not_prolonged() -> None:
    clock = Clock()
    table = limiter(clock, max_requests=1)
    table.take(caller("1.2.3.4"))
    clock.now += 30_000
    assert table.take(caller("1.2.3.4")).retry_after == 30


@pytest.mark.parametrize(
    ("elapsed_ms", "retry_after", "reset_at"),
    [(0, 60, 1_700_000_061), (1, 60, 1_700_000_061), (1_000, 59, 1_700_000_061), (59_999, 1, 1_700_000_061)],
)
def test_retry_after_and_reset_are_rounded_up_to_seconds(elapsed_ms: int, retry_after: int, reset_at: int) -> None:
    clock = Clock()
    table = limiter(clock, max_requests=1)
    table.take(caller("1.2.3.4"))
    clock.now += elapsed_ms
    decision = table.take(caller("1.2.3.4"))
    assert (decision.retry_after, decision.reset_at) == (retry_after, reset_at)


def test_given_a_window_shorter_than_a_second_when_refused_then_retry_after_is_one() -> None:
    table = limiter(Clock(), max_requests=1, window_ms=10)
    table.take(caller("1.2.3.4"))
    assert table.take(caller("1.2.3.4")).retry_after == 1


def test_the_headers_and_the_refusal_say_the_same() -> None:
    decision = Decision(False, 90, 0, 1_700_000_060, 17)
    assert decision.headers() == [
        ("x-ratelimit-limit", "90"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1700000060"),
    ]
    refusal = decision.refusal()
    assert (refusal.code, refusal.status, refusal.retry_after) == ("rate_limited", 429, 17)


def test_given_a_full_table_when_a_new_key_comes_then_it_is_refused_until_the_earliest_window_closes() -> None:
    clock = Clock()
    table = limiter(clock, max_keys=2)
    table.take(caller("1.1.1.1"))
    clock.now += 10_000
    table.take(caller("2.2.2.2"))
    assert table.take(caller("3.3.3.3")) == Decision(False, 2, 0, 1_700_000_061, 50)
    assert table.take(caller("1.1.1.1")).allowed, "a known key is not affected by a full table"


def test_given_a_full_table_when_now_is_exactly_the_old_reset_then_the_new_key_gets_its_place() -> None:
    clock = Clock()
    table = limiter(clock, max_keys=1)
    table.take(caller("1.1.1.1"))
    clock.now += 59_999
    assert not table.take(caller("2.2.2.2")).allowed
    clock.now += 1
    assert table.take(caller("2.2.2.2")).allowed


def test_given_a_reopened_window_when_the_table_fills_then_the_order_of_closing_is_kept() -> None:
    clock = Clock()
    table = limiter(clock, max_keys=2)
    table.take(caller("1.1.1.1"))
    clock.now += 30_000
    table.take(caller("2.2.2.2"))
    clock.now += 30_000
    table.take(caller("1.1.1.1"))  # its second window closes after that of 2.2.2.2
    assert table.take(caller("3.3.3.3")).retry_after == 30
    clock.now += 30_000
    assert table.take(caller("3.3.3.3")).allowed
    assert table.snapshot().active_keys == 2


@pytest.mark.parametrize(
    ("strategy", "key_hash", "key"),
    [
        ("ip", None, "ip:1.2.3.4"),
        ("ip", HASH, "ip:1.2.3.4"),
        ("api-key", None, "ip:1.2.3.4"),
        ("api-key", HASH, f"api-key-sha256:{HASH}"),
        ("ip+api-key", None, "ip:1.2.3.4"),
        ("ip+api-key", HASH, f"api-key-sha256:{HASH}:ip:1.2.3.4"),
    ],
)
def test_the_key_follows_the_strategy(strategy: str, key_hash: str | None, key: str) -> None:
    assert limit_key(caller("1.2.3.4", key_hash), strategy) == key


@pytest.mark.parametrize(("keys", "degraded"), [(0, False), (8, False), (9, True), (10, True)])
def test_given_keys_in_use_when_nine_of_ten_are_taken_then_the_table_is_under_pressure(
    keys: int, degraded: bool
) -> None:
    table = limiter(Clock(), max_keys=10)
    for number in range(keys):
        table.take(caller(f"10.0.0.{number}"))
    snapshot = table.snapshot()
    assert (snapshot.active_keys, snapshot.ratio, snapshot.degraded) == (keys, keys / 10, degraded)


def test_given_closed_windows_when_a_snapshot_is_taken_then_they_are_gone() -> None:
    clock = Clock()
    table = limiter(clock)
    table.take(caller("1.1.1.1"))
    clock.now += 60_000
    assert table.snapshot().active_keys == 0
