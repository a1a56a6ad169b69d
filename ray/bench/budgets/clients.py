"""Closed-loop clients that stream: each asks its next question when its last answer is complete.

The questions are handed out in one fixed order, to whichever client is free. One thread per client: at the pace of a
language model a thread costs nothing, and `http.client` reads chunked streams.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray.bench.budgets.doors import Answer, Door
from ray.bench.budgets.workload import Question
from ray.bench.processes.load import Address
from ray.bench.processes.process import MeasurementError
from ray.http import SseDecoder

ANSWER_SECONDS = 300.0
_RECEIVE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Asked:
    """One question with its answer. `number`: its place in the order of asking; `started`: seconds since the pass
    began; `ttft` and `latency`: seconds from sending it to its first text and to its end."""

    number: int
    family: int
    started: float
    ttft: float
    latency: float
    answer: Answer


@dataclass(frozen=True, slots=True)
class Load:
    """What a pass of clients took: `asked` in the order of asking."""

    wall_seconds: float
    asked: list[Asked]

    @property
    def completion_tokens(self) -> int:
        return sum(one.answer.completion_tokens for one in self.asked)

    @property
    def prompt_tokens(self) -> int:
        return sum(one.answer.prompt_tokens for one in self.asked)

    @property
    def tokens_per_second(self) -> float:
        return self.completion_tokens / self.wall_seconds


def ask_streaming(address: Address, door: Door, question: Question, tokens: int, reuse: bool = True) -> Asked:
    """One question on a connection of its own; `number` and `started` are 0.

    Raises `MeasurementError` for anything but a complete answer with text in it, and `OSError`.
    """
    body = json.dumps(door.body(question, tokens, reuse)).encode()
    reader, decoder = door.reader(), SseDecoder()
    began = time.perf_counter()
    first: float | None = None
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", door.path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise MeasurementError(f"{door.path} answered {response.status}: {response.read(300)!r}")
        while data := response.read1(_RECEIVE_BYTES):
            # Every event of the piece has to be fed, so no short-circuiting here.
            brought = [reader.feed(event, text) for event, text in decoder.feed(data)]
            if first is None and any(brought):
                first = time.perf_counter() - began
    except TimeoutError as error:
        raise MeasurementError(f"{door.path}: nothing came for {ANSWER_SECONDS:.0f} s") from error
    except http.client.HTTPException as error:
        raise MeasurementError(f"{door.path}: the answer broke off ({error!r})") from error
    finally:
        connection.close()
    latency = time.perf_counter() - began
    if first is None:
        raise MeasurementError(f"{door.path} answered without any text")
    return Asked(0, question.family, 0.0, first, latency, reader.answer())


def run_clients(address: Address, door: Door, questions: Sequence[Question], *, clients: int, tokens: int) -> Load:
    """Ask all `questions` with `clients` clients. The first failure ends the run with `MeasurementError`."""
    run = _Run(address, door, questions, tokens)
    threads = [threading.Thread(target=run.client, daemon=True) for _ in range(min(clients, len(questions)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        # After Ctrl-C the clients end with the server, which the caller stops.
        run.over = True
    wall = time.perf_counter() - run.began
    if run.failure is not None:
        raise MeasurementError(f"a request failed: {run.failure}") from run.failure
    return Load(wall, sorted(run.asked, key=lambda one: one.number))


class _Run:
    """What the clients of one pass share."""

    def __init__(self, address: Address, door: Door, questions: Sequence[Question], tokens: int) -> None:
        self.address = address
        self.door = door
        self.tokens = tokens
        self.asked: list[Asked] = []
        self.failure: Exception | None = None
        self.over = False
        self.began = time.perf_counter()
        self._waiting: Iterator[tuple[int, Question]] = iter(enumerate(questions))
        self._lock = threading.Lock()

    def client(self) -> None:
        while not self.over:
            with self._lock:
                number, question = next(self._waiting, (-1, None))
            if question is None:
                return
            started = time.perf_counter() - self.began
            try:
                one = ask_streaming(self.address, self.door, question, self.tokens)
            except (MeasurementError, OSError) as error:
                self.failure = self.failure or error
                self.over = True
                return
            self.asked.append(Asked(number, one.family, started, one.ttft, one.latency, one.answer))
