"""The search from its beginning to its recommendation, whoever asks the candidates: launch profiles, then schedulers on
the best one, then the proof. What is found is put down as soon as it is known, for a search that is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from ray.bench.processes.process import MeasurementError
from ray.bench.tune.duel import STAGE as COMPARISON
from ray.bench.tune.duel import Proof
from ray.bench.tune.memory import MemoryRoom
from ray.bench.tune.patch import patch_between
from ray.bench.tune.report import Findings
from ray.bench.tune.rungs import START_UNITS, Standing, ranked, rung_sizes, units_to_come
from ray.bench.tune.search import Ask, Outlook, Progress, Search, better_than_base, clear_winner_of, first_line
from ray.bench.tune.space import (
    Candidate,
    Load,
    launch_candidates,
    launch_label,
    launch_profile_of,
    scheduler_candidates,
    scheduler_label,
)
from ray.config import Config

LAUNCH, SCHEDULER = "launch profiles", "schedulers"
MOST_DUELS = 2  # the winner, and once the runner-up
NO_SCORE = (
    "no answer of the starting settings passed the quality checks, so their score is 0 and tells nothing about speed: "
    "ask something that the model can answer, or more of it"
)


@dataclass(frozen=True, slots=True)
class Task:
    """What is searched. `full`: launch profiles too; the limits are numbers of candidates; `cpus`: of this machine."""

    base: Config
    full: bool
    load: Load
    items: int
    requests: int
    scheduler_limit: int
    launch_limit: int
    cpus: int

    @property
    def label(self) -> str:
        """Of the starting settings as a whole."""
        return whole_label(self.base, self.full)


@dataclass(frozen=True, slots=True)
class Asks:
    """How candidates are asked. `launch`: everything is started anew; `schedulers`: only gateways, before a backend
    that runs as long as the context is open; `final`: of the proof, everything anew that the scope allows."""

    launch: Ask
    schedulers: Callable[[Config], AbstractContextManager[Ask]]
    final: Ask


@dataclass(frozen=True, slots=True)
class Memory:
    """`room`: for llama-server; `need_mib`: of a config's one, None when nobody can tell."""

    room: MemoryRoom
    need_mib: Callable[[Config], int | None]

    def refusal(self, candidate: Candidate) -> str | None:
        return self.room.refusal(self.need_mib(candidate.config))


def whole_label(config: Config, full: bool) -> str:
    """The name of all that is searched in a config."""
    launch = launch_profile_of(config) if full else None
    scheduler = scheduler_label(config.scheduler)
    return scheduler if launch is None else f"{launch_label(launch)} {scheduler}"


def tune(task: Task, asks: Asks, memory: Memory | None, proof: Proof, found: Findings, progress: Progress) -> None:
    """Search and prove; `found` is filled on the way. Raises `MeasurementError` when the starting settings fail."""
    outlook = proof.outlook
    sizes = rung_sizes(task.items, task.requests)
    outlook.ahead[COMPARISON] = proof.units
    planned = len(scheduler_candidates(task.base, task.scheduler_limit, task.load))
    outlook.ahead[SCHEDULER] = units_to_come(sizes, 0, planned, planned) + sizes[0]
    start = Candidate(task.label, task.base)
    best = start
    if task.full:
        best = _launch_sweep(task, asks, memory, outlook, found, progress) or start
    try:
        rivals = _scheduler_sweep(task, asks, best, outlook, found, progress)
    except MeasurementError as error:
        if best is start:
            raise
        told = f"{best.label} was the best launch profile and could not be measured again: {first_line(str(error))}"
        found.notes.append(told)
        progress(told)
        rivals = _scheduler_sweep(task, asks, start, outlook, found, progress)
    for rival in rivals[:MOST_DUELS]:
        outlook.ahead[COMPARISON] = proof.units
        if found.duels and not proof.has_time:
            progress(f"no time to compare with the runner-up, {rival.label}")
            break
        progress(f"comparing the starting settings with {rival.label}")
        duel = proof.compare(start, rival)
        found.duels.append(duel)
        if duel.won or duel.by_base:
            break
        progress(f"{rival.label} is not taken: {first_line(duel.reason)}")
    winner = found.won
    if winner is not None:
        found.patch = patch_between(task.base, winner.rival.config)
    elif not any(duel.by_base for duel in found.duels):
        found.patch = {}


def _launch_sweep(
    task: Task, asks: Asks, memory: Memory | None, outlook: Outlook, found: Findings, progress: Progress
) -> Candidate | None:
    candidates = launch_candidates(task.base, task.launch_limit, task.cpus, task.load)
    standings = [Standing(candidate) for candidate in candidates]
    found.launch = standings
    if memory is not None:
        found.notes += _memory_notes(memory, candidates[0])
    progress(f"{len(candidates)} launch profiles to try, one llama-server at a time")
    search = Search(LAUNCH, task.items, task.requests, asks.launch, outlook, progress)
    if memory is not None:
        search = replace(search, refusal=memory.refusal)
    search.run(standings)
    best = clear_winner_of(standings)
    return None if best is standings[0] else best.candidate


def _memory_notes(memory: Memory, base: Candidate) -> list[str]:
    room, need = memory.room, memory.need_mib(base.config)
    told = "cannot be told" if need is None else f"{need} MiB"
    notes = [f"memory for llama-server: {room.backend_mib} MiB; the starting settings need at most: {told}"]
    if room.refusal(need) is not None:
        notes.append("by this calculation the starting settings do not fit; they are tried all the same")
    return notes


def _scheduler_sweep(
    task: Task, asks: Asks, best: Candidate, outlook: Outlook, found: Findings, progress: Progress
) -> list[Candidate]:
    """Who is ahead of the starting settings, best first: they are the rivals of the proof."""
    candidates = scheduler_candidates(best.config, task.scheduler_limit, task.load)
    sizes = rung_sizes(task.items, task.requests)
    on_other_launch = best.config is not task.base
    if task.full and not outlook.has_time_for(2 * (sizes[0] + START_UNITS), kept_for=COMPARISON):
        found.notes.append("the time limit came before the schedulers")
        return [Candidate(whole_label(best.config, task.full), best.config)] if on_other_launch else []
    standings = [Standing(candidate) for candidate in candidates]
    found.scheduler = standings
    progress(f"{len(candidates)} schedulers to try; what {task.load.clients} at once cannot notice is left out")
    with asks.schedulers(best.config) as ask:
        _warm(ask, candidates[0], sizes[0], outlook)
        Search(SCHEDULER, task.items, task.requests, ask, outlook, progress).run(standings)
    if not standings[0].figures.score:
        found.notes.append(NO_SCORE)
    ahead = ranked(standings) if on_other_launch else better_than_base(standings)
    return [Candidate(whole_label(one.candidate.config, task.full), one.candidate.config) for one in ahead]


def _warm(ask: Ask, base: Candidate, requests: int, outlook: Outlook) -> None:
    """One pass that counts for nobody: what the backend keeps of the prompts must be no gift to all but the first."""
    began = outlook.clock()
    try:
        ask(base, requests, 0, None)
    except MeasurementError as error:
        raise MeasurementError(f"the starting settings ({base.label}) cannot be measured: {error}") from error
    outlook.worked(requests, outlook.clock() - began)
