"""The short form of the kill run; `make soak-jobs` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.faults.jobs.kills import KillRun

KILLS = 8
SEED = 4


def test_given_jobs_and_callbacks_in_flight_when_the_gateway_is_killed_again_and_again_then_every_promise_holds(
    tmp_path: Path,
) -> None:
    report = KillRun(tmp_path, SEED).run(KILLS)

    assert report.faults == [], report.text()
    assert report.acknowledged >= KILLS
    assert report.statuses["succeeded"] > 0
    assert report.deliveries > 0
