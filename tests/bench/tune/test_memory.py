"""What fits beside gateway and system: as the deployed units divide the memory, and said with its figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.bench.tune.memory import MemoryRoom, divided, machine_memory_mib, needed_mib
from ray.config import config_from_mapping
from ray.deploy.sizing import backend_limits, gateway_limits
from tests.fakes.gguf_file import write_gguf


@pytest.mark.parametrize("profile", ["sub1b", "1b", "1b-8gb"])
@pytest.mark.parametrize("whole_mib", [3_800, 4_096, 7_900, 65_536])
def test_a_backend_may_use_what_its_deployed_unit_would_allow(profile: str, whole_mib: int) -> None:
    config = config_from_mapping({"profile": profile})
    limits = backend_limits(whole_mib, gateway_limits(config).max_mib)
    assert divided(whole_mib, config).backend_mib == limits.max_mib


@pytest.mark.parametrize(("need_mib", "fits"), [(None, True), (1000, True), (1001, False)])
def test_a_need_above_the_room_is_refused_with_its_figures(need_mib: int | None, fits: bool) -> None:
    refusal = MemoryRoom(2500, 800, 700).refusal(need_mib)
    assert (refusal is None) == fits
    assert fits or refusal == (
        "does not fit: needs 1001 MiB of 1000 MiB (2500 less 800 for the system and 700 for the gateway)"
    )


def test_a_machine_smaller_than_its_reserves_has_no_room() -> None:
    assert MemoryRoom(1000, 768, 640).backend_mib == 0


def test_a_control_group_that_allows_less_than_the_machine_has_counts(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (group / "memory.current").write_text("1048576\n")
    (group / "memory.max").write_text(f"{64 * 1_048_576}\n")
    assert machine_memory_mib(str(tmp_path)) == 64
    (group / "memory.max").write_text("max\n")
    assert machine_memory_mib(str(tmp_path)) > 64


def test_the_need_grows_with_the_context_and_is_unknown_without_a_model_file(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf")

    def need(path: Path, context: int) -> int | None:
        launch = {"modelPath": str(path), "ctxSize": context}
        model = {"contextWindow": 32_768, "adapter": {"launchProfile": launch}}
        return needed_mib(config_from_mapping({"profile": "sub1b", "model": model}))

    small, large = need(model, 3072), need(model, 32_768)
    assert small is not None
    assert large is not None
    assert small < large
    assert need(tmp_path / "absent.gguf", 3072) is None
    assert needed_mib(config_from_mapping({"profile": "tiny"})) is None
