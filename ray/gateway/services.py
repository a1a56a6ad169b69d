"""What the routes work with: the one value that `app.py` puts together and hands to every route."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ray.config import Config
from ray.gateway.rate_limit import RateLimiter
from ray.gateway.warm_up import WarmUp
from ray.http import ConnectionCounts, Limits
from ray.runtime import Runtime
from ray.telemetry import Metrics

if TYPE_CHECKING:
    # A gateway without durable jobs never loads the code for them.
    from ray.jobs import JobQueue


@dataclass(frozen=True, slots=True)
class Services:
    """The wired gateway as its routes see it.

    `runtimes`: by model id; `default_model` names the one that serves requests which name none.
    `limiter`: None when rate limiting is off; `jobs`: None when durable jobs are. `connections`: the HTTP server's
    counts at this moment. `started_at`: Unix seconds.
    """

    config: Config
    metrics: Metrics
    runtimes: Mapping[str, Runtime]
    default_model: str
    limiter: RateLimiter | None
    http_limits: Limits
    connections: Callable[[], ConnectionCounts]
    warm_up: WarmUp
    jobs: JobQueue | None = None
    started_at: float = field(default_factory=time.time)

    @property
    def runtime(self) -> Runtime:
        """The runtime of the default model."""
        return self.runtimes[self.default_model]
