"""`python -m ray.bench`: measure, print a table or JSON.

Exit 0 when measuring worked, whatever came out; 1 when it did not, or with `--check` when a budget was missed;
2 for wrong usage. The report goes to stdout, progress and errors to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from ray.bench import backend_bench, gateway_bench
from ray.bench.backend_bench import Backend
from ray.bench.gateway_process import MAX_CONNECTIONS
from ray.bench.load import Address
from ray.bench.process import MeasurementError, parse_machine_ticks
from ray.bench.report import Report, json_document, machine_facts, text_table

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_STOPPED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one bench command. `argv` without the program's name; the process's own when None."""
    parser = _parser()
    options = parser.parse_args(argv)
    _check_usage(parser, options)
    # SIGTERM ends the bench like Ctrl-C does: the servers it started must not outlive it.
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        report = _gateway_report(options)
    except (MeasurementError, OSError) as error:
        print(f"ray.bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("ray.bench: stopped", file=sys.stderr)
        return EXIT_STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    print(json.dumps(json_document(report), indent=2) if options.json else text_table(report), end="")
    if options.json:
        print()
    return EXIT_FAILED if options.check and report.exceeded else EXIT_OK


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ray.bench", description="Measure Ray against its budgets.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    gateway = commands.add_parser(
        "gateway",
        help="what the gateway costs: start, memory, CPU per request, throughput, freed slots",
        description="Start the gateway as a real process and measure it. Takes about half a minute on two cores.",
    )
    gateway.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter that runs the gateway")
    gateway.add_argument("--connections", type=_connections, default=8, metavar="N", help="for throughput (default 8)")
    gateway.add_argument("--quick", action="store_true", help="some hundred requests: shows that it works, no more")
    gateway.add_argument("--json", action="store_true", help="the report as JSON")
    gateway.add_argument("--check", action="store_true", help="exit 1 when a budget is missed")
    model = gateway.add_argument_group("with a real model")
    model.add_argument("--backend", type=_address, metavar="URL", help="a running llama-server, http://HOST:PORT")
    model.add_argument("--llama-server", metavar="PATH", help="start this llama-server; needs --model")
    model.add_argument("--model", metavar="GGUF", help="the model file for --llama-server")
    return parser


def _connections(text: str) -> int:
    value = int(text)
    if not 1 <= value <= MAX_CONNECTIONS:
        raise argparse.ArgumentTypeError(f"must be 1 to {MAX_CONNECTIONS}")
    return value


def _address(text: str) -> Address:
    """`http://HOST[:PORT]`, nothing behind it, as a socket address."""
    try:
        parts = urlsplit(text)
        port = parts.port or 80
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a URL: {error}") from error
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise argparse.ArgumentTypeError("must be http://HOST:PORT without a path")
    return parts.hostname, port


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Rules between options; ends the process with usage and exit 2 when one is broken."""
    if (options.llama_server is None) != (options.model is None):
        parser.error("--llama-server and --model belong together")
    if options.backend and options.llama_server:
        parser.error("give either --backend or --llama-server, not both")
    for name, path in (("--llama-server", options.llama_server), ("--model", options.model)):
        if path is not None and not Path(path).is_file():
            parser.error(f"{name}: there is no file {path}")


def _gateway_report(options: argparse.Namespace) -> Report:
    started, machine_before, own_before = time.monotonic(), _machine_ticks(), _own_cpu_seconds()
    facts = {**machine_facts(), "gateway runs on": gateway_bench.interpreter_name(options.python)}
    plan = gateway_bench.QUICK if options.quick else gateway_bench.FULL
    rows = gateway_bench.measure_gateway(plan, options.python, options.connections, _progress)
    if options.backend or options.llama_server:
        backend = Backend(options.backend, options.llama_server, options.model)
        backend_plan = backend_bench.QUICK if options.quick else backend_bench.FULL
        rows += backend_bench.measure_backend(backend, backend_plan, options.python, _progress)
    else:
        rows += backend_bench.rows_without_backend()
    facts["took"] = f"{time.monotonic() - started:.0f} s"
    share = _foreign_share(machine_before, own_before)
    facts["used by other processes meanwhile"] = f"{share:.0%} of the machine"
    return Report("gateway-bench", rows, facts)


def _machine_ticks() -> tuple[int, int]:
    return parse_machine_ticks(Path("/proc/stat").read_text(encoding="ascii"))


def _own_cpu_seconds() -> float:
    """CPU time of this process and of every child that has been waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _foreign_share(machine_before: tuple[int, int], own_before: float) -> float:
    """The share of the machine's CPU time, 0 to 1, that went to processes which are not part of this bench."""
    busy, whole = (after - before for after, before in zip(_machine_ticks(), machine_before, strict=True))
    own = (_own_cpu_seconds() - own_before) * os.sysconf("SC_CLK_TCK")
    return max(0.0, busy - own) / max(1, whole)


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
