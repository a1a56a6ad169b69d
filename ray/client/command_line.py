"""The gateway from the shell: `python -m ray.client ask "Why is the sky blue?"`.

An answer is printed token by token; with `--json` every command prints one line of JSON, failures too
(docs/clients.md). The API key comes from the environment, never from an argument, which everyone on the machine can
read. Exit status: 0 fine; 1 a refusal, a failure, a job that did not succeed, a gateway that is not ready; 2 wrong
usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout

from ray.client import commands
from ray.client.commands import EXIT_FAILED, EXIT_OK, Command, UsageError
from ray.client.errors import RayClientError
from ray.client.options import MAX_TIMEOUT_MS, Retries
from ray.client.plans import DEFAULT_JOB_TIMEOUT_MS
from ray.client.sync import RayClient
from ray.telemetry import discard_output

DEFAULT_URL = "http://127.0.0.1:3000"
DEFAULT_KEY_ENV = "RAY_API_KEY"
# A little more than the gateway's own patience with an answer in most configurations, so that its reason comes first.
DEFAULT_TIMEOUT_MS = 150_000

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command; the exit status. Without arguments: the process's own."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as leaving:  # --help ends with 0, wrong usage with 2
        return leaving.code if isinstance(leaving.code, int) else EXIT_USAGE
    try:
        with _somewhere_to_write():
            status = _run(options, os.environ if environ is None else environ)
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)  # the reader has seen enough (`| head`), and leaving has stopped the model
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        discard_output(sys.stdout)
        print(f"ray.client: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    return status


@contextmanager
def _somewhere_to_write() -> Iterator[None]:
    """A process that was started with a closed standard output (`>&-`) has none at all: what it prints is dropped."""
    if sys.stdout is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a narrow terminal shows what it cannot spell as an escape
    command: Command = options.command
    try:
        with _client(options, environ) as client:
            return command(client, options)
    except UsageError as error:
        print(f"ray.client: {error}", file=sys.stderr)
        return EXIT_USAGE
    except RayClientError as error:
        commands.report(error, as_json=options.json)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray.client",
        description="Ask a Ray gateway.",
        epilog=f"The API key is read from the environment variable {DEFAULT_KEY_ENV}, or from the one that --key-env "
        "names. RAY_URL is the default of --url.",
        allow_abbrev=False,
    )
    common = _common_options()
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    ask = _command(verbs, common, "ask", commands.ask, "one question, answered token by token")
    _add_question(ask)
    ask.add_argument("--task", metavar="NAME", help="a task profile: classify, summarize, draft, revise, extract-json")

    chat = _command(verbs, common, "chat", commands.chat, "a conversation: each line of the standard input is a turn")
    chat.add_argument("--system", metavar="TEXT", help="what the model is to keep to")
    chat.add_argument("--model", metavar="ID", help="a model that `models` shows; without it the gateway's own")
    chat.add_argument("--max-tokens", type=int, metavar="N")

    _command(verbs, common, "models", commands.models, "the models of the gateway")
    _command(verbs, common, "health", commands.health, "how the gateway and its backend are")

    job = verbs.add_parser("job", help="durable jobs", allow_abbrev=False)
    _job_commands(job.add_subparsers(title="commands", required=True, metavar="COMMAND"), common)
    return parser


def _job_commands(jobs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    submit = _command(jobs, common, "submit", commands.submit, "submit a question as a job and print its id")
    _add_question(submit)
    submit.add_argument("--idempotency-key", metavar="KEY", help="the same key makes one job, however often it is sent")
    submit.add_argument("--callback-url", metavar="URL", help="who is told when it has ended")
    listing = _command(jobs, common, "list", commands.list_jobs, "your jobs, newest first")
    listing.add_argument("--status", choices=("queued", "running", "succeeded", "failed", "cancelled"))
    listing.add_argument("--limit", type=int, default=20, metavar="N", help="at most so many (default 20)")
    for name, run, what in (
        ("get", commands.get, "one job"),
        ("wait", commands.wait, "one job, once it has ended"),
        ("cancel", commands.cancel, "end a job"),
        ("delete", commands.delete, "remove a job that has ended"),
    ):
        one = _command(jobs, common, name, run, what)
        one.add_argument("id")
        if name == "wait":
            one.add_argument(
                "--for-ms", type=int, default=DEFAULT_JOB_TIMEOUT_MS, metavar="N", help="how long (default 10 minutes)"
            )


def _common_options() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--url", help=f"where the gateway is (default: RAY_URL, else {DEFAULT_URL})")
    common.add_argument(
        "--key-env", metavar="NAME", help=f"the variable that holds the key (default {DEFAULT_KEY_ENV})"
    )
    common.add_argument("--json", action="store_true", help="print one line of JSON")
    common.add_argument(
        "--timeout-ms", type=int, default=DEFAULT_TIMEOUT_MS, metavar="N", help=f"per request, at most {MAX_TIMEOUT_MS}"
    )
    common.add_argument("--attempts", type=int, default=1, metavar="N", help="when the gateway is busy (default 1)")
    return common


def _command(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    name: str,
    run: Command,
    what: str,
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, parents=[common], help=what, description=what, allow_abbrev=False)
    parser.set_defaults(command=run)
    return parser


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", help="the question; - reads it from the standard input")
    parser.add_argument("--system", metavar="TEXT", help="what the model is to keep to")
    parser.add_argument("--max-tokens", type=int, metavar="N")
    parser.add_argument("--temperature", type=float, metavar="X")
    parser.add_argument("--seed", type=int, metavar="N")


def _client(options: argparse.Namespace, environ: Mapping[str, str]) -> RayClient:
    name = options.key_env or DEFAULT_KEY_ENV
    key = environ.get(name) or None
    if options.key_env is not None and key is None:
        raise UsageError(f"the environment variable {name!r} that --key-env names is not set")
    try:
        return RayClient(
            options.url or environ.get("RAY_URL") or DEFAULT_URL,
            api_key=key,
            timeout_ms=options.timeout_ms,
            retries=Retries(attempts=options.attempts) if options.attempts != 1 else None,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
