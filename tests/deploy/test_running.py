"""The gateway that runs already is asked about its prefix store, and nobody else is told a key."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ray.deploy.account import Account
from ray.deploy.running import store_verdict
from ray.deploy.settings import DeploySettings
from tests.deploy.diagnosing import Document, settings_of

ME = Account("me", "found", os.getuid(), os.getgid())
STRANGER = Account("stranger", "found", os.getuid() + 1, 1)
HEALTH: Document = {"prefixStore": {"active": False, "reason": "the backend has no slot actions"}}


class Gateway(HTTPServer):
    body = b""
    keys: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Gateway)
        self.server.keys.append(self.headers["Authorization"])
        self.send_response(200)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@contextmanager
def gateway(body: bytes) -> Iterator[Gateway]:
    with Gateway(("127.0.0.1", 0), Handler) as server:
        server.body, server.keys = body, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def settings(directory: Path, port: int, host: str = "127.0.0.1") -> DeploySettings:
    document: Document = {
        "profile": "sub1b",
        "server": {"host": host, "port": port},
        "auth": {"enabled": True},
        "prefixStore": {"enabled": True},
    }
    return settings_of(directory, document, (), {"RAY_API_KEYS": "first,second"})


def test_a_store_that_was_switched_off_says_why(tmp_path: Path) -> None:
    with gateway(json.dumps(HEALTH).encode()) as server:
        verdict = store_verdict(settings(tmp_path, server.server_port), ME)

        assert verdict == "the backend has no slot actions"
        assert server.keys == ["Bearer first"]


@pytest.mark.parametrize(
    "body", [b'{"prefixStore": {"active": true}}', b"{}", b"[]", b"not JSON", b'{"prefixStore": 1}']
)
def test_a_store_in_use_and_answers_without_sense_are_nothing_to_tell(tmp_path: Path, body: bytes) -> None:
    with gateway(body) as server:
        assert store_verdict(settings(tmp_path, server.server_port), ME) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="what root listens on is the socket unit's")
def test_a_stranger_who_listens_there_gets_no_key(tmp_path: Path) -> None:
    with gateway(json.dumps(HEALTH).encode()) as server:
        assert store_verdict(settings(tmp_path, server.server_port), STRANGER) is None
        assert server.keys == []


def test_a_listener_of_another_account_gets_no_key(tmp_path: Path) -> None:
    """The same with a table that says so, for those who test as root."""
    with gateway(json.dumps(HEALTH).encode()) as server:
        table = tmp_path / "tcp"
        port = f"{server.server_port:04X}"
        table.write_text(f"sl local rem st\n 0: 0100007F:{port} 00000000:0000 0A 0:0 0:0 0 {os.getuid() + 7} 0 1 1\n")
        assert store_verdict(settings(tmp_path, server.server_port), ME, (str(table), "/nowhere")) is None
        assert server.keys == []


@pytest.mark.parametrize("host", ["10.255.254.253", "fdff:ffff::1"])
def test_an_address_that_is_not_of_this_machine_gets_no_key(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when it can be reached: a config of another node may be looked at here."""
    connected: list[tuple[str, int]] = []
    monkeypatch.setattr("socket.socket.connect", lambda _, address: connected.append(address))
    with gateway(json.dumps(HEALTH).encode()) as server:
        assert store_verdict(settings(tmp_path, server.server_port, host), ME) is None
    assert connected == []


def test_without_a_gateway_there_is_nobody_to_ask(tmp_path: Path) -> None:
    with gateway(b"{}") as server:
        port = server.server_port

    assert store_verdict(settings(tmp_path, port), ME) is None
