"""What a model provider is: a small interface with three honest implementations.

A provider turns a normalised request into chunks. It knows nothing of scheduling, caching or HTTP routes. It is used
from the event loop only; blocking work happens inside it, in the worker threads of its HTTP client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ray.clock import Deadline
from ray.types import Chunk, Embeddings, Health, InferenceRequest, Lane, PrefixState, ProviderDiagnostics


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class CallContext:
    """What travels with one generation.

    `family`: key of the prompt family. `slot`: the backend's slot that the scheduler gave to this generation, idle by
    construction, or None while the backend chooses. `hot`: that slot's KV cache begins with the preparation's prefix.
    `crowding`: other slots, idle and reserved until the first chunk, to be emptied: there may be no room for both.
    `continues`: that slot's KV cache holds the earlier turns of this very conversation, which nothing may cut off.
    `warming`: a configured warm-up, whose prefix is worth saving however seldom it was seen.
    `is_watched`: whether somebody looks at the answer while it grows; may change, and may be called in any thread.
    """

    request_id: str
    deadline: Deadline
    lane: Lane
    family: str | None = None
    slot: int | None = None
    hot: bool = False
    crowding: tuple[int, ...] = ()
    warming: bool = False
    is_watched: Callable[[], bool] = _always
    continues: bool = False


@dataclass(frozen=True, slots=True)
class PromptPrefix:
    """The beginning of a prompt that its family shares.

    `key`: 64 hex digits, the same for the same text on the same backend. `tokens`: its length by the backend's own
    tokenizer. `worth_saving`: seen often enough to be written to disk.
    """

    key: str
    text: str
    tokens: int
    worth_saving: bool = False


@dataclass(frozen=True, slots=True)
class Preparation:
    """A request made ready for one backend.

    `prompt`: the rendered prompt text, for backends that take one. `prompt_tokens`: counted by the backend's own
    tokenizer, or None when nobody counted. `context_window`: tokens that prompt and answer may fill together.
    """

    request: InferenceRequest
    prompt: str | None = None
    prompt_tokens: int | None = None
    context_window: int | None = None
    diagnostics: ProviderDiagnostics | None = None
    prefix: PromptPrefix | None = None


class PrefixObserver(Protocol):
    """Who counts what the prefix store does. Called on the event loop; nothing here may raise or wait."""

    def hit(self, state: PrefixState, tokens: int, seconds: float) -> None:
        """A generation with a prefix is over: how the prefix came in, its `tokens` that were not read again, and the
        reading time that this saved by the backend's own recent speed."""

    def saved(self, size: int) -> None:
        """A snapshot of `size` bytes was written."""

    def restored(self) -> None:
        """A snapshot was read back into a slot."""

    def evicted(self, count: int) -> None:
        """`count` snapshots were deleted to make room."""

    def proof_failed(self) -> None:
        """The backend read tokens again that should have been in its KV cache."""

    def failed(self, operation: str) -> None:
        """`operation`, one word, did not work (`save`, `restore`, `evaluate`, `corrupt`, `disk_full`, …). The request
        it was for goes on."""

    def level(self, size: int, entries: int, unknown_files: int, enabled: bool) -> None:
        """What the store holds now: bytes, snapshots, files that are not its own; `enabled`: whether it is in use."""

    def switched_off(self, reason: str) -> None:
        """The store is out of use for this backend from now on. Called once; worth one warning."""


class Provider(Protocol):
    """One backend that serves one model."""

    @property
    def kind(self) -> str:
        """`mock`, `openai-compatible` or `llama.cpp`."""

    @property
    def model_id(self) -> str:
        """What answers report as `model`: at most 512 characters."""

    @property
    def assignable_slots(self) -> int | None:
        """How many slots of the backend the scheduler may assign, numbered from 0; None while the backend chooses."""

    @property
    def slots_epoch(self) -> int:
        """Rises when the backend has lost its KV caches: nothing is hot any more."""

    def prefix_health(self) -> Mapping[str, object] | None:
        """The prefix store in a few figures, as JSON; None when there is none."""

    async def warm(self) -> None:
        """Find out what there is to know before the first request. Cheap: warm-up requests are ordinary generations.

        Raises `RayError` while the backend is not usable yet."""

    async def health(self) -> Health:
        """Ask the backend how it is. Never raises: what cannot be reached is `unavailable`."""

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        """Render the prompt and count its tokens. Raises `RayError` with a `provider_…` code."""

    def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        """Generate. The last chunk, and only it, has `finish`. Closing the iterator or cancelling the task that reads
        it frees the backend's slot at once. Raises `RayError` with a `provider_…` code.

        The first chunk, which may be empty, says that the prefix is in the slot's KV cache."""

    async def embed(self, texts: tuple[str, ...], deadline: Deadline) -> Embeddings:
        """One vector for each text, in their order. Cancelling stops the backend, too. Raises `embeddings_unsupported`
        (501) naming the remedy, and otherwise what `stream` raises."""

    async def close(self) -> None:
        """Give back threads and sockets."""
