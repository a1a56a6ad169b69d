"""Control tokens of chat models in text that a stranger wrote: found, and made harmless.

llama-server reads special tokens in a rendered prompt, so `<|im_end|>` in a customer's mail would end the turn and let
the rest pose as instructions. `defused` breaks such a token with one space: the words stay readable, the token is gone.
What counts as one:

- `<|…|>` with up to 64 characters between (ChatML, Llama 3, Phi, gpt-oss; DeepSeek writes the bars full width);
- tags of the tokenizers in use: `<s>`, `</s>`, `<bos>`, `<think>` and the like, and every tag with an underscore
  (`<start_of_turn>`, `<tool_call>`, `<EOS_TOKEN>`), `<unused7>`, `<reserved7>`; upper or lower case;
- `[INST]`, `[SYSTEM_PROMPT]` and the other bracketed words of Mistral, GLM, InternLM and BERT; `<<SYS>>`.

Plain words that a model was trained on (`User:`) are no control tokens: no tokenizer treats them in a special way.
"""

from __future__ import annotations

import re

_TAGS = "s|bos|eos|eod|eot|eop|sop|eoh|eoa|pad|unk|mask|cls|sep|think|image|audio|video|unused[0-9]+|reserved[0-9]+"
_BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|MODEL_SETTINGS|CALL_ID|ARGS|THINK|IMG|"
    "IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|TRANSCRIBE|PREFIX|MIDDLE|SUFFIX|CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK|sMASK|"
    "UNUSED_TOKEN_[0-9]+"
)
# Only the first character is consumed; the rest is looked at. So every token is found, also one inside another.
_CONTROL_TOKEN = re.compile(
    r"<(?=[|｜][^<>\r\n]{0,64}[|｜]>"  # noqa: RUF001 - the full-width bar is meant
    rf"|/?(?i:{_TAGS})>"
    r"|/?[A-Za-z0-9]{1,32}_[A-Za-z0-9_]{0,32}>"
    r"|</?SYS>>)"
    rf"|\[(?=/?(?:{_BRACKETED})\])"
)


def defused(value: str) -> str:
    """`value` with a space inside every control token. Idempotent; text without such tokens comes back as it is."""
    return _CONTROL_TOKEN.sub(lambda opening: opening[0] + " ", value)


def count_control_tokens(text: str) -> int:
    """How many control tokens a text holds."""
    return sum(1 for _ in _CONTROL_TOKEN.finditer(text))
