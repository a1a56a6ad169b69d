"""One way of calling for tests that hold for both clients: each call on a client of its own, or several on one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol, cast

from ray.client import AsyncRayClient, RayClient


class Ask(Protocol):
    """`ask(url, "infer", …)` gives what the method gives; an iterator as a list; a stream as (items, result)."""

    def __call__(self, url: str, method: str, *args: object, **options: object) -> object: ...


# What belongs to the client and not to the call.
_OF_THE_CLIENT = frozenset(
    {"api_key", "headers", "timeout_ms", "request_body_limit_bytes", "response_body_limit_bytes", "retries"}
)


def _split(method: str, options: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Options of the client and of the call. How long to wait for a job is the call's."""
    names = _OF_THE_CLIENT - {"timeout_ms"} if method == "wait_job" else _OF_THE_CLIENT
    of_client = {name: value for name, value in options.items() if name in names}
    return of_client, {name: value for name, value in options.items() if name not in names}


def blocking(url: str, method: str, *args: object, **options: object) -> object:
    of_client, of_call = _split(method, options)
    make = cast(Callable[..., RayClient], RayClient)
    with make(url, **of_client) as client:
        call = getattr(client, method)
        if method.startswith("stream"):
            with call(*args, **of_call) as stream:
                return list(stream), getattr(stream, "result", None)
        found = call(*args, **of_call)
        return list(found) if isinstance(found, Iterator) else found


def awaiting(url: str, method: str, *args: object, **options: object) -> object:
    of_client, of_call = _split(method, options)

    async def main() -> object:
        make = cast(Callable[..., AsyncRayClient], AsyncRayClient)
        async with make(url, **of_client) as client:
            call = getattr(client, method)
            if method.startswith("stream"):
                async with call(*args, **of_call) as stream:
                    return [item async for item in stream], getattr(stream, "result", None)
            found = call(*args, **of_call)
            return [item async for item in found] if isinstance(found, AsyncIterator) else await found

    return asyncio.run(main())


BOTH: tuple[Ask, ...] = (blocking, awaiting)
