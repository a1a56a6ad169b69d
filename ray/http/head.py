"""What a request head means: its headers, its framing, and whether this server can accept it.

`interpret_head` takes the pieces that `grammar.HEAD` matched. Faults of framing raise `HttpError`: nobody knows where
the next request would begin, so the connection ends. A head whose framing is sound but whose `Host`, target or
`Expect` is refused comes back with its `refusal`, so that the answer can name the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.http.grammar import BROKEN_LINE_END, CONTENT_LENGTH, CRLF, HEAD, HEAD_END, TRAILERS
from ray.http.messages import Headers, HttpError, Limits
from ray.http.target import MAX_DETAIL_CHARS, resolve_target


@dataclass(slots=True)
class RequestHead:
    """A request line and its headers, and what they mean for framing.

    `path` is empty when `refusal` is about the target or `Host`. `content_length` is None for a chunked body and for
    none; `keep_alive` is what the client permits (RFC 9112 section 9.3).
    """

    method: str
    target: str
    path: str
    query: str
    version: str
    headers: Headers
    content_length: int | None
    chunked: bool
    keep_alive: bool
    expect_continue: bool
    refusal: HttpError | None = None

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)


def interpret_head(method: str, target: str, version: str, field_lines: str, limits: Limits) -> RequestHead:
    """The request head made of these parts. Raises HttpError `invalid_http_request` or `request_headers_too_large`."""
    if version not in ("1.1", "1.0"):
        raise malformed("the HTTP version must be 1.1 or 1.0")
    if method == "CONNECT":
        # RFC 9110 section 9.3.6: a tunnel. This is not a proxy, and bytes that follow would not be HTTP.
        raise malformed("CONNECT is not supported")
    headers = _fields(field_lines, limits)
    content_length, chunked = _framing(headers, version)
    host = headers.get("host")
    if host is None:
        if version == "1.1":
            raise malformed("an HTTP/1.1 request needs a Host header")
    elif len(headers.get_all("host")) > 1:
        raise malformed("the Host header must not be repeated")
    refusal = None
    path = query = ""
    try:
        path, query = resolve_target(target, host, limits)
    except HttpError as error:
        refusal = error
    expect = headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        refusal = _unsupported_expectation(expect)
    return RequestHead(
        method=method,
        target=target,
        path=path,
        query=query,
        version=version,
        headers=headers,
        content_length=content_length,
        chunked=chunked,
        keep_alive=_keeps_alive(headers.get("connection"), version),
        # RFC 9110 section 10.1.1: a server ignores the expectation of an HTTP/1.0 client.
        expect_continue=expect is not None and refusal is None and version == "1.1",
        refusal=refusal,
    )


def _fields(field_lines: str, limits: Limits) -> Headers:
    lines = field_lines.split("\r\n")
    # The split leaves an empty string behind the last CRLF.
    if len(lines) - 1 > limits.max_headers_count:
        raise HttpError(
            431,
            "request_headers_too_large",
            f"a request must not have more than {limits.max_headers_count} headers",
            {"maxCount": limits.max_headers_count},
        )
    pairs = []
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            pairs.append((name, value.strip(" \t")))
    return Headers(pairs)


def _framing(headers: Headers, version: str) -> tuple[int | None, bool]:
    """Content-Length and whether the body is chunked (RFC 9112 section 6.3), or an HttpError.

    Both fields at once, a repeated or signed or listed length, and any coding but one `chunked` are the classic ways
    to make two parsers disagree about where a request ends; so is chunked in HTTP/1.0 (RFC 9112 section 6.1).
    """
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise malformed("Content-Length and Transfer-Encoding must not come together")
        if version == "1.0":
            raise malformed("an HTTP/1.0 request must not use Transfer-Encoding")
        if coding.lower() != "chunked":
            raise malformed("the only supported Transfer-Encoding is a single chunked")
        return None, True
    if length is None:
        return None, False
    if CONTENT_LENGTH.fullmatch(length) is None:
        raise malformed("Content-Length must be one decimal number")
    return int(length), False


def _keeps_alive(connection: str | None, version: str) -> bool:
    if connection is None:
        return version == "1.1"
    options = [option.strip(" \t") for option in connection.lower().split(",")]
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


def _unsupported_expectation(expect: str) -> HttpError:
    return HttpError(
        417,
        "unsupported_expectation",
        "the only supported Expect value is 100-continue",
        {"expect": expect[:MAX_DETAIL_CHARS], "supported": ["100-continue"]},
    )


def fault_of_head(head: bytes) -> str:
    """Why `head` does not match the grammar, without repeating any of it: values may be secrets."""
    if BROKEN_LINE_END.search(head):
        return "a line must end in CRLF"
    request_line, _, fields = head.partition(CRLF)
    if HEAD.match(request_line + HEAD_END) is None:
        return "the request line must be a method, a target and HTTP/1.1, separated by single spaces"
    for number, line in enumerate(fields.split(CRLF)[:-1], start=1):
        if line[:1] in (b" ", b"\t"):
            return f"header line {number} is folded; put the value on one line"
        if TRAILERS.fullmatch(line + CRLF) is None:
            return f"header line {number} must be a name, a colon and a value without control characters"
    return "the request head is malformed"


def malformed(message: str) -> HttpError:
    """Bytes that are not HTTP/1.1 as this server accepts it."""
    return HttpError(400, "invalid_http_request", message)
