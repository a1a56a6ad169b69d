"""HTTP to one model backend: requests and answers are JSON, every failure is a `RayError`.

Shared by the backends that are reached over HTTP, so that limits, headers, the API key and the meaning of failures
stand once. No retries: whether a failed request may be sent again is not known here.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from ray.clock import Deadline
from ray.errors import RayError
from ray.http import (
    ClientError,
    ClientResponseTooLarge,
    ClientStream,
    ClientTimeout,
    HttpClient,
    SseDecoder,
)
from ray.providers.base import CallContext
from ray.providers.reading import count, is_json_media_type, mapping, parse_json, text

MAX_BODY_BYTES = 1_048_576
MAX_ERROR_BODY_BYTES = 4_096
MAX_API_KEY_CHARS = 1_024
LOADING_RETRY_SECONDS = 2
# For calls that no request waits for: only the adapter's timeout bounds them.
UNLIMITED = Deadline(math.inf)
# How long tokens wait for the next ones; the first never does. Up to 25 tokens a second each one that somebody watches
# is passed on at once, and faster ones come 25 times a second: no eye sees the difference, and every wake-up saved is
# processor time for the model. An answer that nobody watches has to be read only so often that no socket fills up.
WATCHED_GATHER_S = 0.04
UNWATCHED_GATHER_S = 0.25


class UpstreamSettings(Protocol):
    """The part of an adapter's configuration that concerns HTTP."""

    @property
    def base_url(self) -> str: ...
    @property
    def timeout_ms(self) -> int: ...
    @property
    def api_key_env(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


def gather_seconds(context: CallContext) -> float:
    """How long the tokens of this call may wait for more of them."""
    return WATCHED_GATHER_S if context.is_watched() else UNWATCHED_GATHER_S


class AnswerStream:
    """A 2xx answer to a request that asked for a stream. A server that ignored the wish answers with one document.

    Iterating gives the `data` of the server-sent events that arrived together: never an empty list.
    """

    def __init__(self, upstream: Upstream, path: str, stream: ClientStream) -> None:
        self._upstream = upstream
        self._path = path
        self._stream = stream
        self._decoder = SseDecoder(MAX_BODY_BYTES)

    @property
    def is_event_stream(self) -> bool:
        return _content_type(self._stream.headers).partition(";")[0].strip().lower() == "text/event-stream"

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> list[str]:
        """Raises `provider_invalid_response` when one event exceeds 1 MiB."""
        while True:
            piece = await anext(self._stream)
            try:
                events = self._decoder.feed(piece)
            except ValueError as error:
                raise self._upstream.invalid(self._path, f"holds an unusable event: {error}") from None
            if events:
                return [data for _, data in events]

    async def document(self) -> object:
        """The whole answer, as `Upstream.call` gives it."""
        declared = self._stream.declared_length
        content_type = _content_type(self._stream.headers)
        if declared is not None and declared > MAX_BODY_BYTES:
            raise ClientResponseTooLarge(0, MAX_BODY_BYTES, declared, content_type)
        body = bytearray()
        async for piece in self._stream:
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise ClientResponseTooLarge(len(body), MAX_BODY_BYTES, declared, content_type)
        return self._upstream.decoded(self._path, self._stream.status, self._stream.headers, bytes(body))


class Upstream:
    """One backend. `environ` is where the API key is looked up, at every request, by the name in the settings."""

    def __init__(self, settings: UpstreamSettings, environ: Mapping[str, str], *, threads: int, name: str) -> None:
        self._settings = settings
        self._environ = environ
        self._client = HttpClient(settings.base_url, threads=threads, name=name)

    @property
    def base_path(self) -> str:
        return self._client.base_path

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        deadline: Deadline | None = None,
        timeout_ms: float | None = None,
    ) -> object:
        """One exchange. Returns the parsed JSON of a 2xx answer, its text if it is of another media type, None for 204.

        `timeout_ms`: at most that long, and never longer than the adapter's timeout or `deadline`, that of the request
        on whose behalf this call is made, if there is one.
        Codes: `provider_upstream_error`, `request_context_window_exceeded`, `provider_timeout`, `request_timeout`,
        `provider_request_failed`, `provider_response_too_large`, `provider_request_too_large`,
        `provider_invalid_response`.
        """
        deadline = deadline or UNLIMITED
        allowed_ms = self._allowed_ms(timeout_ms)
        data = self._encoded(path, body)
        key = self._api_key(path)
        with self._failures(path, allowed_ms, deadline):
            response = await self._client.request(
                method,
                path,
                headers=self._request_headers(key),
                body=data,
                deadline=deadline.within_ms(allowed_ms),
                max_body_bytes=MAX_BODY_BYTES,
                error_body_bytes=MAX_ERROR_BODY_BYTES,
            )
        if not 200 <= response.status < 300:
            raise self._refused(path, response.status, response.headers, response.body, response.truncated, key)
        return self.decoded(path, response.status, response.headers, response.body)

    @asynccontextmanager
    async def stream(
        self, path: str, body: object, *, deadline: Deadline, gather_seconds: Callable[[], float] | None = None
    ) -> AsyncIterator[AnswerStream]:
        """POST, and read a 2xx answer as it arrives. Leaving the block closes the connection. Codes as for `call`,
        `gather_seconds` as for `HttpClient.stream`."""
        allowed_ms = self._allowed_ms(None)
        data = self._encoded(path, body)
        key = self._api_key(path)
        with self._failures(path, allowed_ms, deadline):
            async with self._client.stream(
                "POST",
                path,
                headers=self._request_headers(key),
                body=data,
                deadline=deadline.within_ms(allowed_ms),
                error_body_bytes=MAX_ERROR_BODY_BYTES,
                gather_seconds=gather_seconds,
            ) as stream:
                if not stream.is_success:
                    error = await stream.read_error_body()
                    raise self._refused(path, stream.status, stream.headers, error.data, error.truncated, key)
                yield AnswerStream(self, path, stream)

    async def close(self) -> None:
        await self._client.close()

    def decoded(self, path: str, status: int, headers: Mapping[str, str], body: bytes) -> object:
        """The value of a 2xx body."""
        if status == 204:
            return None
        content_type = _content_type(headers)
        if not is_json_media_type(content_type):
            return body.decode("utf-8", "replace")
        try:
            return parse_json(body)
        except ValueError as error:
            raise self.invalid(
                path,
                f"is not JSON ({error})",
                {"contentType": content_type, "bodyBytes": len(body), "error": str(error)},
            ) from None

    def invalid(self, path: str, what: str, details: Mapping[str, object] | None = None) -> RayError:
        """`provider_invalid_response` for an answer that cannot be used."""
        pathname = self.base_path + path
        return RayError(
            "provider_invalid_response",
            f"the model backend's answer to {pathname} {what}",
            details={"pathname": pathname, **(details or {})},
        )

    def reported(self, path: str, error: object) -> RayError:
        """The failure that a backend reports inside an answer which had begun with status 200."""
        given = mapping(error)
        status = count(given.get("code"))
        return self._upstream_error(
            path, status if status is not None and status >= 400 else 500, given, details={"body": error}
        )

    def _allowed_ms(self, timeout_ms: float | None) -> float:
        return self._settings.timeout_ms if timeout_ms is None else min(self._settings.timeout_ms, timeout_ms)

    def _encoded(self, path: str, body: object) -> bytes | None:
        if body is None:
            return None
        # Compact, and without escapes: the cap counts bytes, and every byte is parsed again by the backend.
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        if len(data) > MAX_BODY_BYTES:
            raise RayError(
                "provider_request_too_large",
                f"the request to the model backend has {len(data)} bytes; at most {MAX_BODY_BYTES} are sent",
                details={"pathname": self.base_path + path, "bodyBytes": len(data), "limitBytes": MAX_BODY_BYTES},
            )
        return data

    def _api_key(self, path: str) -> str | None:
        """The key from the environment; None when no variable is named or it is not set."""
        name = self._settings.api_key_env
        key = self._environ.get(name) if name else None
        if key is None:
            return None
        if not key or len(key) > MAX_API_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
            raise RayError(
                "provider_request_failed",
                f"the API key in the environment variable {name} is empty, longer than {MAX_API_KEY_CHARS} characters "
                "or holds white space, control or non-ASCII characters: set it to the backend's key, or unset it",
                details={"pathname": self.base_path + path, "apiKeyEnv": name},
            )
        return key

    def _request_headers(self, key: str | None) -> list[tuple[str, str]]:
        """Fixed, configured, then the key, which replaces a configured `Authorization` in whatever case."""
        headers = [("content-type", "application/json")]
        for name, value in self._settings.headers.items():
            if key is None or name.lower() != "authorization":
                headers.append((name, value))
        if key is not None:
            headers.append(("authorization", f"Bearer {key}"))
        return headers

    @contextmanager
    def _failures(self, path: str, allowed_ms: float, deadline: Deadline) -> Iterator[None]:
        """The client's failures as `RayError`s."""
        pathname = self.base_path + path
        try:
            yield
        except ClientTimeout:
            if deadline.expired():
                raise RayError(
                    "request_timeout",
                    f"the request's deadline passed while the model backend worked on {pathname}",
                    details={"pathname": pathname},
                ) from None
            raise RayError(
                "provider_timeout",
                f"the model backend did not finish {pathname} within {allowed_ms:g} ms",
                details={"pathname": pathname, "timeoutMs": allowed_ms},
            ) from None
        except ClientResponseTooLarge as error:
            details: dict[str, object] = {
                "pathname": pathname,
                "contentType": error.content_type,
                "bytesRead": error.bytes_read,
                "limitBytes": error.limit_bytes,
            }
            if error.declared_length is not None:
                details["declaredContentLength"] = error.declared_length
            raise RayError(
                "provider_response_too_large",
                f"the model backend's answer to {pathname} exceeds {error.limit_bytes} bytes",
                details=details,
            ) from None
        except ClientError as error:
            raise RayError(
                "provider_request_failed",
                f"the exchange with the model backend on {pathname} failed: {error}",
                details={"pathname": pathname, "error": str(error)},
            ) from None

    def _refused(
        self, path: str, status: int, headers: Mapping[str, str], body: bytes, truncated: bool, key: str | None
    ) -> RayError:
        """An answer that is no success."""
        content_type = _content_type(headers)
        document: object = None
        shown = body.decode("utf-8", "replace")
        if is_json_media_type(content_type) and not truncated:
            try:
                document = _without_stacks(parse_json(body))
                shown = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
            except (ValueError, RecursionError):
                document = None
        if key is not None:
            shown = shown.replace(key, "[redacted]")
        details: dict[str, object] = {
            "body": shown,
            "truncated": truncated,
            "bytesRead": len(body),
            "limitBytes": MAX_ERROR_BODY_BYTES,
            "contentType": content_type,
        }
        return self._upstream_error(path, status, mapping(mapping(document).get("error")), details)

    def _upstream_error(
        self, path: str, status: int, given: Mapping[str, object], details: Mapping[str, object]
    ) -> RayError:
        """The finest code for what a backend's error object and status say (llama-server's `error.type`)."""
        pathname = self.base_path + path
        details = {**details, "pathname": pathname, "upstreamStatus": status}
        if given.get("type") == "exceed_context_size_error":
            prompt, window = count(given.get("n_prompt_tokens")), count(given.get("n_ctx"))
            known = {"promptTokens": prompt, "contextWindow": window}
            return RayError(
                "request_context_window_exceeded",
                "the prompt does not fit into the model's context window: shorten it"
                + (f" ({prompt} tokens, the window holds {window})" if prompt and window else ""),
                details={**{name: value for name, value in known.items() if value is not None}, **details},
            )
        if status == 503 and "loading" in (text(given.get("message")) or str(details.get("body", ""))).lower():
            return RayError(
                "provider_upstream_error",
                "the model backend is still loading its model: try again shortly",
                details=details,
                status=503,
                retry_after=LOADING_RETRY_SECONDS,
            )
        return RayError(
            "provider_upstream_error", f"the model backend answered {pathname} with status {status}", details=details
        )


def upstream_status(error: RayError) -> int | None:
    """The HTTP status with which a backend refused, if that is what `error` is about."""
    return count(mapping(error.details).get("upstreamStatus"))


def is_loading(error: RayError) -> bool:
    """Whether the backend said that its model is not there yet."""
    return upstream_status(error) == 503 and error.status == 503


def _content_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "")


def _without_stacks(value: object) -> object:
    """The document without any key spelled `stack`: a backend's stack trace helps nobody who reads an error."""
    if isinstance(value, dict):
        return {key: _without_stacks(item) for key, item in value.items() if key.lower() != "stack"}
    if isinstance(value, list):
        return [_without_stacks(item) for item in value]
    return value
