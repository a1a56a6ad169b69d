"""Prompt templates as configuration declares them: the built-in ones and an operator's own share this form.

A placeholder is `{{ name }}`: letters, digits and underscores, blanks inside the braces optional. There is no other
markup, and no escape: a text that needs a literal `{{` cannot be a template. What a template says and what it declares
must agree; that is checked here, once, so that rendering never fails for the template's sake.
"""

# ruff: noqa: RUF009 - setting(), optional() and collection() return dataclass fields, not shared default values

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

from ray.config.adapters import ResponseFormatKind, ResponseFormatName
from ray.config.containers import MapOf, TextList
from ray.config.kinds import Choice, Place
from ray.config.sections import Section, collection, optional, setting
from ray.config.texts import Text
from ray.config.tuning import OUTPUT_TOKENS

TemplateLane = Literal["short", "draft"]
TEMPLATE_LANES: tuple[TemplateLane, ...] = get_args(TemplateLane)

MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARS = 16_384
MAX_VARIABLES = 32  # what one request may carry
MAX_PLACEHOLDERS = 64  # bounds how much longer than its values a prompt can get
MAX_VARIABLE_NAME_CHARS = 64
# Stands for a value while a template is passed through a model's chat template; see ray.prompts.scaffold.
MARKER_HEAD = "__RAY_PROMPT_VAR_"

PLACEHOLDER = re.compile(rf"\{{\{{ *([A-Za-z0-9_]{{1,{MAX_VARIABLE_NAME_CHARS}}}) *\}}\}}")
_VARIABLE_NAME = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_VARIABLE_NAME_CHARS}}}")
_TEMPLATE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def variable_name_problem(name: str) -> str | None:
    """A variable is named so that a placeholder can name it."""
    if not _VARIABLE_NAME.fullmatch(name):
        return f"must be 1 to {MAX_VARIABLE_NAME_CHARS} letters, digits or underscores"
    return None


def template_id_problem(name: str) -> str | None:
    """A template id: what can be typed into a URL, a log line or a metric without quoting."""
    if not _TEMPLATE_ID.fullmatch(name):
        return "must be letters, digits, dots, hyphens and underscores, and begin with a letter or digit"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateConfig:
    """A prompt with gaps. Clients name it in `templateId` and send the words for the gaps."""

    version: str | None = optional(
        Text(128, one_line=True), "Shown to clients; absent: the id's last part if that is `v1`, `v2` …, else `v1`."
    )
    family: str | None = optional(
        Text(128, one_line=True), "Requests of one family share a prefix; absent: the id without its version."
    )
    lane: TemplateLane = setting(Choice(TEMPLATE_LANES), "Which lane its requests wait in.")
    input: str = setting(Text(MAX_TEMPLATE_CHARS), "Text of the user message, with `{{ name }}` where a value goes.")
    system: str | None = optional(Text(MAX_TEMPLATE_CHARS), "System text; it may hold placeholders too.")
    max_tokens: int | None = optional(
        OUTPUT_TOKENS, "Completion tokens unless the request says otherwise; absent: model.maxOutputTokens."
    )
    response_format: ResponseFormatName | None = optional(
        ResponseFormatKind(), "Shape of the answer unless the request says otherwise."
    )
    metadata: Mapping[str, str] = collection(
        MapOf(Text(1024, blank=True), 32),
        "Added to the metadata of each request; wins over the client's.",
        empty=MappingProxyType({}),
    )
    variables: tuple[str, ...] = collection(
        TextList(
            MAX_VARIABLES,
            MAX_VARIABLE_NAME_CHARS,
            check=variable_name_problem,
            rule="letters, digits and underscores; exactly the names that the texts use",
        ),
        "The placeholders' names, to have them checked; absent: as the texts use them.",
        empty=(),
    )


@dataclass(frozen=True, slots=True)
class TemplateKind(Section[TemplateConfig]):
    """A template that is consistent in itself; its `variables` are always those of the texts, in their order."""

    def read(self, value: object, place: Place) -> TemplateConfig:
        # Named in full: a zero-argument super() does not survive the copy that slots=True makes of the class.
        template = Section.read(self, value, place)
        texts = {"system": template.system or "", "input": template.input}
        for key, text in texts.items():
            _check_text(text, place.child(key))
        used = [name for text in texts.values() for name in PLACEHOLDER.findall(text)]
        if len(used) > MAX_PLACEHOLDERS:
            raise place.error(f"has {len(used)} placeholders; at most {MAX_PLACEHOLDERS} are allowed")
        names = tuple(dict.fromkeys(used))
        if len(names) > MAX_VARIABLES:
            raise place.error(f"has {len(names)} variables; at most {MAX_VARIABLES} are allowed")
        if isinstance(value, Mapping) and "variables" in value:
            _check_declared(template.variables, names, place.child("variables"))
        return replace(template, variables=names, input=template.input.strip(), system=_stripped(template.system))


def _check_text(text: str, place: Place) -> None:
    if "{{" in PLACEHOLDER.sub(" ", text):
        raise place.error("has a `{{` that begins no placeholder: write {{ name }} with letters, digits, underscores")
    if MARKER_HEAD in text:
        raise place.error(f"must not contain {MARKER_HEAD}: Ray marks the gaps with it")


def _check_declared(declared: tuple[str, ...], used: tuple[str, ...], place: Place) -> None:
    undeclared = [name for name in used if name not in declared]
    if undeclared:
        raise place.error(
            f"does not declare {', '.join(undeclared)}, which the text uses: declare or remove it",
            undeclared=undeclared,
        )
    unused = [name for name in dict.fromkeys(declared) if name not in used]
    if unused:
        raise place.error(f"declares {', '.join(unused)}, which the text does not use: use or remove it", unused=unused)
    if len(set(declared)) < len(declared):
        raise place.error("declares a name twice")


def _stripped(text: str | None) -> str | None:
    return None if text is None else text.strip()


TEMPLATE = TemplateKind(TemplateConfig, " of a template")
TEMPLATES: MapOf[TemplateConfig] = MapOf(
    TEMPLATE,
    MAX_TEMPLATES,
    check=template_id_problem,
    rule="letters, digits, dots, hyphens and underscores; the built-in ids are taken",
)
