"""One directory, one gateway: the second says so and goes, and finds the place free once the first is dead."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.faults.jobs.kills import jobs_config
from tests.integration.backend import PATIENCE_SECONDS, GatewayProcess, free_port, wait_until
from tests.integration.conftest import StartGateway


def submit(gateway: GatewayProcess, text: str) -> str:
    """The id of an accepted job."""
    answer = gateway.post("/v1/jobs", {"input": text, "cache": False})
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def wait_ended(gateway: GatewayProcess, job_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, object]:
    """The record once the job is terminal."""

    def ended() -> bool:
        return gateway.get(f"/v1/jobs/{job_id}").json()["status"] not in ("queued", "running")

    wait_until(ended, seconds, lambda: f"{job_id} ends:\n{gateway.output()[-2000:]}")
    return gateway.get(f"/v1/jobs/{job_id}").json()


def test_given_a_gateway_on_the_directory_when_a_second_starts_then_it_refuses_and_the_first_works_on(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    first = start_gateway(jobs_config(storage, free_port()))
    before = submit(first, "before")

    with pytest.raises(AssertionError, match="the gateway ended with 1") as refused:
        start_gateway(jobs_config(storage, free_port()))

    assert "async_queue_locked" in str(refused.value)
    assert str(storage) in str(refused.value)
    after = submit(first, "after")
    for job_id in (before, after):
        assert wait_ended(first, job_id)["status"] == "succeeded"


def test_given_the_first_was_killed_when_the_second_starts_then_it_takes_over_its_jobs(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    slow = {"adapter": {"kind": "mock", "latencyMs": 60_000}}
    first = start_gateway({**jobs_config(storage, free_port()), "model": slow})
    job_id = submit(first, "left behind")
    wait_until(lambda: first.get(f"/v1/jobs/{job_id}").json()["status"] == "running", PATIENCE_SECONDS, "the job runs")
    first.signal(signal.SIGKILL)
    first.wait_exit()

    second = start_gateway(jobs_config(storage, free_port()))

    record = wait_ended(second, job_id)
    assert (record["status"], record["attempts"]) == ("succeeded", 2)


def test_given_a_job_under_way_when_the_gateway_is_told_to_stop_at_once_then_the_next_one_finds_its_attempt_unspent(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    slow = {"adapter": {"kind": "mock", "latencyMs": 60_000}}
    first = start_gateway({**jobs_config(storage, free_port(), maxAttempts=1), "model": slow})
    job_id = submit(first, "interrupted")
    wait_until(lambda: first.get(f"/v1/jobs/{job_id}").json()["status"] == "running", PATIENCE_SECONDS, "the job runs")
    first.signal(signal.SIGTERM)
    first.wait_logged("gateway shutting down")
    first.signal(signal.SIGTERM)  # it does not wait for the job any longer
    first.wait_exit()

    second = start_gateway(jobs_config(storage, free_port(), maxAttempts=1))

    record = wait_ended(second, job_id)
    assert (record["status"], record["attempts"]) == ("succeeded", 1)
