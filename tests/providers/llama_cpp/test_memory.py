"""The memory model, by hand for small shapes; against a real server in tests/integration/test_fit.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray.config import LaunchProfile, LlamaCppAdapter, config_from_mapping
from ray.providers import (
    Gguf,
    GgufError,
    ServerShape,
    largest_context,
    memory_of,
    model_memory,
    read_gguf,
    server_shape,
)
from ray.types import MIB
from tests.fakes.gguf_file import SMALL_MODEL, MadeTensor, MadeValue, write_gguf

ONE_SLOT = ServerShape(context=2048, slots=1, unified=False, batch=512, physical_batch=128, prompt_cache=0)
CELL_BYTES = 4 * (32 + 32) * 2  # four layers, keys and values of 32 halves


def profile(**changes: object) -> LaunchProfile:
    adapter = config_from_mapping({"profile": "sub1b"}).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    return replace(adapter.launch_profile, **changes)  # type: ignore[arg-type] # a table of keyword arguments


def gguf_of(directory: Path, **changes: MadeValue) -> Gguf:
    values = {**SMALL_MODEL, **{f"llama.{key}": value for key, value in changes.items()}}
    return read_gguf(str(write_gguf(directory / "made.gguf", values)))


def windowed(directory: Path) -> Gguf:
    """Six layers of the same width, five of which look back over 512 tokens."""
    values = {key.replace("llama.", "gemma3."): value for key, value in SMALL_MODEL.items()}
    values |= {"general.architecture": "gemma3", "gemma3.block_count": 6, "gemma3.attention.sliding_window": 512}
    return read_gguf(str(write_gguf(directory / "windowed.gguf", values)))


@pytest.mark.parametrize(
    ("context", "slots", "unified", "cells"),
    [
        (2048, 1, False, 2048),
        (2048, 4, True, 2048),  # one pool, however many slots
        (2048, 4, False, 4 * 512),  # the same context, divided
        (2049, 1, False, 2304),  # rounded up to 256
        (100, 2, True, 256),
        (1500, 4, False, 4 * 512),  # 1536 among four is 384 each, and each is rounded up again
    ],
)
def test_the_context_is_shared_or_divided_and_rounded_up(
    tmp_path: Path, context: int, slots: int, unified: bool, cells: int
) -> None:
    server = replace(ONE_SLOT, context=context, slots=slots, unified=unified)
    assert memory_of(gguf_of(tmp_path), server).kv_cache == cells * CELL_BYTES


@pytest.mark.parametrize(
    ("server", "full_cells", "window_cells"),
    [
        (ONE_SLOT, 2048, 768),  # 512 + 128, rounded up
        (replace(ONE_SLOT, physical_batch=512), 2048, 1024),
        (replace(ONE_SLOT, physical_batch=4096), 2048, 1024),  # no more than a logical batch
        (replace(ONE_SLOT, context=512), 512, 512),  # a window cannot hold more than the context
        (replace(ONE_SLOT, slots=2, unified=True), 2048, 1280),  # 2 * 512 + 128, rounded up
        (replace(ONE_SLOT, slots=2), 2 * 1024, 2 * 768),
        (replace(ONE_SLOT, full_window=True), 2048, 2048),
    ],
)
def test_layers_with_a_window_keep_the_window_and_a_batch(
    tmp_path: Path, server: ServerShape, full_cells: int, window_cells: int
) -> None:
    per_layer = (32 + 32) * 2
    assert memory_of(windowed(tmp_path), server).kv_cache == per_layer * (full_cells + 5 * window_cells)


def test_checkpoints_of_windows_are_counted_for_every_slot(tmp_path: Path) -> None:
    one = 5 * 512 * (32 + 32) * 2
    memory = memory_of(windowed(tmp_path), replace(ONE_SLOT, slots=2, checkpoints=4))
    assert (memory.checkpoint, memory.checkpoints) == (one, 8 * one)
    assert memory_of(windowed(tmp_path), replace(ONE_SLOT, full_window=True)).checkpoints == 0
    assert memory_of(gguf_of(tmp_path), ONE_SLOT).checkpoints == 0


def test_quantised_caches_are_smaller(tmp_path: Path) -> None:
    server = replace(ONE_SLOT, key_bytes=34 / 32, value_bytes=34 / 32)
    assert memory_of(gguf_of(tmp_path), server).kv_cache == 2048 * CELL_BYTES * 34 // 64


def test_the_total_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    memory = memory_of(windowed(tmp_path), replace(ONE_SLOT, prompt_cache=64 * MIB))
    assert memory.total == sum(part or 0 for _, part in memory.parts())
    assert memory.weights == 37_120
    assert memory.prompt_cache == 64 * MIB


def test_without_a_limit_of_the_prompt_cache_there_is_no_total(tmp_path: Path) -> None:
    memory = memory_of(gguf_of(tmp_path), replace(ONE_SLOT, prompt_cache=None))
    assert memory.total is None
    assert memory.total_mib is None


def test_the_compute_buffer_grows_with_batch_context_and_explicit_attention(tmp_path: Path) -> None:
    gguf = gguf_of(tmp_path)
    base = memory_of(gguf, ONE_SLOT).compute
    assert memory_of(gguf, replace(ONE_SLOT, physical_batch=256)).compute == 2 * base
    assert memory_of(gguf, replace(ONE_SLOT, context=4096)).compute == base + 128 * 2048 * 2
    # 4 heads' scores for each of 128 tokens over 2048, and a mask of floats instead of halves
    assert memory_of(gguf, replace(ONE_SLOT, flash_attention=False)).compute == base + 128 * 2048 * (4 * 4 + 2)


def test_layers_that_convolve_or_scan_need_room_to_work_in(tmp_path: Path) -> None:
    base = memory_of(gguf_of(tmp_path), ONE_SLOT).compute
    short = memory_of(gguf_of(tmp_path, **{"shortconv.l_cache": 3}), ONE_SLOT).compute
    scan = memory_of(gguf_of(tmp_path, **{"ssm.inner_size": 128}), ONE_SLOT).compute
    assert short == base + 128 * 3 * 64 * 4
    assert scan == base + 128 * 8 * 128 * 4


def test_only_one_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {**SMALL_MODEL, "split.count": 3})
    with pytest.raises(GgufError, match="merge them"):
        memory_of(read_gguf(str(path)), ONE_SLOT)


def test_the_server_is_what_its_command_line_says() -> None:
    server = server_shape(profile(ctx_size=3000, parallel=3, batch_size=300, ubatch_size=100, cache_ram_mib=9))
    assert (server.context, server.slots, server.batch, server.physical_batch) == (3000, 3, 300, 100)
    assert (server.prompt_cache, server.unified, server.checkpoints) == (9 * MIB, True, 32)
    assert server.flash_attention
    assert not server_shape(profile(enable_unified_kv=False)).unified
    assert server_shape(profile(cache_ram_mib=-1)).prompt_cache is None
    assert server_shape(profile(cache_ram_mib=None)).prompt_cache == 0


def test_extra_arguments_count_and_the_last_one_wins() -> None:
    server = server_shape(
        profile(
            extra_args=(
                "-ctk", "q8_0", "--cache_type_v", "q4_0", "-fa", "off", "--swa-full", "--ctx-checkpoints", "8",
                "--ctx-checkpoints", "2", "--mmproj", "p.gguf",
            )
        )
    )  # fmt: skip
    assert (server.key_bytes, server.value_bytes) == (34 / 32, 18 / 32)
    assert (server.flash_attention, server.full_window, server.checkpoints) == (False, True, 2)
    assert server.further == ("--mmproj",)


def test_an_extra_argument_that_is_no_number_changes_nothing() -> None:
    assert server_shape(profile(extra_args=("--ctx-checkpoints", "many"))).checkpoints == 32
    assert server_shape(profile(extra_args=("--ctx-checkpoints",))).checkpoints == 32


def test_the_prefix_store_takes_the_place_of_the_prompt_cache() -> None:
    store = replace(config_from_mapping({"profile": "sub1b"}).prefix_store, enabled=True)
    preset = profile()
    assert preset.cache_ram_mib
    assert server_shape(preset, store).prompt_cache == 0


def test_what_further_files_need_is_named_as_missing(tmp_path: Path) -> None:
    memory = memory_of(gguf_of(tmp_path), replace(ONE_SLOT, further=("--lora",)))
    assert memory.notes == ("what --lora loads is not counted",)


def test_a_model_that_is_not_there_or_broken_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    assert model_memory(str(tmp_path / "none.gguf"), profile()) is None
    assert model_memory(str(tmp_path / "bad.gguf"), profile()) is None
    assert model_memory(str(write_gguf(tmp_path / "good.gguf")), profile()) is not None


def test_the_largest_context_is_the_last_one_that_fits(tmp_path: Path) -> None:
    gguf = gguf_of(tmp_path, context_length=32_768, block_count=40)
    for slots, unified, step in ((1, False, 256), (3, False, 768), (3, True, 256)):
        server = replace(ONE_SLOT, slots=slots, unified=unified)
        most = largest_context(gguf, server, 100)
        assert most is not None
        assert most % step == 0
        fitting, beyond = (memory_of(gguf, replace(server, context=size)).total_mib for size in (most, most + step))
        assert fitting is not None
        assert beyond is not None
        assert fitting <= 100 < beyond


def test_the_largest_context_is_what_slots_were_trained_for_and_a_config_holds(tmp_path: Path) -> None:
    gguf = gguf_of(tmp_path)
    assert largest_context(gguf, ONE_SLOT, 100_000) == 8192
    assert largest_context(gguf, replace(ONE_SLOT, slots=2), 100_000) == 16_384
    assert largest_context(gguf, replace(ONE_SLOT, slots=8), 100_000) == 32_768


def test_no_context_fits_where_the_weights_do_not(tmp_path: Path) -> None:
    tensors = (MadeTensor("token_embd.weight", (64, 512)), MadeTensor("blk.0.big.weight", (1024, 1024, 100)))
    gguf = read_gguf(str(write_gguf(tmp_path / "m.gguf", SMALL_MODEL, tensors)))
    assert largest_context(gguf, ONE_SLOT, 399) is None
    assert largest_context(gguf, replace(ONE_SLOT, prompt_cache=None), 10_000) is None
