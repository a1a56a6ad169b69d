"""A scripted in-process provider: what it streams, when it waits, how it fails, and a record of what was done to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from ray.clock import Deadline, iso_now
from ray.providers import CallContext, Preparation, PromptPrefix
from ray.types import Chunk, Embeddings, Finish, Health, InferenceRequest, ProviderDiagnostics

# One step of a script: a text or a chunk is streamed, an event is waited for, a finish ends the answer, an exception is
# raised.
Step = str | Chunk | asyncio.Event | Finish | BaseException

STOP = Finish("stop")


class FakeProvider:
    """Each call to `stream` plays the next script; the last one repeats.

    `prepare_steps`: waited for or raised in every `prepare`. `healths`: answers of `health`, the last one repeats.
    `prefix_of`: the prefix that `prepare` finds. An empty text in a script is the sign that it was read.
    """

    def __init__(
        self,
        *scripts: Sequence[Step],
        model_id: str = "fake-model",
        prompt_tokens: int | None = None,
        context_window: int | None = None,
        prepare_steps: Sequence[asyncio.Event | BaseException] = (),
        warm_steps: Sequence[Sequence[asyncio.Event | BaseException]] = (),
        healths: Sequence[Health | BaseException] = (),
        health_gate: asyncio.Event | None = None,
        prefix_of: Callable[[InferenceRequest], PromptPrefix | None] | None = None,
    ) -> None:
        self.scripts = [list(script) for script in scripts] or [["Hello", " world", STOP]]
        self.model_id = model_id
        self.prompt_tokens = prompt_tokens
        self.context_window = context_window
        self.prepare_steps = prepare_steps
        self.warm_steps = [list(steps) for steps in warm_steps]
        self.healths = list(healths) or [Health("ready", iso_now())]
        self.health_gate = health_gate
        self.prefix_of = prefix_of
        self.assignable_slots: int | None = None
        self.slots_epoch = 0
        self.prefix_block: Mapping[str, object] | None = None
        # Waited for or raised in every `embed`.
        self.embed_steps: list[asyncio.Event | BaseException] = []
        self.embedded: list[tuple[str, ...]] = []
        self.prepared: list[InferenceRequest] = []
        self.streamed: list[InferenceRequest] = []
        self.contexts: list[CallContext] = []
        self.preparing = 0
        self.active = 0
        self.most_active = 0
        self.cancelled = 0
        self.warmed = 0
        self.probed = 0
        self.closed = False

    @property
    def kind(self) -> str:
        return "mock"

    def prefix_health(self) -> Mapping[str, object] | None:
        return self.prefix_block

    async def warm(self) -> None:
        self.warmed += 1
        for step in self.warm_steps.pop(0) if self.warm_steps else ():
            await _take(step)

    async def health(self) -> Health:
        self.probed += 1
        if self.health_gate is not None:
            await self.health_gate.wait()
        answer = self.healths.pop(0) if len(self.healths) > 1 else self.healths[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def prepare(self, request: InferenceRequest, context: CallContext) -> Preparation:
        self.prepared.append(request)
        self.preparing += 1
        try:
            for step in self.prepare_steps:
                await _take(step)
        finally:
            self.preparing -= 1
        return Preparation(
            request,
            prompt_tokens=self.prompt_tokens,
            context_window=self.context_window,
            prefix=self.prefix_of(request) if self.prefix_of is not None else None,
        )

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        self.streamed.append(preparation.request)
        self.contexts.append(context)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            for step in script:
                if isinstance(step, str):
                    yield Chunk(step)
                elif isinstance(step, Chunk):
                    yield step
                elif isinstance(step, Finish):
                    yield Chunk(finish=step)
                else:
                    await _take(step)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.active -= 1

    async def embed(self, texts: tuple[str, ...], deadline: Deadline) -> Embeddings:
        self.embedded.append(texts)
        self.active += 1
        try:
            for step in self.embed_steps:
                await _take(step)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1
        return Embeddings(self.model_id, tuple((float(len(text)), 1.0) for text in texts), tokens=len(texts))

    async def close(self) -> None:
        self.closed = True


async def _take(step: asyncio.Event | BaseException) -> None:
    if isinstance(step, BaseException):
        raise step
    await step.wait()


async def until(condition: Callable[[], bool], turns: int = 10_000) -> None:
    """Let the event loop turn until `condition` holds; fails instead of hanging."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition did not come true")


def finish_with(**diagnostics: object) -> Finish:
    """A normal finish that carries these provider diagnostics."""
    return Finish("stop", diagnostics=ProviderDiagnostics(**diagnostics))  # type: ignore[arg-type]  # names of its fields
