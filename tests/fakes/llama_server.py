"""One scriptable stand-in for llama-server, for all tests: it runs on the test's own event loop, on an ephemeral port.

By default it behaves like today's llama-server with a well-behaved model. `script` gives the next answers of a path;
attributes change the model (`pieces`, `props`, `last_event`) or the whole server (`loading`, `api_key`, `gate`). It
records every request, and each recorded request knows whether its client went away. It uses no code of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable
from types import TracebackType

from tests.fakes.llama_answers import (
    Answer,
    Exchange,
    Received,
    body_answer,
    context_exceeded_answer,
    cut_answer,
    error_answer,
    hanging_answer,
    json_answer,
    loading_answer,
    raw_answer,
    redirect_answer,
    stream_answer,
    token_event,
)
from tests.fakes.llama_chat import Call, chat_events, probabilities, rendered, vectors
from tests.fakes.llama_slots import FakeSlots, Refused

WAIT_SECONDS = 30.0

__all__ = [
    "Answer",
    "Exchange",
    "FakeLlamaServer",
    "Received",
    "body_answer",
    "context_exceeded_answer",
    "cut_answer",
    "error_answer",
    "hanging_answer",
    "json_answer",
    "loading_answer",
    "raw_answer",
    "redirect_answer",
    "stream_answer",
    "token_event",
]


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
        # What the model calls when a request has tools; whether its template shows them to it.
        self.calls: list[Call] = []
        self.knows_tools = True
        # Started with `--embeddings`.
        self.embeds = False
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
            "/v1/completions": self._answer_raw,
            "/v1/embeddings": self._answer_embeddings,
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
            Exchange(Received("", "", {}, b""), writer).cut(reset=True)
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
        exchange = Exchange(request, writer)
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
        await json_answer({"prompt": rendered(exchange.request.document, self.knows_tools)})(exchange)

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
        top = body.get("n_probs")
        for number, piece in enumerate(pieces, start=1):
            event = token_event(piece, number)
            if isinstance(top, int) and top:
                event["completion_probabilities"] = probabilities(piece, top)
            await exchange.event(event)
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
        body = exchange.request.document
        reason = "length" if self.stop_type == "limit" else "stop"
        calls = self.calls if body.get("tools") else []
        prompt_tokens, cached = 3, None
        timings = self._timings(prompt_tokens)
        if self.slots.directory is not None:
            prompt = rendered(body, self.knows_tools)
            slot, prompt_tokens, cached = self.slots.read(body.get("id_slot", 0), prompt)
            timings = {**timings, "cache_n": cached, "prompt_n": prompt_tokens - cached}
            self.slots.generated(slot, self.pieces)
        written = len(self.pieces)
        usage: dict[str, object] = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt_tokens + written,
        }
        await exchange.start_stream()
        for number, event in enumerate(chat_events(self.pieces, calls, reason, usage, timings)):
            await exchange.event(event)
            if number:
                await self._pause()
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end_stream()

    async def _answer_raw(self, exchange: Exchange) -> None:
        top = exchange.request.document.get("logprobs")
        await exchange.start_stream()
        for piece in self.pieces:
            logprobs = {"content": probabilities(piece, top)} if isinstance(top, int) else None
            await exchange.event(
                {"choices": [{"index": 0, "text": piece, "logprobs": logprobs, "finish_reason": None}]}
            )
        usage = {"prompt_tokens": 3, "completion_tokens": len(self.pieces), "total_tokens": 3 + len(self.pieces)}
        last = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
        await exchange.event({"choices": [last], "usage": usage, "timings": self._timings(3)})
        await exchange.chunk(b"data: [DONE]\n\n")
        await exchange.end_stream()

    async def _answer_embeddings(self, exchange: Exchange) -> None:
        if not self.embeds:
            refused = error_answer(501, "This server does not support embeddings. Start it with `--embeddings`")
            await refused(exchange)
            return
        body = exchange.request.document
        texts = body["input"]
        assert isinstance(texts, list)
        await json_answer(vectors(texts, body.get("encoding_format")))(exchange)

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
