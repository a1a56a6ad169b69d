"""A gateway as a process: what it says when it boots, fails to boot, and is told to end."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.gateway import report_boot_failure
from ray.gateway.lifecycle import report_loop_failure
from ray.telemetry import Logger
from tests.integration.backend import (
    AT_ONCE_SECONDS,
    PATIENCE_SECONDS,
    ROOT,
    GatewayProcess,
    ask,
    free_port,
    wait_until,
)

Start = Callable[[Mapping[str, object]], GatewayProcess]

HELD: dict[str, object] = {
    "profile": "tiny",
    "model": {"adapter": {"kind": "mock", "latencyMs": 60_000}},
    "scheduler": {"requestTimeoutMs": 120_000},
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[GatewayProcess] = []

    def started_with(config: Mapping[str, object]) -> GatewayProcess:
        process = GatewayProcess(config, tmp_path)
        started.append(process)
        process.start()
        return process

    yield started_with
    for process in started:
        process.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_given_an_idle_gateway_when_told_to_end_then_it_says_so_and_exits_with_0(
    start: Start, number: signal.Signals
) -> None:
    gateway = start({"profile": "tiny"})
    gateway.signal(number)
    assert gateway.wait_exit() == 0
    listening, ending = gateway.log()
    assert listening["message"] == "gateway listening"
    assert {"ts", "service", "level", "event"} <= listening.keys()
    shown = {key: listening[key] for key in ("host", "port", "profile", "model", "configPath")}
    assert shown == {
        "host": "127.0.0.1",
        "port": gateway.port,
        "profile": "tiny",
        "model": "tiny-dev",
        "configPath": str(gateway.config_path),
    }
    assert (ending["message"], ending["signal"], ending["timeoutMs"]) == ("gateway shutting down", number.name, 30_000)


def test_given_a_full_log_disk_when_run_then_it_serves_and_exits_with_0(tmp_path: Path) -> None:
    config = tmp_path / "ray.json"
    port = free_port()
    config.write_text(json.dumps({"profile": "tiny", "server": {"port": port}}))
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray", "--config", str(config)],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={},
        )
    try:

        def serves() -> bool:
            with suppress(OSError):
                return ask(port, "GET", "/livez").status == 200
            return False

        wait_until(serves, PATIENCE_SECONDS, "it answers")
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert (process.returncode, stderr) == (0, b"")


def test_given_a_stuck_answer_when_a_second_signal_comes_then_it_ends_at_once_with_0(start: Start) -> None:
    gateway = start(HELD)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_SECONDS) as client:
        body = b'{"input":"hello"}'
        head = b"POST /v1/infer HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        client.sendall(head % len(body) + body)

        def in_flight() -> bool:
            return gateway.get("/readyz").json()["inFlight"] == 1

        wait_until(in_flight, PATIENCE_SECONDS, "the answer is being made")
        gateway.signal(signal.SIGTERM)
        gateway.wait_logged("gateway shutting down")
        assert gateway.running(), "the running answer is waited for"
        gateway.signal(signal.SIGTERM)
        assert gateway.wait_exit(AT_ONCE_SECONDS) == 0
        assert not [entry for entry in gateway.log() if entry["level"] == "error"]


def queue_in(directory: Path) -> dict[str, object]:
    """A config with durable jobs."""
    return {"profile": "tiny", "asyncQueue": {"enabled": True, "storageDir": str(directory), "minFreeStorageMiB": 1}}


def test_given_a_job_queue_when_booted_and_ended_then_it_leaves_a_directory_nobody_else_can_read(
    start: Start, tmp_path: Path
) -> None:
    gateway = start(queue_in(tmp_path / "deep" / "store"))
    block = gateway.get("/health").json()["asyncQueue"]
    assert isinstance(block, dict)
    assert block["totalJobs"] == 0
    gateway.signal(signal.SIGTERM)
    assert gateway.wait_exit() == 0
    for directory in (tmp_path / "deep", tmp_path / "deep" / "store", tmp_path / "deep" / "store" / "jobs"):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_given_a_job_under_way_when_a_second_signal_comes_then_it_ends_at_once_and_the_job_is_queued_again(
    start: Start, tmp_path: Path
) -> None:
    gateway = start({**queue_in(tmp_path / "store"), **HELD})
    job_id = gateway.post("/v1/jobs", {"input": "hello"}).json()["id"]
    record = tmp_path / "store" / "jobs" / f"{job_id}.json"
    gateway.wait_logged("job started")
    gateway.signal(signal.SIGTERM)
    gateway.wait_logged("gateway shutting down")
    assert gateway.running(), "the running job is waited for"
    gateway.signal(signal.SIGTERM)
    assert gateway.wait_exit(AT_ONCE_SECONDS) == 0
    kept = json.loads(record.read_text())
    assert (kept["status"], kept["attempts"]) == ("queued", 0)
    assert not [entry for entry in gateway.log() if entry["level"] == "error"]


def test_given_two_gateways_on_one_job_store_when_the_second_boots_then_it_says_so_and_ends(
    start: Start, tmp_path: Path
) -> None:
    first = start(queue_in(tmp_path / "store"))
    config = tmp_path / "second.json"
    port = free_port()
    config.write_text(json.dumps({**queue_in(tmp_path / "store"), "server": {"port": port}}))
    ended = run(config)
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "async_queue_locked"
    assert str(tmp_path / "store") in error["message"]
    assert "stack" not in error
    assert first.get("/livez").status == 200


@pytest.mark.parametrize(
    "secrets", ["plain-text-secret", "whsec_c2hvcnQ=", "whsec_!!!", ",".join(["whsec_" + "QUJD" * 10] * 5)]
)
def test_given_malformed_webhook_secrets_when_booted_then_the_line_names_the_variable_and_no_secret(
    tmp_path: Path, secrets: str
) -> None:
    config = tmp_path / "ray.json"
    config.write_text(json.dumps(queue_in(tmp_path / "store")))
    ended = run(config, {"RAY_WEBHOOK_SECRETS": secrets})
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "config_validation_error"
    assert "RAY_WEBHOOK_SECRETS" in error["message"]
    assert "stack" not in error
    assert not [entry for entry in secrets.split(",") if entry in ended.stderr]
    assert not (tmp_path / "store").exists()


def test_given_a_job_store_that_is_a_file_when_booted_then_the_line_names_it(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    config = tmp_path / "ray.json"
    config.write_text(json.dumps(queue_in(tmp_path / "store")))
    ended = run(config)
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "async_queue_storage_error"
    assert str(tmp_path / "store") in error["message"]
    assert "stack" not in error
    assert (tmp_path / "store").read_text() == "mine"


def test_given_a_record_of_a_newer_version_when_booted_then_it_is_left_and_the_line_says_why(tmp_path: Path) -> None:
    jobs = tmp_path / "store" / "jobs"
    for directory in (jobs.parent, jobs):
        directory.mkdir(mode=0o700)
    record = jobs / "job_1.json"
    record.write_text('{"v": 2, "id": "job_1"}')
    record.chmod(0o600)
    config = tmp_path / "ray.json"
    config.write_text(json.dumps(queue_in(tmp_path / "store")))
    ended = run(config)
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "async_queue_storage_error"
    assert "job_1.json" in error["message"]
    assert "newer" in error["message"]
    assert record.read_text() == '{"v": 2, "id": "job_1"}'


def test_given_no_queue_when_everything_is_imported_then_the_code_for_jobs_is_not(tmp_path: Path) -> None:
    program = (
        "import sys, ray.cli\n"
        "from ray.config import config_from_mapping\n"
        "from ray.gateway import Gateway\n"
        "from ray.telemetry import Logger, Metrics\n"
        "Gateway(config_from_mapping({'profile': 'tiny'}), environ={}, logger=Logger('x', 'info'), metrics=Metrics())\n"
        "print([name for name in sys.modules if name.startswith('ray.jobs')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def run(config: Path, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command, which is expected to end by itself."""
    command = [sys.executable, "-m", "ray", "--config", str(config)]
    return subprocess.run(
        command, cwd=ROOT, env=dict(environ or {}), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@pytest.mark.parametrize(
    ("document", "code", "named"),
    [
        ("{", "config_parse_error", "ray.json"),
        ('{"profile":"tiny","schedular":{}}', "config_validation_error", "schedular"),
        ('{"profile":"tiny","auth":{"enabled":true}}', "config_validation_error", "RAY_API_KEYS"),
    ],
)
def test_given_an_operators_mistake_when_booted_then_one_line_names_it_without_a_stack(
    tmp_path: Path, document: str, code: str, named: str
) -> None:
    config = tmp_path / "ray.json"
    config.write_text(document)
    ended = run(config)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = (json.loads(line) for line in ended.stderr.splitlines())
    assert set(line) == {"ts", "level", "message", "error"}
    assert (line["level"], line["message"]) == ("error", "gateway boot failed")
    assert set(line["error"]) == {"message", "name", "code"}
    assert (line["error"]["code"], line["error"]["name"]) == (code, "RayError")
    assert named in line["error"]["message"]


def test_given_a_taken_port_when_booted_then_the_line_names_the_address_and_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "ray.json"
        config.write_text(json.dumps({"profile": "tiny", "server": {"port": port}}))
        ended = run(config)
    assert (ended.returncode, ended.stdout) == (1, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "listen_failed"
    assert f"127.0.0.1:{port}" in error["message"]
    assert "server.port" in error["message"]
    assert "stack" not in error


def test_an_unforeseen_boot_failure_is_one_line_with_its_stack() -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    stderr = io.StringIO()
    try:
        broken()
    except ZeroDivisionError as error:
        report_boot_failure(error, stderr)
    (text,) = stderr.getvalue().splitlines()
    error_shown = json.loads(text)["error"]
    assert (error_shown["name"], error_shown["message"]) == ("ZeroDivisionError", "division by zero")
    assert "in broken" in error_shown["stack"]


def test_a_boot_failure_never_shows_more_than_a_bounded_message() -> None:
    stderr = io.StringIO()
    report_boot_failure(RayError("listen_failed", "x" * 100_000), stderr)
    assert len(json.loads(stderr.getvalue())["error"]["message"]) <= 8_192


def test_what_no_task_awaits_is_logged_as_json() -> None:
    log = io.StringIO()
    logger = Logger("ray-test", "info", stdout=log, stderr=log)
    loop = asyncio.new_event_loop()
    try:
        report_loop_failure(logger, loop, {"message": "callback failed", "exception": ZeroDivisionError("oops")})
    finally:
        loop.close()
    line = json.loads(log.getvalue())
    assert (line["level"], line["message"], line["reason"]) == ("error", "internal error", "callback failed")
    assert line["error"]["name"] == "ZeroDivisionError"
