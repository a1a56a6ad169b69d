"""One candidate as real processes, with the mock model and with a fake `llama-server`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError, free_port, working_directory
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.workload_file import load_workload
from ray.bench.tune.rungs import Answers
from ray.bench.tune.search import BackendGone, TooSlow
from ray.bench.tune.space import Candidate, launch_profile_of
from ray.bench.tune.trial import Ground, Patience, backend_answers, begun_at, for_trial, require_launchable
from ray.config import Config, config_from_mapping
from tests.bench.tune_fakes import samples

ROOT = Path(__file__).parents[3]
MOCK = config_from_mapping({"profile": "tiny", "model": {"adapter": {"latencyMs": 5}}, "rateLimit": {"enabled": True}})


@pytest.fixture
def directory() -> Iterator[Path]:
    with working_directory() as path:
        yield path


def ground_in(directory: Path) -> Ground:
    return Ground(load_workload(None), 2, 30_000, True, None, sys.executable, os.environ, {}, directory)


def fake_config(directory: Path, script: str) -> Config:
    """A config whose llama-server is this shell script. The model file is only there to be looked at."""
    program, model = directory / "llama-server", directory / "model.gguf"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    model.write_bytes(b"GGUF")
    launch = {"binaryPath": str(program), "modelPath": str(model)}
    return config_from_mapping({"profile": "sub1b", "model": {"adapter": {"launchProfile": launch}}})


FAKE = f'PYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.bench.fake_llama_program "$@"'


def test_nothing_of_a_trial_depends_on_how_busy_the_machine_is() -> None:
    config = for_trial(config_from_mapping({"profile": "sub1b"}))
    assert not config.rate_limit.enabled
    assert not config.graceful_degradation.enabled
    assert not config.adaptive_tuning.enabled


@pytest.mark.parametrize(("first", "begins_with"), [(0, 0), (3, 3), (4, 0), (9, 1)])
def test_a_later_trial_goes_on_in_the_workload(first: int, begins_with: int) -> None:
    workload = load_workload(None)
    begun = begun_at(workload, first)
    assert begun.items[0] is workload.items[begins_with]
    assert sorted(map(id, begun.items)) == sorted(map(id, workload.items))


def test_a_gateway_is_asked_and_its_answers_know_their_places(directory: Path) -> None:
    answers = ground_in(directory).ask_gateway(Candidate("mock", MOCK), 3, 6, None)
    assert [(one.number, one.item, one.answered) for one in answers.samples] == [
        (6, 2, True),
        (7, 3, True),
        (8, 0, True),
    ]
    assert not any(one.cached for one in answers.samples)
    assert answers.wall_ms > 0


def test_a_gateway_that_takes_too_long_is_given_up(directory: Path) -> None:
    slow = config_from_mapping({"profile": "tiny", "model": {"adapter": {"latencyMs": 60_000}}})
    with pytest.raises(TooSlow, match=r"given up after 0\.2 s"):
        ground_in(directory).ask_gateway(Candidate("slow", slow), 2, 0, 0.2)


def test_a_launched_server_is_asked_through_its_own_gateway(directory: Path) -> None:
    config = fake_config(directory, FAKE)
    answers = ground_in(directory).ask_all(Candidate("fake", config), 2, 0, None)
    assert [one.code for one in answers.samples] == [None, None]


def test_a_server_that_does_not_start_is_told_with_its_code_and_words(directory: Path) -> None:
    config = fake_config(directory, "echo 'error: no such model' >&2; exit 42")
    with pytest.raises(MeasurementError, match=r"(?s)exit code 42.*error: no such model"):
        ground_in(directory).ask_all(Candidate("broken", config), 2, 0, None)


def test_a_kept_server_serves_several_gateways_and_is_started_again_when_it_ended(directory: Path) -> None:
    config = fake_config(directory, FAKE)
    with ground_in(directory).backend(config) as backend:
        first = backend.port
        backend.ask(Candidate("one", config), 1, 0, None)
        backend.ask(Candidate("two", config), 1, 0, None)
        assert backend.port == first
        assert backend.server is not None
        backend.server.stop()
        answers = backend.ask(Candidate("three", config), 1, 0, None)
        assert [one.code for one in answers.samples] == [None]
        assert backend.port != first
        last = backend.port
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", last)):
        pass


def test_who_needs_much_longer_to_start_than_those_before_is_not_waited_for() -> None:
    patience = Patience(300)
    assert patience.limit_s == 300
    patience.took(2)
    patience.took(10)
    patience.took(1)
    assert patience.limit_s == 50
    patience.took(200)
    assert patience.limit_s == 300


def test_a_server_that_hangs_while_it_loads_is_given_up(directory: Path) -> None:
    ground = ground_in(directory)
    ground.backend_patience.most_s = 0.2
    with pytest.raises(MeasurementError, match="llama-server's /health was not there after 0 s"):
        ground.ask_all(Candidate("hanging", fake_config(directory, "exec sleep 1000")), 2, 0, None)


def test_what_a_server_has_stored_goes_with_it(directory: Path) -> None:
    config = fake_config(directory, FAKE)
    with ground_in(directory).backend(config) as backend:
        first = Path(backend.store)
        (first / "prefix.bin").write_bytes(b"large")
        assert backend.server is not None
        backend.server.stop()
        backend.ask(Candidate("again", config), 1, 0, None)
        assert not first.exists()
        last = Path(backend.store)
        assert last.is_dir()
    assert not last.exists()


def test_a_full_disk_is_a_trial_that_failed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    ground, config = ground_in(directory), fake_config(directory, FAKE)
    monkeypatch.setattr("ray.bench.run.gateway_under_test.Path.write_text", full)
    with pytest.raises(MeasurementError, match="No space left on device"):
        ground.ask_gateway(Candidate("mock", MOCK), 1, 0, None)
    monkeypatch.setattr("ray.bench.tune.trial.tempfile.TemporaryDirectory", full)
    with pytest.raises(MeasurementError, match="No space left on device"):
        ground.ask_all(Candidate("fake", config), 1, 0, None)


def test_starts_that_were_ready_are_timed(directory: Path) -> None:
    ground = ground_in(directory)
    ground.ask_all(Candidate("fake", fake_config(directory, FAKE)), 1, 0, None)
    assert ground.backend_patience.limit_s < 300
    assert ground.gateway_patience.limit_s < 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"binaryPath": "/nowhere/llama-server"}, "binaryPath: /nowhere/llama-server is no program"),
        ({"modelPath": "/nowhere/model.gguf"}, "modelPath: /nowhere/model.gguf is no file"),
    ],
)
def test_program_and_model_are_looked_at_before_anything_starts(
    directory: Path, change: dict[str, str], told: str
) -> None:
    config = fake_config(directory, FAKE)
    require_launchable(config)
    launch = launch_profile_of(config)
    assert launch is not None
    profile = {"binaryPath": launch.binary_path, "modelPath": launch.model_path, **change}
    changed = config_from_mapping({"profile": "sub1b", "model": {"adapter": {"launchProfile": profile}}})
    with pytest.raises(MeasurementError, match=told):
        require_launchable(changed)


def test_a_program_that_may_not_be_run_is_refused(directory: Path) -> None:
    config = fake_config(directory, FAKE)
    (directory / "llama-server").chmod(0o644)
    with pytest.raises(MeasurementError, match="no program that this user may run"):
        require_launchable(config)


def test_a_running_backend_that_goes_away_is_no_fault_of_the_candidate(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    config = config_from_mapping({"profile": "vps", "model": {"adapter": {"baseUrl": url}}})
    ground = ground_in(directory)

    def not_ready(*_: object) -> Answers:
        raise MeasurementError("not ready")

    def unanswered(*_: object) -> Answers:
        return Answers(samples(2, 10, failed=2), 20, ProviderTally(), 0.02)

    for outcome in (not_ready, unanswered):
        monkeypatch.setattr(Ground, "ask_gateway", outcome)
        with pytest.raises(BackendGone, match="does not answer any more: no"):
            ground.ask_before_running(Candidate("any", config), 2, 0, None)
    monkeypatch.setattr(Ground, "ask_gateway", not_ready)
    with pytest.raises(MeasurementError, match=r"^not ready$"):
        ground.ask_before_running(Candidate("mock", MOCK), 2, 0, None)


def test_whether_the_backend_of_a_config_is_there() -> None:
    def at(port: int) -> Config:
        return config_from_mapping({"profile": "vps", "model": {"adapter": {"baseUrl": f"http://127.0.0.1:{port}"}}})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert backend_answers(at(listener.getsockname()[1]))
    assert not backend_answers(at(free_port()))
    assert backend_answers(MOCK)
