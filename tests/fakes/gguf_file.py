"""GGUF files made up for tests: a header in full, the weights as a hole in the file."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

F32, F16, Q4_0, Q8_0, Q4_K = 0, 1, 2, 8, 12
BLOCKS = {F32: (1, 4), F16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), Q4_K: (256, 144)}

MadeValue = int | float | bool | str | Sequence[int] | Sequence[bool] | Sequence[str]


@dataclass(frozen=True)
class MadeTensor:
    name: str
    shape: tuple[int, ...]
    type: int = F32

    @property
    def bytes(self) -> int:
        block, size = BLOCKS[self.type]
        weights = 1
        for length in self.shape:
            weights *= length
        return weights // block * size


SMALL_MODEL: Mapping[str, MadeValue] = {
    "general.architecture": "llama",
    "general.name": "Made up",
    "llama.block_count": 4,
    "llama.context_length": 8192,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 256,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": [f"word{number}" for number in range(512)],
    "tokenizer.ggml.scores": [0] * 512,
    "tokenizer.chat_template": "{% for message in messages %}" * 100,
}
SMALL_TENSORS = (MadeTensor("token_embd.weight", (64, 512), Q8_0), MadeTensor("blk.0.attn_q.weight", (64, 64), Q4_0))


def gguf_header(
    values: Mapping[str, MadeValue] = SMALL_MODEL,
    tensors: Sequence[MadeTensor] = SMALL_TENSORS,
    *,
    order: Literal["<", ">"] = "<",
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """All that stands before the weights, padding included."""

    def number(kind: str, value: float) -> bytes:
        return struct.pack(order + kind, value)

    def text(value: str) -> bytes:
        return number("Q", len(value.encode())) + value.encode()

    def value_of(value: MadeValue) -> bytes:
        if isinstance(value, bool):
            return number("I", 7) + number("?", value)
        if isinstance(value, int):
            return number("I", 4) + number("I", value)
        if isinstance(value, float):
            return number("I", 6) + number("f", value)
        if isinstance(value, str):
            return number("I", 8) + text(value)
        kind = 8 if value and isinstance(value[0], str) else 7 if value and isinstance(value[0], bool) else 4
        items = [text(item) if isinstance(item, str) else number("?" if kind == 7 else "I", item) for item in value]
        return number("I", 9) + number("I", kind) + number("Q", len(value)) + b"".join(items)

    data = b"GGUF" + number("I", version) + number("Q", len(tensors)) + number("Q", len(values))
    for key, value in values.items():
        data += text(key) + value_of(value)
    offset = 0
    for tensor in tensors:
        data += text(tensor.name) + number("I", len(tensor.shape))
        data += b"".join(number("Q", length) for length in tensor.shape)
        data += number("I", tensor.type) + number("Q", offset)
        offset += -(-tensor.bytes // alignment) * alignment
    return data + bytes(-len(data) % alignment)


def write_gguf(
    path: Path,
    values: Mapping[str, MadeValue] = SMALL_MODEL,
    tensors: Sequence[MadeTensor] = SMALL_TENSORS,
    *,
    order: Literal["<", ">"] = "<",
) -> Path:
    """The whole file at `path`; the weights take no room on the disk."""
    header = gguf_header(values, tensors, order=order)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + sum(-(-tensor.bytes // 32) * 32 for tensor in tensors))
    return path
