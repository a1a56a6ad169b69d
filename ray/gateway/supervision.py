"""What a service manager hears of this gateway: ready, how it stands, still alive, stopping.

`READY=1` is said once the gateway listens: a model may take minutes to load, and until then `STATUS` says how far it
is. `WATCHDOG=1` is sent by the event loop itself, at half of the time allowed: a loop that no longer turns falls
silent, and the service manager replaces the process.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

from ray.config import Config
from ray.gateway.warm_up import WarmUp
from ray.host import ServiceManager
from ray.http import ConnectionCounts
from ray.telemetry import Logger

# How old a status may be. Nothing is sent while it stays the same.
STATUS_INTERVAL_S = 1.0


class SupervisedServices(Protocol):
    """The parts of the gateway's services that tell how it stands."""

    @property
    def warm_up(self) -> WarmUp: ...

    def connections(self) -> ConnectionCounts: ...


class Supervised(Protocol):
    """What is reported on: a `Gateway`, as far as this file needs it."""

    @property
    def draining(self) -> bool: ...

    @property
    def port(self) -> int: ...

    @property
    def services(self) -> SupervisedServices: ...


class Supervision:
    """Reports to one service manager, from the event loop on which `ready` is called. What cannot be said at once is
    said with the next report."""

    def __init__(self, manager: ServiceManager, logger: Logger) -> None:
        self.sockets = manager.sockets
        self._manager = manager
        self._logger = logger
        self._gateway: Supervised | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interval_s, self._ticks_per_sign = rhythm(manager.watchdog_s)
        self._ticks = 0
        self._unsaid: list[str] = []
        self._status = ""
        self._failure_told = False

    def host(self, config: Config) -> str:
        """Where the gateway listens, for the log: the sockets' address, which may not be the configured one."""
        if not self.sockets:
            return config.server.host
        host, port = self.sockets[0].getsockname()[:2]
        if port != config.server.port:
            self._logger.warn(
                "the socket unit listens on another port than the configuration names: render the units again",
                event="listen_port_differs",
                port=port,
                configuredPort=config.server.port,
            )
        return str(host)

    def ready(self, gateway: Supervised) -> None:
        """The gateway listens: say so, and report from now on. Needs a running event loop."""
        self._gateway = gateway
        self._unsaid.append("READY=1")
        self._tick()

    def stopping(self) -> None:
        """The gateway drains from now on. It stays watched until `close`."""
        self._unsaid.append("STOPPING=1")
        self._report()

    def close(self) -> None:
        """Report nothing more. May be called at any time, and again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for passed in self.sockets:
            passed.close()

    def _tick(self) -> None:
        if self._ticks_per_sign and self._ticks % self._ticks_per_sign == 0:
            # One sign of life is like another: those that were not taken are not repeated.
            self._unsaid = [*(line for line in self._unsaid if line != "WATCHDOG=1"), "WATCHDOG=1"]
        self._ticks += 1
        self._report()
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def _report(self) -> None:
        status = self._status if self._gateway is None else status_text(self._gateway)
        lines = self._unsaid if status == self._status else [*self._unsaid, f"STATUS={status}"]
        if not lines:
            return
        if self._manager.tell(*lines):
            self._unsaid, self._status = [], status
        elif not self._failure_told:
            self._failure_told = True
            self._logger.warn("the service manager does not take messages", event="service_manager_unreachable")


def rhythm(watchdog_s: float | None) -> tuple[float, int]:
    """Seconds between two looks, and every how many of them there is a sign of life (0: never): at half of the time
    that the watchdog allows."""
    if watchdog_s is None:
        return STATUS_INTERVAL_S, 0
    half_s = watchdog_s / 2
    looks = max(1, math.ceil(half_s / STATUS_INTERVAL_S))
    return half_s / looks, looks


def status_text(gateway: Supervised) -> str:
    """One line for `systemctl status`: how the gateway stands, without models, addresses or content."""
    warm_up = gateway.services.warm_up
    if gateway.draining:
        return f"draining, {gateway.services.connections().active_requests} requests under way"
    if warm_up.succeeded:
        return "serving, the backend is warm"
    if warm_up.delay_ms:
        return f"listening, the backend could not be warmed ({warm_up.failures} failures), trying again"
    return "listening, warming the backend"
