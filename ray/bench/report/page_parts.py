"""What the pages of all reports are made of: the shell, sections, tables and drawings.

A page has no script and no outside reference, and says so to the browser (`Content-Security-Policy`), so that it can be
sent around and opened from a disk. Light and dark follow the reader's system; on a phone the charts stand below each
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ray.bench.report.chart import STYLE as CHART_STYLE
from ray.bench.report.chart import Chart, chart_svg, legend_html
from ray.bench.report.range_chart import STYLE as RANGE_STYLE
from ray.bench.report.report import number

_STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --card: #f4f6f8; --text: #1f2933; --quiet: #52606d; --edge: #d9e0e7;
  --good: #1b7a43; --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --back: #14191f; --card: #1c232b; --text: #e4e7eb; --quiet: #9aa5b1; --edge: #2d3742; --good: #5fd38d;
    --bad: #ff8a80 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif }
main { max-width: 1120px; margin: 0 auto; padding: 20px 16px 48px }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 32px 0 10px }
h3 { font-size: 1rem; margin: 0 0 4px }
p { margin: 6px 0 }
.quiet { color: var(--quiet); overflow-wrap: anywhere }
.good { color: var(--good); font-weight: 600 }
.bad { color: var(--bad); font-weight: 600 }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px;
  margin: 18px 0 0; padding: 0 }
@media (min-width: 800px) { .tiles { grid-template-columns: repeat(4, 1fr) } }
.tiles div { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px }
.tiles dt { color: var(--quiet); font-size: .85rem }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums }
.tiles small { display: block; color: var(--quiet); font-size: .8rem; font-weight: 400 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 16px }
figure { margin: 0; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 12px }
.legend { list-style: none; margin: 0 0 6px; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 16px;
  font-size: .85rem; color: var(--quiet) }
.wide, pre { overflow-x: auto }
pre { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px; margin: 0 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem }
caption { text-align: left; color: var(--quiet); padding: 0 0 4px; font-size: .85rem }
th, td { padding: 5px 10px 5px 0; border-bottom: 1px solid var(--edge); text-align: right; vertical-align: top;
  white-space: nowrap }
th { font-weight: 600 }
th:first-child, td:first-child, .words td { text-align: left; white-space: normal }
.words td { overflow-wrap: anywhere }
.named td:first-child { min-width: 9rem }
.words td:first-child { min-width: 8rem; color: var(--quiet) }
@media (max-width: 500px) {
  table { font-size: .84rem }
  th, td { padding-right: 7px }
  .named td:first-child { min-width: 7rem }
}
"""
Cells = Sequence[str]


def page(title: str, about: str, head: Iterable[str], sections: Iterable[str]) -> str:
    """The whole document. `about`: a line below the title, as text; `head` and `sections`: markup."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}{CHART_STYLE}{RANGE_STYLE}</style>",
            "</head>",
            "<body><main>",
            "<header>",
            f"<h1>{escape(title)}</h1>",
            f'<p class="quiet">{escape(about)}</p>',
            *head,
            "</header>",
            *sections,
            "</main></body>",
            "</html>\n",
        ]
    )


def section(title: str, content: Sequence[str]) -> list[str]:
    """A part of the page; nothing when there is nothing in it."""
    return ["<section>", f"<h2>{escape(title)}</h2>", *content, "</section>"] if content else []


def verdict(good: bool, text: str) -> str:
    return f'<p class="{"good" if good else "bad"}">{escape(text)}</p>'


def figures(charts: Sequence[Chart]) -> list[str]:
    """The charts beside and below each other."""
    if not charts:
        return []
    drawn = [
        f"<figure><h3>{escape(chart.title)}</h3>{legend_html(chart)}{chart_svg(chart)}</figure>" for chart in charts
    ]
    return ['<div class="charts">', *drawn, "</div>"]


def table(about: str, columns: Cells, rows: Sequence[Cells], kind: str = "") -> list[str]:
    """A table that scrolls on its own when it is wider than the page; nothing when it has no rows."""
    if not rows:
        return []
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return [
        f'<div class="wide"><table{f" class={kind}" if kind else ""}>',
        *([f"<caption>{escape(about)}</caption>"] if about else []),
        *([f"<thead><tr>{head}</tr></thead>"] if columns else []),
        f"<tbody>{''.join(body)}</tbody>",
        "</table></div>",
    ]


def milliseconds(value: float) -> str:
    """A time for people: 843 ms, 12.3 s."""
    return f"{number(value)} ms" if value < 10_000 else f"{number(value / 1000)} s"
