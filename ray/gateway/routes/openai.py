"""The routes of the OpenAI-compatible protocol: chats, completions, models, embeddings.

They are another way of asking, not another way of answering: the same guards, the same pipeline, the same leaving as
`/v1/infer`. Source: http-api, section 17.
"""

from __future__ import annotations

import time

from ray.errors import RayError, truncated
from ray.gateway.answer_events import start_events
from ray.gateway.exchange import Exchange
from ray.gateway.json_request import read_json
from ray.gateway.openai.documents import (
    Identity,
    chat_completion,
    completion,
    embeddings_document,
    model_document,
)
from ray.gateway.openai.events import ChatEvents, CompletionEvents
from ray.gateway.openai.fields import CHAT_FIELDS, COMPLETION_FIELDS, EMBEDDING_FIELDS
from ray.gateway.openai.requests import Asked, chat_request, completion_request, embedding_request
from ray.gateway.responses import json_response
from ray.gateway.routes.route import BACKEND_CODES, Route
from ray.gateway.services import Services
from ray.http import Response
from ray.runtime import Field, Reader, Text

MODEL_PREFIX = "/v1/models/"
DEGRADED_HEADER = "x-ray-degraded"
MAX_SHOWN_MODEL_CHARS = 128
# OpenAI's clients repeat whatever failed with a status of 500 or more, unless they are told not to.
NO_RETRY = ("x-should-retry", "false")


async def chat(services: Services, exchange: Exchange) -> Response:
    """The next turn of a conversation. Raises RayError as `/v1/infer`, and `model_not_found`."""
    asked = chat_request(await _body(services, exchange), services.config)
    reader = await _ask(services, exchange, asked)
    identity = _identity(services, exchange, "chatcmpl")
    if asked.streamed:
        return await start_events(reader, exchange, ChatEvents(identity, include_usage=asked.include_usage))
    async with reader:
        result = await reader.result()
    return json_response(200, chat_completion(identity, result), exchange.headers)


async def completions(services: Services, exchange: Exchange) -> Response:
    """The continuation of a prompt, which is read as it stands. Raises RayError as `chat`."""
    asked = completion_request(await _body(services, exchange), services.config)
    reader = await _ask(services, exchange, asked)
    identity = _identity(services, exchange, "cmpl")
    if asked.streamed:
        return await start_events(reader, exchange, CompletionEvents(identity, include_usage=asked.include_usage))
    async with reader:
        result = await reader.result()
    return json_response(200, completion(identity, result), exchange.headers)


async def embeddings(services: Services, exchange: Exchange) -> Response:
    """A vector for each text. Raises RayError `embeddings_unsupported` when the backend has none."""
    asked = embedding_request(await _body(services, exchange))
    check_model(services, asked.model)
    runtime = services.runtime
    exchange.reported = True  # what the runtime raises it has logged
    try:
        found = await runtime.embed(asked.texts, exchange.caller, runtime.new_deadline(), exchange.request_id)
    except RayError as error:
        if error.code == "embeddings_unsupported":
            exchange.headers.append(NO_RETRY)
        raise
    return json_response(200, embeddings_document(found, as_base64=asked.as_base64), exchange.headers)


async def models(services: Services, exchange: Exchange) -> Response:
    """The models that can be asked, each under its configured id."""
    return json_response(200, {"object": "list", "data": [_model(services)]}, exchange.headers)


async def model(services: Services, exchange: Exchange) -> Response:
    """One model, by its id or an alias. Raises RayError `model_not_found`."""
    check_model(services, model_id(exchange.request.path))
    return json_response(200, _model(services), exchange.headers)


def model_id(path: str) -> str:
    """The id in a path of `/v1/models/{id}`: all of the rest, percent-decoded."""
    identifier = path[len(MODEL_PREFIX) :]
    if "%" in identifier:
        from urllib.parse import unquote  # most ids need no escapes

        identifier = unquote(identifier)
    return identifier


def check_model(services: Services, name: str | None) -> None:
    """Is this the model that is served here? None: whichever it is. Raises RayError `model_not_found`."""
    if name is None or name in known_models(services):
        return
    raise RayError(
        "model_not_found",
        f"the model {truncated(name, MAX_SHOWN_MODEL_CHARS)!r} is not served here: GET /v1/models lists what is",
    )


def known_models(services: Services) -> tuple[str, ...]:
    """The names under which the model may be asked for: its configured id first, then its aliases."""
    config = services.config.model
    adapter = config.adapter
    names = [config.id, services.runtime.model_id]
    if adapter.kind != "mock":
        names.append(adapter.model_ref)
    if adapter.kind == "llama.cpp" and adapter.launch_profile is not None:
        names.append(adapter.launch_profile.alias or "")
    return tuple(dict.fromkeys(name for name in names if name))


def _model(services: Services) -> dict[str, object]:
    config = services.config.model
    facts: dict[str, object] = {
        "aliases": list(known_models(services)[1:]),
        "contextWindow": config.context_window,
        "maxOutputTokens": config.max_output_tokens,
    }
    return model_document(config.id, int(services.started_at), facts)


async def _body(services: Services, exchange: Exchange) -> object:
    return await read_json(exchange.request, services.config.server.request_body_limit_bytes)


async def _ask(services: Services, exchange: Exchange, asked: Asked) -> Reader:
    """A reader of the answer; whether the request was shortened is known from here on, and told in a header."""
    check_model(services, asked.model)
    runtime = services.runtime
    reader = await runtime.generate(asked.request, exchange.caller, runtime.new_deadline(), exchange.request_id)
    exchange.reported = True  # what a reader raises has been logged by the runtime
    if reader.degraded:
        exchange.headers.append((DEGRADED_HEADER, ",".join(reader.degradation_reasons)))
    return reader


def _identity(services: Services, exchange: Exchange, kind: str) -> Identity:
    """The answer's own id ends as Ray's id of the request does, by which it is found in the log."""
    suffix = exchange.inference_id.partition("_")[2]
    return Identity(f"{kind}-{suffix}", services.runtime.model_id, int(time.time()))


_CODES = ("invalid_request", "model_not_found", *BACKEND_CODES)
CHAT_COMPLETIONS = Route(
    "POST",
    "/v1/chat/completions",
    chat,
    limited=True,
    error_style="openai",
    doc="The next turn of a conversation, as OpenAI clients ask for it.",
    request=CHAT_FIELDS,
    null_is_absent=True,
    responses={200: "ChatCompletion"},
    answer_headers=(DEGRADED_HEADER,),
    codes=_CODES,
)
COMPLETIONS = Route(
    "POST",
    "/v1/completions",
    completions,
    limited=True,
    error_style="openai",
    doc="The continuation of a prompt, as OpenAI clients ask for it.",
    request=COMPLETION_FIELDS,
    null_is_absent=True,
    responses={200: "Completion"},
    answer_headers=(DEGRADED_HEADER,),
    codes=_CODES,
)
EMBEDDINGS = Route(
    "POST",
    "/v1/embeddings",
    embeddings,
    limited=True,
    error_style="openai",
    doc="A vector for each text, where the backend has them.",
    request=EMBEDDING_FIELDS,
    null_is_absent=True,
    responses={200: "EmbeddingList"},
    codes=(*_CODES, "embeddings_unsupported"),
)
MODELS = Route(
    "GET",
    "/v1/models",
    models,
    error_style="openai",
    doc="The models that can be asked.",
    responses={200: "ModelList"},
)
MODEL = Route(
    "GET",
    f"{MODEL_PREFIX}{{id}}",
    model,
    error_style="openai",
    doc="One model, by its id or an alias.",
    path=(Field("id", Text(min_chars=1), "The id; it may hold slashes."),),
    responses={200: "Model"},
    codes=("model_not_found",),
)
