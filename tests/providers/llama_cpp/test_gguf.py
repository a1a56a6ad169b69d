"""GGUF headers: what is read from good files, and that nothing a bad one says is believed."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray.providers import Gguf, GgufError, read_gguf
from tests.fakes.gguf_file import (
    F32,
    Q4_K,
    SMALL_MODEL,
    MadeTensor,
    MadeValue,
    gguf_header,
    write_gguf,
)

ONE_KEY: Mapping[str, MadeValue] = {"general.architecture": "llama"}
# What reading may take beside the file: the blocks a vocabulary is walked through, and what is kept.
MEMORY_BYTES = 2 << 20
# Each example writes its file anew; how long that takes is the machine's affair.
SHARED_DIRECTORY = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


def number(kind: str, value: int) -> bytes:
    return struct.pack("<" + kind, value)


def text(value: bytes) -> bytes:
    return number("Q", len(value)) + value


def read_bytes(directory: Path, data: bytes, size: int | None = None) -> Gguf:
    path = directory / "made.gguf"
    with path.open("wb") as file:
        file.write(data)
        if size is not None:
            file.truncate(size)
    return read_gguf(str(path))


def test_values_that_matter_are_kept_and_the_vocabulary_is_only_counted(tmp_path: Path) -> None:
    gguf = read_gguf(str(write_gguf(tmp_path / "m.gguf", {**SMALL_MODEL, "llama.layers": [1, 2, 3], "llama.on": True})))
    assert gguf.architecture == "llama"
    assert gguf.version == 3
    assert gguf.integer("llama.block_count") == 4
    assert gguf.values["llama.layers"] == (1, 2, 3)
    assert gguf.values["llama.on"] is True
    assert gguf.integer("llama.on") is None
    assert gguf.integer("llama.absent", 7) == 7
    assert gguf.lengths["tokenizer.ggml.tokens"] == 512
    assert "tokenizer.ggml.tokens" not in gguf.values
    assert "tokenizer.chat_template" not in gguf.values  # 2,900 characters are more than anyone here needs


def test_tensors_have_their_types_and_sizes(tmp_path: Path) -> None:
    gguf = read_gguf(str(write_gguf(tmp_path / "m.gguf")))
    assert [(tensor.name, tensor.type.name, tensor.bytes) for tensor in gguf.tensors] == [
        ("token_embd.weight", "Q8_0", 512 * 64 // 32 * 34),
        ("blk.0.attn_q.weight", "Q4_0", 64 * 64 // 32 * 18),
    ]
    assert gguf.weight_bytes == sum(tensor.bytes for tensor in gguf.tensors)
    assert gguf.type_bytes() == {"Q8_0": 34_816, "Q4_0": 2_304}
    assert gguf.header_bytes + gguf.weight_bytes == gguf.file_bytes


@pytest.mark.parametrize(("order", "name"), [("<", "little"), (">", "big")])
def test_both_byte_orders_say_the_same(tmp_path: Path, order: Literal["<", ">"], name: str) -> None:
    gguf = read_gguf(str(write_gguf(tmp_path / "m.gguf", order=order)))
    assert gguf.byte_order == name
    assert gguf.integer("llama.embedding_length") == 64
    assert gguf.lengths["tokenizer.ggml.tokens"] == 512
    assert len(gguf.tensors) == 2


def test_version_2_is_read(tmp_path: Path) -> None:
    header = gguf_header(version=2)
    assert read_bytes(tmp_path, header, len(header) + 40_000).version == 2


def test_a_vocabulary_longer_than_one_block_is_walked_through(tmp_path: Path) -> None:
    words = ["x" * (number % 700) for number in range(3_000)] + ["y" * 200_000, "z"]
    gguf = read_gguf(str(write_gguf(tmp_path / "m.gguf", {"tokenizer.ggml.tokens": words, "after": 11})))
    assert gguf.lengths["tokenizer.ggml.tokens"] == 3_002
    assert gguf.integer("after") == 11


def test_missing_padding_behind_the_last_tensor_is_fine_and_a_missing_weight_is_not(tmp_path: Path) -> None:
    tensors = (MadeTensor("one", (3,), F32),)
    header = gguf_header(ONE_KEY, tensors)
    assert read_bytes(tmp_path, header, len(header) + 12).weight_bytes == 32
    with pytest.raises(GgufError, match="cut off"):
        read_bytes(tmp_path, header, len(header) + 11)


def test_a_file_with_nothing_but_metadata_is_read(tmp_path: Path) -> None:
    gguf = read_bytes(tmp_path, entry(b"k", 8, text(b"odd")))
    assert (gguf.values, gguf.tensors, gguf.weight_bytes) == ({"k": "odd"}, (), 0)


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    """A header of version 3 with this one metadata entry."""
    return b"GGUF" + number("I", 3) + number("Q", 0) + number("Q", 1) + text(key) + number("I", kind) + value


def tensor_of(name: bytes = b"t", shape: tuple[int, ...] = (4,), kind: int = F32, offset: int = 0) -> bytes:
    sizes = b"".join(number("Q", length) for length in shape)
    return text(name) + number("I", len(shape)) + sizes + number("I", kind) + number("Q", offset)


def with_tensors(*tensors: bytes) -> bytes:
    return b"GGUF" + number("I", 3) + number("Q", len(tensors)) + number("Q", 0) + b"".join(tensors)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "letters GGUF"),
        (b"GGU", "letters GGUF"),
        (b"NOPE" + bytes(100), "letters GGUF"),
        (b"GGUF", "cut off"),
        (b"GGUF" + number("I", 3), "cut off"),
        (b"GGUF" + number("I", 0) + bytes(16), "version 0"),
        (b"GGUF" + number("I", 1) + bytes(16), "version 1"),
        (b"GGUF" + number("I", 4) + bytes(16), "version 4"),
        (b"GGUF" + number("I", 0x04000000) + bytes(16), "version 4"),
        (b"GGUF" + number("I", 3) + number("Q", 1 << 63) + number("Q", 1), "claims"),
        (b"GGUF" + number("I", 3) + number("Q", 1) + number("Q", (1 << 64) - 1), "claims"),
        (b"GGUF" + number("I", 3) + number("Q", 0) + number("Q", 2) + text(b"a"), "cut off"),
        (entry(b"k" * 1025, 4, number("I", 1)), "1025 bytes"),
        (entry(b"\xff", 4, number("I", 1)), "not UTF-8"),
        (entry(b"k", 8, text(b"\xc3\x28")), "not UTF-8"),
        (entry(b"k", 99, number("I", 1)), "unknown type 99"),
        (entry(b"k", 8, number("Q", 1 << 62)), "cut off"),
        (entry(b"k", 9, number("I", 4) + number("Q", 1 << 62)), "cut off"),
        (entry(b"k", 9, number("I", 8) + number("Q", 1 << 62)), "cut off"),
        (entry(b"k", 9, number("I", 8) + number("Q", 1) + number("Q", 1 << 63)), "cut off"),
        (entry(b"k", 9, number("I", 9) + number("Q", 1)), "type 9"),
        (entry(b"general.alignment", 4, number("I", 0)), "power of two"),
        (entry(b"general.alignment", 4, number("I", 48)), "power of two"),
        (entry(b"general.alignment", 8, text(b"32")), "power of two"),
        (entry(b"general.alignment", 7, b"\x01"), "power of two"),
        (with_tensors(tensor_of(b"n" * 64)), "64 bytes"),
        (with_tensors(tensor_of(shape=(1, 1, 1, 1, 1))), "5 dimensions"),
        (with_tensors(tensor_of(shape=(1 << 40, 1 << 40))), "no memory holds"),
        (with_tensors(tensor_of(kind=4)), "type 4"),
        (with_tensors(tensor_of(kind=999)), "type 999"),
        (with_tensors(tensor_of(shape=(100,), kind=Q4_K)), "whole blocks of 256"),
        (with_tensors(tensor_of(offset=32)), "starts at 32"),
        (with_tensors(tensor_of(), tensor_of()), "twice"),
        (with_tensors(tensor_of(shape=(1 << 40,))), "cut off"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_its_fault(tmp_path: Path, data: bytes, complaint: str) -> None:
    with pytest.raises(GgufError, match=complaint) as caught:
        read_bytes(tmp_path, data)
    assert "made.gguf" in str(caught.value)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    twice = b"GGUF" + number("I", 3) + number("Q", 0) + number("Q", 2) + 2 * (text(b"k") + number("I", 7) + b"\x01")
    with pytest.raises(GgufError, match="twice"):
        read_bytes(tmp_path, twice)


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [(lambda _: None, "No such file"), (directory, "directory"), (pipe, "not a regular file")],
    ids=["missing", "directory", "pipe"],
)
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], complaint: str) -> None:
    make(tmp_path / "m.gguf")
    with pytest.raises(GgufError, match=complaint):
        read_gguf(str(tmp_path / "m.gguf"))


def test_a_path_with_a_nul_is_refused() -> None:
    with pytest.raises(GgufError, match="null"):
        read_gguf("m\0.gguf")


@pytest.mark.parametrize(
    "claim",
    [
        entry(b"k", 8, number("Q", 1 << 40)),
        entry(b"k", 9, number("I", 10) + number("Q", 1 << 37)),
        entry(b"k", 9, number("I", 8) + number("Q", 1 << 37)),
        entry(b"k", 9, number("I", 8) + number("Q", 2) + number("Q", 1 << 40)),
    ],
    ids=["string", "numbers", "strings", "one of the strings"],
)
def test_a_header_of_a_terabyte_is_refused_without_reading_it(tmp_path: Path, claim: bytes) -> None:
    """Given a sparse file that really has the length it claims, then the header's own bound refuses it."""
    tracemalloc.start()
    try:
        with pytest.raises(GgufError, match="beyond 64 MiB"):
            read_bytes(tmp_path, claim, 3 << 40)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES
    finally:
        tracemalloc.stop()


WHOLE = gguf_header() + bytes(64 * 1024)
HEADER_BYTES = len(gguf_header())
# Where lengths, counts and types stand: near the front, and all over the metadata.
PLACES = st.one_of(st.integers(0, 400), st.integers(0, HEADER_BYTES - 1))
MUTATIONS = st.one_of(
    st.tuples(PLACES, st.binary(min_size=1, max_size=8)),
    st.tuples(PLACES, st.sampled_from([b"\xff" * 8, bytes(8), b"\x00" * 7 + b"\x80", number("Q", 1 << 31)])),
)


@settings(max_examples=300, deadline=None, suppress_health_check=SHARED_DIRECTORY)
@given(mutations=st.lists(MUTATIONS, min_size=1, max_size=4), cut=st.one_of(st.none(), st.integers(0, len(WHOLE))))
def test_a_mutated_header_is_read_or_refused_and_never_costs_memory(
    tmp_path: Path, mutations: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(WHOLE)
    for place, change in mutations:
        data[place : place + len(change)] = change
    complaint = ""
    tracemalloc.start()
    try:
        gguf = read_bytes(tmp_path, bytes(data[:cut]))
        assert gguf.header_bytes + gguf.weight_bytes <= gguf.file_bytes + 32
        assert gguf.tensors or not gguf.weight_bytes
    except GgufError as error:
        complaint = str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY_BYTES
    assert not complaint or "made.gguf" in complaint
    assert len(complaint) < 5_000


@settings(max_examples=100, deadline=None, suppress_health_check=SHARED_DIRECTORY)
@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_behind_the_magic_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    with contextlib.suppress(GgufError):
        read_bytes(tmp_path, b"GGUF" + data)
