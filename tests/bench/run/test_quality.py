"""Judging an answer: which rules an item has, what each of them finds, what it costs."""

from __future__ import annotations

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run.quality import Expectation, judge, read_expectation

LONG = "Please summarise what the customer wrote about the invoice of last Monday."


def expectation(benchmark: object = None, **fields: object) -> Expectation:
    return read_expectation(benchmark, fields, "entry 1.benchmark")


@pytest.mark.parametrize(
    ("output", "expected", "failures", "score"),
    [
        ('{"a": 1}', Expectation(requires_valid_json=True, counts_as_json=True), (), 100),
        ('{"a": NaN}', Expectation(requires_valid_json=True, counts_as_json=True), ("invalid_json",), 55),
        ("  12345  ", Expectation(min_output_chars=6), ("output_too_short",), 85),
        ("  12345  ", Expectation(max_output_chars=5), (), 100),
        ("123456", Expectation(max_output_chars=5), ("output_too_long",), 85),
        ("Great\n NEWS today", Expectation(must_contain=("great news", "price")), ("missing:price",), 82),
        ("Just  following up", Expectation(must_not_contain=("just following up",)), None, 80),
        ("a STOP b", Expectation(stop_must_not_appear=True, stops=("STOP", "stop")), ("stop_leak:STOP",), 70),
        (f"> {LONG.upper()}", Expectation(no_prompt_echo=True, prompts=(LONG.lower(),)), ("prompt_echo",), 65),
        ("Buy now.", Expectation(requires_call_to_action=True), ("missing_cta",), 80),
        ("Would you have a minute?", Expectation(requires_call_to_action=True), (), 100),
        ("Hi Ann, a word.", Expectation(no_subject_greeting_signoff=True), ("email_wrapper",), 75),
        ("A word. Best\nregards", Expectation(no_subject_greeting_signoff=True), ("email_wrapper",), 75),
    ],
)
def test_each_rule_finds_what_it_is_for(
    output: str, expected: Expectation, failures: tuple[str, ...] | None, score: int
) -> None:
    verdict = judge(output, expected)
    if failures is not None:
        assert verdict.failures == failures
    assert verdict.score == score
    assert verdict.passed == (score == 100)


def test_a_score_never_falls_below_zero() -> None:
    phrases = tuple(f"word {number}" for number in range(9))
    assert judge("nothing of it", Expectation(must_contain=phrases)).score == 0


def test_an_item_that_asks_for_json_has_to_get_it_and_counts_even_when_the_check_is_off() -> None:
    asked = expectation(responseFormat={"type": "json_object"})
    off = expectation({"requiresValidJson": False}, responseFormat={"type": "json_object"})
    assert asked.requires_valid_json
    assert not off.requires_valid_json
    assert judge("no json", off).valid_json is False
    assert judge("no json", off).passed
    assert judge("no json", expectation()).valid_json is None


def test_stops_drafts_and_sections_bring_their_own_rules() -> None:
    assert expectation(stop=["END", ""]).stops == ("END",)
    assert expectation(stop=["END"]).stop_must_not_appear
    assert not expectation(stop=[]).stop_must_not_appear
    draft = expectation(templateId="email.follow_up.v1")
    family = expectation(metadata={"promptFamily": "eval.email.cold_outreach"})
    section = expectation(metadata={"promptFamily": "eval.email.section_generation"})
    assert draft.requires_call_to_action
    assert draft.no_subject_greeting_signoff
    assert family.requires_call_to_action
    assert (section.requires_call_to_action, section.no_subject_greeting_signoff) == (False, True)
    assert not expectation({"requiresCallToAction": False}, templateId="email.follow_up.v1").requires_call_to_action


def test_short_texts_cannot_be_echoed_and_long_ones_only_by_their_beginning() -> None:
    expected = expectation({"noPromptEcho": True}, input="Say hello.", templateVariables={"topic": LONG * 2, "n": 3})
    assert judge("Say hello.", expected).passed
    assert judge((LONG * 2)[:96], expected).echoed
    assert judge((LONG * 2)[:90], expected).passed


@pytest.mark.parametrize(
    ("benchmark", "says"),
    [
        ([], "entry 1.benchmark must be an object"),
        ({"mustContain": [42]}, r"mustContain\[0\] must be a string"),
        ({"mustContain": "text"}, "mustContain must be an array"),
        ({"mustNotContain": ["x"] * 33}, "33 entries; at most 32"),
        ({"minOutputChars": 9, "maxOutputChars": 8}, "minOutputChars is larger than maxOutputChars"),
        ({"minOutputChars": True}, "minOutputChars must be a whole number"),
        ({"maxOutputChars": 65_537}, "from 0 to 65536"),
        ({"noPromptEcho": "yes"}, "noPromptEcho must be true or false"),
    ],
)
def test_a_benchmark_object_that_cannot_be_meant_is_named(benchmark: object, says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        expectation(benchmark)


def test_unknown_keys_of_a_benchmark_object_are_passed_over() -> None:
    assert expectation({"later": 1}) == expectation()
