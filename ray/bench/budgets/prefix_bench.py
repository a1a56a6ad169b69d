"""`python -m ray.bench prefix`: what prefix reuse gains, against the same `llama-server` asked directly.

The story: two direct sides, without and with `llama-server`'s RAM cache, and Ray's side, each on a fresh server. They
take turns, pass by pass, while the servers of the others idle: a rented core is not equally fast at all times, so what
is compared has to be measured side by side. Every side gets the same questions in the same order from the same number
of clients: a first pass with nothing warm, a second one with what the first has left behind, and, on the sides that
remember something, a third one after everything was restarted. Then one client with one family, where there is nothing
to gain; then the texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ray.bench.budgets.clients import Asked, Load, ask_streaming, run_clients
from ray.bench.budgets.prefix_sides import (
    Model,
    Running,
    Shape,
    Side,
    count_tokens,
    direct_side,
    ray_side,
    running,
    store_metrics,
)
from ray.bench.budgets.workload import Question, Workload
from ray.bench.processes.gateway_process import Workplace
from ray.bench.processes.llama_process import Work, work_done
from ray.bench.processes.process import cpu_seconds, foreign_share, machine_ticks, working_directory
from ray.bench.report.progress import Steps

RAM_CACHE_MIB = 512
COLD, STEADY, RESTARTED = PASSES = ("first", "second", "restarted")
WARMING_QUESTIONS = 3
# Turns of the workload: two for the last parts, then three for the passes of each round.
_ALONE_TURN, _SAMPLE_TURN, _FIRST_PASS_TURN = 0, 1, 2
# A prompt that has nothing in common with the workload: it maps the model, and the gateway asks what the server can do.
_HELLO = Question(-1, "Be brief.", "Good morning!")

Progress = Callable[[str], None]

# About how many seconds things take on two cores with a model of 135 million parameters, for the estimate of the time
# left; with another model all of them grow alike. A side that remembers prefixes reads about half as much.
_START_COST, _REQUEST_COST, _PAIR_COST, _SAMPLE_COST = 3.0, 1.1, 0.8, 3.0
_REMEMBERED = 0.5


@dataclass(frozen=True, slots=True)
class PrefixPlan:
    """How much is asked. `requests` per pass; `rounds`: how often all passes of all sides are gone through, each time
    with other lines in another order; `pairs`: of questions with one client."""

    families: int = 6
    clients: int = 8
    requests: int = 32
    slots: int = 2
    prefix_tokens: int = 365
    answer_tokens: int = 32
    rounds: int = 1
    pairs: int = 12
    seed: int = 7
    store: bool = True

    @property
    def cost(self) -> float:
        """About the seconds that all of it takes."""
        rounds = self.rounds * sum(
            len(sides) * _START_COST + sum(self.pass_cost(side) for side in sides) * len(names)
            for sides, names in passes_of_a_round(0, self.store)
        )
        alone = 2 * _START_COST + (self.pairs + WARMING_QUESTIONS) * _PAIR_COST
        return _START_COST + rounds + alone + (self.samples_cost if self.store else 0.0)

    def pass_cost(self, side: Side) -> float:
        return self.requests * _REQUEST_COST * (_REMEMBERED if remembers(side) else 1.0)

    @property
    def samples_cost(self) -> float:
        return 3 * _START_COST + self.families * _SAMPLE_COST


FULL = PrefixPlan()
QUICK = PrefixPlan(families=3, clients=3, requests=6, prefix_tokens=96, answer_tokens=8, pairs=2)


@dataclass(frozen=True, slots=True)
class Pass:
    """One side's way through one pass of a round, counted from 0. `work`: of the backend; CPU seconds of both
    processes, 0 without a gateway; `foreign`: the share of the machine, 0 to 1, that processes outside the bench used
    meanwhile."""

    side: Side
    round: int
    name: str
    load: Load
    work: Work
    backend_cpu: float
    gateway_cpu: float
    foreign: float

    @property
    def reused_share(self) -> float:
        """Prompt tokens that the backend did not read, of all prompt tokens it was sent: 0 to 1, by the backend's own
        counter. A prefix that Ray has read ahead of a request counts as read."""
        return max(0.0, 1 - self.work.prompt_tokens / max(1, self.load.prompt_tokens))

    def idle_share(self, slots: int) -> float:
        """The share of the slots' time, 0 to 1, in which they neither read a prompt nor wrote an answer."""
        return max(0.0, 1 - (self.work.prompt_seconds + self.work.answer_seconds) / (slots * self.load.wall_seconds))


@dataclass(frozen=True, slots=True)
class Pair:
    """The same question of one family, asked by one client at both sides, one after the other."""

    direct: Asked
    through: Asked

    @property
    def ratio(self) -> float:
        """Tokens per second through Ray to directly."""
        return _rate(self.through) / _rate(self.direct)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question whose prefix was first read, then, after a restart, restored; and its text from `llama-server`
    without any reuse."""

    read: Asked
    restored: Asked
    whole: Asked


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that came out. `store`: Ray's own metrics of the prefix store, two mappings for each round: before
    and after the restart."""

    passes: Sequence[Pass]
    pairs: Sequence[Pair]
    samples: Sequence[Sample]
    store: Sequence[Mapping[str, float]]

    def rates(self, side: str, name: str) -> list[float]:
        """Tokens per second of a pass, for each round."""
        return [one.load.tokens_per_second for one in self.passes if (one.side.id, one.name) == (side, name)]


def measure_prefix(plan: PrefixPlan, model: Model, python: str, progress: Progress) -> Measured:
    """Run everything. Raises `MeasurementError` when something cannot be measured."""
    with working_directory() as directory:
        bench = _Bench(plan, model, Workplace.prepare(directory, python), progress)
        workload = bench.workload()
        passes: list[Pass] = []
        store: list[Mapping[str, float]] = []
        for turn in range(plan.rounds):
            done, metrics = bench.one_round(turn, workload)
            passes += done
            store += metrics
        pairs = bench.pairs(workload)
        samples = bench.samples(workload) if plan.store else []
        return Measured(passes, pairs, samples, store)


class _Bench:
    """What all parts of the story need."""

    def __init__(self, plan: PrefixPlan, model: Model, workplace: Workplace, progress: Progress) -> None:
        self.plan = plan
        self.model = model
        self.workplace = workplace
        self.steps = Steps(progress, plan.cost)
        self.shape = Shape.of(slots=plan.slots, prefix_tokens=plan.prefix_tokens, answer_tokens=plan.answer_tokens)
        self._started = 0

    def start(self, stack: ExitStack, side: Side, store: str = "store") -> Running:
        """A fresh server, with its gateway if it has one; every start has log files of its own."""
        self._started += 1
        name = f"{self._started}-{side.id}"
        directory = self.workplace.directory / store
        one = stack.enter_context(running(side, self.shape, self.model, self.workplace, name, directory))
        self.ask(one, _HELLO)
        self.steps.did(_START_COST)
        return one

    def ask(self, one: Running, question: Question, reuse: bool = True) -> Asked:
        return ask_streaming(one.address, one.door, question, self.plan.answer_tokens, reuse)

    def workload(self) -> Workload:
        """The questions, with system texts cut to length by the model's own tokenizer."""
        plan = self.plan
        self.steps.begin(f"{plan.families} families of {plan.prefix_tokens} tokens")
        with ExitStack() as stack:
            backend = self.start(stack, direct_side(0)).backend
            return Workload(
                families=plan.families,
                tokens=plan.prefix_tokens,
                seed=plan.seed,
                count=lambda text: count_tokens(backend, text),
            )

    def one_round(self, turn: int, workload: Workload) -> tuple[list[Pass], list[Mapping[str, float]]]:
        """All passes of a round, and the metrics of Ray's store before and after the restart. The round has a store
        directory of its own."""
        passes: list[Pass] = []
        metrics: list[Mapping[str, float]] = []
        for sides, names in passes_of_a_round(turn, self.plan.store):
            done, found = self.passes(sides, turn, names, workload)
            passes += done
            metrics += found
        return passes, metrics

    def passes(
        self, sides: Sequence[Side], turn: int, names: Sequence[str], workload: Workload
    ) -> tuple[list[Pass], list[Mapping[str, float]]]:
        """These passes of a round, the sides in turn in each of them, on one fresh start of every side."""
        done: list[Pass] = []
        with ExitStack() as stack:
            started = [(side, self.start(stack, side, f"store-{turn}")) for side in sides]
            for name in names:
                for side, one in started:
                    counted = f"round {turn + 1} of {self.plan.rounds}, " if self.plan.rounds > 1 else ""
                    self.steps.begin(f"{counted}{name} pass, {side.label}: {self.plan.requests} requests")
                    done.append(self.measured_pass(one, side, turn, name, workload))
                    self.steps.did(self.plan.pass_cost(side))
            return done, [store_metrics(one.address) for _, one in started if one.gateway is not None]

    def measured_pass(self, one: Running, side: Side, turn: int, name: str, workload: Workload) -> Pass:
        plan = self.plan
        questions = workload.questions(pass_turn(turn, name), plan.requests)
        work = work_done(one.backend)
        machine, own = machine_ticks(), time.process_time()
        backend_cpu, gateway_cpu = cpu_seconds(one.server.pid), _gateway_cpu(one)
        load = run_clients(one.address, one.door, questions, clients=plan.clients, tokens=plan.answer_tokens)
        backend_cpu, gateway_cpu = cpu_seconds(one.server.pid) - backend_cpu, _gateway_cpu(one) - gateway_cpu
        used = backend_cpu + gateway_cpu + time.process_time() - own
        foreign = foreign_share(machine, machine_ticks(), used)
        return Pass(side, turn, name, load, work_done(one.backend).since(work), backend_cpu, gateway_cpu, foreign)

    def pairs(self, workload: Workload) -> list[Pair]:
        """One client, one family, both sides up: each question goes to both, and who goes first alternates."""
        self.steps.begin(f"one client, one family: {self.plan.pairs} pairs")
        found: list[Pair] = []
        with ExitStack() as stack:
            sides = (self.start(stack, direct_side(0)), self.start(stack, ray_side(self.plan.store), "alone"))
            questions = [
                Question(0, workload.systems[0], question.line)
                for question in workload.questions(_ALONE_TURN, self.plan.pairs + WARMING_QUESTIONS)
            ]
            for turn, question in enumerate(questions):
                asked: dict[int, Asked] = {}
                for index in (0, 1) if turn % 2 else (1, 0):
                    asked[index] = self.ask(sides[index], question)
                self.steps.did(_PAIR_COST, f"question {turn + 1} of {len(questions)} to both sides")
                # Before, both sides read the prefix, and Ray saves it: that is the first pass's business.
                if turn >= WARMING_QUESTIONS:
                    found.append(Pair(asked[0], asked[1]))
        return found

    def samples(self, workload: Workload) -> list[Sample]:
        """One question of each family: its prefix read and saved; after a restart restored; and without any reuse.

        One client, so that the batches of both answers have the same shape: in another shape the same prompt gives
        slightly different numbers, and with temperature 0 now and then another word.
        """
        self.steps.begin("the same questions before and after a restart: are the texts equal?")
        questions = [
            Question(family, system, workload.questions(_SAMPLE_TURN, len(workload.systems))[family].line)
            for family, system in enumerate(workload.systems)
        ]
        side = ray_side(self.plan.store).saving_at_once()
        answers: list[list[Asked]] = []
        for _ in ("read", "restored"):
            with ExitStack() as stack:
                one = self.start(stack, side, "samples")
                answers.append([self.ask(one, question) for question in questions])
        with ExitStack() as stack:
            one = self.start(stack, direct_side(0))
            answers.append([self.ask(one, question, reuse=False) for question in questions])
        return [Sample(*triple) for triple in zip(*answers, strict=True)]


def sides_in_turn(turn: int, store: bool) -> list[Side]:
    """The sides in the order in which they take their turns in a round: every other round the other way round, and
    always next to each other what differs least."""
    sides = [direct_side(0), direct_side(RAM_CACHE_MIB), ray_side(store)]
    return sides if turn % 2 == 0 else sides[::-1]


def passes_of_a_round(turn: int, store: bool) -> list[tuple[list[Side], tuple[str, ...]]]:
    """Which sides go through which passes on one start: all of them, and after a restart those that remember."""
    sides = sides_in_turn(turn, store)
    return [(sides, (COLD, STEADY)), ([side for side in sides if remembers(side)], (RESTARTED,))]


def remembers(side: Side) -> bool:
    """Whether it keeps more than the last prompt of each slot."""
    return bool(side.cache_ram_mib or side.gateway)


def pass_turn(turn: int, name: str) -> int:
    """The turn of the workload that belongs to a pass of a round: each has its own."""
    return _FIRST_PASS_TURN + turn * len(PASSES) + PASSES.index(name)


def _rate(one: Asked) -> float:
    return one.answer.completion_tokens / one.latency


def _gateway_cpu(one: Running) -> float:
    return 0.0 if one.gateway is None else cpu_seconds(one.gateway.pid)
