"""When a backend refuses a request because of what the client put in it: whose fault it is, and what to do about it.

Only what names a JSON schema or tools is the client's: other refusals say that backend and gateway do not fit together.
"""

from __future__ import annotations

import re

from ray.errors import RayError
from ray.providers.reading import mapping, parse_json, text
from ray.providers.tool_calls import refusal, wants_tools
from ray.providers.upstream import upstream_status
from ray.types import InferenceRequest

TOOLS_REMEDY = (
    "the backend's model or chat template knows no tools. Start llama-server with --jinja and a model whose chat "
    "template has tools, or send the request without tools"
)
MAX_REASON_CHARS = 200
_PLACE = re.compile(r"line \d+, column \d+")
# What llama-server and its JSON parser put before what they quote of a request.
_QUOTES = re.compile(r"; (?:tools|messages) =|; last read:")


def as_clients_fault(error: RayError, request: InferenceRequest) -> RayError:
    """`invalid_request` with the field and the backend's reason, or `error` itself."""
    status = upstream_status(error)
    if error.code != "provider_upstream_error" or status not in (400, 422, 500, 501):
        return error
    said = upstream_message(error)
    if wants_tools(request):
        if "--jinja" in said:
            return refusal(TOOLS_REMEDY)
        if "tool call arguments" in said:
            # The parser quotes what it stumbled on, and arguments are nobody else's business: only the place is told.
            found = _PLACE.search(said)
            place = f" (at {found[0]})" if found else ""
            return RayError(
                "invalid_request",
                f"the arguments of an earlier tool call are not JSON, which the backend needs{place}: "
                "mend them or leave that call out",
                details={"field": "messages"},
            )
        if status in (400, 422) or "parse tools" in said or "parse messages" in said:
            return refusal(f"the backend refuses them ({_reason(said)})")
    if status in (400, 422) and request.json_schema is not None and _is_about_schema(said):
        return RayError(
            "invalid_request",
            f"the backend cannot hold an answer to this JSON schema ({_reason(said)}): simplify it",
            details={"field": "response_format.json_schema"},
        )
    return error


def _is_about_schema(said: str) -> bool:
    """llama-server makes a grammar of the schema; a very large one it can make, but not use."""
    return "schema" in said.lower() or "grammar" in said.lower()


def upstream_message(error: RayError) -> str:
    """What a backend said when it refused, "" when it said nothing that can be read."""
    body = mapping(error.details).get("body")
    try:
        document = parse_json(body) if isinstance(body, str) else body
    except ValueError:
        return ""
    given = mapping(document)
    return text(mapping(given.get("error")).get("message"), 4_096) or text(given.get("message"), 4_096) or ""


def _reason(said: str) -> str:
    """The end of the backend's sentence, which names the place; without what it quotes of the request."""
    lines = [line.strip() for line in _QUOTES.split(said, 1)[0].splitlines() if line.strip()]
    return (lines[-1] if lines else "without a reason")[-MAX_REASON_CHARS:]
