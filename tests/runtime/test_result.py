"""Usage, limits and bounds of what a provider reports."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ray.errors import RayError
from ray.runtime.result import (
    bounded_diagnostics,
    estimated_prompt_tokens,
    output_limit,
    result_document,
    usage_of,
)
from ray.types import (
    AdaptiveTuningDiagnostics,
    Counts,
    Diagnostics,
    Finish,
    InferenceRequest,
    InferenceResult,
    LearnedOutputCapDiagnostics,
    Message,
    PromptCompilerDiagnostics,
    ProviderDiagnostics,
    TaskRoutingDiagnostics,
    Timings,
    Usage,
    as_json,
)

REQUEST = InferenceRequest((Message("system", "abc"), Message("user", "de")), max_tokens=10)


@pytest.mark.parametrize(
    ("reported", "prepared", "expected"),
    [
        (None, None, None),
        (None, 9, Counts(9, 0, 9)),
        (Counts(0, 0, 30), None, Counts(0, 0, 30)),
        (Counts(0, 3, 3), 9, Counts(9, 3, 12)),
        (Counts(8, 3, 11), 9, Counts(8, 3, 11)),
        (Counts(8, 3, 15), 9, Counts(8, 3, 15)),
        (Counts(0, 0, 0), None, Counts(0, 0, 0)),
    ],
)
def test_tokens_are_as_reported_with_the_prepared_count_for_a_missing_prompt(
    reported: Counts | None, prepared: int | None, expected: Counts | None
) -> None:
    usage = usage_of(REQUEST, "four", Finish("stop", reported), prepared)
    assert usage.tokens == expected
    assert usage.chars == Counts(5, 4, 9)


@pytest.mark.parametrize("reported", [Counts(-1, 3, 2), Counts(1, 3, 10**12)])
def test_impossible_token_counts_are_refused(reported: Counts) -> None:
    with pytest.raises(RayError) as caught:
        usage_of(REQUEST, "", Finish("stop", reported), None)
    assert (caught.value.code, caught.value.details) == ("provider_result_invalid", {"field": "usage.tokens"})


@pytest.mark.parametrize(("max_tokens", "limit"), [(1, 8_192), (128, 8_192), (129, 8_256), (4_096, 262_144)])
def test_the_output_limit_grows_with_the_allowance(max_tokens: int, limit: int) -> None:
    assert output_limit(max_tokens) == limit
    assert output_limit(100_000) == 262_144


@pytest.mark.parametrize(("chars", "tokens"), [(1, 1), (4, 1), (5, 2), (400, 100)])
def test_uncounted_prompts_are_estimated_at_four_characters_a_token(chars: int, tokens: int) -> None:
    assert estimated_prompt_tokens(InferenceRequest((Message("user", "x" * chars),), max_tokens=1)) == tokens


def test_sane_diagnostics_pass_through_as_the_same_object() -> None:
    diagnostics = ProviderDiagnostics(model_ref="m", slot_id=0, truncated=False, timings=Timings(ttft_ms=1.5))
    assert bounded_diagnostics(diagnostics) is diagnostics
    assert bounded_diagnostics(None) is None


def test_long_texts_are_cut_and_impossible_numbers_left_out() -> None:
    bounded = bounded_diagnostics(
        ProviderDiagnostics(
            prompt_format_reason="x" * 600,
            tokens_cached=-1,
            total_slots=2,
            timings=Timings(ttft_ms=math.nan, total_ms=math.inf, prompt_ms=-1, completion_ms=2.0),
        )
    )
    assert bounded is not None
    assert bounded.prompt_format_reason is not None
    assert len(bounded.prompt_format_reason) == 512
    assert (bounded.tokens_cached, bounded.total_slots) == (None, 2)
    assert bounded.timings == Timings(completion_ms=2.0)


def test_the_document_has_every_block_of_the_diagnostics() -> None:
    blocks = Diagnostics(
        degradation={"applied": False, "reasons": []},
        prompt_compiler=PromptCompilerDiagnostics("f" * 16, "short", 5, 4, 1),
        learned_output_cap=LearnedOutputCapDiagnostics(False, "f" * 16, "short", 9, 9, 0, 0.9),
        adaptive_tuning=AdaptiveTuningDiagnostics(False, 9, 9, 0),
        task_routing=TaskRoutingDiagnostics("unknown", "general", True),
        provider=ProviderDiagnostics(slot_id=1),
    )
    result = InferenceResult(
        "req_1",
        "m",
        "text",
        Usage(Counts.of(1, 4)),
        False,
        False,
        0,
        1,
        False,
        "stop",
        blocks,
        "2026-01-01T00:00:00.000Z",
    )
    assert result_document(result)["diagnostics"] == as_json(blocks)
    assert result_document(replace(result, diagnostics=Diagnostics()))["diagnostics"] == {}
