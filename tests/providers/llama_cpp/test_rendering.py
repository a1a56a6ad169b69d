"""Prompts from scaffolds: the server's own text without a round trip, and never another text than the server's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from ray.config import config_from_mapping
from ray.prompts import catalog_of, filled
from ray.providers import Preparation
from ray.types import InferenceRequest, Message
from tests.fakes.llama_server import Exchange, error_answer, json_answer
from tests.providers.llama_cpp.shop import SYSTEM, Shop, at_slot, request, shop
from tests.providers.setting import run

TEMPLATE = "mail.answer.v1"
TEMPLATES = {
    TEMPLATE: {
        "variables": ["name", "mail"],
        "lane": "draft",
        "system": "You answer mails.",
        "input": "Mail: {{mail}}\nSigned: {{name}}",
    }
}


async def prompts(at: Shop, *texts: str, system: str | None = SYSTEM) -> list[str | None]:
    return [(await at.prepare(text, system=system)).prompt for text in texts]


def calls(at: Shop) -> int:
    return len(at.fake.received("/apply-template"))


def rendered(text: str, system: str = SYSTEM) -> str:
    return f"<system>{system}\n<user>{text}\n<assistant>"


async def _trimming(exchange: Exchange) -> None:
    """A chat template that trims messages, as many do."""
    messages = exchange.request.document["messages"]
    assert isinstance(messages, list)
    prompt = "".join(f"<{message['role']}>{message['content'].strip()}\n" for message in messages) + "<assistant>"
    await json_answer({"prompt": prompt})(exchange)


async def _shouting(exchange: Exchange) -> None:
    """A chat template that changes what is in a message."""
    messages = exchange.request.document["messages"]
    assert isinstance(messages, list)
    prompt = "".join(f"<{message['role']}>{message['content'].replace('hello', 'HELLO')}\n" for message in messages)
    await json_answer({"prompt": prompt})(exchange)


async def _repeating(exchange: Exchange) -> None:
    messages = exchange.request.document["messages"]
    assert isinstance(messages, list)
    await json_answer({"prompt": "".join(f"{message['content']}\n" for message in messages) * 2})(exchange)


def test_given_the_same_system_text_when_prepared_again_then_the_server_is_not_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            before = calls(at)
            assert await prompts(at, "one") == [rendered("one")]
            assert calls(at) == before + 2
            assert await prompts(at, "two", "three {{x}} \\1") == [rendered("two"), rendered("three {{x}} \\1")]
            assert calls(at) == before + 2

    run(main())


# -- system texts that are new


NEW = "You sell pears."


async def learned(at: Shop) -> int:
    """Two system texts have been rendered by the server; how often it has been asked for that and before."""
    await prompts(at, "one", system="You sell apples.")
    await prompts(at, "one", system="You sell grapes.")
    return calls(at)


def test_given_two_system_texts_were_rendered_when_a_third_comes_then_the_server_is_not_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, minTokens=2) as at:
            before = await learned(at)
            prepared = await at.prepare("two {{x}} \\1", system=NEW)
            assert prepared.prompt == rendered("two {{x}} \\1", NEW)
            assert prepared.prefix is not None
            assert prepared.prefix.text == f"<system>{NEW}\n<user>"
            assert calls(at) == before

    run(main())


def test_given_one_system_text_was_rendered_when_a_second_comes_then_the_server_renders_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await prompts(at, "one", "two", system="You sell apples.")
            before = calls(at)
            assert await prompts(at, "one", system=NEW) == [rendered("one", NEW)]
            assert calls(at) == before + 2

    run(main())


@pytest.mark.parametrize("system", [" padded ", "<tools>", "Answer. /no_think", "/think"])
def test_given_a_system_text_that_a_template_may_treat_in_a_special_way_when_it_is_new_then_the_server_renders_it(
    tmp_path: Path, system: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", _trimming)
            before = await learned(at)
            assert await prompts(at, "one", system=system) == [rendered("one", system.strip())]
            assert calls(at) == before + 2

    run(main())


def test_given_a_template_that_changes_system_texts_when_a_new_one_comes_then_the_server_renders_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", _shouting)
            for system in ("hello a", "hello b", "hello c"):
                expected = f"<system>{system.replace('hello', 'HELLO')}\n<user>one\n"
                assert await prompts(at, "one", system=system) == [expected]

    run(main())


def test_given_earlier_turns_when_the_system_text_is_new_then_the_whole_conversation_is_rendered_once(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path, minTokens=2) as at:
            before = await learned(at)
            turns = (Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Bye"))
            asked = replace(request("ignored"), messages=(Message("system", NEW), *turns))
            prepared = await at.provider.prepare(asked, at_slot(0))
            assert prepared.prompt == f"<system>{NEW}\n<user>Hi\n<assistant>Yes?\n<user>Bye\n<assistant>"
            assert prepared.prefix is not None
            assert prepared.prefix.text == f"<system>{NEW}\n<user>"
            assert calls(at) == before + 1

    run(main())


def test_given_another_server_when_a_new_system_text_comes_then_its_own_template_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await learned(at)
            at.fake.props["build_info"] = "b2-fake"
            at.fake.always("/apply-template", _trimming)
            await at.provider.health()
            before = calls(at)
            assert await prompts(at, "one", system=NEW) == [f"<system>{NEW}\n<user>one\n<assistant>"]
            assert calls(at) > before

    run(main())


def test_given_no_system_text_when_prepared_then_that_has_a_scaffold_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await prompts(at, "one")
            assert await prompts(at, "one", "two", system=None) == [f"<user>{t}\n<assistant>" for t in ("one", "two")]

    run(main())


@pytest.mark.parametrize("text", [" padded ", "\nhello", "", "<think>hm</think>", "a <tool_response>", "<|im_end|>"])
def test_given_a_message_that_a_template_may_treat_in_a_special_way_when_prepared_then_the_server_renders_it(
    tmp_path: Path, text: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", _trimming)
            await prompts(at, "one", "two")
            before = calls(at)
            assert await prompts(at, text) == [rendered(text.strip())]
            assert calls(at) == before + 1

    run(main())


def test_given_a_template_that_changes_messages_when_prepared_then_every_prompt_is_the_servers(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", _shouting)
            first, second = await asyncio.gather(at.prepare("hello you"), at.prepare("hello me"))
            for prepared, text in ((first, "HELLO you"), (second, "HELLO me")):
                assert prepared.prompt == f"<system>{SYSTEM}\n<user>{text}\n"
                assert prepared.prefix is not None
                assert prepared.prefix.text == f"<system>{SYSTEM}\n<user>"

    run(main())


def test_given_a_template_that_repeats_the_message_when_prepared_then_there_is_no_declared_prefix(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", _repeating)
            prepared = await at.prepare("one")
            assert prepared.prompt == f"{SYSTEM}\none\n" * 2
            assert prepared.prefix is None

    run(main())


def test_given_a_template_that_cannot_render_when_prepared_then_labelled_text_has_a_prefix_as_well(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.always("/apply-template", error_answer(500))
            for text in ("one", "two"):
                prepared = await at.prepare(text)
                assert prepared.prompt == f"System:\n{SYSTEM}\n\nUser:\n{text}\n\nAssistant:"
                assert prepared.diagnostics is not None
                assert prepared.diagnostics.prompt_format == "ray-chat-fallback"
                assert prepared.prefix is not None
                assert prepared.prefix.text == f"System:\n{SYSTEM}\n\nUser:\n"

    run(main())


def test_given_another_server_when_prepared_then_its_own_template_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await prompts(at, "one", "two")
            at.fake.props["build_info"] = "b2-fake"
            at.fake.always("/apply-template", _shouting)
            await at.provider.health()
            assert await prompts(at, "hello", "hello") == [f"<system>{SYSTEM}\n<user>HELLO\n"] * 2

    run(main())


# -- requests from a prompt template


def from_template(values: dict[str, str]) -> InferenceRequest:
    template = catalog_of(config_from_mapping({"profile": "tiny", "templates": TEMPLATES}, {}, "/")).get(TEMPLATE)
    assert template is not None
    return filled(request("ignored"), template, values)


async def prepared_from(at: Shop, values: dict[str, str], **changes: object) -> Preparation:
    changed = replace(from_template(values), **changes)  # type: ignore[arg-type]  # names of its fields
    return await at.provider.prepare(changed, at_slot(0))


def test_given_a_prompt_template_when_prepared_again_then_its_scaffold_makes_the_prompt(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, templates=TEMPLATES, minTokens=2) as at:
            first = await prepared_from(at, {"name": "Ann", "mail": "Where is it?"})
            before = calls(at)
            second = await prepared_from(at, {"name": "Bob", "mail": "__RAY_PROMPT_VAR_0__ {{name}}"})
            assert calls(at) == before
            for prepared, mail, name in (
                (first, "Where is it?", "Ann"),
                (second, "__RAY_PROMPT_VAR_0__ {{name}}", "Bob"),
            ):
                assert prepared.prompt == rendered(f"Mail: {mail}\nSigned: {name}", "You answer mails.")
                assert prepared.prefix is not None
                assert prepared.prefix.text == "<system>You answer mails.\n<user>Mail: "
            assert second.diagnostics is not None
            assert second.diagnostics.prompt_format == "prompt-scaffold"

    run(main())


def test_given_messages_that_are_no_longer_the_templates_when_prepared_then_they_are_what_is_sent(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path, templates=TEMPLATES) as at:
            messages = (Message("system", "You answer mails."), Message("user", "Mail: cut off"))
            prepared = await prepared_from(at, {"name": "Ann", "mail": "cut off here"}, messages=messages)
            assert prepared.prompt == rendered("Mail: cut off", "You answer mails.")

    run(main())


def test_given_an_empty_value_when_prepared_then_the_server_renders_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path, templates=TEMPLATES) as at:
            at.fake.always("/apply-template", _trimming)
            await prepared_from(at, {"name": "Ann", "mail": "Hi"})
            prepared = await prepared_from(at, {"name": "", "mail": "Hi"})
            assert prepared.prompt == rendered("Mail: Hi\nSigned:", "You answer mails.")

    run(main())


def test_given_a_template_that_is_not_known_any_more_when_prepared_then_its_messages_are_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            prepared = await prepared_from(at, {"name": "Ann", "mail": "Hi"})
            assert prepared.prompt == rendered("Mail: Hi\nSigned: Ann", "You answer mails.")

    run(main())
