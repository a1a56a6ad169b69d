"""Two different prompts never share an answer: not by cache, not by dedupe, not by an explicit key, whoever asks.

A backend that answers with what it was asked, and hundreds of requests at once whose texts are as easily confused as
texts can be: the same words with the border between system and input elsewhere, words that imitate the encoding of a
key, the same dedupe key for different prompts and different callers.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from ray.clock import Deadline
from ray.prompts import compile_prompt
from ray.providers import CallContext, Preparation
from ray.runtime import normalise_request
from ray.types import Caller, Chunk, Finish, InferenceRequest
from tests.fakes.provider import FakeProvider
from tests.fakes.virtual_time import run_in_virtual_time
from tests.runtime.support import ALICE, BOB, House, tiny_config

REQUESTS = 500
CALLERS = (ALICE, BOB, Caller(None, "192.0.2.1"), Caller(None, "192.0.2.3"))
TEXTS = (
    "a", "b", "ab", "a b", "b a", "a\nb", "A", "á", "a\u0301", 'a","b', '["user","a"]', "user", "system", "a|b",
    "a\u0000b", "dedupe:k", "0", "null", "x" * 300, "x" * 301,
)  # fmt: skip
DEDUPE_KEYS = (None, None, "k", "k2", "a", "key:" + "a" * 64)


def echo(request: InferenceRequest, *, with_sampling: bool) -> str:
    """What shapes the answer to `request`, as text."""
    shape: list[object] = [
        [(message.role, message.content) for message in request.messages],
        request.stop,
        request.seed,
        request.wants_json,
    ]
    if with_sampling:
        shape += [request.temperature, request.top_p]
    return json.dumps(shape)


class Echo(FakeProvider):
    """Answers with the question, after a while."""

    def __init__(self, chance: random.Random, *, with_sampling: bool) -> None:
        super().__init__()
        self.chance = chance
        self.with_sampling = with_sampling
        self.assignable_slots = 2

    async def stream(self, preparation: Preparation, context: CallContext) -> AsyncIterator[Chunk]:
        await asyncio.sleep(self.chance.uniform(0, 0.05))
        yield Chunk()
        text = echo(preparation.request, with_sampling=self.with_sampling)
        for start in range(0, len(text), 40):
            await asyncio.sleep(self.chance.uniform(0, 0.01))
            yield Chunk(text[start : start + 40])
        yield Chunk(finish=Finish("stop"))


def body_of(chance: random.Random) -> dict[str, object]:
    """A request that differs from many others in one small thing."""
    body: dict[str, object] = {"input": chance.choice(TEXTS)}
    if chance.random() < 0.6:
        body["system"] = chance.choice(TEXTS)
    for field, values in (
        ("seed", (1, 2)),
        ("stop", (["a"], ["b"], ["a", "b"])),
        ("temperature", (0.0, 0.5)),
        ("topP", (0.5, 0.9)),
        ("responseFormat", ({"type": "json_object"}, {"type": "text"})),
        ("cache", (False,)),
        ("dedupeKey", DEDUPE_KEYS[2:]),
        ("metadata", ({"trace": "1"}, {"trace": "2", "promptFamily": "a"})),
    ):
        if chance.random() < 0.15:
            body[field] = chance.choice(values)
    return body


@pytest.mark.parametrize("key_strategy", ["full", "input"])
@pytest.mark.parametrize("dedupe", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_two_different_prompts_never_share_an_answer(
    seed: int, dedupe: bool, key_strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    with_sampling = key_strategy == "full"
    config = tiny_config(
        scheduler={"dedupe_inflight": dedupe, "max_queue": REQUESTS, "max_queued_tokens": 10**6, "concurrency": 2},
        cache={"enabled": True, "key_strategy": key_strategy, "max_entries": 64},
        degradation={"enabled": False},
        tuning={"enabled": False},
    )

    async def main() -> Counter[str]:
        house = House(Echo(chance, with_sampling=with_sampling), config)
        sources: Counter[str] = Counter()

        async def ask(number: int) -> None:
            await asyncio.sleep(chance.uniform(0, 4))
            body, caller = body_of(chance), chance.choice(CALLERS)
            request = normalise_request(body, config)
            asked = compile_prompt(request, config).request
            reader = await house.runtime.generate(request, caller, Deadline.after_ms(60_000), f"req_{number}")
            async with reader:
                if chance.random() < 0.1:
                    return  # a client that leaves must not leave its answer to somebody else
                result = await reader.result()
            sources[reader.source] += 1
            # An explicit key says that the sampling does not matter to whoever sent it, never that the prompt does not.
            joined_by_key = reader.source == "dedupe" and request.dedupe_key is not None
            expected, given = echo(asked, with_sampling=with_sampling), result.output
            if joined_by_key:
                expected, given = json.dumps(json.loads(expected)[0]), json.dumps(json.loads(given)[0])
            assert given == expected

        async with asyncio.TaskGroup() as group:
            for number in range(REQUESTS):
                group.create_task(ask(number))
        assert house.is_idle()
        return sources

    sources = run_in_virtual_time(main(), monkeypatch)
    assert sources["provider"] > 50
    assert sources["cache"] > 5
    assert (sources["dedupe"] > 5) is dedupe
