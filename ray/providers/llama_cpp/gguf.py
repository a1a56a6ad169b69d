"""What a GGUF file says about itself, read without loading the model.

The file comes from the network, so nothing in it is believed: every count and length is held against the bytes that
are really there before anything is read for it, what is kept is bounded, and the tensors must fill the file the way
llama.cpp insists on. A file that breaks a rule is a `GgufError` that names the file, what is wrong and what to do.

Format: the GGUF specification, versions 2 and 3, and the checks of llama.cpp's own reader (`ggml/src/gguf.cpp`).
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple

ByteOrder = Literal["little", "big"]
Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
ALIGNMENT_KEY = "general.alignment"

# Bounds on what is read and kept. Real files have some 50 entries, up to about 2,000 tensors, and a few MiB of
# vocabulary (15 MiB with 262,144 tokens and their merges), which is skipped.
MAX_HEADER_BYTES = 64 << 20
MAX_ENTRIES = 4_096
MAX_TENSORS = 16_384
MAX_KEY_BYTES = 1_024
MAX_TENSOR_NAME_BYTES = 63  # GGML_MAX_NAME with its closing zero
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_KEPT_STRING_BYTES = 1_024
MAX_KEPT_ITEMS = 1_024  # one per layer; llama.cpp has at most 512 layers
MAX_INT64 = (1 << 63) - 1
SKIP_BLOCK_BYTES = 64 << 10

# The value types of the specification, as struct formats. The two others: 8 is a string, 9 an array.
SCALAR_FORMATS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
STRING = 8
ARRAY = 9


class TensorType(NamedTuple):
    """A way to store weights: `bytes` for every `block` of them."""

    name: str
    block: int
    bytes: int


# ggml_type and its block sizes (`ggml/include/ggml.h`, `GGML_QUANT_SIZES` in gguf-py). Numbers left out were removed.
TENSOR_TYPES: Mapping[int, TensorType] = {
    number: TensorType(*fields)
    for number, fields in {
        0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
        29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18),
    }.items()
}  # fmt: skip


class GgufError(Exception):
    """The file is not a GGUF file that llama.cpp would load; the message says why and what to do."""


class Tensor(NamedTuple):
    """One tensor: its shape with the row length first, as ggml has it, and its size in the file."""

    name: str
    type: TensorType
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Gguf:
    """The header of a GGUF file.

    `values`: metadata that is small enough to keep: numbers, flags, strings up to 1 KiB, arrays of numbers or flags
    with up to 1,024 items. `lengths`: the item count of every array, kept or not. `weight_bytes`: all tensors with
    their padding, which is what llama.cpp maps into memory.
    """

    path: str
    version: int
    byte_order: ByteOrder
    file_bytes: int
    header_bytes: int
    weight_bytes: int
    values: Mapping[str, Value]
    lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        name = self.values.get("general.architecture")
        return name if isinstance(name, str) else ""

    def integer(self, key: str, default: int | None = None) -> int | None:
        """The whole number of `key`; `default` when there is none or it is something else."""
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else default

    def type_bytes(self) -> dict[str, int]:
        """Bytes of weights for every tensor type in the file, the largest share first."""
        sums: dict[str, int] = {}
        for tensor in self.tensors:
            sums[tensor.type.name] = sums.get(tensor.type.name, 0) + tensor.bytes
        return dict(sorted(sums.items(), key=lambda entry: -entry[1]))


def read_gguf(path: str) -> Gguf:
    """The header of the GGUF file at `path`; the weights themselves are not read.

    Reads at most 64 MiB, keeps a few MiB. Raises `GgufError` for everything that is wrong with the file, and for a
    file that cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that lies where the model should be would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise GgufError(f"{path} is not a regular file; name the model's .gguf file")
            return _Reader(file, path, status.st_size).header()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise GgufError(f"{path} cannot be read: {reason}") from error


class _Reader:
    """Reads forward through the header. Nothing is read before it is known to be there."""

    def __init__(self, file: BinaryIO, path: str, size: int) -> None:
        self.file = file
        self.path = path
        self.size = size
        self.limit = min(size, MAX_HEADER_BYTES)
        self.position = 0
        self.order: ByteOrder = "little"

    def error(self, problem: str) -> GgufError:
        return GgufError(f"{self.path} is not a usable GGUF file: {problem}. Download it again or name another model")

    def need(self, count: int, what: str) -> None:
        """Refuse when `count` more bytes would leave the file or the part of it that is read."""
        if count > self.limit - self.position:
            if self.limit < self.size:
                raise self.error(f"its header goes beyond {MAX_HEADER_BYTES >> 20} MiB at {what}")
            raise self.error(f"it is cut off or lies about its lengths: {what} would end after byte {self.size}")

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self.file.read(count)
        if len(data) != count:
            raise self.error(f"it became shorter while it was read, at {what}")
        self.position += count
        return data

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        self.file.seek(count, os.SEEK_CUR)
        self.position += count

    def scalar(self, kind: str, what: str) -> int | float | bool:
        code = ("<" if self.order == "little" else ">") + kind
        number: int | float | bool = struct.unpack(code, self.take(struct.calcsize(code), what))[0]
        return number

    def count(self, what: str, kind: str = "Q") -> int:
        return int(self.scalar(kind, what))

    def string(self, what: str, limit: int) -> str:
        length = self.count(f"the length of {what}")
        self.need(length, what)
        if length > limit:
            raise self.error(f"{what} has {length} bytes, and {limit} are the most")
        return self._text(self.take(length, what), what)

    def _text(self, data: bytes, what: str) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(f"{what} is not UTF-8 text") from None

    def header(self) -> Gguf:
        if self.size < 4 or self.take(4, "its first four bytes") != MAGIC:
            raise self.error("it does not start with the letters GGUF")
        version = self._version()
        tensor_count = self.count("the number of tensors")
        entry_count = self.count("the number of metadata entries")
        if tensor_count > MAX_TENSORS or entry_count > MAX_ENTRIES:
            raise self.error(
                f"it claims {tensor_count} tensors and {entry_count} metadata entries; "
                f"the most are {MAX_TENSORS} and {MAX_ENTRIES}"
            )
        values, lengths = self._metadata(entry_count)
        alignment = self._alignment(values)
        tensors, padded = self._tensors(tensor_count, alignment)
        start = _padded(self.position, alignment) if tensors else self.position
        # The padding after the last tensor is counted, but llama.cpp loads a file without it as well.
        present = padded - _padded(tensors[-1].bytes, alignment) + tensors[-1].bytes if tensors else 0
        if start + present > self.size:
            raise self.error(f"it is cut off: {start + present} bytes are promised, and it has {self.size}")
        return Gguf(self.path, version, self.order, self.size, start, padded, values, lengths, tensors)

    def _version(self) -> int:
        raw = self.take(4, "its version")
        version = int.from_bytes(raw, "little")
        if version & 0xFFFF == 0 and version:
            # A version far above 65535 is a small one in the other byte order (the check of llama.cpp).
            self.order = "big"
            version = int.from_bytes(raw, "big")
        if version == 1:
            raise self.error("it has version 1 of the format, which llama.cpp no longer reads")
        if version not in VERSIONS:
            raise self.error(f"it has version {version} of the format, and only 2 and 3 are known")
        return version

    def _metadata(self, count: int) -> tuple[dict[str, Value], dict[str, int]]:
        values: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        seen: set[str] = set()
        for number in range(count):
            key = self.string(f"the key of metadata entry {number}", MAX_KEY_BYTES)
            if key in seen:
                raise self.error(f"the metadata key {key!r} is there twice")
            seen.add(key)
            kind = self.count(f"the type of {key!r}", "I")
            if kind == ARRAY:
                items = self._array(key, lengths)
                if items is not None:
                    values[key] = items
            elif kind == STRING:
                text = self._short_string(f"the value of {key!r}")
                if text is not None:
                    values[key] = text
            elif kind in SCALAR_FORMATS:
                values[key] = self.scalar(SCALAR_FORMATS[kind], f"the value of {key!r}")
            else:
                raise self.error(f"the metadata key {key!r} has the unknown type {kind}")
        return values, lengths

    def _short_string(self, what: str) -> str | None:
        """The string if it is worth keeping; a chat template, for one, is not."""
        length = self.count(f"the length of {what}")
        if length > MAX_KEPT_STRING_BYTES:
            self.skip(length, what)
            return None
        return self._text(self.take(length, what), what)

    def _array(self, key: str, lengths: dict[str, int]) -> tuple[Scalar, ...] | None:
        kind = self.count(f"the item type of {key!r}", "I")
        items = self.count(f"the item count of {key!r}")
        what = f"the {items} items of {key!r}"
        if kind == STRING:
            self.need(items * 8, what)
            self._skip_strings(items, what)
            kept = None
        elif kind in SCALAR_FORMATS:
            code = SCALAR_FORMATS[kind]
            size = items * struct.calcsize("<" + code)
            if items > MAX_KEPT_ITEMS:
                self.skip(size, what)
                kept = None
            else:
                order = "<" if self.order == "little" else ">"
                kept = struct.unpack(f"{order}{items}{code}", self.take(size, what))
        else:  # an array of arrays included, which llama.cpp refuses too
            raise self.error(f"the items of {key!r} have the type {kind}, which an array cannot hold")
        lengths[key] = items
        return kept

    def _skip_strings(self, items: int, what: str) -> None:
        """Step over `items` strings. A vocabulary has hundreds of thousands: they are walked through in blocks."""
        order = self.order
        block, at = b"", 0
        start = self.position  # where `block` begins in the file
        for _ in range(items):
            if at + 8 > len(block):
                start, at = start + at, 0
                self.position = start
                self.need(8, what)
                self.file.seek(start)
                block = self.file.read(min(SKIP_BLOCK_BYTES, self.limit - start))
                if len(block) < 8:
                    raise self.error(f"it became shorter while it was read, at {what}")
            at += 8 + int.from_bytes(block[at : at + 8], order)
            if start + at > self.limit:
                self.position = self.limit
                self.need(1, what)
        self.position = start + at
        self.file.seek(self.position)

    def _alignment(self, values: Mapping[str, Value]) -> int:
        alignment = values.get(ALIGNMENT_KEY, DEFAULT_ALIGNMENT)
        # llama.cpp wants 32 bits, hence the upper end.
        if not isinstance(alignment, int) or isinstance(alignment, bool) or not 0 < alignment < 1 << 32:
            raise self.error(f"{ALIGNMENT_KEY} is {alignment!r} and not a power of two")
        if alignment & (alignment - 1):
            raise self.error(f"{ALIGNMENT_KEY} is {alignment} and not a power of two")
        return alignment

    def _tensors(self, count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
        """All tensors, and the bytes they take with their padding."""
        tensors: list[Tensor] = []
        seen: set[str] = set()
        end = 0
        for number in range(count):
            name = self.string(f"the name of tensor {number}", MAX_TENSOR_NAME_BYTES)
            if name in seen:
                raise self.error(f"the tensor {name!r} is there twice")
            seen.add(name)
            tensor = self._tensor(name)
            offset = self.count(f"the offset of tensor {name!r}")
            if offset != end:  # llama.cpp refuses gaps and overlaps
                raise self.error(f"tensor {name!r} starts at {offset} and not at {end}, where the one before ends")
            tensors.append(tensor)
            end += _padded(tensor.bytes, alignment)
        return tuple(tensors), end

    def _tensor(self, name: str) -> Tensor:
        dimensions = self.count(f"the dimensions of tensor {name!r}", "I")
        if dimensions > MAX_DIMENSIONS:
            raise self.error(f"tensor {name!r} has {dimensions} dimensions, and {MAX_DIMENSIONS} are the most")
        shape = tuple(self.count(f"the shape of tensor {name!r}") for _ in range(dimensions))
        weights = 1
        for length in shape:
            weights *= length
        if weights > MAX_INT64 or any(length > MAX_INT64 for length in shape):
            raise self.error(f"tensor {name!r} claims the shape {shape}, which no memory holds")
        number = self.count(f"the type of tensor {name!r}", "I")
        kind = TENSOR_TYPES.get(number)
        if kind is None:
            raise self.error(f"tensor {name!r} has the type {number}, which is unknown here or was removed")
        if (shape[0] if shape else 1) % kind.block:
            raise self.error(f"tensor {name!r} has rows of {shape[0]} weights, not whole blocks of {kind.block}")
        return Tensor(name, kind, shape, weights // kind.block * kind.bytes)


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
