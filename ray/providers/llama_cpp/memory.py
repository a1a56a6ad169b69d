"""What a model needs in memory, from its file's header and the command that starts llama-server.

Nothing is loaded. Each part follows what llama.cpp does with it; where it depends on the build or the processor, the
figure is a little too large. All sizes are bytes unless a name says otherwise.

- Weights: the file is mapped, so its tensors are read once and stay (`llama_model_loader`, load mode mmap). Some types
  are copied in another order for the processor (`ggml-cpu/repack.cpp`); the kernel may then drop the originals, so
  these copies come on top of what is seen in memory, not of what is needed.
- KV cache: `--ctx-size` is rounded up to 256 and is the sum over all slots; without `--kv-unified` it is divided among
  them and each part rounded up again (`llama_context`). Layers with a sliding window keep no more than the window and
  one physical batch, padded to 256 (`llama_kv_cache_iswa`).
- Compute buffer: the widest moment of one layer for a physical batch, and the attention masks (`sched_reserve`). With
  flash attention, which llama-server chooses by itself on a processor.
- Checkpoints: of layers that cannot be rewound, llama-server keeps up to 32 copies per slot in ordinary memory
  (`--ctx-checkpoints`). Long conversations do fill them.
- Prompt cache: what `--cache-ram` allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray.config import LaunchProfile, PrefixStoreConfig
from ray.providers.llama_cpp.gguf import Gguf, GgufError, read_gguf
from ray.providers.llama_cpp.launch import launch_arguments
from ray.providers.llama_cpp.model_shape import ModelShape, model_shape
from ray.types import MIB, ceil_mib

CONTEXT_STEP = 256
LARGEST_CONTEXT = 32_768  # of `launchProfile.ctxSize`
DEFAULT_CHECKPOINTS = 32
FLOAT_BYTES = 4
HALF_BYTES = 2

# Bytes per number in the KV cache (`kv_cache_types` in common/arg.cpp).
CACHE_TYPES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32, "q4_1": 20 / 32, "iq4_nl": 18 / 32,
    "q5_0": 22 / 32, "q5_1": 24 / 32,
}  # fmt: skip
# Types that llama.cpp reorders on some processor or other.
REPACKED_TYPES = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q8_0", "IQ4_NL", "MXFP4"})

# Measured with two models on x86-64: program text, allocator, threads; then per token of the vocabulary and per merge
# (llama.cpp keeps both in hash maps), and per slot for requests and sampling (12 bytes per token of the vocabulary).
PROGRAM_BYTES = 24 * MIB
VOCABULARY_ENTRY_BYTES = 160
SLOT_BYTES = 2 * MIB
CANDIDATE_BYTES = 12

# Flags that load something else beside the model, which nobody has measured here.
FURTHER_FILES = frozenset(
    {"--model-draft", "-md", "--spec-draft-model", "--mmproj", "-mm", "--lora", "--lora-scaled", "--control-vector"}
)


@dataclass(frozen=True, slots=True)
class ServerShape:
    """llama-server's command line, as far as memory depends on it. `prompt_cache`: None is without limit."""

    context: int
    slots: int
    unified: bool
    batch: int
    physical_batch: int
    prompt_cache: int | None
    key_bytes: float = 2.0
    value_bytes: float = 2.0
    flash_attention: bool = True
    full_window: bool = False
    checkpoints: int = DEFAULT_CHECKPOINTS
    further: tuple[str, ...] = ()

    @property
    def cells(self) -> int:
        """Tokens that one stream of the KV cache holds: all slots together when unified, else one slot."""
        total = _padded(self.context)
        return total if self.unified else _padded(total // self.slots)

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.slots

    @property
    def tokens_at_once(self) -> int:
        """A physical batch is at most a logical one, and that at most the context."""
        return min(self.cells * self.streams, self.batch, self.physical_batch)

    def window_cells(self, window: int) -> int:
        """What a layer with this window keeps per stream."""
        if not window or self.full_window:
            return self.cells
        return _padded(min(self.cells, window * (self.slots if self.unified else 1) + self.tokens_at_once))


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What llama-server needs with one model, in bytes.

    `checkpoints`: all that may be kept. `prompt_cache`: None is without limit, and then there is no total.
    `repacked`: the most that reordered copies of weights add to what is seen in memory; not needed, so not in the
    total. `notes`: what the figures leave out.
    """

    weights: int
    kv_cache: int
    state: int
    compute: int
    outputs: int
    checkpoint: int
    checkpoints: int
    prompt_cache: int | None
    runtime: int
    repacked: int
    server: ServerShape
    model: ModelShape
    notes: tuple[str, ...] = ()

    @property
    def fixed(self) -> int:
        """Everything except what grows with use: checkpoints and the prompt cache."""
        return self.weights + self.kv_cache + self.state + self.compute + self.outputs + self.runtime

    @property
    def total(self) -> int | None:
        """The most it may need; None when the prompt cache has no limit."""
        return None if self.prompt_cache is None else self.fixed + self.checkpoints + self.prompt_cache

    @property
    def total_mib(self) -> int | None:
        """The same in MiB, rounded up."""
        total = self.total
        return None if total is None else ceil_mib(total)

    def parts(self) -> tuple[tuple[str, int | None], ...]:
        """What the total is made of, by name."""
        return (
            ("weights", self.weights),
            ("kvCache", self.kv_cache),
            ("recurrentState", self.state),
            ("computeBuffer", self.compute),
            ("outputs", self.outputs),
            ("contextCheckpoints", self.checkpoints),
            ("promptCache", self.prompt_cache),
            ("runtime", self.runtime),
        )


def model_memory(
    path: str, profile: LaunchProfile, prefix_store: PrefixStoreConfig | None = None
) -> ModelMemory | None:
    """What the backend of `profile` needs with the model file at `path`.

    `prefix_store`: the config's; with it on, the prompt cache is smaller. None when there is no file to read or its
    header cannot be used: `read_gguf` and `memory_of` say why.
    """
    try:
        return memory_of(read_gguf(path), server_shape(profile, prefix_store))
    except GgufError:
        return None


def server_shape(profile: LaunchProfile, prefix_store: PrefixStoreConfig | None = None) -> ServerShape:
    """What the profile's command line means, `extraArgs` included: the last of several equal flags counts."""
    arguments = launch_arguments(profile, prefix_store)
    given = _Flags(arguments)
    cache_mib = given.integer(("--cache-ram",), 0)
    return ServerShape(
        context=given.integer(("--ctx-size",), profile.ctx_size),
        slots=max(1, given.integer(("--parallel",), profile.parallel)),
        unified="--kv-unified" in arguments,
        batch=given.integer(("--batch-size",), profile.batch_size),
        physical_batch=given.integer(("--ubatch-size",), profile.ubatch_size),
        prompt_cache=None if cache_mib < 0 else cache_mib * MIB,
        key_bytes=CACHE_TYPES.get(given.word(("--cache-type-k", "-ctk")) or "f16", 4.0),
        value_bytes=CACHE_TYPES.get(given.word(("--cache-type-v", "-ctv")) or "f16", 4.0),
        flash_attention=given.word(("--flash-attn", "-fa")) not in ("off", "0", "false", "disabled"),
        full_window="--swa-full" in arguments,
        checkpoints=max(0, given.integer(("--ctx-checkpoints", "--swa-checkpoints", "-ctxcp"), DEFAULT_CHECKPOINTS)),
        further=tuple(sorted({word for word in given.names if word in FURTHER_FILES})),
    )


class _Flags:
    """Values of flags on a command line; `--flag value`, as llama-server wants it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = arguments
        self.names = [word.replace("_", "-") if word.startswith("--") else word for word in arguments]

    def word(self, names: Sequence[str]) -> str | None:
        places = [index for index, word in enumerate(self.names[:-1]) if word in names]
        return self.arguments[places[-1] + 1] if places else None

    def integer(self, names: Sequence[str], default: int) -> int:
        word = self.word(names)
        digits = (word or "").removeprefix("-")
        return int(word) if word and digits.isascii() and digits.isdigit() and len(digits) < 16 else default


def memory_of(gguf: Gguf, server: ServerShape) -> ModelMemory:
    """What a server of this shape needs with this model. Raises `GgufError` when the header lacks what is needed."""
    if (gguf.integer("split.count") or 1) > 1:
        raise GgufError(f"{gguf.path} is one of several parts of a model; merge them with llama-gguf-split --merge")
    return _memory(gguf, model_shape(gguf), server)


def _memory(gguf: Gguf, model: ModelShape, server: ServerShape) -> ModelMemory:
    kv_cache = checkpoint = 0
    for layer in model.layers:
        cell = layer.key_width * server.key_bytes + layer.value_width * server.value_bytes
        cells = server.window_cells(layer.window)
        kv_cache += int(cell * cells) * server.streams
        if layer.window and not server.full_window:
            checkpoint += int(cell * min(cells, layer.window))
    state = sum(layer.state for layer in model.layers) * FLOAT_BYTES
    checkpoint += state
    return ModelMemory(
        weights=gguf.weight_bytes,
        kv_cache=kv_cache,
        state=state * server.slots,
        compute=_compute(model, server),
        outputs=model.vocabulary * (FLOAT_BYTES + CANDIDATE_BYTES) * server.slots,
        checkpoint=checkpoint,
        checkpoints=checkpoint * server.checkpoints * server.slots,
        prompt_cache=server.prompt_cache,
        runtime=PROGRAM_BYTES + SLOT_BYTES * server.slots + VOCABULARY_ENTRY_BYTES * (model.vocabulary + model.merges),
        repacked=sum(size for name, size in gguf.type_bytes().items() if name in REPACKED_TYPES),
        server=server,
        model=model,
        notes=tuple(f"what {flag} loads is not counted" for flag in server.further),
    )


def _compute(model: ModelShape, server: ServerShape) -> int:
    """The compute buffer. Between 2 and 30 % above what llama-server prints for the models it was measured with (llama,
    gemma3, qwen3 and lfm2, batches from 64 to 512, contexts up to 32,768): how parts overlap differs."""
    tokens = server.tokens_at_once
    widest = max((layer.key_width + layer.value_width for layer in model.layers), default=0)
    numbers = 6 * model.embedding + 2 * model.feed_forward + model.query_width + model.attention_width + widest
    numbers += model.mixing_width
    windows = {server.window_cells(layer.window) for layer in model.layers if layer.window}
    cells = server.cells + sum(windows)
    mask = cells * HALF_BYTES
    if not server.flash_attention:
        mask = cells * FLOAT_BYTES
        numbers += model.heads * server.cells
    # Logits are only made for the last token of each slot, when the wide part of the layers is over.
    return tokens * mask + max(tokens * numbers, model.vocabulary * server.slots) * FLOAT_BYTES


def largest_context(gguf: Gguf, server: ServerShape, limit_mib: int) -> int | None:
    """The largest `ctxSize` with which the server stays within `limit_mib`; None when not even the smallest does.

    In steps that llama-server does not round, at most what the model was trained for in each slot, and at most what a
    config can hold. Raises `GgufError`.
    """
    model = model_shape(gguf)
    step = CONTEXT_STEP if server.unified else CONTEXT_STEP * server.slots
    most = LARGEST_CONTEXT
    if model.trained_context:
        most = min(most, model.trained_context * server.slots)
    low, high = 0, max(1, most // step)

    def fits(steps: int) -> bool:
        total = _memory(gguf, model, replace(server, context=steps * step)).total_mib
        return total is not None and total <= limit_mib

    while low < high:  # memory only grows with the context
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low * step or None


def _padded(tokens: int) -> int:
    return -(-tokens // CONTEXT_STEP) * CONTEXT_STEP
