"""`python -m ray.bench openai`: what `/v1/chat/completions` costs through Ray, against `llama-server` asked directly.

Both sides get the same streamed chat requests in pairs and in turn, each side on a server of its own that was started
from the same launch profile. No two questions share a beginning, so nothing is gained by reuse: what is left is what
the gateway costs until the first token and for each further one. Then several clients at once, and a client that
leaves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ray.bench.budgets.backend_bench import question, read_until, wait_until_free
from ray.bench.budgets.clients import Asked, ask_streaming, run_clients
from ray.bench.budgets.doors import THROUGH_CHAT, direct_body
from ray.bench.budgets.prefix_sides import Model, Running, Shape, direct_side, ray_side, running
from ray.bench.budgets.workload import Question
from ray.bench.processes.gateway_process import Workplace, answers
from ray.bench.processes.llama_process import SLOTS
from ray.bench.processes.load import Connection, request_bytes
from ray.bench.processes.process import cpu_seconds, working_directory
from ray.bench.report.figures import repeated
from ray.bench.report.progress import Steps
from ray.bench.report.report import Budget, Row

RATIO = Budget(0.97, at_least=True)
FREED_MS = Budget(100)
PROMPT_TOKENS = 64  # at most; what a question and its system text need
SYSTEM_TEXTS = "You are storyteller number {number}. You love harbours, long journeys and many details."
FREED_LABEL = "client gone to llama-server slot free"

Progress = Callable[[str], None]

# About how many seconds things take on two cores with a model of 135 million parameters, for the estimate of the time
# left; with another model all of them grow alike.
_START_COST, _TOKEN_COST, _LEAVING_COST = 8.0, 0.01, 0.5


@dataclass(frozen=True, slots=True)
class OpenAIPlan:
    """`pairs` of questions with one client, `tokens` in each answer; `rounds` with `clients` at once, each asking
    `requests` questions; `disconnects` in mid-answer."""

    pairs: int
    tokens: int
    rounds: int
    clients: int
    requests: int
    disconnects: int
    slots: int = 2

    @property
    def pair_cost(self) -> float:
        """About the seconds that one pair takes."""
        return 2 * self.tokens * _TOKEN_COST

    @property
    def round_cost(self) -> float:
        return 2 * self.requests * self.tokens * _TOKEN_COST

    @property
    def cost(self) -> float:
        asking = self.pairs * self.pair_cost + self.rounds * self.round_cost
        return _START_COST + asking + self.disconnects * _LEAVING_COST


FULL = OpenAIPlan(pairs=16, tokens=64, rounds=5, clients=4, requests=12, disconnects=8)
QUICK = OpenAIPlan(pairs=2, tokens=8, rounds=1, clients=2, requests=4, disconnects=1)


def measure_openai(plan: OpenAIPlan, model: Model, python: str, progress: Progress) -> list[Row]:
    """The rows of the report. Raises `MeasurementError` when something cannot be measured."""
    with working_directory() as directory, ExitStack() as stack:
        workplace = Workplace.prepare(directory, python)
        shape = Shape.of(slots=plan.slots, prefix_tokens=PROMPT_TOKENS, answer_tokens=plan.tokens)
        steps = Steps(progress, plan.cost)
        steps.begin("starting both sides")
        direct, through = (
            stack.enter_context(running(side, shape, model, workplace, side.id, directory / f"store-{side.id}"))
            for side in (direct_side(0), ray_side(store=True))
        )
        through = Running(THROUGH_CHAT, through.address, through.backend, through.server, through.gateway)
        steps.did(_START_COST)
        asker = _Asker(direct, through, plan, steps)
        steps.begin(f"{plan.pairs} pairs of streamed answers, one client")
        rows = asker.pair_rows()
        rows += asker.loaded_rows()
        steps.begin(f"leaving {plan.disconnects} times in mid-answer")
        rows.append(_freed_row(through, plan))
        return rows


class _Asker:
    """Asks both sides, and never the same question twice."""

    def __init__(self, direct: Running, through: Running, plan: OpenAIPlan, steps: Steps) -> None:
        self.sides = (direct, through)
        self.plan = plan
        self.steps = steps
        self._number = 1

    def next_question(self) -> Question:
        self._number += 1
        return chat_question(self._number)

    def pair_rows(self) -> list[Row]:
        """Time to first token and tokens per second, the sides in turn with the same questions."""
        through = self.sides[1]
        for side in self.sides:  # the first request of a process asks and loads what later ones find
            ask_streaming(side.address, side.door, self.next_question(), self.plan.tokens)
        asked: list[tuple[Asked, Asked]] = []
        cpu_us: list[float] = []
        for turn in range(self.plan.pairs):
            one = self.next_question()
            found: dict[int, Asked] = {}
            for index in (0, 1) if turn % 2 else (1, 0):
                before = _gateway_cpu(through)
                found[index] = ask_streaming(self.sides[index].address, self.sides[index].door, one, self.plan.tokens)
                if index == 1:
                    cpu_us.append((_gateway_cpu(through) - before) / found[1].answer.completion_tokens * 1e6)
            asked.append((found[0], found[1]))
            self.steps.did(self.plan.pair_cost, f"pair {turn + 1} of {self.plan.pairs} done")
        return [*latency_rows(asked), Row("token_cpu_us", "gateway CPU per token", "us", repeated(cpu_us))]

    def loaded_rows(self) -> list[Row]:
        """Tokens per second of all clients together; who goes first changes from round to round."""
        rates: tuple[list[float], list[float]] = ([], [])
        clients = self.plan.clients
        for turn in range(self.plan.rounds):
            self.steps.begin(f"round {turn + 1} of {self.plan.rounds} with {clients} clients")
            questions = [self.next_question() for _ in range(self.plan.requests)]
            for index in (0, 1) if turn % 2 else (1, 0):
                side = self.sides[index]
                load = run_clients(side.address, side.door, questions, clients=clients, tokens=self.plan.tokens)
                rates[index].append(load.tokens_per_second)
            self.steps.did(self.plan.round_cost)
        ratios = [ours / theirs for theirs, ours in zip(*rates, strict=True)]
        return [
            Row("busy_direct", f"directly, {clients} clients", "tok/s", repeated(rates[0])),
            Row("busy_through", f"through Ray, {clients} clients", "tok/s", repeated(rates[1])),
            Row("busy_ratio", f"tokens per second with {clients} clients, to directly", "x", repeated(ratios), RATIO),
        ]


def chat_question(number: int) -> Question:
    """A question with a system text of its own that asks for more than any answer's limit. No two begin alike."""
    return Question(number, SYSTEM_TEXTS.format(number=number), question(number))


def latency_rows(asked: Sequence[tuple[Asked, Asked]]) -> list[Row]:
    """Rows out of pairs: the same question asked directly and through Ray."""
    direct, through = zip(*asked, strict=True)
    ttft = [ours.ttft / theirs.ttft for theirs, ours in asked]
    added_ms = [(ours.ttft - theirs.ttft) * 1000 for theirs, ours in asked]
    rates = [ours / theirs for theirs, ours in zip(map(_rate, direct), map(_rate, through), strict=True)]
    return [
        Row("ttft_direct_ms", "time to first token, directly", "ms", repeated([one.ttft * 1000 for one in direct])),
        Row(
            "ttft_through_ms", "time to first token, through Ray", "ms", repeated([one.ttft * 1000 for one in through])
        ),
        Row("ttft_added_ms", "time to first token, added in a pair", "ms", repeated(added_ms)),
        Row("ttft_ratio", "time to first token, to directly", "x", repeated(ttft), more_is_better=False),
        Row("tokens_direct", "tokens per second, directly", "tok/s", repeated([_rate(one) for one in direct])),
        Row("tokens_through", "tokens per second, through Ray", "tok/s", repeated([_rate(one) for one in through])),
        Row("tokens_ratio", "tokens per second, to directly", "x", repeated(rates), RATIO),
    ]


def _rate(one: Asked) -> float:
    """Tokens per second over the whole answer, as its client sees it."""
    return one.answer.completion_tokens / one.latency


def _gateway_cpu(through: Running) -> float:
    return 0.0 if through.gateway is None else cpu_seconds(through.gateway.pid)


def _freed_row(through: Running, plan: OpenAIPlan) -> Row:
    if not answers(through.backend, SLOTS):
        return Row("freed_ms", FREED_LABEL, "ms", None, FREED_MS, "this llama-server does not show its /slots")
    samples = [_freed_after_ms(through, chat_question(50_000 + turn)) for turn in range(plan.disconnects)]
    return Row("freed_ms", FREED_LABEL, "ms", repeated(samples), FREED_MS)


def _freed_after_ms(through: Running, one: Question) -> float:
    """Milliseconds from leaving a streamed chat after its first text until the slot is free."""
    body = json.dumps(direct_body(one, 256, True)).encode()
    client = Connection(through.address)
    try:
        client.socket.sendall(request_bytes("POST", THROUGH_CHAT.path, body))
        read_until(client, b'"content":"')
        left = time.perf_counter()
        client.close()
        wait_until_free(through.backend)
        return (time.perf_counter() - left) * 1000
    finally:
        client.close()
