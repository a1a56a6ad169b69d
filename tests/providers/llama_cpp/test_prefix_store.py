"""The prefix store against a stand-in server: read once, saved, restored, proven; and everything that goes wrong."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.types import InferenceRequest, Message
from tests.fakes.llama_server import Answer, Exchange, cut_answer, error_answer, hanging_answer, json_answer
from tests.providers.llama_cpp.shop import (
    OTHER_SYSTEM,
    SYSTEM,
    Shop,
    Watch,
    at_slot,
    generate,
    provider_of,
    request,
    shop,
    use_of,
)
from tests.providers.setting import run

PREFIX_TOKENS = len(f"<system>{SYSTEM}\n<user>".split())


async def saved(at: Shop) -> None:
    """The prefix of `SYSTEM` on disk, and slot 0 full of something else."""
    await at.ask("one")
    await at.ask("two")
    await at.ask("three", system=OTHER_SYSTEM, hot=False)
    assert len(at.snapshots()) == 1


# -- as it should be


LONG = " and some more words" * 20


def test_given_a_prefix_when_it_comes_again_then_it_is_read_once_saved_and_restored_into_any_slot(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            assert at.provider.assignable_slots == 2
            first = await at.ask("one", hot=False)
            assert (use_of(first).state, use_of(first).tokens_reused) == ("evaluated", 0)
            assert at.snapshots() == []
            assert use_of(await at.ask("two")).state == "hot"
            assert len(at.snapshots()) == 1
            other = await at.ask("three", slot=1, hot=False)
            assert use_of(other).state == "restored"
            assert use_of(other).tokens_reused >= PREFIX_TOKENS - 1
            assert (other.diagnostics.slot_id, other.diagnostics.preferred_slot) == (1, 1)
            assert use_of(await at.ask("four", slot=1)).state == "hot"
            assert at.actions("restore") == ["/slots/1?action=restore"]
            assert at.watch.states == ["evaluated", "hot", "restored", "hot"]
            assert (at.watch.saves, at.watch.restores, at.watch.failures) == (1, 1, {})

    run(main())


def test_given_a_saved_prefix_when_its_file_is_read_then_it_holds_the_prefix_and_nobodys_words(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.ask("my card number is 4711")
            await at.ask("my card number is 4712")
            [path] = at.snapshots()
            assert json.loads(path.read_bytes()) == f"<system>{SYSTEM}\n<user>".split()

    run(main())


def test_given_relatives_that_wait_when_the_first_is_generated_then_they_count_as_sightings(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            preparation = await at.prepare("one")
            assert preparation.prefix is not None
            assert not preparation.prefix.worth_saving
            await at.prepare("two")
            context = at_slot(0, hot=False)
            chunks = [chunk async for chunk in at.provider.stream(preparation, context)]
            assert chunks[0].text == ""
            await at.settle()
            assert len(at.snapshots()) == 1

    run(main())


def test_given_a_restored_prefix_when_streamed_then_the_slot_is_known_to_be_hot_before_the_prompt_is_sent(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            sent = len(at.fake.received("/completion"))
            async with aclosing(at.provider.stream(await at.prepare("four"), at_slot(0, hot=False))) as chunks:  # type: ignore[type-var]  # a generator
                first = await anext(chunks)
                assert (first.text, first.finish) == ("", None)
                assert len(at.fake.received("/completion")) == sent

    run(main())


def test_given_two_relatives_on_two_cold_slots_when_generated_then_one_reads_and_the_other_restores(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            reading, go = asyncio.Event(), asyncio.Event()

            async def slow(exchange: Exchange) -> None:
                reading.set()
                await go.wait()
                await at.fake._answer_completion(exchange)

            at.fake.script("/completion", slow)
            first = asyncio.create_task(at.ask("one", hot=False, warming=True))
            await reading.wait()
            second = asyncio.create_task(at.ask("two", slot=1, hot=False))
            await asyncio.wait([second], timeout=0.05)
            assert len(at.fake.received("/completion")) == 1
            go.set()
            assert [use_of(await first).state, use_of(await second).state] == ["evaluated", "restored"]

    run(main())


def test_given_a_relative_that_leaves_while_it_reads_when_another_waits_for_it_then_that_one_reads(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.script("/completion", hanging_answer())
            # Long enough to be counted by the server, so that the arrival of the second shows.
            first = asyncio.create_task(at.ask("one" + LONG, hot=False, warming=True))
            await at.fake.wait_for("/completion")
            second = asyncio.create_task(at.ask("two" + LONG, slot=1, hot=False))
            await at.fake.wait_for("/tokenize", 3)
            first.cancel()
            assert use_of(await second).state == "evaluated"

    run(main())


def test_given_a_restart_of_both_when_asked_then_the_first_request_restores(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            await at.provider.close()
            at.fake.slots.forget()
            at.fake.props["media_marker"] = "second start"
            again = Shop(at.fake, provider_of(at.fake, tmp_path, watch := Watch()), watch, tmp_path)
            await again.provider.warm()
            assert use_of(await again.ask("five", hot=False)).state == "restored"
            # What reading it took is remembered, too.
            assert watch.seconds > 0
            await again.provider.close()

    run(main())


def test_given_a_restart_of_the_backend_alone_when_looked_at_then_it_is_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            epoch = at.provider.slots_epoch
            at.fake.slots.forget()
            at.fake.props["media_marker"] = "second start"
            await at.provider.health()
            assert use_of(await at.ask("six", hot=True)).state == "restored"
            assert at.provider.slots_epoch > epoch

    run(main())


def test_given_a_gateway_that_uses_the_store_when_another_starts_beside_it_then_only_the_first_has_it(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            half = tmp_path / f"{'f' * 64}.kv.part"
            half.write_bytes(b"being written")
            beside = provider_of(at.fake, tmp_path, Watch())
            await beside.warm()
            health = beside.prefix_health()
            assert health is not None
            assert health["active"] is False
            assert "used by another gateway" in str(health["reason"])
            assert beside.assignable_slots is None
            assert half.exists(), "the unfinished files of a running gateway are its own"
            assert use_of(await at.ask("seven", hot=False)).state == "restored"
            await beside.close()

    run(main())


def test_given_another_build_when_asked_then_it_gets_a_file_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            at.fake.props["build_info"] = "b2-fake"
            await at.provider.health()
            assert use_of(await at.ask("five", hot=False)).state == "evaluated"
            await at.ask("six")
            assert len(at.snapshots()) == 2

    run(main())


def test_given_a_warm_up_when_generated_then_its_prefix_is_saved_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            assert use_of(await at.ask("ping", hot=False, warming=True)).state == "evaluated"
            assert len(at.snapshots()) == 1

    run(main())


def test_given_a_short_prefix_when_it_comes_again_then_nothing_is_written_and_the_slot_is_used(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            for text in ("one", "two"):
                answer = await at.ask(text, system="Be kind.", slot=1)
                assert (use_of(answer).state, answer.diagnostics.slot_id) == ("none", 1)
            assert at.snapshots() == []

    run(main())


def test_given_instructions_in_the_user_message_when_three_requests_share_them_then_they_are_the_prefix(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            for text in ("where is it", "thank you", "call me", "good bye"):
                await at.ask(f"{SYSTEM}\n{text}", system=None)
            [path] = at.snapshots()
            words = json.loads(path.read_bytes())
            assert words[-1] == "rule39"
            assert use_of(await at.ask(f"{SYSTEM}\nhello again", system=None, slot=1, hot=False)).state == "restored"

    run(main())


def test_given_earlier_turns_when_prepared_then_the_prefix_ends_before_the_first_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            turns = (Message("system", SYSTEM), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
            preparation = await at.provider.prepare(InferenceRequest(turns, max_tokens=8), at_slot(0))
            assert preparation.prompt == f"<system>{SYSTEM}\n<user>a\n<assistant>b\n<user>c\n<assistant>"
            assert preparation.prefix is not None
            assert preparation.prefix.text == f"<system>{SYSTEM}\n<user>"

    run(main())


# -- off, or not possible


@pytest.mark.parametrize("adapter", [None, {"cachePrompt": False}])
def test_given_no_store_when_asked_then_no_slot_is_named_and_nothing_is_tried(
    tmp_path: Path, adapter: dict[str, object] | None
) -> None:
    async def main() -> None:
        async with shop(tmp_path, adapter=adapter, enabled=adapter is not None) as at:
            assert at.provider.assignable_slots is None
            assert at.provider.prefix_health() is None
            answer = await at.ask("one")
            assert answer.diagnostics.prefix is None
            assert "id_slot" not in at.fake.received("/completion")[0].document
            assert at.actions("none") == []

    run(main())


def test_given_a_server_without_slot_actions_when_asked_then_it_chooses_its_slots_as_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.slots.directory = None
            at.fake.props["media_marker"] = "second start"
            await at.provider.health()
            preparation = await at.prepare("one")
            assert at.provider.assignable_slots is None
            assert preparation.prefix is None
            answer = await at.ask("one", slot=None)
            assert answer.diagnostics.prefix is None
            assert "id_slot" not in at.fake.received("/completion")[0].document
            health = at.provider.prefix_health()
            assert health is not None
            assert (health["active"], "--slot-save-path" in str(health["reason"])) == (False, True)

    run(main())


def test_given_a_directory_that_cannot_be_used_when_asked_then_the_gateway_works_without_a_store(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        open_to_all = tmp_path / "open"
        open_to_all.mkdir()
        open_to_all.chmod(0o755)
        (open_to_all / "letters").write_text("mine")
        async with shop(open_to_all) as at:
            assert at.provider.assignable_slots is None
            assert at.watch.failures == {"directory": 1}
            await at.ask("one", slot=None)

    run(main())


def test_given_a_slot_that_does_not_exist_when_asked_then_none_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.ask("one", slot=2)
            assert "id_slot" not in at.fake.received("/completion")[0].document

    run(main())


# -- bad files


@pytest.mark.parametrize("damage", ["truncated", "replaced", "gone"])
def test_given_a_damaged_snapshot_when_needed_then_it_is_evaluated_anew_counted_and_never_served(
    tmp_path: Path, damage: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            [path] = at.snapshots()
            if damage == "truncated":
                path.write_bytes(path.read_bytes()[:5_000])
            elif damage == "replaced":
                path.write_bytes(json.dumps(["other", "words"]).encode().ljust(path.stat().st_size))
            else:
                path.unlink()
            answer = await at.ask("four", hot=False)
            assert use_of(answer).state == "evaluated"
            assert at.watch.failures == {"corrupt": 1}
            assert at.fake.slots.crashed_on is None
            assert at.actions("restore") == []
            # It was good for a new one at once.
            assert use_of(await at.ask("five", slot=1, hot=False)).state == "restored"

    run(main())


# -- a server that fails


@pytest.mark.parametrize(
    ("answer", "still_assignable"),
    [
        (error_answer(400, "Unable to restore slot"), True),
        (error_answer(500), True),
        (error_answer(501), False),
        (json_answer({"n_restored": 0}), True),
        (json_answer({}), True),
        (cut_answer(), True),
    ],
)
def test_given_a_restore_that_fails_when_asked_then_the_request_is_answered_and_the_failure_counted(
    tmp_path: Path, answer: Answer, still_assignable: bool
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            at.fake.script("/slots/0?action=restore", answer)
            assert use_of(await at.ask("four", hot=False)).state == "evaluated"
            assert at.watch.failures == {"restore": 1}
            assert (at.provider.assignable_slots is not None) is still_assignable

    run(main())


def test_given_a_restore_that_has_just_failed_when_asked_again_then_it_is_not_tried_for_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            at.fake.script("/slots/0?action=restore", error_answer(500, "Unable to restore slot"))
            for text in ("four", "five"):
                await at.ask(text, hot=False)
            assert len(at.actions("restore")) == 1
            assert len(at.snapshots()) == 1

    run(main())


@pytest.mark.parametrize(
    "answer", [error_answer(500, "Unable to save slot"), json_answer({"n_saved": 1}), cut_answer()]
)
def test_given_a_save_that_fails_when_asked_then_the_request_is_answered_and_the_disk_is_left_alone(
    tmp_path: Path, answer: Answer
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.script("/slots/0?action=save", answer)
            for text in ("one", "two", "three", "four"):
                await at.ask(text)
            assert at.watch.failures == {"save": 1}
            assert len(at.actions("save")) == 1
            assert at.snapshots() == []
            assert use_of(await at.ask("five")).state == "hot"

    run(main())


def test_given_a_slot_that_holds_more_than_the_prefix_when_saved_then_the_file_is_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            # Somebody else's words are in it.
            at.fake.script("/slots/0?action=save", json_answer({"n_saved": PREFIX_TOKENS + 50}))
            await at.ask("one")
            await at.ask("two")
            assert at.snapshots() == []
            assert at.watch.failures == {"save": 1}

    run(main())


def test_given_a_server_that_writes_elsewhere_when_saving_then_it_is_counted_and_nothing_is_claimed(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        async with shop(tmp_path / "store", server_directory=elsewhere) as at:
            for text in ("one", "two", "three"):
                await at.ask(text)
            assert at.watch.failures == {"save": 1}
            assert at.watch.saves == 0

    run(main())


def test_given_a_server_that_dies_of_a_file_when_it_is_back_then_it_does_not_get_that_file_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            at.fake.script("/slots/0?action=restore", cut_answer())
            at.fake.script("/completion", cut_answer(), cut_answer())
            with pytest.raises(RayError):
                await at.ask("four", hot=False)
            await at.settle()
            assert at.snapshots() == []
            assert use_of(await at.ask("five", hot=False)).state == "evaluated"

    run(main())


def test_given_an_evaluation_that_fails_when_asked_then_the_whole_prompt_is_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.script("/completion", error_answer(500))
            answer = await at.ask("one", warming=True)
            assert use_of(answer).state == "evaluated"
            assert at.watch.failures == {"evaluate": 1}

    run(main())


def test_given_a_backend_that_dies_when_asked_then_the_request_fails_as_ever_and_nothing_is_hot(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            epoch = at.provider.slots_epoch
            at.fake.script("/completion", cut_answer(), cut_answer())
            with pytest.raises(RayError) as caught:
                await at.ask("four", system=OTHER_SYSTEM)
            assert caught.value.code == "provider_request_failed"
            assert at.provider.slots_epoch > epoch
            at.fake.slots.forget()
            assert use_of(await at.ask("five", system=OTHER_SYSTEM)).state == "evaluated"

    run(main())


def test_given_a_hot_slot_when_a_generation_in_it_fails_then_it_is_not_taken_for_hot_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            assert use_of(await at.ask("four", hot=False)).state == "restored"
            at.fake.script("/completion", error_answer(500, "out of cells"))
            with pytest.raises(RayError):
                await at.ask("five")
            at.fake.slots.forget()
            assert use_of(await at.ask("six")).state == "restored"
            assert at.watch.failed_proofs == 0

    run(main())


# -- a server that lies


def test_given_a_restore_that_does_nothing_when_proven_wrong_three_times_then_the_store_is_off_with_one_warning(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.slots.restores_nothing = True
            seen: list[tuple[str, int]] = []
            while at.watch.failed_proofs < 3:
                assert at.provider.assignable_slots == 2
                # Something short takes the slot in between.
                await at.ask("other", system="Be kind.")
                answer = await at.ask(f"request {len(seen)}", warming=True)
                seen.append((use_of(answer).state, use_of(answer).tokens_reused))
            # A file that did not help is gone, so the prefix is evaluated and saved again each time.
            assert seen == [("evaluated", 0), ("none", 0)] * 3
            assert at.provider.assignable_slots is None
            assert len(at.watch.reasons) == 1
            assert "--swa-full" in at.watch.reasons[0]
            assert at.watch.levels[-1][3] is False
            # From now on as if there were no store.
            await at.ask("later", slot=None)
            assert "id_slot" not in at.fake.received("/completion")[-1].document

    run(main())


def test_given_a_model_that_cannot_rewind_when_hot_is_disproven_twice_then_it_is_restored_instead(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.slots.can_rewind = False
            await at.ask("warm", warming=True)
            states = [use_of(await at.ask(f"request {number}")).state for number in range(6)]
            # A lost proof drops what the slots were thought to hold, so a restore comes between the two.
            assert states == ["none", "restored", "none", "restored", "restored", "restored"]
            assert at.provider.assignable_slots == 2

    run(main())


def test_given_a_server_that_ignores_the_slot_when_it_has_done_so_three_times_then_it_chooses_itself(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.slots.ignores_id_slot = True
            for number in range(3):
                assert at.provider.assignable_slots == 2
                assert use_of(await at.ask(f"{number}")).state == "none"
            assert at.provider.assignable_slots is None
            assert at.watch.failures == {"slot_ignored": 3}
            assert len(at.watch.reasons) == 1

    run(main())


def test_given_a_slot_that_somebody_else_uses_when_noticed_then_it_is_asked_first_and_avoided_while_busy(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            await at.ask("four", hot=False)
            # Behind our back.
            at.fake.slots.held[0] = ["what", "somebody", "else", "asked"]
            answer = await at.ask("five")
            assert (use_of(answer).state, at.watch.failed_proofs) == ("none", 1)
            at.fake.slots.busy = {0}
            await at.ask("six", hot=False)
            assert "id_slot" not in at.fake.received("/completion")[-1].document
            assert at.watch.failures == {"busy": 1}
            at.fake.slots.busy = set()
            assert use_of(await at.ask("seven", hot=False)).state == "restored"

    run(main())


# -- cancelled in the middle


@pytest.mark.parametrize("step", ["evaluate", "save", "restore"])
def test_given_a_reader_that_leaves_in_the_middle_of_a_step_when_asked_again_then_nothing_is_believed_of_the_slot(
    tmp_path: Path, step: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            if step == "restore":
                await saved(at)
            path = "/completion" if step == "evaluate" else f"/slots/0?action={step}"
            number = len(at.fake.received(path)) + 1
            at.fake.script(path, hanging_answer())
            context = replace(at_slot(0, hot=False), warming=True)
            preparation = await at.provider.prepare(request("left"), context)
            chunks = at.provider.stream(preparation, context)
            reading = asyncio.ensure_future(anext(chunks))
            received = await at.fake.wait_for(path, number)
            reading.cancel()
            await asyncio.wait([reading])
            await asyncio.wait_for(received.client_left.wait(), 30)
            at.fake.slots.held[0] = ["rubbish"]
            answer = await at.ask("next", hot=True)
            assert use_of(answer).state == ("restored" if step == "restore" else "evaluated")
            assert at.watch.failed_proofs == 0

    run(main())


@pytest.mark.parametrize("way_out", ["cancelled", "late"])
def test_given_a_save_that_nobody_waits_for_any_more_when_it_is_left_then_no_unfinished_file_stays(
    tmp_path: Path, way_out: str
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            at.fake.script("/slots/0?action=save", hanging_answer())
            context = replace(at_slot(0, hot=False), warming=True)
            preparation = await at.provider.prepare(request("left"), context)
            assert preparation.prefix is not None
            if way_out == "late":
                context = replace(context, deadline=context.deadline.after_ms(1_000))
            reading = asyncio.ensure_future(anext(at.provider.stream(preparation, context)))
            await at.fake.wait_for("/slots/0?action=save", 1)
            half = at.directory / f"{preparation.prefix.key}.kv.part"
            half.write_bytes(b"half of it")
            if way_out == "cancelled":
                reading.cancel()
            await asyncio.wait([reading])
            await at.settle()
            assert not half.exists()

    run(main())


def test_given_a_deadline_that_passes_during_a_restore_when_asked_then_the_request_times_out(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            at.fake.script("/slots/0?action=restore", hanging_answer())
            preparation = await at.prepare("four")
            context = replace(at_slot(0, hot=False), deadline=at_slot(0).deadline.after_ms(50))
            with pytest.raises(RayError) as caught:
                await anext(at.provider.stream(preparation, context))
            assert caught.value.code == "request_timeout"

    run(main())


# -- what the operator sees


def test_given_a_store_in_use_when_its_health_is_asked_then_it_shows_what_it_did(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            (tmp_path / "unknown.txt").write_text("left alone")
            await saved(at)
            await at.ask("four", hot=False)
            health = at.provider.prefix_health()
            assert health is not None
            assert {"enabled": True, "active": True, "slots": 2, "entries": 1, "saves": 1, "restores": 1}.items() <= (
                health.items()
            )
            assert health["tokensSaved"] == at.watch.tokens > PREFIX_TOKENS
            assert (tmp_path / "unknown.txt").exists()

    run(main())


def test_given_another_model_behind_the_url_between_prepare_and_stream_when_asked_then_neither_gets_the_others_file(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await saved(at)
            preparation = await at.prepare("four")
            at.fake.props.update(model_path="/models/other.gguf", media_marker="second start")
            at.fake.slots.forget()
            at.provider._store._backend._looked_at -= 10  # type: ignore[attr-defined]  # time has passed
            answer = await generate(at.provider, preparation, at_slot(0, hot=False))
            assert use_of(answer).state == "evaluated"
            await at.settle()
            assert at.actions("restore") == []
            assert len(at.snapshots()) == 1
            await at.ask("five", hot=False)
            assert use_of(await at.ask("six")).state == "hot"
            assert len(at.snapshots()) == 2

    run(main())


def test_given_a_short_value_after_a_counted_head_when_there_is_room_then_its_tokens_are_bounded_without_asking(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.prepare("one")
            asked = len(at.fake.received("/tokenize"))

            bounded = await at.prepare("zwölf")
            counted = await at.prepare("two" + LONG)

            assert len(at.fake.received("/tokenize")) == asked + 1
            assert bounded.prompt_tokens is not None
            assert counted.prompt_tokens is not None
            true_count = len((bounded.prompt or "").split()) + at.fake.adds_bos
            assert true_count <= bounded.prompt_tokens <= true_count + 256
            assert counted.prompt_tokens == len((counted.prompt or "").split()) + at.fake.adds_bos

    run(main())


def test_given_an_answer_to_a_bounded_prompt_when_it_is_over_then_its_usage_is_the_backends_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with shop(tmp_path) as at:
            await at.ask("one")
            answer = await at.ask("two")
            assert answer.finish.tokens is not None
            assert answer.finish.tokens.prompt == answer.diagnostics.tokens_evaluated

    run(main())
