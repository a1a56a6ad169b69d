"""The report document: what goes out comes back, and what is not as documented is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run.report import RUN_KIND, RUN_VERSION, RunReport, RunSettings, load_run_report
from ray.bench.run.sample import QueuePoint, Sample
from tests.bench.some_runs import some_run, some_settings

FULL_SAMPLE = Sample(
    7,
    2,
    1.5,
    80.25,
    ttft_ms=20.0,
    code="queue_full",
    cached=True,
    deduplicated=True,
    degraded=True,
    queue_ms=3.0,
    gateway_ms=79.0,
    prompt_tokens=30,
    completion_tokens=12,
    cached_tokens=8,
    prefix="disk",
    provider_ttft_ms=11.0,
    tokens_per_second=44.5,
    quality_score=55.0,
    quality_failures=("invalid_json", "missing:x"),
    valid_json=False,
)
FULL = replace(
    some_run([10.0, 20.0]),
    settings=some_settings(clients=None, rate=2.5, warmup=3, no_cache=True),
    samples=(FULL_SAMPLE, Sample(8, 3, 2.0, 3.0)),
    summary={"requests": 2},
    comparison={"passed": True},
    broken_off="the gateway went away",
)


def _document() -> dict[str, object]:
    copied: object = json.loads(json.dumps(FULL.to_document()))
    assert isinstance(copied, dict)
    return copied


def test_what_goes_out_through_json_comes_back() -> None:
    assert RunReport.from_document(_document()) == FULL
    other = some_run([5.0, 6.0, 7.0])
    assert RunReport.from_document(json.loads(json.dumps(other.to_document()))) == other


def test_keys_are_camel_case_and_what_was_not_measured_has_none() -> None:
    document = _document()
    assert (document["kind"], document["version"]) == (RUN_KIND, RUN_VERSION)
    assert document["samples"][1] == {  # type: ignore[index]  # the document of this test has samples
        "number": 8,
        "item": 3,
        "startedMs": 2.0,
        "latencyMs": 3.0,
        "cached": False,
        "deduplicated": False,
        "degraded": False,
        "qualityFailures": [],
    }


def test_unknown_keys_are_ignored() -> None:
    assert RunReport.from_document({**_document(), "later": 1}) == FULL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "gateway-bench"}, 'kind "gateway-bench"'),
        ({"version": 2}, "schema version 2, and this Ray reads version 1"),
        ({"version": "1"}, "report.version"),
        ({"label": 4}, "report.label must be text"),
        ({"label": None}, "report.label must be text"),
        ({"wallMs": -1}, "report.wallMs"),
        ({"wallMs": float("nan")}, "report.wallMs"),
        ({"wallMs": True}, "report.wallMs"),
        ({"settings": []}, "report.settings must be a JSON object"),
        ({"samples": {}}, "report.samples must be a list"),
        ({"samples": [3]}, "report.samples[0] must be a JSON object"),
        ({"samples": [{"number": 1.5}]}, "report.samples[0].number must be a whole number"),
        ({"samples": [{"number": 1, "item": 0, "startedMs": 0}]}, "report.samples[0].latencyMs"),
        ({"queue": [{"atMs": 1, "depth": 0}]}, "report.queue[0].inFlight"),
        ({"facts": {"Ray": 1}}, "report.facts must be an object of texts"),
        ({"comparison": "no"}, "report.comparison must be a JSON object"),
    ],
)
def test_what_is_not_as_documented_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(MeasurementError) as refused:
        RunReport.from_document({**_document(), **change})
    assert message in str(refused.value)


def test_another_version_is_read_only_when_asked_for() -> None:
    assert RunReport.from_document({**_document(), "version": 2}, any_version=True) == FULL


@pytest.mark.parametrize("changes", [{}, {"clients": 1, "rate": 1.0}])
def test_a_run_has_clients_or_a_rate(changes: dict[str, object]) -> None:
    settings = FULL.to_document()["settings"]
    assert isinstance(settings, dict)
    del settings["rate"]
    with pytest.raises(MeasurementError, match="either clients or rate"):
        RunReport.from_document({**_document(), "settings": {**settings, **changes}})


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("{")
    with pytest.raises(MeasurementError, match=r"a\.json: not JSON"):
        load_run_report(str(file))
    file.write_text("[]")
    with pytest.raises(MeasurementError, match=r"a\.json: report must be a JSON object"):
        load_run_report(str(file))
    file.write_text(json.dumps(FULL.to_document()))
    assert load_run_report(str(file)) == FULL


@pytest.mark.parametrize("kind", [RunReport, RunSettings, Sample, QueuePoint])
def test_every_key_of_the_document_is_documented(kind: type) -> None:
    text = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    described = text.partition("### The document")[2]
    for entry in fields(kind):
        head, *rest = entry.name.split("_")
        assert f"`{head}{''.join(word.capitalize() for word in rest)}`" in described
