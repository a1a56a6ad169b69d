"""What takes root is skipped without it, and a failure where nothing may be skipped and root could have it."""

from __future__ import annotations

import pytest

from tests.integration import namespaces
from tests.integration.namespaces import need_machines


@pytest.fixture(autouse=True)
def real_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_may_make_namespaces", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("0", pytest.skip.Exception)])
def test_given_root_without_a_tool_then_it_is_a_failure_only_where_nothing_may_be_skipped(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_REQUIRE_BACKEND", required)

    with pytest.raises(outcome, match="no-such-tool-here"):
        need_machines(["sh", "no-such-tool-here"])


def test_given_somebody_else_then_it_is_skipped_and_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_REQUIRE_BACKEND", "1")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(pytest.skip.Exception, match="needs root"):
        need_machines([])


def test_given_a_root_that_may_make_no_namespaces_then_it_is_skipped_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_REQUIRE_BACKEND", "1")
    monkeypatch.setattr(namespaces, "_may_make_namespaces", lambda: False)

    with pytest.raises(pytest.skip.Exception, match="CAP_SYS_ADMIN"):
        need_machines([])


def test_given_all_tools_then_the_test_is_run() -> None:
    need_machines(["sh"])
