"""`python -m ray.bench autotune`: search better settings for a config on this machine, prove them, say what to change.

This file reads the options, opens the place where it all happens, and writes the results. Behind it stand, in the order
of a search:

- `stages`: the search from its beginning to its recommendation;
- `space`: which candidates there are; `memory`: which of them do not fit;
- `search`: one sweep over candidates; `rungs`: the rules by which they go on or leave;
- `trial`: one candidate as real processes;
- `duel`: the winner against the starting settings; `verdict`: the rules by which it is taken;
- `report`: what is told; `patch`: the patch, and the copy of the config.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ray.bench.processes.process import MeasurementError, working_directory
from ray.bench.report.report import machine_facts
from ray.bench.report.shown import Shown, say_progress, watch
from ray.bench.run.gateway_under_test import api_key_of, read_config
from ray.bench.run.workload_file import Workload, load_workload
from ray.bench.tune.duel import Proof
from ray.bench.tune.memory import divided, machine_memory_mib, needed_mib
from ray.bench.tune.patch import write_patched
from ray.bench.tune.report import Findings, findings_document, findings_text, ranking_text
from ray.bench.tune.search import Ask, Outlook
from ray.bench.tune.space import Load, launch_profile_of
from ray.bench.tune.stages import Asks, Memory, Task, tune
from ray.bench.tune.trial import Ground, backend_answers, require_launchable
from ray.config import Config
from ray.host import available_cpus

FEWEST_REQUESTS = 12
PASSES = 3
Progress = Callable[[str], None]


def show_autotune(options: argparse.Namespace) -> Shown:
    """Search. Raises `MeasurementError` when the starting settings cannot be measured, `KeyboardInterrupt` when it is
    stopped: then what was learned so far is told as progress."""
    finish = watch()
    config = read_config(options.config)
    is_full = is_full_scope(options.scope, config)
    workload = load_workload(options.workload)
    task = task_of(options, config, is_full, workload)
    key = api_key_of(config, os.environ)
    settings = settings_of(options, task, workload)
    found = Findings(config, "full" if is_full else "gateway", settings)
    _require_backend(config, is_full, found)
    facts = machine_facts()
    with working_directory() as directory:
        ground = _ground(options, config, workload, key, directory)
        outlook = Outlook(time.monotonic, options.time_limit_s)
        asks = asks_of(ground, is_full)
        proof = Proof(
            workload=workload,
            clients=options.clients,
            requests=task.requests,
            pairs=options.turns,
            no_cache=ground.no_cache,
            ask=asks.final,
            outlook=outlook,
            facts=facts,
            progress=say_progress,
        )
        try:
            tune(task, asks, _memory(config) if is_full else None, proof, found, say_progress)
        except (KeyboardInterrupt, MeasurementError):
            for line in ranking_text(found).splitlines():
                say_progress(line)
            raise
    facts = {**facts, **finish()}
    document = findings_document(found, options.label or workload.name, facts)
    written = _written(options, found)
    return Shown(findings_text(found, facts), document, missed=False, broken=found.failed or not written)


def is_full_scope(scope: str, config: Config) -> bool:
    """Full, unless it is not wanted or the config does not say how its llama-server is started."""
    return scope != "gateway" and launch_profile_of(config) is not None


def task_of(options: argparse.Namespace, config: Config, is_full: bool, workload: Workload) -> Task:
    limits = (item.fields.get("maxTokens") for item in workload.items)
    return Task(
        base=config,
        full=is_full,
        load=Load(options.clients, tuple(limit if isinstance(limit, int) else None for limit in limits)),
        items=len(workload.items),
        requests=options.requests or max(PASSES * len(workload.items), FEWEST_REQUESTS),
        scheduler_limit=options.max_candidates,
        launch_limit=options.launch_candidates,
        cpus=available_cpus(),
    )


def settings_of(options: argparse.Namespace, task: Task, workload: Workload) -> dict[str, object]:
    """What was asked for, as it stands in the report."""
    settings = {
        "configPath": os.path.abspath(options.config),
        "scope": "full" if task.full else "gateway",
        "workloadPath": options.workload,
        "workload": workload.name,
        "workloadDigest": workload.digest,
        "concurrency": options.clients,
        "requests": task.requests,
        "schedulerCandidateLimit": task.scheduler_limit,
        "launchCandidateLimit": task.launch_limit if task.full else None,
        "turns": options.turns,
        "noCache": not options.use_cache,
        "timeLimitS": options.time_limit_s,
    }
    return {name: value for name, value in settings.items() if value is not None}


def asks_of(ground: Ground, is_full: bool) -> Asks:
    """In full scope everything is started; otherwise only gateways are."""

    @contextmanager
    def before_one_backend(config: Config) -> Iterator[Ask]:
        with ground.backend(config) as backend:
            yield backend.ask

    @contextmanager
    def before_the_running_one(config: Config) -> Iterator[Ask]:
        yield ground.ask_before_running

    if is_full:
        return Asks(ground.ask_all, before_one_backend, ground.ask_all)
    return Asks(ground.ask_before_running, before_the_running_one, ground.ask_before_running)


def _ground(
    options: argparse.Namespace, config: Config, workload: Workload, key: str | None, directory: Path
) -> Ground:
    environ: Mapping[str, str] = os.environ
    if key is not None and config.auth.enabled:
        # The key that is asked with must be one that the gateway knows.
        environ = {**environ, config.auth.api_key_env: key}
    return Ground(
        workload=workload,
        clients=options.clients,
        timeout_ms=options.timeout_ms,
        no_cache=not options.use_cache,
        key=key,
        python=options.python,
        environ=environ,
        backend_environ=dict(options.backend_env),
        directory=directory,
    )


def _require_backend(config: Config, is_full: bool, found: Findings) -> None:
    """What can be known to be wrong before the first process is started."""
    if is_full:
        require_launchable(config)
        if backend_answers(config):
            told = "another server answers at the config's baseUrl: what it uses of the machine, the candidates lack"
            found.notes.append(told)
            say_progress(told)
    elif not backend_answers(config):
        raise MeasurementError(
            "nobody answers at the config's model.adapter.baseUrl: start the backend, because without a launchProfile "
            "to search, or with --scope gateway, only gateways are started"
        )


def _memory(config: Config) -> Memory:
    return Memory(divided(machine_memory_mib(), config), needed_mib)


def _written(options: argparse.Namespace, found: Findings) -> bool:
    """Write the copy of the config that was asked for. False when that failed, which must not cost the report of a long
    search."""
    if options.write is None:
        return True
    if found.patch is None:
        say_progress(f"{options.write} is not written: nothing can be recommended")
        return True
    expected = found.base if found.won is None else found.won.rival.config
    try:
        write_patched(options.config, options.write, found.patch, expected)
    except MeasurementError as error:
        say_progress(str(error))
        return False
    say_progress(f"wrote {options.write}{'' if found.patch else ', which equals the starting settings'}")
    return True
