"""One HTML page for a report of any kind: `page` and `--html` of every command end here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from ray.bench.budgets.prefix_page import prefix_sections
from ray.bench.budgets.prefix_report import PREFIX_KIND
from ray.bench.peers.command import PEERS_KIND
from ray.bench.peers.page import peers_page
from ray.bench.reading.read_report import ReadReport, read_report
from ray.bench.reading.rows_page import rows_page
from ray.bench.report.page_parts import figures, section
from ray.bench.run.charts import charts_of
from ray.bench.run.html_report import html_page
from ray.bench.run.report import RUN_KIND, RunReport


def report_page(document: Mapping[str, object]) -> str:
    """The page. Raises `MeasurementError` when the document is not a report, or not one of this version."""
    report = read_report(document)
    if report.kind == RUN_KIND:
        return html_page(RunReport.from_document(document))
    if report.kind == PEERS_KIND:
        return peers_page(report)
    if report.kind == PREFIX_KIND:
        return rows_page(report, prefix_sections(report))
    return rows_page(report, [*_recommendation(report), *_run_sections(report)])


def _recommendation(report: ReadReport) -> list[str]:
    """What a search ended with: the format and why, or the change to the config."""
    shown = []
    recommended, why = (report.document.get(key) for key in ("recommendedPromptFormat", "why"))
    if isinstance(recommended, str):
        shown.append(f"<p><strong>{escape(recommended)}</strong></p>")
    if isinstance(why, str):
        shown.append(f"<p>{escape(why)}</p>")
    patch = report.document.get("recommendedPatch")
    if isinstance(patch, dict):
        text = json.dumps(patch, indent=2, ensure_ascii=False) if patch else "Keep the settings as they are."
        shown.append(f"<pre>{escape(text)}</pre>")
    return section("Recommended", shown)


def _run_sections(report: ReadReport) -> list[str]:
    """The charts over time of a report that was drawn from a run and has it in it."""
    run = report.document.get("run")
    if not isinstance(run, dict) or run.get("kind") != RUN_KIND or "samples" not in run:
        return []
    return section("Over the run", figures(charts_of(RunReport.from_document(run))))
