"""The preparation gate: bounded inside, bounded outside, and never a place lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from ray.errors import RayError
from ray.runtime.preparation import GateSnapshot, PreparationGate
from tests.fakes.provider import until


class Visitor:
    """Somebody who goes through the gate and stays until told to go."""

    def __init__(self, gate: PreparationGate) -> None:
        self.gate = gate
        self.inside = False
        self.may_go = asyncio.Event()
        self.task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        async with self.gate:
            self.inside = True
            try:
                await self.may_go.wait()
            finally:
                self.inside = False


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_with_one_place_and_one_chair_the_third_is_refused() -> None:
    async def main() -> None:
        gate = PreparationGate(concurrency=1, max_queue=1)
        first, second = Visitor(gate), Visitor(gate)
        await settle()
        with pytest.raises(RayError) as caught:
            async with gate:
                pass
        assert caught.value.code == "queue_full"
        assert caught.value.details == {
            "phase": "prepare",
            "activePreparations": 1,
            "queuedPreparations": 1,
            "concurrency": 1,
            "maxQueue": 1,
        }
        first.may_go.set()
        await until(lambda: second.inside)
        second.may_go.set()
        await asyncio.gather(first.task, second.task)
        assert gate.snapshot() == GateSnapshot(0, 1, 0, 1)

    asyncio.run(main())


def test_waiters_are_let_in_in_the_order_they_came() -> None:
    async def main() -> None:
        gate = PreparationGate(concurrency=1, max_queue=5)
        order: list[int] = []

        async def visit(number: int) -> None:
            async with gate:
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(visit(number) for number in range(5)))
        assert order == [0, 1, 2, 3, 4]

    asyncio.run(main())


def test_a_holder_that_fails_gives_its_place_back() -> None:
    async def main() -> None:
        gate = PreparationGate(concurrency=1, max_queue=1)
        with pytest.raises(ValueError, match="broken"):
            async with gate:
                raise ValueError("broken")
        assert gate.snapshot().active == 0

    asyncio.run(main())


def test_a_waiter_cancelled_in_the_turn_in_which_it_is_admitted_passes_the_place_on() -> None:
    async def main() -> None:
        gate = PreparationGate(concurrency=1, max_queue=5)
        first, second, third = Visitor(gate), Visitor(gate), Visitor(gate)
        await settle()
        first.may_go.set()
        await until(lambda: not first.inside)  # its place is handed to the second, which has not run yet
        second.task.cancel()
        await until(lambda: third.inside)
        assert gate.snapshot().active == 1
        third.may_go.set()
        await third.task
        assert gate.snapshot() == GateSnapshot(0, 1, 0, 5)

    asyncio.run(main())


def test_a_cancelled_waiter_does_not_block_newcomers() -> None:
    async def main() -> None:
        gate = PreparationGate(concurrency=1, max_queue=5)
        first, second = Visitor(gate), Visitor(gate)
        await settle()
        second.task.cancel()
        first.may_go.set()
        await first.task
        newcomer = Visitor(gate)
        await until(lambda: newcomer.inside)
        newcomer.may_go.set()
        await newcomer.task
        assert gate.snapshot() == GateSnapshot(0, 1, 0, 5)

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(5))
def test_after_any_mixture_of_visits_and_cancellations_the_gate_is_empty(seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        gate = PreparationGate(concurrency=2, max_queue=8)
        visitors: list[Visitor] = []
        for _ in range(200):
            roll = chance.random()
            if roll < 0.5 or not visitors:
                visitors.append(Visitor(gate))
            elif roll < 0.75:
                chance.choice(visitors).may_go.set()
            else:
                chance.choice(visitors).task.cancel()
            if chance.random() < 0.6:
                await asyncio.sleep(0)
            assert sum(visitor.inside for visitor in visitors) <= 2
            assert gate.snapshot().active <= 2
        for visitor in visitors:
            visitor.may_go.set()
        await asyncio.gather(*(visitor.task for visitor in visitors), return_exceptions=True)
        assert gate.snapshot() == GateSnapshot(0, 2, 0, 8)

    asyncio.run(main())
