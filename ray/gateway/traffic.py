"""What the gateway says about its requests: one line per failure, the access line at debug level, and the counters.

Never logged: header values, bodies, query strings, keys, client addresses. Whatever the runtime has reported is not
reported again, and what a scanner can cause at will (unknown paths, wrong methods) is counted but not logged.
Source: http-api, section 15.
"""

from __future__ import annotations

from ray.clock import iso_now
from ray.errors import CODES, RayError
from ray.gateway.exchange import Exchange
from ray.http import HttpError, Request
from ray.telemetry import Counter, Histogram, Logger, Metrics, error_fields

UNLOGGED_CODES = frozenset({"not_found", "method_not_allowed", "job_not_found", "job_expired", "async_queue_disabled"})
UNKNOWN_ROUTE = "other"
PARSER = "[parser]"
INVALID_TARGET = "[invalid-url]"
MAX_LOGGED_PATH_CHARS = 256
MAX_LOGGED_METHOD_CHARS = 32
MAX_REMEMBERED_CELLS = 512


def as_ray_error(error: Exception | None) -> RayError:
    """Any failure as what the client gets to see: HTTP refusals under their own code, the unforeseen as
    `gateway_error` with its name and message."""
    if isinstance(error, RayError):
        return error
    if isinstance(error, HttpError):
        code = error.code if error.code in CODES else "invalid_http_request"
        return RayError(code, error.message, details=error.details, status=error.status)
    details = None if error is None else {"name": type(error).__name__, "message": str(error)}
    return RayError("gateway_error", "the gateway failed unexpectedly; its log says more", details=details)


class Traffic:
    """Logs and counts what passes. Keeps nothing of a request beyond shortcuts to the metrics' cells."""

    def __init__(self, logger: Logger, metrics: Metrics) -> None:
        self._logger = logger
        self._metrics = metrics
        self._cells: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def begin(self, request: Request) -> Exchange:
        """A request has arrived. What is known of it travels with it from here on."""
        exchange = request.context
        if not isinstance(exchange, Exchange):
            exchange = request.context = Exchange(request)
        return exchange

    def failed(self, exchange: Exchange, error: Exception | None) -> RayError:
        """A request was refused or broke: count it, log it once, and return what its client gets to see."""
        shown = as_ray_error(error)
        if exchange.reported and isinstance(error, RayError):
            return shown
        self._count(shown.code)
        if shown.code not in UNLOGGED_CODES:
            request = exchange.request
            self._log(
                request.method[:MAX_LOGGED_METHOD_CHARS], shown_path(request.path), exchange.request_id, shown, error
            )
        return shown

    def unparsed(self, request_id: str, error: Exception | None) -> RayError:
        """The same for bytes that were no request. `request_id`: what the answer to them carries."""
        shown = as_ray_error(error)
        self._count(shown.code)
        self._log(PARSER, PARSER, request_id, shown, error)
        return shown

    def client_gone(self, exchange: Exchange) -> None:
        """The client left while its request was being handled. Everyday life, so at debug level only."""
        self._logger.debug(
            "client went away",
            event="client_gone",
            request_id=exchange.request_id,
            method=exchange.request.method[:MAX_LOGGED_METHOD_CHARS],
            path=exchange.route or UNKNOWN_ROUTE,
        )

    def broke_off(self, error: Exception, request: Request) -> None:
        """A streaming answer failed after its head was sent, so that the client can no longer be told."""
        self.failed(self.begin(request), error)

    def completed(self, request: Request, status: int, bytes_sent: int, seconds: float) -> None:
        """A response is out. `bytes_sent`: head and body; `seconds`: since the request's head was complete."""
        exchange = self.begin(request)
        route = exchange.route or UNKNOWN_ROUTE
        key = (route, request.method, status)
        cells = self._cells.get(key) or self._remember(key)
        cells[0].increment()
        cells[1].observe(seconds)
        if self._logger.enabled("debug"):
            self._logger.debug(
                "request completed",
                event="request_completed",
                request_id=exchange.request_id,
                method=request.method[:MAX_LOGGED_METHOD_CHARS],
                path=route,
                status=status,
                bytes=bytes_sent,
                durationMs=round(seconds * 1000, 3),
                cutShort=exchange.cut_short,
            )

    def _remember(self, key: tuple[str, str, int]) -> tuple[Counter, Histogram]:
        route, method, status = key
        cells = (
            self._metrics.counter("http.requests", route=route, method=method, status=str(status)),
            self._metrics.histogram("http.duration", route=route),
        )
        # Clients choose their method freely; the metrics fold unknown ones into `other`, and so must this table.
        if len(self._cells) < MAX_REMEMBERED_CELLS:
            self._cells[key] = cells
        return cells

    def _count(self, code: str) -> None:
        if code == "unauthorized":
            self._metrics.increment("requests.auth_rejected")
            self._metrics.note("lastAuthRejectAt", iso_now())
        elif code == "rate_limited":
            self._metrics.increment("requests.rate_limited")
            self._metrics.note("lastRateLimitAt", iso_now())
        else:
            self._metrics.increment("requests.rejected", code=code)

    def _log(self, method: str, path: str, request_id: str, shown: RayError, error: Exception | None) -> None:
        described = error_fields(shown if error is None else error, stack=not shown.expected)
        described |= {"code": shown.code, "status": shown.status}
        described.pop("details", None)  # may quote what the caller sent
        if shown.expected:
            self._logger.warn(
                "request rejected",
                event="request_rejected",
                request_id=request_id,
                method=method,
                path=path,
                error=described,
            )
        else:
            self._logger.error(
                "request failed",
                event="request_failed",
                request_id=request_id,
                method=method,
                path=path,
                error=described,
            )


def shown_path(path: str) -> str:
    """A path for a log line: without its query, cut, or a marker when the target was refused."""
    return path[:MAX_LOGGED_PATH_CHARS] if path else INVALID_TARGET
