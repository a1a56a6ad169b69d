"""What is learned of a chat template, and when it is believed."""

from __future__ import annotations

import pytest

from ray.providers.llama_cpp.outline import TRUSTED_SECONDS, Outline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def rendered(system: str, date: str = "today") -> tuple[str, str, str]:
    return system, f"{date} <s>{system}</s><u>", "</u><a>"


def taught(*systems: str, clock: Clock | None = None) -> Outline:
    outline = Outline(clock or Clock())
    for system in systems:
        outline.learn(*rendered(system))
    return outline


def test_given_two_system_texts_when_a_third_comes_then_its_surroundings_are_known() -> None:
    assert taught("one", "two").around_message("three") == rendered("three")[1:]


@pytest.mark.parametrize("systems", [(), ("one",), ("one", "one")])
def test_given_fewer_than_two_different_system_texts_when_one_comes_then_nothing_is_known(systems: tuple[str]) -> None:
    assert taught(*systems).around_message("three") is None


def test_given_renderings_that_disagree_when_one_comes_then_nothing_is_known_until_two_agree_again() -> None:
    outline = taught("one", "two")
    outline.learn(*rendered("three", "tomorrow"))
    assert outline.around_message("four") is None
    outline.learn(*rendered("four", "tomorrow"))
    assert outline.around_message("five") == rendered("five", "tomorrow")[1:]


def test_given_a_system_text_that_stands_twice_in_the_prompt_when_learned_then_nothing_is_known() -> None:
    outline = taught()
    for system in ("one", "two"):
        outline.learn(system, f"<s>{system}</s>{system}", "</u>")
    assert outline.around_message("three") is None


@pytest.mark.parametrize("system", ["", " padded", "<think>", "Be brief. /no_think"])
def test_given_a_system_text_that_a_template_may_treat_in_a_special_way_when_it_comes_then_nothing_is_known(
    system: str,
) -> None:
    assert taught("one", "two").around_message(system) is None


def test_given_time_has_passed_when_one_comes_then_the_template_is_compared_again() -> None:
    clock = Clock()
    outline = taught("one", "two", clock=clock)
    clock.now = TRUSTED_SECONDS
    assert outline.around_message("three") is None
    outline.learn(*rendered("three"))
    assert outline.around_message("four") == rendered("four")[1:]


def test_given_another_server_when_one_comes_then_nothing_is_known() -> None:
    outline = taught("one", "two")
    outline.forget()
    assert outline.around_message("three") is None
