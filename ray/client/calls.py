"""One call of the gateway as a value: what is sent, and what may be sent again. No sockets.

Everything that can be known to be wrong without asking is refused here, before a connection is opened: RayRequestError.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn
from urllib.parse import quote, urlencode

from ray.client.errors import RayRequestError
from ray.client.options import Options
from ray.questions import InferFields, JobFields, Question, body_of
from ray.version import VERSION

MAX_JOB_WAIT_SECONDS = 20
MAX_PAGE = 100

# What may be sent once more, and after what:
#   always:  it changes nothing, or twice is the same as once
#   refused: it is work for the model, so not while the first may still be running; after a refusal that says when
#   rejected: it makes something, so only when the gateway itself says that nothing was made
Repeat = Literal["always", "refused", "rejected"]

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Call:
    """`path`: with its query, below the address's prefix. `headers`: beside those of the options."""

    method: str
    path: str
    repeat: Repeat
    body: bytes | None = field(default=None, repr=False)  # what was asked stays out of error reports
    headers: tuple[tuple[str, str], ...] = ()
    is_stream: bool = False

    @property
    def shown(self) -> str:
        """The call in an error message: the query may hold a cursor, which helps nobody."""
        return f"{self.method} {self.path.partition('?')[0]}"


def headers_of(call: Call, options: Options) -> list[tuple[str, str]]:
    """The header lines of a call. The content type stands there without a body, too; the user's own win."""
    own = {
        "accept": "text/event-stream, application/json" if call.is_stream else "application/json",
        "user-agent": f"ray-client/{VERSION}",
    }
    return list({**own, **dict(options.headers), "content-type": "application/json", **dict(call.headers)}.items())


def infer_call(
    request: Question | None, fields: Mapping[str, object], options: Options, *, stream: bool = False
) -> Call:
    document = _document(request, fields, InferFields)
    if not stream and document.get("stream") is True:
        _refuse("infer() answers in one piece: use stream() for a request with stream")
    if stream:
        document["stream"] = True
    return Call("POST", "/v1/infer", "refused", _body(document, options), is_stream=stream)


def chat_call(request: Question | Sequence[Mapping[str, object]], options: Options, *, stream: bool = False) -> Call:
    """`request`: the whole JSON object, only its messages, or only the text of one user message."""
    if isinstance(request, Mapping):
        document = dict(request)
    elif isinstance(request, str):
        document = {"messages": [{"role": "user", "content": request}]}
    elif isinstance(request, Sequence):
        document = {"messages": list(request)}
    else:
        _refuse("a chat is a mapping, as the JSON object of the route, a list of messages, or a string")
    if not stream and document.get("stream") is True:
        _refuse("chat() answers in one piece: use stream_chat() for a request with stream")
    if stream:
        document["stream"] = True
    return Call("POST", "/v1/chat/completions", "refused", _body(document, options), is_stream=stream)


def embeddings_call(texts: str | Sequence[str], model: str | None, options: Options) -> Call:
    document: dict[str, object] = {"input": texts if isinstance(texts, str) else list(texts)}
    if model is not None:
        document["model"] = model
    return Call("POST", "/v1/embeddings", "refused", _body(document, options))


def get_call(path: str) -> Call:
    return Call("GET", path, "always")


def model_call(model: str) -> Call:
    if not isinstance(model, str) or not model:
        _refuse("the id of a model is a string that is not empty")
    return get_call(f"/v1/models/{quote(model, safe='', errors='replace')}")


def create_job_call(
    request: Question | None, fields: Mapping[str, object], idempotency_key: str | None, options: Options
) -> Call:
    """With an idempotency key a job can be submitted again whatever happened: the gateway makes one at most."""
    body = _body(_document(request, fields, JobFields), options)
    if idempotency_key is None:
        return Call("POST", "/v1/jobs", "rejected", body)
    if not isinstance(idempotency_key, str) or not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        _refuse("an idempotency key has 1 to 255 visible ASCII characters")
    return Call("POST", "/v1/jobs", "always", body, (("idempotency-key", idempotency_key),))


def job_call(job_id: str, wait_seconds: int = 0) -> Call:
    path = _job_path(job_id)
    if (
        isinstance(wait_seconds, bool)
        or not isinstance(wait_seconds, int)
        or not 0 <= wait_seconds <= MAX_JOB_WAIT_SECONDS
    ):
        _refuse(f"wait_seconds must be a whole number from 0 to {MAX_JOB_WAIT_SECONDS}: use wait_job() to wait longer")
    return get_call(f"{path}?wait={wait_seconds}" if wait_seconds else path)


def cancel_call(job_id: str) -> Call:
    return Call("POST", f"{_job_path(job_id)}/cancel", "always")


def delete_call(job_id: str) -> Call:
    """Not sent again after a broken connection: the second answer would be that there is no such job."""
    return Call("DELETE", _job_path(job_id), "rejected")


def jobs_call(status: str | None, page_size: int, cursor: str | None = None) -> Call:
    if isinstance(page_size, bool) or not isinstance(page_size, int) or not 1 <= page_size <= MAX_PAGE:
        _refuse(f"page_size must be a whole number from 1 to {MAX_PAGE}")
    query = {"limit": str(page_size)}
    if status is not None:
        query["status"] = status
    if cursor is not None:
        query["cursor"] = cursor
    return get_call(f"/v1/jobs?{urlencode(query)}")


def _job_path(job_id: str) -> str:
    if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        _refuse("a job id has 1 to 128 letters, digits, underscores and hyphens")
    return f"/v1/jobs/{job_id}"


def _document(request: Question | None, fields: Mapping[str, object], known: type[InferFields]) -> dict[str, object]:
    """The JSON object of a request. Raises TypeError for a keyword that does not exist."""
    if request is not None and not isinstance(request, str | Mapping):
        _refuse("a request is a mapping, as the JSON object of the route, or a string")
    return body_of(request, fields, known)


def _body(document: Mapping[str, object], options: Options) -> bytes:
    """The document as JSON, within the limit. NaN, cycles, foreign objects and lone surrogates are no JSON."""
    try:
        body = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        # UnicodeEncodeError is a ValueError whose text shows what was to be sent.
        reason = "it holds half a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)
        raise RayRequestError(f"the request cannot be written as JSON: {reason}") from None
    limit = options.request_body_limit_bytes
    if len(body) > limit:
        _refuse(f"the request has {len(body)} bytes, and request_body_limit_bytes allows {limit}")
    return body


def _refuse(message: str) -> NoReturn:
    raise RayRequestError(message)
