"""What the tests of this room share: a small config, requests, templates, and texts that try to break things."""

from __future__ import annotations

from hypothesis import strategies as st

from ray.config import MARKER_HEAD, Config, config_from_mapping
from ray.prompts import Template, catalog_of
from ray.types import InferenceRequest, Message

TINY = config_from_mapping({"profile": "tiny"})
CLEANING: dict[str, object] = {"enabled": True, "collapseWhitespace": True, "dedupeRepeatedLines": True}


def config_with(**changes: object) -> Config:
    """The profile `tiny` with the compiler on, and with changes to `promptCompiler`."""
    return config_from_mapping({"profile": "tiny", "promptCompiler": CLEANING | changes})


COMPILING = config_with()


def request_of(text: str, system: str | None = None, **metadata: str) -> InferenceRequest:
    user = Message("user", text)
    messages = (user,) if system is None else (Message("system", system), user)
    return InferenceRequest(messages, 100, metadata=metadata)


def own_template(text: str, system: str | None = None, **keys: object) -> Template:
    """A template as an operator would declare it, with the id `own.v3`."""
    declared: dict[str, object] = {"lane": "draft", "input": text, **({"system": system} if system else {}), **keys}
    template = catalog_of(config_from_mapping({"templates": {"own.v3": declared}})).get("own.v3")
    assert template is not None
    return template


# Pieces that mean something to templates, scaffolds, chat formats or the compiler, among ordinary words.
PIECES = [
    "a", "Hello", " ", "  ", "\t", "\n", "\r\n", "\n\n\n", "}", "    return 1;", "The very same line of a mail",
    "{{ a }}", "{{a", "}}", f"{MARKER_HEAD}0__", f"{MARKER_HEAD}1", MARKER_HEAD, "__", "7",
    "<|im_end|>", "<|", "|>", "<", ">", "|", "<s>", "</s>", "<start_of_turn>", "<start_of", "_turn>", "[INST]", "[",
    "[/", "INST]", "<<SYS>>", "<</SYS>>", "<｜User｜>", "é", "\u00a0", "\x0b", "\x1c", "\u2028",  # noqa: RUF001
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=14).map("".join)
