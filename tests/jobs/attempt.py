"""One attempt to deliver to a receiver that is started for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.sender import DeliveryOutcome, Sender, default_tls_context
from tests.jobs.callback_stage import Names, Receiver, settings

HERE = bytes((127, 0, 0, 1))
ELSEWHERE = bytes((127, 0, 0, 2))
CLOSED = {"callbackAllowPrivateNetwork": False}
NOTHING: Mapping[str, object] = {}
HEADERS = [("content-type", "application/json"), ("webhook-id", "msg_job_1")]
BODY = b'{"type":"job.succeeded"}'


def delivered_by(
    receiver: Receiver,
    *,
    url: str = "http://hooks.example:{port}/in?x=1",
    names: Names | None = None,
    tls: Callable[[], ssl.SSLContext] = default_tls_context,
    body: bytes = BODY,
    changes: Mapping[str, object] = NOTHING,
) -> DeliveryOutcome:
    """One attempt against a receiver that is started for it."""

    async def main() -> DeliveryOutcome:
        async with receiver:
            policy = CallbackPolicy(
                settings(**changes), frozenset(), lookup=names or Names({"hooks.example": [(HERE,)]})
            )
            try:
                sender = Sender(policy, make_tls_context=tls)
                return await sender.deliver(url.format(port=receiver.port), HEADERS, body)
            finally:
                policy.close()

    return asyncio.run(main())
