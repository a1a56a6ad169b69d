"""A pool over a network: the rendered files of two nodes and of the Caddy in front of them, on three machines.

Each machine is a network namespace; the ports are the usual ones, and nobody else's. The rules of the units on who may
connect are the service manager's to enforce: here it is seen that everybody who has to connect is among them.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.support import run
from tests.integration.backend import ROOT
from tests.integration.namespaces import missing, need_machines
from tests.integration.pool_machines import NODES, PROXY, SITE, setting

TOOLS = ("caddy", "ip", "nsenter", "systemd-socket-activate", "unshare")
OWN = ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
JOIN = "ip link add one type veth peer name other"


def need_networks() -> None:
    """Skip or fail the test where networks cannot be made and joined."""
    need_machines(TOOLS)
    tried = subprocess.run([*OWN, "sh", "-c", JOIN], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode != 0:
        missing(f"networks cannot be joined here: {tried.stderr.strip()[-200:]}")


@pytest.mark.parametrize("proxy", [None, PROXY])
def test_given_two_nodes_on_private_addresses_when_asked_through_their_caddy_then_both_can_be_reached_as_rendered(
    proxy: str | None, tmp_path: Path
) -> None:
    need_networks()
    nodes = [option for node in NODES for option in ("--node", f"{node}:3000")]
    named = [] if proxy is None else ["--proxy-address", proxy]
    for node in NODES:
        directory = tmp_path / node
        directory.mkdir()
        config = directory / "ray.json"
        config.write_text(json.dumps({"profile": "tiny", "server": {"host": node, "port": 3000}}))
        options = ["--config", str(config), "--domain", SITE, "--output-dir", str(directory)]
        assert run("render", *options, *nodes, *named)[0] == 0

    done = subprocess.run(
        [*OWN, sys.executable, "-m", "tests.integration.pool_machines", str(tmp_path)],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    logs = "".join(f"\n-- {log.parent.name}\n{log.read_text()[-2000:]}" for log in sorted(tmp_path.glob("*/log")))
    assert done.returncode == 0, done.stderr[-2000:] + logs
    seen = json.loads(done.stdout)
    assert seen["answers"] == [200] * 6, logs
    for node in NODES:
        unit = (tmp_path / node / "ray-gateway.socket").read_text()
        allowed = [ipaddress.ip_network(word) for word in setting(unit, "IPAddressAllow").split()[1:]]
        assert seen["peers"][node] == [PROXY]
        assert node in seen["own"][node]
        for peer in {*seen["peers"][node], *seen["own"][node]}:
            assert any(ipaddress.ip_address(peer) in network for network in allowed), (peer, unit)
