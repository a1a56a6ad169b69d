"""Which `Host` values and request targets are accepted (RFC 9112 section 3.2, RFC 9110 section 7.2).

Nothing is rewritten: no percent-decoding, no dot segments resolved, no backslashes turned. What a proxy in front
could read differently is refused.
"""

from __future__ import annotations

import socket

from ray.http.grammar import HOST_IPV6, HOST_NAME, SCHEME
from ray.http.messages import HttpError, Limits

MAX_HOST_NAME_CHARS = 253
MAX_DETAIL_CHARS = 128
HTTP_PORT = 80


def parse_host(value: str, where: str = "Host") -> tuple[str, int]:
    """The host (lower case, no trailing dot; IPv6 without brackets) and port (80 when absent) of a `Host` value.

    `where`: what the message calls the place it stands in.
    Raises HttpError `invalid_request`.
    """
    lowered = value.lower()
    match = HOST_NAME.fullmatch(lowered)
    if match is None:
        match = HOST_IPV6.fullmatch(lowered)
        if match is None or not _is_ipv6(match[1]):
            raise _refused(f"{where} must be a host name, an IPv4 or a bracketed IPv6 address, with optional :port")
    elif len(match[1]) > MAX_HOST_NAME_CHARS:
        raise _refused(f"the host name in {where} must not be longer than {MAX_HOST_NAME_CHARS} characters")
    port = match[2]
    if port is None:
        return match[1], HTTP_PORT
    number = int(port)
    if not 1 <= number <= 65_535:
        raise _refused(f"the port in {where} must be a number from 1 to 65535")
    return match[1], number


def resolve_target(target: str, host: str | None, limits: Limits) -> tuple[str, str]:
    """The path and the query of a request target, after checking the target and the `Host` value next to it.

    `host` is None only where HTTP/1.0 permits it. Raises HttpError `request_target_too_large` or `invalid_request`.
    """
    if len(target) > limits.max_target_chars:
        raise HttpError(
            414,
            "request_target_too_large",
            f"the request target must not be longer than {limits.max_target_chars} characters",
            {"maxChars": limits.max_target_chars, "actualChars": len(target)},
        )
    address = None
    if host is not None:
        if len(host) > limits.max_host_chars:
            raise HttpError(
                400,
                "invalid_request",
                f"Host must not be longer than {limits.max_host_chars} characters",
                {"maxChars": limits.max_host_chars, "actualChars": len(host)},
            )
        address = parse_host(host)
    if "\\" in target or "#" in target:
        raise _refused("the request target must not contain a backslash or a fragment")
    if target[:1] != "/":
        target = _origin_form(target, host, address)
    elif target[:2] == "//":
        raise _refused("the request target must not start with //; the authority belongs into Host")
    path, _, query = target.partition("?")
    return path, query


def _origin_form(target: str, host: str | None, address: tuple[str, int] | None) -> str:
    """The origin-form of an absolute-form target for this very host (RFC 9112 section 3.2.2)."""
    if not target:
        raise _refused("the request target is empty")
    scheme = SCHEME.match(target)
    if scheme is None:
        raise _refused("the request target must start with / or be an absolute http URL")
    rest = target[scheme.end() :]
    if scheme[1].lower() != "http" or rest[:2] != "//":
        raise _refused("an absolute request target must be an http URL")
    if host is None:
        raise _refused("an absolute request target needs a Host header")
    rest = rest[2:]
    end = next((index for index, char in enumerate(rest) if char in "/?"), len(rest))
    authority, tail = rest[:end], rest[end:]
    if parse_host(authority, "the authority of the request target") != address:
        raise HttpError(
            400,
            "invalid_request",
            "the authority of the request target must equal Host",
            {"host": host[:MAX_DETAIL_CHARS], "requestHost": authority[:MAX_DETAIL_CHARS]},
        )
    return tail if tail.startswith("/") else "/" + tail


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def _refused(message: str) -> HttpError:
    return HttpError(400, "invalid_request", message)
