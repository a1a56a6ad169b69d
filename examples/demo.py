"""The demo: Ray in front of a real `llama-server` with a small real model, on this machine.

    make demo                                # or: python3 -m examples.demo
    python3 -m examples.demo --once          # ask one question, print the answers, stop

It finds or builds `llama-server` and fetches the model (`local_backend.py`), writes a config into `.cache/demo/`,
starts both processes from that one config, waits until the gateway is ready, prints commands to paste, and stops both
on Ctrl-C. Ports are chosen when it starts. What the processes say goes to files beside the config.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from examples.local_backend import (
    CACHE,
    MODEL_CONTEXT_TOKENS,
    ROOT,
    BackendUnavailable,
    ensure_llama_server,
    fetch_model,
    server_environment,
)
from ray.config import LlamaCppAdapter, load_config
from ray.errors import RayError
from ray.providers import launch_command

USUAL_PORT = 3000
READY_SECONDS = 120.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 25
SLOTS = 2
POOL_TOKENS = 4_096
QUESTION = "In one short sentence: why do small language models like a queue?"


class DemoFailed(Exception):
    """Something ended that should run, or did not get ready. The message holds the end of its log."""


class Child:
    """A process of the demo. What it says goes to `log`."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        # The config of the demo says everything; settings of another gateway on this machine must not change it.
        environ = server_environment()
        with log.open("wb") as output:
            # A session of its own: Ctrl-C in the terminal reaches only the demo, which then stops them in order.
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises `DemoFailed` when the process is no longer there."""
        status = self._process.poll()
        if status is not None:
            raise DemoFailed(f"{self.name} ended with exit status {status}.{self.log_tail()}")

    def stop(self) -> None:
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f" The last lines of {self.log}:", *lines])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def free_port(preferred: int = 0) -> int:
    """A port of 127.0.0.1 that is free at this moment: `preferred` if it is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise DemoFailed("no free port on 127.0.0.1")


def config_document(binary: Path, model: Path, gateway_port: int, backend_port: int, store: Path) -> dict[str, object]:
    """The demo's config: the `sub1b` profile (2 vCPU, 4 GB), with this model and these ports.

    Two slots share one pool of tokens, so one request may use all of it, and the scheduler must not hand out more.
    """
    assert POOL_TOKENS <= MODEL_CONTEXT_TOKENS
    threads = max(1, min(len(os.sched_getaffinity(0)), 4))
    launch_profile = {
        "binaryPath": str(binary),
        "modelPath": str(model),
        "port": backend_port,
        "alias": model.stem,
        "ctxSize": POOL_TOKENS,
        "parallel": SLOTS,
        "threads": threads,
        "contextShift": False,
        "extraArgs": ["--offline"],
    }
    return {
        "profile": "sub1b",
        "server": {"host": "127.0.0.1", "port": gateway_port},
        "model": {
            "id": model.stem,
            "family": "smollm2",
            "quantization": "unknown",
            "contextWindow": POOL_TOKENS,
            "operational": {"preferredCtxSize": POOL_TOKENS},
            "adapter": {
                "kind": "llama.cpp",
                "baseUrl": f"http://127.0.0.1:{backend_port}",
                "modelRef": model.stem,
                "launchProfile": launch_profile,
            },
        },
        "scheduler": {"concurrency": SLOTS, "maxInflightTokens": POOL_TOKENS},
        "prefixStore": {"enabled": True, "storageDir": str(store)},
        "tags": {"exposure": "private-local"},
    }


def launch_words(config_path: Path) -> list[str]:
    """The command that starts the backend, from the same config that the gateway reads."""
    config = load_config(str(config_path), {}, str(ROOT)).config
    adapter = config.model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    # The gateway brings the next request: it must not wait for a core that the model computes on.
    return ["nice", "-n", "10", *launch_command(adapter.launch_profile, config.prefix_store)]


@contextmanager
def running(directory: Path) -> Iterator[tuple[int, list[Child]]]:
    """Both processes, started from a config in `directory`: the gateway's port and the children."""
    binary = ensure_llama_server(say=say)
    model = fetch_model(say=say)
    directory.mkdir(parents=True, exist_ok=True)
    # llama-server does not start without the directory.
    store = directory / "prefixes"
    store.mkdir(mode=0o700, exist_ok=True)
    gateway_port, backend_port = free_port(USUAL_PORT), free_port()
    config_path = directory / "ray.demo.json"
    config_path.write_text(
        json.dumps(config_document(binary, model, gateway_port, backend_port, store), indent=2) + "\n", "utf-8"
    )
    backend = launch_words(config_path)
    gateway = [sys.executable, "-m", "ray", "--config", str(config_path)]
    say(f"config   {config_path}")
    children: list[Child] = []
    with ExitStack() as stack:
        for name, command in (("llama-server", backend), ("gateway", gateway)):
            log = directory / f"{name}.log"
            say(f"start    {shlex.join(command)}\n         log: {log}")
            child = Child(name, command, log)
            children.append(child)
            # The stack stops the gateway first: it lets running answers finish while the backend is still there.
            stack.callback(child.stop)
        yield gateway_port, children


def wait_ready(port: int, children: list[Child]) -> None:
    """Wait for `/readyz` 200 and say what it is waiting for. Raises `DemoFailed`."""
    started = time.monotonic()
    last = ""
    while time.monotonic() < started + READY_SECONDS:
        for child in children:
            child.check()
        status, reason = readiness(port)
        if status == 200:
            say(f"ready    after {time.monotonic() - started:.1f} s")
            return
        if reason != last:
            say(f"waiting  {reason}")
            last = reason
        time.sleep(POLL_SECONDS)
    tails = "\n".join(child.name + child.log_tail() for child in children)
    raise DemoFailed(f"not ready within {READY_SECONDS:.0f} s ({last}).\n{tails}")


def readiness(port: int) -> tuple[int, str]:
    """The status of `/readyz` and, in one word or two, the reason; 0 while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        document = json.loads(response.read())
        return response.status, ", ".join(document.get("reasons") or [f"status {response.status}"])
    except (OSError, http.client.HTTPException, ValueError):
        return 0, "the gateway is starting"
    finally:
        connection.close()


def commands_to_paste(port: int) -> str:
    url = f"http://127.0.0.1:{port}"
    whole = json.dumps({"input": QUESTION, "maxTokens": 60})
    streamed = json.dumps({"input": "Write a short poem about a small computer.", "maxTokens": 120, "stream": True})
    return f"""
A whole answer, and one token by token:

  curl -s {url}/v1/infer -H 'content-type: application/json' -d {shlex.quote(whole)}

  curl -sN {url}/v1/infer -H 'content-type: application/json' -d {shlex.quote(streamed)}

How it is:

  curl -s {url}/health
  curl -s {url}/metrics
  curl -s '{url}/metrics?format=prometheus'
  curl -s {url}/v1/config
"""


def ask_once(port: int) -> None:
    """One whole answer and one streamed, printed. Raises `DemoFailed` when either is not what it should be."""
    print(f"\n> {QUESTION}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        request = {"input": QUESTION, "maxTokens": 60, "seed": 7, "cache": False}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/infer", json.dumps(request), headers)
        response = connection.getresponse()
        body = response.read().decode("utf-8")
        if response.status != 200:
            raise DemoFailed(f"the gateway answered {response.status}: {body}")
        print(json.dumps(json.loads(body), indent=2, ensure_ascii=False), flush=True)

        print(f"\n> {QUESTION}  (streamed)")
        connection.request("POST", "/v1/infer", json.dumps({**request, "stream": True}), headers)
        response = connection.getresponse()
        events = print_stream(response)
        print(f"\n({events} token events)", flush=True)
    except (OSError, http.client.HTTPException) as error:
        raise DemoFailed(f"no answer from the gateway: {error}") from error
    finally:
        connection.close()


def print_stream(response: http.client.HTTPResponse) -> int:
    """Print the text of a server-sent event stream as it arrives; how many pieces it came in."""
    event, pieces = "", 0
    for raw in response:
        line = raw.decode("utf-8").rstrip("\r\n")
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event == "token":
            pieces += 1
            print(json.loads(line.removeprefix("data: "))["text"], end="", flush=True)
        elif line.startswith("data: ") and event == "result":
            return pieces
    raise DemoFailed(f"the event stream ended without a result (status {response.status}, last event {event!r})")


def stop_asked(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="examples.demo", description="Ray in front of a real small model.")
    parser.add_argument("--once", action="store_true", help="ask one question, print the answers, stop")
    parser.add_argument(
        "--directory", type=Path, default=CACHE / "demo", help="config and logs go here (default: .cache/demo)"
    )
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started this in the background, without SIGINT
        signal.signal(number, stop_asked)
    try:
        with running(options.directory.absolute()) as (port, children):
            wait_ready(port, children)
            print(commands_to_paste(port), flush=True)
            if options.once:
                ask_once(port)
                return 0
            print("Ctrl-C stops both.", flush=True)
            while True:
                for child in children:
                    child.check()
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        say("\nstopped")
        return 0
    except (BackendUnavailable, DemoFailed, RayError) as error:
        say(f"demo: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
