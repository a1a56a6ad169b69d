"""The response cache under a clock of our own."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ray.runtime.cache import ResponseCache
from tests.runtime.support import TINY


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_cache(
    *, max_entries: int = 10, max_bytes: int = 1_000, ttl_ms: int = 1_000, clock: Clock | None = None
) -> ResponseCache[str]:
    limits = replace(TINY.cache, max_entries=max_entries, max_bytes=max_bytes, ttl_ms=ttl_ms)
    return ResponseCache(limits, clock or Clock())


def test_what_was_put_is_got() -> None:
    cache = make_cache()
    cache.put("a", "answer", 6)
    assert cache.get("a") == "answer"
    assert cache.get("b") is None


def test_of_three_in_two_places_the_oldest_goes() -> None:
    cache = make_cache(max_entries=2)
    for key in ("a", "b", "c"):
        cache.put(key, key, 1)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (None, "b", "c")
    assert cache.stats().evictions == 1


def test_reading_counts_as_use() -> None:
    cache = make_cache(max_entries=2)
    cache.put("a", "a", 1)
    cache.put("b", "b", 1)
    cache.get("a")
    cache.put("c", "c", 1)
    assert (cache.get("a"), cache.get("b")) == ("a", None)


def test_an_entry_is_gone_at_the_very_instant_its_time_is_over() -> None:
    clock = Clock()
    cache = make_cache(ttl_ms=1_000, clock=clock)
    cache.put("a", "a", 1)
    clock.now += 0.999
    assert cache.get("a") == "a"
    clock.now = 101.0
    assert cache.get("a") is None
    assert cache.stats().expirations == 1


def test_reading_does_not_extend_the_time_to_live_and_writing_again_does() -> None:
    clock = Clock()
    cache = make_cache(ttl_ms=1_000, clock=clock)
    cache.put("read", "x", 1)
    cache.put("written", "x", 1)
    clock.now += 0.9
    cache.get("read")
    cache.put("written", "y", 1)
    clock.now += 0.5
    assert (cache.get("read"), cache.get("written")) == (None, "y")


def test_bytes_are_a_limit_of_their_own() -> None:
    cache = make_cache(max_bytes=10)
    for key in ("a", "b", "c"):
        cache.put(key, key, 5)
    assert cache.get("a") is None
    assert cache.stats().bytes == 10


def test_one_large_write_may_push_out_many() -> None:
    cache = make_cache(max_bytes=10)
    for key in ("a", "b", "c"):
        cache.put(key, key, 3)
    assert cache.put("large", "l", 10)
    assert (cache.stats().entries, cache.stats().evictions) == (1, 3)


def test_an_oversized_value_is_not_stored_and_takes_the_old_one_with_it() -> None:
    cache = make_cache(max_bytes=10)
    cache.put("a", "small", 10)
    assert not cache.put("a", "large", 11)
    stats = cache.stats()
    assert (cache.get("a"), stats.entries, stats.bytes, stats.dropped_oversized_entries) == (None, 0, 0, 1)


def test_replacing_is_not_an_eviction() -> None:
    cache = make_cache()
    cache.put("a", "old", 3)
    cache.put("a", "new", 4)
    assert (cache.get("a"), cache.stats().bytes, cache.stats().evictions) == ("new", 4, 0)


def test_the_figures_leave_out_and_count_what_has_expired() -> None:
    clock = Clock()
    cache = make_cache(ttl_ms=1_000, clock=clock)
    cache.put("a", "a", 1)
    cache.put("b", "b", 1)
    clock.now += 2
    stats = cache.stats()
    assert (stats.entries, stats.bytes, stats.expirations) == (0, 0, 2)


def test_clearing_keeps_the_counters() -> None:
    cache = make_cache(max_entries=1)
    cache.put("a", "a", 1)
    cache.put("b", "b", 1)
    cache.clear()
    assert (cache.stats().entries, cache.stats().bytes, cache.stats().evictions) == (0, 0, 1)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.sampled_from([0.0, 0.3, 1.0]), st.booleans()),
        max_size=60,
    )
)
def test_whatever_is_done_limits_hold_and_the_byte_total_is_the_sum(
    steps: list[tuple[str, int, float, bool]],
) -> None:
    clock = Clock()
    cache = make_cache(max_entries=3, max_bytes=20, ttl_ms=1_000, clock=clock)
    sizes: dict[str, int] = {}
    for key, size, pause, read in steps:
        clock.now += pause
        if read:
            cache.get(key)
        elif cache.put(key, key, size):
            sizes[key] = size
        else:
            assert size > 20
        stats = cache.stats()
        held = [kept for kept in sizes if cache.get(kept) is not None]
        assert stats.entries == len(held) <= 3
        assert stats.bytes == sum(sizes[kept] for kept in held) <= 20
