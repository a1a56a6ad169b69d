"""What the gateway under test is given: a clean copy, a mock configuration, and readings of its gauges."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ray.bench.processes.gateway_process import Workplace, gauge, infer_request, mock_config, wait_for
from ray.bench.processes.load import Reply
from ray.bench.processes.process import MeasurementError, ServerProcess
from tests.bench.polling import until


def test_the_workplace_holds_a_copy_of_the_package_without_bytecode(tmp_path: Path) -> None:
    Workplace.prepare(tmp_path, sys.executable)
    assert (tmp_path / "ray" / "errors.py").is_file()
    assert list(tmp_path.rglob("*.pyc")) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["ray"]


def test_a_started_gateway_gets_its_port_from_its_config_file(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path, "/bin/echo")
    with workplace.start("one", {"profile": "tiny"}, 45_678) as server:
        until(lambda: server.log_tail() != "")
    assert json.loads((tmp_path / "one.json").read_text()) == {
        "profile": "tiny",
        "server": {"host": "127.0.0.1", "port": 45_678},
    }
    assert (tmp_path / "one.log").read_text().split() == ["-S", "-m", "ray", "--config", str(tmp_path / "one.json")]


def test_the_mock_config_switches_off_what_would_refuse_a_load_test() -> None:
    config = mock_config(latency_ms=3, concurrency=4)
    assert config["rateLimit"] == {"enabled": False}
    assert config["auth"] == {"enabled": False}
    assert config["model"] == {"adapter": {"kind": "mock", "latencyMs": 3}}


def test_an_infer_request_carries_its_fields_as_compact_json() -> None:
    body = json.loads(infer_request("hello", cache=False, stream=True).split(b"\r\n\r\n", 1)[1])
    assert body == {"input": "hello", "maxTokens": 16, "cache": False, "stream": True}


def _metrics(body: str, status: int = 200) -> Reply:
    return Reply(status, body.encode(), closes=False)


def test_a_gauge_is_read_from_the_json_metrics() -> None:
    assert gauge(_metrics('{"counters":{},"gauges":{"inference.in_flight":2}}'), "inference.in_flight") == 2


@pytest.mark.parametrize("body", ['{"gauges":{}}', "{}", '{"gauges":{"inference.in_flight":null}}'])
def test_a_missing_gauge_is_a_failed_measurement_not_zero(body: str) -> None:
    with pytest.raises(MeasurementError, match=r"no gauge inference\.in_flight"):
        gauge(_metrics(body), "inference.in_flight")


def test_metrics_that_answer_an_error_are_a_failed_measurement() -> None:
    with pytest.raises(MeasurementError, match="401"):
        gauge(_metrics("{}", status=401), "inference.in_flight")


def test_waiting_gives_up_with_the_log_of_the_process(tmp_path: Path) -> None:
    script = "print('still loading', flush=True)\nimport signal\nsignal.pause()"
    command = [sys.executable, "-S", "-c", script]
    with ServerProcess(command, cwd=tmp_path, environ={}, log=tmp_path / "log") as server:
        wait_for(server, "a word", lambda: "still loading" in server.log_tail(), 30)
        with pytest.raises(MeasurementError, match=r"(?s)the answer was not there after 0 s.*still loading"):
            wait_for(server, "the answer", lambda: False, 0)


def test_waiting_ends_at_once_when_the_process_does(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import sys; sys.exit('port in use')"]
    with (
        ServerProcess(command, cwd=tmp_path, environ={}, log=tmp_path / "log") as server,
        pytest.raises(MeasurementError, match="port in use"),
    ):
        wait_for(server, "the answer", lambda: False, 30)
