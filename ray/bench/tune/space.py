"""What `autotune` tries: settings around those of a config, the nearest first, the config's own as the very first.

Pure. Every candidate is a whole config that the config's own rules accept. Nothing is tried twice: settings that cannot
differ under the load they are measured with (four slots for two clients) count as the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from ray.config import Config, LaunchProfile, LlamaCppAdapter, SchedulerConfig, config_document, config_from_mapping
from ray.errors import RayError

# Presets whose machines have little memory: smaller contexts, and batches in smaller steps.
SMALL_PRESETS = frozenset({"single-vps-sub1b-cax11", "single-vps-1b-cx23"})
MOST_CONCURRENCY = 4  # for a backend whose number of slots nobody knows
MOST_SLOTS = 8
MOST_THREADS = 32
SMALLEST_PHYSICAL_BATCH = 64
LARGEST_PHYSICAL_BATCH = 512

# How far a doubling lies, and what every setting that differs adds: one setting is changed before two are. A smaller
# context takes something away from long requests, so it comes late.
_DOUBLED = {"parallel": 1.0, "threads": 1.0, "batch": 1.25, "ubatch": 1.25, "context": 2.0}
_CHANGED = 1.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A config to be measured, and its name in the report."""

    label: str
    config: Config


@dataclass(frozen=True, slots=True)
class Load:
    """What the candidates are measured with. `answer_limits`: `maxTokens` of each request, None where it has none."""

    clients: int
    answer_limits: tuple[int | None, ...] = ()


def launch_profile_of(config: Config) -> LaunchProfile | None:
    adapter = config.model.adapter
    return adapter.launch_profile if isinstance(adapter, LlamaCppAdapter) else None


def accepted(config: Config) -> bool:
    """Whether the config would load."""
    try:
        config_from_mapping(config_document(config))
    except RayError:
        return False
    return True


def scheduler_candidates(config: Config, most: int, load: Load | None = None) -> list[Candidate]:
    """At most `most` configs that differ in the scheduler, by distance from the config's own, which is the first.
    Without a `load` only equal settings count as the same."""
    base = config.scheduler
    ordered = sorted(_schedulers(config), key=lambda one: (_scheduler_distance(one, base), scheduler_label(one)))
    found: list[Candidate] = []
    seen: set[object] = set()
    for scheduler in ordered:
        effect = scheduler if load is None else _effect(scheduler, config, load)
        candidate = replace(config, scheduler=scheduler)
        if effect in seen or not accepted(candidate):
            continue
        seen.add(effect)
        found.append(Candidate(scheduler_label(scheduler), candidate))
        if len(found) == most:
            break
    return found


def scheduler_label(one: SchedulerConfig) -> str:
    return (
        f"c{one.concurrency}-bw{one.batch_window_ms}-aff{one.affinity_lookahead}"
        f"-if{one.max_inflight_tokens}-short{one.short_job_max_tokens}"
    )


def _schedulers(config: Config) -> Iterator[SchedulerConfig]:
    base = config.scheduler
    most = base.concurrency if isinstance(config.model.adapter, LlamaCppAdapter) else MOST_CONCURRENCY
    inflight = base.max_inflight_tokens
    for concurrency, window, lookahead, tokens, short in product(
        _distinct(1, base.concurrency, base.concurrency - 1, min(base.concurrency + 1, max(1, most))),
        {0, base.batch_window_ms, 5, 10, 15},
        _distinct(8, base.affinity_lookahead, 16, 24),
        _distinct(max(512, inflight * 3 // 4), inflight, inflight * 5 // 4),
        _distinct(64, base.short_job_max_tokens, 96, 128),
    ):
        yield replace(
            base,
            concurrency=concurrency,
            batch_window_ms=window,
            affinity_lookahead=lookahead,
            max_inflight_tokens=tokens,
            short_job_max_tokens=short,
        )


def _scheduler_distance(one: SchedulerConfig, base: SchedulerConfig) -> float:
    return (
        1000 * abs(one.concurrency - base.concurrency)
        + 4 * abs(one.batch_window_ms - base.batch_window_ms)
        + 2 * abs(one.affinity_lookahead - base.affinity_lookahead)
        + abs(one.max_inflight_tokens - base.max_inflight_tokens) / 16
        + 2 * abs(one.short_job_max_tokens - base.short_job_max_tokens)
    )


def _effect(one: SchedulerConfig, config: Config, load: Load) -> tuple[object, ...]:
    """What of these settings the load can notice.

    N clients never have more than N requests in the gateway. Who goes first matters once two wait while the others run;
    the in-flight tokens matter once two run, and a known context is their limit anyway.
    """
    running = min(one.concurrency, load.clients)
    launch = launch_profile_of(config)
    tokens = one.max_inflight_tokens if launch is None else min(one.max_inflight_tokens, launch.ctx_size)
    order: tuple[object, ...] = ()
    if load.clients - running >= 2:
        limits = (config.model.max_output_tokens if limit is None else limit for limit in load.answer_limits)
        short = tuple(limit <= one.short_job_max_tokens for limit in limits)
        order = (min(one.affinity_lookahead, load.clients), short)
    return running, one.batch_window_ms, tokens if running > 1 else None, order


@dataclass(frozen=True, slots=True)
class _Shape:
    """The searched part of a launch profile."""

    context: int
    parallel: int
    threads: int
    batch: int
    ubatch: int

    @classmethod
    def of(cls, launch: LaunchProfile) -> _Shape:
        return cls(launch.ctx_size, launch.parallel, launch.threads, launch.batch_size, launch.ubatch_size)

    @property
    def label(self) -> str:
        return f"ctx{self.context}-p{self.parallel}-t{self.threads}-b{self.batch}-u{self.ubatch}"

    def distance(self, base: _Shape) -> float:
        """0 for the same; every setting that differs adds 1, and more the further it is, by doublings."""
        apart = 0.0
        for name, doubled in _DOUBLED.items():
            own, other = getattr(self, name), getattr(base, name)
            if own != other:
                apart += _CHANGED + doubled * abs(math.log2(own / other))
        return apart


def launch_candidates(config: Config, most: int, cpus: int, load: Load) -> list[Candidate]:
    """At most `most` configs that differ in how llama-server is started, by distance from the config's own, which is
    the first. What has to change with the launch profile changes with it. Empty without a launch profile."""
    launch = launch_profile_of(config)
    if launch is None:
        return []
    base = _Shape.of(launch)
    ordered = sorted(set(_shapes(launch, config, cpus, load)), key=lambda one: (one.distance(base), one.label))
    found: list[Candidate] = []
    for shape in ordered:
        candidate = _launched(config, shape)
        if candidate is not None and accepted(candidate):
            found.append(Candidate(shape.label, candidate))
        if len(found) == most:
            break
    return found


def launch_label(launch: LaunchProfile) -> str:
    return _Shape.of(launch).label


def _shapes(launch: LaunchProfile, config: Config, cpus: int, load: Load) -> Iterator[_Shape]:
    is_small = launch.preset in SMALL_PRESETS
    contexts = {1536, 2048, 2560} if is_small else {2048, 3072, 4096}
    contexts = {one for one in contexts if one <= config.model.context_window} | {launch.ctx_size}
    # Slots that no client fills cannot make anything faster.
    slots = {one for one in (1, 2, min(load.clients, MOST_SLOTS)) if one <= load.clients} | {launch.parallel}
    threads = {1, cpus - 1, math.ceil(cpus / 2), cpus}
    threads = {max(1, min(one, cpus, MOST_THREADS)) for one in threads} | {launch.threads}
    batches = {96, 128, 192, 256} if is_small else {128, 256, 512}
    for context, parallel, thread, batch in product(contexts, slots, threads, batches | {launch.batch_size}):
        half, whole = max(SMALLEST_PHYSICAL_BATCH, batch // 2), LARGEST_PHYSICAL_BATCH
        for ubatch in {min(batch, one) for one in (launch.ubatch_size, half, whole)}:
            yield _Shape(context, parallel, thread, batch, ubatch)


def _launched(config: Config, shape: _Shape) -> Config | None:
    """The config with this launch profile, and with what follows from it; None when no answer would fit a slot.

    As many requests run as there are slots, where that was so before. More tokens than all slots hold are cut down to
    the context. `preferredCtxSize` stays the context's size, where it was that.
    """
    launch, model, scheduler = launch_profile_of(config), config.model, config.scheduler
    adapter = model.adapter
    if launch is None or not isinstance(adapter, LlamaCppAdapter):
        return None
    of_one_slot = shape.context if launch.enable_unified_kv else shape.context // shape.parallel
    if of_one_slot <= model.max_output_tokens:
        return None
    profile = replace(
        launch,
        ctx_size=shape.context,
        parallel=shape.parallel,
        threads=shape.threads,
        threads_batch=shape.threads if launch.threads_batch == launch.threads else launch.threads_batch,
        batch_size=shape.batch,
        ubatch_size=shape.ubatch,
    )
    if shape.parallel != launch.parallel:
        follows = scheduler.concurrency == launch.parallel
        concurrency = shape.parallel if follows else min(scheduler.concurrency, shape.parallel)
        scheduler = replace(scheduler, concurrency=concurrency)
    if scheduler.max_inflight_tokens > shape.context * shape.parallel:
        scheduler = replace(scheduler, max_inflight_tokens=shape.context)
    operational = model.operational
    if operational is not None and operational.preferred_ctx_size == launch.ctx_size:
        operational = replace(operational, preferred_ctx_size=shape.context)
    model = replace(model, operational=operational, adapter=replace(adapter, launch_profile=profile))
    return replace(config, model=model, scheduler=scheduler)


def _distinct(*values: int) -> Iterable[int]:
    return {max(1, value) for value in values}
