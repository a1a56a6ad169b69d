"""The options of a client: each checked once, when the client is made, so that no call fails because of them.

What is wrong raises TypeError or ValueError, which names the option and never shows a key or the value of a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_URL_CHARS = 2_048
MAX_KEY_CHARS = 1_024
MAX_HEADERS = 64
MAX_HEADER_NAME_CHARS = 128
MAX_HEADER_VALUE_CHARS = 8_192
MAX_TIMEOUT_MS = 600_000
MAX_REQUEST_BYTES = 1_048_576
MAX_RESPONSE_BYTES = 67_108_864
MAX_ATTEMPTS = 10
MAX_WAIT_MS = 600_000

DEFAULT_TIMEOUT_MS = 60_000
DEFAULT_RESPONSE_BYTES = 2_097_152

# What a client sets itself, what frames the message, and what is meant for one hop only (RFC 9110, section 7.6.1).
RESERVED_HEADERS = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-type", "host", "keep-alive",
        "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VISIBLE = re.compile(r"[!-~]+")
_URL_MARKS = "?#@\\"


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long a client tries again. Without one it never does.

    `attempts`: at most so many in all, the first included. `longest_wait_ms`: a gateway that asks for more patience
    is not waited for.
    """

    attempts: int = 3
    longest_wait_ms: int = 30_000

    def __post_init__(self) -> None:
        whole_number("retries.attempts", self.attempts, 1, MAX_ATTEMPTS)
        whole_number("retries.longest_wait_ms", self.longest_wait_ms, 0, MAX_WAIT_MS)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is. `prefix`: the path in front of every route, without a slash at its end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Options:
    """What both clients are made with. Times in milliseconds, sizes in bytes."""

    address: Address
    # Holds the key: not even a debugger's or an error collector's view of local variables shows it.
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    timeout_ms: int
    request_body_limit_bytes: int
    response_body_limit_bytes: int
    retries: Retries | None


def checked_options(
    base_url: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_ms: int = DEFAULT_TIMEOUT_MS,
    request_body_limit_bytes: int = MAX_REQUEST_BYTES,
    response_body_limit_bytes: int = DEFAULT_RESPONSE_BYTES,
    retries: Retries | None = None,
) -> Options:
    """The options of a client. Raises TypeError and ValueError."""
    given = _headers(headers)
    if api_key is not None:
        given["authorization"] = f"Bearer {_api_key(api_key)}"
    if retries is not None and not isinstance(retries, Retries):
        raise TypeError("retries must be a Retries object, or None for none")
    return Options(
        _address(base_url),
        tuple(given.items()),
        checked_timeout(timeout_ms),
        whole_number("request_body_limit_bytes", request_body_limit_bytes, 1, MAX_REQUEST_BYTES),
        whole_number("response_body_limit_bytes", response_body_limit_bytes, 1, MAX_RESPONSE_BYTES),
        retries,
    )


def checked_timeout(timeout_ms: int) -> int:
    """Milliseconds that one call may take. Raises TypeError and ValueError."""
    return whole_number("timeout_ms", timeout_ms, 1, MAX_TIMEOUT_MS)


def whole_number(name: str, value: int, low: int, high: int) -> int:
    """`value`, which must be a whole number from `low` to `high`. Raises TypeError and ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string")
    return value


def _address(base_url: object) -> Address:
    """The parts of the base URL. It is looked at as it was written, because `urlsplit` drops line breaks silently."""
    from urllib.parse import urlsplit

    url = _text("base_url", base_url)
    if not url or len(url) > MAX_URL_CHARS:
        raise ValueError(f"base_url must have 1 to {MAX_URL_CHARS} characters")
    if not _VISIBLE.fullmatch(url):
        raise ValueError("base_url must not contain white space, control characters or characters outside of ASCII")
    if any(mark in url for mark in _URL_MARKS):
        raise ValueError("base_url must not contain a user name, a query, a fragment or a backslash")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("base_url is not a URL: its host or port cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("base_url must begin with http:// or https://")
    if not host or port == 0:
        raise ValueError("base_url must name a host, and a port from 1 to 65535 if any")
    if ":" not in host and not all(1 <= len(label) <= 63 for label in host.removesuffix(".").split(".")):
        raise ValueError("base_url must name a host whose parts have 1 to 63 characters")  # RFC 1035, section 2.3.4
    default = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, host, port or default, parts.path.removesuffix("/"))


def _api_key(key: object) -> str:
    text = _text("api_key", key)
    if not 1 <= len(text) <= MAX_KEY_CHARS:
        raise ValueError(f"api_key must have 1 to {MAX_KEY_CHARS} characters")
    if not _VISIBLE.fullmatch(text):
        raise ValueError("api_key must not contain white space, control characters or characters outside of ASCII")
    return text


def _headers(headers: object) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise TypeError("headers must be a mapping of names to values")
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"headers must have at most {MAX_HEADERS} entries")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = _header_name(name)
        if lower in checked:
            raise ValueError(f"headers names {lower!r} twice: upper and lower case do not tell them apart")
        checked[lower] = _header_value(lower, value)
    return checked


def _header_name(name: object) -> str:
    text = _text("the name of a header in headers", name)
    if len(text) > MAX_HEADER_NAME_CHARS or not _TOKEN.fullmatch(text):
        raise ValueError(f"headers has a name that is not a token of 1 to {MAX_HEADER_NAME_CHARS} characters")
    if text.lower() in RESERVED_HEADERS:
        raise ValueError(f"headers must not set {text.lower()!r}: the client sets or forbids it")
    return text.lower()


def _header_value(name: str, value: object) -> str:
    text = _text(f"the value of {name!r} in headers", value)
    if len(text) > MAX_HEADER_VALUE_CHARS:
        raise ValueError(f"the value of {name!r} in headers has more than {MAX_HEADER_VALUE_CHARS} characters")
    if any(mark in text for mark in "\0\r\n"):
        raise ValueError(f"the value of {name!r} in headers holds NUL or a line break")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"the value of {name!r} in headers holds characters that HTTP cannot carry") from None
    return text
