"""The prompt compiler: tidies a request's text, and says which family and lane it belongs to.

A request from a template is tidied value by value and rendered again, the template's own text untouched: so the prompt
equals what a scaffold of the template renders, and all requests of the template keep one prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ray.config import Config, PromptCompilerConfig
from ray.prompts.cleaning import clean_whitespace, long_lines, without_repeated_lines
from ray.prompts.control_tokens import defused
from ray.prompts.family import family_key, family_seed
from ray.prompts.lane import lane_of
from ray.prompts.templates import Template, catalog_of, filled
from ray.types import InferenceRequest, Lane, Message, PromptCompilerDiagnostics


@dataclass(frozen=True, slots=True)
class CompiledPrompt:
    """The tidied request and what is known about its prompt. `family`: 16 hex digits."""

    request: InferenceRequest
    family: str
    lane: Lane
    diagnostics: PromptCompilerDiagnostics


def compile_prompt(request: InferenceRequest, config: Config, template: Template | None = None) -> CompiledPrompt:
    """`template`: the one that `request.template_id` names; looked up when absent. Idempotent; no text gets longer.

    Where `promptCompiler.enabled` is false the text stays, and so does a raw prompt, whose blanks are the client's own;
    family and lane are found all the same.
    """
    if template is None and request.template_id is not None:
        template = catalog_of(config).get(request.template_id)
    compiled = _tidied(request, config.prompt_compiler, template)
    if template is not None:
        # The texts with their gaps: a value in the system text must not make every request a family of its own.
        family = family_key(template.system or "", f"template:{template.family}")
    else:
        seed = family_seed(compiled.messages, compiled.metadata, config.prompt_compiler.family_metadata_keys)
        family = family_key(compiled.system or "", _beginning(compiled) + seed)
    lane = lane_of(compiled, config.scheduler.short_job_max_tokens, template.lane if template else None)
    before, after = request.prompt_chars, compiled.prompt_chars
    diagnostics = PromptCompilerDiagnostics(
        family_key=family,
        lane=lane,
        chars_before=before,
        chars_after=after,
        chars_saved=max(0, before - after),
        template_id=request.template_id,
    )
    return CompiledPrompt(compiled, family, lane, diagnostics)


def _beginning(request: InferenceRequest) -> str:
    """What a prompt begins with besides its system text: tools are described there, and a raw prompt has no head."""
    if request.is_raw:
        return "raw:"
    return f"tools:{request.tools}:" if request.tools is not None else ""


def _tidied(request: InferenceRequest, rules: PromptCompilerConfig, template: Template | None) -> InferenceRequest:
    if not rules.enabled or request.is_raw:
        return request
    if template is not None:
        return _tidied_values(request, rules, template)
    messages = _tidied_messages(request.messages, rules)
    return request if messages == request.messages else replace(request, messages=messages)


def _tidied_values(request: InferenceRequest, rules: PromptCompilerConfig, template: Template) -> InferenceRequest:
    """Whitespace inside each value. Repeated lines stay: a value may quote what the template says for a reason."""
    if not rules.collapse_whitespace:
        return request
    # Tidying brings characters closer together: what was too far apart to be a control token may have become one.
    values = {name: defused(clean_whitespace(value)) for name, value in request.template_values.items()}
    return request if values == request.template_values else filled(request, template, values)


def _tidied_messages(messages: tuple[Message, ...], rules: PromptCompilerConfig) -> tuple[Message, ...]:
    """System texts first, so that users' lines can be compared with them. What the model said is left as it was, and so
    is what its tools answered: data."""
    if rules.collapse_whitespace:
        messages = _changed(messages, ("system", "user"), clean_whitespace)
    if rules.dedupe_repeated_lines:
        messages = _changed(messages, ("system",), without_repeated_lines)
        known = frozenset[str]().union(*(long_lines(m.content) for m in messages if m.role == "system"))
        messages = _changed(messages, ("user",), lambda text: without_repeated_lines(text, known))
    return messages


def _changed(
    messages: tuple[Message, ...], roles: Collection[str], change: Callable[[str], str]
) -> tuple[Message, ...]:
    return tuple(
        Message(message.role, change(message.content)) if message.role in roles else message for message in messages
    )
