"""What can go wrong between a program and the gateway, as exceptions that a program can act on.

    RayClientError
        RayRequestError      never sent: not JSON, too large, an argument that cannot work
        RayRefused           the gateway, or a proxy in front of it, said no: `status`, `code`, `retry_after`
        RayAnswerError       an answer that cannot be used: too large, not JSON, cut off
        RayTimeout           no complete answer within the client's own time
        RayConnectionError   refused, reset, unreachable
            RayUnreachable   no connection came about, so nothing was sent

No message holds a header, a key or what was asked. What the gateway wrote about a failure is in `body`.
"""

from __future__ import annotations

__all__ = [
    "RayAnswerError",
    "RayClientError",
    "RayConnectionError",
    "RayRefused",
    "RayRequestError",
    "RayTimeout",
    "RayUnreachable",
]


class RayClientError(Exception):
    """A call that brought no answer.

    `status`: of the HTTP answer; of an error in the middle of a stream, the status its code has. `code`: the gateway's,
    for programs (http-api, section 7). `retry_after`: seconds after which asking again makes sense. `request_id`: how
    the gateway's log calls the request. `body`: the text of the answer. All but `body` are None where there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        body: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.request_id = request_id
        self.body = body


class RayRequestError(RayClientError):
    """The request cannot be sent as it is; no byte of it was."""


class RayRefused(RayClientError):
    """An answer that is no success: not 2xx, or an error event in a stream."""


class RayAnswerError(RayClientError):
    """An answer that says success and cannot be used."""


class RayTimeout(RayClientError):
    """The client's time was over before the answer was complete. The request may have been carried out."""


class RayConnectionError(RayClientError):
    """The connection broke. The request may have been carried out."""


class RayUnreachable(RayConnectionError):
    """No connection came about. The request was not carried out."""
