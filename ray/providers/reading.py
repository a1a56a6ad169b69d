"""What may be believed of a backend's JSON: nothing without a look. Pure functions, no HTTP.

Counts are integers (never booleans) from 0 to 10^9, numbers are finite and in the same range; whatever else stands in
their place is treated as absent. `NaN` and `Infinity` are not JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ray.types import Counts, Timings

MAX_COUNT = 1_000_000_000
MAX_TEXT_CHARS = 262_144
MIN_TEXT_CHARS = 8_192
CHARS_PER_TOKEN_LIMIT = 64
_JSON_MEDIA_TYPE = re.compile(r"application/(?:json|[^\s/;,]+\+json)", re.IGNORECASE)


def parse_json(data: bytes | str) -> object:
    """The JSON document in `data` (UTF-8). Raises ValueError, whose text never quotes the document."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        document: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except UnicodeDecodeError:
        raise ValueError("the text is not UTF-8") from None
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    return document


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# One for all: `json.loads` with an option builds a new decoder for every token.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def is_json_media_type(content_type: str) -> bool:
    """Whether a Content-Type is exactly `application/json` or `application/*+json`, parameters aside."""
    return _JSON_MEDIA_TYPE.fullmatch(content_type.partition(";")[0].strip()) is not None


def is_json_object(text: str) -> bool:
    """Whether the whole text is one JSON object; outer white space is allowed, code fences are not."""
    try:
        return isinstance(parse_json(text), dict)
    except ValueError:
        return False


def is_json(text: str) -> bool:
    """Whether the whole text is one JSON document of any kind."""
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def mapping(value: object) -> Mapping[str, object]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def count(value: object, limit: int = MAX_COUNT) -> int | None:
    """`value` if it is an integer from 0 to `limit`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit:
        return value
    return None


def number(value: object) -> float | None:
    """`value` if it is a finite number from 0 to 10^9."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    return None


def text(value: object, limit: int = 512) -> str | None:
    """`value` if it is a string that is not empty, cut to `limit` characters."""
    return value[:limit] if isinstance(value, str) and value else None


def text_limit(max_tokens: int) -> int:
    """The longest answer, in characters, that `max_tokens` can honestly mean."""
    return min(max(CHARS_PER_TOKEN_LIMIT * max_tokens, MIN_TEXT_CHARS), MAX_TEXT_CHARS)


def openai_usage(value: object) -> Counts | None:
    """Token counts from an OpenAI `usage` object.

    A missing or unusable count is 0; all three missing means no usage. The total is the given one if it covers both
    parts, else their sum; a sum above 10^9 means that nothing here can be trusted.
    """
    usage = mapping(value)
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    total = count(usage.get("total_tokens"))
    if prompt is None and completion is None and total is None:
        return None
    least = (prompt or 0) + (completion or 0)
    if least > MAX_COUNT:
        return None
    return Counts(prompt or 0, completion or 0, total if total is not None and total >= least else least)


def timings(value: object, *, ttft_ms: float | None, total_ms: float) -> Timings:
    """What a `timings` object of llama-server says, with the times that were measured here.

    `ttft_ms` and `total_ms` are measured from the sending of the request, so they include the wait for a slot.
    Missing rates are computed from tokens and milliseconds.
    """
    given = mapping(value)
    prompt_ms, completion_ms = number(given.get("prompt_ms")), number(given.get("predicted_ms"))
    return Timings(
        ttft_ms=_rounded(ttft_ms),
        total_ms=_rounded(total_ms),
        prompt_ms=prompt_ms,
        completion_ms=completion_ms,
        prompt_tokens_per_second=_rate(given.get("prompt_per_second"), given.get("prompt_n"), prompt_ms),
        completion_tokens_per_second=_rate(given.get("predicted_per_second"), given.get("predicted_n"), completion_ms),
    )


def _rate(given: object, tokens: object, milliseconds: float | None) -> float | None:
    rate, amount = number(given), count(tokens)
    if rate is None and amount and milliseconds:
        rate = amount * 1000 / milliseconds
    return _rounded(rate)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
