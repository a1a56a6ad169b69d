"""Where nothing may be skipped, a missing tool fails the test; who runs it, and what a container may do, does not."""

from __future__ import annotations

import pytest

from tests.conftest import judged


def skipped(reason: str) -> pytest.TestReport:
    where = ("tests/test_x.py", 1, f"Skipped: {reason}")
    return pytest.TestReport("tests/test_x.py::test_x", where, {}, "skipped", where, "setup")


@pytest.mark.parametrize("reason", ["needs git", "could not import 'schemathesis'", "there is no Caddy"])
@pytest.mark.parametrize(("required", "outcome"), [("1", "failed"), ("0", "skipped"), (None, "skipped")])
def test_a_missing_tool_is_a_failure_only_where_nothing_may_be_skipped(
    reason: str, required: str | None, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_REQUIRE_BACKEND", raising=False)
    if required is not None:
        monkeypatch.setenv("RAY_REQUIRE_BACKEND", required)

    report = judged(skipped(reason))

    assert report.outcome == outcome
    assert reason in str(report.longrepr)


@pytest.mark.parametrize(
    "reason",
    ["needs root, for a machine within the machine", "root reads everything", "this machine does not let us mount"],
)
def test_what_depends_on_who_runs_it_may_be_skipped_everywhere(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_REQUIRE_BACKEND", "1")

    assert judged(skipped(reason)).outcome == "skipped"
