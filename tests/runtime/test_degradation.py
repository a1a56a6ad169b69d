"""What is cut under pressure, and what never is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.prompts import Template, filled
from ray.runtime.degradation import (
    Degradation,
    Reason,
    degradation_document,
    degrade_prompt_length,
    degrade_tokens,
    longest_allowed,
    shorter_messages,
)
from ray.runtime.pressure import HostReading, Pressure
from ray.types import InferenceRequest, Message, Role
from tests.runtime.support import TINY

LIMITS = TINY.graceful_degradation  # threshold 8, 96 tokens, 4000 characters
OFF = replace(LIMITS, enabled=False)
FIGURES = {"processRssMiB": 20.5, "memoryRssThresholdMiB": 256, "processRssPressureRatio": 0.0801}


def pressure(*, memory: bool = False, cpu: bool = False) -> Pressure:
    return Pressure(HostReading(), ("cgroup",) if memory else (), cpu, FIGURES, {"cgroupCpuThrottledRatio": 0.5})


# The allowance


@pytest.mark.parametrize(
    ("max_tokens", "depth", "memory", "cpu", "reasons", "applied"),
    [
        (192, 0, False, False, (), 192),
        (192, 7, False, False, (), 192),
        (192, 8, False, False, ("queue_depth",), 96),
        (192, 0, True, False, ("memory_pressure",), 96),
        (192, 0, False, True, ("cpu_pressure",), 96),
        (192, 0, True, True, ("memory_pressure",), 96),
        (192, 8, True, True, ("queue_depth",), 96),
        (97, 8, False, False, ("queue_depth",), 96),
        (96, 8, True, True, (), 96),
        (50, 0, True, False, (), 50),
    ],
)
def test_the_first_pressing_reason_cuts_the_allowance(
    max_tokens: int, depth: int, memory: bool, cpu: bool, reasons: tuple[Reason, ...], applied: int
) -> None:
    degradation = degrade_tokens(max_tokens, depth, pressure(memory=memory, cpu=cpu), LIMITS, prompt_was_cut=False)
    assert degradation == Degradation(reasons, max_tokens, applied)
    assert degradation.applied is bool(reasons)


def test_given_degradation_off_when_everything_presses_then_nothing_is_cut() -> None:
    everything = pressure(memory=True, cpu=True)
    assert degrade_tokens(192, 99, everything, OFF, prompt_was_cut=False) == Degradation((), 192, 192)


def test_a_cut_prompt_is_a_reason_of_its_own_and_comes_first() -> None:
    assert degrade_tokens(192, 0, pressure(), LIMITS, prompt_was_cut=True) == Degradation(("prompt_length",), 192, 192)
    both = degrade_tokens(192, 0, pressure(cpu=True), LIMITS, prompt_was_cut=True)
    assert both.reasons == ("prompt_length", "cpu_pressure")


def test_the_document_shows_what_was_decided_and_on_which_figures() -> None:
    degradation = Degradation(("memory_pressure",), 192, 96)
    assert degradation_document(degradation, 3, pressure(memory=True), LIMITS) == {
        "applied": True,
        "reasons": ["memory_pressure"],
        "requestedMaxTokens": 192,
        "appliedMaxTokens": 96,
        "queueDepth": 3,
        "queueDepthThreshold": 8,
        "memoryPressureSources": ["cgroup"],
        **FIGURES,
        "cgroupCpuThrottledRatio": 0.5,
    }


def test_without_memory_pressure_no_sources_are_listed() -> None:
    assert "memoryPressureSources" not in degradation_document(Degradation((), 1, 1), 0, pressure(), LIMITS)


# The prompt


def conversation(*turns: tuple[Role, str]) -> tuple[Message, ...]:
    return tuple(Message(role, content) for role, content in turns)


def lengths(messages: tuple[Message, ...]) -> list[tuple[Role, int]]:
    return [(message.role, len(message.content)) for message in messages]


@pytest.mark.parametrize(
    ("system", "question", "room", "expected"),
    [
        (100, 5000, 4000, [("system", 100), ("user", 3900)]),
        (128, 11, 32, [("system", 21), ("user", 11)]),
        (2000, 5000, 4000, [("system", 2000), ("user", 2000)]),
        (3000, 5000, 4000, [("system", 2000), ("user", 2000)]),
        (3000, 1500, 4000, [("system", 2500), ("user", 1500)]),
        (None, 5000, 4000, [("user", 4000)]),
        (5, 5, 1, [("user", 1)]),
    ],
)
def test_the_question_loses_its_tail_and_the_system_text_only_what_is_over_half(
    system: int | None, question: int, room: int, expected: list[tuple[Role, int]]
) -> None:
    turns: list[tuple[Role, str]] = [] if system is None else [("system", "s" * system)]
    messages = conversation(*turns, ("user", "q" * question))
    assert lengths(shorter_messages(messages, room)) == expected


def test_what_is_kept_is_the_beginning_without_a_trailing_blank() -> None:
    assert shorter_messages(conversation(("user", "one two three")), 4) == conversation(("user", "one"))


def test_a_question_of_blanks_keeps_one_character() -> None:
    assert shorter_messages(conversation(("user", "    x")), 3) == conversation(("user", " "))


def test_older_turns_go_as_a_whole_and_in_pairs() -> None:
    messages = conversation(
        ("system", "s" * 10),
        ("user", "a" * 30),
        ("assistant", "b" * 20),
        ("user", "c" * 20),
        ("assistant", "d" * 5),
        ("user", "q" * 40),
    )
    # 90 are left, 50 for the older turns: the youngest three fit, and the first of them is an answer without question.
    assert lengths(shorter_messages(messages, 100)) == [("system", 10), ("user", 20), ("assistant", 5), ("user", 40)]
    assert lengths(shorter_messages(messages, 60)) == [("system", 10), ("user", 20), ("assistant", 5), ("user", 25)]
    assert lengths(shorter_messages(messages, 40)) == [("system", 10), ("user", 30)]


def test_the_last_user_message_is_the_question_also_when_an_answer_was_begun() -> None:
    messages = conversation(("user", "q" * 50), ("assistant", "{"))
    assert lengths(shorter_messages(messages, 21)) == [("user", 20), ("assistant", 1)]


roles: st.SearchStrategy[Role] = st.sampled_from(["user", "assistant"])


@given(
    system=st.none() | st.text(max_size=60),
    turns=st.lists(st.tuples(roles, st.text(max_size=40)), max_size=6),
    question=st.text(min_size=1, max_size=80),
    room=st.integers(min_value=1, max_value=120),
)
def test_a_cut_conversation_fits_and_every_text_in_it_was_there_before(
    system: str | None, turns: list[tuple[Role, str]], question: str, room: int
) -> None:
    head: list[tuple[Role, str]] = [] if system is None else [("system", system)]
    before = conversation(*head, *turns, ("user", question))
    after = shorter_messages(before, room)
    assert sum(len(message.content) for message in after) <= max(room, 1)
    assert after[-1].role == "user"
    assert question.startswith(after[-1].content)
    assert after[-1].content
    assert [message for message in after[:-1] if message.role != "system"] == list(
        before[len(before) - 1 - sum(message.role != "system" for message in after[:-1]) : -1]
    )
    if system is not None and len(system) <= room // 2 and system:
        assert after[0] == Message("system", system)


@pytest.mark.parametrize(("chars", "enabled", "cut"), [(4000, True, False), (4001, True, True), (9000, False, False)])
def test_only_a_prompt_over_the_limit_is_cut(chars: int, enabled: bool, cut: bool) -> None:
    request = InferenceRequest((Message("user", "x" * chars),), 100)
    shorter, was_cut = degrade_prompt_length(request, LIMITS if enabled else OFF)
    assert was_cut is cut
    assert shorter.prompt_chars == (4000 if cut else chars)
    assert (shorter is request) is not cut


# Prompts from templates


TEMPLATE = Template(
    id="reply.v1",
    version="v1",
    family="reply",
    lane="draft",
    variables=("goal", "reply"),
    input="Goal:{{goal}}Reply:{{ reply }}",  # 11 characters of its own
    system="Be polite",
    max_tokens=None,
    response_format=None,
    metadata={},
)


def templated(goal: int, reply: int) -> InferenceRequest:
    return filled(InferenceRequest((), 100), TEMPLATE, {"goal": "g" * goal, "reply": "r" * reply})


@pytest.mark.parametrize(
    ("goal", "reply", "room", "expected"),
    [
        (10, 200, 100, (10, 70)),
        (200, 10, 100, (70, 10)),
        (90, 80, 100, (40, 40)),
        (100, 30, 70, (25, 25)),
        (100, 100, 60, (20, 20)),
        (30, 30, 10, (2, 2)),
    ],
)
def test_the_longest_values_lose_their_tails_and_the_messages_follow(
    goal: int, reply: int, room: int, expected: tuple[int, int]
) -> None:
    limits = replace(LIMITS, max_prompt_chars=room)
    request, cut = degrade_prompt_length(templated(goal, reply), limits, TEMPLATE)
    assert cut
    assert (len(request.template_values["goal"]), len(request.template_values["reply"])) == expected
    assert request.messages == templated(*expected).messages


@pytest.mark.parametrize(
    ("excess", "expected"), [(0, 9), (1, 8), (4, 5), (5, 4), (6, 4), (9, 3), (15, 1), (18, 0), (99, 0)]
)
def test_the_longest_give_first(excess: int, expected: int) -> None:
    assert longest_allowed([4, 9, 5], excess) == expected


def test_the_templates_own_text_is_never_cut() -> None:
    limits = replace(LIMITS, max_prompt_chars=10)
    request = templated(2, 3)
    assert degrade_prompt_length(request, limits, TEMPLATE) == (request, False)
