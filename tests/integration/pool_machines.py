"""Three machines with networks of their own: a Caddy on 10.0.0.2, and two nodes of its pool on 10.0.0.11 and 10.0.0.12.

Run by a test in namespaces that end with it: `python -m tests.integration.pool_machines DIRECTORY`, where the rendered
files of both nodes lie. Prints what was seen as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

PROXY = "10.0.0.2"
NODES = ("10.0.0.11", "10.0.0.12")
SITE = f"http://{PROXY}:8080"
SECONDS = 60.0
ESTABLISHED = "01"


def ip(*arguments: str, inside: int | None = None) -> None:
    enter = [] if inside is None else ["nsenter", f"--net=/proc/{inside}/ns/net"]
    subprocess.run([*enter, "ip", *arguments], check=True, timeout=SECONDS)


def machine(address: str) -> int:
    """A process in a network of its own, joined with this one; its number."""
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo up; exec sleep 600"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    name = f"to{address.rpartition('.')[2]}"
    ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
    ip("link", "set", name, "up")
    ip("route", "add", f"{address}/32", "dev", name, "src", PROXY)
    for words in (
        ("link", "set", "lo", "up"),
        ("link", "set", "eth0", "up"),
        ("addr", "add", f"{address}/32", "dev", "eth0"),
        ("route", "add", f"{PROXY}/32", "dev", "eth0"),
    ):
        ip(*words, inside=process.pid)
    return process.pid


def setting(unit: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", unit, re.MULTILINE)
    assert found is not None, name
    return found[1]


def start_node(inside: int, directory: Path) -> None:
    """The gateway on the socket that its unit names, passed on as the service manager does."""
    listen = setting((directory / "ray-gateway.socket").read_text(), "ListenStream")
    with (directory / "log").open("wb") as log:
        subprocess.Popen(
            ["nsenter", f"--net=/proc/{inside}/ns/net", "systemd-socket-activate", f"--listen={listen}",
             "--fdname=http", "-E", "PYTHONDONTWRITEBYTECODE=1",
             sys.executable, "-m", "ray", "--config", str(directory / "ray.json")],
            env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def status(url: str, document: object = None) -> int:
    """Of the answer; 0 when nobody answers."""
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while status(url) != 200:
        if time.monotonic() > deadline:
            sys.exit(f"not within {SECONDS:g} s: {url} answers")
        time.sleep(0.05)


def peers(inside: int) -> list[str]:
    """Who is connected with port 3000 of that machine (proc_pid_net(5))."""
    found = set()
    for line in Path(f"/proc/{inside}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if local.endswith(f":{3000:04X}") and state == ESTABLISHED:
            found.add(str(ipaddress.IPv4Address(bytes.fromhex(remote[:8])[::-1])))
    return sorted(found)


def connected_with_itself(inside: int, address: str) -> list[str]:
    """Who a node is for its own gateway, as for `curl` or `doctor` there: asked while the connection is held."""
    hold = "import socket, sys; s = socket.create_connection((sys.argv[1], 3000)); print('up', flush=True); input()"
    with subprocess.Popen(
        ["nsenter", f"--net=/proc/{inside}/ns/net", sys.executable, "-c", hold, address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        found = peers(inside)
        process.communicate(b"\n")
    return found


def main(arguments: Sequence[str]) -> None:
    directory = Path(arguments[0])
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{PROXY}/32", "dev", "lo")
    machines = {address: machine(address) for address in NODES}
    for address, inside in machines.items():
        start_node(inside, directory / address)
        wait_for(f"http://{address}:3000/readyz")
    home = directory / "caddy"
    home.mkdir()
    (home / "Caddyfile").write_text("{\n\tadmin off\n}\n" + (directory / NODES[0] / "Caddyfile.pool").read_text())
    with (home / "log").open("wb") as log:
        subprocess.Popen(
            ["caddy", "run", "--adapter", "caddyfile", "--config", str(home / "Caddyfile")],
            env={"HOME": str(home), "PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    wait_for(f"{SITE}/readyz")
    answers = [status(f"{SITE}/v1/infer", {"input": f"question {number}"}) for number in range(6)]
    seen = {address: peers(inside) for address, inside in machines.items()}
    own = {address: connected_with_itself(inside, address) for address, inside in machines.items()}
    print(json.dumps({"answers": answers, "peers": seen, "own": own}))


if __name__ == "__main__":
    main(sys.argv[1:])
