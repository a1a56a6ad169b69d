"""`peers` against real gateways with scripted models: in turns, the same to both, and honest when one goes away."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench import commands
from ray.bench.peers import command as peers_command
from ray.bench.peers.chat_side import Asked, ChatSide
from ray.bench.peers.command import (
    Peers,
    PeersPlan,
    ask_both,
    peers_document,
    peers_text,
    write_reports,
)
from ray.bench.processes.process import MeasurementError
from ray.bench.reading.compare_runs import compare_runs
from ray.bench.run.report import load_run_report
from ray.bench.run.workload_file import parse_items, workload_of
from ray.errors import RayError
from tests.bench.some_runs import some_run
from tests.client.scripted import Says, answer, events, server_that
from tests.fakes.provider import STOP, FakeProvider
from tests.gateway.harness import Running, running

WORKLOAD = workload_of("test", parse_items('{"input": "one", "seed": 1}\n{"input": "two", "seed": 2}'))
PLAN = PeersPlan(WORKLOAD, requests=2, rounds=3, clients=2, timeout_ms=20_000, margin=5.0)


def _asked(name: str, gateway: Running) -> Asked:
    return Asked(name, f"http://127.0.0.1:{gateway.gateway.port}/v1", is_ray=name == "ray")


def _ask(peer: FakeProvider, ray: FakeProvider, plan: PeersPlan = PLAN, told: list[str] | None = None) -> Peers:
    async def main() -> Peers:
        # The peer is a gateway too, without its response cache: it speaks the same protocol.
        async with (
            running({"cache": {"enabled": False}}, provider=peer) as one,
            running(provider=ray) as other,
        ):
            tell = (told if told is not None else []).append
            return await ask_both(plan, _asked("peer", one), _asked("ray", other), {"Ray": "x"}, tell)

    return asyncio.run(main())


def test_both_sides_are_asked_everything_once_per_round_and_in_a_round_before() -> None:
    peer, ray, told = FakeProvider(), FakeProvider(), list[str]()
    peers = _ask(peer, ray, told=told)
    assert not peers.failed
    for run, provider in ((peers.comparison.before, peer), (peers.comparison.after, ray)):
        assert [one.number for one in run.samples] == list(range(6))
        assert [one.item for one in run.samples] == [0, 1] * 3
        assert all(one.cold for one in run.samples), "no answer comes from Ray's response cache"
        assert len(provider.streamed) == 9
        assert run.settings.warmup == 3
    assert [request.messages for request in peer.streamed[:1]] == [request.messages for request in ray.streamed[:1]]
    assert [line.partition(" done")[0] for line in told] == [
        "warming up both sides",
        "round 1 of 3",
        "round 2 of 3",
        "round 3 of 3",
    ]


def test_who_goes_first_alternates_and_a_side_has_its_turn_alone() -> None:
    order: list[str] = []

    async def main() -> None:
        async with running(provider=FakeProvider()) as one, running(provider=FakeProvider()) as other:
            asked = ChatSide.ask

            async def noted(side: ChatSide, *args: object) -> object:
                order.append(side.asked.name)
                return await asked(side, *args)  # type: ignore[arg-type]  # passed on as they came

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ChatSide, "ask", noted)
                await ask_both(PLAN, _asked("peer", one), _asked("ray", other), {}, lambda _: None)

    asyncio.run(main())
    assert order == [
        "peer",
        "ray",
        *["peer"] * 2,
        *["ray"] * 2,
        *["peer"] * 2,
        *["ray"] * 4,
        *["peer"] * 4,
        *["ray"] * 2,
    ]


def test_the_clock_of_a_side_runs_only_in_its_turns() -> None:
    peers = _ask(FakeProvider(), FakeProvider())
    for run in (peers.comparison.before, peers.comparison.after):
        starts = [one.started_ms for one in run.samples]
        assert starts == sorted(starts)
        assert all(one.started_ms + one.latency_ms <= run.wall_ms + 1 for one in run.samples)


def test_errors_are_counted_and_end_nothing() -> None:
    fails: list[object] = [RayError("queue_full", "full")]
    peer = FakeProvider(*[["a", STOP]] * 4, fails, ["a", STOP])  # type: ignore[arg-type]  # one step is an error
    peers = _ask(peer, FakeProvider(), replace(PLAN, clients=1))
    assert not peers.failed
    assert [one.code for one in peers.comparison.before.samples].count("queue_full") == 1


def test_a_side_that_answers_nothing_any_more_ends_the_run_with_what_was_measured() -> None:
    fails: list[object] = [RayError("queue_full", "full")]
    scripts = [["a", STOP]] * 5 + [fails]
    peers = _ask(FakeProvider(), FakeProvider(*scripts))  # type: ignore[arg-type]  # one step is an error
    assert peers.broken_off == "ray answered nothing in round 2 of 3"
    assert peers.failed
    assert [one.answered for one in peers.comparison.after.samples] == [True, True, False, False]
    assert "B was broken off" in peers_text(peers)


def test_a_side_that_hangs_is_not_waited_for_request_by_request() -> None:
    hangs = Says(b"", "hold")
    plan = replace(PLAN, requests=2, rounds=1, clients=1, timeout_ms=300)
    with server_that(*[HELLO] * 3, hangs) as one, server_that(*[HELLO] * 3) as other:
        peers = asyncio.run(ask_both(plan, Asked("peer", one.url), Asked("ray", other.url), {}, lambda _: None))
    assert peers.broken_off == "peer answered nothing in round 1 of 1"
    assert [sample.code for sample in peers.comparison.before.samples] == ["timeout"]


def test_a_side_that_is_not_there_is_told_before_anything_is_measured() -> None:
    async def main() -> None:
        async with running(provider=FakeProvider()) as gateway:
            here = _asked("peer", gateway)
            await ask_both(PLAN, here, replace(here, name="ray", url=f"{here.url}/nowhere"), {}, lambda _: None)

    with pytest.raises(MeasurementError, match=r"ray at .*/nowhere does not answer POST /chat/completions"):
        asyncio.run(main())


LOADING = answer(503, b'{"error": {"code": 503, "message": "Loading\\n model", "type": "unavailable_error"}}')
HELLO = events(b'data: {"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
TOO_LATE = events(b'data: {"error": {"code": "request_timeout", "message": "too late"}}\n\n')


@pytest.mark.parametrize("not_yet", [LOADING, answer(504, b"from a proxy"), TOO_LATE])
def test_a_server_that_is_not_ready_yet_is_waited_for(not_yet: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_command, "POLL_SECONDS", 0.0)
    told: list[str] = []
    plan = replace(PLAN, requests=1, rounds=1)
    with server_that(not_yet, not_yet, *[HELLO] * 3) as one, server_that(*[HELLO] * 3) as other:
        peers = asyncio.run(ask_both(plan, Asked("peer", one.url), Asked("ray", other.url), {}, told.append))
    assert [sample.answered for sample in peers.comparison.before.samples] == [True]
    assert [line for line in told if "waiting" in line] == [told[0]]


def test_a_server_that_does_not_get_ready_in_time_is_told_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_command, "READY_SECONDS", -1.0)
    with (
        server_that(LOADING) as server,
        pytest.raises(MeasurementError, match=r"peer at .* does not answer .*unavailable_error: Loading model"),
    ):
        asyncio.run(ask_both(PLAN, Asked("peer", server.url), Asked("ray", server.url), {}, lambda _: None))


@pytest.mark.parametrize(
    ("name", "variable"), [("peer", "RAY_BENCHMARK_PEER_API_KEY"), ("ray", "RAY_BENCHMARK_API_KEY")]
)
def test_a_refused_key_is_told_at_once_with_the_variable_it_comes_from(name: str, variable: str) -> None:
    with server_that(answer(401, b'{"error": {"code": "unauthorized", "message": "no"}}')) as server:
        asked = Asked(name, server.url, key="secret-of-this-test", is_ray=name == "ray")
        with pytest.raises(MeasurementError, match=f"unauthorized: no; {variable} must hold a key") as refused:
            asyncio.run(ask_both(PLAN, asked, asked, {}, lambda _: None))
    assert "secret-of-this-test" not in str(refused.value)


def test_a_template_of_an_operators_config_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = tmp_path / "w.json"
    workload.write_text('{"templateId": "mine.v1", "templateVariables": {}}')
    assert command.main(["peers", "--peer", "http://127.0.0.1:9", "--workload", str(workload)]) == 1
    assert "mine.v1 is none of them: send input instead" in capsys.readouterr().err


def test_who_began_each_round_and_the_errors_of_each_side_are_in_the_report() -> None:
    fails: list[object] = [RayError("queue_full", "full")]
    peer = FakeProvider(*[["a", STOP]] * 4, fails, ["a", STOP])  # type: ignore[arg-type]  # one step is an error
    peers = _ask(peer, FakeProvider(), replace(PLAN, clients=1))
    text, document = peers_text(peers), peers_document(peers)
    assert "errors of peer: queue_full 1\nerrors of ray: none\n" in text
    assert "who began each round: peer, ray, peer\n" in text
    assert document["first"] == ["peer", "ray", "peer"]
    summary = document["peer"]["summary"]  # type: ignore[index]  # a report of a run
    assert (summary["errors"], summary["qualityPassRate"]) == ({"queue_full": 1}, 100)


def test_a_key_is_sent_to_its_side_only() -> None:
    async def main(key: str | None) -> Peers:
        locked = {"auth": {"enabled": True, "apiKeyEnv": "KEYS"}}
        async with (
            running(provider=FakeProvider()) as one,
            running(locked, environ={"KEYS": "secret-of-this-test-1234"}, provider=FakeProvider()) as other,
        ):
            ray = replace(_asked("ray", other), key=key)
            return await ask_both(PLAN, _asked("peer", one), ray, {}, lambda _: None)

    assert not asyncio.run(main("secret-of-this-test-1234")).failed
    with pytest.raises(MeasurementError, match="ray at"):
        asyncio.run(main(None))


def test_both_reports_can_be_written_and_read_again(tmp_path: Path) -> None:
    peers, told = _ask(FakeProvider(), FakeProvider()), list[str]()
    write_reports(argparse.Namespace(output_dir=str(tmp_path / "new")), peers, told.append)
    assert load_run_report(str(tmp_path / "new" / "peer.json")) == peers.comparison.before
    assert load_run_report(str(tmp_path / "new" / "ray.json")) == peers.comparison.after
    assert len(told) == 2
    write_reports(argparse.Namespace(output_dir=None), peers, told.append)
    assert len(told) == 2
    document = json.loads(json.dumps(peers_document(peers), allow_nan=False))
    assert (document["kind"], document["version"]) == ("peers-report", 1)
    assert document["ray"]["label"] == "ray"
    assert document["comparison"]["a"]["label"] == "peer"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--peer", "ftp://a"],
        ["--peer", "http://user:secret@a"],
        ["--peer", "http://a/v1?x=1"],
        ["--peer", "http://a b"],
        ["--peer", "nothing"],
        ["--peer", "http://a", "--url", "http://"],
        ["--peer", "http://a", "--rounds", "0"],
        ["--peer", "http://a", "--clients", "65"],
        ["--peer", "http://a", "--margin", "101"],
        ["--peer", "http://a", "--workload", "/no/such/file"],
    ],
)
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["peers", *argv])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def _command(monkeypatch: pytest.MonkeyPatch, peers: Peers) -> Callable[..., int]:
    monkeypatch.setattr(commands, "measure_peers", lambda *_: peers)
    return lambda *argv: command.main(["peers", "--peer", "http://127.0.0.1:1", *argv])


def test_being_slower_is_only_a_failure_with_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, slow = (some_run([base + number % 7 for number in range(80)]) for base in (100.0, 300.0))
    run = _command(monkeypatch, Peers(compare_runs(fast, slow), None))
    assert run() == 0
    assert "B is worse in: latency" in capsys.readouterr().out
    assert run("--check") == 1
    capsys.readouterr()
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "peers-report"


def test_a_run_that_broke_off_is_a_failure_and_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = some_run([100.0, 110.0])
    assert _command(monkeypatch, Peers(compare_runs(one, one), "ray answered nothing in round 2 of 3"))() == 1
    assert "latency" in capsys.readouterr().out


def test_a_server_that_is_not_there_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_BENCHMARK_PEER_API_KEY", raising=False)
    with socket.socket() as bound:
        # Bound and not listening: nobody else gets this port, and connecting is refused.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert command.main(["peers", "--peer", url, "--url", url]) == 1
    assert "peer at" in capsys.readouterr().err
