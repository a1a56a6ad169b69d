"""From a JSON body to an `InferenceRequest`: every field checked, defaulted and clamped, or one clear refusal.

The function is pure and total: whatever JSON value comes in, the outcome is a request or `RayError invalid_request`.
Lengths are Unicode code points. Numbers of the wrong size are clamped, values of the wrong kind are refused; an
explicit `null` is a value of the wrong kind, never "absent". Keys that Ray does not know are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from ray.config import Config
from ray.errors import RayError, truncated
from ray.prompts import Template, catalog_of, messages_of, template_values
from ray.types import InferenceRequest, Message, ResponseFormat

DEFAULT_TEMPERATURE = 0.2
TEMPERATURE_RANGE = (0.0, 2.0)
DEFAULT_TOP_P = 0.95
TOP_P_RANGE = (0.1, 1.0)
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_DEDUPE_KEY_CHARS = 512
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARS = 128
MAX_METADATA_VALUE_CHARS = 1_024
MAX_TEMPLATE_ID_CHARS = 128
MAX_SAFE_INTEGER = 2**53 - 1

# Refusals are logged: of a text in the wrong place only so much is repeated, the note of what was cut included.
MAX_ECHOED_CHARS = 32

_ABSENT = object()
_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


def normalise_request(body: object, config: Config) -> InferenceRequest:
    """The request that `body`, a parsed JSON value, asks for under `config`.

    Raises `RayError` with code `invalid_request`; its details name the `field` and what was wrong with it. The checks
    run in a fixed order (http-api section 4.1), so a body with several faults always gets the same answer.
    """
    if not isinstance(body, dict):
        _refuse("the request body must be a JSON object", field="body", value=_echo(body))
    text = _text_field(body, "input")
    system = _text_field(body, "system")
    dedupe_key = _text_field(body, "dedupeKey")
    template_id = _text_field(body, "templateId")
    if template_id is not None:
        _limit_chars(template_id, MAX_TEMPLATE_ID_CHARS, "templateId")
    max_tokens = _max_tokens(body)
    temperature = _clamped(body, "temperature", DEFAULT_TEMPERATURE, TEMPERATURE_RANGE)
    top_p = _clamped(body, "topP", DEFAULT_TOP_P, TOP_P_RANGE)
    cache = _boolean(body, "cache", default=True)
    metadata = _metadata(body)
    if dedupe_key is not None:
        _limit_chars(dedupe_key, MAX_DEDUPE_KEY_CHARS, "dedupeKey")
    response_format = _response_format(body)
    template = _template(config, template_id, text, system) if template_id else None
    if template is None:
        messages, values = _conversation(text, system), _NO_TEXTS
    else:
        values = template_values(template, body.get("templateVariables", _NO_TEXTS))
        messages = messages_of(template, values)
        metadata = _with_template_metadata(metadata, template)
        response_format = response_format or template.response_format
        max_tokens = template.max_tokens if max_tokens is None else max_tokens
    ceiling = config.model.max_output_tokens
    return InferenceRequest(
        messages=messages,
        max_tokens=ceiling if max_tokens is None else max(1, min(ceiling, max_tokens)),
        temperature=temperature,
        top_p=top_p,
        seed=_seed(body),
        stop=_stop(body),
        response_format=response_format,
        cache=cache,
        dedupe_key=dedupe_key if dedupe_key and not dedupe_key.isspace() else None,
        metadata=metadata,
        template_id=template_id if template else None,
        template_values=values,
    )


def _template(config: Config, template_id: str, text: str | None, system: str | None) -> Template:
    if text is not None or system is not None:
        _refuse("templateId cannot be combined with input or system: send one or the other", field="templateId")
    template = catalog_of(config).get(template_id)
    if template is None:
        raise RayError(
            "invalid_request",
            f"unknown template {template_id!r}: GET /v1/templates lists the known ones",
            details={"field": "templateId", "templateId": template_id},
        )
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
        _refuse("input is required and must not be blank", field="input")
    instructions = system.strip() if system is not None else ""
    if instructions:
        return (Message("system", instructions), Message("user", user))
    return (Message("user", user),)


def _text_field(body: Mapping[str, object], field: str) -> str | None:
    value = body.get(field, _ABSENT)
    if value is _ABSENT:
        return None
    if not isinstance(value, str):
        _refuse(f"{field} must be a string", field=field, value=_echo(value))
    _check_encodable(value, field)
    return value


def _max_tokens(body: Mapping[str, object]) -> int | None:
    """What the client asks for, rounded down and not yet clamped."""
    value = _number(body, "maxTokens")
    return None if value is None else math.floor(value)


def _clamped(body: Mapping[str, object], field: str, default: float, limits: tuple[float, float]) -> float:
    value = _number(body, field)
    if value is None:
        return default
    low, high = limits
    return float(max(low, min(high, value)))


def _number(body: Mapping[str, object], field: str) -> int | float | None:
    """A finite number; `bool` is an `int` only to Python, not to JSON."""
    value = body.get(field, _ABSENT)
    if value is _ABSENT:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(f"{field} must be a number", field=field, value=_echo(value))
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(f"{field} must be a finite number", field=field, value=_echo(value))
    return value


def _boolean(body: Mapping[str, object], field: str, *, default: bool) -> bool:
    value = body.get(field, _ABSENT)
    if value is _ABSENT:
        return default
    if not isinstance(value, bool):
        _refuse(f"{field} must be true or false", field=field, value=_echo(value))
    return value


def _metadata(body: Mapping[str, object]) -> Mapping[str, str]:
    value = body.get("metadata", _ABSENT)
    if value is _ABSENT:
        return _NO_TEXTS
    if not isinstance(value, dict):
        _refuse("metadata must be an object of strings", field="metadata", value=_echo(value))
    if len(value) > MAX_METADATA_ENTRIES:
        _refuse(
            f"metadata has {len(value)} entries; at most {MAX_METADATA_ENTRIES} are allowed",
            field="metadata",
            maxEntries=MAX_METADATA_ENTRIES,
            actualEntries=len(value),
        )
    for key, item in value.items():
        if not isinstance(key, str) or not key.strip():
            _refuse("metadata keys must not be blank", field="metadata")
        _check_encodable(key, "a metadata key")
        _limit_chars(key, MAX_METADATA_KEY_CHARS, "a metadata key")
        if not isinstance(item, str):
            _refuse(f"metadata value of {key!r} must be a string", field="metadata", key=key, value=_echo(item))
        _check_encodable(item, f"metadata value of {key!r}")
        _limit_chars(item, MAX_METADATA_VALUE_CHARS, f"metadata value of {key!r}")
    return MappingProxyType(dict(value)) if value else _NO_TEXTS


def _response_format(body: Mapping[str, object]) -> ResponseFormat | None:
    value = body.get("responseFormat", _ABSENT)
    if value is _ABSENT:
        return None
    if not isinstance(value, dict):
        _refuse("responseFormat must be an object with a type", field="responseFormat", value=_echo(value))
    kind = value.get("type")
    if kind != "text" and kind != "json_object":
        _refuse("responseFormat.type must be text or json_object", field="responseFormat.type", value=_echo(kind))
    return "text" if kind == "text" else "json_object"


def _seed(body: Mapping[str, object]) -> int | None:
    """A whole number that every JSON reader can hold exactly; `11.0` is the whole number 11."""
    value = body.get("seed", _ABSENT)
    if value is _ABSENT:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_SAFE_INTEGER:
        _refuse("seed must be an integer between -(2^53 - 1) and 2^53 - 1", field="seed", value=_echo(value))
    return value


def _stop(body: Mapping[str, object]) -> tuple[str, ...]:
    value = body.get("stop", _ABSENT)
    if value is _ABSENT:
        return ()
    if not isinstance(value, list) or not value:
        _refuse("stop must be a non-empty array of strings", field="stop", value=_echo(value))
    if len(value) > MAX_STOPS:
        _refuse(
            f"stop has {len(value)} entries; at most {MAX_STOPS} are allowed",
            field="stop",
            maxEntries=MAX_STOPS,
            actualEntries=len(value),
        )
    for entry in value:
        # Whitespace is a fine place to stop ("\n"); an empty string would stop before the first character.
        if not isinstance(entry, str) or not entry:
            _refuse("stop entries must be non-empty strings", field="stop", value=_echo(entry))
        _check_encodable(entry, "a stop entry")
        _limit_chars(entry, MAX_STOP_CHARS, "a stop entry")
    return tuple(value)


def _limit_chars(text: str, limit: int, what: str) -> None:
    if len(text) > limit:
        _refuse(
            f"{what} has {len(text)} characters; at most {limit} are allowed", maxChars=limit, actualChars=len(text)
        )


def _check_encodable(text: str, what: str) -> None:
    """JSON can spell half of a surrogate pair (`\\ud800`), which no UTF-8 text, and so no backend, can carry."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        _refuse(f"{what} contains an unpaired surrogate at character {error.start}: it is not valid Unicode text")


def _echo(value: object) -> object:
    """What a refusal may repeat of a wrong value: its shape, never the contents of a text or a container."""
    if isinstance(value, dict):
        return "[object]"
    if isinstance(value, list):
        return "[array]"
    if isinstance(value, str):
        return truncated(value, MAX_ECHOED_CHARS)
    return value


def _refuse(message: str, **details: object) -> NoReturn:
    raise RayError("invalid_request", message, details=details or None)
