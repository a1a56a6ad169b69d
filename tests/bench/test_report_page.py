"""A page for every kind of report: whole, harmless, and with what the kind has to show."""

from __future__ import annotations

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.report_page import report_page
from tests.bench.page_reader import Page, harmless
from tests.bench.some_reports import (
    Document,
    all_reports,
    autotune_report,
    formats_report,
    peers_report,
    prefix_report,
    rows_report,
    run_report,
)


@pytest.mark.parametrize("document", all_reports(), ids=lambda document: str(document["kind"]))
def test_every_kind_of_report_gives_a_whole_page_that_loads_nothing(document: Document) -> None:
    page = report_page(document)
    tags = Page(page).tags
    assert tags[0][0] == "html"
    assert any(tag == "svg" for tag, _ in tags)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in tags
    assert "prefers-color-scheme: dark" in page
    assert harmless(page)


def _hostile(part: object, kept: str = "") -> object:
    """Every text that is no name of something with a markup in it."""
    if isinstance(part, dict):
        return {key: _hostile(value, str(key)) for key, value in part.items()}
    if isinstance(part, list):
        return [_hostile(value, kept) for value in part]
    if not isinstance(part, str) or kept in ("kind", "verdict", "better", "generatedAt", "id", "side", "pass"):
        return part
    return f"<b>&{part}"


@pytest.mark.parametrize("document", all_reports(), ids=lambda document: str(document["kind"]))
def test_no_text_of_a_report_is_markup(document: Document) -> None:
    hostile = _hostile(document)
    assert isinstance(hostile, dict)
    page = report_page(hostile)
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page


def test_a_comparison_with_a_side_that_broke_off_says_so() -> None:
    document = peers_report()
    assert isinstance(document["peer"], dict)
    assert "Broken off: it went away" in report_page(
        {**document, "peer": {**document["peer"], "brokenOff": "it went away"}}
    )


def test_rows_are_drawn_against_their_budgets_and_told_in_a_table() -> None:
    page = report_page(rows_report())
    assert "Budgets missed: resident memory." in page
    assert page.count('class="limit"') == 2, "a row that was not measured and one whose budget is 0 have no place"
    assert "181 ms, ≤ 250" in page
    assert "needs a real model" in page
    assert "&lt;of all&gt;" in page
    assert "<of all>" not in page


def test_kept_budgets_are_said_to_be_kept() -> None:
    document = rows_report()
    assert isinstance(document["rows"], list)
    kept = {**document, "rows": [row for row in document["rows"] if row["id"] in ("start", "other")]}
    assert "All 2 budgets were kept." in report_page(kept)
    one = {**document, "rows": [row for row in document["rows"] if row["id"] == "start"]}
    assert "The budget was kept." in report_page(one)


def test_short_bars_are_drawn_on_a_scale_of_their_own() -> None:
    page = report_page(rows_report())
    assert "Times up to 0.150 ms" in page


def test_prefix_shows_the_latency_of_every_request_of_the_first_round_and_all_passes() -> None:
    page = report_page(prefix_report())
    for title in ("First pass, nothing warm", "Second pass", "After a restart"):
        assert f"<h3>{title}</h3>" in page
    assert page.count("<td>through Ray</td>") == 6


def test_peers_shows_both_sides_with_the_same_axes_and_what_is_better() -> None:
    page = report_page(peers_report())
    assert "Ray is better in: latency, cold, p50;" in page
    assert "<h3>Ray: latency over time</h3>" in page
    assert "<h3>The other one: latency over time</h3>" in page


def test_a_search_ends_with_what_it_recommends() -> None:
    assert "<strong>ray-chat-fallback</strong>" in report_page(formats_report())
    page = report_page(autotune_report())
    assert "<h2>Recommended</h2>" in page
    assert "&quot;batchWindowMs&quot;: 2" in page


def test_shares_are_drawn_up_to_100_and_scores_have_a_drawing() -> None:
    page = report_page(formats_report())
    assert "<span>0 %</span><span>100 %</span>" in page
    assert "<h3>Counts and scores</h3>" in page


def test_a_run_that_was_written_without_rows_has_its_page() -> None:
    old = {key: part for key, part in run_report().items() if key not in ("rows", "exceeded")}
    assert "Latency over time" in report_page(old)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "schema version 2"),
        ({"kind": 3}, "kind"),
        ({"rows": [{"id": "x"}]}, "label"),
        ({"rows": [{"id": "x", "label": "X", "unit": "", "value": "1"}]}, "value"),
        ({"rows": [{"id": "x", "label": "X", "unit": "", "better": "bigger"}]}, "better"),
        ({"rows": None}, "rows"),
    ],
)
def test_what_is_no_such_report_is_named(change: Document, told: str) -> None:
    with pytest.raises(MeasurementError, match=told):
        report_page({**rows_report(), **change})
