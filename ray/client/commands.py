"""What each command of `python -m ray.client` does and prints. The shapes of `--json` are listed in docs/clients.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TextIO

from ray.client.documents import ChatMessage, Job
from ray.client.errors import RayClientError, RayRefused
from ray.client.events import delta_text
from ray.client.sync import RayClient
from ray.client.tasks import DEFAULT_TASKS, plan_task

MAX_INPUT_CHARS = 1_048_576
EXIT_OK = 0
EXIT_FAILED = 1

Command = Callable[[RayClient, argparse.Namespace], int]


class UsageError(Exception):
    """What was asked for cannot be: a wrong option, a missing variable."""


def ask(client: RayClient, options: argparse.Namespace) -> int:
    question = _question(options)
    if options.task is not None:
        known = [profile.id for profile in DEFAULT_TASKS.profiles]
        if options.task not in known:
            raise UsageError(f"there is no task profile {options.task!r}: choose one of {', '.join(known)}")
        question = plan_task(question, options.task).request
    if options.json:
        _print_json(client.infer(question))
        return EXIT_OK
    with client.stream(question) as tokens:
        _print_pieces(tokens)
    return EXIT_OK


def chat(client: RayClient, options: argparse.Namespace) -> int:
    """Each turn is sent with all the turns before it. A turn that is refused is taken back; the next may be tried."""
    messages: list[ChatMessage] = [{"role": "system", "content": options.system}] if options.system else []
    status = EXIT_OK
    for line in _turns():
        asked: ChatMessage = {"role": "user", "content": line}
        request: dict[str, object] = {"messages": [*messages, asked]}
        for name, value in (("model", options.model), ("max_tokens", options.max_tokens)):
            if value is not None:
                request[name] = value
        try:
            text = _chat_turn(client, request, as_json=options.json)
        except RayRefused as error:
            report(error, as_json=options.json)
            status = EXIT_FAILED
        else:
            messages += [asked, {"role": "assistant", "content": text}]
    return status


def models(client: RayClient, options: argparse.Namespace) -> int:
    found = client.models()
    if options.json:
        _print_json({"models": found})
    else:
        for model in found:
            _print(str(model.get("id", "")))
    return EXIT_OK


def health(client: RayClient, options: argparse.Namespace) -> int:
    """A gateway that says it is not well has answered: that is shown like any other health, and the status is 1."""
    status = EXIT_OK
    try:
        document = client.health()
    except RayRefused as error:
        document = _health_in(error)
        status = EXIT_FAILED
    if options.json:
        _print_json(document)
    else:
        provider = document.get("provider")
        backend = provider.get("status", "unknown") if isinstance(provider, dict) else "unknown"
        _print(f"{document.get('status', 'unknown')}: model {document.get('modelId', 'unknown')}, backend {backend}")
        _print(f"{document.get('inFlight', '?')} running, {document.get('queueDepth', '?')} waiting")
    return status


def submit(client: RayClient, options: argparse.Namespace) -> int:
    request = _question(options)
    if options.callback_url is not None:
        request["callbackUrl"] = options.callback_url
    accepted = client.create_job(request, idempotency_key=options.idempotency_key)
    if options.json:
        _print_json(accepted)
    else:
        _print(str(accepted.get("id", "")))
    return EXIT_OK


def get(client: RayClient, options: argparse.Namespace) -> int:
    _print_job(client.job(options.id), as_json=options.json)
    return EXIT_OK


def wait(client: RayClient, options: argparse.Namespace) -> int:
    """Also says by its exit status whether the job succeeded."""
    try:
        job = client.wait_job(options.id, timeout_ms=options.for_ms)
    except ValueError as error:
        raise UsageError(f"--for-ms: {error}") from None
    _print_job(job, as_json=options.json)
    return EXIT_OK if job.get("status") == "succeeded" else EXIT_FAILED


def list_jobs(client: RayClient, options: argparse.Namespace) -> int:
    if options.limit < 1:
        raise UsageError("--limit must be at least 1")
    jobs = list(islice(client.jobs(status=options.status, page_size=min(options.limit, 100)), options.limit))
    if options.json:
        _print_json({"jobs": jobs})
    else:
        for job in jobs:
            _print(f"{job.get('id', '')}  {job.get('status', ''):<9}  {job.get('createdAt', '')}")
    return EXIT_OK


def cancel(client: RayClient, options: argparse.Namespace) -> int:
    _print_job(client.cancel_job(options.id), as_json=options.json)
    return EXIT_OK


def delete(client: RayClient, options: argparse.Namespace) -> int:
    client.delete_job(options.id)
    if options.json:
        _print_json({"deleted": options.id})
    return EXIT_OK


def report(error: RayClientError, *, as_json: bool) -> None:
    """A failure: one line on the standard error, or as JSON where the answer would have been."""
    if not as_json:
        sys.stdout.flush()
        print(f"ray.client: {error}", file=sys.stderr)
        return
    described: dict[str, object] = {"message": str(error)}
    for name, value in (
        ("code", error.code),
        ("status", error.status),
        ("retryAfter", error.retry_after),
        ("requestId", error.request_id),
    ):
        if value is not None:
            described[name] = value
    _print_json({"error": described})


def _question(options: argparse.Namespace) -> dict[str, object]:
    """The JSON object of `/v1/infer` and `/v1/jobs`."""
    text = options.text
    if text == "-":
        text = _read_input()
    question: dict[str, object] = {"input": text}
    for name, value in (
        ("system", options.system),
        ("maxTokens", options.max_tokens),
        ("temperature", options.temperature),
        ("seed", options.seed),
    ):
        if value is not None:
            question[name] = value
    return question


def _read_input() -> str:
    try:
        text = _input().read(MAX_INPUT_CHARS + 1)
    except UnicodeDecodeError:
        raise UsageError("the standard input is not text in the terminal's encoding") from None
    if len(text) > MAX_INPUT_CHARS:
        raise UsageError(f"the standard input has more than {MAX_INPUT_CHARS} characters")
    return text


def _input() -> TextIO:
    if sys.stdin is None:  # started with a closed one (`<&-`)
        raise UsageError("the standard input is closed")
    return sys.stdin


def _turns() -> Iterator[str]:
    """The lines of the standard input that are not blank. On a terminal with a prompt in front of each."""
    source = _input()
    interactive = source.isatty()
    while True:
        if interactive:
            print("> ", end="", file=sys.stderr, flush=True)
        try:
            line = source.readline(MAX_INPUT_CHARS)
        except UnicodeDecodeError:
            raise UsageError("the standard input is not text in the terminal's encoding") from None
        if not line:
            return
        if line.strip():
            yield line.strip()


def _chat_turn(client: RayClient, request: dict[str, object], *, as_json: bool) -> str:
    """The text that answers the last message; printed on the way."""
    if as_json:
        answer = client.chat(request)
        _print_json(answer)
        return _message_text(answer)
    with client.stream_chat(request) as chunks:
        return _print_pieces(delta_text(chunk) for chunk in chunks)


def _health_in(error: RayRefused) -> dict[str, object]:
    """The health that a 503 carries. Raises the error when it is another kind of refusal."""
    try:
        document = json.loads(error.body)
    except ValueError:
        raise error from None
    if not isinstance(document, dict) or "status" not in document:
        raise error
    return document


def _print_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        _print_json(job)
        return
    stopping = " (being stopped)" if job.get("cancelRequested") else ""
    _print(f"{job.get('id', '')}  {job.get('status', '')}{stopping}")
    error, result = _part(job, "error"), _part(job, "result")
    if error is not None:
        _print(f"{error.get('code', '')}: {error.get('message', '')}")
    if result is not None:
        _print(str(result.get("output", "")))


def _part(document: Mapping[str, object], key: str) -> Mapping[str, object] | None:
    """An object in a document that a stranger may have written; None when there is none."""
    part = document.get(key)
    return part if isinstance(part, dict) else None


def _message_text(answer: Mapping[str, object]) -> str:
    """The text of a chat completion; "" when it has none, because it calls a tool for example."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = _part(first, "message") if isinstance(first, dict) else None
    content = None if message is None else message.get("content")
    return content if isinstance(content, str) else ""


def _print_pieces(pieces: Iterable[str]) -> str:
    """Print each as it comes, and a line end after the last one or the failure; all of them joined."""
    joined: list[str] = []
    try:
        for piece in pieces:
            joined.append(piece)
            sys.stdout.write(_visible(piece))
            sys.stdout.flush()
    finally:
        if joined:
            sys.stdout.write("\n")
    return "".join(joined)


def _print(text: str) -> None:
    print(_visible(text))


def _print_json(document: Mapping[str, object]) -> None:
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")), flush=True)


def _visible(text: str) -> str:
    """What a model wrote must not steer a terminal: escape sequences lose their beginning there."""
    if not sys.stdout.isatty() or text.isprintable():
        return text
    return "".join(char for char in text if char in "\n\t" or ord(char) > 0x9F or 0x20 <= ord(char) < 0x7F)
