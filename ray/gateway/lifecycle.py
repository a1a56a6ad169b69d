"""The life of a gateway process: boot, warm, serve, drain.

Source: http-api, sections 12, 13 and 15.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TextIO

from ray.clock import iso_now
from ray.config import LoadedConfig
from ray.errors import RayError, truncated
from ray.gateway.app import DEFAULT_DRAIN_MS, Gateway
from ray.host import read_process
from ray.telemetry import EventLoopLag, Logger, Metrics, ProcessCollector, error_fields

if TYPE_CHECKING:
    # Loaded when a service manager has started this process.
    from ray.gateway.supervision import Supervision

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(loaded: LoadedConfig, environ: Mapping[str, str], drain_ms: int = DEFAULT_DRAIN_MS) -> int:
    """Run one gateway until SIGTERM or SIGINT; the exit status. `drain_ms`: how long running answers may take then.

    Raises RayError when the gateway cannot be started (`config_validation_error`, `listen_failed`, and the codes of
    `Gateway.start` for a job store that cannot be used).
    """
    return asyncio.run(_live(loaded, environ, drain_ms))


async def _live(loaded: LoadedConfig, environ: Mapping[str, str], drain_ms: int) -> int:
    logger = Logger(loaded.config.telemetry.service_name, loaded.config.telemetry.log_level)
    asyncio.get_running_loop().set_exception_handler(partial(report_loop_failure, logger))
    signals = _Signals()
    supervision = None
    try:
        supervision = _supervision(environ, logger)
        gateway, lag = await _boot(loaded, environ, logger, supervision)
        first = await signals.next()
        lag.stop()
        if supervision is not None:
            supervision.stopping()
        return await _end(gateway, first, signals, drain_ms)
    finally:
        if supervision is not None:
            supervision.close()
        signals.restore()
        logger.close()


def _supervision(environ: Mapping[str, str], logger: Logger) -> Supervision | None:
    """What connects this process with the service manager that started it, if one did."""
    if "NOTIFY_SOCKET" not in environ and "LISTEN_FDS" not in environ:
        return None
    from ray.gateway.supervision import Supervision
    from ray.host import take_service_manager

    return Supervision(take_service_manager(environ), logger)


async def _end(gateway: Gateway, first: str, signals: _Signals, drain_ms: int) -> int:
    """Drain after the signal `first`; the exit status."""
    gateway.logger.info("gateway shutting down", event="shutdown_started", signal=first, timeoutMs=drain_ms)
    try:
        await _drain(gateway, first, signals, drain_ms)
    except Exception as error:  # noqa: BLE001 - the process ends now, and its exit status says how
        described = error_fields(error, stack=True)
        gateway.logger.error("gateway shutdown failed", event="shutdown_failed", signal=first, error=described)
        return 1
    return 0


async def _boot(
    loaded: LoadedConfig, environ: Mapping[str, str], logger: Logger, supervision: Supervision | None
) -> tuple[Gateway, EventLoopLag]:
    """Put the gateway together and open its door; warming goes on behind it."""
    config = loaded.config
    metrics = Metrics()
    gateway = Gateway(config, environ=environ, logger=logger, metrics=metrics)
    if supervision is None:
        await gateway.start()
    else:
        await gateway.start(sockets=supervision.sockets)
        supervision.ready(gateway)
    logger.info(
        "gateway listening",
        event="gateway_listening",
        host=config.server.host if supervision is None else supervision.host(config),
        port=gateway.port,
        profile=config.profile,
        model=config.model.id,
        configPath=loaded.path or "defaults",
    )
    metrics.add_collector(ProcessCollector(read_process))
    lag = EventLoopLag(metrics)
    lag.start()
    # What exists now lives as long as the process: the garbage collector need not look at it again.
    gc.freeze()
    return gateway, lag


async def _drain(gateway: Gateway, first: str, signals: _Signals, drain_ms: int) -> None:
    """Let running answers finish; a second signal ends everything at once."""
    stop = asyncio.ensure_future(gateway.stop(drain_ms, first))
    again = asyncio.ensure_future(signals.next())
    await asyncio.wait((stop, again), return_when=asyncio.FIRST_COMPLETED)
    if stop.done():
        again.cancel()
        stop.result()
        return
    stop.cancel()
    await asyncio.wait((stop,))
    await gateway.abandon()


def report_loop_failure(logger: Logger, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
    """What no task awaits would be printed by asyncio as plain text; the log has one JSON object per line."""
    error = context.get("exception")
    described = error_fields(error, stack=True) if isinstance(error, BaseException) else None
    logger.error("internal error", event="internal_error", reason=context.get("message"), error=described)


class _Signals:
    """SIGTERM and SIGINT as a queue. Made on the running loop, so that none is lost while the gateway boots."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[str] = asyncio.Queue()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._arrived.put_nowait, number.name)

    async def next(self) -> str:
        """The name of the next signal."""
        return await self._arrived.get()

    def restore(self) -> None:
        for number in SIGNALS:
            self._loop.remove_signal_handler(number)


def report_boot_failure(error: Exception, stderr: TextIO) -> None:
    """One JSON line. An operator's mistake (a RayError) has no stack: its message names the remedy."""
    described: dict[str, object] = {"message": truncated(str(error), 8_192), "name": type(error).__name__}
    if isinstance(error, RayError):
        described["code"] = error.code
    else:
        described |= error_fields(error, stack=True)
    line = {"ts": iso_now(), "level": "error", "message": "gateway boot failed", "error": described}
    stderr.write(json.dumps(line, separators=(",", ":")) + "\n")
    stderr.flush()
