"""Both clients over https: certificates are checked, connections kept, streams read as they come."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from ray.client import RayAnswerError, RayClient, RayClientError, RayUnreachable
from tests.client.both import BOTH, Ask
from tests.client.scripted import Says, answer, events, server_that

both = pytest.mark.parametrize("ask", BOTH, ids=lambda ask: ask.__name__)
FINE = answer(200, b'{"output":"Blue"}', then="keep")
TOKEN = b'event: token\ndata: {"text":"Blue"}\n\n'
RESULT = b'event: result\ndata: {"output":"Blue"}\n\n'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signed itself; its key is in `key.pem` beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-days", "30", "-keyout", str(path.with_name("key.pem")), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@both
@pytest.mark.usefixtures("trusted")
def test_given_a_certificate_that_is_trusted_when_asked_then_answers_and_streams_come(
    ask: Ask, serving: ssl.SSLContext
) -> None:
    with server_that(answer(200, b'{"output":"Blue"}'), events(TOKEN + RESULT), tls=serving) as server:
        assert ask(server.url, "infer", "A question.") == {"output": "Blue"}
        assert ask(server.url, "stream", "A question.") == (["Blue"], {"output": "Blue"})


@pytest.mark.usefixtures("trusted")
def test_given_https_when_called_one_after_the_other_then_the_connection_is_shared(serving: ssl.SSLContext) -> None:
    with server_that(FINE, FINE, tls=serving) as server, RayClient(server.url) as client:
        client.infer("One.")
        client.infer("Two.")

        assert server.connections == 1


@both
def test_given_a_certificate_that_nobody_vouches_for_when_asked_then_nothing_is_sent(
    ask: Ask, serving: ssl.SSLContext
) -> None:
    with server_that(FINE, tls=serving) as server:
        with pytest.raises(RayUnreachable, match="certificate"):
            ask(server.url, "infer", "A question.", api_key="secret")

        assert server.requests == []


@both
@pytest.mark.usefixtures("trusted")
def test_given_a_stream_that_is_cut_when_read_then_it_is_an_error(ask: Ask, serving: ssl.SSLContext) -> None:
    with server_that(events(TOKEN), tls=serving) as server, pytest.raises(RayClientError):
        ask(server.url, "stream", "A question.")


@both
@pytest.mark.usefixtures("trusted")
def test_given_an_answer_that_is_too_large_when_asked_over_https_then_it_is_refused(
    ask: Ask, serving: ssl.SSLContext
) -> None:
    large = Says(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + b"9" * 100_000)
    with server_that(large, tls=serving) as server, pytest.raises(RayAnswerError, match="larger than"):
        ask(server.url, "infer", "A question.", response_body_limit_bytes=50_000)
