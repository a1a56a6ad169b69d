"""Measurements of the prefix bench, made up."""

from __future__ import annotations

from ray.bench.budgets.clients import Asked, Load
from ray.bench.budgets.doors import Answer
from ray.bench.budgets.prefix_bench import Pass
from ray.bench.budgets.prefix_sides import Side
from ray.bench.processes.llama_process import Work


def some_asked(seconds: float, text: str = "SECRET", prefix: str | None = None, number: int = 0) -> Asked:
    """An answer of 30 tokens to a prompt of 400, after `seconds`, its first token after half of them."""
    return Asked(number, 0, 0.0, seconds / 2, seconds, Answer(text, 400, 30, 365, prefix, 12.0 if prefix else None))


def some_pass(side: Side, name: str, wall: float, turn: int = 0) -> Pass:
    """Four requests of 30 tokens in `wall` seconds; of 1600 prompt tokens 400 were read."""
    asked = [some_asked(wall / 4 * (turn + 1), number=turn) for turn in range(4)]
    return Pass(side, turn, name, Load(wall, asked), Work(400, 2.5, 120, 1.5), 7.0, 0.25, 0.04)
