"""One scriptable stand-in for llama-server, for all tests: it runs on the test's own event loop, on an ephemeral port.

By default it behaves like today's llama-server with a well-behaved model. `script` gives the next answers of a path;
attributes change the model (`pieces`, `props`, `last_event`) or the whole server (`loading`, `api_key`, `gate`). It
records every request, and each recorded request knows whether its client went away. It uses no code of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.fakes.llama_slots import FakeSlots, Refused

REASONS = {200: "OK", 204: "No Content", 307: "Temporary Redirect", 400: "Bad Request", 503: "Service Unavailable"}
WAIT_SECONDS = 10.0
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    500: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}


@dataclass(eq=False)
class Received:
    """A request that arrived. `client_left` is set when its client closed the connection before the answer was over."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def document(self) -> dict[str, object]:
        value = json.loads(self.body or b"{}")
        assert isinstance(value, dict)
        return value


class Exchange:
    """One answer in the making."""

    def __init__(self, server: FakeLlamaServer, request: Received, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.request = request
        self.keep_alive = False
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def respond(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"Content-Length: {len(body)}"]
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self.keep_alive = "connection" not in {name.lower() for name in headers}

    async def start_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            b"Keep-Alive: timeout=5, max=100\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, document: object) -> None:
        await self.chunk(b"data: " + json.dumps(document).encode() + b"\n\n")

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def cut(self, *, reset: bool = False) -> None:
        """Drop the connection as a dying process does; `reset`: with RST instead of FIN."""
        if reset:
            connection = self._writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Answer = Callable[[Exchange], Awaitable[None]]


def json_answer(document: object, status: int = 200, content_type: str = "application/json; charset=utf-8") -> Answer:
    return body_answer(json.dumps(document).encode(), status, content_type)


def body_answer(
    body: bytes, status: int = 200, content_type: str = "application/json; charset=utf-8", **headers: str
) -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(status, body, content_type, **headers)

    return answer


def error_answer(status: int, message: str = "no", **more: object) -> Answer:
    error = {"code": status, "message": message, "type": ERROR_TYPES.get(status, "server_error"), **more}
    return json_answer({"error": error}, status)


def loading_answer() -> Answer:
    return error_answer(503, "Loading model")


def context_exceeded_answer(prompt_tokens: int, window: int) -> Answer:
    return error_answer(
        400,
        f"request ({prompt_tokens} tokens) exceeds the available context size ({window} tokens)",
        type="exceed_context_size_error",
        n_prompt_tokens=prompt_tokens,
        n_ctx=window,
    )


def redirect_answer(location: str) -> Answer:
    return body_answer(b"", 307, "", location=location)


def raw_answer(data: bytes, *, then_cut: bool = True) -> Answer:
    """These bytes on the wire, whatever they are."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(data)
        if then_cut:
            exchange.cut()
        else:
            await asyncio.Event().wait()

    return answer


def hanging_answer() -> Answer:
    """Nothing, ever."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    return answer


def cut_answer(*, reset: bool = False) -> Answer:
    """The connection dies before a byte was sent."""

    async def answer(exchange: Exchange) -> None:
        exchange.cut(reset=reset)

    return answer


def stream_answer(*events: object, ended: bool = True, cut: bool = False, done: bool = False) -> Answer:
    """These events (text is sent as it is, anything else as JSON), then a proper end, a cut, or silence."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in events:
            if isinstance(event, str):
                await exchange.chunk(f"data: {event}\n\n".encode())
            else:
                await exchange.event(event)
        if done:
            await exchange.chunk(b"data: [DONE]\n\n")
        if cut:
            exchange.cut(reset=True)
        elif ended:
            await exchange.end_stream()
        else:
            await asyncio.Event().wait()

    return answer


def token_event(text: str, number: int = 1) -> dict[str, object]:
    """A `/completion` event of one token."""
    return {"index": 0, "content": text, "tokens": [7], "stop": False, "id_slot": -1, "tokens_predicted": number}


class FakeLlamaServer:
    """`async with FakeLlamaServer() as fake:` then `fake.base_url`."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.pieces: list[str] = ["Hello", " from", " the", " fake"]
        # Added to the last event of a completion; a value of None removes the key.
        self.last_event: dict[str, object | None] = {}
        self.stop_type = "eos"
        # The model adds a begin-of-sequence token that /tokenize does not show unless asked, as today's servers do.
        self.adds_bos = False
        self.loading = False
        self.api_key: str | None = None
        # When set: a completion sends its first token and then waits for this event.
        self.gate: asyncio.Event | None = None
        self.generating = asyncio.Event()
        self.props: dict[str, object] = {
            "default_generation_settings": {"params": {}, "n_ctx": 4096},
            "total_slots": 2,
            "model_alias": "fake-model",
            "model_path": "/models/fake.gguf",
            "chat_template": "{{ messages }}",
            "endpoint_slots": True,
            "endpoint_metrics": False,
            "build_info": "b1-fake",
            "is_sleeping": False,
        }
        self.models: list[object] = [{"id": "fake-model"}]
        # What the slots hold is simulated once their directory is set (`slots.directory`).
        self.slots = FakeSlots(2)
        self._scripts: dict[str, deque[Answer]] = {}
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()
        self._port = port
        self._defaults: dict[str, Answer] = {
            "/health": json_answer({"status": "ok"}),
            "/props": self._answer_props,
            "/slots": self._answer_slots,
            "/apply-template": self._answer_template,
            "/tokenize": self._answer_tokenize,
            "/completion": self._answer_completion,
            "/v1/models": self._answer_models,
            "/v1/chat/completions": self._answer_chat,
        }

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def script(self, path: str, *answers: Answer) -> None:
        """The next answers of `path`, in order; after them it behaves as usual again."""
        self._scripts.setdefault(path, deque()).extend(answers)

    def always(self, path: str, answer: Answer) -> None:
        """The answer of `path` from now on."""
        self._defaults[path] = answer

    def received(self, path: str) -> list[Received]:
        return [request for request in self.requests if request.path == path]

    async def wait_for(self, path: str, number: int = 1) -> Received:
        """The `number`-th request to `path`, as soon as it has arrived."""
        async with asyncio.timeout(WAIT_SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.received(path)) >= number)
        return self.received(path)[number - 1]

    async def start(self) -> None:
        """Listen; after `stop` on the same port again, like a restarted backend."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: nobody listens, and every connection is reset."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._server.wait_closed()

    async def __aenter__(self) -> FakeLlamaServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            begun: bytes | None = b""
            while begun is not None:
                begun = await self._serve_one(reader, writer, begun)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            # Only `stop` cancels: this is the process dying.
            Exchange(self, Received("", "", {}, b""), writer).cut(reset=True)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes
    ) -> bytes | None:
        """Returns the first byte of the next request on this connection, or None when it is over."""
        request = await _read_request(reader, begun)
        if request is None:
            return None
        async with self._news:
            self.requests.append(request)
            self._news.notify_all()
        exchange = Exchange(self, request, writer)
        answering = asyncio.create_task(_as_coroutine(self._answer_for(request)(exchange)))
        listening = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({answering, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                request.client_left.set()
                return None
            await answering
            request.answered.set()
            return (await listening or None) if exchange.keep_alive else None
        finally:
            for task in (answering, listening):
                task.cancel()
            await asyncio.gather(answering, listening, return_exceptions=True)

    def _answer_for(self, request: Received) -> Answer:
        scripted = self._scripts.get(request.path)
        if scripted:
            return scripted.popleft()
        if self.loading:
            return loading_answer()
        is_public = self.api_key is None or request.path == "/health"
        if not is_public and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error_answer(401, "Invalid API Key")
        if request.path.startswith("/slots/"):
            return self._answer_slot_action
        return self._defaults.get(request.path, error_answer(404, "File Not Found"))

    async def _answer_props(self, exchange: Exchange) -> None:
        await json_answer(self.props)(exchange)

    async def _answer_slots(self, exchange: Exchange) -> None:
        total = self.props["total_slots"]
        assert isinstance(total, int)
        slots = [{"id": n, "n_ctx": 4096, "is_processing": n in self.slots.busy} for n in range(total)]
        await json_answer(slots)(exchange)

    async def _answer_slot_action(self, exchange: Exchange) -> None:
        number, _, action = exchange.request.path.removeprefix("/slots/").partition("?action=")
        try:
            done = self.slots.act(int(number), action, exchange.request.document.get("filename"))
        except Refused as refused:
            await error_answer(refused.status, str(refused))(exchange)
        else:
            await json_answer(done)(exchange)

    async def _answer_template(self, exchange: Exchange) -> None:
        messages = exchange.request.document["messages"]
        assert isinstance(messages, list)
        prompt = "".join(f"<{message['role']}>{message['content']}\n" for message in messages) + "<assistant>"
        await json_answer({"prompt": prompt})(exchange)

    async def _answer_tokenize(self, exchange: Exchange) -> None:
        body = exchange.request.document
        tokens = list(range(len(str(body["content"]).split())))
        if self.adds_bos and body.get("add_special"):
            tokens.append(1)
        await json_answer({"tokens": tokens})(exchange)

    async def _answer_models(self, exchange: Exchange) -> None:
        await json_answer({"object": "list", "data": self.models})(exchange)

    async def _answer_completion(self, exchange: Exchange) -> None:
        body = exchange.request.document
        prompt_tokens = len(str(body["prompt"]).split()) + self.adds_bos
        slot: object = body.get("id_slot", 0)
        timings = self._timings(prompt_tokens)
        pieces = [] if body.get("n_predict") == 0 else self.pieces
        if self.slots.directory is not None:
            slot, prompt_tokens, cached = self.slots.read(slot, str(body["prompt"]))
            timings = {**timings, "cache_n": cached, "prompt_n": prompt_tokens - cached}
        await exchange.start_stream()
        for number, piece in enumerate(pieces, start=1):
            await exchange.event(token_event(piece, number))
            await self._pause()
        if isinstance(slot, int) and self.slots.directory is not None:
            self.slots.generated(slot, pieces)
        last: dict[str, object | None] = {
            "content": "",
            "stop": True,
            "id_slot": slot,
            "tokens_evaluated": prompt_tokens,
            "tokens_predicted": len(pieces),
            "truncated": False,
            "stop_type": self.stop_type,
            "timings": timings,
            **self.last_event,
        }
        await exchange.event({name: value for name, value in last.items() if value is not None})
        await exchange.end_stream()

    async def _answer_chat(self, exchange: Exchange) -> None:
        reason = "length" if self.stop_type == "limit" else "stop"
        await exchange.start_stream()
        for piece in self.pieces:
            await exchange.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            await self._pause()
        await exchange.event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.pieces), "total_tokens": 3 + len(self.pieces)}
        await exchange.event({"choices": [], "usage": usage, "timings": self._timings(3)})
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end_stream()

    async def _pause(self) -> None:
        self.generating.set()
        if self.gate is not None:
            await self.gate.wait()

    def _timings(self, prompt_tokens: int) -> dict[str, object]:
        return {
            "cache_n": 1,
            "prompt_n": prompt_tokens - 1,
            "prompt_ms": 20.0,
            "prompt_per_second": 100.0,
            "predicted_n": len(self.pieces),
            "predicted_ms": 40.0,
            "predicted_per_second": 50.0,
        }


async def _as_coroutine(answer: Awaitable[None]) -> None:
    await answer


async def _read_request(reader: asyncio.StreamReader, begun: bytes) -> Received | None:
    try:
        head = (begun + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if separator:
            # Repeated headers are joined, as servers do: a test sees that there were two.
            key = name.lower()
            headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)
