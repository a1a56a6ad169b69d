"""`formats` as a command: which gateways are started, who is asked when, and what ends it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ray.bench import __main__ as command
from ray.bench.formats import command as formats_command
from ray.bench.formats.command import FORMAT_KEY, Side, SweepPlan, config_for, keyed_workload, measure, sweep_of
from ray.bench.formats.report import FALLBACK, FORMATS, NATIVE_TEMPLATE, SCAFFOLD
from ray.bench.processes.gateway_process import answers
from ray.bench.processes.llama_process import HEALTH
from ray.bench.processes.process import MeasurementError, free_port
from ray.bench.run.driver import Measured, Progress, RunPlan
from ray.bench.run.gateway_under_test import Target, copied_config
from ray.bench.run.provider_tally import ProviderTally
from ray.bench.run.sample import Sample
from ray.bench.run.workload_file import parse_items, workload_of
from ray.config import Config, config_from_mapping
from tests.bench.polling import until

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "examples/config/ray.tiny.json")
WORKLOAD = workload_of("w", parse_items('{"input": "one", "seed": 7}\n{"input": "two", "metadata": {"a": "b"}}'))
OWN, OTHER = "http://own", "http://other"


class World:
    """Gateways that write what `writes` says of a URL and the asked format; `asked` has who was asked for how much."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str | None, int]] = []
        self.seeds: list[object] = []
        self.plans: list[RunPlan] = []
        self.writes: dict[tuple[str, str | None], str | None] = {}
        self.codes: dict[str | None, str] = {}
        self.gone: tuple[str | None, int] | None = None
        monkeypatch.setattr(formats_command, "wait_until_ready", self._ready)
        monkeypatch.setattr(formats_command, "drive", self._drive)

    async def _ready(self, target: Target, progress: Progress) -> None:
        return None

    async def _drive(self, plan: RunPlan, url: str, key: str | None, progress: Progress) -> Measured:
        metadata = plan.workload.items[0].fields.get("metadata")
        wanted = metadata.get(FORMAT_KEY) if isinstance(metadata, Mapping) else None
        self.asked.append((url, wanted, plan.requests))
        self.seeds.append(plan.workload.items[0].fields.get("seed"))
        self.plans.append(plan)
        assert plan.no_cache
        code, written = self.codes.get(wanted), self.writes.get((url, wanted), SCAFFOLD)
        samples = tuple(
            Sample(number, number, number * 10.0, 10.0, code=code, prompt_format=written, quality_score=80.0)
            for number in range(plan.requests)
        )
        progress("1 of 2 requests, about 5 s left")
        gone = "the gateway is gone" if self.gone == (wanted, len(self.asked)) else None
        tally = ProviderTally()
        for _ in samples:
            tally.add({"promptFormat": written})
        return Measured(samples, (), 100.0, tally, gone)


def sides(fallback_at: str = OWN) -> list[Side]:
    return [
        Side(name, keyed_workload(WORKLOAD, name), Target(fallback_at if name == FALLBACK else OWN),
             own=name != FALLBACK or fallback_at == OWN)
        for name in FORMATS
    ]  # fmt: skip


def measured(plan: SweepPlan, those: list[Side]) -> tuple[Mapping[str, int], str | None]:
    return asyncio.run(measure(plan, those, None))


def plan(requests: int = 2) -> SweepPlan:
    return SweepPlan(WORKLOAD, requests, clients=1, timeout_ms=1_000)


@pytest.mark.parametrize(
    "argv",
    [["--requests", "0"], ["--requests", "10001"], ["--clients", "65"], ["--repeat", "2"], ["--workload", ""],
     ["--url", "h:3000"], ["--baseline", "b.json"], ["bare"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["formats", *argv])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_item_names_the_format_beside_its_own_metadata() -> None:
    items = keyed_workload(WORKLOAD, FALLBACK).items
    assert [item.fields["metadata"] for item in items] == [{FORMAT_KEY: FALLBACK}, {"a": "b", FORMAT_KEY: FALLBACK}]
    assert "metadata" not in WORKLOAD.items[0].fields
    full = json.dumps({"input": "a", "metadata": {str(n): "x" for n in range(32)}})
    with pytest.raises(MeasurementError, match="no room for rayPromptFormat"):
        keyed_workload(workload_of("w", parse_items(full)), FALLBACK)


def test_the_formats_take_turns_and_who_goes_first_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.writes = {(OWN, name): name for name in FORMATS}
    those = sides()
    measured(plan(5), those)
    native, scaffold, fallback = FORMATS
    first, *turns = world.asked
    assert first == (OWN, None, 2), "every item once as it is"
    assert [(name, requests) for _, name, requests in turns] == [
        (native, 2), (scaffold, 2), (fallback, 2),
        (scaffold, 2), (fallback, 2), (native, 2),
        (fallback, 1), (native, 1), (scaffold, 1),
    ]  # fmt: skip
    assert world.seeds == [7, *[7] * 3, *[8] * 3, *[9] * 3], "each turn has other draws, the same ones for all formats"
    for side in those:
        assert [sample.number for sample in side.samples] == [0, 1, 2, 3, 4]
        assert [sample.started_ms for sample in side.samples] == [0, 10, 100, 110, 200]
        assert side.wall_ms == 300


def test_the_diagnostics_of_all_turns_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    World(monkeypatch)
    those = sides()
    without_asking, broken_off = measured(plan(5), those)
    summary = sweep_of("x", plan(5), those, without_asking, {}, broken_off).results[1].report.summary
    assert summary["providerDiagnostics"] == {"promptFormats": {SCAFFOLD: 5}}


def test_clients_and_time_limit_are_those_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(monkeypatch)
    assert command.main(["formats", "--url", OWN, "--clients", "3", "--timeout-ms", "5000"]) == 0
    assert {(one.clients, one.timeout_ms) for one in world.plans} == {(3, 5_000)}


def test_a_format_that_is_not_written_is_not_asked_for_again_and_not_recommended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, those = World(monkeypatch), sides()
    without_asking, broken_off = measured(plan(6), those)
    sweep = sweep_of("x", plan(6), those, without_asking, {}, broken_off)
    assert [len(one.report.samples) for one in sweep.results] == [2, 6, 2]
    assert [one.problem is None for one in sweep.results] == [False, True, False]
    assert (sweep.recommendation.own, sweep.recommendation.prompt_format) == (SCAFFOLD, SCAFFOLD)
    assert "ray-chat-fallback: the gateway does not write it" in capsys.readouterr().err
    assert [one.report.label for one in sweep.results] == [f"x:{name}" for name in FORMATS]
    assert len(world.asked) == 1 + 3 + 1 + 1


def test_with_a_gateway_for_each_setting_both_are_warmed_up_and_only_one_is_the_operators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, those = World(monkeypatch), sides(OTHER)
    world.writes = {(OTHER, None): FALLBACK, (OTHER, FALLBACK): FALLBACK}
    without_asking, _ = measured(plan(), those)
    assert [one[:2] for one in world.asked] == [
        (OWN, None), (OTHER, None), (OWN, NATIVE_TEMPLATE), (OWN, SCAFFOLD), (OTHER, FALLBACK)
    ]  # fmt: skip
    assert without_asking == {SCAFFOLD: 2}


def test_a_gateway_whose_answers_name_no_format_is_refused_after_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.writes = {(OWN, None): None}
    with pytest.raises(MeasurementError, match="only the llama"):
        measured(plan(), sides())
    assert len(world.asked) == 1


def test_a_gateway_that_answers_nothing_is_told_with_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.codes = {None: "queue_full"}
    with pytest.raises(MeasurementError, match="answered nothing: queue_full"):
        measured(plan(), sides())


def test_a_format_whose_requests_fail_is_asked_on_and_not_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    world, those = World(monkeypatch), sides()
    world.codes = {FALLBACK: "provider_timeout"}
    without_asking, broken_off = measured(plan(4), those)
    found = sweep_of("x", plan(4), those, without_asking, {}, broken_off).results[2]
    assert found.errors == {"provider_timeout": 4}
    assert found.problem is not None


def test_a_gateway_that_goes_away_leaves_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(monkeypatch)
    world.gone = (SCAFFOLD, 3)
    assert command.main(["formats", "--url", OWN, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["brokenOff"] == "the gateway is gone"
    assert [one["summary"]["sent"] for one in document["results"]] == [4, 4, 0]


def test_a_running_gateway_is_asked_and_history_and_report_are_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World(monkeypatch)
    argv = ["--output", str(tmp_path / "o/sweep.json"), "--history-dir", str(tmp_path / "h"), "--label", "mail"]
    assert command.main(["formats", "--url", OWN, *argv]) == 0
    shown = capsys.readouterr().out
    assert "Recommended: prompt-scaffold" in shown
    assert "Give --config FILE" in shown
    for path in (tmp_path / "o/sweep.json", tmp_path / "h/prompt-format-sweep.jsonl"):
        document = json.loads(path.read_text())
        assert (document["kind"], document["recommendedPromptFormat"]) == ("prompt-format-sweep", SCAFFOLD)


def llama_config(**changes: object) -> Config:
    return config_from_mapping({"profile": "sub1b", **changes})


def test_the_configs_differ_in_the_format_alone_and_leave_the_prefix_store_out() -> None:
    config = llama_config(prefixStore={"enabled": True, "storageDir": ".ray/prefixes"})
    documents = {name: json.loads(json.dumps(copied_config(config_for(config, name), 1))) for name in FORMATS}
    settings = [documents[name]["model"]["operational"]["recommendedPromptFormat"] for name in FORMATS]
    assert settings == ["native-template", "native-template", "plain-completion"]
    assert documents[NATIVE_TEMPLATE] == documents[SCAFFOLD]
    assert documents[NATIVE_TEMPLATE]["prefixStore"]["enabled"] is False
    plain = llama_config(model={"operational": {"recommendedPromptFormat": "plain-completion"}})
    native = config_for(plain, NATIVE_TEMPLATE).model.operational
    assert native is not None
    assert native.recommended_prompt_format == "native-template"


def test_a_config_whose_prompts_ray_does_not_write_is_refused_before_anything_is_started(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["formats", "--config", TINY]) == 1
    assert "the adapter mock, whose prompts Ray does not write" in capsys.readouterr().err


@pytest.mark.integration
def test_started_gateways_write_both_kinds_of_prompts(tmp_path: Path) -> None:
    port = free_port()
    config, workload = tmp_path / "config.json", tmp_path / "w.jsonl"
    adapter = {"baseUrl": f"http://127.0.0.1:{port}", "modelRef": "fake", "launchProfile": {"port": port}}
    config.write_text(json.dumps({"profile": "sub1b", "model": {"adapter": adapter}, "rateLimit": {"enabled": False}}))
    workload.write_text('{"input": "Say one."}\n{"input": "Say two."}\n')
    log = (tmp_path / "log").open("wb")
    backend = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.fake_llama_program", "--port", str(port)], cwd=ROOT, stdout=log, stderr=log
    )
    try:
        until(lambda: answers(("127.0.0.1", port), HEALTH))
        run = subprocess.run(
            [sys.executable, "-m", "ray.bench", "formats", "--config", str(config), "--workload", str(workload),
             "--requests", "4", "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    finally:
        backend.terminate()
        backend.wait()
        log.close()
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    used = {one["promptFormat"]: one["usedIn"] for one in document["results"]}
    assert used == {NATIVE_TEMPLATE: 4, SCAFFOLD: 0, FALLBACK: 4}, "no request has a prompt template"
    assert (document["ownPromptFormat"], document["recommendedPromptFormat"]) == (NATIVE_TEMPLATE, NATIVE_TEMPLATE)
