"""One attempt to deliver a callback: a POST on a connection of its own, to an address that was judged a moment before.

What it promises: the connection goes to a judged address by number and its peer is compared afterwards, while the name
stays in `Host`, in SNI and in the check of the certificate; no redirect is followed and no proxy variable obeyed; one
absolute deadline covers name lookup, connecting, TLS, sending and the answer's headers, so a receiver that sends a byte
now and then gains nothing; at most 16 kB of headers are read and no body; what failed is told in one coarse word.

The exchange runs on the event loop: nothing of the answer but status and `Retry-After` matters, and a deadline or a
cancellation takes effect at once. Source: jobs, sections 9 and 17 (B5, B8); RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ray.jobs.addresses import address_text, packed_address
from ray.jobs.callback_policy import CallbackPolicy, CallbackRefused, CheckedTarget
from ray.jobs.resolver import ResolutionFailed
from ray.jobs.retry_after import retry_after_seconds

if TYPE_CHECKING:
    import ssl

MAX_HEAD_BYTES = 16_384
# Of the addresses of one name, how many are tried; all are judged.
MAX_CONNECT_ADDRESSES = 4

GONE = 410  # the receiver asks for no more, RFC 9110 section 15.5.11
_RETRY_AFTER_STATUSES = (429, 503)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: .*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)

OutcomeKind = Literal["delivered", "retry", "give_up"]


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What became of one attempt. `reason`: `http_204` and other statuses, `timeout`, `dns_failed`, `connect_failed`,
    `tls_failed`, `connection_lost`, `invalid_response`, `blocked_address`, `blocked_port`, `https_required`,
    `invalid_url`, `interrupted`. `retry_after_s`: what the receiver asked for, an hour at most."""

    kind: OutcomeKind
    reason: str
    retry_after_s: float | None = None


class _Failed(Exception):
    """This attempt cannot succeed any more. `reason`: one coarse word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def default_tls_context() -> ssl.SSLContext:
    """The system's certificate store, names checked, HTTP/1.1 only. Takes some 20 ms."""
    # Only callbacks over https pay for it.
    import ssl

    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Sender:
    """Makes attempts. `make_tls_context` runs once, in a thread, at the first https attempt."""

    def __init__(
        self, policy: CallbackPolicy, *, make_tls_context: Callable[[], ssl.SSLContext] = default_tls_context
    ) -> None:
        self._policy = policy
        self._timeout_s = policy.settings.callback_timeout_ms / 1000
        self._make_tls_context = make_tls_context
        self._tls: ssl.SSLContext | None = None

    async def deliver(self, url: str, headers: Sequence[tuple[str, str]], body: bytes) -> DeliveryOutcome:
        """One attempt within `asyncQueue.callbackTimeoutMs`. Never raises but when it is cancelled."""
        end = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(end):
                target = await self._policy.resolve(url)
                status, retry_after = await self._exchange(target, headers, body, end)
        except TimeoutError:
            return DeliveryOutcome("retry", "timeout")
        except CallbackRefused as refusal:
            return DeliveryOutcome("give_up", refusal.reason)
        except ResolutionFailed:
            return DeliveryOutcome("retry", "dns_failed")
        except _Failed as failure:
            return DeliveryOutcome("retry", failure.reason)
        return outcome_of(status, retry_after, time.time())

    async def _exchange(
        self, target: CheckedTarget, headers: Sequence[tuple[str, str]], body: bytes, end: float
    ) -> tuple[int, str | None]:
        tls = await self._tls_context() if target.url.scheme == "https" else None
        connection = await _connected(target, end)
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection,
                ssl=tls,
                server_hostname=target.url.host if tls is not None else None,
                limit=MAX_HEAD_BYTES,
            )
        except OSError:  # ssl.SSLError is one
            connection.close()
            raise _Failed("tls_failed" if tls is not None else "connect_failed") from None
        except BaseException:
            connection.close()
            raise
        try:
            # Not drained: what the receiver answers counts, even if it has not read everything.
            writer.write(_request_head(target, headers, len(body)))
            writer.write(body)
            return await read_answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            raise _Failed("connection_lost") from None
        except (ValueError, asyncio.LimitOverrunError):
            raise _Failed("invalid_response") from None
        finally:
            # The body of the answer is of no interest, and no farewell of TLS is worth waiting for.
            writer.transport.abort()

    async def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = await asyncio.get_running_loop().run_in_executor(None, self._make_tls_context)
            except OSError:  # a certificate store that cannot be read
                raise _Failed("tls_failed") from None
        return self._tls


async def _connected(target: CheckedTarget, end: float) -> socket.socket:
    """A connected socket whose peer is one of the judged addresses. `end`: the deadline on the loop's clock.

    An address that does not answer gets its share of the time that is left, so that the next one gets a chance.
    """
    addresses = target.addresses[:MAX_CONNECT_ADDRESSES]
    for place, address in enumerate(addresses):
        remaining = end - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(remaining / (len(addresses) - place)):
                return await _connection_to(address, target.url.port)
        except OSError:  # TimeoutError is one
            continue
    raise _Failed("connect_failed")


async def _connection_to(address: bytes, port: int) -> socket.socket:
    """Connect by number and look at who answered. Raises OSError."""
    connection = socket.socket(socket.AF_INET if len(address) == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address_text(address), port))
        if packed_address(connection.getpeername()[0].partition("%")[0]) != address:
            raise OSError("the peer is not who was called")
    except BaseException:
        connection.close()
        raise
    return connection


def outcome_of(status: int, retry_after: str | None, now: float) -> DeliveryOutcome:
    """What an answer means: 2xx delivered, 410 nobody wants it, everything else (3xx, too) try again."""
    reason = f"http_{status}"
    if 200 <= status < 300:
        return DeliveryOutcome("delivered", reason)
    if status == GONE:
        return DeliveryOutcome("give_up", reason)
    wait = retry_after_seconds(retry_after, now) if status in _RETRY_AFTER_STATUSES else None
    return DeliveryOutcome("retry", reason, wait)


def _request_head(target: CheckedTarget, headers: Sequence[tuple[str, str]], length: int) -> bytes:
    url = target.url
    lines = [f"POST {url.target} HTTP/1.1", f"host: {url.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"content-length: {length}", "accept-encoding: identity", "connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii")


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, str | None]:
    """Status and `Retry-After` of the final answer. Interim answers (1xx) are skipped, on the same budget of bytes.

    Raises ValueError for what is not HTTP or is too long, IncompleteReadError for an end before the headers' end.
    """
    budget = MAX_HEAD_BYTES
    while True:
        lines: list[bytes] = []
        while True:
            line = await reader.readuntil(b"\n")
            budget -= len(line)
            if budget < 0:
                raise ValueError("too many headers")
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if not line:
                break
            lines.append(line)
        found = _STATUS_LINE.fullmatch(lines[0]) if lines else None
        if found is None:
            raise ValueError("no status line")
        status = int(found[1])
        if status >= 200 or status == 101:
            return status, _retry_after(lines[1:])


def _retry_after(lines: Sequence[bytes]) -> str | None:
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is not None and found[1].lower() == b"retry-after":
            return found[2].decode("latin-1")
    return None
