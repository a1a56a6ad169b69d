"""The provider without a backend."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from ray.config import config_from_mapping
from ray.errors import RayError
from ray.providers import Provider, create_provider
from ray.types import TokenLogprob
from tests.providers.setting import ask, context_for, request_for, run


def mock(latency_ms: int = 1) -> Provider:
    adapter = {"kind": "mock", "latencyMs": latency_ms, "seed": "s1"}
    return create_provider(config_from_mapping({"profile": "tiny", "model": {"id": "m1", "adapter": adapter}}, {}), {})


def test_given_a_request_when_answered_then_the_text_is_the_documented_one() -> None:
    async def main() -> None:
        answer = await ask(mock(), request_for("i" * 400, system="s" * 100))
        expected = f"[ray:mock model=m1 profile=tiny seed=s1]\nsystem={'s' * 72}\n{'i' * 320}"
        assert answer.text == expected
        assert len(answer.chunks) > 3
        assert answer.finish.reason == "stop"
        assert answer.finish.tokens is None

    run(main())


def test_given_no_system_and_json_mode_when_answered_then_the_text_is_neither_json_nor_mentions_a_system() -> None:
    async def main() -> None:
        answer = await ask(mock(), request_for("hi", response_format="json_object"))
        assert answer.text == "[ray:mock model=m1 profile=tiny seed=s1]\nhi"

    run(main())


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "age": {"type": ["integer", "null"]},
                    "kind": {"enum": ["b", "c"]},
                    "version": {"const": 2},
                    "more": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
                    "unasked": {"type": "string"},
                },
                "required": ["name", "age", "kind", "version", "more"],
            },
            {"name": "", "age": 0, "kind": "b", "version": 2, "more": {"ok": False}},
        ),
        ({"type": "array"}, []),
        ({}, {}),
        ({"required": [7], "type": 7}, {}),
        ({"$ref": "#/x"}, {}),
    ],
)
def test_given_a_schema_when_answered_then_the_text_is_the_emptiest_json_of_its_shape(
    schema: object, expected: object
) -> None:
    async def main() -> None:
        request = replace(request_for("hi"), response_format="json_schema", json_schema=json.dumps(schema))
        assert json.loads((await ask(mock(), request)).text) == expected

    run(main())


def test_given_probabilities_when_answered_then_it_was_certain_of_every_piece() -> None:
    async def main() -> None:
        for top in (0, 2):
            answer = await ask(mock(), replace(request_for("hi"), top_logprobs=top))
            tokens = [token for chunk in answer.chunks for token in chunk.logprobs]
            assert "".join(token.token for token in tokens) == answer.text
            assert all(token.logprob == 0 for token in tokens)
            assert tokens[0].top == ((TokenLogprob(tokens[0].token, 0.0),) if top else ())

    run(main())


def test_given_tools_when_prepared_then_they_are_refused_with_the_remedy() -> None:
    async def main() -> None:
        with pytest.raises(RayError) as caught:
            await ask(mock(), replace(request_for("hi"), tools="[]"))
        assert (caught.value.code, caught.value.details) == ("invalid_request", {"field": "tools"})
        assert "model.adapter.kind" in caught.value.message

    run(main())


def test_given_a_slow_mock_when_its_reader_is_cancelled_then_it_ends_at_once() -> None:
    async def main() -> None:
        started = time.monotonic()
        task = asyncio.create_task(ask(mock(latency_ms=120_000)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert time.monotonic() - started < 60

    run(main())


def test_given_a_mock_when_asked_about_itself_then_it_is_ready() -> None:
    async def main() -> None:
        provider = mock()
        await provider.warm()
        assert (await provider.health()).status == "ready"
        assert (await provider.prepare(request_for(), context_for())).prompt_tokens is None
        assert (provider.kind, provider.model_id) == ("mock", "m1")
        await provider.close()

    run(main())
