"""Which prompt a llama.cpp model gets: the server's own chat template, or role-labelled text when there is none.

Pure rules; the reasons are shown to operators in the diagnostics of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray.errors import RayError
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.upstream import upstream_status
from ray.types import Message

NATIVE_TEMPLATE = "llama.cpp-template"
PROMPT_SCAFFOLD = "prompt-scaffold"
FALLBACK = "ray-chat-fallback"
PLAIN_COMPLETION = "plain-completion"
# What a backend answers when it cannot render: no such route, no template, or a template that refuses the roles.
_CANNOT_RENDER = frozenset({400, 404, 405, 422, 500, 501})
_ROLE_LABELS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """The decision and why. `name` is `NATIVE_TEMPLATE`, `PROMPT_SCAFFOLD`, `FALLBACK` or `raw`."""

    name: str
    reason: str


RAW = PromptFormat("raw", "the prompt is read as it was sent")


def choose_format(capabilities: Capabilities, preference: str | None) -> PromptFormat:
    """`preference`: the config's `recommendedPromptFormat`."""
    if preference == PLAIN_COMPLETION:
        return PromptFormat(FALLBACK, "the model is configured for plain completion")
    if capabilities.apply_template == "unavailable":
        return PromptFormat(FALLBACK, "the backend's /apply-template endpoint is unavailable")
    if capabilities.chat_template == "unavailable":
        return PromptFormat(FALLBACK, "the backend's model has no chat template")
    return PromptFormat(NATIVE_TEMPLATE, "the model's own chat template")


def after_failure(error: RayError) -> PromptFormat | None:
    """The format to use when rendering failed; None when the failure concerns more than rendering.

    An unreachable, loading or unauthorised backend would refuse the completion as well, so that error is the answer.
    """
    if error.code == "provider_invalid_response":
        return PromptFormat(FALLBACK, f"the native template gave no prompt: {error.message}")
    if error.code == "provider_upstream_error" and upstream_status(error) in _CANNOT_RENDER:
        return PromptFormat(FALLBACK, f"the native template could not be rendered: {error.message}")
    return None


def fallback_prompt(messages: Sequence[Message], preference: str | None) -> str:
    """The conversation without a template: bare text for plain completion, else sections labelled with the roles."""
    spoken = [message for message in messages if message.content]
    if preference == PLAIN_COMPLETION:
        return "\n\n".join(message.content for message in spoken)
    sections = [f"{_ROLE_LABELS[message.role]}:\n{message.content}" for message in spoken]
    return "\n\n".join([*sections, "Assistant:"])
