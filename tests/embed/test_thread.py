"""A gateway in a thread: for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import io
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ray.embed import Gateway, ServerThread, serve_in_thread
from ray.errors import RayError
from tests.fakes.provider import STOP, FakeProvider
from tests.integration.backend import ROOT, ask, free_port, wait_until

TINY: dict[str, object] = {
    "profile": "tiny",
    "model": {"adapter": {"kind": "mock", "latencyMs": 1}},
    # A busy machine must not change what a test sees.
    "gracefulDegradation": {"enabled": False},
}


def served(**sections: object) -> ServerThread:
    return serve_in_thread({**TINY, **sections}, environ={}, log=io.StringIO())


def threads_of_ray() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ray")]


def test_given_a_program_without_a_loop_when_it_serves_then_http_and_infer_answer_until_the_block_is_left() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with served() as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert ask(server.port, "GET", "/livez").status == 200
        over_the_route = ask(server.port, "POST", "/v1/infer", {"input": "Say hello."}).json()
        assert server.infer(input="Say hello.")["output"] == over_the_route["output"]
        assert server.infer({"input": "Say hello."})["cached"] is True
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(ConnectionError):
        ask(server.port, "GET", "/livez")
    with pytest.raises(RayError) as refusal:
        server.infer(input="Too late.")
    assert refusal.value.code == "gateway_draining"
    assert threads_of_ray() == []
    server.stop()  # again


def test_given_a_faulty_question_when_asked_then_the_error_comes_to_the_caller() -> None:
    with served() as server:
        with pytest.raises(RayError, match="input is required"):
            server.infer(input=" ")
        with pytest.raises(TypeError, match="maxtokens"):
            server.infer(input="x", maxtokens=1)  # type: ignore[call-arg]


def test_given_a_taken_port_when_served_then_the_start_fails_in_the_callers_thread_and_leaves_no_thread() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RayError) as refusal:
            serve_in_thread(TINY, port=taken.getsockname()[1], environ={}, log=io.StringIO())
    assert refusal.value.code == "listen_failed"
    assert threads_of_ray() == []


def test_given_no_port_of_its_own_when_served_then_the_configured_one_is_used() -> None:
    port = free_port()
    config = {**TINY, "server": {"host": "127.0.0.1", "port": port}}
    with serve_in_thread(config, port=None, environ={}, log=io.StringIO()) as server:
        assert server.port == port


@pytest.mark.parametrize("source", [{"server": {"port": 0}}, {"auth": {"enabled": True}}, "no/such/file.json"])
def test_given_a_config_that_cannot_be_used_when_served_then_it_is_a_ray_error_here(source: object) -> None:
    with pytest.raises(RayError) as refusal:
        serve_in_thread(source, environ={})  # type: ignore[arg-type]
    assert refusal.value.code == "config_validation_error"
    assert threads_of_ray() == []


def test_given_two_at_once_and_one_after_the_other_then_each_has_its_own_port_and_answers() -> None:
    with served() as one, served() as two:
        assert one.port != two.port
        assert one.infer(input="x")["output"] == two.infer(input="x")["output"]
    with served() as third:
        assert third.infer(input="x")["output"]


def test_given_a_running_event_loop_when_served_beside_it_then_both_run() -> None:
    async def main() -> None:
        with served() as server:
            assert (await asyncio.to_thread(server.infer, input="x"))["output"]

    asyncio.run(main())


def test_given_an_answer_under_way_when_stopped_then_it_finishes_first() -> None:
    provider = FakeProvider(["Hello", gate := asyncio.Event(), STOP])
    gateway = Gateway(TINY, environ={}, provider=provider, log=io.StringIO())
    with concurrent.futures.ThreadPoolExecutor() as pool:
        server = ServerThread(gateway, 0)
        asking = pool.submit(server.infer, input="Wait.")
        over_http = pool.submit(ask, server.port, "POST", "/v1/infer", {"input": "Wait for this, too."})
        wait_until(lambda: provider.active + provider.preparing >= 1 and len(provider.prepared) == 2, 60, "both asked")
        ending = pool.submit(server.stop)
        assert not ending.done()
        server._loop.call_soon_threadsafe(gate.set)
        assert asking.result(60)["output"] == "Hello"
        assert over_http.result(60).status == 200
        ending.result(60)
    assert provider.closed


def test_given_jobs_when_served_then_the_store_is_free_afterwards(tmp_path: Path) -> None:
    jobs = {"enabled": True, "storageDir": str(tmp_path / "jobs")}
    for _ in range(2):
        with served(asyncQueue=jobs) as server:
            assert ask(server.port, "POST", "/v1/jobs", {"input": "Work."}).status == 202
            with pytest.raises(RayError) as refusal:
                served(asyncQueue=jobs)
            assert refusal.value.code == "async_queue_locked"
        assert threads_of_ray() == []


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "import os; os.kill(os.getpid(), 15)"])
def test_given_a_program_that_forgets_to_stop_it_when_it_ends_then_nothing_holds_it_up(ending: str) -> None:
    program = (
        "import ray\n"
        "server = ray.serve_in_thread({'profile': 'tiny'}, environ={})\n"
        "print(server.infer(input='Say hello.')['finishReason'], flush=True)\n"
        f"{ending}\n"
    )
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    # SIGTERM is the program's own: it ends as Python programs do.
    assert ended.returncode == (-signal.SIGTERM if "kill" in ending else 0), ended.stderr
    assert ended.stdout == "stop\n"


def test_given_an_interrupt_while_it_ends_then_it_ends_at_once_and_the_interrupt_reaches_the_program() -> None:
    program = (
        "import os, ray, signal, threading, time\n"
        "config = {'profile': 'tiny', 'model': {'adapter': {'kind': 'mock', 'latencyMs': 60000}},\n"
        "          'scheduler': {'requestTimeoutMs': 120000}}\n"
        "server = ray.serve_in_thread(config, environ={}, drain_ms=3600000)\n"
        "def ask():\n"
        "    try: server.infer(input='Wait.')\n"
        "    except ray.RayError as error: codes.append(error.code)\n"
        "codes = []\n"
        "asking = threading.Thread(target=ask); asking.start()\n"
        "while server._gateway._door is None or not server._gateway._door._readers: pass\n"
        "def interrupt():\n"
        "    while not server._told.is_set(): time.sleep(0.001)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "try:\n"
        "    threading.Thread(target=interrupt).start()\n"
        "    server.stop()\n"
        "except KeyboardInterrupt: print('interrupted')\n"
        "asking.join()\n"
        "print(*codes)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["interrupted", "request_aborted"], ended.stderr


def test_given_a_loop_that_ends_under_an_answer_then_the_caller_gets_a_ray_error() -> None:
    provider = FakeProvider(["Hello", asyncio.Event(), STOP])
    gateway = Gateway(TINY, environ={}, log=io.StringIO(), provider=provider)
    with ServerThread(gateway, 0) as server, concurrent.futures.ThreadPoolExecutor(1) as threads:
        answer = threads.submit(server.infer, "Wait.")
        wait_until(lambda: provider.active == 1, 60, "the answer has begun")

        def end_what_is_asked() -> None:
            for task in asyncio.all_tasks():
                if "infer" in str(task.get_coro()):
                    task.cancel()

        server._loop.call_soon_threadsafe(end_what_is_asked)
        with pytest.raises(RayError) as failure:
            answer.result(60)
    assert failure.value.code == "request_aborted"


def test_given_a_server_that_is_gone_then_a_connection_is_refused_and_not_left_hanging() -> None:
    with served() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
    # The kept connection was idle: it is closed, and did not hold up the end.
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        _ask_again(connection)
    connection.close()


def _ask_again(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/livez")
    connection.getresponse()
