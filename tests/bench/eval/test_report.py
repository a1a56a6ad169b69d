"""The figures by prompt family: what counts as what, and what comes back out of a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench.eval.report import (
    EvalReport,
    eval_document,
    eval_report,
    family_changes,
    family_of,
    load_eval_report,
    read_eval_report,
    rows_of,
)
from ray.bench.eval.text import changes_text, eval_text
from ray.bench.processes.process import MeasurementError
from ray.bench.report.figures import single
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import Workload, parse_items, workload_of
from tests.bench.some_runs import some_run

ITEMS = """
{"input": "one", "metadata": {"promptFamily": "mail"}}
{"input": "two", "metadata": {"promptFamily": " mail "}}
{"templateId": "email.reply_classification.v1", "benchmark": {"requiresValidJson": true}}
{"input": "four", "metadata": {"promptFamily": " "}}
"""
GOLDEN = workload_of("golden", parse_items(ITEMS))


def answer(number: int, item: int, score: float = 100.0, *failures: str, **more: object) -> Sample:
    values: dict[str, object] = {"quality_score": score, "quality_failures": failures, **more}
    return Sample(number, item, 0.0, 100.0 + number, **values)  # type: ignore[arg-type]  # fields by name


def reported(*samples: Sample, golden: Workload = GOLDEN, repeat: int = 1) -> EvalReport:
    return eval_report(some_run([], samples=samples), golden, repeat)


def some_report() -> EvalReport:
    return reported(
        answer(0, 0, 80.0, "missing_cta", prompt_tokens=40, completion_tokens=9, prompt_format="prompt-scaffold"),
        answer(1, 1, prompt_tokens=50, completion_tokens=20, prompt_format="llama.cpp-template"),
        answer(2, 2, 55.0, "invalid_json", valid_json=False),
        Sample(3, 3, 0.0, 9.0, code="queue_full"),
        answer(4, 2, valid_json=True),
    )


@pytest.mark.parametrize(
    ("item", "family"),
    [
        ('{"input": "a", "metadata": {"promptFamily": "mail"}}', "mail"),
        ('{"templateId": "t", "metadata": {"promptFamily": "mail"}}', "mail"),
        ('{"templateId": "t", "metadata": {"promptFamily": " "}}', "t"),
        ('{"templateId": "t"}', "t"),
        ('{"input": "a", "metadata": {"other": "x"}}', "other"),
        ('{"input": "a"}', "other"),
        ('{"input": "a", "metadata": {"promptFamily": ""}}', "other"),
        (r'{"input": "a", "metadata": {"promptFamily": "x\u001b[31m\ny"}}', r"x\x1b[31m\ny"),
    ],
)
def test_the_family_of_an_item(item: str, family: str) -> None:
    assert family_of(parse_items(item)[0]) == family


def test_families_stand_in_the_order_of_the_golden_set_with_their_figures() -> None:
    report = some_report()
    mail, classification, _ = report.families
    assert [one.family for one in report.families] == ["mail", "email.reply_classification.v1", "other"]
    assert (mail.n, mail.passed, mail.score_avg, mail.pass_rate) == (2, 1, 90.0, 50.0)
    assert mail.failures == {"missing_cta": 1}
    assert mail.prompt_formats == {"prompt-scaffold": 1, "llama.cpp-template": 1}
    assert (mail.prompt_tokens, mail.completion_tokens, mail.latency_p50_ms) == (90, 29, 100.5)
    assert (classification.valid_json, classification.json_expected) == (1, 2)
    assert (mail.valid_json, mail.json_expected) == (0, 0)
    assert report.total.n == 5


def test_a_family_called_all_is_not_the_whole() -> None:
    golden = workload_of("g", parse_items('{"input": "a", "metadata": {"promptFamily": "all"}}\n{"input": "b"}'))
    rows = {row.id: row.figure for row in rows_of(reported(answer(0, 0, 40.0), answer(1, 1, 80.0), golden=golden))}
    assert len(rows) == 3 * 3
    assert (rows["score"], rows["score:all"]) == (single(60.0), single(40.0))


def test_a_family_has_a_name_of_bounded_length() -> None:
    assert len(family_of(parse_items(json.dumps({"input": "a", "metadata": {"promptFamily": "x" * 999}}))[0])) == 80


def test_tokens_that_nobody_counted_are_not_shown_as_none() -> None:
    text = eval_text(reported(answer(0, 0), answer(1, 3, prompt_tokens=40, completion_tokens=0)))
    cells = {line.split()[0]: line.split()[-2:] for line in text.splitlines() if line.startswith(("mail", "other"))}
    assert cells == {"mail": ["n/a", "n/a"], "other": ["40", "0"]}


def test_a_request_that_failed_did_not_pass_and_scores_0() -> None:
    other = some_report().families[2]
    assert (other.n, other.passed, other.score_avg, other.errors) == (1, 0, 0.0, {"queue_full": 1})
    assert other.latency_p50_ms is None
    both = reported(answer(0, 3), Sample(1, 3, 0.0, 1.0, code="timeout")).total
    assert (both.score_avg, both.pass_rate, both.failed_requests) == (50.0, 50.0, 1)


def test_a_family_that_was_not_reached_is_not_there_and_nothing_at_all_is_told() -> None:
    assert [one.family for one in reported(answer(0, 0)).families] == ["mail"]
    with pytest.raises(MeasurementError, match="nothing was measured: the gateway is gone"):
        eval_report(some_run([], broken_off="the gateway is gone"), GOLDEN, 1)


def test_a_report_can_be_written_and_read_again_and_holds_no_texts(tmp_path: Path) -> None:
    report, path = some_report(), tmp_path / "report.json"
    path.write_text(json.dumps(eval_document(report), allow_nan=False))
    families, total, run = load_eval_report(str(path))
    assert list(families.values()) == list(report.families)
    assert total == report.total
    assert run == report.run
    document = json.loads(path.read_text())
    assert (document["kind"], document["version"], document["label"]) == ("eval-report", 1, "a run")
    assert document["families"][0]["passRate"] == 50.0
    assert document["settings"]["repeat"] == 1
    rows = {row["id"]: row.get("value") for row in document["rows"]}
    assert rows["score"] == pytest.approx(67.0)
    assert rows["passed:mail"] == 50.0
    assert rows["latency:other"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "benchmark-summary"}, 'of kind "benchmark-summary", not the "eval-report"'),
        ({"version": 2}, "schema version 2"),
        ({"families": {}}, r"report\.families must be a list"),
        ({"families": [{"family": "mail"}]}, r"report\.families\[0\]\.n must be a whole number"),
        ({"total": None}, r"report\.total must be a JSON object"),
        ({"run": {"kind": "other"}}, 'of kind "other"'),
    ],
)
def test_what_is_no_report_of_an_eval_is_refused_by_its_key(change: dict[str, object], said: str) -> None:
    with pytest.raises(MeasurementError, match=said):
        read_eval_report({**eval_document(some_report()), **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passed": 3}, "passed must be at most n"),
        ({"n": 0, "passed": 0}, "n at least 1"),
        ({"errors": {"a": -1}}, "a"),
    ],
)
def test_figures_that_cannot_be_are_refused(change: dict[str, object], said: str) -> None:
    document = json.loads(json.dumps(eval_document(some_report())))
    document["families"][0] |= change
    with pytest.raises(MeasurementError, match=said):
        read_eval_report(document)


@pytest.mark.parametrize("content", ["", "[1]", "{", '"text"', "[" * 100_000])
def test_a_file_that_is_none_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(content)
    with pytest.raises(MeasurementError, match=r"before\.json: "):
        load_eval_report(str(path))


def test_changes_name_what_is_new_and_what_is_gone_by_family() -> None:
    before = reported(answer(0, 0, 80.0, "missing_cta"), answer(1, 2, 55.0, "invalid_json", valid_json=False))
    after = reported(answer(0, 0, 60.0, "missing_cta", "forbidden:x"), answer(1, 3))
    mail, other, classification = family_changes({one.family: one for one in before.families}, after.families)
    assert (mail.new_failures, mail.gone_failures) == (["forbidden:x"], [])
    assert (other.before, classification.after) == (None, None)
    assert classification.gone_failures == [], "a family that was not asked has lost nothing"


def test_the_text_shows_families_failures_errors_and_formats() -> None:
    text = eval_text(some_report())
    assert "mail                           2       0    50 %   90.0" in text
    assert "mail: missing_cta 1" in text
    assert "other: queue_full 1" in text
    assert "mail: prompt-scaffold 1, llama.cpp-template 1" in text
    assert "1 of 2" in text
    broken = replace(some_report(), run=some_run([1.0], broken_off="the gateway is gone"))
    assert "BROKEN OFF: the gateway is gone." in eval_text(broken)


def test_the_comparison_shows_scores_side_by_side_and_says_when_the_requests_differ() -> None:
    before = read_eval_report(eval_document(reported(answer(0, 0, 80.0, "missing_cta"), answer(1, 3))))
    after = reported(answer(0, 0), answer(1, 2, 55.0, "invalid_json", valid_json=False))
    text = changes_text(before, after, "before.json")
    assert "Compared with before.json (a run, " in text
    assert "mail" in text
    assert "+20.0" in text
    assert "gone from mail: missing_cta" in text
    assert "not there" in text
    assert "requests differ" not in text
    settings = replace(after.run.settings, workload_digest="cd" * 32)
    other = replace(after, run=replace(after.run, settings=settings))
    assert "The requests differ" in changes_text(before, other, "before.json")
    same = changes_text(read_eval_report(eval_document(after)), after, "before.json")
    assert "No failure is new and none is gone." in same


def test_a_change_is_judged_by_the_same_requests_of_enough_items() -> None:
    golden = workload_of("g", parse_items('{"input": "a"}\n' * 6))

    def scored(*scores: float | None) -> EvalReport:
        samples = [
            Sample(place, place, 0.0, 1.0, code="timeout") if score is None else answer(place, place, score)
            for place, score in enumerate(scores)
        ]
        return reported(*samples, golden=golden)

    def said(before: EvalReport, after: EvalReport) -> str:
        families = {one.family: one for one in before.families}
        return changes_text((families, before.total, before.run), after, "before.json")

    before = scored(80, 80, 80, 80, 80, 80)
    assert "not changed beyond noise: -13.3 (-47.6..+20.9) over 6 items" in said(
        before, scored(80, 80, 80, 80, 80, None)
    )
    assert "better by more than noise" in said(before, scored(100, 100, 95, 100, 100, 90))
    assert "cannot be told" in said(scored(80, 80), scored(100, 100))
    other = scored(100, 100, 95, 100, 100, 90)
    settings = replace(other.run.settings, workload_digest="other")
    assert "cannot be told" in said(before, replace(other, run=replace(other.run, settings=settings)))
