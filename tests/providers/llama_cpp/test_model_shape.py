"""Layers, widths and windows, as llama.cpp reads them from the metadata of an architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray.providers import GgufError, ServerShape, memory_of, read_gguf
from ray.providers.llama_cpp.model_shape import Layer, ModelShape, model_shape
from tests.fakes.gguf_file import SMALL_MODEL, MadeValue, write_gguf

FULL = Layer(32, 32, 0, 0)
# Each example writes its file anew; how long that takes is the machine's affair.
SHARED_DIRECTORY = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


def shape_of(directory: Path, architecture: str = "llama", /, **figures: MadeValue | None) -> ModelShape:
    """The shape of the small model: 64 wide, 4 layers with 4 heads of 16 and 2 key heads; `None` leaves one out."""
    values: dict[str, MadeValue] = {"general.architecture": architecture}
    for key, small in SMALL_MODEL.items():
        if not key.startswith("general."):
            values[key.replace("llama.", f"{architecture}.", 1)] = small
    for name, value in figures.items():
        key = f"{architecture}.{name.replace('__', '.')}"
        values.pop(key, None)
        if value is not None:
            values[key] = value
    return model_shape(read_gguf(str(write_gguf(directory / "made.gguf", values))))


def windows(shape: ModelShape) -> list[int]:
    return [layer.window for layer in shape.layers]


def test_widths_are_key_heads_times_head_length(tmp_path: Path) -> None:
    shape = shape_of(tmp_path)
    assert shape.layers == (FULL,) * 4
    assert (shape.vocabulary, shape.heads, shape.query_width, shape.feed_forward) == (512, 4, 64, 256)
    assert shape.trained_context == 8192


def test_key_and_value_lengths_win_over_the_division(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, attention__key_length=128, attention__value_length=96)
    assert shape.layers[0] == Layer(256, 192, 0, 0)


def test_without_key_heads_each_head_has_its_own(tmp_path: Path) -> None:
    assert shape_of(tmp_path, attention__head_count_kv=None).layers[0] == Layer(64, 64, 0, 0)


def test_key_heads_may_differ_by_layer(tmp_path: Path) -> None:
    shape = shape_of(tmp_path, "lfm2", attention__head_count_kv=[0, 2, 0, 1], shortconv__l_cache=3)
    assert shape.layers == (Layer(0, 0, 0, 128), FULL, Layer(0, 0, 0, 128), Layer(16, 16, 0, 0))


@pytest.mark.parametrize(
    ("architecture", "figures", "expected"),
    [
        ("llama", {"attention__sliding_window": 512}, [0] * 8),  # the key is there, llama.cpp does not look
        ("phi3", {"attention__sliding_window": 512}, [0] * 8),
        ("gemma3", {}, [0] * 8),
        ("gemma3", {"attention__sliding_window": 512}, [512] * 5 + [0] + [512] * 2),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": 2}, [512, 0] * 4),
        ("gemma3", {"attention__sliding_window": 512, "attention__sliding_window_pattern": 0}, [512] * 8),
        ("gemma2", {}, [4096, 0] * 4),
        ("gpt-oss", {"attention__sliding_window": 128}, [128, 0] * 4),
        ("cohere2moe", {"attention__sliding_window": 64}, [0, 64, 64, 64] * 2),
        ("smallthinker", {"attention__sliding_window": 7}, [0, 4096, 4096, 4096] * 2),
        ("smallthinker", {"attention__sliding_window": 0}, [0] * 8),
        (
            "gemma4",
            {"attention__sliding_window": 512, "attention__sliding_window_pattern": [True, False] * 4},
            [512, 0] * 4,
        ),
    ],
)
def test_windows_follow_the_pattern_of_the_architecture(
    tmp_path: Path, architecture: str, figures: dict[str, MadeValue], expected: list[int]
) -> None:
    assert windows(shape_of(tmp_path, architecture, block_count=8, **figures)) == expected


def test_window_layers_may_have_heads_of_another_length(tmp_path: Path) -> None:
    shape = shape_of(
        tmp_path, "gemma4", attention__sliding_window=64, attention__sliding_window_pattern=[True, False] * 2,
        attention__key_length=32, attention__value_length=32,
        attention__key_length_swa=8, attention__value_length_swa=8,
    )  # fmt: skip
    assert shape.layers[:2] == (Layer(16, 16, 64, 0), Layer(64, 64, 0, 0))


def test_layers_that_share_what_earlier_ones_keep_have_nothing_of_their_own(tmp_path: Path) -> None:
    assert [layer.key_width for layer in shape_of(tmp_path, "gemma4", attention__shared_kv_layers=3).layers] == [
        32, 0, 0, 0,
    ]  # fmt: skip
    assert [layer.key_width for layer in shape_of(tmp_path, "gemma3n", block_count=22).layers] == [32] * 20 + [0] * 2


def test_layers_for_further_tokens_keep_nothing(tmp_path: Path) -> None:
    assert len(shape_of(tmp_path, nextn_predict_layers=1).layers) == 3


def test_compressed_attention_keeps_keys_only(tmp_path: Path) -> None:
    shape = shape_of(
        tmp_path, "deepseek2", attention__head_count_kv=1, attention__key_length=576, attention__value_length=512,
        attention__key_length_mla=192, attention__value_length_mla=128,
    )  # fmt: skip
    assert shape.layers[0] == Layer(576, 0, 0, 0)


def test_layers_between_the_attending_ones_keep_a_state(tmp_path: Path) -> None:
    shape = shape_of(
        tmp_path, "qwen35", ssm__inner_size=128, ssm__state_size=16, ssm__conv_kernel=4, ssm__group_count=2
    )
    state = 3 * (128 + 2 * 2 * 16) + 16 * 128
    assert shape.layers == (Layer(0, 0, 0, state),) * 3 + (FULL,)


@pytest.mark.parametrize(
    ("figures", "complaint"),
    [
        ({"block_count": None}, "no usable llama.block_count"),
        ({"block_count": "four"}, "'four', which cannot be"),
        ({"block_count": 0}, "claims 0 layers"),
        ({"block_count": 4_000_000_000}, "which cannot be"),
        ({"block_count": 513}, "claims 513 layers"),
        ({"embedding_length": None}, "no usable llama.embedding_length"),
        ({"attention__head_count_kv": [2, 2]}, "2 entries in llama.attention.head_count_kv, not 4"),
        ({"attention__key_length": -1.5}, "cannot be"),
    ],
)
def test_a_figure_that_cannot_be_is_named(tmp_path: Path, figures: dict[str, MadeValue | None], complaint: str) -> None:
    with pytest.raises(GgufError, match=complaint):
        shape_of(tmp_path, **figures)


def test_a_file_without_an_architecture_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="does not name its architecture"):
        model_shape(read_gguf(str(write_gguf(tmp_path / "made.gguf", {"general.name": "x"}))))


FIGURES = (
    "block_count", "embedding_length", "attention__head_count", "attention__head_count_kv", "attention__key_length",
    "attention__sliding_window", "attention__sliding_window_pattern", "attention__shared_kv_layers",
    "full_attention_interval", "feed_forward_length", "ssm__inner_size", "shortconv__l_cache", "context_length",
    "wkv__head_size", "nextn_predict_layers", "expert_used_count", "expert_feed_forward_length",
)  # fmt: skip
NUMBERS = st.one_of(st.integers(0, 40), st.integers(0, (1 << 32) - 1))
VALUES = st.one_of(
    NUMBERS, st.booleans(), st.floats(width=32), st.text(max_size=3), st.lists(NUMBERS, max_size=40),
    st.lists(st.booleans(), min_size=1, max_size=40),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=SHARED_DIRECTORY)
@given(
    architecture=st.sampled_from(["llama", "gemma3", "gemma3n", "gemma4", "qwen35", "falcon-h1", "unheard of"]),
    figures=st.dictionaries(st.sampled_from(FIGURES), VALUES, max_size=6),
)
def test_any_metadata_is_weighed_or_refused(
    tmp_path: Path, architecture: str, figures: dict[str, MadeValue | None]
) -> None:
    try:
        shape = shape_of(tmp_path, architecture, **figures)
        memory = memory_of(read_gguf(str(tmp_path / "made.gguf")), ServerShape(4096, 2, True, 256, 128, 0))
    except GgufError:
        return
    assert 0 < len(shape.layers) <= 512
    assert all(part is not None and part >= 0 for _, part in memory.parts())
