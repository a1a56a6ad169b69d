"""The plan: figures, sources and their precedence, and what is refused while planning."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray.deploy.failures import DeployError
from ray.deploy.staging_plan import Sources, StagingPlan, make_plan
from ray.providers import memory_of, read_gguf, server_shape
from ray.types import ceil_mib
from tests.deploy.support import settings_for
from tests.fakes.gguf_file import SMALL_MODEL, write_gguf


def plan_of(
    example: str, environ: dict[str, str] | None = None, *, host: int | None = None, model: str | None = None
) -> StagingPlan:
    return make_plan(settings_for((), environ or {}, example=example), Sources(model=model), host)


@pytest.mark.parametrize(
    ("example", "target", "limit", "beside"),
    [
        ("ray.1b.8gb.generic.public.json", 8192, 5401, 2464),
        ("ray.1b.8gb.public.json", 8192, 5401, 2464),
        ("ray.1b.generic.public.json", 4096, 2380, 928),
        ("ray.1b.public.json", 4096, 2380, 928),
        ("ray.sub1b.public.json", 4096, 2380, 1440),
        ("ray.hetzner-cx23-qwen0.6b.public.json", 4096, 2380, 1440),
        ("ray.sub1b.cax11.public.json", 4096, 2380, 1056),
    ],
)
def test_figures_of_the_public_configs(example: str, target: int, limit: int, beside: int) -> None:
    plan = plan_of(example)
    assert (plan.budget_mib, plan.limit_mib, plan.without_model_mib) == (target, limit, beside)
    assert plan.budget_source == "config"
    assert not plan.is_measured


def test_every_flag_is_there_once_and_without_value() -> None:
    plan = plan_of("ray.1b.generic.public.json")
    assert len(plan.flags) == 22
    assert {"--model", "--ctx-size", "--no-ui"} <= set(plan.flags)
    assert list(plan.flags) == sorted(set(plan.flags))


def test_a_machine_with_less_than_the_target_counts_as_it_is() -> None:
    plan = plan_of("ray.1b.public.json", host=3_800)
    assert (plan.budget_mib, plan.budget_source) == (3_800, "host")
    assert plan.limit_mib == 3_800 - 768 - 896


def test_the_variable_names_the_target_whatever_the_machine_has() -> None:
    plan = plan_of("ray.1b.public.json", {"RAY_DEPLOY_MEMORY_MIB": "6000"}, host=3_800)
    assert (plan.budget_mib, plan.budget_source) == (6_000, "env")


def test_a_target_that_holds_no_backend_is_refused_with_its_figures() -> None:
    with pytest.raises(DeployError, match=r"1024 MiB is too small: 768 .* 896 .* 512 .* 2176 MiB"):
        plan_of("ray.1b.public.json", {"RAY_DEPLOY_MEMORY_MIB": "1024"})


@pytest.mark.parametrize("text", ["0", "-1", "4 GB"])
def test_a_target_is_a_positive_number(text: str) -> None:
    with pytest.raises(DeployError, match="RAY_DEPLOY_MEMORY_MIB"):
        plan_of("ray.1b.public.json", {"RAY_DEPLOY_MEMORY_MIB": text})


@pytest.mark.parametrize(
    ("reserve", "binary", "model"), [("", 64, 256), ("0", 64, 256), ("100", 100, 256), ("512", 512, 512)]
)
def test_the_deploy_reserve_can_only_raise_the_reserves(reserve: str, binary: int, model: int) -> None:
    plan = plan_of("ray.1b.public.json", {"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": reserve})
    assert (plan.binary.reserve_mib, plan.model.reserve_mib) == (binary, model)


def test_a_malformed_reserve_is_named() -> None:
    with pytest.raises(DeployError, match="RAY_DEPLOY_MIN_FREE_STORAGE_MIB"):
        plan_of("ray.1b.public.json", {"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": "many"})


def test_a_config_without_a_backend_of_its_own_cannot_be_staged() -> None:
    with pytest.raises(DeployError, match="launchProfile"):
        plan_of("ray.tiny.json")


def test_a_model_that_can_be_read_says_itself_what_it_needs(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "made.gguf", SMALL_MODEL)
    plan = plan_of("ray.1b.public.json", model=str(path))
    settings = settings_for((), {}, example="ray.1b.public.json")
    total = memory_of(read_gguf(str(path)), server_shape(plan.launch, settings.loaded.config.prefix_store)).total_mib
    assert plan.is_measured
    assert total is not None
    assert plan.without_model_mib == total - ceil_mib(path.stat().st_size)
    assert plan.without_model_mib != plan_of("ray.1b.public.json").without_model_mib


def test_a_model_that_lies_is_planned_by_rule_of_thumb(tmp_path: Path) -> None:
    path = tmp_path / "lies.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    plan = plan_of("ray.1b.public.json", model=str(path))
    assert not plan.is_measured
    assert plan.without_model_mib == 928


def test_the_names_of_half_made_copies_fit_into_a_directory() -> None:
    plan = plan_of("ray.1b.public.json", {"RAY_MODEL_PATH": "/srv/models/" + "ü" * 127})
    assert len(plan.model.temporary_prefix.encode()) + 40 <= 255
    assert "\ufffd" not in plan.model.temporary_prefix


def test_a_source_is_in_place_whichever_way_its_directory_is_reached(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "other").symlink_to("models")
    environ = {"RAY_MODEL_PATH": str(tmp_path / "models" / "a.gguf")}
    assert plan_of("ray.1b.public.json", environ, model=str(tmp_path / "other" / "a.gguf")).model.is_in_place
    # A link to the model is something else: it is replaced by a copy.
    (tmp_path / "a-link").symlink_to("models/a.gguf")
    assert not plan_of("ray.1b.public.json", environ, model=str(tmp_path / "a-link")).model.is_in_place
