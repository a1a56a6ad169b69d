"""One candidate as real processes: start it, wait until it is ready, ask it, stop it.

The gateway gets a copy of the candidate's config in which nothing depends on how busy the machine is just now: no rate
limit, no shorter answers under pressure, no learned answer lengths. Every candidate is asked for the same work. A
started `llama-server` gets a free port and, where the config has a prefix store, an empty directory of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ray.bench.processes.gateway_process import HOST
from ray.bench.processes.llama_process import LOAD_SECONDS, running_server
from ray.bench.processes.process import MeasurementError, ServerProcess, free_port
from ray.bench.run.driver import Measured, RunPlan, drive
from ray.bench.run.gateway_under_test import READY_SECONDS, Target, started_gateway, wait_until_ready
from ray.bench.run.workload_file import Workload
from ray.bench.tune.rungs import Answers
from ray.bench.tune.search import BackendGone, TooSlow
from ray.bench.tune.space import Candidate, launch_profile_of
from ray.config import BaseUrl, Config, LlamaCppAdapter, MockAdapter, config_document, parse_base_url

# The base may need its whole time to get ready, its warm-up requests included; who needs much longer has lost.
READY_TIMES = 3.0
READY_SPARE_SECONDS = 20.0
REACHABLE_SECONDS = 5.0


@dataclass(slots=True)
class Patience:
    """How long a start may take: `most_s` until one has been timed, then in proportion to the longest."""

    most_s: float
    longest_s: float | None = None

    @property
    def limit_s(self) -> float:
        if self.longest_s is None:
            return self.most_s
        return min(self.most_s, READY_TIMES * self.longest_s + READY_SPARE_SECONDS)

    def took(self, seconds: float) -> None:
        """Of a start that came to its end."""
        self.longest_s = max(seconds, self.longest_s or 0.0)


@dataclass(slots=True)
class Ground:
    """Where candidates run and what they are asked. `directory`: for configs and logs, removed by its owner; `key`: the
    gateway's API key; `environ`: of this process; `backend_environ`: llama-server's whole environment."""

    workload: Workload
    clients: int
    timeout_ms: int
    no_cache: bool
    key: str | None
    python: str
    environ: Mapping[str, str]
    backend_environ: Mapping[str, str]
    directory: Path
    # `wait_until_ready` has a limit of its own, and then says why.
    gateway_patience: Patience = field(default_factory=lambda: Patience(2 * READY_SECONDS))
    backend_patience: Patience = field(default_factory=lambda: Patience(LOAD_SECONDS))

    def ask_gateway(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        """A fresh gateway before whatever backend the candidate's config names. An `Ask`."""
        with _disk_may_be_full(), started_gateway(for_trial(candidate.config), self.environ, self.python) as target:
            return asyncio.run(self._asked(target, requests, first, give_up_s))

    def ask_before_running(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        """A fresh gateway before a backend that somebody else runs. An `Ask`."""
        try:
            answers = self.ask_gateway(candidate, requests, first, give_up_s)
        except TooSlow:
            raise
        except MeasurementError as error:
            _require_alive(candidate.config, str(error))
            raise
        if not any(one.answered for one in answers.samples):
            _require_alive(candidate.config, "no request was answered")
        return answers

    def ask_all(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        """A fresh llama-server from the candidate's launch profile, and a fresh gateway before it. An `Ask`."""
        with self.backend(candidate.config) as backend:
            return backend.ask(candidate, requests, first, give_up_s)

    @contextmanager
    def backend(self, config: Config) -> Iterator[RunningBackend]:
        """The llama-server of the config's launch profile, started again when it ends by itself."""
        with ExitStack() as stack:
            backend = RunningBackend(self, config, stack.enter_context(ExitStack()))
            backend.start()
            yield backend

    async def _asked(self, target: Target, requests: int, first: int, give_up_s: float | None) -> Answers:
        began, limit_s = time.monotonic(), self.gateway_patience.limit_s
        try:
            async with asyncio.timeout(limit_s):
                await wait_until_ready(target, _silent)
        except TimeoutError:
            raise MeasurementError(f"the gateway was not ready after {limit_s:.0f} s") from None
        self.gateway_patience.took(time.monotonic() - began)
        began = time.monotonic()
        measured = await self._driven(target, requests, first, give_up_s)
        if measured.broken_off is not None:
            tail = "" if target.server is None else f":\n{target.server.log_tail()}"
            raise MeasurementError(measured.broken_off + tail)
        items = len(self.workload.items)
        numbered = ((first + one.number, one) for one in measured.samples)
        samples = tuple(replace(one, number=number, item=number % items) for number, one in numbered)
        return Answers(samples, measured.wall_ms, measured.tally, time.monotonic() - began)

    async def _driven(self, target: Target, requests: int, first: int, give_up_s: float | None) -> Measured:
        plan = RunPlan(
            workload=begun_at(self.workload, first),
            requests=requests,
            clients=self.clients,
            warmup=1,
            no_cache=self.no_cache,
            timeout_ms=self.timeout_ms,
        )
        try:
            async with asyncio.timeout(give_up_s) as clock:
                return await drive(plan, target.url, self.key, _silent)
        except TimeoutError:
            if not clock.expired():
                raise
            raise TooSlow(f"given up after {give_up_s:.1f} s: three times as long as the best one") from None


@dataclass(slots=True)
class RunningBackend:
    """One llama-server that several gateways are tried with, one after the other."""

    ground: Ground
    config: Config
    stack: ExitStack
    port: int = 0
    store: str = ""
    server: ServerProcess | None = None

    def start(self) -> None:
        """Raises `MeasurementError`, with the end of its log, when it does not start."""
        self.stack.close()
        self.port = free_port()
        with _disk_may_be_full():
            # Gone with its server: stored prefixes are large, and the next one begins without any.
            place = tempfile.TemporaryDirectory(
                prefix="backend-", dir=self.ground.directory, ignore_cleanup_errors=True
            )
        self.store = self.stack.enter_context(place)
        began, patience = time.monotonic(), self.ground.backend_patience
        self.server = self.stack.enter_context(
            running_server(
                config_document(self._placed(self.config)),
                self.port,
                Path(self.store, "llama-server.log"),
                self.ground.backend_environ,
                patience.limit_s,
            )
        )
        patience.took(time.monotonic() - began)

    def ask(self, candidate: Candidate, requests: int, first: int, give_up_s: float | None) -> Answers:
        """A fresh gateway with the candidate's config before this server. An `Ask`."""
        if self.server is None or self._ended() is not None:
            self.start()
        placed = Candidate(candidate.label, self._placed(candidate.config))
        try:
            answers = self.ground.ask_gateway(placed, requests, first, give_up_s)
        except MeasurementError as error:
            if isinstance(error, TooSlow):
                raise
            raise self._ended() or error from None
        if not any(one.answered for one in answers.samples):
            ended = self._ended()
            if ended is not None:
                raise ended
        return answers

    def _ended(self) -> MeasurementError | None:
        """What the server said when it ended by itself; None while it runs."""
        try:
            if self.server is not None:
                self.server.require_running()
        except MeasurementError as error:
            return error
        return None

    def _placed(self, config: Config) -> Config:
        """The config with this server's port and directory."""
        adapter, launch = config.model.adapter, launch_profile_of(config)
        if launch is None or not isinstance(adapter, LlamaCppAdapter):
            raise MeasurementError("this configuration has no launchProfile")
        adapter = replace(
            adapter,
            base_url=f"http://{HOST}:{self.port}",
            launch_profile=replace(launch, host=HOST, port=self.port),
        )
        return replace(
            config,
            model=replace(config.model, adapter=adapter),
            prefix_store=replace(config.prefix_store, storage_dir=self.store),
        )


def for_trial(config: Config) -> Config:
    """The config as it is measured: nothing in it shortens answers or refuses requests by itself."""
    return replace(
        config,
        rate_limit=replace(config.rate_limit, enabled=False),
        graceful_degradation=replace(config.graceful_degradation, enabled=False),
        adaptive_tuning=replace(config.adaptive_tuning, enabled=False),
    )


def begun_at(workload: Workload, first: int) -> Workload:
    """The workload from another item on, so that a second trial goes on where the first one ended."""
    start = first % len(workload.items)
    return replace(workload, items=workload.items[start:] + workload.items[:start])


def require_launchable(config: Config) -> None:
    """Raises `MeasurementError` when program or model file of the launch profile cannot be used."""
    launch = launch_profile_of(config)
    if launch is None:
        raise MeasurementError("this configuration has no launchProfile")
    binary, model = Path(launch.binary_path), Path(launch.model_path)
    if not binary.is_file() or not os.access(binary, os.X_OK):
        raise MeasurementError(f"launchProfile.binaryPath: {binary} is no program that this user may run")
    if not model.is_file() or not os.access(model, os.R_OK):
        raise MeasurementError(f"launchProfile.modelPath: {model} is no file that this user can read")


def _require_alive(config: Config, seen: str) -> None:
    if not backend_answers(config):
        raise BackendGone(f"the backend at the config's model.adapter.baseUrl does not answer any more: {seen}")


def backend_answers(config: Config) -> bool:
    """Whether somebody listens where the config's backend should be; a mock always does."""
    if isinstance(config.model.adapter, MockAdapter):
        return True
    url = parse_base_url(config.model.adapter.base_url)
    if not isinstance(url, BaseUrl):
        return False
    with contextlib.suppress(OSError), socket.create_connection((url.host, url.port), timeout=REACHABLE_SECONDS):
        return True
    return False


@contextmanager
def _disk_may_be_full() -> Iterator[None]:
    """A trial that has no room for its files is one that failed; it does not cost what is known of the others."""
    try:
        yield
    except OSError as error:
        raise MeasurementError(f"cannot run a trial in {tempfile.gettempdir()}: {error.strerror or error}") from error


def _silent(text: str) -> None:
    """The search tells how far it is; what a single trial says would not help."""
