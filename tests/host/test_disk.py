"""The disk thread: in order, off the loop, and finished before it ends."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from ray.host import DiskThread


def test_given_several_pieces_of_work_when_run_then_one_thread_does_them_in_order() -> None:
    done: list[tuple[int, str]] = []

    def note(number: int) -> None:
        done.append((number, threading.current_thread().name))

    async def main() -> None:
        disk = DiskThread("test-disk")
        work = [partial(note, number) for number in range(5)]
        await asyncio.gather(*map(disk.run, work))
        await disk.close()

    asyncio.run(main())
    assert [number for number, _ in done] == [0, 1, 2, 3, 4]
    assert {name for _, name in done} == {"test-disk_0"}


def test_given_work_that_fails_when_run_then_the_caller_gets_the_error_and_the_next_one_runs() -> None:
    async def main() -> None:
        disk = DiskThread("test-disk")
        with pytest.raises(ZeroDivisionError):
            await disk.run(lambda: 1 // 0)
        assert await disk.run(lambda: 7) == 7
        await disk.close()

    asyncio.run(main())


def test_given_work_under_way_when_its_caller_leaves_and_the_thread_is_closed_then_it_is_finished() -> None:
    started, go, finished = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        go.wait(10)
        finished.set()

    async def main() -> None:
        disk = DiskThread("test-disk")
        caller = asyncio.create_task(disk.run(work))
        await asyncio.to_thread(started.wait, 10)
        caller.cancel()
        closing = asyncio.create_task(disk.close())
        go.set()
        await closing
        assert finished.is_set()
        await disk.close()

    asyncio.run(main())
