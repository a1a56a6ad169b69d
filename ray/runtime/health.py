"""How the backend is, as the gateway tells it: probed at most once a second, overlaid with the warm state.

`BackendWatch` also notices that a backend went away and came back. The new process has nothing of the old one's warm
state, so the watch falls back to `idle` and whoever polls it (`needs_warming`) warms again, with no gateway restart.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

from ray.clock import iso_now
from ray.errors import RayError, truncated
from ray.providers import Provider
from ray.telemetry import Logger, Metrics
from ray.types import Health, ProviderStatus

WarmState = Literal["idle", "warming", "ready", "failed"]
Identity = tuple[object, ...]

HEALTH_TTL_S = 1.0
MAX_LATENCY_MS = 120_000
MAX_MESSAGE_CHARS = 512

# What a backend says of itself when no generation can succeed.
AWAY: frozenset[ProviderStatus] = frozenset({"unavailable", "warming"})

STATUS_GAUGE: dict[ProviderStatus, float] = {
    "ready": 1.0,
    "degraded": 0.5,
    "warming": 0.5,
    "unavailable": 0.0,
    "unknown": 0.0,
}


def overlaid(health: Health, warm_state: WarmState, failure: str | None) -> Health:
    """The backend's own word, corrected by what warming it has shown (runtime section 12).

    A backend that answers but could not be warmed cannot be relied on: `unavailable`. One that says itself that it is
    still loading stays `warming`, whatever the last attempt to warm it came to.
    """
    if warm_state == "warming":
        status: ProviderStatus = "unavailable" if health.status == "unavailable" else "warming"
        return replace(health, status=status, details={**(health.details or {}), "rayWarmupStatus": "warming"})
    if warm_state == "failed":
        status = "warming" if health.status == "warming" else "unavailable"
        note: dict[str, object] = {"rayWarmupStatus": "failed"}
        if failure is not None:
            note["rayWarmupMessage"] = failure
        return replace(health, status=status, details={**(health.details or {}), **note})
    return health


def checked(health: Health) -> Health:
    """`health`, or `unavailable` when its latency is no sane number of milliseconds."""
    latency = health.latency_ms
    if latency is None or (math.isfinite(latency) and 0 <= latency <= MAX_LATENCY_MS):
        return health
    return unreachable(f"the provider reported an impossible health latencyMs: {latency}")


def unreachable(message: str) -> Health:
    """The health of a backend that could not be asked."""
    return Health("unavailable", iso_now(), details={"message": truncated(message, MAX_MESSAGE_CHARS)})


def identity(health: Health) -> Identity:
    """What tells one backend process from another that took its place, as far as its answers show."""
    found = health.detected_capabilities
    marks = () if found is None else (found.model_ref, found.backend_model, found.context_window, found.total_slots)
    return (health.restarts, *marks)


def another(before: Identity, now: Identity) -> bool:
    """Is this a different backend? A mark that only one of the two answers carries says nothing."""
    return any(old is not None and new is not None and old != new for old, new in _paired(before, now))


def _paired(before: Identity, now: Identity) -> list[tuple[object, object]]:
    return list(itertools.zip_longest(before, now))


class BackendWatch:
    """The warm state and the cached health of one provider. `prime`: what warms it, raises while that is not possible;
    `clock`: seconds, monotonic."""

    def __init__(
        self,
        provider: Provider,
        prime: Callable[[], Awaitable[None]],
        *,
        warm_on_boot: bool,
        model_id: str,
        logger: Logger,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._prime = prime
        self._warm_on_boot = warm_on_boot
        self._model_id = model_id
        self._logger = logger
        self._metrics = metrics
        self._clock = clock
        self._state: WarmState = "idle"
        self._lost = False  # it was warm once, and is not any more
        self._failure: str | None = None
        self._warming: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[Health] | None = None
        self._health: Health | None = None
        self._health_until = 0.0
        self._alive_until = 0.0
        self._identity: Identity = ()

    @property
    def warm_state(self) -> WarmState:
        return self._state

    async def warm(self) -> None:
        """Warm the backend, or wait for the attempt that is running. Raises `RayError` when the attempt failed.

        Without `model.warmOnBoot` there is nothing to do and the state is `ready` at once. May be called again after a
        failure. A caller that is cancelled leaves the attempt to the others.
        """
        if self._state == "ready":
            return
        if not self._warm_on_boot:
            self._state = "ready"
            return
        if self._warming is None:
            self._state = "warming"
            self._warming = asyncio.get_running_loop().create_task(self._warm_once(), name="warm-up")
            self._warming.add_done_callback(_retrieve)
        await asyncio.shield(self._warming)

    async def health(self) -> Health:
        """The backend's health, at most one second old, warm state included. Concurrent callers share one probe."""
        own = await self._own_health()
        # A backend that was lost and answers again is about to be warmed: it is not ready yet.
        state = "warming" if self._state == "idle" and self._lost else self._state
        health = overlaid(own, state, self._failure)
        self._metrics.set("provider.health.status", STATUS_GAUGE[health.status], status=health.status)
        if health.latency_ms is not None:
            self._metrics.set("provider.health.latency_ms", health.latency_ms)
        return health

    async def answers(self) -> bool:
        """Whether the backend's own word, at most a second old, is that it can be used. A token is its word too: while
        it generates it is not disturbed by probes."""
        if self._clock() < self._alive_until:
            return True
        return (await self._own_health()).status not in AWAY

    async def needs_warming(self) -> bool:
        """Should `warm()` be called now? True after a failed attempt, and when a backend that was never warmed, or that
        went away and came back, answers. The caller keeps the delays between attempts."""
        answers = await self.answers()
        return self._state == "failed" or (self._state == "idle" and answers)

    def alive(self) -> None:
        """A piece of an answer has just arrived."""
        self._alive_until = self._clock() + HEALTH_TTL_S

    def forget(self) -> None:
        """Ask the backend anew next time: something happened that makes the last answer doubtful."""
        self._health = None
        self._alive_until = 0.0

    def suspect(self) -> None:
        """A generation could not reach the backend: ask it anew next time, and warm it again once it answers."""
        self.forget()
        self._went_away()

    async def close(self) -> None:
        """Stop what is under way."""
        for task in (self._warming, self._probe):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])

    async def _warm_once(self) -> None:
        try:
            await self._prime()
        except Exception as error:
            self._state = "failed"
            self._failure = truncated(str(error) or type(error).__name__, MAX_MESSAGE_CHARS)
            if isinstance(error, RayError):
                raise
            raise RayError("gateway_error", f"warming the backend failed: {self._failure}") from error
        except asyncio.CancelledError:
            self._state = "idle"
            raise
        else:
            self._state = "ready"
            self._lost = False
            self._failure = None
            self._logger.info("provider warmed", event="provider_warmed", modelId=self._model_id)
        finally:
            self._warming = None
            self._health = None  # what was seen while warming is out of date

    async def _own_health(self) -> Health:
        if self._health is not None and self._clock() < self._health_until:
            return self._health
        if self._probe is None:
            self._probe = asyncio.get_running_loop().create_task(self._ask(), name="health-probe")
            self._probe.add_done_callback(_retrieve)
        return await asyncio.shield(self._probe)

    async def _ask(self) -> Health:
        try:
            health = checked(await self._provider.health())
        except Exception as error:  # noqa: BLE001 - a probe that breaks is an answer too: the backend is not usable
            health = unreachable(str(error) or type(error).__name__)
        finally:
            self._probe = None
        self._health = health
        self._health_until = self._clock() + HEALTH_TTL_S
        self._notice(health)
        return health

    def _notice(self, health: Health) -> None:
        """Compare with what was known: is this still the backend that was warmed?"""
        if health.status in AWAY:
            self._went_away()
            return
        seen = identity(health)
        if another(self._identity, seen):
            self._went_away()
            self._identity = seen
        else:
            self._identity = tuple(new if new is not None else old for old, new in _paired(self._identity, seen))

    def _went_away(self) -> None:
        if self._state == "ready" and self._warm_on_boot:
            self._state = "idle"
            self._lost = True
            self._logger.warn(
                "provider went away; it will be warmed again when it answers",
                event="provider_lost",
                modelId=self._model_id,
            )


def _retrieve(task: asyncio.Task[object]) -> None:
    """Take note of the outcome, so that a failure nobody waited for is not reported as forgotten."""
    if not task.cancelled():
        task.exception()
