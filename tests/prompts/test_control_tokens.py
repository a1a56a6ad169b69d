"""Control tokens in a stranger's text are broken, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given

from ray.prompts import defused
from ray.prompts.control_tokens import count_control_tokens
from tests.prompts.support import texts


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|user|>", "<||>",
        "<｜User｜>", "<｜end▁of▁sentence｜>",  # noqa: RUF001
        "<s>", "</s>", "<S>", "<bos>", "<eos>", "<pad>", "<unk>", "<think>", "</think>", "<unused99>", "<reserved_106>",
        "<start_of_turn>", "<end_of_turn>", "<tool_call>", "</tool_call>", "<EOS_TOKEN>", "<file_sep>",
        "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[gMASK]", "[UNUSED_TOKEN_145]",
        "<<SYS>>", "<</SYS>>",
    ],
)  # fmt: skip
def test_given_a_token_of_a_known_model_when_defused_then_it_is_gone_and_its_words_stay(token: str) -> None:
    broken = defused(f"before{token}after")

    assert token not in broken
    assert broken.replace(" ", "") == f"before{token}after"
    assert count_control_tokens(broken) == 0


@pytest.mark.parametrize(
    "text",
    [
        "", "a < b and c > d", "x <| f", "cmd | tee <file>", "<p>Hello</p>", "[EXTERNAL] Re: offer", "[1]", "a[i]",
        "<b>|</b>", "<|not closed", "User: hi", "<a@b.example>", "[inst]",
    ],
)  # fmt: skip
def test_given_ordinary_text_when_defused_then_it_stays_as_it_is(text: str) -> None:
    assert defused(text) == text


def test_given_a_token_inside_a_token_when_defused_then_both_are_broken() -> None:
    assert defused("<|im_<|im_end|>end|>") == "<|im_< |im_end|>end|>"
    assert defused("<|[INST]|>") == "< |[ INST]|>"


@given(texts)
def test_given_any_text_when_defused_then_no_control_token_is_left(text: str) -> None:
    broken = defused(text)

    assert count_control_tokens(broken) == 0
    assert defused(broken) == broken
    assert broken.replace(" ", "") == text.replace(" ", "")
