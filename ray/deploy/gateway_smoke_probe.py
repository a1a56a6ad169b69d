"""Questions to the gateway under test: small answers, JSON only, no redirect followed, no key sent twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ray.clock import Deadline
from ray.deploy.failures import DeployError
from ray.http import ClientError, HttpClient

MAX_BODY_BYTES = 262_144


class SmokeFailed(DeployError):
    """The gateway did not do what it has to. The message names the step and what came instead."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Gateway smoke: {message}", code="gateway_smoke_failed")


@dataclass(frozen=True, slots=True)
class Answer:
    """`asked`: method and path, for messages. `document`: the JSON object of the body, None when it is none."""

    asked: str
    status: int
    document: Mapping[str, object] | None

    def expect(self, status: int) -> Mapping[str, object]:
        """The body of an answer with this status. Raises `SmokeFailed`."""
        if self.status != status:
            raise SmokeFailed(f"{self.asked} answered {self.status}{self._code()} instead of {status}")
        if self.document is None:
            raise SmokeFailed(f"{self.asked} answered {status} with a body that is not a JSON object")
        return self.document

    def _code(self) -> str:
        error = (self.document or {}).get("error")
        return f" ({error.get('code')})" if isinstance(error, Mapping) else ""


class Probe:
    """One gateway, asked over its socket; `timeout_ms` for each question. To be entered with `async with`."""

    def __init__(self, base_url: str, timeout_ms: int) -> None:
        self.timeout_ms = timeout_ms
        self._client = HttpClient(base_url, threads=2, name="gateway-smoke")

    async def __aenter__(self) -> Probe:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        timeout_ms: int | None = None,
    ) -> Answer:
        """One question. Raises `SmokeFailed` when no whole answer comes in time or it is too large."""
        headers = [("accept", "application/json")]
        if key is not None:
            headers.append(("authorization", f"Bearer {key}"))
        if body is not None:
            headers.append(("content-type", "application/json"))
        try:
            answer = await self._client.request(
                method,
                path,
                headers=headers,
                body=None if body is None else json.dumps(body).encode(),
                deadline=Deadline.after_ms(self.timeout_ms if timeout_ms is None else timeout_ms),
                max_body_bytes=MAX_BODY_BYTES,
            )
        except ClientError as error:
            raise SmokeFailed(f"{method} {path}: {error}") from error
        return Answer(f"{method} {path}", answer.status, _json_object(answer.body))


def text_in(document: Mapping[str, object], name: str, asked: str) -> str:
    """A text that has to be there and not empty. Raises `SmokeFailed`."""
    text = document.get(name)
    if not isinstance(text, str) or not text:
        raise SmokeFailed(f"{asked} answered without {name}")
    return text


def block_in(document: Mapping[str, object], name: str, asked: str) -> Mapping[str, object]:
    """An object that has to be there. Raises `SmokeFailed`."""
    block = document.get(name)
    if not isinstance(block, dict):
        raise SmokeFailed(f"{asked} answered without {name}")
    return block


def _json_object(body: bytes) -> Mapping[str, object] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
