"""A webhook receiver that keeps a record of everything that reached it, and that is as unreliable as it is told to be.

It verifies by the public Standard Webhooks rules: base64 HMAC-SHA256 over `id.timestamp.body`, a `v1,` list, 300 s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal

TOLERANCE_SECONDS = 300
MAX_BODY_BYTES = 4 << 20

Answer = Literal["accept", "refuse", "hang_up"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request as it arrived. `at`: seconds on `time.monotonic()`; `fault`: why its signature does not hold."""

    path: str
    webhook_id: str
    body: bytes
    at: float
    answer: Answer
    fault: str | None

    @property
    def accepted(self) -> bool:
        """Whether a 2xx was written. The sender may have died before it read it."""
        return self.answer == "accept"


def new_secret(rng: random.Random) -> str:
    """A secret in the form in which it is exchanged."""
    return "whsec_" + base64.b64encode(rng.randbytes(32)).decode("ascii")


def signature_fault(secret: str, headers: dict[str, str], body: bytes) -> str | None:
    """Why this request is not to be trusted, or None. `headers`: names in lower case."""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not message_id or "." in message_id or not timestamp.isdecimal():
        return f"bad webhook-id {message_id!r} or webhook-timestamp {timestamp!r}"
    if abs(time.time() - int(timestamp)) > TOLERANCE_SECONDS:
        return f"webhook-timestamp {timestamp} is too far away"
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode("ascii") + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode("ascii")
    given = headers.get("webhook-signature", "").split(" ")
    return None if any(hmac.compare_digest(expected, one) for one in given) else "no signature matches"


class Receiver:
    """Listens on a port of 127.0.0.1 while it is entered. `refusals`: the share, 0 to 1, of deliveries that fail."""

    def __init__(self, secret: str, *, seed: int, refusals: float) -> None:
        self._secret = secret
        self._rng = random.Random(seed)
        self._refusals = refusals
        self._lock = threading.Lock()
        self._deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged: the deliveries are the log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Senders that were killed leave connections behind; nobody waits for their threads.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a killed sender is no news
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything that has arrived so far, in order."""
        with self._lock:
            return list(self._deliveries)

    def accept_everything(self) -> None:
        """From now on nothing is refused."""
        self._refusals = 0.0

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length", "0"))
        body = request.rfile.read(min(length, MAX_BODY_BYTES))
        request.close_connection = True
        if len(body) < length:
            return  # the sender died in the middle: nothing has arrived
        headers = {name.lower(): value for name, value in request.headers.items()}
        fault = signature_fault(self._secret, headers, body)
        with self._lock:
            answer = self._next_answer()
            delivery = Delivery(request.path, headers.get("webhook-id", ""), body, time.monotonic(), answer, fault)
            self._deliveries.append(delivery)
        if answer == "hang_up":
            return
        request.send_response(204 if answer == "accept" else 503)
        request.send_header("content-length", "0")
        request.end_headers()

    def _next_answer(self) -> Answer:
        if self._rng.random() >= self._refusals:
            return "accept"
        return self._rng.choice(("refuse", "hang_up"))

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
