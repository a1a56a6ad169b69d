"""Conversations of several turns in slots that the store looks after: what was read stays read, and no customer's
words are learned or saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ray.types import InferenceRequest, Message, PrefixUse, ToolCall
from tests.providers.llama_cpp.shop import SYSTEM, Shop, at_slot, generate, shop, use_of
from tests.providers.setting import Whole, run

# Longer than any prefix has to be.
STORY = " ".join(f"word{number}" for number in range(60))


def turns(*texts: str, system: str | None = SYSTEM) -> InferenceRequest:
    """User and assistant in turns."""
    messages = [Message("system", system)] if system is not None else []
    for number, text in enumerate(texts):
        messages.append(Message("assistant" if number % 2 else "user", text))
    return InferenceRequest(tuple(messages), max_tokens=16)


async def answer(at: Shop, request: InferenceRequest, *, slot: int = 0, continues: bool = False) -> Whole:
    context = replace(at_slot(slot), continues=continues)
    found = await generate(at.provider, await at.provider.prepare(request, context), context)
    await at.settle()
    return found


def words(request: InferenceRequest) -> int:
    """Tokens of a rendered prompt: the stand-in's are words, and a role hangs on to the first word of its text."""
    return sum(len(message.content.split()) for message in request.messages) + 1


def test_given_a_second_turn_when_its_slot_holds_the_first_then_only_what_is_new_is_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            first = turns("tell me a long story about " + STORY)
            opening = await answer(at, first)
            assert use_of(opening).state == "evaluated"
            second = turns(first.messages[1].content, opening.text, "and then?")
            use = use_of(await answer(at, second, continues=True))
            # The prefix has been seen often enough to be saved; saving it now would cut the first turn off.
            assert at.actions("save") == at.actions("restore") == []
            assert use.state == "hot"
            assert use.tokens_reused >= words(first) - 1
            assert use.tokens_reused > len(SYSTEM.split()) + 60
            third = turns(*(message.content for message in second.messages[1:]), opening.text, "the end?")
            assert use_of(await answer(at, third, continues=True)).tokens_reused >= words(second) - 1
            assert at.watch.failed_proofs == 0
            assert at.watch.states == ["evaluated", "hot", "hot"]

    run(main())


def test_given_a_saved_prefix_when_a_conversation_goes_on_then_it_is_not_restored_over_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for text in ("one", "two", "three"):
                await answer(at, turns(text), slot=1)
            assert at.watch.saves == 1
            first = turns(STORY)
            opening = await answer(at, first)
            restores = at.watch.restores
            use = use_of(await answer(at, turns(STORY, opening.text, "more"), continues=True))
            assert (use.state, at.watch.restores) == ("hot", restores)
            assert use.tokens_reused >= words(first) - 1

    run(main())


def test_given_a_slot_that_was_lost_when_a_conversation_goes_on_then_the_prefix_is_brought_back(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for text in ("one", "two", "three"):
                await answer(at, turns(text))
            at.fake.slots.forget()
            at.fake.props["media_marker"] = "second start"
            at.provider._capabilities.drop()  # type: ignore[attr-defined]
            use = use_of(await answer(at, turns("three", "x", "four"), continues=True))
            assert use.state == "restored"

    run(main())


def test_given_a_conversation_without_a_prefix_when_it_goes_on_then_what_was_reused_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            first = turns(STORY, system=None)
            opening = await answer(at, first)
            assert use_of(opening) == PrefixUse("none", 0)
            use = use_of(await answer(at, turns(STORY, opening.text, "more", system=None), continues=True))
            assert use.state == "hot"
            assert use.tokens_reused >= words(first) - 1
            assert at.watch.failed_proofs == 0

    run(main())


@pytest.mark.parametrize("continues", [True, False])
def test_given_a_conversation_in_another_slot_when_claimed_to_go_on_there_then_the_backends_count_decides(
    tmp_path: Path, continues: bool
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            await answer(at, turns("something else", system="short"), slot=1)
            use = use_of(await answer(at, turns("a", "b", "c"), slot=1, continues=continues))
            assert use.state == "evaluated"
            assert at.watch.failed_proofs == 0
            use = use_of(await answer(at, turns("a", "b", "c", "d", "e"), slot=1, continues=continues))
            assert use.state == "hot"

    run(main())


def tool_loop(text: str) -> InferenceRequest:
    called = Message("assistant", "", (ToolCall("1", "look", "{}"),))
    return InferenceRequest((Message("user", f"{STORY} {text}"), called, Message("tool", text, (), "1")), 16)


@pytest.mark.parametrize(
    "requests",
    [
        [turns(STORY, f"answer{number}", f"more{number}", system=None) for number in range(6)],
        [replace(turns(f"{STORY} end{number}", system=None), is_raw=True) for number in range(6)],
        [tool_loop(f"end{number}") for number in range(6)],
    ],
)
def test_given_words_that_only_one_customer_may_have_said_when_repeated_then_they_are_never_learned(
    tmp_path: Path, requests: list[InferenceRequest]
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for request in requests:
                prepared = await at.provider.prepare(request, at_slot(0))
                assert prepared.prefix is None

    run(main())


def test_given_a_beginning_learned_from_single_messages_when_a_conversation_starts_with_it_then_it_is_used(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path / "kv") as at:
            for text in ("apple", "pear", "plum"):
                prepared = await at.provider.prepare(turns(f"{STORY} {text}", system=None), at_slot(0))
            assert prepared.prefix is not None
            going_on = turns(f"{STORY} plum", "thanks", "bye", system=None)
            later = await at.provider.prepare(going_on, at_slot(0))
            assert later.prefix is not None
            assert later.prefix.key == prepared.prefix.key
            other = await at.provider.prepare(turns("hello", "thanks", STORY, system=None), at_slot(0))
            assert other.prefix is None

    run(main())
