"""Dying at every single operation: a killed process, and a power cut that loses what was not synced.

A killed process is the power cut after which everything is there all the same: what it wrote was in the system's cache.
"""

from __future__ import annotations

import pytest

from tests.fakes.disk import power_cuts
from tests.fakes.virtual_time import run_in_virtual_time
from tests.faults.jobs.crash_points import Findings, Scenario, cut_off_everywhere
from tests.faults.jobs.scenarios import SCENARIOS

# What a plain success costs at least, in operations: three durable writes.
LEAST_POINTS = 36


def report(scenario: Scenario, findings: Findings) -> None:
    print(f"{scenario.name}: {findings.points} crash points, {findings.starts} different remains")
    assert findings.faults == [], "\n".join(findings.faults[:20])
    assert findings.points >= LEAST_POINTS


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_given_a_scenario_when_it_is_killed_or_power_is_cut_at_any_operation_then_the_next_start_keeps_every_promise(
    scenario: Scenario,
) -> None:
    report(scenario, run_in_virtual_time(cut_off_everywhere(scenario, power_cuts), pytest.MonkeyPatch()))
