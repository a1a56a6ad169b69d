"""The patch has only what changed; the copy of the config is the original with that in it, and loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.tune.patch import merged_into, patch_between, write_patched
from ray.bench.tune.space import Load, launch_candidates
from ray.config import Config, config_from_mapping, load_config

SOURCE = {
    "$schema": "../docs/ray.schema.json",
    "tags": {"box": "mine"},
    "profile": "sub1b",
    "scheduler": {"maxQueue": 40, "concurrency": 2},
}


def with_scheduler(config: Config, **changes: int) -> Config:
    return replace(config, scheduler=replace(config.scheduler, **changes))  # type: ignore[arg-type]  # fields by name


def test_a_patch_has_the_changed_keys_in_their_places_and_nothing_else() -> None:
    base = config_from_mapping(SOURCE)
    found = {one.label: one.config for one in launch_candidates(base, 99, 2, Load(2))}
    assert patch_between(base, base) == {}
    assert patch_between(base, with_scheduler(base, batch_window_ms=0)) == {"scheduler": {"batchWindowMs": 0}}
    assert patch_between(base, found["ctx3072-p1-t2-b256-u128"]) == {
        "scheduler": {"concurrency": 1, "maxInflightTokens": 3072},
        "model": {"adapter": {"launchProfile": {"parallel": 1}}},
    }


def test_a_patch_over_a_document_keeps_its_keys_and_their_order() -> None:
    merged = merged_into(SOURCE, {"scheduler": {"concurrency": 1, "batchWindowMs": 0}, "model": {"adapter": {"x": 1}}})
    assert list(merged) == ["$schema", "tags", "profile", "scheduler", "model"]
    assert merged["scheduler"] == {"maxQueue": 40, "concurrency": 1, "batchWindowMs": 0}
    assert merged["model"] == {"adapter": {"x": 1}}
    assert SOURCE["scheduler"] == {"maxQueue": 40, "concurrency": 2}


def test_the_written_copy_is_the_original_with_the_patch_and_loads_as_what_was_measured(tmp_path: Path) -> None:
    source, target = tmp_path / "ray.json", tmp_path / "new" / "tuned.json"
    source.write_text(json.dumps(SOURCE))
    base = load_config(str(source), {}, ".").config
    new = with_scheduler(base, concurrency=1, batch_window_ms=0)
    write_patched(str(source), str(target), patch_between(base, new), new)
    written = json.loads(target.read_text())
    assert list(written) == ["$schema", "tags", "profile", "scheduler"]
    assert written["scheduler"] == {"maxQueue": 40, "concurrency": 1, "batchWindowMs": 0}
    assert load_config(str(target), {}, ".").config == new
    assert json.loads(source.read_text()) == SOURCE


def test_an_empty_patch_writes_an_equal_config(tmp_path: Path) -> None:
    source, target = tmp_path / "ray.json", tmp_path / "tuned.json"
    source.write_text(json.dumps(SOURCE))
    write_patched(str(source), str(target), {}, load_config(str(source), {}, ".").config)
    assert json.loads(target.read_text()) == SOURCE


@pytest.mark.parametrize(("own", "copied"), [(0o600, 0o600), (0o640, 0o640), (0o664, 0o644)])
def test_the_copy_of_a_private_config_is_as_private(tmp_path: Path, own: int, copied: int) -> None:
    source, target = tmp_path / "ray.json", tmp_path / "tuned.json"
    source.write_text(json.dumps(SOURCE))
    source.chmod(own)
    for _ in ("new", "replaced"):
        write_patched(str(source), str(target), {}, load_config(str(source), {}, ".").config)
        assert target.stat().st_mode & 0o777 == copied
        target.chmod(0o644)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (json.dumps({**SOURCE, "scheduler": {"maxQueue": 41}}), "has been changed since the search began"),
        (json.dumps({**SOURCE, "scheduler": {"maxQueue": 0}}), "maxQueue"),
        ("[]", "no JSON object any more"),
        ("{", "not JSON any more"),
        (None, "cannot read"),
    ],
)
def test_a_source_that_changed_meanwhile_is_not_mixed_with_the_patch(
    tmp_path: Path, now: str | None, told: str
) -> None:
    source, target = tmp_path / "ray.json", tmp_path / "tuned.json"
    source.write_text(json.dumps(SOURCE))
    base = load_config(str(source), {}, ".").config
    if now is None:
        source.unlink()
    else:
        source.write_text(now)
    new = with_scheduler(base, batch_window_ms=0)
    with pytest.raises(MeasurementError, match=told):
        write_patched(str(source), str(target), patch_between(base, new), new)
    assert not target.exists()
