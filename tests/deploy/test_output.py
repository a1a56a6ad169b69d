"""Tables and JSON."""

from __future__ import annotations

import io
import json

from ray.deploy.findings import Finding, has_errors
from ray.deploy.output import count_of, findings_table, mib, print_json, table

FINDINGS = [
    Finding("error", "env_file_missing", "Create it."),
    Finding("warn", "auth", "Turn it on."),
    Finding("info", "config_ok", "Fine."),
]


def test_columns_are_aligned_and_lines_end_clean() -> None:
    assert table([("a", "bb", "c d"), ("aaa", "b", "")], ("x", "y", "zz")) == ("x    y   zz\na    bb  c d\naaa  b\n")
    assert table([]) == ""
    assert table([("only",)]) == "only\n"


def test_findings_are_one_line_each_and_counted() -> None:
    assert findings_table(FINDINGS).splitlines() == [
        "ERROR  env_file_missing  Create it.",
        "WARN   auth              Turn it on.",
        "ok     config_ok         Fine.",
    ]
    assert count_of(FINDINGS) == "1 error, 1 warning, 1 ok"
    assert count_of([FINDINGS[1], FINDINGS[1]]) == "0 errors, 2 warnings, 0 ok"


def test_only_errors_are_errors() -> None:
    assert has_errors(FINDINGS)
    assert not has_errors(FINDINGS[1:])


def test_json_is_indented_and_keeps_what_is_not_ascii() -> None:
    out = io.StringIO()
    print_json({"a": ["\u00e4"]}, out)
    assert out.getvalue() == '{\n  "a": [\n    "\u00e4"\n  ]\n}\n'
    assert json.loads(out.getvalue()) == {"a": ["\u00e4"]}


def test_figures_have_separators() -> None:
    assert mib(1024) == "1,024 MiB"
