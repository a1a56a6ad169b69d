"""Lookups that cannot be cancelled, kept within a time and a number of threads."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from ray.jobs.resolver import ResolutionFailed, Resolver, system_lookup

HERE = bytes((127, 0, 0, 1))


class Slow:
    """A lookup that waits until it may answer."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked: list[str] = []
        self.entered = threading.Semaphore(0)
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, name: str) -> tuple[bytes, ...]:
        with self._lock:
            self.asked.append(name)
            self.now += 1
            self.most = max(self.most, self.now)
        self.entered.release()
        self.may_answer.wait(10)
        with self._lock:
            self.now -= 1
        return (HERE,)


def test_given_a_name_when_resolved_then_its_addresses_come_packed() -> None:
    async def main() -> None:
        resolver = Resolver(1, "test-dns", lambda name: (HERE, b"\1" * 16))
        assert await resolver.resolve("a.example", 5) == (HERE, b"\1" * 16)
        resolver.close()

    asyncio.run(main())


@pytest.mark.parametrize("failure", [OSError("no such name"), socket.gaierror(-2, "?"), UnicodeError(), ValueError()])
def test_given_a_failing_lookup_when_resolved_then_it_is_one_kind_of_failure(failure: Exception) -> None:
    def lookup(name: str) -> tuple[bytes, ...]:
        raise failure

    async def main() -> None:
        resolver = Resolver(1, "test-dns", lookup)
        for _ in range(2):  # the thread survives
            with pytest.raises(ResolutionFailed):
                await resolver.resolve("a.example", 5)
        resolver.close()

    asyncio.run(main())


def test_given_no_addresses_when_resolved_then_it_failed() -> None:
    async def main() -> None:
        resolver = Resolver(1, "test-dns", lambda name: ())
        with pytest.raises(ResolutionFailed):
            await resolver.resolve("a.example", 5)
        resolver.close()

    asyncio.run(main())


def test_given_a_resolver_that_never_answers_when_time_is_up_then_the_late_answer_is_dropped() -> None:
    slow = Slow()

    async def main() -> None:
        resolver = Resolver(1, "test-dns", slow)
        with pytest.raises(TimeoutError):
            await resolver.resolve("a.example", 0.025)
        # The only thread is inside the first lookup: the second question waits, is given up, and is never asked.
        with pytest.raises(TimeoutError):
            await resolver.resolve("b.example", 0.01)
        slow.may_answer.set()
        assert await resolver.resolve("c.example", 5) == (HERE,)
        resolver.close()

    asyncio.run(main())
    assert slow.asked == ["a.example", "c.example"]


def test_given_many_questions_when_asked_then_no_more_threads_than_allowed_look_up() -> None:
    slow = Slow()

    async def main() -> None:
        resolver = Resolver(2, "test-dns", slow)
        questions = [asyncio.ensure_future(resolver.resolve(f"{n}.example", 5)) for n in range(6)]
        await asyncio.sleep(0)
        for _ in range(2):
            assert slow.entered.acquire(timeout=30)
        slow.may_answer.set()
        assert await asyncio.gather(*questions) == [(HERE,)] * 6
        resolver.close()

    asyncio.run(main())
    assert slow.most == 2
    assert sorted(slow.asked) == [f"{n}.example" for n in range(6)]


def test_given_a_lookup_under_way_when_the_loop_ends_then_its_thread_is_a_daemon_and_survives_the_answer() -> None:
    slow = Slow()

    async def main() -> None:
        resolver = Resolver(1, "test-dns-daemon", slow)
        with pytest.raises(TimeoutError):
            await resolver.resolve("a.example", 0.01)
        resolver.close()
        with pytest.raises(ResolutionFailed):
            await resolver.resolve("b.example", 1)

    asyncio.run(main())
    thread = next(thread for thread in threading.enumerate() if thread.name.startswith("test-dns-daemon"))
    assert thread.daemon
    slow.may_answer.set()
    thread.join(30)
    assert not thread.is_alive()


def test_given_the_system_when_localhost_is_looked_up_then_its_addresses_are_packed_and_each_there_once() -> None:
    found = system_lookup("localhost")
    assert {HERE, bytes(15) + b"\1"} >= set(found)
    assert len(set(found)) == len(found) > 0


def test_given_answers_with_a_zone_when_looked_up_then_the_zone_is_no_part_of_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 2)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    asked: list[object] = []

    def getaddrinfo(host: object, port: object, **_: object) -> list[object]:
        asked.append(host)
        return list(answers)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert system_lookup("a.example") == (bytes.fromhex("fe80") + bytes(13) + b"\1", bytes((192, 0, 2, 1)))
    assert asked == [b"a.example"]
