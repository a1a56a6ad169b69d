"""The values that fill a template: from JSON to text, within the limits of a request."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn

from ray.errors import RayError, truncated
from ray.prompts.control_tokens import count_control_tokens, defused
from ray.prompts.templates import Template, render

MAX_VARIABLES = 32
MAX_NAME_CHARS = 128
MAX_VALUE_CHARS = 16_384
MAX_WHOLE_FLOAT = 10**21  # beyond it the digits of a float are no longer meant
MAX_NUMBER_BITS = 1_024  # an integer of at most 309 digits, which is what the largest float has
_FIELD = "templateVariables"


def template_values(template: Template, given: object) -> Mapping[str, str]:
    """The text for each variable: trimmed, with the control tokens of models broken. An empty text will do.

    `given`: the JSON value of `templateVariables`. Raises `RayError` invalid_request with the field or the names.
    """
    if not isinstance(given, Mapping):
        _refuse("templateVariables must be an object of strings, numbers or booleans")
    if len(given) > MAX_VARIABLES:
        _refuse(
            f"templateVariables has {len(given)} entries; at most {MAX_VARIABLES} are allowed",
            maxEntries=MAX_VARIABLES,
            actualEntries=len(given),
        )
    for name in given:
        _check_name(name)
    unsupported = [name for name in given if name not in template.variables]
    if unsupported:
        supported = ", ".join(template.variables) or "no variables"
        _refuse(
            f"template {template.id} does not know {', '.join(unsupported)}; it takes {supported}",
            templateId=template.id,
            unsupportedKeys=unsupported,
            supportedKeys=list(template.variables),
        )
    missing = [name for name in template.variables if name not in given]
    if missing:
        _refuse(
            f"template {template.id} needs a value for {', '.join(missing)} in templateVariables",
            templateId=template.id,
            missingVariables=missing,
        )
    values = {name: defused(text_of(name, given[name]).strip()) for name in template.variables}
    _check_rendering(template, values)
    return MappingProxyType(values)


def text_of(name: str, value: object) -> str:
    """A value as the prompt shows it: `true`, `3` for `3.0`. Raises `RayError` invalid_request."""
    text = _as_text(name, value)
    if len(text) > MAX_VALUE_CHARS:
        _refuse(
            f"template variable {name} has {len(text)} characters; at most {MAX_VALUE_CHARS} are allowed",
            key=name,
            maxChars=MAX_VALUE_CHARS,
            actualChars=len(text),
        )
    _check_encodable(text, f"template variable {name}")
    return text


def _check_rendering(template: Template, values: Mapping[str, str]) -> None:
    """What no single value can tell: that words are left, and that no control token appears where values meet."""
    text, system = render(template, values)
    if not text.strip():
        _refuse(
            f"template {template.id} has no text with these values: send one that is not blank", templateId=template.id
        )
    own = count_control_tokens(template.input) + count_control_tokens(template.system or "")
    if count_control_tokens(text) + count_control_tokens(system or "") > own:
        _refuse(
            f"the values for template {template.id} form a control token of a model where they meet its text",
            templateId=template.id,
        )


def _as_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if value.bit_length() > MAX_NUMBER_BITS:  # Python refuses to print a number of more than 4300 digits
            _refuse(f"template variable {name} is a number of too many digits: send it as a string", key=name)
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            _refuse(f"template variable {name} must be a finite number", key=name)
        return str(int(value)) if value.is_integer() and abs(value) < MAX_WHOLE_FLOAT else repr(value)
    raise _refusal(f"template variable {name} must be a string, a number or a boolean", key=name)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip():
        _refuse("names in templateVariables must not be blank")
    _check_encodable(name, "a name in templateVariables")
    if len(name) > MAX_NAME_CHARS:
        _refuse(
            f"a name in templateVariables has {len(name)} characters; at most {MAX_NAME_CHARS} are allowed",
            key=truncated(name, MAX_NAME_CHARS),
            maxChars=MAX_NAME_CHARS,
            actualChars=len(name),
        )


def _check_encodable(text: str, what: str) -> None:
    """No UTF-8 text, and so no backend, can carry half of a surrogate pair."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        _refuse(f"{what} contains an unpaired surrogate at character {error.start}: it is not valid Unicode text")


def _refuse(message: str, **details: object) -> NoReturn:
    raise _refusal(message, **details)


def _refusal(message: str, **details: object) -> RayError:
    return RayError("invalid_request", message, details={"field": _FIELD} | details)
