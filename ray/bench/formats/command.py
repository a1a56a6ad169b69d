"""`python -m ray.bench formats`: the same questions, with the prompts written in each format that there is.

Which format a gateway writes is for its operator to say, not for its clients. With a config the sweep therefore starts
gateways that differ in `model.operational.recommendedPromptFormat` only, and each request also names its format in
`metadata.rayPromptFormat`, for gateways that listen to it. What was really written is read from the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from ray.bench.formats.report import FALLBACK, FORMATS, FormatResult, Sweep, own_format, recommend, sweep_document
from ray.bench.formats.text import sweep_text
from ray.bench.processes.process import MeasurementError
from ray.bench.report.progress import about_left, time_left
from ray.bench.report.report import machine_facts
from ray.bench.report.shown import BACKEND_AND_OTHERS, Shown, say_progress, watch
from ray.bench.run.command import DEFAULT_URL, report_of, settings_of
from ray.bench.run.driver import Measured, RunPlan, drive
from ray.bench.run.gateway_under_test import Target, api_key_of, read_config, started_gateway, wait_until_ready
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.repetition import with_next_seeds
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import MAX_METADATA_ENTRIES, Item, Workload, load_workload, workload_of
from ray.config import Config, LlamaCppAdapter

FORMAT_KEY = "rayPromptFormat"


@dataclass(slots=True)
class Side:
    """One format while it is measured. `target`: the gateway that is asked; `own`: as the operator has set it."""

    prompt_format: str
    workload: Workload
    target: Target
    own: bool
    samples: list[Sample] = field(default_factory=list)
    tally: ProviderTally = field(default_factory=ProviderTally)
    wall_ms: float = 0.0
    given_up: bool = False

    def take(self, measured: Measured) -> None:
        """Put a turn behind those before it."""
        first = len(self.samples)
        for sample in measured.samples:
            moved = replace(sample, number=first + sample.number, started_ms=self.wall_ms + sample.started_ms)
            self.samples.append(moved)
        self.tally.include(measured.tally)
        self.wall_ms += measured.wall_ms

    def tell(self, text: str) -> None:
        """Progress within a turn, without the time left: that would be the turn's alone."""
        say_progress(f"{self.prompt_format}: {text.partition(', about ')[0]}")


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """`requests`: for each format, in turns of every item once."""

    workload: Workload
    requests: int
    clients: int
    timeout_ms: int

    def turns(self) -> list[int]:
        """The requests of each turn."""
        items = len(self.workload.items)
        return [min(items, self.requests - start) for start in range(0, self.requests, items)]

    def run(self, workload: Workload, requests: int) -> RunPlan:
        return RunPlan(workload, requests, clients=self.clients, no_cache=True, timeout_ms=self.timeout_ms)


def show_formats(options: argparse.Namespace) -> Shown:
    """Measure all formats. Raises `MeasurementError` when that cannot be done."""
    workload = load_workload(options.workload)
    asked = options.requests or len(workload.items)
    plan = SweepPlan(workload, asked, options.clients, options.timeout_ms)
    keyed = {name: keyed_workload(workload, name) for name in FORMATS}
    config = None if options.config is None else read_config(options.config)
    key = api_key_of(config, os.environ)
    facts, finish = machine_facts(), watch(BACKEND_AND_OTHERS)
    started = config if options.url is None else None
    with _sides(options.url or DEFAULT_URL, started, options.python, keyed) as sides:
        without_asking, broken_off = asyncio.run(measure(plan, sides, key))
    sweep = sweep_of(options.label or workload.name, plan, sides, without_asking, {**facts, **finish()}, broken_off)
    sweep = replace(sweep, settable=started is not None, target=options.config if started else sweep.target)
    document = sweep_document(sweep)
    failed = broken_off is not None or sweep.recommendation.prompt_format is None
    return Shown(sweep_text(sweep), document, missed=False, broken=failed)


def keyed_workload(workload: Workload, prompt_format: str) -> Workload:
    """The workload with the format in the metadata of every item. Raises `MeasurementError` when there is no room."""
    return workload_of(workload.name, tuple(_keyed(item, prompt_format) for item in workload.items))


def _keyed(item: Item, prompt_format: str) -> Item:
    given = item.fields.get("metadata")
    metadata = {**(given if isinstance(given, Mapping) else {}), FORMAT_KEY: prompt_format}
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise MeasurementError(
            f"an item of the workload has {MAX_METADATA_ENTRIES} metadata entries: there is no room for {FORMAT_KEY}"
        )
    return replace(item, fields={**item.fields, "metadata": metadata})


def config_for(config: Config, prompt_format: str) -> Config:
    """The operator's config with this format. Raises `MeasurementError` for a config whose prompts Ray does not write.

    Without the prefix store: two gateways must not manage the slots of one backend.
    """
    adapter, operational = config.model.adapter, config.model.operational
    if not isinstance(adapter, LlamaCppAdapter):
        raise MeasurementError(
            f"this config has the adapter {adapter.kind}, whose prompts Ray does not write: only llama.cpp has formats"
        )
    if operational is None:
        raise MeasurementError("this config has no model.operational, where the prompt format is set: add that section")
    own = operational.recommended_prompt_format
    if prompt_format == FALLBACK:
        operational = replace(operational, recommended_prompt_format="plain-completion")
    elif own == "plain-completion":
        operational = replace(operational, recommended_prompt_format="native-template")
    return replace(
        config,
        model=replace(config.model, operational=operational),
        prefix_store=replace(config.prefix_store, enabled=False),
    )


@contextmanager
def _sides(url: str, config: Config | None, python: str, keyed: Mapping[str, Workload]) -> Iterator[list[Side]]:
    """A side for each format: all at one running gateway, or at as many started ones as differ in their config."""
    if config is None:
        yield [Side(name, workload, Target(url), own=True) for name, workload in keyed.items()]
        return
    configs = {name: config_for(config, name) for name in keyed}
    own = replace(config, prefix_store=replace(config.prefix_store, enabled=False))
    started: list[tuple[Config, Target]] = []
    sides = []
    with ExitStack() as stack:
        for name, workload in keyed.items():
            target = next((target for of, target in started if of == configs[name]), None)
            if target is None:
                target = stack.enter_context(started_gateway(configs[name], os.environ, python))
                started.append((configs[name], target))
            sides.append(Side(name, workload, target, own=configs[name] == own))
        yield sides


async def measure(plan: SweepPlan, sides: Sequence[Side], key: str | None) -> tuple[Mapping[str, int], str | None]:
    """Ask all sides, in turns. Gives the formats of the answers to the unchanged items at the operator's own gateway,
    and why it ended early. Raises `MeasurementError` when no answer names a format."""
    without_asking: Counter[str] = Counter()
    own = {side.target.url for side in sides if side.own}
    for target in {side.target.url: side.target for side in sides}.values():
        await wait_until_ready(target, say_progress)
        say_progress(f"warming up: every item once at {target.url}, as it is")
        measured = await drive(plan.run(plan.workload, len(plan.workload.items)), target.url, key, say_progress)
        if measured.broken_off is not None:
            raise MeasurementError(measured.broken_off)
        answered = [sample for sample in measured.samples if sample.answered]
        if not answered:
            codes = Counter(sample.code for sample in measured.samples)
            raise MeasurementError(f"{target.url} answered nothing: {', '.join(map(str, codes))}")
        formats = [sample.prompt_format for sample in answered if sample.prompt_format is not None]
        if not formats:
            raise MeasurementError(
                f"the answers of {target.url} name no prompt format: only the llama.cpp adapter writes prompts itself"
            )
        if target.url in own:
            without_asking.update(formats)
    return without_asking, await _take_turns(plan, sides, key)


async def _take_turns(plan: SweepPlan, sides: Sequence[Side], key: str | None) -> str | None:
    """All formats once per turn; who goes first changes, so that no format always finds what another one left in the KV
    cache. A format that no answer of its first turn has is not asked for again."""
    began, turns = time.monotonic(), plan.turns()
    for turn, requests in enumerate(turns):
        first = turn % len(sides)
        for place, side in enumerate([*sides[first:], *sides[:first]]):
            if side.given_up:
                continue
            items = with_next_seeds(side.workload.items, turn)
            run = plan.run(replace(side.workload, items=items), requests)
            measured = await drive(run, side.target.url, key, side.tell)
            side.take(measured)
            if measured.broken_off is not None:
                return measured.broken_off
            _look_at_first_turn(side, turn, more=turn + 1 < len(turns))
            done = turn * len(sides) + place + 1
            left = time_left(done, len(turns) * len(sides), time.monotonic() - began)
            say_progress(f"turn {turn + 1} of {len(turns)}, {side.prompt_format}: done{about_left(left)}")
    return None


def _look_at_first_turn(side: Side, turn: int, *, more: bool) -> None:
    answered = [sample for sample in side.samples if sample.answered]
    if turn == 0 and more and answered and not any(one.prompt_format == side.prompt_format for one in answered):
        side.given_up = True
        say_progress(f"{side.prompt_format}: the gateway does not write it, so it is not asked for again")


def sweep_of(
    label: str,
    plan: SweepPlan,
    sides: Sequence[Side],
    without_asking: Mapping[str, int],
    facts: Mapping[str, str],
    broken_off: str | None,
) -> Sweep:
    """What was measured, and what follows from it."""
    results = []
    for side in sides:
        settings = settings_of(plan.run(side.workload, plan.requests), side.target.url)
        measured = Measured(tuple(side.samples), (), side.wall_ms, side.tally, broken_off)
        report = report_of(f"{label}:{side.prompt_format}", settings, measured, facts)
        results.append(FormatResult(side.prompt_format, report, side.own))
    return Sweep(
        label=label,
        target=sides[0].target.url,
        workload=plan.workload.name,
        workload_digest=plan.workload.digest,
        items=len(plan.workload.items),
        requests=plan.requests,
        clients=plan.clients,
        settable=False,
        results=tuple(results),
        recommendation=recommend(results, own_format(results, without_asking)),
        facts=facts,
        broken_off=broken_off,
    )
