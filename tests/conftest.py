"""What holds for all tests: nothing of the caller's surroundings, the same examples every time, and with
`RAY_REQUIRE_BACKEND=1`, as continuous integration has it, no test that is left out because a tool is missing.

`pytest --hypothesis-profile=explore` looks for examples nobody has thought of; what it finds becomes a plain test.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

# What the tests themselves are told by. Everything else that begins with RAY_ would reach the programs they start.
OF_THE_TESTS = ("RAY_LLAMA_SERVER", "RAY_REQUIRE_BACKEND", "RAY_TEST_")
# Proxies between a test and its own server; the sockets of a service manager that has started the tests; languages.
SURROUNDINGS = ("LANGUAGE", "LC_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
PROXIES = ("all_proxy", "http_proxy", "https_proxy")

for name in list(os.environ):
    is_setting_of_ray = name.startswith("RAY_") and not name.startswith(OF_THE_TESTS)
    if is_setting_of_ray or name.startswith(SURROUNDINGS) or name.lower() in PROXIES:
        del os.environ[name]
os.environ["LANG"] = "C.UTF-8"

# A shell starts what it puts in the background with interrupts ignored, `nohup` does so with hang-ups, and every
# program started from there inherits that (signal(7)): tests that interrupt something would wait for what never comes.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A time limit per example, and a complaint about slow ones, would say something of the machine only.
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")

# What a test may be left out for all the same: who runs it, and what a container may not do.
MAY_BE_SKIPPED = re.compile(r"\broot\b|\baccounts?\b|\bmount\b|somebody else|where none is expected|another directory")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def judged(report: Report) -> Report:
    """The report, as a failure where a skipped test may not be."""
    if not report.skipped or hasattr(report, "wasxfail") or os.environ.get("RAY_REQUIRE_BACKEND") != "1":
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not MAY_BE_SKIPPED.search(reason):
        report.outcome = "failed"
        report.longrepr = f"RAY_REQUIRE_BACKEND=1, and this would not be tested: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return judged((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return judged((yield))
