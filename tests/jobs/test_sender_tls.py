"""Attempts over TLS: the name is sent and checked, whatever address the connection was pinned to."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.sender import DeliveryOutcome, Sender, default_tls_context
from tests.jobs.attempt import BODY, HEADERS, HERE, delivered_by
from tests.jobs.callback_stage import Names, Receiver, settings


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for hooks.example and 127.0.0.1 that signed itself, with its key behind it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=hooks.example", "-addext", "subjectAltName=DNS:hooks.example,IP:127.0.0.1"]
    command += ["-days", "30", "-keyout", str(path), "-out", str(path.with_name("certificate.pem"))]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("ab") as both:
        both.write(path.with_name("certificate.pem").read_bytes())
    return path


def serving(certificate: Path, seen: list[str | None]) -> ssl.SSLContext:
    """The server's side, which notes the name that the sender asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: seen.append(name)
    return context


def trusting(certificate: Path) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = default_tls_context()
        context.load_verify_locations(certificate)
        return context

    return make


def test_given_a_trusted_certificate_when_delivered_then_the_name_is_sent_and_checked_over_the_pinned_address(
    certificate: Path,
) -> None:
    seen: list[str | None] = []
    receiver = Receiver(tls=serving(certificate, seen))
    outcome = delivered_by(receiver, url="https://hooks.example:{port}/x", tls=trusting(certificate))
    assert outcome == DeliveryOutcome("delivered", "http_204")
    assert seen == ["hooks.example"]
    assert receiver.arrived[0].headers["host"] == f"hooks.example:{receiver.port}"
    assert receiver.arrived[0].body == BODY


def test_given_an_address_in_the_certificate_when_delivered_to_it_then_it_is_checked(
    certificate: Path,
) -> None:
    receiver = Receiver(tls=serving(certificate, []))
    outcome = delivered_by(receiver, url="https://127.0.0.1:{port}/", tls=trusting(certificate))
    assert outcome.kind == "delivered"


def test_given_a_certificate_for_another_name_when_delivered_then_nothing_is_sent(certificate: Path) -> None:
    receiver = Receiver(tls=serving(certificate, []))
    names = Names({"other.example": [(HERE,)]})
    outcome = delivered_by(receiver, url="https://other.example:{port}/", names=names, tls=trusting(certificate))
    assert outcome == DeliveryOutcome("retry", "tls_failed")
    assert receiver.arrived == []


def test_given_a_certificate_nobody_vouches_for_when_delivered_then_nothing_is_sent(certificate: Path) -> None:
    receiver = Receiver(tls=serving(certificate, []))
    outcome = delivered_by(receiver, url="https://hooks.example:{port}/")
    assert outcome == DeliveryOutcome("retry", "tls_failed")
    assert receiver.arrived == []


def test_given_a_certificate_store_that_cannot_be_read_when_delivered_then_nothing_is_sent() -> None:
    def unreadable() -> ssl.SSLContext:
        raise OSError("no such file")

    receiver = Receiver()
    outcome = delivered_by(receiver, url="https://hooks.example:{port}/", tls=unreadable)
    assert outcome == DeliveryOutcome("retry", "tls_failed")
    assert receiver.connections == 0


def test_given_a_receiver_without_tls_when_delivered_over_https_then_tls_failed() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 This is plain HTTP\r\n\r\n")
        writer.close()

    async def main() -> DeliveryOutcome:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        policy = CallbackPolicy(settings(), frozenset())
        port = server.sockets[0].getsockname()[1]
        outcome = await Sender(policy).deliver(f"https://127.0.0.1:{port}/", HEADERS, BODY)
        policy.close()
        server.close()
        return outcome

    assert asyncio.run(main()) == DeliveryOutcome("retry", "tls_failed")


def test_given_a_handshake_that_never_ends_when_the_deadline_passes_then_the_attempt_ends() -> None:
    async def main() -> DeliveryOutcome:
        with socket.create_server(("127.0.0.1", 0)) as server:
            policy = CallbackPolicy(settings(callbackTimeoutMs=300), frozenset())
            url = f"https://127.0.0.1:{server.getsockname()[1]}/"
            outcome = await Sender(policy).deliver(url, HEADERS, BODY)
            policy.close()
            return outcome

    assert asyncio.run(main()) == DeliveryOutcome("retry", "timeout")
