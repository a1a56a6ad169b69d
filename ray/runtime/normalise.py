"""From a JSON body to an `InferenceRequest`: every field checked, defaulted and clamped, or one clear refusal.

The function is pure and total: whatever JSON value comes in, the outcome is a request or `RayError invalid_request`.
Lengths are Unicode code points. Numbers of the wrong size are clamped, values of the wrong kind are refused; an
explicit `null` is a value of the wrong kind, never "absent". Keys that Ray does not know are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypedDict, cast

from ray.config import Config
from ray.prompts import Template, catalog_of, messages_of, template_values
from ray.runtime.containers import Anything, ListOf, StringMap
from ray.runtime.fields import Field, Object, read_fields
from ray.runtime.kinds import NOT_BLANK, Flag, Number, OneOf, Text, Whole, echo, refuse
from ray.types import InferenceRequest, Message, ResponseFormat

DEFAULT_TEMPERATURE = 0.2
DEFAULT_TOP_P = 0.95
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_DEDUPE_KEY_CHARS = 512
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARS = 128
MAX_METADATA_VALUE_CHARS = 1_024
MAX_TEMPLATE_ID_CHARS = 128

_NO_TEXTS: Mapping[str, str] = MappingProxyType({})

METADATA = StringMap(MAX_METADATA_ENTRIES, MAX_METADATA_KEY_CHARS, MAX_METADATA_VALUE_CHARS)
_FORMAT = (Field("type", OneOf("text", "json_object"), "`json_object`: the answer is a JSON object.", required=True),)

# In two parts because what the templates and the texts make up together is judged between them.
_QUESTION_FIELDS = (
    Field("input", Text(), "The question. Needed without `templateId`; trimmed, and must not be blank then."),
    Field("system", Text(), "What the model is told about its task. Trimmed; blank means none."),
    Field(
        "dedupeKey",
        Text(MAX_DEDUPE_KEY_CHARS),
        "Joins a running request of the same caller with the same key, `system` and `input`.",
    ),
    Field(
        "templateId", Text(MAX_TEMPLATE_ID_CHARS), "A template of `GET /v1/templates`. Excludes `input` and `system`."
    ),
    Field("maxTokens", Number(), "Length of the answer in tokens; rounded down, clamped to 1 … the model's ceiling."),
    Field("temperature", Number(0.0, 2.0, clamp=True), "Clamped to 0 … 2.", default=DEFAULT_TEMPERATURE),
    Field("topP", Number(0.1, 1.0, clamp=True), "Clamped to 0.1 … 1.", default=DEFAULT_TOP_P),
    Field("cache", Flag(), "false: neither read nor fill the response cache.", default=True),
    Field("metadata", METADATA, "Notes about the request. Not part of the cache key."),
    Field("responseFormat", Object(_FORMAT), "What the answer has to be."),
)
_SAMPLING_FIELDS = (
    Field("seed", Whole(), "Makes sampling repeatable."),
    Field(
        "stop",
        ListOf(Text(MAX_STOP_CHARS, min_chars=1), 1, MAX_STOPS, entry="a stop entry"),
        "Texts that end the answer, kept as they are.",
    ),
)
# Its values are judged with the template that it belongs to, and not at all without one.
_TEMPLATE_VARIABLES = Field(
    "templateVariables", Anything(), "With `templateId`: a value for each of the template's variables."
)
INFER_FIELDS = (*_QUESTION_FIELDS, *_SAMPLING_FIELDS, _TEMPLATE_VARIABLES)


class _Question(TypedDict, total=False):
    """What reading `_QUESTION_FIELDS` finds."""

    input: str
    system: str
    dedupeKey: str
    templateId: str
    maxTokens: float
    temperature: float
    topP: float
    cache: bool
    metadata: Mapping[str, str]
    responseFormat: Mapping[str, ResponseFormat]


class _Sampling(TypedDict, total=False):
    """What reading `_SAMPLING_FIELDS` finds."""

    seed: int
    stop: list[str]


# What holds between the fields, as JSON Schema. A blank template id is none, as an empty one is no name.
INFER_RULES: Mapping[str, object] = {
    "if": {"required": ["templateId"], "properties": {"templateId": {"minLength": 1}}},
    "then": {
        "properties": {
            "input": False,
            "system": False,
            "templateVariables": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean"]},
            },
        }
    },
    "else": {"required": ["input"], "properties": {"input": {"pattern": NOT_BLANK}}},
}


def normalise_request(body: object, config: Config) -> InferenceRequest:
    """The request that `body`, a parsed JSON value, asks for under `config`.

    Raises `RayError` with code `invalid_request`; its details name the `field` and what was wrong with it. The checks
    run in a fixed order (that of the tables above, the conversation between them), so a body with several faults always
    gets the same answer.
    """
    if not isinstance(body, dict):
        refuse("the request body must be a JSON object", "body", value=echo(body))
    asked = cast("_Question", read_fields(body, _QUESTION_FIELDS))
    template_id = asked.get("templateId")
    template = _template(config, template_id, asked) if template_id else None
    response_format = asked["responseFormat"]["type"] if "responseFormat" in asked else None
    max_tokens = math.floor(asked["maxTokens"]) if "maxTokens" in asked else None
    metadata = MappingProxyType(asked["metadata"]) if asked.get("metadata") else _NO_TEXTS
    if template is None:
        messages, values = _conversation(asked.get("input"), asked.get("system")), _NO_TEXTS
    else:
        values = template_values(template, body.get("templateVariables", _NO_TEXTS))
        messages = messages_of(template, values)
        metadata = _with_template_metadata(metadata, template)
        response_format = response_format or template.response_format
        max_tokens = template.max_tokens if max_tokens is None else max_tokens
    sampling = cast("_Sampling", read_fields(body, _SAMPLING_FIELDS))
    ceiling = config.model.max_output_tokens
    dedupe_key = asked.get("dedupeKey")
    return InferenceRequest(
        messages=messages,
        max_tokens=ceiling if max_tokens is None else max(1, min(ceiling, max_tokens)),
        temperature=asked.get("temperature", DEFAULT_TEMPERATURE),
        top_p=asked.get("topP", DEFAULT_TOP_P),
        seed=sampling.get("seed"),
        stop=tuple(sampling.get("stop", ())),
        response_format=response_format,
        cache=asked.get("cache", True),
        dedupe_key=dedupe_key if dedupe_key and not dedupe_key.isspace() else None,
        metadata=metadata,
        template_id=template_id if template else None,
        template_values=values,
    )


def _template(config: Config, template_id: str, asked: _Question) -> Template:
    if "input" in asked or "system" in asked:
        refuse("templateId cannot be combined with input or system: send one or the other", "templateId")
    template = catalog_of(config).get(template_id)
    if template is None:
        message = f"unknown template {template_id!r}: GET /v1/templates lists the known ones"
        refuse(message, "templateId", templateId=template_id)
    return template


def _with_template_metadata(metadata: Mapping[str, str], template: Template) -> Mapping[str, str]:
    """The client's metadata under the template's: what is said about the template cannot be made up."""
    about = {
        "promptFamily": template.family,
        "promptTemplateId": template.id,
        "promptTemplateVersion": template.version,
        "promptLane": template.lane,
    }
    return MappingProxyType({**metadata, **template.metadata, **about})


def _conversation(text: str | None, system: str | None) -> tuple[Message, ...]:
    """`input` with `system` as a conversation."""
    user = text.strip() if text is not None else ""
    if not user:
        refuse("input is required and must not be blank", "input")
    instructions = system.strip() if system is not None else ""
    if instructions:
        return (Message("system", instructions), Message("user", user))
    return (Message("user", user),)
