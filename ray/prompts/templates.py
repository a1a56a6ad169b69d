"""Prompt templates as the pipeline uses them, and the catalogue of those a config knows.

Substitution is one pass: what looks like a placeholder inside a value stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ray.config import BUILT_IN_TEMPLATES, PLACEHOLDER, Config, TemplateConfig
from ray.types import InferenceRequest, Lane, Message, ResponseFormat

DEFAULT_VERSION = "v1"
_VERSION_PART = re.compile(r"v[0-9]+")


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt with gaps. `variables`: in the order in which system and input text use them, each once.

    `max_tokens` and `response_format`: what a request gets that does not say otherwise; None: the model's defaults.
    """

    id: str
    version: str
    family: str
    lane: Lane
    variables: tuple[str, ...]
    input: str
    system: str | None
    max_tokens: int | None
    response_format: ResponseFormat | None
    metadata: Mapping[str, str]


class TemplateCatalog:
    """Templates by id. A light view: making one costs nothing, so nobody needs to keep it."""

    __slots__ = ("_own",)

    def __init__(self, own: Mapping[str, TemplateConfig]) -> None:
        self._own = own

    def get(self, template_id: str) -> Template | None:
        """The template, or None when neither Ray nor the operator has declared it."""
        declared = BUILT_IN_TEMPLATES.get(template_id) or self._own.get(template_id)
        return None if declared is None else _template(template_id, declared)

    def __iter__(self) -> Iterator[Template]:
        """All of them: the built-in ones, then the operator's in the order of the file."""
        for template_id, declared in {**BUILT_IN_TEMPLATES, **self._own}.items():
            yield _template(template_id, declared)

    def listing(self, max_output_tokens: int) -> list[dict[str, object]]:
        """What clients may know of each template, without its texts. `max_output_tokens`: the model's limit."""
        return [_shown(template, max_output_tokens) for template in self]


def catalog_of(config: Config) -> TemplateCatalog:
    """The templates that requests under this config can name."""
    return TemplateCatalog(config.templates)


def built_in_templates() -> tuple[Template, ...]:
    """The templates that need no config."""
    return tuple(TemplateCatalog({}))


def render(template: Template, values: Mapping[str, str]) -> tuple[str, str | None]:
    """Input and system text with each placeholder replaced. `values` holds every variable of the template."""

    def filled_in(text: str) -> str:
        return PLACEHOLDER.sub(lambda placeholder: values[placeholder[1]], text)

    return filled_in(template.input), None if template.system is None else filled_in(template.system)


def messages_of(template: Template, values: Mapping[str, str]) -> tuple[Message, ...]:
    """The conversation that a template and its values make. `values` holds every variable of the template.

    The texts are not trimmed, and an empty one stays: a scaffold of the template gives exactly these.
    """
    text, system = render(template, values)
    user = Message("user", text)
    return (user,) if system is None else (Message("system", system), user)


def filled(request: InferenceRequest, template: Template, values: Mapping[str, str]) -> InferenceRequest:
    """`request` made from `template` and these values, of which there is one for every variable."""
    return replace(
        request,
        messages=messages_of(template, values),
        template_id=template.id,
        template_values=MappingProxyType(dict(values)),
    )


def _template(template_id: str, declared: TemplateConfig) -> Template:
    head, _, last = template_id.rpartition(".")
    versioned = bool(head) and _VERSION_PART.fullmatch(last) is not None
    return Template(
        id=template_id,
        version=declared.version or (last if versioned else DEFAULT_VERSION),
        family=declared.family or (head if versioned else template_id),
        lane=declared.lane,
        variables=declared.variables,
        input=declared.input,
        system=declared.system,
        max_tokens=declared.max_tokens,
        response_format=declared.response_format,
        metadata=declared.metadata,
    )


def _shown(template: Template, max_output_tokens: int) -> dict[str, object]:
    shown: dict[str, object] = {
        "id": template.id,
        "version": template.version,
        "family": template.family,
        "lane": template.lane,
        "variables": list(template.variables),
        "maxTokens": min(template.max_tokens or max_output_tokens, max_output_tokens),
    }
    if template.response_format is not None:
        shown["responseFormat"] = {"type": template.response_format}
    return shown
