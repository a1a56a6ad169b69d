"""A shared KV cache that is full: idle slots are emptied before a prefix is brought into another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.fakes.llama_server import error_answer
from tests.providers.llama_cpp.shop import OTHER_SYSTEM, at_slot, generate, request, shop, use_of
from tests.providers.setting import run


def test_given_slots_that_crowd_when_a_prefix_is_restored_then_they_are_emptied_first_and_hot_no_more(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.ask("one", warming=True)
            await at.ask("two", system=OTHER_SYSTEM, slot=1, warming=True)
            context = replace(at_slot(0, hot=False), crowding=(1,))
            preparation = await at.provider.prepare(request("three"), context)
            answer = await generate(at.provider, preparation, context)
            assert use_of(answer).state == "restored"
            paths = [seen.path for seen in at.fake.requests]
            assert at.actions("erase") == ["/slots/1?action=erase"]
            assert paths.index("/slots/1?action=erase") < paths.index("/slots/0?action=restore")
            assert use_of(await at.ask("four", system=OTHER_SYSTEM, slot=1)).state == "restored"

    run(main())


def test_given_a_server_that_will_not_empty_a_slot_when_asked_then_it_is_counted_and_the_request_goes_on(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.ask("one", warming=True)
            context = replace(at_slot(0, hot=False), crowding=(1,))
            at.fake.script("/slots/1?action=erase", error_answer(500))
            preparation = await at.provider.prepare(request("two"), context)
            assert use_of(await generate(at.provider, preparation, context)).state == "restored"
            assert at.watch.failures["erase"] == 1

    run(main())
