"""The page of a run: whole, harmless and self-contained, whatever the run brought."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ray.bench.report.page_parts import milliseconds
from ray.bench.run.html_report import html_page
from ray.bench.run.report import RunReport
from ray.bench.run.sample import Sample
from tests.bench.page_reader import Page, harmless
from tests.bench.some_runs import some_run, some_settings


def _runs() -> Iterator[RunReport]:
    yield some_run([10.0, 20.0, 30.0])
    yield some_run([])
    yield some_run([], queue=(), facts={}, wall_ms=0.0, broken_off="no answer at all")
    yield some_run([12_000.0], settings=some_settings(clients=None, rate=0.5, no_cache=True))
    yield some_run([5.0], samples=(Sample(0, 0, 0.0, 5.0, code="queue_full"),))
    yield some_run([5.0], comparison={"passed": True, "checks": "not as documented"})


@pytest.mark.parametrize("report", list(_runs()))
def test_every_run_gives_a_whole_page(report: RunReport) -> None:
    page = Page(html_page(report))
    assert page.tags[0][0] == "html"
    assert any(tag == "h1" for tag, _ in page.tags)


@pytest.mark.parametrize("report", list(_runs()))
def test_the_page_loads_nothing_and_runs_nothing(report: RunReport) -> None:
    assert harmless(html_page(report))
    page = Page(html_page(report))
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_it_fits_a_phone_and_follows_a_dark_theme() -> None:
    text = html_page(some_run([10.0]))
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert text.count("prefers-color-scheme: dark") == 2
    wide = re.findall(r"minmax\((\d+)px", text)
    assert all(int(width) <= 160 for width in wide), "two columns of tiles fit 360 pixels"


def test_what_comes_from_outside_is_shown_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    sample = Sample(
        0, 0, 0.0, 5.0, prefix=hostile, quality_score=1.0, quality_failures=(f"missing:{hostile}",), prompt_tokens=1
    )
    report = some_run(
        [5.0],
        label=hostile,
        settings=some_settings(workload=hostile, target=hostile),
        samples=(sample, replace(sample, code=hostile)),
        facts={hostile: hostile},
        broken_off=hostile,
        comparison={"checks": [{"metric": hostile, "operator": "<", "expected": hostile, "actual": hostile}]},
    )
    assert hostile not in html_page(report)
    assert hostile in " ".join(Page(html_page(report)).texts)


def test_figures_errors_and_verdicts_are_on_the_page() -> None:
    answered = some_run([100.0, 200.0, 900.0])
    report = replace(
        answered,
        settings=some_settings(requests=9),
        samples=(
            *answered.samples,
            replace(answered.samples[0], cached=True),
            Sample(4, 4, 3.0, 1.0, code="queue_full"),
            Sample(5, 0, 4.0, 1.0, code="queue_full"),
        ),
        broken_off="the gateway went away",
        comparison={
            "passed": False,
            "checks": [{"metric": "latencyP95Ms", "operator": "<=", "expected": 150, "actual": 200, "passed": False}],
        },
    )
    texts = Page(html_page(report)).texts
    for expected in (
        "4 of 9",
        "2 errors",
        "200 ms",
        "p95 200 ms, max 900 ms, n 3",
        "25 %",
        "Broken off: the gateway went away",
        "The baseline was missed.",
        "latencyP95Ms",
        "<= 150",
        "queue_full",
        "33.3 %",
    ):
        assert expected in texts


def test_a_missing_figure_says_so_and_a_missing_part_is_left_out() -> None:
    texts = Page(html_page(some_run([], queue=()))).texts
    assert "n/a" in texts
    assert not {"Errors", "Quality", "Times", "Over the run", "Against the baseline"} & set(texts)


def test_what_the_gateway_does_not_count_is_not_shown_as_zero() -> None:
    report = some_run([100.0, 200.0])
    silent = replace(report, samples=tuple(replace(one, completion_tokens=None) for one in report.samples))
    texts = Page(html_page(silent)).texts
    assert texts[texts.index("Tokens per second") + 1] == "n/a"


def test_the_head_says_the_workload_once_and_how_it_was_asked() -> None:
    report = replace(some_run([10.0]), label="mail", settings=some_settings(workload="mail", clients=1))
    heads = [Page(html_page(one)).texts for one in (report, replace(report, label="before"))]
    assert [sum("mail" in text for text in head[:6]) for head in heads] == [2, 1], (
        "title and heading, or the line below"
    )
    assert "1 client, closed loop" in heads[0]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.500 ms"), (843.2, "843 ms"), (9_999.0, "9999 ms"), (12_345.0, "12.3 s")]
)
def test_times_are_shown_for_people(value: float, shown: str) -> None:
    assert milliseconds(value) == shown
