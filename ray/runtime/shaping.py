"""From what was asked to what is sent: the prompt tidied and bounded, the allowance cut to what there is room for.

In this order: prompt length, compiler, what the family's earlier answers say, queue and machine, recent pace. Each step
sees the allowance the one before it left, and it only ever goes down. Every decision is a pure function in another
file; here they are put in line, between the two memories and the machine's readings they need.
Source: runtime specification, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ray.config import Config
from ray.prompts import catalog_of, compile_prompt, lane_of
from ray.runtime.adaptive import AdaptiveWindow, FamilyHistory, learned_cap, tune
from ray.runtime.degradation import degradation_document, degrade_prompt_length, degrade_tokens
from ray.runtime.generation import Answer
from ray.runtime.pressure import HostPressure, Pressure, assess
from ray.runtime.result import CHARS_PER_TOKEN
from ray.runtime.routing import MODEL_ROLE_TAG, task_routing
from ray.types import (
    AdaptiveTuningDiagnostics,
    Diagnostics,
    InferenceRequest,
    Lane,
    LearnedOutputCapDiagnostics,
    PromptCompilerDiagnostics,
    TaskRoutingDiagnostics,
)


class ShapedRequest(NamedTuple):
    """A request as it goes on, and everything that was decided about it.

    `family`: key of its prompt family; `lane`: after all cuts; `degradation`: JSON already.
    """

    request: InferenceRequest
    family: str
    lane: Lane
    degraded: bool
    degradation: Mapping[str, object]
    compiler: PromptCompilerDiagnostics
    learned_cap: LearnedOutputCapDiagnostics
    tuning: AdaptiveTuningDiagnostics
    routing: TaskRoutingDiagnostics

    def diagnostics(self) -> Diagnostics:
        """Its part of an answer's diagnostics; the provider's part belongs to the answer."""
        return Diagnostics(self.degradation, self.compiler, self.learned_cap, self.tuning, self.routing)


class Shaper:
    """Shapes the requests of one runtime and learns from its answers. `host`: the machine's readings."""

    def __init__(self, config: Config, host: HostPressure) -> None:
        self._config = config
        self._templates = catalog_of(config)
        self._host = host
        self._pressure = assess(host.read(), config.graceful_degradation)
        self._window = AdaptiveWindow(config.adaptive_tuning.sample_size)
        self._history = FamilyHistory(config.adaptive_tuning.family_history_size)

    def pressure(self) -> Pressure:
        """What presses now; judged once per reading, which is at most four times a second."""
        reading = self._host.read()
        if reading is not self._pressure.reading:
            self._pressure = assess(reading, self._config.graceful_degradation)
        return self._pressure

    def shape(self, request: InferenceRequest, queue_depth: int) -> ShapedRequest:
        """`queue_depth`: how many requests wait, this one not included."""
        config, limits, tuning = self._config, self._config.graceful_degradation, self._config.adaptive_tuning
        template = self._templates.get(request.template_id) if request.template_id is not None else None
        request, prompt_was_cut = degrade_prompt_length(request, limits, template)
        compiled = compile_prompt(request, config, template)
        request, family = compiled.request, compiled.family

        learned = learned_cap(request.max_tokens, family, compiled.lane, self._history.lengths(family), tuning)
        pressure = self.pressure()
        degradation = degrade_tokens(
            learned.applied_max_tokens, queue_depth, pressure, limits, prompt_was_cut=prompt_was_cut
        )
        tuned = tune(degradation.applied_max_tokens, self._window.pace(), tuning)
        if tuned.applied_max_tokens != request.max_tokens:
            request = replace(request, max_tokens=tuned.applied_max_tokens)
        return ShapedRequest(
            request,
            family,
            lane_of(request, config.scheduler.short_job_max_tokens, template.lane if template else None),
            degradation.applied,
            degradation_document(degradation, queue_depth, pressure, limits),
            compiled.diagnostics,
            learned,
            tuned,
            task_routing(request, config.tags.get(MODEL_ROLE_TAG)),
        )

    def learn(self, family: str | None, answer: Answer) -> None:
        """Remember how one answer went that was really generated; once per generation, however many read it.

        `family`: key of its prompt family, or None when it has none.
        """
        tokens = answer.usage.tokens.completion if answer.usage.tokens is not None else 0
        timings = answer.diagnostics.timings if answer.diagnostics is not None else None
        speed = timings.completion_tokens_per_second if timings is not None else None
        self._window.record(answer.queue_time_ms, speed, tokens or None)
        # Where pressure broke an answer off, its length tells nothing of what the family needs.
        if family is not None and not (answer.degraded and answer.finish_reason == "length"):
            self._history.record(family, tokens or max(1, math.ceil(answer.usage.chars.completion / CHARS_PER_TOKEN)))
