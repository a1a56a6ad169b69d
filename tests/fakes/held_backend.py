"""An OpenAI-compatible backend that answers when the test lets it: what is under way stays so until then."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST_HOLD_SECONDS = 120.0


class HeldBackend(ThreadingHTTPServer):
    """`asked`: a question has come. `may_answer`: set by the test."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Completion)
        self.asked = threading.Event()
        self.may_answer = threading.Event()

    def model(self) -> dict[str, object]:
        """The section `model` of a config."""
        url = f"http://127.0.0.1:{self.server_port}"
        adapter = {"kind": "openai-compatible", "baseUrl": url, "modelRef": "m", "timeoutMs": 100_000}
        return {"adapter": adapter, "warmOnBoot": False}


class _Completion(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, HeldBackend)
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.set()
        if not self.server.may_answer.wait(LONGEST_HOLD_SECONDS):
            return
        if asked.get("stream"):
            chunk = {"choices": [{"index": 0, "delta": {"content": "done"}, "finish_reason": "stop"}]}
            self._send("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")
        else:
            message = {"role": "assistant", "content": "done"}
            document = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            self._send("application/json", json.dumps(document))

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": "m"}]}))

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@contextmanager
def held_backend() -> Iterator[HeldBackend]:
    """Runs while the block does; at its end everything held is answered."""
    with HeldBackend() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.may_answer.set()
            server.shutdown()
            thread.join()
