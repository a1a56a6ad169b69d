"""Both sides of the comparison start alike; only what suits each differs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from ray.bench.budgets.prefix_sides import (
    Model,
    Shape,
    Side,
    direct_side,
    parse_store_metrics,
    ray_side,
    side_config,
)
from ray.bench.processes.llama_process import launch_words
from ray.bench.processes.load import Reply
from ray.bench.processes.process import MeasurementError
from ray.config import Config, LaunchProfile, LlamaCppAdapter, config_from_mapping

SHAPE = Shape.of(slots=2, prefix_tokens=365, answer_tokens=32)
MODEL = Model("/opt/llama-server", "/models/a.gguf", {})
SIDES = (direct_side(0), direct_side(512), ray_side(True), ray_side(False))


def _document(side: Side) -> dict[str, object]:
    return side_config(side, SHAPE, MODEL, 4321, Path("/var/tmp/store"))


def _config(side: Side) -> Config:
    return config_from_mapping(_document(side))


def _launch(side: Side) -> LaunchProfile:
    adapter = _config(side).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    return adapter.launch_profile


def _flags(side: Side) -> dict[str, str]:
    return dict(pairwise(launch_words(_document(side))))


def test_a_context_has_room_for_a_prompt_and_its_answer_in_every_slot() -> None:
    assert SHAPE.context >= 2 * (365 + 32 + 100)
    assert Shape.of(slots=8, prefix_tokens=2_000, answer_tokens=500).context >= 8 * 2_600


@pytest.mark.parametrize("side", SIDES)
def test_every_side_has_the_same_model_slots_context_and_threads(side: Side) -> None:
    for flag in ("--model", "--ctx-size", "--parallel", "--threads", "--batch-size", "--ubatch-size"):
        assert _flags(side)[flag] == _flags(SIDES[0])[flag]


@pytest.mark.parametrize(("side", "mib"), list(zip(SIDES, ("0", "512", "0", "0"), strict=True)))
def test_only_one_direct_side_has_a_ram_cache(side: Side, mib: str) -> None:
    assert _flags(side)["--cache-ram"] == mib
    assert _launch(side).cache_idle_slots is (mib == "512")


@pytest.mark.parametrize("side", SIDES)
def test_only_rays_side_with_its_store_lets_the_server_save_slots(side: Side) -> None:
    expected = "/var/tmp/store/" if side == ray_side(True) else None
    assert _flags(side).get("--slot-save-path") == expected


@pytest.mark.parametrize("side", SIDES)
def test_nothing_can_shorten_or_refuse_an_answer(side: Side) -> None:
    config = _config(side)
    assert not config.rate_limit.enabled
    assert not config.auth.enabled
    assert not config.graceful_degradation.enabled
    assert not config.adaptive_tuning.enabled
    assert config.scheduler.concurrency == SHAPE.slots
    assert config.scheduler.max_queue >= 64


def test_the_store_belongs_to_rays_side_and_can_be_left_out() -> None:
    assert [_config(side).prefix_store.enabled for side in SIDES] == [False, False, True, False]
    store = _config(ray_side(True)).prefix_store
    assert store.storage_dir == "/var/tmp/store"
    assert store.min_sightings == 2
    assert _config(ray_side(True).saving_at_once()).prefix_store.min_sightings == 1


def _metrics(document: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode(), closes=False)


def test_the_stores_metrics_are_picked_out_of_all_metrics() -> None:
    document = {
        "counters": {"prefix_store.saves": 6, "cache.hits": 1},
        "gauges": {"prefix_store.bytes": 51_000_000, "queue.depth": 0},
    }
    assert parse_store_metrics(_metrics(document)) == {"saves": 6, "bytes": 51_000_000}


def test_a_gateway_without_a_store_has_no_metrics_of_it() -> None:
    assert parse_store_metrics(_metrics({"counters": {}, "gauges": {}})) == {}


def test_metrics_that_answer_an_error_are_a_failed_measurement() -> None:
    with pytest.raises(MeasurementError, match="401"):
        parse_store_metrics(_metrics({}, 401))
