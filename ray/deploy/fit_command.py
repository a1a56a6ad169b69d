"""`fit`: what a model needs in memory, part by part, against the unit's limit and the machine; and the largest context
that fits. Reads the model file's header, nothing else: no model is loaded and no server started."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from ray.deploy.failures import DeployError
from ray.deploy.machine import read_machine
from ray.deploy.output import mib, print_json, table
from ray.deploy.paths import absolute, path_option
from ray.deploy.settings import DeploySettings, add_json_argument, add_settings_arguments, load_settings
from ray.deploy.sizing import MemoryLimits, Sizing, Verdict, launch_profile, size, verdict
from ray.providers import Gguf, GgufError, ModelMemory, ServerShape, largest_context, memory_of, read_gguf, server_shape
from ray.types import ceil_mib

PART_NAMES = {
    "weights": "weights",
    "kvCache": "KV cache",
    "recurrentState": "recurrent state",
    "computeBuffer": "compute buffer",
    "outputs": "logits and sampling",
    "contextCheckpoints": "context checkpoints",
    "promptCache": "prompt cache",
    "runtime": "server and vocabulary",
}
VERDICT_TEXTS = {
    "ok": "fits",
    "tight": "tight: above MemoryHigh, where the kernel slows the backend down and takes memory back",
    "exceeded": "does not fit: above MemoryMax, where the kernel ends the backend",
    "unlimited": "cannot be said: the prompt cache has no limit",
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A model, a server and the limits they must keep to. Largest contexts in tokens, None when none fits:
    `comfortable` below MemoryHigh, `possible` below MemoryMax."""

    settings: DeploySettings
    gguf: Gguf
    memory: ModelMemory
    sizing: Sizing
    limits: MemoryLimits
    largest_comfortable: int | None
    largest_possible: int | None

    @property
    def verdict(self) -> Verdict | None:
        """None when the prompt cache has no limit."""
        total_mib = self.memory.total_mib
        return None if total_mib is None else verdict(total_mib, self.limits)

    @property
    def fits(self) -> bool:
        return self.verdict in ("ok", "tight")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings_arguments(parser)
    parser.add_argument("--model", metavar="PATH", help="another GGUF file (default: launchProfile.modelPath)")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """0: it fits, with or without room to spare. 1: it does not, or nothing can be said."""
    settings = load_settings(options, environ)
    fit = weigh(settings, None if options.model is None else path_option(options.model, "--model", settings.cwd))
    if options.json:
        print_json(_document(fit), out)
    else:
        out.write(_text(fit))
    return 0 if fit.fits else 1


def weigh(settings: DeploySettings, model: str | None) -> Fit:
    """Weigh the config's backend with the model file `model` (absolute), or the config's own. Raises `DeployError`."""
    config = settings.loaded.config
    profile = launch_profile(config)
    if profile is None:
        raise DeployError(
            f"{settings.config_path} has no model.adapter.launchProfile: Ray launches no backend there, "
            "so there is nothing to weigh",
            code="launch_profile_missing",
        )
    sizing = size(config, read_machine().memory_mib, settings.memory_mib)
    assert sizing.backend is not None  # there is a launch profile
    server = server_shape(profile, config.prefix_store)
    try:
        gguf = read_gguf(model or absolute(profile.model_path, settings.cwd))
        return Fit(
            settings=settings,
            gguf=gguf,
            memory=memory_of(gguf, server),
            sizing=sizing,
            limits=sizing.backend,
            largest_comfortable=largest_context(gguf, server, sizing.backend.high_mib),
            largest_possible=largest_context(gguf, server, sizing.backend.max_mib),
        )
    except GgufError as error:
        raise DeployError(str(error), code="model_file_unusable") from error


def _document(fit: Fit) -> dict[str, object]:
    memory, model, server = fit.memory, fit.memory.model, fit.memory.server
    windows = [layer.window for layer in model.layers if layer.window]
    return {
        "ok": fit.fits,
        "configPath": fit.settings.config_path,
        "model": {
            "path": fit.gguf.path,
            "fileBytes": fit.gguf.file_bytes,
            "architecture": model.architecture,
            "layers": len(model.layers),
            "slidingWindowLayers": len(windows),
            "slidingWindow": model.window,
            "trainedContext": model.trained_context,
            "vocabulary": model.vocabulary,
            "tensorTypeBytes": fit.gguf.type_bytes(),
        },
        "server": {
            "ctxSize": server.context,
            "parallel": server.slots,
            "unifiedKv": server.unified,
            "contextPerSlot": server.cells,
            "checkpointsPerSlot": server.checkpoints,
        },
        "bytes": {name: size for name, size in memory.parts() if size != 0},
        "repackedBytes": memory.repacked,
        "totalMiB": memory.total_mib,
        "limits": {
            "memoryHighMiB": fit.limits.high_mib,
            "memoryMaxMiB": fit.limits.max_mib,
            "memoryBudgetMiB": fit.sizing.budget_mib,
            "memoryBudgetSource": fit.sizing.budget_source,
            "hostMemoryMiB": fit.sizing.host_mib,
        },
        "verdict": fit.verdict or "unlimited",
        "largestCtxSize": fit.largest_comfortable,
        "largestPossibleCtxSize": fit.largest_possible,
        "notes": _notes(fit),
    }


def _text(fit: Fit) -> str:
    memory = fit.memory
    rows = [
        (PART_NAMES[name], "no limit" if part is None else mib(ceil_mib(part)), _remark(fit, name))
        for name, part in memory.parts()
        if part != 0
    ]
    total = memory.total_mib
    rows += [
        ("total", "no limit" if total is None else mib(total), VERDICT_TEXTS[fit.verdict or "unlimited"]),
        ("MemoryHigh", mib(fit.limits.high_mib), "of the backend's unit"),
        ("MemoryMax", mib(fit.limits.max_mib), _budget(fit.sizing)),
        ("this machine", mib(fit.sizing.host_mib), ""),
        ("largest ctxSize", _context(fit.largest_comfortable), _advice(fit)),
    ]
    notes = "".join(f"note: {note}\n" for note in _notes(fit))
    return f"{_headline(fit)}\n\n{table(rows)}{notes}"


def _headline(fit: Fit) -> str:
    model = fit.memory.model
    windowed = sum(1 for layer in model.layers if layer.window)
    window = f", {windowed} of them with a window of {model.window:,} tokens" if windowed else ""
    types = ", ".join(list(fit.gguf.type_bytes())[:3])
    return (
        f"{fit.gguf.path}\n{model.architecture}, {len(model.layers)} layers{window}; "
        f"trained for {model.trained_context:,} tokens; mostly {types}"
    )


def _remark(fit: Fit, name: str) -> str:
    server, memory = fit.memory.server, fit.memory
    if name == "kvCache":
        pool = f"one pool for {server.slots} slots" if server.unified else f"{server.slots} slots"
        return f"{server.cells:,} tokens, {pool}"
    if name == "computeBuffer":
        return f"{server.tokens_at_once:,} tokens at once"
    if name == "contextCheckpoints":
        return f"at most {server.checkpoints} of {mib(ceil_mib(memory.checkpoint))} for each of {server.slots} slots"
    if name == "promptCache":
        return "--cache-ram"
    return ""


def _budget(sizing: Sizing) -> str:
    return f"of a machine with {mib(sizing.budget_mib or 0)} ({sizing.budget_source})"


def _context(tokens: int | None) -> str:
    return "none" if tokens is None else f"{tokens:,}"


def _advice(fit: Fit) -> str:
    """What the context could be; the configured one is named so that both stand side by side."""
    server = fit.memory.server
    if fit.largest_comfortable is None:
        return f"nothing stays below MemoryHigh; below MemoryMax: {_context(fit.largest_possible)}"
    return f"with everything else as it is; configured: {server.context:,}"


def _notes(fit: Fit) -> list[str]:
    memory, server, model = fit.memory, fit.memory.server, fit.memory.model
    notes = list(memory.notes)
    if memory.prompt_cache is None:
        notes.append("cacheRamMiB is -1, so the prompt cache grows until the kernel ends the backend; give it a limit")
    if memory.checkpoints > memory.kv_cache:
        notes.append(
            "long conversations fill the context checkpoints: "
            'keep fewer of them with "--ctx-checkpoints", "4" in launchProfile.extraArgs'
        )
    if model.trained_context and server.cells > model.trained_context and not _is_shared(server):
        notes.append(f"the model was trained for {model.trained_context:,} tokens; more in one slot is wasted")
    if memory.repacked:
        notes.append(
            f"llama-server may show up to {mib(ceil_mib(memory.repacked))} more: it copies weights into the "
            "processor's order, and the kernel drops the originals when memory is short"
        )
    return notes


def _is_shared(server: ServerShape) -> bool:
    return server.unified and server.slots > 1
