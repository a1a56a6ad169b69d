"""Does a gateway with this config start, become ready, answer, and keep strangers out? A real one is asked.

It runs in this process and is asked over a loopback socket. What belongs to a running installation is left alone: keys,
request limits and the directory of durable jobs are those of the test, and the prefix store stays off.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from dataclasses import dataclass, replace

from ray.clock import Deadline
from ray.config import Config
from ray.deploy.gateway_smoke_jobs import run_one_job, small_queue
from ray.deploy.gateway_smoke_probe import Answer, Probe, SmokeFailed, text_in
from ray.gateway import Gateway, all_routes
from ray.telemetry import Logger, Metrics

KEY_VARIABLE = "RAY_API_KEYS"
STOP_MS = 1_000
READY_POLL_SECONDS = 0.05
READY_CALL_MS = 1_000
WINDOW_MS = 60_000
# With jobs and keys every poll for a job takes from the budget.
JOBS_REQUESTS = 64
QUESTION = {"input": "Say hello to the operator of this gateway.", "maxTokens": 16}
ANSWERED_WITH_KEY = ("/health", "/metrics", "/v1/config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried. `port`: 0 lets the system choose. `timeout_ms`: for each question, and for each wait."""

    config_path: str
    host: str
    port: int
    timeout_ms: int
    public_safety: bool
    async_queue: bool

    @property
    def mode(self) -> str:
        if self.async_queue:
            return "public-async-queue" if self.public_safety else "async-queue"
        return "public-safety" if self.public_safety else "basic"


def run_trial(config: Config, trial: Trial) -> dict[str, object]:
    """Start, ask, stop; the summary. Raises `SmokeFailed`, and RayError when the gateway cannot be started."""
    with (
        open(os.devnull, "w", encoding="utf-8") as silence,
        tempfile.TemporaryDirectory(prefix="ray-gateway-smoke-") as directory,
    ):
        logger = Logger("ray-gateway-smoke", "error", silence, silence)
        return asyncio.run(_live(trial_config(config, trial, directory), trial, logger))


async def _live(config: Config, trial: Trial, logger: Logger) -> dict[str, object]:
    """The life of one gateway: whatever happens it is stopped at the end."""
    key = secrets.token_urlsafe(24)
    gateway = Gateway(config, environ={KEY_VARIABLE: key}, logger=logger, metrics=Metrics())
    try:
        await gateway.start(trial.port)
        base_url = _base_url(trial.host, gateway.port)
        async with Probe(base_url, trial.timeout_ms) as probe:
            seen = await _ask_all(probe, trial, key if trial.public_safety else None)
    finally:
        await gateway.stop(STOP_MS)
    return {
        "ok": True,
        "mode": trial.mode,
        "configPath": trial.config_path,
        "profile": config.profile,
        "modelId": config.model.id,
        "host": trial.host,
        "port": gateway.port,
        "baseUrl": base_url,
        **seen,
    }


def trial_config(config: Config, trial: Trial, directory: str) -> Config:
    """The config with the guards and the job store of the test instead of its own."""
    requests = JOBS_REQUESTS if trial.async_queue else 1
    queue = config.async_queue
    return replace(
        config,
        server=replace(config.server, host=trial.host),
        auth=replace(config.auth, enabled=trial.public_safety, api_key_env=KEY_VARIABLE),
        rate_limit=replace(
            config.rate_limit,
            enabled=trial.public_safety,
            window_ms=WINDOW_MS,
            max_requests=requests,
            key_strategy="api-key",
            trust_proxy_headers=False,
        ),
        async_queue=small_queue(queue, directory) if trial.async_queue else replace(queue, enabled=False),
        prefix_store=replace(config.prefix_store, enabled=False),
    )


async def _ask_all(probe: Probe, trial: Trial, key: str | None) -> dict[str, object]:
    livez = await probe.ask("GET", "/livez")
    livez.expect(200)
    readyz = await _until_ready(probe)
    seen: dict[str, object] = {"livezStatus": livez.status, "readyzStatus": readyz.status}
    if trial.async_queue:
        refused = {} if key is None else {"auth": await _refused_jobs(probe)}
        jobs = await run_one_job(probe, key)
        return {
            **seen,
            "inferStatus": jobs["createStatus"],
            "outputChars": jobs["outputChars"],
            "asyncQueue": {**jobs, **refused},
        }
    if key is None:
        infer, output = await _infer(probe, None)
        return {**seen, "inferStatus": infer.status, "outputChars": len(output)}
    return {**seen, **await _public_safety(probe, key, livez.status, readyz.status)}


async def _until_ready(probe: Probe) -> Answer:
    deadline = Deadline.after_ms(probe.timeout_ms)
    while True:
        answer = await probe.ask("GET", "/readyz", timeout_ms=min(READY_CALL_MS, probe.timeout_ms))
        if answer.status == 200:
            return answer
        if deadline.expired():
            raise SmokeFailed(
                f"GET /readyz still answers {answer.status} after {probe.timeout_ms} ms: is the backend running, "
                "and at the address of model.adapter.baseUrl? A model that loads slowly needs a larger --timeout-ms"
            )
        await asyncio.sleep(READY_POLL_SECONDS)


async def _infer(probe: Probe, key: str | None) -> tuple[Answer, str]:
    answer = await probe.ask("POST", "/v1/infer", QUESTION, key=key)
    return answer, text_in(answer.expect(200), "output", answer.asked)


async def _public_safety(probe: Probe, key: str, livez: int, readyz: int) -> dict[str, object]:
    """Strangers get nothing and cost nothing; the key opens everything, as often as its budget says: once."""
    missing = await _refusals(probe, None)
    invalid = await _refusals(probe, _wrong_key())
    valid = {}
    for path in ANSWERED_WITH_KEY:
        answer = await probe.ask("GET", path, key=key)
        answer.expect(200)
        valid[path] = answer.status
    infer, output = await _infer(probe, key)
    again = await probe.ask("POST", "/v1/infer", QUESTION, key=key)
    again.expect(429)
    return {
        "inferStatus": infer.status,
        "outputChars": len(output),
        "publicSafety": {
            "livezUnauthStatus": livez,
            "readyzUnauthStatus": readyz,
            "protectedMissingStatuses": missing,
            "protectedInvalidStatuses": invalid,
            "protectedValidStatuses": valid,
            "rateLimitStatus": again.status,
        },
    }


async def _refusals(probe: Probe, key: str | None) -> dict[str, int]:
    """The status of every protected route for who has no key or this wrong one. Raises `SmokeFailed` unless 401."""
    statuses = {}
    for method, path in protected_routes():
        answer = await probe.ask(method, path, QUESTION if method == "POST" else None, key=key)
        answer.expect(401)
        statuses[answer.asked] = answer.status
    return statuses


def protected_routes() -> list[tuple[str, str]]:
    """Method and a path of each route that needs a key."""
    return [(route.method, route.name.replace("{id}", "job_missing")) for route in all_routes() if route.protected]


async def _refused_jobs(probe: Probe) -> dict[str, int]:
    missing = await probe.ask("POST", "/v1/jobs", QUESTION)
    missing.expect(401)
    invalid = await probe.ask("POST", "/v1/jobs", QUESTION, key=_wrong_key())
    invalid.expect(401)
    return {"missingStatus": missing.status, "invalidStatus": invalid.status}


def _wrong_key() -> str:
    return f"wrong-{secrets.token_urlsafe(12)}"


def _base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
