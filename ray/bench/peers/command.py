"""`peers`: the same workload for Ray and for another OpenAI-compatible server, in turns within one run.

A round sends every request of it to one side and then to the other, and who goes first alternates: what slows the
machine down for a while hits both. The two sides never work at the same time, so they may share one backend or one
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ray.bench.peers.chat_side import Asked, ChatSide, base_url, chat_body
from ray.bench.processes.process import MeasurementError
from ray.bench.reading.compare_runs import RunComparison, compare_runs
from ray.bench.reading.comparison import changes_as_rows, comparison_document, comparison_text
from ray.bench.report.progress import about_left, time_left
from ray.bench.report.report import envelope
from ray.bench.report.report_file import write_file
from ray.bench.run.driver import HTTP_UNAUTHORIZED
from ray.bench.run.gateway_under_test import KEY_VARIABLE, key_in
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.sample import Sample
from ray.bench.run.summary import summary_of
from ray.bench.run.workload_file import Workload, load_workload
from ray.clock import iso_now

PEERS_KIND = "peers-report"
PEERS_VERSION = 1
PEER_KEY_VARIABLE = "RAY_BENCHMARK_PEER_API_KEY"
READY_SECONDS = 300.0
POLL_SECONDS = 0.5
# A server that loads its model says 503; one whose first answer is slow may run out of its own time.
_NOT_YET_STATUS = frozenset({503, 504})
_NOT_YET_CODES = frozenset({"timeout", "request_timeout", "provider_timeout"})

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PeersPlan:
    """`requests`: of one round, on each side."""

    workload: Workload
    requests: int
    rounds: int
    clients: int
    timeout_ms: int
    margin: float


@dataclass(slots=True)
class _Taken:
    """What a side has measured so far; its clock runs only while it is its turn."""

    side: ChatSide
    samples: list[Sample] = field(default_factory=list)
    wall_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Peers:
    """Both runs and their comparison: A is the peer, B is Ray. `broken_off`: which side was gone, and when; `first`:
    which side began each round."""

    comparison: RunComparison
    broken_off: str | None
    first: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return self.broken_off is not None


def measure_peers(options: argparse.Namespace, facts: Mapping[str, str], progress: Progress) -> Peers:
    """Ask both, in turns. Raises `MeasurementError` when one cannot be asked at all."""
    workload = load_workload(options.workload)
    plan = PeersPlan(
        workload,
        options.requests or len(workload.items),
        options.rounds,
        options.clients,
        options.timeout_ms,
        options.margin,
    )
    ray = Asked("ray", base_url(options.url), options.model, key_in(KEY_VARIABLE, os.environ), is_ray=True)
    peer = Asked("peer", base_url(options.peer), options.peer_model, key_in(PEER_KEY_VARIABLE, os.environ))
    for item in workload.items:
        chat_body(item, None)
    return asyncio.run(ask_both(plan, peer, ray, facts, progress))


async def ask_both(plan: PeersPlan, peer: Asked, ray: Asked, facts: Mapping[str, str], progress: Progress) -> Peers:
    """The whole measurement. Each side first gets one request and one turn that are not counted."""
    sides: list[_Taken] = []
    first: list[str] = []
    broken_off: str | None = None
    began = time.monotonic()
    try:
        for asked in (peer, ray):
            sides.append(_Taken(ChatSide(asked, plan.clients, plan.timeout_ms)))
            await _first(sides[-1].side, plan, progress)
        await _warm_up(sides, plan, progress)
        for turn in range(plan.rounds):
            order = sides if turn % 2 == 0 else sides[::-1]
            first.append(order[0].side.asked.name)
            for taken in order:
                if not await _turn(taken, plan, turn):
                    broken_off = f"{taken.side.asked.name} answered nothing in round {turn + 1} of {plan.rounds}"
                    break
            if broken_off is not None:
                break
            left = time_left(turn + 1, plan.rounds, time.monotonic() - began)
            progress(f"round {turn + 1} of {plan.rounds} done{about_left(left)}")
    finally:
        for taken in sides:
            await taken.side.close()
    before, after = (_report(taken, plan, facts, broken_off) for taken in sides)
    return Peers(compare_runs(before, after, margin=plan.margin), broken_off, tuple(first))


async def _first(side: ChatSide, plan: PeersPlan, progress: Progress) -> None:
    """One answer that is not counted; a server that is not ready yet is waited for. Raises `MeasurementError`."""
    asked, give_up, told = side.asked, time.monotonic() + READY_SECONDS, False
    while True:
        sample = await side.ask(plan.workload.items[0], 0, 0, 0.0)
        if sample.answered:
            return
        status, words = side.refused or (None, "")
        if (status not in _NOT_YET_STATUS and sample.code not in _NOT_YET_CODES) or time.monotonic() > give_up:
            variable = KEY_VARIABLE if asked.is_ray else PEER_KEY_VARIABLE
            remedy = f"; {variable} must hold a key that it knows" if status == HTTP_UNAUTHORIZED else ""
            reason = f"{sample.code}{f': {words}' if words else ''}{remedy}"
            raise MeasurementError(f"{asked.name} at {asked.url} does not answer POST /chat/completions: {reason}")
        if not told:
            progress(f"waiting until {asked.name} is ready ({sample.code})")
            told = True
        await asyncio.sleep(POLL_SECONDS)


async def _warm_up(sides: list[_Taken], plan: PeersPlan, progress: Progress) -> None:
    """A round that is not counted: on a backend that both share, whoever asks first would read the prompts into the KV
    cache, and the other would find them there."""
    progress("warming up both sides")
    for taken in sides:
        await _turn(taken, plan, 0)
        taken.samples, taken.wall_ms = [], 0.0


async def _turn(taken: _Taken, plan: PeersPlan, turn: int) -> bool:
    """A closed loop of the plan's clients; False when not one request was answered. A side that hangs is not waited for
    request by request: each of them takes minutes."""
    began = time.perf_counter()
    numbers = iter(range(turn * plan.requests, (turn + 1) * plan.requests))
    samples: list[Sample] = []

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            place = number % len(plan.workload.items)
            started = taken.wall_ms + (time.perf_counter() - began) * 1000
            samples.append(await taken.side.ask(plan.workload.items[place], number, place, started))
            if all(one.code == "timeout" for one in samples):
                return

    await asyncio.gather(*(client(numbers) for _ in range(min(plan.clients, plan.requests))))
    taken.wall_ms += (time.perf_counter() - began) * 1000
    taken.samples += sorted(samples, key=lambda one: one.number)
    return any(one.answered for one in samples)


def _report(taken: _Taken, plan: PeersPlan, facts: Mapping[str, str], broken_off: str | None) -> RunReport:
    settings = RunSettings(
        target=taken.side.asked.url,
        workload=plan.workload.name,
        workload_digest=plan.workload.digest,
        items=len(plan.workload.items),
        requests=plan.requests * plan.rounds,
        clients=plan.clients,
        warmup=1 + plan.requests,
        no_cache=True,
    )
    return RunReport(
        label=taken.side.asked.name,
        generated_at=iso_now(),
        settings=settings,
        wall_ms=taken.wall_ms,
        samples=tuple(taken.samples),
        facts=facts,
        summary=summary_of(taken.samples, taken.wall_ms, ProviderTally()),
        broken_off=broken_off,
    )


def peers_text(peers: Peers) -> str:
    lines = [f"errors of {run.label}: {_errors(run)}" for run in (peers.comparison.before, peers.comparison.after)]
    if peers.first:
        lines.append(f"who began each round: {', '.join(peers.first)}")
    return comparison_text(peers.comparison) + "\n" + "".join(f"{line}\n" for line in lines)


def _errors(run: RunReport) -> str:
    codes = Counter(sample.code for sample in run.samples if sample.code is not None)
    return ", ".join(f"{code} {count}" for code, count in codes.most_common()) or "none"


def peers_document(peers: Peers, label: str | None = None) -> dict[str, object]:
    """Both reports whole, the comparison, and its changes as rows: Ray to the peer."""
    peer, ray = peers.comparison.before, peers.comparison.after
    settings = ray.settings_document()
    return envelope(
        PEERS_KIND,
        changes_as_rows(peers.comparison),
        label=label or "Ray and a peer",
        facts=ray.facts,
        settings={**settings, "peer": peer.settings.target},
        version=PEERS_VERSION,
        parts={
            "comparison": comparison_document(peers.comparison),
            "peer": peer.to_document(),
            "ray": ray.to_document(),
            "brokenOff": peers.broken_off,
            "first": list(peers.first),
        },
    )


def write_reports(options: argparse.Namespace, peers: Peers, progress: Progress) -> None:
    """Both reports as files of their own, for `page` and `compare`. Raises `MeasurementError`."""
    if options.output_dir is None:
        return
    for run in (peers.comparison.before, peers.comparison.after):
        path = os.path.join(options.output_dir, f"{run.label}.json")
        write_file(path, json.dumps(run.to_document(), indent=2, ensure_ascii=False) + "\n")
        progress(f"wrote {path}")
