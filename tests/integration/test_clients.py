"""The clients under `examples/clients/` work as they stand, against a running gateway."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from examples.clients.python_client import RayRefused, infer, infer_patiently, stream
from tests.integration.backend import ROOT, GatewayProcess, free_port
from tests.integration.conftest import StartGateway

KEY = "a-key-for-the-tests"
CONFIG = {"profile": "tiny", "auth": {"enabled": True}}


@pytest.fixture
def gateway(start_gateway: StartGateway) -> GatewayProcess:
    return start_gateway(CONFIG, {"RAY_API_KEYS": KEY})


def url(gateway: GatewayProcess) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def test_given_a_key_when_asking_then_the_pieces_of_the_stream_are_the_whole_answer(gateway: GatewayProcess) -> None:
    request = {"input": "Name three colours.", "maxTokens": 32}

    pieces = list(stream(url(gateway), request, KEY))
    whole = infer(url(gateway), request, KEY)

    assert len(pieces) > 1
    assert "".join(pieces) == whole["output"]


def test_given_no_key_when_asking_then_the_refusal_names_the_code_and_is_not_retried(gateway: GatewayProcess) -> None:
    with pytest.raises(RayRefused) as refusal:
        infer_patiently(url(gateway), {"input": "Name three colours."})

    assert (refusal.value.status, refusal.value.code, refusal.value.retry_after) == (401, "unauthorized", None)


@pytest.mark.parametrize("key", [KEY, None])
def test_given_the_python_client_as_a_program_when_run_then_it_prints_an_answer_or_the_refusal(
    gateway: GatewayProcess, key: str | None
) -> None:
    environ = {"RAY_URL": url(gateway), **({"RAY_API_KEY": key} if key else {})}
    program = [sys.executable, str(ROOT / "examples" / "clients" / "python_client.py"), "Name three colours."]

    ended = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == (0 if key else 1), ended.stderr
    assert ('"output"' in ended.stdout) == (key is not None)
    assert ("unauthorized" in ended.stderr) == (key is None)


def test_given_nobody_listens_when_the_python_client_runs_then_it_says_so_without_a_traceback() -> None:
    environ = {"RAY_URL": f"http://127.0.0.1:{free_port()}"}
    program = [sys.executable, str(ROOT / "examples" / "clients" / "python_client.py")]

    ended = subprocess.run(program, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "refused" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


@contextmanager
def proxy_that_says(answer: bytes) -> Iterator[str]:
    """Something in front of a gateway that is gone: one raw answer to whoever comes, and then no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):  # closing with something unread would reset the connection
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_given_a_proxys_own_refusal_when_asking_then_it_is_a_refusal_without_a_time_to_wait() -> None:
    page = b"HTTP/1.1 502 Bad Gateway\r\nretry-after: Fri, 31 Dec 2027 23:59:59 GMT\r\ncontent-length: 4\r\n\r\noops"

    with proxy_that_says(page) as base, pytest.raises(RayRefused) as refusal:
        infer_patiently(base, {"input": "Name three colours."})

    assert (refusal.value.status, refusal.value.code, refusal.value.retry_after) == (502, "no_error_object", None)


def test_given_an_answer_that_is_cut_off_when_the_python_client_runs_then_it_says_so_without_a_traceback() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with proxy_that_says(head + b"50\r\nevent: tok") as base:
        program = [sys.executable, str(ROOT / "examples" / "clients" / "python_client.py")]
        ended = subprocess.run(program, env={"RAY_URL": base}, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert ended.stderr.startswith("python_client: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_given_the_curl_script_when_run_then_every_kind_of_answer_comes(gateway: GatewayProcess) -> None:
    environ = {"RAY_URL": url(gateway), "RAY_API_KEY": KEY, "PATH": os.environ["PATH"]}
    script = ["sh", str(ROOT / "examples" / "clients" / "curl.sh")]

    ended = subprocess.run(script, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 0, ended.stderr
    for piece in ('"providerStatus"', '"output"', "event: token", "event: result", "HTTP/1.1 400", "invalid_request"):
        assert piece in ended.stdout
    assert "data: [DONE]" in ended.stdout


def run_example(name: str, gateway_url: str, key: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An example as its first lines say that it is run; its environment holds nothing else."""
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / "clients" / name), *arguments],
        env={"RAY_URL": gateway_url, "PYTHONPATH": str(ROOT), **({"RAY_API_KEY": key} if key else {})},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("ray_client.py", ["Name three colours.", "(stop)", "--- what kind", "durable jobs are off"]),
        ("ray_client_async.py", ["Name three animals.", "Name three rivers."]),
        ("openai_client.py", ["Name three colours."]),
    ],
)
def test_given_an_example_when_run_then_it_prints_answers_and_without_a_key_the_refusal(
    gateway: GatewayProcess, name: str, pieces: list[str]
) -> None:
    if name.startswith("openai"):
        pytest.importorskip("openai")
    asked = run_example(name, url(gateway), KEY, "Name three colours.")
    refused = run_example(name, url(gateway), None, "Name three colours.")

    assert (asked.returncode, asked.stderr) == (0, "")
    assert [piece for piece in pieces if piece not in asked.stdout] == []
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"{name.removesuffix('.py')}: ")
    assert "Traceback" not in refused.stderr


def test_given_durable_jobs_when_the_example_runs_then_its_job_succeeds(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    store = {"enabled": True, "storageDir": str(tmp_path / "store")}
    gateway = start_gateway({"profile": "tiny", "asyncQueue": store})

    ended = run_example("ray_client.py", url(gateway), None, "Name three colours.")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("succeeded\n")


def test_the_langchain_example_is_python() -> None:
    """Its package is no part of the development environment, so this is all that can be said of it here."""
    path = ROOT / "examples" / "clients" / "langchain_client.py"
    compile(path.read_text("utf-8"), str(path), "exec")


PAGE = (ROOT / "docs" / "clients.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_given_a_program_of_the_page_when_run_then_it_ends_well(
    start_gateway: StartGateway, tmp_path: Path, number: int
) -> None:
    store = {"enabled": True, "storageDir": str(tmp_path / "store")}
    config = {"profile": "tiny", "auth": {"enabled": True}, "asyncQueue": store}
    gateway = start_gateway(config, {"RAY_API_KEYS": KEY})
    program = BLOCKS[number].replace("http://127.0.0.1:3000", url(gateway))

    ended = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT), "RAY_API_KEY": KEY},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout
