"""The gateway put together: configuration to runtimes, server and guards, and every request's way through them.

    request → refuse while draining → route (404, 405) → auth (401) → rate limit (429) → the route's own answer

A browser's preflight for a page that may use this gateway is answered at the route, before anything is asked of it.
Whatever goes wrong on the way comes out as one answer with the error envelope and as at most one log line.
Source: http-api, sections 2, 7, 8 and 15.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from functools import partial

from ray.clock import new_id
from ray.config import Config, resolve_api_keys
from ray.errors import RayError
from ray.gateway.auth import Authenticator
from ray.gateway.client_address import client_address
from ray.gateway.cors import VARY, Cors
from ray.gateway.exchange import Exchange
from ray.gateway.gauges import set_gauges
from ray.gateway.rate_limit import RateLimiter
from ray.gateway.responses import REQUEST_ID_HEADER, error_response
from ray.gateway.routes import LIVEZ, READYZ, Route, WrongMethod, find_route, refusal_of
from ray.gateway.services import Services
from ray.gateway.traffic import Traffic
from ray.gateway.warm_up import WarmUp
from ray.http import Limits, Request, Response, Server
from ray.providers import Provider, create_provider
from ray.runtime import HostPressure, PrefixBooks, Runtime
from ray.telemetry import Logger, Metrics, error_fields

DEFAULT_DRAIN_MS = 30_000
# How long a job queue may take to let go after the port turned out to be taken.
JOBS_CLEANUP_S = 5.0
# What of the time to end is kept for writing back the jobs that did not get done; of a short time, a sixth.
JOBS_WRITE_BACK_S = 5.0
# How long a gateway that hands its sockets over keeps the job store open for what its last clients are about to submit.
LAST_SUBMISSIONS_S = 1.0


class Gateway:
    """One gateway process's worth of state. Used from one event loop.

    Raises RayError `config_validation_error` when the API keys, the webhook secrets or the provider's settings are not
    usable.
    """

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        logger: Logger,
        metrics: Metrics,
        provider: Provider | None = None,
        host: HostPressure | None = None,
    ) -> None:
        """For embedders and tests: `provider`, instead of the one the config names; `host`, how the machine is read."""
        self.config = config
        self.logger = logger
        self.metrics = metrics
        self.draining = False
        self._authenticator = Authenticator(config.auth.enabled, resolve_api_keys(config, environ))
        if provider is None:
            provider = create_provider(config, environ, PrefixBooks(config.model.id, logger, metrics))
        runtime = Runtime(config, provider, logger, metrics, host)
        jobs = None
        if config.async_queue.enabled:
            # Who keeps no jobs does not load the code for them.
            from ray.jobs import create_job_queue

            jobs = create_job_queue(config, runtime, environ, logger, metrics)
        limits = Limits()
        self._traffic = Traffic(logger, metrics)
        self._server = Server(
            self._handle,
            limits=limits,
            on_error=self._refuse_malformed,
            on_complete=self._traffic.completed,
            on_stream_error=self._traffic.broke_off,
        )
        self.services = Services(
            config=config,
            metrics=metrics,
            runtimes={config.model.id: runtime},
            default_model=config.model.id,
            limiter=RateLimiter(config.rate_limit) if config.rate_limit.enabled else None,
            http_limits=limits,
            connections=self._server.counts,
            warm_up=WarmUp(runtime, logger, attempted=self._begin_jobs),
            jobs=jobs,
        )
        self._cors = Cors(config.server.cors_allowed_origins) if config.server.cors_allowed_origins else None
        self._trust_proxy_headers = config.rate_limit.trust_proxy_headers
        metrics.add_collector(partial(set_gauges, self.services))

    @property
    def port(self) -> int:
        """The port that is listened on; useful when it was chosen by the system."""
        return self._server.port

    async def start(self, port: int | None = None, sockets: Sequence[socket.socket] = ()) -> None:
        """Open the job store, listen, then begin to warm the backend in the background. Jobs run once that was tried.

        `port`: instead of the configured one; 0 lets the system choose. `sockets`: see `listen`. Raises RayError
        `listen_failed`, and what `JobQueue.start` raises: `async_queue_locked`, `async_queue_storage_error`,
        `async_queue_recovery_limit_exceeded`.
        """
        await self.open()
        try:
            await self.listen(port, sockets)
        except Exception as error:
            await self._give_jobs_back(error)
            raise
        self.begin()

    async def open(self) -> None:
        """The first step of `start`: open the job store. Raises as `start`, without `listen_failed`."""
        if self.services.jobs is not None:
            await self.services.jobs.start()

    def begin(self) -> None:
        """The last step of `start`: warm the backend in the background, and let jobs run once that was tried."""
        self.services.warm_up.start()

    async def listen(self, port: int | None = None, sockets: Sequence[socket.socket] = ()) -> None:
        """The step of `start` that an embedder may leave out, or take later and, after `stop_listening`, again.

        `sockets`: TCP sockets that a service manager keeps across restarts; then nothing else is listened on, and while
        this gateway drains the requests that have reached it are still answered: what has not waits for the next one.
        Raises RayError `listen_failed`.
        """
        host, chosen = self.config.server.host, self.config.server.port if port is None else port
        try:
            if sockets:
                await self._server.start_on(sockets)
            else:
                await self._server.start(host, chosen)
        except OSError as error:
            raise RayError(
                "listen_failed",
                f"cannot listen on {host}:{chosen} ({_reason(error)}): stop what uses that address, "
                "or change server.host and server.port (RAY_HOST, RAY_PORT)",
            ) from error

    async def _give_jobs_back(self, cause: Exception) -> None:
        """Nobody will be served: let go of the job store. `cause` is what ends the start, whatever happens here."""
        if self.services.jobs is None:
            return
        try:
            await self.services.jobs.stop(JOBS_CLEANUP_S)
        except Exception as error:  # noqa: BLE001 - it must not hide why the gateway does not start
            self.logger.error(
                "gateway async queue cleanup failed after listen error",
                event="async_queue_cleanup_failed",
                listenError=error_fields(cause, stack=False),
                error=error_fields(error, stack=True),
            )

    async def stop_listening(self, timeout_ms: int = DEFAULT_DRAIN_MS) -> bool:
        """Accept nothing more, let running answers finish for up to `timeout_ms`, then close the rest; whether nothing
        had to be cut off. The gateway works on behind the closed door. Cancelled, this leaves the rest to `abandon`."""
        return await self._server.drain(timeout_ms / 1000)

    def _begin_jobs(self) -> None:
        """The backend has been warmed, or is not there: either way jobs no longer stand in its way."""
        if self.services.jobs is not None and not self.draining:
            self.services.jobs.resume()

    def begin_stop(self) -> None:
        """The first step of `stop`: refuse new requests, start no further job. May be called again."""
        self.draining = True
        if self.services.jobs is not None:
            self.services.jobs.begin_stop()
        self._server.begin_drain()

    async def stop(self, timeout_ms: int = DEFAULT_DRAIN_MS, signal: str | None = None) -> None:
        """Refuse new work, let running answers and jobs finish for up to `timeout_ms`, then close what is left.

        A job that is not done by then is queued again, without having lost an attempt. Cancelling this coroutine (a
        second signal) leaves the rest to `abandon`.
        """
        self.begin_stop()
        await self.services.warm_up.stop()
        draining = asyncio.ensure_future(self._server.drain(timeout_ms / 1000))
        drained, _ = await asyncio.gather(draining, self._stop_jobs(timeout_ms / 1000, draining))
        if not drained:
            self.logger.warn(
                "gateway shutdown timeout reached; closing active connections",
                event="shutdown_forced",
                signal=signal,
                timeoutMs=timeout_ms,
            )
        await self.abandon()

    async def _stop_jobs(self, timeout_s: float, draining: asyncio.Future[bool]) -> None:
        """Let running jobs finish; the last part of the time is for writing back those that do not."""
        if self.services.jobs is None:
            return
        timeout_s -= min(JOBS_WRITE_BACK_S, timeout_s / 6)
        if self._server.hands_over:
            wait_s = min(LAST_SUBMISSIONS_S, timeout_s)
            await asyncio.wait((draining,), timeout=wait_s)
            timeout_s -= wait_s
        await self.services.jobs.stop(timeout_s)

    async def abandon(self) -> None:
        """Close everything at once. May be called again."""
        self.draining = True
        await self.services.warm_up.stop()
        await self._server.close()
        if self.services.jobs is not None:
            await self.services.jobs.stop(0)
        for runtime in self.services.runtimes.values():
            await runtime.close()

    async def _handle(self, request: Request) -> Response:
        exchange = self._begin(request)
        try:
            return await self._answer(exchange)
        except WrongMethod as error:
            exchange.route = error.route
            if self._cors is not None and self._cors.is_preflight(request):
                return self._cors.preflight(error.allowed, exchange.headers)
            exchange.headers.append(("allow", error.allowed))
            return self._refuse(exchange, error)
        except CancelledError:
            self._traffic.client_gone(exchange)
            raise
        except Exception as error:  # noqa: BLE001 - the one place where every failure, foreseen or not, becomes an answer
            return self._refuse(exchange, error)

    def _begin(self, request: Request) -> Exchange:
        """A request has arrived, maybe for the second time: one that breaks is looked at again for its refusal."""
        exchange = self._traffic.begin(request)
        if self._cors is not None and VARY not in exchange.headers:
            exchange.headers += self._cors.headers(request.headers)
        return exchange

    async def _answer(self, exchange: Exchange) -> Response:
        request = exchange.request
        route = find_route(request.method, request.path)
        exchange.route = route.name
        if self.draining and not self._answers_while_draining(route):
            raise RayError("gateway_draining", "this gateway is shutting down: try again in a moment")
        if route.protected:
            self._admit(route, exchange)
        return await route.answer(self.services, exchange)

    def _answers_while_draining(self, route: Route) -> bool:
        """Who hands its sockets over owes an answer to every request that it has accepted. Asked whether it is ready,
        it is not, either way."""
        return route is LIVEZ or (self._server.hands_over and route is not READYZ)

    def _admit(self, route: Route, exchange: Exchange) -> None:
        """Who asks, and may they? Raises RayError `unauthorized` or `rate_limited`."""
        headers = exchange.request.headers
        address = client_address(
            exchange.request.peer,
            headers.get_all("x-forwarded-for"),
            trust_proxy_headers=self._trust_proxy_headers,
        )
        exchange.caller = self._authenticator.identify(headers.get_all("authorization"), address)
        limiter = self.services.limiter
        if route.require is not None:
            route.require(self.services)
        if route.limited and limiter is not None:
            decision = limiter.take(exchange.caller)
            exchange.headers += decision.headers()
            if not decision.allowed:
                raise decision.refusal()

    def _refuse(self, exchange: Exchange, error: Exception | None) -> Response:
        shown = self._traffic.failed(exchange, error)
        return error_response(shown, exchange.headers, refusal_of(exchange.request.path))

    def _refuse_malformed(self, error: Exception | None, request: Request | None) -> Response:
        """The answer to what never reached a route: broken framing, a refused target, an unknown expectation."""
        if request is None:
            request_id = new_id("req")
            return error_response(self._traffic.unparsed(request_id, error), [(REQUEST_ID_HEADER, request_id)])
        return self._refuse(self._begin(request), error)


def _reason(error: OSError) -> str:
    """Why listening failed. asyncio words a failed bind at length; a failed name lookup has no errno of the system."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
