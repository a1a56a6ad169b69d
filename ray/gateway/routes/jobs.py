"""`/v1/jobs`: durable jobs. This version keeps none, and says so with the code of a queue that is switched off.

Source: http-api, section 5.
"""

from __future__ import annotations

from ray.errors import RayError
from ray.gateway.exchange import Exchange
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import Response


async def refuse(services: Services, exchange: Exchange) -> Response:
    """Always RayError `async_queue_disabled`, before the body is asked for."""
    raise RayError(
        "async_queue_disabled",
        "durable jobs are not available on this gateway: use POST /v1/infer",
    )


JOB_SUBMIT = Route("POST", "/v1/jobs", refuse, limited=True)
# Asking for a job of a queue that is off is answered before the budget is touched, so the route itself is not limited.
JOB_STATUS = Route("GET", "/v1/jobs/{id}", refuse)
