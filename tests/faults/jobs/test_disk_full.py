"""A disk that refuses every write, and one that is really full: jobs wait, health says so, and once there is room
again they end, without a restart.

The first kind is made with the limit of the size of files (setrlimit(2), RLIMIT_FSIZE) of the running gateway, which
needs no privileges: at zero, each write to a regular file fails. The second is a small file system in memory in a mount
namespace of the gateway's own, where the machine allows that.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.held_backend import HeldBackend, held_backend
from tests.faults.jobs.kills import jobs_config
from tests.faults.jobs.receiver import Receiver
from tests.faults.jobs.test_two_gateways import submit, wait_ended
from tests.integration.backend import PATIENCE_SECONDS, GatewayProcess, free_port, wait_until
from tests.integration.conftest import StartGateway

SECRET = "whsec_" + "A" * 32
TMPFS_MIB = 8
BALLAST_PIECE = 1 << 16


@pytest.fixture
def backend() -> Iterator[HeldBackend]:
    """A job stays running until the disk has failed."""
    with held_backend() as server:
        yield server


@contextmanager
def no_writes(gateway: GatewayProcess) -> Iterator[None]:
    """Every write of the gateway to a file fails until the block ends."""
    soft, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (soft, hard))


def queue_health(gateway: GatewayProcess) -> dict[str, object]:
    block = gateway.get("/health").json()["asyncQueue"]
    assert isinstance(block, dict)
    return block


def degraded(gateway: GatewayProcess) -> bool:
    return bool(queue_health(gateway)["degraded"])


def refused_a_state(gateway: GatewayProcess) -> bool:
    """Whether the disk has refused the state of a job that is decided already, and health says so."""
    block = queue_health(gateway)
    return block["pendingWrites"] == 1 and bool(block["storageFailing"]) and bool(block["degraded"])


def wait_status(gateway: GatewayProcess, job_id: str, status: str) -> None:
    wait_until(
        lambda: gateway.get(f"/v1/jobs/{job_id}").json()["status"] == status, PATIENCE_SECONDS, f"the job is {status}"
    )


def test_given_a_running_job_when_no_write_succeeds_any_more_then_it_is_not_lost_and_ends_when_they_do_again(
    start_gateway: StartGateway, tmp_path: Path, backend: HeldBackend
) -> None:
    gateway = start_gateway(
        {**jobs_config(tmp_path / "queue", free_port(), callbackTimeoutMs=30_000), "model": backend.model()}
    )
    job_id = submit(gateway, "caught in the middle")
    wait_status(gateway, job_id, "running")

    with no_writes(gateway):
        backend.may_answer.set()
        wait_until(lambda: refused_a_state(gateway), PATIENCE_SECONDS, "the outcome was refused")
        assert gateway.get(f"/v1/jobs/{job_id}").json()["status"] == "running", "what is not durable was shown"
        refused = gateway.post("/v1/jobs", {"input": "not now"})
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        assert gateway.post("/v1/infer", {"input": "needs no disk"}).status == 200

    record = wait_ended(gateway, job_id)
    assert (record["status"], record["attempts"]) == ("succeeded", 1), "the answer was there: it is not asked for again"
    wait_until(lambda: not degraded(gateway), PATIENCE_SECONDS, "health is well again")
    assert wait_ended(gateway, submit(gateway, "afterwards"))["status"] == "succeeded"
    assert [path.name for path in (tmp_path / "queue").rglob(".tmp-*")] == []


def test_given_a_queued_job_when_its_start_cannot_be_written_then_it_starts_later_and_no_attempt_is_lost(
    start_gateway: StartGateway, tmp_path: Path, backend: HeldBackend
) -> None:
    config = jobs_config(tmp_path / "queue", free_port(), dispatchConcurrency=1, maxAttempts=1)
    gateway = start_gateway({**config, "model": backend.model()})
    first, second = submit(gateway, "first"), submit(gateway, "second")
    wait_status(gateway, first, "running")

    with no_writes(gateway):
        backend.may_answer.set()
        wait_until(lambda: refused_a_state(gateway), PATIENCE_SECONDS, "the outcome was refused")

    for job_id in (first, second):
        record = wait_ended(gateway, job_id)
        assert (record["status"], record["attempts"]) == ("succeeded", 1)


def test_given_a_pending_callback_when_no_write_succeeds_then_it_is_delivered_once_when_they_do_again(
    start_gateway: StartGateway, tmp_path: Path, backend: HeldBackend
) -> None:
    with Receiver(SECRET, seed=1, refusals=0.0) as receiver:
        config = {**jobs_config(tmp_path / "queue", free_port(), callbackTimeoutMs=30_000), "model": backend.model()}
        gateway = start_gateway(config, {"RAY_WEBHOOK_SECRETS": SECRET})
        document = {"input": "call me", "cache": False, "callbackUrl": receiver.url("/hook/one")}
        job_id = str(gateway.post("/v1/jobs", document).json()["id"])
        wait_status(gateway, job_id, "running")

        with no_writes(gateway):
            backend.may_answer.set()
            wait_until(lambda: refused_a_state(gateway), PATIENCE_SECONDS, "the outcome was refused")
            assert receiver.deliveries == [], "a callback told what was not durable"

        wait_until(
            lambda: callback_status(gateway, job_id) == "delivered", PATIENCE_SECONDS, "the callback is delivered"
        )
        assert len(receiver.deliveries) == 1


def callback_status(gateway: GatewayProcess, job_id: str) -> object:
    callback = gateway.get(f"/v1/jobs/{job_id}").json()["callback"]
    assert isinstance(callback, dict)
    return callback["status"]


def own_file_system(storage: Path) -> tuple[str, ...]:
    """What to start Python with, so that it has a small file system of its own at `storage`; skips where that may not
    be. The mount ends with the process."""
    storage.mkdir(mode=0o700)
    mount = f'mount -t tmpfs -o size={TMPFS_MIB}m,mode=0700 tmpfs "{storage}"'
    for options in ("-m", "-Urm"):
        command = ("unshare", options, "sh", "-c", f'{mount} && exec "$@"', "sh")
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode == 0:
                return (*command, sys.executable)
        except OSError:
            break
    pytest.skip("this machine lets nobody mount a file system in a namespace of its own (unshare -Urm)")


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Not a byte is left on the file system of `directory` until the block ends."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        piece = BALLAST_PIECE
        while piece:
            try:
                file.write(b"x" * piece)
            except OSError:
                piece //= 2
    try:
        yield
    finally:
        ballast.unlink()


def test_given_a_real_file_system_when_it_is_full_then_nothing_is_lost_and_room_is_enough_to_go_on(
    tmp_path: Path, backend: HeldBackend
) -> None:
    storage = tmp_path / "small"
    config = {**jobs_config(storage, free_port()), "model": backend.model()}
    gateway = GatewayProcess(
        config, tmp_path, python=own_file_system(storage), environ={"PATH": "/usr/sbin:/usr/bin:/bin"}
    )
    try:
        gateway.start()
        job_id = submit(gateway, "caught in the middle")
        wait_status(gateway, job_id, "running")

        with filled(Path(f"/proc/{gateway.pid}/root{storage}")):
            backend.may_answer.set()
            wait_until(lambda: refused_a_state(gateway), PATIENCE_SECONDS, "the outcome was refused")
            wait_until(
                lambda: gateway.post("/v1/jobs", {"input": "no"}).status == 503,
                PATIENCE_SECONDS,
                "submissions are refused",
            )
            assert gateway.get(f"/v1/jobs/{job_id}").json()["status"] == "running"

        record = wait_ended(gateway, job_id)
        assert (record["status"], record["attempts"]) == ("succeeded", 1)
        wait_until(
            lambda: gateway.post("/v1/jobs", {"input": "yes"}).status == 202,
            PATIENCE_SECONDS,
            "submissions are taken again",
        )
    finally:
        gateway.stop()
