"""Task profiles: the table, both modes, catalogs of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, cast

import pytest

from ray.client import DEFAULT_TASKS, TaskCatalog, TaskProfile, plan_task
from ray.config import config_from_mapping
from ray.errors import RayError
from ray.runtime import normalise_request

MAIL = {"input": "Please send me the pricing.", "system": "Answer with JSON."}


@pytest.mark.parametrize(
    ("name", "settings", "execution"),
    [
        ("classify", (64, 0, 0.9, {"type": "json_object"}), (12_000, "read-write", "short", "profile-input")),
        ("summarize", (160, 0.2, 0.9, None), (20_000, "read-write", "draft", "profile-input")),
        ("draft", (180, 0.35, 0.95, None), (25_000, "bypass", "draft", "none")),
        ("revise", (140, 0.25, 0.9, None), (18_000, "bypass", "draft", "none")),
        ("extract-json", (120, 0, 0.9, {"type": "json_object"}), (14_000, "read-write", "short", "profile-input")),
    ],
)
def test_given_a_profile_when_laid_over_a_request_then_it_fills_what_the_request_leaves_open(
    name: str, settings: tuple[object, ...], execution: tuple[object, ...]
) -> None:
    plan = plan_task(MAIL, name)
    request, how = plan.request, plan.execution

    assert (request["maxTokens"], request["temperature"], request["topP"], request.get("responseFormat")) == settings
    assert (how.timeout_ms, how.cache_policy, how.lane, how.dedupe_policy) == execution
    assert request["cache"] is (how.cache_policy == "read-write")
    assert request["metadata"] == {
        "promptFamily": f"task.{name}",
        "rayTaskProfile": name,
        "rayTaskKind": name,
        "rayTaskCachePolicy": how.cache_policy,
        "promptLane": how.lane,
    }
    assert ("dedupeKey" in request) == (how.dedupe_policy == "profile-input") == (how.dedupe_key is not None)
    assert (plan.profile.id, how.profile_id, how.task, how.mode) == (name, name, name, "defaults")


@pytest.mark.parametrize("name", [profile.id for profile in DEFAULT_TASKS.profiles])
def test_given_a_plan_when_the_gateway_reads_its_request_then_it_takes_it(name: str) -> None:
    request = normalise_request(plan_task(MAIL, name).request, config_from_mapping({"profile": "tiny"}))

    assert request.metadata["rayTaskProfile"] == name


OWN = {
    **MAIL,
    "maxTokens": 7,
    "temperature": 1.5,
    "topP": 0.5,
    "stop": ["END"],
    "responseFormat": {"type": "text"},
    "cache": False,
    "metadata": {"promptLane": "draft", "promptFamily": "mine", "team": "one"},
}


def test_given_explicit_values_when_in_the_mode_defaults_then_they_win() -> None:
    plan = plan_task(OWN, "classify")

    assert {name: plan.request[name] for name in OWN if name != "metadata"} == {
        name: value for name, value in OWN.items() if name != "metadata"
    }
    assert (plan.execution.lane, plan.execution.cache_policy) == ("draft", "bypass")
    assert plan.request["metadata"] == {
        "promptFamily": "mine",
        "team": "one",
        "promptLane": "draft",
        "rayTaskProfile": "classify",
        "rayTaskKind": "classify",
        "rayTaskCachePolicy": "bypass",
    }


def test_given_explicit_values_when_in_the_mode_profile_then_the_profiles_win_where_it_has_any() -> None:
    request = plan_task(OWN, "classify", mode="profile").request

    assert (request["maxTokens"], request["temperature"], request["topP"]) == (64, 0.0, 0.9)
    assert request["responseFormat"] == {"type": "json_object"}
    assert request["cache"] is True
    assert request["stop"] == ["END"]
    assert cast(dict[str, str], request["metadata"])["promptLane"] == "short"


def test_given_a_lane_in_the_options_when_planned_then_it_wins_and_unknown_lanes_count_for_nothing() -> None:
    asked = {**MAIL, "metadata": {"promptLane": "draft"}}

    assert plan_task(asked, "classify", metadata={"promptLane": "short"}).execution.lane == "short"
    assert plan_task(asked, "classify", metadata={"promptLane": "fast"}).execution.lane == "draft"
    assert plan_task({**MAIL, "metadata": {"promptLane": "x"}}, "classify").execution.lane == "short"


def key(request: Mapping[str, object], profile: str = "classify") -> str | None:
    return plan_task(request, profile).execution.dedupe_key


def test_given_the_same_work_when_planned_twice_then_it_has_one_key_whatever_its_length_and_sampling() -> None:
    same = key(dict(MAIL))

    assert same == key({**MAIL, "maxTokens": 5, "temperature": 1, "stop": ["x"]})
    assert same != key({**MAIL, "input": "Another mail."})
    assert same != key({**MAIL, "system": "Otherwise."})
    assert same != key({**MAIL, "responseFormat": {"type": "text"}})
    assert same != key({**MAIL, "templateVariables": {"a": 1}})
    assert same != key(dict(MAIL), "extract-json")
    assert key({**MAIL, "dedupeKey": "mine"}) == "mine"
    assert key({**MAIL, "dedupeKey": "mine"}, "draft") == "mine"
    assert key(dict(MAIL), "draft") is None
    text = {**MAIL, "responseFormat": {"type": "text"}}
    assert key(dict(MAIL), "summarize") == key(text, "summarize"), "no response format is text"


def test_given_a_request_when_planned_then_it_is_not_changed() -> None:
    asked = {**MAIL, "metadata": {"team": "one"}}
    plan_task(asked, "classify", metadata={"more": "x"})

    assert asked == {**MAIL, "metadata": {"team": "one"}}


def profile(**changes: object) -> TaskProfile:
    base = TaskProfile("mine", "own", 10, 0.5, 0.9, 1000, "bypass", "short", "none")
    return cast(Callable[..., TaskProfile], replace)(base, **changes)


def test_given_a_catalog_of_ones_own_when_nothing_is_chosen_then_its_default_or_draft_is() -> None:
    other = profile(id="draft")

    assert plan_task(MAIL, catalog=TaskCatalog((profile(), other), "mine")).profile.id == "mine"
    assert plan_task(MAIL, catalog=TaskCatalog((profile(), other))).profile.id == "draft"
    assert plan_task(MAIL).profile.id == "draft"
    with pytest.raises(RayError, match="no task profile 'draft'"):
        plan_task(MAIL, catalog=TaskCatalog((profile(),)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"task": ""}, "task"),
        ({"max_tokens": 0}, "maxTokens"),
        ({"max_tokens": 4097}, "maxTokens"),
        ({"max_tokens": True}, "maxTokens"),
        ({"timeout_ms": 0}, "timeoutMs"),
        ({"timeout_ms": 600_001}, "timeoutMs"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.05}, "topP"),
        ({"top_p": 1.1}, "topP"),
        ({"stop": ("x",) * 17}, "stop"),
        ({"stop": ("x" * 257,)}, "stop"),
        ({"stop": ("",)}, "stop"),
        ({"lane": "fast"}, "lane"),
        ({"cache_policy": "write"}, "cachePolicy"),
        ({"dedupe_policy": "all"}, "dedupePolicy"),
        ({"response_format": "xml"}, "responseFormat"),
        ({"metadata": {str(n): "" for n in range(33)}}, "metadata of profile 'mine'"),
        ({"metadata": {"x" * 129: ""}}, "metadata of profile 'mine'"),
        ({"metadata": {"x": "y" * 1025}}, "metadata of profile 'mine'"),
    ],
)
def test_given_a_profile_beyond_its_limits_when_a_catalog_is_made_then_the_field_is_named(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(RayError) as refusal:
        TaskCatalog((profile(**changes),))

    assert refusal.value.code == "invalid_request"
    assert refusal.value.details == {"field": field}


@pytest.mark.parametrize(
    ("profiles", "default"),
    [
        ((), None),
        (tuple(profile(id=str(n)) for n in range(129)), None),
        ((profile(), profile()), None),
        ((profile(),), "other"),
    ],
)
def test_given_a_catalog_that_cannot_be_when_made_then_it_is_refused(
    profiles: tuple[TaskProfile, ...], default: str | None
) -> None:
    with pytest.raises(RayError, match=r"catalog|two profiles"):
        TaskCatalog(profiles, default)


@pytest.mark.parametrize(
    "asked",
    [
        {**MAIL, "metadata": 5},
        {**MAIL, "metadata": {"x": 5}},
        {**MAIL, "metadata": {str(n): "" for n in range(28)}},
        {**MAIL, "cache": "yes"},
        {**MAIL, "dedupeKey": 5},
        {**MAIL, "input": {1, 2}},
    ],
)
def test_given_a_request_that_no_plan_can_carry_when_planned_then_it_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(RayError) as refusal:
        plan_task(asked, "classify")
    assert refusal.value.code == "invalid_request"


@pytest.mark.parametrize("mode", ["defaults", "profile"])
def test_given_a_dedupe_policy_when_planned_then_it_stands_for_the_profiles(
    mode: Literal["defaults", "profile"],
) -> None:
    joined = plan_task(MAIL, "draft", mode=mode, dedupe_policy="profile-input")
    assert joined.execution.dedupe_policy == "profile-input"
    assert joined.execution.dedupe_key is not None
    assert joined.request["dedupeKey"] == joined.execution.dedupe_key
    alone = plan_task(MAIL, "classify", mode=mode, dedupe_policy="none")
    assert (alone.execution.dedupe_policy, alone.execution.dedupe_key) == ("none", None)
    assert "dedupeKey" not in alone.request
    assert alone.profile.dedupe_policy == "profile-input", "the profile is what it was"


def test_given_a_key_of_its_own_when_planned_without_joining_then_the_request_keeps_it() -> None:
    plan = plan_task({**MAIL, "dedupeKey": "mine"}, "classify", dedupe_policy="none")
    assert (plan.request["dedupeKey"], plan.execution.dedupe_key) == ("mine", "mine")


def test_given_an_unknown_dedupe_policy_when_planned_then_it_is_named() -> None:
    with pytest.raises(RayError) as refused:
        plan_task(MAIL, dedupe_policy=cast(Literal["none"], "all"))
    assert refused.value.details == {"field": "dedupePolicy"}


def test_given_a_profile_that_was_handed_out_when_its_metadata_is_changed_then_no_other_plan_is() -> None:
    before = plan_task(MAIL, "classify").request["metadata"]
    for profile in (plan_task(MAIL, "classify").profile, DEFAULT_TASKS.profile("classify")):
        cast(dict[str, str], profile.metadata)["promptFamily"] = "changed"
    assert plan_task(MAIL, "classify").request["metadata"] == before
    mine = {"team": "one"}
    catalog = TaskCatalog((replace(DEFAULT_TASKS.profile("draft"), metadata=mine),))
    mine["team"] = "x" * 2_000
    assert cast(dict[str, str], plan_task(MAIL, catalog=catalog).request["metadata"])["team"] == "one"
