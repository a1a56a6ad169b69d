"""What a model's GGUF header means for memory: its layers, how wide each one's keys and values are, and which of them
only look back over a window.

The rules are llama.cpp's (`llama_model_base::load_hparams`, the `load_arch_hparams` of the architectures,
`llama_hparams::n_embd_r/s`). Where an architecture is not known here, every layer counts with the whole context: the
result is then too large, never too small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ray.providers.llama_cpp.gguf import Gguf, GgufError

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
# Nothing real comes near this. It keeps a hostile header from yielding figures with a thousand digits.
LARGEST_FIGURE = 1 << 31


class WindowRule(NamedTuple):
    """Of `every` layers in a row one sees the whole context: the last, or the first with `dense_first`. `window`:
    where the file may leave it open. `fixed`: llama.cpp takes `window` whatever the file says."""

    every: int
    dense_first: bool = False
    window: int = 0
    fixed: bool = False


WINDOW_RULES = {
    "gemma2": WindowRule(2, window=4096),
    "gemma3": WindowRule(6),
    "gemma3n": WindowRule(5),
    "cohere2": WindowRule(4),
    "cohere2moe": WindowRule(4, dense_first=True),
    "gpt-oss": WindowRule(2),
    "olmo2": WindowRule(4),
    "smallthinker": WindowRule(4, dense_first=True, window=4096, fixed=True),
    "plamo3": WindowRule(8),
    "afmoe": WindowRule(4),
    "mellum": WindowRule(4),
    "exaone-moe": WindowRule(4, window=128),
}
# Only every n-th layer has keys and values; the others carry a state of fixed size.
INTERVAL_ARCHITECTURES = frozenset({"qwen3next", "qwen35", "qwen35moe"})
DEFAULT_ATTENTION_INTERVAL = 4
GEMMA3N_KV_LAYERS = 20
BOTH_KINDS_ARCHITECTURES = frozenset({"falcon-h1"})  # each layer has keys and values and a state


class Layer(NamedTuple):
    """`key_width`, `value_width`: numbers kept per token; 0 without attention. `window`: how far back the layer sees
    in tokens; 0 is the whole context. `state`: numbers kept per slot, whatever the context."""

    key_width: int
    value_width: int
    window: int
    state: int


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model, as far as its memory depends on it. `trained_context` in tokens, 0 when the file does not say.
    `mixing_width`: numbers per token that layers without attention work on."""

    architecture: str
    layers: tuple[Layer, ...]
    vocabulary: int
    merges: int
    embedding: int
    feed_forward: int
    heads: int
    query_width: int
    attention_width: int
    mixing_width: int
    trained_context: int

    @property
    def window(self) -> int:
        """The sliding window in tokens; 0 where all layers see everything."""
        return max((layer.window for layer in self.layers), default=0)


def model_shape(gguf: Gguf) -> ModelShape:
    """Read the shape. Raises `GgufError` when a figure that is needed is missing or cannot be."""
    return _Reading(gguf).shape()


class _Reading:
    def __init__(self, gguf: Gguf) -> None:
        self.gguf = gguf
        self.architecture = gguf.architecture
        if not self.architecture:
            raise GgufError(f"{gguf.path} does not name its architecture; it is not a language model")

    def figure(self, name: str, default: int | None = None) -> int:
        """The whole number `<architecture>.<name>`; the first one where it differs by layer."""
        key = f"{self.architecture}.{name}"
        value = self.gguf.values.get(key, default)
        if isinstance(value, tuple):
            value = max((item for item in value if isinstance(item, int)), default=None)
        if value is None:
            raise GgufError(f"{self.gguf.path} has no usable {key}; it is not a language model that llama.cpp loads")
        if not isinstance(value, int) or not 0 <= value <= LARGEST_FIGURE:
            raise GgufError(f"{self.gguf.path} says {key} is {value!r}, which cannot be; download it again")
        return int(value)

    def per_layer(self, name: str, layers: int, default: int | None = None) -> list[int]:
        """The same, one figure for each layer: files give one for all, or a list."""
        value = self.gguf.values.get(f"{self.architecture}.{name}")
        if not isinstance(value, tuple):
            return [self.figure(name, default)] * layers
        figures = [int(item) for item in value if isinstance(item, int) and 0 <= item <= LARGEST_FIGURE]
        if len(figures) != len(value) or len(figures) < layers:
            raise GgufError(f"{self.gguf.path} has {len(value)} entries in {self.architecture}.{name}, not {layers}")
        return figures[:layers]

    def shape(self) -> ModelShape:
        blocks = self.figure("block_count")
        if not 0 < blocks <= MAX_LAYERS:
            raise GgufError(f"{self.gguf.path} claims {blocks} layers; llama.cpp has at most {MAX_LAYERS}")
        # Layers that predict further tokens are loaded, but keep nothing unless asked for.
        count = max(1, blocks - self.figure("nextn_predict_layers", 0))
        embedding = self.figure("embedding_length")
        heads = self.per_layer("attention.head_count", count, 0)
        most_heads = max(heads)
        default_head = embedding // heads[0] if heads[0] else 0
        key_head = self.figure("attention.key_length", default_head)
        value_head = self.figure("attention.value_length", default_head)
        layers = self._layers(count, heads, key_head, value_head, embedding)
        used_experts = self.figure("expert_used_count", 0)
        expert_width = used_experts * (2 * self.figure("expert_feed_forward_length", 0) + embedding)
        return ModelShape(
            architecture=self.architecture,
            layers=layers,
            vocabulary=self._vocabulary(),
            merges=self.gguf.lengths.get("tokenizer.ggml.merges", 0),
            embedding=embedding,
            feed_forward=max(max(self.per_layer("feed_forward_length", count, 0)), -(-expert_width // 2)),
            heads=most_heads,
            query_width=most_heads * key_head,
            attention_width=most_heads * value_head,
            mixing_width=self._mixing_width(embedding),
            trained_context=self.figure("context_length", 0),
        )

    def _vocabulary(self) -> int:
        """Tokens that answers are chosen from: the rows of the embedding, else the length of the vocabulary."""
        for tensor in self.gguf.tensors:
            if tensor.name == "token_embd.weight" and len(tensor.shape) == 2:
                return min(tensor.shape[1], LARGEST_FIGURE)
        return self.gguf.lengths.get("tokenizer.ggml.tokens", 0)

    def _layers(
        self, count: int, heads: list[int], key_head: int, value_head: int, embedding: int
    ) -> tuple[Layer, ...]:
        kv_heads = heads
        if f"{self.architecture}.attention.head_count_kv" in self.gguf.values:
            kv_heads = self.per_layer("attention.head_count_kv", count)
        windows = self._windows(count)
        # Multi-head latent attention keeps one compressed key per token and no values.
        latent = self.figure("attention.key_length_mla", 0) > 0 and self.figure("attention.value_length_mla", 0) > 0
        narrow_key = self.figure("attention.key_length_swa", key_head)
        narrow_value = self.figure("attention.value_length_swa", value_head)
        with_kv = self._kv_layers(count)
        state = self._state(embedding)
        layers = []
        for index in range(count):
            attends = with_kv[index] and kv_heads[index] > 0
            key, value = (narrow_key, narrow_value) if windows[index] else (key_head, value_head)
            layers.append(
                Layer(
                    key_width=kv_heads[index] * key if attends else 0,
                    value_width=kv_heads[index] * value if attends and not latent else 0,
                    window=windows[index] if attends else 0,
                    state=0 if attends and self.architecture not in BOTH_KINDS_ARCHITECTURES else state,
                )
            )
        return tuple(layers)

    def _windows(self, count: int) -> list[int]:
        """For each layer its window, 0 where it sees everything."""
        rule = WINDOW_RULES.get(self.architecture)
        window = self.figure("attention.sliding_window", rule.window if rule else 0)
        if rule and rule.fixed and window:
            window = rule.window
        pattern = self.gguf.values.get(f"{self.architecture}.attention.sliding_window_pattern")
        if isinstance(pattern, tuple) and len(pattern) >= count:
            return [window if pattern[index] else 0 for index in range(count)]
        if rule is None or not window:
            return [0] * count
        every = pattern if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern >= 0 else rule.every
        if every == 0:
            return [window] * count
        dense = 0 if rule.dense_first else every - 1
        return [0 if index % every == dense else window for index in range(count)]

    def _kv_layers(self, count: int) -> list[bool]:
        """Which layers have keys and values of their own."""
        if self.architecture in INTERVAL_ARCHITECTURES:
            interval = max(1, self.figure("full_attention_interval", DEFAULT_ATTENTION_INTERVAL))
            return [(index + 1) % interval == 0 for index in range(count)]
        shared = self.figure("attention.shared_kv_layers", 0)
        own = min(count, GEMMA3N_KV_LAYERS) if self.architecture == "gemma3n" else max(0, count - shared)
        return [index < own for index in range(count)]

    def _mixing_width(self, embedding: int) -> int:
        """A short convolution works on three copies of the embedding; Mamba on several of its own inner width."""
        return 3 * embedding if self.figure("shortconv.l_cache", 0) else 8 * self.figure("ssm.inner_size", 0)

    def _state(self, embedding: int) -> int:
        """Numbers that a layer without attention keeps per slot (Mamba, short convolutions, RWKV)."""
        head = self.figure("wkv.head_size", 0)
        if head:
            return embedding * (head + self.figure("token_shift_count", 2))
        taps = self.figure("shortconv.l_cache", 0)
        if taps:
            return embedding * (taps - 1)
        inner, states = self.figure("ssm.inner_size", 0), self.figure("ssm.state_size", 0)
        taps = max(0, self.figure("ssm.conv_kernel", 0) - 1)
        return taps * (inner + 2 * self.figure("ssm.group_count", 0) * states) + states * inner
