"""Generations and readers: fan-out, deadlines of one's own, and work that ends when nobody reads it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from ray.clock import Deadline
from ray.errors import RayError
from ray.runtime.generation import Answer, Generation, Reader, Source
from ray.types import Chunk, Counts, Finish, InferenceResult, Usage
from tests.fakes.provider import until

ANSWER = Answer("m", "ab", Usage(Counts.of(1, 2)), "stop", queue_time_ms=7)
LAST = Chunk(finish=Finish("stop"))


class Notes:
    """An observer that writes down what it hears."""

    def __init__(self) -> None:
        self.answered_ids: list[str] = []
        self.failures: list[tuple[str, str]] = []

    def answered(self, reader: Reader, result: InferenceResult) -> None:
        self.answered_ids.append(result.id)

    def failed(self, reader: Reader, error: RayError) -> None:
        self.failures.append((reader.request_id, error.code))


class Scene:
    """A generation that publishes `a`, waits, publishes `b` and the last chunk, and then is answered."""

    def __init__(self, work: Callable[[], Awaitable[Answer]] | None = None) -> None:
        self.notes = Notes()
        self.go_on = asyncio.Event()
        self.cancelled = False
        self.over = 0
        self.generation = Generation(Deadline.after_ms(60_000))
        self._work = work or self._script

    def start(self) -> None:
        async def work() -> Answer:
            try:
                return await self._work()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

        def over() -> None:
            self.over += 1

        self.generation.start(work(), over)

    async def _script(self) -> Answer:
        self.generation.publish(Chunk("a"))
        await self.go_on.wait()
        self.generation.publish(Chunk("b"))
        self.generation.publish(LAST)
        return ANSWER

    def reader(self, name: str = "r1", timeout_ms: float = 60_000, source: Source = "provider") -> Reader:
        return Reader(
            self.generation,
            request_id=name,
            started_at=time.monotonic(),
            deadline=Deadline.after_ms(timeout_ms),
            timeout_ms=int(timeout_ms),
            source=source,
            observer=self.notes,
        )


async def texts(reader: Reader) -> list[str]:
    return [chunk.text async for chunk in reader]


async def error_of(reader: Reader) -> RayError:
    with pytest.raises(RayError) as caught:
        await reader.result()
    return caught.value


def test_every_reader_gets_every_chunk_whenever_it_joined() -> None:
    async def main() -> None:
        scene = Scene()
        early = scene.reader("early")
        scene.start()
        assert await anext(early) == Chunk("a")
        late = scene.reader("late", source="dedupe")
        scene.go_on.set()
        assert await texts(early) == ["b", ""]
        assert await texts(late) == ["a", "b", ""]
        results = [await early.result(), await late.result()]
        assert [(result.id, result.deduplicated) for result in results] == [("early", False), ("late", True)]
        assert [result.queue_time_ms for result in results] == [7, 7]
        assert sorted(scene.notes.answered_ids) == ["early", "late"]

    asyncio.run(main())


def test_a_finished_generation_streams_like_any_other() -> None:
    async def main() -> None:
        notes = Notes()
        scene = Scene()
        scene.generation = Generation.finished(ANSWER, Deadline.after_ms(60_000))
        scene.notes = notes
        async with scene.reader("cached", source="cache") as reader:
            await reader.started()
            assert await texts(reader) == ["ab", ""]
            result = await reader.result()
        assert (result.cached, result.queue_time_ms, result.output) == (True, 0, "ab")
        assert notes.answered_ids == ["cached"]

    asyncio.run(main())


def test_an_empty_answer_is_one_chunk() -> None:
    assert len(Answer("m", "", Usage(Counts.of(1, 0)), "length").as_chunks()) == 1


def test_when_the_last_reader_leaves_the_work_is_cancelled() -> None:
    async def main() -> None:
        scene = Scene()
        first, second = scene.reader("first"), scene.reader("second")
        scene.start()
        await first.started()
        first.leave()
        first.leave()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not scene.cancelled
        async with second:
            pass
        assert scene.over == 1
        await until(lambda: scene.cancelled)
        assert scene.notes.failures == []

    asyncio.run(main())


def test_a_generation_left_before_its_first_step_still_ends() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        scene.start()
        reader.leave()
        await until(lambda: scene.generation.error is not None)
        assert scene.over == 1
        assert not scene.cancelled  # it never began

    asyncio.run(main())


def test_leaving_after_the_answer_changes_nothing() -> None:
    async def main() -> None:
        scene = Scene()
        scene.go_on.set()
        reader = scene.reader()
        scene.start()
        result = await reader.result()
        reader.leave()
        assert await reader.result() is result

    asyncio.run(main())


def test_a_reader_that_left_gets_nothing_more() -> None:
    async def main() -> None:
        scene = Scene()
        reader, other = scene.reader("left"), scene.reader("stays")
        scene.start()
        await reader.started()
        reader.leave()
        assert (await error_of(reader)).code == "request_aborted"
        with pytest.raises(RayError):
            await anext(reader)
        scene.go_on.set()
        await other.result()

    asyncio.run(main())


def test_at_its_deadline_one_reader_times_out_and_the_others_go_on() -> None:
    async def main() -> None:
        scene = Scene()
        hasty, patient = scene.reader("hasty", timeout_ms=5), scene.reader("patient")
        scene.start()
        scene.generation.phase = "generate"
        error = await error_of(hasty)
        assert (error.code, error.status) == ("request_timeout", 504)
        assert error.details == {"phase": "generate", "timeoutMs": 5}
        scene.go_on.set()
        assert (await patient.result()).output == "ab"
        assert scene.notes.failures == [("hasty", "request_timeout")]
        assert scene.notes.answered_ids == ["patient"]

    asyncio.run(main())


def test_the_deadline_of_the_last_reader_cancels_the_work() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader(timeout_ms=5)
        scene.start()
        assert (await error_of(reader)).code == "request_timeout"
        await until(lambda: scene.cancelled)
        with pytest.raises(RayError, match="time ran out"):
            await texts(reader)

    asyncio.run(main())


def test_a_follower_moves_the_works_deadline_but_not_the_leaders() -> None:
    async def main() -> None:
        scene = Scene()
        scene.generation = Generation(Deadline.after_ms(1_000))
        leader = scene.reader("leader", timeout_ms=1_000)
        before = leader.deadline.at
        scene.start()
        follower = scene.reader("follower", timeout_ms=50_000)
        assert scene.generation.deadline.at == follower.deadline.at
        assert leader.deadline.at == before
        scene.reader("brief", timeout_ms=10).leave()
        await leader.started()
        assert scene.generation.deadline.at == follower.deadline.at
        leader.leave()
        follower.leave()
        await until(lambda: scene.cancelled)

    asyncio.run(main())


def test_a_backend_that_gives_up_at_the_deadline_is_a_timeout_to_the_reader() -> None:
    async def main() -> None:
        async def give_up() -> Answer:
            raise RayError("provider_timeout", "the backend took too long")

        scene = Scene(give_up)
        reader = scene.reader(timeout_ms=-1)
        assert reader._timer is not None
        reader._timer.cancel()  # the backend's clock comes first
        scene.start()
        assert (await error_of(reader)).code == "request_timeout"
        assert scene.notes.failures == [("r1", "request_timeout")]

    asyncio.run(main())


def test_a_failure_reaches_every_reader_once_after_the_chunks_before_it() -> None:
    async def main() -> None:
        async def fail() -> Answer:
            scene.generation.publish(Chunk("a"))
            raise RayError("provider_request_failed", "the backend went away")

        scene = Scene(fail)
        readers = [scene.reader("r1"), scene.reader("r2")]
        scene.start()
        for reader in readers:
            await reader.started()
            assert await anext(reader) == Chunk("a")
            with pytest.raises(RayError, match="went away"):
                await anext(reader)
            assert (await error_of(reader)).code == "provider_request_failed"
        assert scene.notes.failures == [("r1", "provider_request_failed"), ("r2", "provider_request_failed")]

    asyncio.run(main())


def test_started_raises_a_refusal_that_came_before_any_chunk() -> None:
    async def main() -> None:
        async def refuse() -> Answer:
            raise RayError("queue_full", "full")

        scene = Scene(refuse)
        reader = scene.reader()
        scene.start()
        with pytest.raises(RayError, match="full"):
            await reader.started()

    asyncio.run(main())


def test_an_unforeseen_exception_becomes_a_gateway_error_that_keeps_its_cause() -> None:
    async def main() -> None:
        async def break_down() -> Answer:
            raise ZeroDivisionError("oops")

        scene = Scene(break_down)
        reader = scene.reader()
        scene.start()
        error = await error_of(reader)
        assert error.code == "gateway_error"
        assert "oops" not in error.message
        assert isinstance(error.__cause__, ZeroDivisionError)

    asyncio.run(main())


def test_giving_up_on_one_chunk_loses_none() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        scene.start()
        assert await anext(reader) == Chunk("a")
        attempt = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt])
        scene.go_on.set()
        assert await texts(reader) == ["b", ""]

    asyncio.run(main())


def test_one_reader_may_be_iterated_and_awaited_at_once() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        scene.start()
        both = asyncio.gather(texts(reader), reader.result())
        await reader.started()
        scene.go_on.set()
        streamed, result = await both
        assert "".join(streamed) == result.output == "ab"

    asyncio.run(main())


def test_stopping_the_task_from_outside_tells_its_readers() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        scene.start()
        await reader.started()
        assert scene.generation._task is not None
        scene.generation._task.cancel()
        assert (await error_of(reader)).code == "request_aborted"

    asyncio.run(main())


def test_given_readers_of_the_whole_answer_when_one_wants_pieces_then_from_there_on_the_generation_is_watched() -> None:
    async def main() -> None:
        scene = Scene()
        scene.start()
        whole, pieces = scene.reader("r1"), scene.reader("r2")
        waiting = asyncio.create_task(whole.result())
        await until(lambda: bool(scene.generation.chunks))
        seen = [scene.generation.is_watched]
        await pieces.started()
        seen.append(scene.generation.is_watched)
        assert seen == [False, True]
        scene.go_on.set()
        await waiting

    asyncio.run(main())


def test_when_chunks_are_asked_for_without_waiting_for_the_start_then_the_generation_is_watched() -> None:
    async def main() -> None:
        scene = Scene()
        scene.start()
        assert (await anext(scene.reader())).text == "a"
        assert scene.generation.is_watched
        scene.go_on.set()
        await scene.reader("r2").result()

    asyncio.run(main())


def test_what_is_there_is_taken_together_and_in_order() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        scene.start()
        assert await reader.take() == [Chunk("a")]
        assert scene.generation.is_watched
        scene.go_on.set()
        await reader.result()
        assert await reader.take() == [Chunk("b"), LAST]
        assert await reader.take() == []
        assert await scene.reader("r2").take() == [Chunk("a"), Chunk("b"), LAST]

    asyncio.run(main())


def test_given_a_take_that_waits_when_it_is_told_to_stop_then_it_is_empty_and_the_next_one_waits_again() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        reader.stop_waiting()  # nobody waits
        waiting = asyncio.create_task(reader.take())
        await asyncio.sleep(0)
        reader.stop_waiting()
        assert await waiting == []
        scene.start()
        assert await reader.take() == [Chunk("a")]
        scene.go_on.set()
        await reader.result()

    asyncio.run(main())


def test_given_a_reader_that_left_when_it_takes_then_it_hears_that_it_has_left() -> None:
    async def main() -> None:
        scene = Scene()
        reader, other = scene.reader(), scene.reader("r2")
        scene.start()
        await other.take()
        reader.leave()
        with pytest.raises(RayError, match="left"):
            await reader.take()
        scene.go_on.set()
        await other.result()

    asyncio.run(main())


def test_a_reader_of_the_whole_answer_is_not_woken_by_its_pieces() -> None:
    async def main() -> None:
        scene = Scene()
        reader = scene.reader()
        waiting = asyncio.create_task(reader.result())
        scene.start()
        await until(lambda: bool(scene.generation.chunks))
        (waiter,) = reader._outcome_waiters
        scene.generation.publish(Chunk("more"))
        assert not waiter.done()
        scene.go_on.set()
        assert (await waiting).output == "ab"

    asyncio.run(main())
