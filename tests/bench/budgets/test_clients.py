"""Closed-loop clients: the order of asking, the first token, and failures that end the run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ray.bench.budgets.clients import ask_streaming, run_clients
from ray.bench.budgets.doors import DIRECT
from ray.bench.budgets.workload import Question
from ray.bench.processes.load import Address
from ray.bench.processes.process import MeasurementError

LAST = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}, "timings": {"cache_n": 4}}


def _delta(text: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}}]}


def _question(number: int) -> Question:
    return Question(number % 3, "system", f"line {number}")


class Backend:
    """Streams what `events` gives for the customer's line; `received` holds the lines, `peak` the most at one time."""

    def __init__(self, events: Callable[[str], list[object]], together: threading.Barrier | None = None) -> None:
        self.events = events
        self.together = together
        self.received: list[str] = []
        self.status = 200

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        line = body["messages"][1]["content"]
        self.received.append(line)
        if self.together is not None:
            self.together.wait(10)
        handler.send_response(self.status)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for event in self.events(line):
            data = f"data: {json.dumps(event)}\n\n".encode()
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(backend: Backend) -> Iterator[Address]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            backend.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield ("127.0.0.1", server.server_address[1])
        finally:
            server.shutdown()
            thread.join(5)


def _hello(line: str) -> list[object]:
    return [_delta("Hello "), _delta(line), LAST]


def test_an_answer_comes_with_its_times_and_counts() -> None:
    with serving(Backend(_hello)) as address:
        one = ask_streaming(address, DIRECT, _question(1), 8)
    assert one.answer.text == "Hello line 1"
    assert (one.answer.prompt_tokens, one.answer.completion_tokens, one.answer.cached_tokens) == (9, 2, 4)
    assert 0 < one.ttft <= one.latency


def test_every_question_is_asked_once_and_answers_stay_with_their_questions() -> None:
    backend = Backend(_hello)
    questions = [_question(number) for number in range(23)]
    with serving(backend) as address:
        load = run_clients(address, DIRECT, questions, clients=4, tokens=8)
    assert sorted(backend.received) == sorted(question.line for question in questions)
    assert [one.number for one in load.asked] == list(range(23))
    assert [one.answer.text for one in load.asked] == [f"Hello {question.line}" for question in questions]
    assert [one.family for one in load.asked] == [question.family for question in questions]
    assert load.completion_tokens == 46
    assert load.prompt_tokens == 207
    assert load.tokens_per_second == 46 / load.wall_seconds


def test_one_client_asks_in_the_given_order() -> None:
    backend = Backend(_hello)
    with serving(backend) as address:
        run_clients(address, DIRECT, [_question(number) for number in range(9)], clients=1, tokens=8)
    assert backend.received == [f"line {number}" for number in range(9)]


def test_all_clients_ask_at_the_same_time() -> None:
    # The barrier opens only when three requests are being answered at once.
    backend = Backend(_hello, threading.Barrier(3))
    with serving(backend) as address:
        load = run_clients(address, DIRECT, [_question(number) for number in range(6)], clients=3, tokens=8)
    assert len(load.asked) == 6


def test_a_refused_question_ends_the_run_with_status_and_body() -> None:
    backend = Backend(lambda line: [{"error": {"message": "too busy"}}])
    backend.status = 503
    with serving(backend) as address, pytest.raises(MeasurementError, match=r"answered 503.*too busy"):
        run_clients(address, DIRECT, [_question(0)], clients=2, tokens=8)


def test_after_a_failure_no_client_asks_on() -> None:
    backend = Backend(lambda line: [_delta("half an answer")])
    with serving(backend) as address, pytest.raises(MeasurementError, match="a request failed"):
        run_clients(address, DIRECT, [_question(number) for number in range(50)], clients=2, tokens=8)
    assert len(backend.received) <= 4


def test_an_answer_without_text_is_a_failed_measurement() -> None:
    with serving(Backend(lambda line: [LAST])) as address, pytest.raises(MeasurementError, match="without any text"):
        ask_streaming(address, DIRECT, _question(0), 8)
