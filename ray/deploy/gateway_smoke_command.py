"""`gateway-smoke`: start a gateway with a config, ask it what a first user and a stranger would, and stop it."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping
from typing import TextIO

from ray.config import load_config
from ray.deploy.config_files import is_inside, shown
from ray.deploy.failures import UsageError
from ray.deploy.output import print_json, table
from ray.deploy.paths import path_option
from ray.deploy.settings import add_json_argument

DEFAULT_CONFIG = "./examples/config/ray.tiny.json"
DEFAULT_TIMEOUT_MS = 10_000
MAX_TIMEOUT_MS = 120_000
MAX_HOST_BYTES = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cwd", metavar="PATH", default=".", help="directory of relative paths (default: this one)")
    parser.add_argument(
        "--config", metavar="PATH", default=DEFAULT_CONFIG, help=f"Ray config inside it (default: {DEFAULT_CONFIG})"
    )
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="N", help="port to listen on (default: one that is free)")
    parser.add_argument(
        "--timeout-ms",
        metavar="N",
        default=str(DEFAULT_TIMEOUT_MS),
        help=f"for each question and each wait, at most {MAX_TIMEOUT_MS} (default: {DEFAULT_TIMEOUT_MS})",
    )
    parser.add_argument("--public-safety", action="store_true", help="with keys and a request limit that must hold")
    parser.add_argument("--async-queue", action="store_true", help="with a durable job, in a temporary directory")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """0: the gateway did all that was asked. The environment is not looked at: neither keys nor overrides leak in."""
    from ray.deploy.gateway_smoke import Trial, run_trial  # it brings a whole gateway along; wrong usage needs none

    cwd = path_option(options.cwd, "--cwd")
    config_path = path_option(options.config, "--config", cwd)
    if not is_inside(config_path, cwd):
        raise UsageError(f"--config must lie inside {cwd}; name another directory with --cwd")
    trial = Trial(
        config_path=shown(config_path, cwd),
        host=_loopback(options.host),
        port=0 if options.port is None else _number(options.port, "--port", 65_535),
        timeout_ms=_number(options.timeout_ms, "--timeout-ms", MAX_TIMEOUT_MS),
        public_safety=options.public_safety,
        async_queue=options.async_queue,
    )
    config = load_config(config_path, {}, cwd).config
    summary = run_trial(config, trial)
    if options.json:
        print_json(summary, out)
    else:
        out.write(_text(summary))
    return 0


def _number(text: str, name: str, largest: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= largest:
        return int(text)
    raise UsageError(f"{name} must be a whole number from 1 to {largest}")


def _loopback(host: str) -> str:
    """A host that only this machine can reach. Raises `UsageError`."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or len(host) > MAX_HOST_BYTES:
        raise UsageError("--host must be localhost, an address of 127.0.0.0/8, or ::1 without brackets")
    return host


def _text(summary: Mapping[str, object]) -> str:
    rows = [
        ("mode", str(summary["mode"])),
        ("config", f"{summary['configPath']} (profile {summary['profile']}, model {summary['modelId']})"),
        ("gateway", str(summary["baseUrl"])),
        ("GET /livez", str(summary["livezStatus"])),
        ("GET /readyz", str(summary["readyzStatus"])),
        *_safety_rows(summary.get("publicSafety")),
        *_job_rows(summary.get("asyncQueue")),
    ]
    if "asyncQueue" not in summary:
        rows.append(("POST /v1/infer", f"{summary['inferStatus']}, {summary['outputChars']} characters"))
    return table(rows) + "Gateway smoke passed.\n"


def _safety_rows(safety: object) -> list[tuple[str, str]]:
    if not isinstance(safety, Mapping):
        return []
    return [
        ("without a key", f"401 on all {len(safety['protectedMissingStatuses'])} protected routes"),
        ("with a wrong key", f"401 on all {len(safety['protectedInvalidStatuses'])} protected routes"),
        ("with the key", ", ".join(f"{status} {path}" for path, status in safety["protectedValidStatuses"].items())),
        ("over the limit", str(safety["rateLimitStatus"])),
    ]


def _job_rows(jobs: object) -> list[tuple[str, str]]:
    if not isinstance(jobs, Mapping):
        return []
    auth = jobs.get("auth")
    refused = [] if auth is None else [("without a key", str(auth["missingStatus"]))]
    return [
        *refused,
        ("POST /v1/jobs", str(jobs["createStatus"])),
        ("job", f"{jobs['finalStatus']} after {jobs['pollCount']} looks, {jobs['outputChars']} characters"),
        ("observability", "health and metrics agree"),
    ]
