"""Flags that a llama-server has to know."""

from __future__ import annotations

import pytest

from ray.deploy.launch_flags import missing_flags, required_flags


def test_flags_without_values_each_once_and_sorted() -> None:
    words = ["--model", "/m.gguf", "--cache-ram", "-1", "-ngl", "0", "--seed=4", "--model", "-"]
    assert required_flags(words) == ("--cache-ram", "--model", "--seed", "-ngl")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("-m,    --model FNAME   model path", ()),
        ("--model-url URL", ("--model",)),
        ("x--model", ("--model",)),
        ("[--model]", ()),
        ("--model=N", ()),
        ("", ("--model",)),
    ],
)
def test_a_flag_counts_only_as_a_word_of_its_own(text: str, missing: tuple[str, ...]) -> None:
    assert missing_flags(["--model"], text) == missing
