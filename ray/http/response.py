"""Response heads as bytes: status line, checked headers, date."""

from __future__ import annotations

import time

from ray.http.messages import Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

# RFC 9110 section 15 and RFC 6585, as far as a gateway answers with them. Others go out without a phrase, which
# RFC 9112 section 4 permits.
_PHRASES = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}\r\n" for status, phrase in _PHRASES.items()}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def sends_body(method: str, status: int) -> bool:
    """Whether a response has a body on the wire (RFC 9112 section 6.3, points 1 and 2)."""
    return method != "HEAD" and status != 204 and status != 304


def encode_head(response: Response, framing: str, tail: str) -> bytes:
    """Status line and headers up to and with the empty line. `framing` and `tail` are complete header lines.

    Raises ValueError when a header holds CR, LF or NUL (one header would become two), characters outside Latin-1, or
    when the status is not a final one.
    """
    status_line = _STATUS_LINES.get(response.status)
    if status_line is None:
        if not 200 <= response.status <= 599:
            raise ValueError(f"{response.status} is not a final HTTP status")
        status_line = f"HTTP/1.1 {response.status} \r\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    count = len(response.headers)
    if lines.count("\n") != count or lines.count("\r") != count or "\0" in lines:
        raise ValueError("a response header must not contain CR, LF or NUL")
    return f"{status_line}{lines}{framing}{tail}\r\n".encode("latin-1")


def http_date(epoch_seconds: float) -> str:
    """RFC 9110 section 5.6.7: IMF-fixdate, independent of the locale."""
    now = time.gmtime(epoch_seconds)
    day, month = _DAYS[now.tm_wday], _MONTHS[now.tm_mon - 1]
    return f"{day}, {now.tm_mday:02d} {month} {now.tm_year} {now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} GMT"


class ResponseTail:
    """The headers that end every response: `date`, `connection` and `keep-alive`. Built once a second."""

    def __init__(self, keep_alive_timeout_s: float, max_requests: int) -> None:
        parameters = f"timeout={int(keep_alive_timeout_s)}, max={max_requests}"
        self._keep_alive = f"connection: keep-alive\r\nkeep-alive: {parameters}\r\n"
        self._second = -1
        self._keep = ""
        self._close = ""

    def lines(self, keep_alive: bool) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            date = f"date: {http_date(second)}\r\n"
            self._keep = date + self._keep_alive
            self._close = date + "connection: close\r\n"
        return self._keep if keep_alive else self._close
