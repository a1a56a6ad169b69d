"""The gateway that runs on this host already: what it says about its prefix store.

Its health needs an API key, and a key is only sent to a port that root (the socket unit) or the service's own account
holds: while the gateway is down, anybody may listen there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ray.config import is_loopback
from ray.deploy.account import Account
from ray.deploy.places import read_small
from ray.deploy.private_network import address_of, private_network
from ray.deploy.probes import LOOK_SECONDS, excerpt, within
from ray.deploy.settings import DeploySettings

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
TABLE_CAP_BYTES = 4 << 20
HEALTH_CAP_BYTES = 256 << 10
ANSWER_SECONDS = 3.0
LISTENING = "0A"  # TCP_LISTEN in include/net/tcp_states.h


def store_verdict(settings: DeploySettings, account: Account, tables: tuple[str, ...] = TABLES) -> str | None:
    """Why the running gateway does not use its prefix store. None when it does, or cannot be asked. Never raises."""
    config = settings.loaded.config
    if not config.prefix_store.enabled or account.status != "found":
        return None
    owners = set(_owners(config.server.port, tables))
    if not owners or not owners <= {0, account.uid}:
        return None
    return within(LOOK_SECONDS, lambda: _verdict(settings), lambda _: None)


def _owners(port: int, tables: tuple[str, ...]) -> Iterator[int]:
    """The accounts whose sockets listen on this port (proc_pid_net(5))."""
    for table in tables:
        try:
            lines = read_small(table, TABLE_CAP_BYTES).splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) > 7 and fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield int(fields[7])


def _verdict(settings: DeploySettings) -> str | None:
    import http.client  # only a host with a running gateway needs it

    config = settings.loaded.config
    host, source = config.server.host if is_loopback(config.server.host) else "127.0.0.1", None
    if private_network(config.server.host) is not None:
        # From the address itself, which only its own machine can: the key must not go to another one.
        host = str(address_of(config.server.host))
        source = (host, 0)
    headers = {}
    if config.auth.enabled:
        keys = settings.environ.get(config.auth.api_key_env, "").replace("\n", ",").split(",")
        headers["Authorization"] = "Bearer " + next((key.strip() for key in keys if key.strip()), "")
    connection = http.client.HTTPConnection(
        host.strip("[]"), config.server.port, timeout=ANSWER_SECONDS, source_address=source
    )
    try:
        connection.request("GET", "/health", headers=headers)
        body = connection.getresponse().read(HEALTH_CAP_BYTES)
    except http.client.HTTPException:
        return None
    finally:
        connection.close()
    health = json.loads(body)
    store = health.get("prefixStore") if isinstance(health, dict) else None
    reason = store.get("reason") if isinstance(store, dict) and store.get("active") is False else None
    return excerpt(reason) if isinstance(reason, str) else None
