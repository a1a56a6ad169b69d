"""The workloads, evals and baselines in `examples/`: they load, have their shape, and belong together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from ray.bench.run.baseline import compare, load_baseline
from ray.bench.run.report import RunSettings
from ray.bench.run.workload_file import Item, load_workload

ROOT = Path(__file__).parents[2]
WORKLOADS = ROOT / "examples/workloads"
EVALS = ROOT / "examples/evals"
BASELINES = sorted((ROOT / "examples/benchmarks/baselines").glob("*.json"))

KINDS = [
    "email.cold_outreach.v1",
    "email.follow_up.v1",
    "email.reply_classification.v1",
    "email.reply_rewrite.v1",
    None,
]


def items_of(path: Path) -> tuple[Item, ...]:
    return load_workload(str(path)).items


def family(item: Item) -> str:
    metadata = item.fields["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["promptFamily"])


@pytest.mark.parametrize("path", [*WORKLOADS.iterdir(), *EVALS.iterdir()], ids=lambda path: path.name)
def test_every_workload_loads_without_a_question_asked_twice(path: Path) -> None:
    items = items_of(path)
    assert len({str(item.fields) for item in items}) == len(items)


def test_the_email_workload_has_two_drafts_of_one_scaffold_and_says_nothing_about_sampling() -> None:
    items = items_of(WORKLOADS / "email-workload.jsonl")
    assert [item.fields["templateId"] for item in items][:2] == ["email.cold_outreach.v1"] * 2
    assert len(items) == 5
    assert all(set(item.fields) == {"templateId", "templateVariables"} for item in items)


@pytest.mark.parametrize(
    ("path", "seeds"),
    [
        (WORKLOADS / "email-1b-workload.jsonl", range(101, 106)),
        (EVALS / "email-prompt-families-1b.json", range(301, 306)),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_quality_workloads_have_the_five_kinds_with_seeds_and_rules(path: Path, seeds: range) -> None:
    items = items_of(path)
    assert [item.fields.get("templateId") for item in items] == KINDS
    assert [item.fields["seed"] for item in items] == list(seeds)
    assert all(item.expected.no_prompt_echo for item in items)
    assert items[2].expected.requires_valid_json
    assert items[2].expected.must_contain == ("sentiment", "intent", "urgency")
    assert items[0].expected.requires_call_to_action
    assert items[3].expected.stop_must_not_appear


def test_families_share_long_beginnings_within_a_family_and_none_between() -> None:
    items = items_of(WORKLOADS / "families.jsonl")
    systems = {family(item): str(item.fields["system"]) for item in items}
    assert len(systems) == 4
    assert len(items) == 24
    assert len({system[:20] for system in systems.values()}) == 4
    assert all(len(system) > 700 for system in systems.values())
    # Two requests of one family never follow each other: a slot that only remembers its last prompt gains nothing.
    names = [family(item) for item in items]
    assert sum(one == other for one, other in pairwise(names)) == 0


def test_the_mixed_workload_is_mostly_short() -> None:
    tokens = [item.fields["maxTokens"] for item in items_of(WORKLOADS / "mixed-open-loop.jsonl")]
    assert (tokens.count(12), tokens.count(256)) == (14, 2)


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_every_baseline_is_for_a_workload_that_exists(path: Path) -> None:
    baseline = load_baseline(str(path))
    assert baseline.label == path.stem
    assert baseline.workload is not None
    assert (ROOT / baseline.workload).is_file()
    assert baseline.assertions


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_every_baseline_is_held_by_a_run_within_its_limits_and_missed_by_one_beyond_them(path: Path) -> None:
    baseline = load_baseline(str(path))
    assert baseline.workload is not None
    settings = RunSettings("http://h", baseline.workload, "0", 5, baseline.requests, clients=baseline.clients)
    # Names of the figures as a run reports them: an assertion on one that no run has could never be held.
    limits = {figure[3].lower() + figure[4:]: limit for figure, limit in baseline.assertions.items()}
    beyond = {name: limit * 2 if key.startswith("max") else limit / 2 for (key, limit), name in zip(
        baseline.assertions.items(), limits, strict=True)}  # fmt: skip
    assert compare(str(path), baseline, settings, limits).passed
    assert set(compare(str(path), baseline, settings, beyond).missed) == set(limits)


def test_there_are_four_baselines() -> None:
    assert len(BASELINES) == 4
