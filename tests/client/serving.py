"""The real gateway in a thread, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ray.providers import Provider
from tests.gateway.harness import running

WAIT_SECONDS = 30.0
KEY = "a-key-for-the-tests"


@dataclass
class GatewayThread:
    """A gateway on a loop of its own. `call`: run something on that loop."""

    url: str
    call: Callable[[Callable[[], None]], object]


@contextmanager
def gateway_in_a_thread(
    document: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    provider: Provider | None = None,
) -> Iterator[GatewayThread]:
    """The real gateway, answering with the mock model unless a provider is given."""
    started = threading.Event()
    found: list[GatewayThread] = []
    stops: list[Callable[[], None]] = []

    async def live() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def end() -> None:
            loop.call_soon_threadsafe(stop.set)

        stops.append(end)
        async with running(document, environ=environ, provider=provider) as gateway:
            found.append(GatewayThread(f"http://127.0.0.1:{gateway.gateway.port}", loop.call_soon_threadsafe))
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        finally:
            started.set()  # a gateway that did not start must not leave the test waiting

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS)
        yield found[0]
    finally:
        if stops:
            stops[0]()
        thread.join(WAIT_SECONDS)
