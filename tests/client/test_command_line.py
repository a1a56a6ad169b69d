"""`python -m ray.client`: what it prints, how it ends, and that a key is never an argument."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest

from ray.client.command_line import main
from tests.client.scripted import answer, events, server_that
from tests.client.serving import KEY, GatewayThread, gateway_in_a_thread
from tests.fakes.provider import FakeProvider
from tests.integration.backend import ROOT, wait_until


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayThread]:
    store = tmp_path_factory.mktemp("jobs") / "store"
    document = {"auth": {"enabled": True}, "asyncQueue": {"enabled": True, "storageDir": str(store)}}
    with gateway_in_a_thread(document, environ={"RAY_API_KEYS": KEY}) as running:
        yield running


@pytest.fixture
def run(gateway: GatewayThread, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(gateway.url, capsys)


class Run:
    """Runs a command against the gateway; gives exit status, output and error output."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.environ = {"RAY_URL": url, "RAY_API_KEY": KEY}
        self._capsys = capsys

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        status = main(argv, self.environ)
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err


def test_given_a_question_when_asked_then_the_answer_is_printed(run: Run) -> None:
    status, out, err = run("ask", "Name a colour.")

    assert (status, err) == (0, "")
    assert out.endswith("Name a colour.\n")


@pytest.mark.parametrize("argv", [["ask", "Name a colour."], ["models"], ["health", "--json"], ["chat"]])
def test_given_a_closed_standard_output_when_run_then_what_is_printed_is_dropped_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Name a colour.\n"))
    monkeypatch.setattr(sys, "stdout", None)
    try:
        status = main(argv, run.environ)
    finally:
        monkeypatch.undo()

    assert status == 0


@pytest.mark.parametrize("argv", [["ask", "-"], ["chat"], ["job", "submit", "-"]])
def test_given_a_closed_standard_input_when_it_is_to_be_read_then_that_is_wrong_usage(
    run: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)

    assert run(*argv) == (2, "", "ray.client: the standard input is closed\n")


def test_given_json_when_asked_then_one_line_holds_the_whole_answer(run: Run) -> None:
    status, out, _ = run("ask", "Name a colour.", "--json", "--max-tokens", "40", "--seed", "1", "--temperature", "0")

    assert status == 0
    assert out.count("\n") == 1
    assert json.loads(out)["output"].endswith("Name a colour.")


def test_given_a_task_when_asked_then_its_profile_is_laid_over_the_question(run: Run) -> None:
    status, out, _ = run("ask", "Name a colour.", "--task", "classify", "--json")

    assert status == 0
    assert json.loads(out)["diagnostics"]["degradation"]["requestedMaxTokens"] == 64


def test_given_a_dash_when_asked_then_the_question_is_read_from_the_standard_input(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Name a colour.\n"))

    assert run("ask", "-")[1].endswith("Name a colour.\n")


def test_given_lines_when_chatting_then_each_is_a_turn_that_knows_the_earlier_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("My name is Ada.\n\nWho am I?\n"))
    chunk = 'data: {"choices":[{"delta":{"content":"%s"}}]}\n\ndata: [DONE]\n\n'
    with server_that(events((chunk % "Hello.").encode()), events((chunk % "Ada.").encode())) as server:
        status = main(["chat", "--system", "Be short.", "--url", server.url], {})
        sent = json.loads(server.requests[1].partition(b"\r\n\r\n")[2])

    assert status == 0
    assert capsys.readouterr().out == "Hello.\nAda.\n"
    assert sent["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who am I?"},
    ]


def test_given_json_when_chatting_with_the_gateway_then_each_turn_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("One.\nTwo.\n"))
    status, out, _ = run("chat", "--json", "--max-tokens", "50", "--model", "tiny-dev")

    assert status == 0
    assert [json.loads(line)["object"] for line in out.splitlines()] == ["chat.completion"] * 2


def test_given_a_turn_that_is_refused_when_chatting_then_the_next_may_be_tried_and_the_status_tells(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("One.\nTwo.\n"))
    status, out, err = run("chat", "--model", "no-such-model")

    assert (status, out) == (1, "")
    assert err.count("model_not_found") == 2


def test_given_a_job_when_submitted_then_it_can_be_waited_for_shown_listed_cancelled_and_deleted(run: Run) -> None:
    status, out, _ = run("job", "submit", "Name a colour.", "--idempotency-key", "the-order")
    job = out.strip()
    again = run("job", "submit", "Name a colour.", "--idempotency-key", "the-order", "--json")

    assert status == 0
    assert json.loads(again[1])["id"] == job
    waited = run("job", "wait", job)
    assert waited[0] == 0
    assert waited[1].startswith(f"{job}  succeeded\n")
    assert waited[1].endswith("Name a colour.\n")
    assert json.loads(run("job", "get", job, "--json")[1])["status"] == "succeeded"
    assert run("job", "cancel", job)[1].startswith(f"{job}  succeeded")
    assert run("job", "list", "--limit", "1", "--status", "succeeded")[1].startswith(f"{job}  succeeded  20")
    assert json.loads(run("job", "list", "--json")[1])["jobs"][0]["id"] == job
    assert run("job", "delete", job) == (0, "", "")
    assert run("job", "get", job)[0] == 1


def test_given_a_job_that_failed_when_waited_for_then_the_status_tells(capsys: pytest.CaptureFixture[str]) -> None:
    failed = answer(200, b'{"id":"job_1","status":"failed","error":{"code":"provider_timeout","message":"Too slow."}}')
    with server_that(failed) as server:
        assert main(["job", "wait", "job_1", "--url", server.url], {}) == 1

    assert capsys.readouterr().out == "job_1  failed\nprovider_timeout: Too slow.\n"


def test_given_the_gateway_when_its_models_and_health_are_asked_for_then_they_are_shown(run: Run) -> None:
    assert run("models") == (0, "tiny-dev\n", "")
    assert json.loads(run("models", "--json")[1])["models"][0]["id"] == "tiny-dev"
    assert run("health")[1].startswith("ok: model tiny-dev, backend ready\n")
    assert json.loads(run("health", "--json")[1])["status"] == "ok"


def test_given_a_gateway_that_is_not_well_when_its_health_is_asked_for_then_it_is_shown_with_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ill = answer(503, b'{"status":"unavailable","modelId":"m","provider":{"status":"unavailable"}}')
    with server_that(ill) as server:
        assert main(["health", "--url", server.url], {}) == 1

    assert capsys.readouterr().out.startswith("unavailable: model m, backend unavailable\n")


def test_given_no_key_when_asked_then_the_refusal_is_one_line_or_json(run: Run) -> None:
    del run.environ["RAY_API_KEY"]

    status, out, err = run("ask", "Name a colour.")
    assert (status, out) == (1, "")
    assert err.startswith("ray.client: POST /v1/infer: 401 unauthorized: ")
    assert err.count("\n") == 1
    status, out, err = run("ask", "Name a colour.", "--json")
    assert (status, err) == (1, "")
    assert json.loads(out)["error"].keys() == {"message", "code", "status", "requestId"}


def test_given_the_name_of_a_variable_when_asked_then_the_key_is_read_from_there(run: Run) -> None:
    run.environ = {"RAY_URL": run.environ["RAY_URL"], "MY_KEY": KEY}

    assert run("ask", "Name a colour.", "--key-env", "MY_KEY")[0] == 0
    status, _, err = run("ask", "Name a colour.", "--key-env", "NO_KEY")
    assert status == 2
    assert "NO_KEY" in err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["ask"],
        ["sing"],
        ["job"],
        ["job", "sing"],
        ["ask", "x", "--key", "secret"],
        ["ask", "x", "--task", "sing"],
        ["ask", "x", "--url", "ftp://h"],
        ["ask", "x", "--timeout-ms", "0"],
        ["ask", "x", "--attempts", "11"],
        ["job", "list", "--limit", "0"],
        ["job", "wait", "job_1", "--for-ms", "0"],
    ],
)
def test_given_wrong_usage_when_run_then_it_ends_with_2_and_says_why(run: Run, argv: Sequence[str]) -> None:
    status, out, err = run(*argv)

    assert (status, out) == (2, "")
    assert err


@pytest.mark.parametrize("argv", [["--help"], ["ask", "--help"], ["job", "--help"], ["job", "wait", "--help"]])
def test_given_a_call_for_help_when_run_then_it_ends_with_0(run: Run, argv: Sequence[str]) -> None:
    status, out, _ = run(*argv)

    assert status == 0
    assert "usage: python -m ray.client" in out


def test_given_a_stream_that_breaks_when_asked_then_what_came_stays_and_the_error_is_on_its_own_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    late = b'{"error":{"code":"request_timeout","message":"Late."}}'
    cut = events(b'event: token\ndata: {"text":"Bl"}\n\nevent: error\ndata: ' + late + b"\n\n")
    with server_that(cut) as server:
        assert main(["ask", "x", "--url", server.url], {}) == 1

    shown = capsys.readouterr()
    assert shown.out == "Bl\n"
    assert "request_timeout: Late." in shown.err


def start(url: str, *argv: str) -> subprocess.Popen[str]:
    environ = {"RAY_URL": url, "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "ray.client", *argv]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_given_a_running_answer_when_interrupted_then_it_ends_quietly_and_the_model_stops() -> None:
    provider = FakeProvider(["Blue", asyncio.Event()])
    with gateway_in_a_thread(provider=provider) as gateway, start(gateway.url, "ask", "x") as process:
        assert process.stdout is not None
        assert process.stdout.read(4) == "Blue"  # printed before the rest of the answer exists
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

        assert (process.returncode, out, err) == (130, "\n", "")
        wait_until(lambda: provider.active == 0, 60, "the generation ends when its client leaves")


def test_given_a_reader_that_has_seen_enough_when_more_is_printed_then_it_ends_quietly_and_the_model_stops() -> None:
    gate = asyncio.Event()
    provider = FakeProvider(["Blue", gate, " sky", asyncio.Event()])
    with gateway_in_a_thread(provider=provider) as gateway, start(gateway.url, "ask", "x") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(4) == "Blue"
        process.stdout.close()
        gateway.call(gate.set)

        assert process.wait(60) == 0
        assert process.stderr.read() == ""
        wait_until(lambda: provider.active == 0, 60, "the generation ends when its client leaves")


def everything_on(terminal: int) -> bytes:
    """What was written on the other side, which is closed: the kernel may hand it over in pieces."""
    shown = b""
    with suppress(OSError):  # EIO is the end
        while piece := os.read(terminal, 4096):
            shown += piece
    return shown


def test_given_an_answer_with_escape_sequences_when_printed_on_a_terminal_then_they_do_not_steer_it() -> None:
    token = json.dumps({"text": "\x1b]0;owned\x07Blue\x1b[31m \x9b2J\u00fcber\n\tred"})
    said = events(f'event: token\ndata: {token}\n\nevent: result\ndata: {{"output":""}}\n\n'.encode())
    terminal, slave = os.openpty()
    with server_that(said) as server:
        environ = {"RAY_URL": server.url, "PATH": os.environ["PATH"], "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-m", "ray.client", "ask", "x"]
        ended = subprocess.run(command, cwd=ROOT, env=environ, stdin=slave, stdout=slave, timeout=60, check=False)
    os.close(slave)
    shown = everything_on(terminal).decode("utf-8")
    os.close(terminal)

    assert ended.returncode == 0
    assert shown.replace("\r\n", "\n") == "]0;ownedBlue[31m 2Jüber\n\tred\n"
