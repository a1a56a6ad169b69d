"""`gateway-smoke`: four modes against a real gateway, and the faults that have to be noticed."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ray.config import Config
from ray.deploy import gateway_smoke
from ray.deploy.gateway_smoke import Trial, protected_routes, trial_config
from ray.deploy.gateway_smoke_jobs import AT_REST, FIXED, SHOWN, disagreement, in_health
from ray.deploy.gateway_smoke_probe import MAX_BODY_BYTES, Probe, SmokeFailed
from tests.deploy.support import EXAMPLES, ROOT, run
from tests.integration.backend import free_port

# Neither may be seen by the gateway under test.
HOSTILE = {"RAY_API_KEYS": "leaked", "RAY_PORT": "not-a-number", "RAY_AUTH_ENABLED": "true"}


def smoke(*arguments: str) -> tuple[int, dict[str, object]]:
    status, text = run("gateway-smoke", "--cwd", str(ROOT), "--json", *arguments, environ=HOSTILE)
    return status, json.loads(text)


def part(document: object, name: str) -> dict[str, object]:
    assert isinstance(document, dict)
    block = document[name]
    assert isinstance(block, dict)
    return block


def test_given_no_options_when_run_then_the_smallest_example_lives_is_ready_and_answers() -> None:
    status, summary = smoke()

    assert status == 0
    assert summary["ok"] is True
    assert summary["mode"] == "basic"
    assert summary["configPath"] == "examples/config/ray.tiny.json"
    assert (summary["livezStatus"], summary["readyzStatus"], summary["inferStatus"]) == (200, 200, 200)
    assert summary["outputChars"]
    assert summary["baseUrl"] == f"http://127.0.0.1:{summary['port']}"


def test_given_public_safety_when_run_then_every_protected_route_refused_strangers_and_the_limit_held() -> None:
    status, summary = smoke("--public-safety")

    safety = part(summary, "publicSafety")
    assert (status, summary["mode"]) == (0, "public-safety")
    assert (safety["livezUnauthStatus"], safety["readyzUnauthStatus"]) == (200, 200)
    named = {f"{method} {path}" for method, path in protected_routes()}
    for asked in ("protectedMissingStatuses", "protectedInvalidStatuses"):
        statuses = part(safety, asked)
        assert set(statuses) == named
        assert set(statuses.values()) == {401}
    assert part(safety, "protectedValidStatuses") == {"/health": 200, "/metrics": 200, "/v1/config": 200}
    assert safety["rateLimitStatus"] == 429


def test_the_protected_routes_are_those_an_operator_would_name() -> None:
    assert {
        ("POST", "/v1/infer"),
        ("POST", "/v1/jobs"),
        ("GET", "/v1/jobs/job_missing"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/v1/config"),
        ("POST", "/v1/chat/completions"),
    } <= set(protected_routes())


@pytest.mark.parametrize("guards", [(), ("--public-safety",)])
def test_given_async_queue_when_run_then_a_job_was_accepted_done_and_seen_in_health_and_metrics(
    guards: tuple[str, ...],
) -> None:
    status, summary = smoke("--async-queue", *guards)

    jobs = part(summary, "asyncQueue")
    assert (status, summary["mode"]) == (0, "public-async-queue" if guards else "async-queue")
    assert (summary["inferStatus"], jobs["createStatus"], jobs["finalStatus"]) == (202, 202, "succeeded")
    assert jobs["location"] == f"/v1/jobs/{jobs['jobId']}"
    assert jobs["outputChars"]
    assert part(jobs, "observability")["totalJobs"] == 1
    assert jobs.get("auth") == ({"missingStatus": 401, "invalidStatus": 401} if guards else None)


def test_given_no_json_when_run_then_a_person_reads_what_was_asked() -> None:
    status, text = run("gateway-smoke", "--cwd", str(ROOT), "--public-safety", "--async-queue")

    assert status == 0
    assert text.endswith("Gateway smoke passed.\n")
    assert "POST /v1/jobs" in text


def test_given_a_copied_directory_and_a_bare_python_when_run_then_it_works_as_well(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ray", tmp_path / "ray", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ray.json").write_text('{"profile": "tiny"}')

    done = subprocess.run(
        [sys.executable, "-S", "-m", "ray.deploy", "gateway-smoke", "--config=ray.json", "--public-safety"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Gateway smoke passed.\n")
    assert {path.name for path in tmp_path.iterdir()} == {"ray", "ray.json"}


def test_given_a_port_when_run_then_the_gateway_listens_there_and_lets_go_of_it() -> None:
    port = free_port()

    for _ in range(2):
        status, summary = smoke("--port", str(port))
        assert (status, summary["port"]) == (0, port)


def test_given_a_port_that_is_taken_when_run_then_the_failure_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, summary = smoke("--port", str(taken.getsockname()[1]))

    assert status == 1
    assert part(summary, "error")["code"] == "listen_failed"


def test_given_a_backend_that_is_not_there_when_run_then_the_failure_names_it(tmp_path: Path) -> None:
    port = free_port()
    adapter = {"kind": "openai-compatible", "baseUrl": f"http://127.0.0.1:{port}"}
    (tmp_path / "ray.json").write_text(json.dumps({"profile": "vps", "model": {"adapter": adapter}}))

    status, summary = smoke("--cwd", str(tmp_path), "--config", "ray.json", "--timeout-ms", "150")

    assert status == 1
    assert "model.adapter.baseUrl" in str(part(summary, "error")["message"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "/etc/ray/ray.json"),
        ("--config", "../ray.json"),
        ("--config", " ray.json"),
        ("--host", "0.0.0.0"),
        ("--host", "192.0.2.1"),
        ("--host", "[::1]"),
        ("--host", "ray.example.com"),
        ("--host", ""),
        ("--port", "0"),
        ("--port", "65536"),
        ("--port", "x"),
        ("--timeout-ms", "0"),
        ("--timeout-ms", "120001"),
        ("--unknown",),
        ("word",),
    ],
)
def test_given_an_option_that_cannot_be_meant_when_run_then_it_is_wrong_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = run("gateway-smoke", "--cwd", str(ROOT), *arguments)

    assert (status, text) == (2, "")
    assert arguments[0] in capsys.readouterr().err


def test_given_a_config_that_is_a_link_out_of_the_directory_when_run_then_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ray.json").symlink_to(EXAMPLES / "ray.tiny.json")

    assert run("gateway-smoke", "--cwd", str(tmp_path), "--config", "ray.json")[0] == 2


def public_config() -> Config:
    from ray.config import load_config

    return load_config(str(EXAMPLES / "ray.sub1b.public.json"), {}, str(ROOT)).config


@pytest.mark.parametrize("public_safety", [False, True])
@pytest.mark.parametrize("async_queue", [False, True])
def test_given_the_config_of_an_installation_when_tried_then_its_jobs_keys_and_store_are_left_alone(
    public_safety: bool, async_queue: bool, tmp_path: Path
) -> None:
    config = public_config()
    config = replace(config, prefix_store=replace(config.prefix_store, enabled=True))
    trial = Trial(
        config_path="ray.json",
        host="::1",
        port=0,
        timeout_ms=1,
        public_safety=public_safety,
        async_queue=async_queue,
    )

    tried = trial_config(config, trial, str(tmp_path))

    assert tried.async_queue.enabled is async_queue
    assert not async_queue or tried.async_queue.storage_dir == str(tmp_path)
    assert (tried.auth.enabled, tried.rate_limit.enabled) == (public_safety, public_safety)
    assert tried.prefix_store.enabled is False
    assert tried.server.host == "::1"
    assert tried.model == config.model


@pytest.mark.parametrize(
    ("section", "change", "complaint"),
    [
        ("auth", {"enabled": False}, "answered 200 instead of 401"),
        ("rate_limit", {"enabled": False}, "answered 200 instead of 429"),
        ("rate_limit", {"max_requests": 2}, "answered 200 instead of 429"),
    ],
)
def test_given_a_gateway_that_lets_strangers_in_when_run_then_the_smoke_fails(
    section: str, change: dict[str, object], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weaker(config: Config, trial: Trial, directory: str) -> Config:
        tried = trial_config(config, trial, directory)
        return replace(tried, **{section: replace(getattr(tried, section), **change)})

    monkeypatch.setattr(gateway_smoke, "trial_config", weaker)

    status, summary = smoke("--public-safety")

    assert status == 1
    error = part(summary, "error")
    assert error["code"] == "gateway_smoke_failed"
    assert complaint in str(error["message"])


def figures(**changes: float) -> tuple[dict[str, object], dict[str, object]]:
    """Health and gauges that agree, with these changes to the gauges."""
    told: dict[str, float] = {**dict.fromkeys(SHOWN, 3), **dict.fromkeys(AT_REST, 0), **FIXED}
    gauges = {f"async_queue.{name}": value for name, value in {**told, **changes}.items()}
    return {in_health(name): value for name, value in told.items()}, dict(gauges)


def test_given_figures_that_agree_when_compared_then_nothing_is_said() -> None:
    assert disagreement(*figures()) is None


@pytest.mark.parametrize("name", [*SHOWN, *AT_REST])
def test_given_one_figure_that_differs_when_compared_then_it_is_named(name: str) -> None:
    health, gauges = figures(**{name: 99})

    assert name in str(disagreement(health, gauges))
    del gauges[f"async_queue.{name}"]
    assert f"/metrics has no figure for {name}" in str(disagreement(health, gauges))
    del health[in_health(name)]
    assert f"/health has no figure for {name}" in str(disagreement(health, gauges))


def test_given_no_job_when_compared_then_that_is_the_fault() -> None:
    health, gauges = figures(total_jobs=0)

    assert disagreement({**health, "totalJobs": 0}, gauges) == "the async queue counts no job"


class Redirecting(BaseHTTPRequestHandler):
    """Answers by path, and notes what reached it."""

    seen: list[tuple[str, str | None]] = []  # noqa: RUF012 - shared on purpose: a handler is made per request

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("authorization")))
        status, body = {
            "/moved": (307, b"{}"),
            "/large": (200, b" " * (MAX_BODY_BYTES + 1)),
            "/text": (200, b"hello"),
            "/list": (200, b"[]"),
        }[self.path]
        self.send_response(status)
        if status == 307:
            self.send_header("location", "/elsewhere")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def redirecting() -> Iterator[str]:
    Redirecting.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/moved", "GET /moved answered 307 instead of 200"),
        ("/text", "not a JSON object"),
        ("/list", "not a JSON object"),
        ("/large", "GET /large: "),
    ],
)
def test_given_an_answer_that_is_none_when_asked_then_it_is_refused_and_the_key_is_sent_once(
    path: str, complaint: str
) -> None:
    async def ask(base_url: str) -> None:
        async with Probe(base_url, 5_000) as probe:
            (await probe.ask("GET", path, key="a-key")).expect(200)

    with redirecting() as base_url, pytest.raises(SmokeFailed) as caught:
        asyncio.run(ask(base_url))

    assert complaint in str(caught.value)
    assert "a-key" not in str(caught.value)
    assert Redirecting.seen == [(path, "Bearer a-key")]
