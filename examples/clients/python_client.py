"""Ray from Python with nothing but the standard library: an answer, a stream, and errors that are worth a retry.

    RAY_URL=http://127.0.0.1:3000 RAY_API_KEY=... python3 examples/clients/python_client.py "Why is the sky blue?"

Copy what you need.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

# A little more than the gateway's own limit (`scheduler.requestTimeoutMs`), so that its answer comes first.
TIMEOUT_SECONDS = 150
ATTEMPTS = 4


class RayRefused(Exception):
    """What the gateway said instead of an answer. `retry_after`: seconds, or None when retrying is pointless."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.retry_after = retry_after


def infer(url: str, request: Mapping[str, object], key: str | None = None) -> dict[str, object]:
    """One whole answer. Raises `RayRefused`."""
    connection, response = _post(url, request, key)
    try:
        document: dict[str, object] = json.loads(response.read())
        return document
    finally:
        connection.close()


def infer_patiently(url: str, request: Mapping[str, object], key: str | None = None) -> dict[str, object]:
    """`infer`, again after the time the gateway names when it is busy. Raises `RayRefused` when that does not help."""
    for _ in range(ATTEMPTS - 1):
        try:
            return infer(url, request, key)
        except RayRefused as refusal:
            if refusal.retry_after is None:
                raise
            time.sleep(refusal.retry_after)
    return infer(url, request, key)


def stream(url: str, request: Mapping[str, object], key: str | None = None) -> Iterator[str]:
    """The pieces of an answer as they come. Raises `RayRefused`, also in the middle.

    Leaving the loop early closes the connection, and that stops the model.
    """
    connection, response = _post(url, {**request, "stream": True}, key)
    try:
        for event, data in _events(response):
            if event == "token":
                yield json.loads(data)["text"]
            elif event == "error":
                error = json.loads(data)["error"]
                raise RayRefused(200, error["code"], error["message"], None)
            elif event == "result":
                return
        raise ConnectionError("the stream ended without a result")
    finally:
        connection.close()


def _post(
    url: str, request: Mapping[str, object], key: str | None
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    address = urlsplit(url)
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname or "127.0.0.1", address.port, timeout=TIMEOUT_SECONDS)
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request("POST", address.path.rstrip("/") + "/v1/infer", json.dumps(request).encode(), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response)
    except BaseException:
        connection.close()
        raise
    return connection, response


def _refusal(response: http.client.HTTPResponse) -> RayRefused:
    retry_after = response.getheader("retry-after")
    body = response.read()
    try:
        error = json.loads(body)["error"]
        code, message = error["code"], error["message"]
    except (ValueError, KeyError, TypeError):
        # Not Ray's own answer: most likely the reverse proxy in front of it.
        code, message = "no_error_object", body[:200].decode("utf-8", "replace")
    # Ray writes whole seconds; a proxy may also write a date, which is not worth waiting for.
    seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
    return RayRefused(response.status, code, message, seconds)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    event = "message"
    for raw in response:
        line = raw.decode("utf-8").rstrip("\r\n")
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield event, line.removeprefix("data: ")


def main() -> int:
    url = os.environ.get("RAY_URL", "http://127.0.0.1:3000")
    key = os.environ.get("RAY_API_KEY")
    question = " ".join(sys.argv[1:]) or "Name three uses of a small language model."
    try:
        for piece in stream(url, {"input": question, "maxTokens": 120}, key):
            print(piece, end="", flush=True)
        print()
        answer = infer_patiently(url, {"input": question, "maxTokens": 20, "seed": 1}, key)
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    except (RayRefused, OSError, http.client.HTTPException) as error:
        print(f"python_client: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
