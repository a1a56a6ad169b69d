"""One request on its way through the gateway: its ids, its route, its caller, and the headers its answer will carry."""

from __future__ import annotations

from ray.clock import new_id
from ray.gateway.responses import REQUEST_ID_HEADER, Header
from ray.http import Request
from ray.types import Caller

MAX_REQUEST_ID_CHARS = 128
_REQUEST_ID_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-")

ANONYMOUS = Caller(None, "unknown")


class Exchange:
    """What the stages of one request share.

    `inference_id`: fresh for every request, the `id` of its answer. `request_id`: the caller's own `x-request-id` when
    that is sane, else the inference id; it is in every answer's headers and in every log line about the request.
    `headers`: what the answer carries besides its own headers; each stage adds to it.
    `route`: the route's name once it is known. `reported`: a lower floor has already logged this request's failure.
    `cut_short`: its event stream did not get to its end, mostly because the client left.
    """

    __slots__ = ("caller", "cut_short", "headers", "inference_id", "reported", "request", "request_id", "route")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.inference_id = new_id("req")
        self.request_id = sane_request_id(request.headers.get(REQUEST_ID_HEADER)) or self.inference_id
        self.headers: list[Header] = [(REQUEST_ID_HEADER, self.request_id)]
        self.caller = ANONYMOUS
        self.route: str | None = None
        self.reported = False
        self.cut_short = False


def sane_request_id(value: str | None) -> str | None:
    """A caller's request id, if it can be put into headers and log lines as it is."""
    if value and len(value) <= MAX_REQUEST_ID_CHARS and _REQUEST_ID_CHARS.issuperset(value):
        return value
    return None
