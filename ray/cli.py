"""The command line: `python -m ray --config FILE` runs the gateway; the other commands only look.

With `--json` they print one line: an object with `ok`, and `error` as on the routes where that is false. Its shapes are
promised in docs/embedding.md. Exit status: 0 fine, 1 a failure or something an operator must repair, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from ray.config import Config, LoadedConfig, load_config, sanitised_config
from ray.errors import RayError
from ray.telemetry import discard_output
from ray.version import VERSION


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command; the exit status. Without arguments: the process's own."""
    try:
        status = _run(argv, os.environ if environ is None else environ)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output(sys.stdout)  # the reader has seen enough (`| head`): neither an error nor a traceback
        return 0
    except OSError as error:
        discard_output(sys.stdout)
        print(f"ray: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return 1
    return status


def _run(argv: Sequence[str] | None, environ: Mapping[str, str]) -> int:
    parser = _parser()
    try:
        options = parser.parse_args(argv)
        if options.json and not (options.check or options.print_config or options.version):
            parser.error("--json goes with --check, --print-config or --version: a gateway that runs logs JSON anyway")
    except SystemExit as leaving:  # --help ends with 0, wrong usage with 2
        return leaving.code if isinstance(leaving.code, int) else 2
    if options.version:
        return _version(as_json=options.json)
    if options.check:
        return _check(options.config, environ, as_json=options.json)
    if options.print_config:
        return _print_config(options.config, environ, as_json=options.json)
    return _serve(options.config, environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ray",
        description="A lean AI gateway for one cheap box, in front of a local llama-server.",
        epilog="Without --config the profile named by RAY_PROFILE is used. RAY_* variables override the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="configuration file (JSON)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="load the configuration, say what would run, and exit")
    action.add_argument("--print-config", action="store_true", help="print the effective configuration as JSON")
    action.add_argument("--version", action="store_true", help="print the version, and exit")
    parser.add_argument("--json", action="store_true", help="with one of these: one line of JSON, also on failure")
    return parser


def _serve(path: str | None, environ: Mapping[str, str]) -> int:
    # Only a gateway that runs pays for loading one.
    from ray.gateway import report_boot_failure, serve

    try:
        return serve(load_config(path, environ, os.getcwd()), environ)
    except Exception as error:  # noqa: BLE001 - whatever stopped the boot, the operator gets one line that names it
        report_boot_failure(error, sys.stderr)
        return 1


def _version(*, as_json: bool) -> int:
    if as_json:
        _print_json({"version": VERSION, "python": ".".join(map(str, sys.version_info[:3]))})
    else:
        print(f"ray {VERSION}")
    return 0


def _print_config(path: str | None, environ: Mapping[str, str], *, as_json: bool) -> int:
    try:
        loaded = load_config(path, environ, os.getcwd())
    except RayError as error:
        return _failed(error, as_json=as_json)
    document = sanitised_config(loaded.config)
    if as_json:
        _print_json({"config": loaded.path or "defaults", "effective": document})
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    return 0


def _check(path: str | None, environ: Mapping[str, str], *, as_json: bool) -> int:
    try:
        plan = what_would_run(load_config(path, environ, os.getcwd()), environ)
    except RayError as error:
        return _failed(error, as_json=as_json)
    if as_json:
        _print_json(plan)
    else:
        print(_table(plan), end="")
    return 0


def _print_json(document: Mapping[str, object]) -> None:
    print(json.dumps({"ok": True, **document}, ensure_ascii=False))


def _failed(error: RayError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, **error.envelope()}))
    else:
        print(f"ray: {error.message}", file=sys.stderr)
    return 1


def what_would_run(loaded: LoadedConfig, environ: Mapping[str, str]) -> dict[str, object]:
    """What `--check` says: everything an operator may want to compare with what they meant.

    Goes as far as a boot goes without touching the network: keys are resolved and the provider is made. Raises
    RayError `config_validation_error`.
    """
    # Only this command needs them, and a gateway that boots loads them anyway.
    from ray.config import resolve_api_keys
    from ray.providers import create_provider, launch_command

    config = loaded.config
    keys = resolve_api_keys(config, environ)
    create_provider(config, environ)
    plan: dict[str, object] = {
        "config": loaded.path or "defaults",
        "profile": config.profile,
        "model": {
            "id": config.model.id,
            "contextWindow": config.model.context_window,
            "maxOutputTokens": config.model.max_output_tokens,
            "warmOnBoot": config.model.warm_on_boot,
        },
        "adapter": _adapter(config),
        "listen": {"host": config.server.host, "port": config.server.port},
        "auth": {"enabled": config.auth.enabled, "keys": len(keys), "apiKeyEnv": config.auth.api_key_env},
        "rateLimit": _rate_limit(config),
        "jobs": _jobs(config, environ),
        "limits": {
            "requestBodyLimitBytes": config.server.request_body_limit_bytes,
            "concurrency": config.scheduler.concurrency,
            "maxQueue": config.scheduler.max_queue,
            "maxQueuedTokens": config.scheduler.max_queued_tokens,
            "maxInflightTokens": config.scheduler.max_inflight_tokens,
            "requestTimeoutMs": config.scheduler.request_timeout_ms,
        },
    }
    adapter = config.model.adapter
    if adapter.kind == "llama.cpp" and adapter.launch_profile is not None:
        plan["backendCommand"] = launch_command(adapter.launch_profile, config.prefix_store)
    return plan


def _adapter(config: Config) -> dict[str, object]:
    adapter = config.model.adapter
    if adapter.kind == "mock":
        return {"kind": adapter.kind, "latencyMs": adapter.latency_ms}
    return {
        "kind": adapter.kind,
        "baseUrl": adapter.base_url,
        "modelRef": adapter.model_ref,
        "timeoutMs": adapter.timeout_ms,
    }


def _jobs(config: Config, environ: Mapping[str, str]) -> dict[str, object]:
    queue = config.async_queue
    plan: dict[str, object] = {"enabled": queue.enabled, "storageDir": queue.storage_dir, "maxJobs": queue.max_jobs}
    if queue.enabled:
        from ray.jobs import WebhookSecrets  # a gateway without durable jobs never loads the code for them

        secrets = WebhookSecrets.from_environment(environ)
        plan["callbackSecrets"] = 0 if secrets is None else len(secrets)
    return plan


def _rate_limit(config: Config) -> dict[str, object]:
    limit = config.rate_limit
    return {
        "enabled": limit.enabled,
        "maxRequests": limit.max_requests,
        "windowMs": limit.window_ms,
        "keyStrategy": limit.key_strategy,
        "trustProxyHeaders": limit.trust_proxy_headers,
    }


def _table(plan: Mapping[str, object]) -> str:
    """The plan as aligned lines: one per subject, what is switched off as just `off`."""
    rows = [(subject, _readable(value)) for subject, value in plan.items()]
    width = max(len(subject) for subject, _ in rows)
    return "".join(f"{subject:<{width}}  {text}\n" for subject, text in rows)


def _readable(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        import shlex  # only a readable --check of a launched backend needs it

        return shlex.join(value)
    if not isinstance(value, Mapping):
        return str(value)
    if value.get("enabled") is False:
        return "off"
    return ", ".join(f"{key} {_readable(item)}" for key, item in value.items())
