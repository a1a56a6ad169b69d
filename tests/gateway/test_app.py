"""Every request's way through the gateway, over real sockets: routing, guards, bodies, headers, logs."""

from __future__ import annotations

import asyncio
import json

import pytest

from ray.errors import RayError
from tests.fakes.provider import FakeProvider
from tests.gateway.harness import Running, request_bytes, running

KEY = "sk-the-key"
AUTH: dict[str, object] = {"auth": {"enabled": True}}
ENVIRON = {"RAY_API_KEYS": KEY}
BEARER = {"authorization": f"Bearer {KEY}"}
JSON = {"content-type": "application/json"}
QUESTION = {"input": "hello"}


def limit(max_requests: int, **settings: object) -> dict[str, object]:
    return {"rateLimit": {"enabled": True, "maxRequests": max_requests, "windowMs": 60_000, **settings}}


# Routing


@pytest.mark.parametrize("path", ["/missing", "/livez/", "/Livez", "/v1", "/v1/jobs/", "/v1/jobs/a/b", "/%6civez"])
def test_given_an_unknown_path_when_asked_without_a_key_then_404_and_no_log_line(path: str) -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray:
            reply = await ray.ask("GET", path)
            assert (reply.status, reply.code) == (404, "not_found")
            assert ray.lines() == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/livez", "GET, HEAD"),
        ("OPTIONS", "/v1/infer", "POST"),
        ("GET", "/v1/infer", "POST"),
        ("HEAD", "/v1/infer", "POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("PUT", "/v1/jobs/job_1", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/job_1/cancel", "POST"),
        ("BREW", "/", "GET, HEAD"),
    ],
)
def test_given_a_known_path_with_a_wrong_method_then_405_names_the_right_ones(
    method: str, path: str, allowed: str
) -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray:
            reply = await ray.ask(method, path)
            assert (reply.status, reply.headers["allow"]) == (405, allowed)
            assert method == "HEAD" or reply.code == "method_not_allowed"
            assert ray.lines() == []

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/health", "/metrics", "/v1/config"])
def test_head_is_get_without_the_body(path: str) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            head = await client.ask("HEAD", path)
            get = await client.ask("GET", path)
            assert (head.status, head.body) == (get.status, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
            assert int(head.headers["content-length"]) > 0

    asyncio.run(main())


# Headers of every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/livez", 200), ("GET", "/missing", 404), ("PUT", "/livez", 405), ("POST", "/v1/infer", 415)],
)
def test_every_answer_names_its_request_and_is_not_stored(method: str, path: str, status: int) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask(method, path)
            assert reply.status == status
            assert reply.headers["cache-control"] == "no-store"
            assert reply.headers["content-type"] == "application/json; charset=utf-8"
            assert reply.headers["x-request-id"].startswith("req_")
            assert len(reply.headers["x-request-id"]) == len("req_") + 16
            assert "server" not in reply.headers
            assert reply.body.endswith(b"}\n")
            assert not reply.body.endswith(b"\n\n")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("my-request_1.2:3", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("ä", False), ("a,b", False)],
)
def test_a_sane_request_id_is_kept_and_another_replaced(sent: str, kept: bool) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask("GET", "/livez", headers={"x-request-id": sent})
            assert (reply.headers["x-request-id"] == sent) is kept

    asyncio.run(main())


def test_given_a_callers_request_id_when_answered_then_the_answers_own_id_is_fresh() -> None:
    async def main() -> None:
        async with running() as ray:
            replies = [await ray.post("/v1/infer", QUESTION, {"x-request-id": "mine"}) for _ in range(2)]
            assert [reply.headers["x-request-id"] for reply in replies] == ["mine", "mine"]
            ids = {str(reply.json()["id"]) for reply in replies}
            assert len(ids) == 2
            assert all(one.startswith("req_") and len(one) == 20 for one in ids)
            assert replies[1].json()["cached"] is True

    asyncio.run(main())


def test_given_no_request_id_when_answered_then_header_and_answer_agree() -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.post("/v1/infer", QUESTION)
            assert reply.headers["x-request-id"] == reply.json()["id"]

    asyncio.run(main())


# What HTTP itself refuses


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET http://[::1 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "invalid_request"),
        (b"GET /livez HTTP/1.1\r\nhost: http://example.com\r\n\r\n", 400, "invalid_request"),
        (b"GET /livez HTTP/1.1\r\nhost: a:0\r\n\r\n", 400, "invalid_request"),
        (b"GET /livez HTTP/1.1\r\nhost: a_b\r\n\r\n", 400, "invalid_request"),
        (b"GET http://other/livez HTTP/1.1\r\nhost: a\r\n\r\n", 400, "invalid_request"),
        (b"GET /" + b"x" * 8_193 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "request_target_too_large"),
        (b"GET /livez HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 12_288 + b"\r\n\r\n", 431, "request_headers_too_large"),
        (b"GET /livez HTTP/1.1\r\nhost: a\r\nexpect: wait-for-budget\r\n\r\n", 417, "unsupported_expectation"),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400, "invalid_http_request"),
        (b"nonsense\r\n\r\n", 400, "invalid_http_request"),
    ],
)
def test_a_refusal_of_http_has_the_same_shape_as_any_other(raw: bytes, status: int, code: str) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(raw)
            reply = await client.reply()
            assert (reply.status, reply.code) == (status, code)
            assert reply.headers["cache-control"] == "no-store"
            (line,) = ray.lines("request rejected")
            assert line["level"] == "warn"
            assert line["requestId"] == reply.headers["x-request-id"]
            error = line["error"]
            assert isinstance(error, dict)
            assert (error["code"], error["status"]) == (code, status)
            assert "stack" not in error

    asyncio.run(main())


def test_given_headers_beyond_the_cap_when_refused_then_the_line_says_parser_and_the_connection_ends() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(b"GET /secret-path?secret HTTP/1.1\r\nx: " + b"y" * 12_288 + b"\r\n\r\n")
            reply = await client.reply()
            assert reply.headers["connection"] == "close"
            (line,) = ray.lines()
            assert (line["method"], line["path"]) == ("[parser]", "[parser]")
            assert "secret" not in ray.log.getvalue()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("head", "path"),
    [
        (b"GET /health?token=secret HTTP/1.1\r\nhost: a\r\nexpect: now\r\n", "/health"),
        (b"GET /health?token=secret HTTP/1.1\r\nhost: a_b\r\n", "[invalid-url]"),
    ],
)
def test_the_log_shows_a_path_without_its_query(head: bytes, path: str) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(head + b"\r\n")
            await client.reply()
            (line,) = ray.lines()
            assert (line["method"], line["path"]) == ("GET", path)
            assert "secret" not in ray.log.getvalue()

    asyncio.run(main())


def test_the_log_shows_the_beginning_of_a_long_path() -> None:
    async def main() -> None:
        async with running() as ray:
            await ray.ask("GET", "/" + "a" * 4_000, headers={"expect": "something"})
            (line,) = ray.lines("request rejected")
            assert line["path"] == "/" + "a" * 255

    asyncio.run(main())


@pytest.mark.parametrize(
    "head",
    [
        b"GET http://127.0.0.1/livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: [::1]:3000\r\n\r\n",
        b"GET /livez?anything HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_accepted_targets_and_hosts_reach_their_route(head: bytes) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(head)
            assert (await client.reply()).status == 200

    asyncio.run(main())


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/livez", 200), ("POST", "/missing", 404)])
def test_given_a_body_that_never_comes_when_nobody_needs_it_then_the_answer_closes(
    method: str, path: str, status: int
) -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.send(request_bytes(method, path, headers={"content-length": "32"}))
            reply = await client.reply()
            assert (reply.status, reply.headers["connection"]) == (status, "close")

    asyncio.run(main())


# Bodies


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"content-type": "text/plain"}, b"{}", 415, "unsupported_media_type"),
        ({}, b"{}", 415, "unsupported_media_type"),
        ({**JSON, "content-encoding": "br"}, b"{}", 415, "unsupported_content_encoding"),
        (JSON, b"{", 400, "invalid_json"),
        (JSON, b'{"input":NaN}', 400, "invalid_json"),
        (JSON, b'{"input":"\xff"}', 400, "invalid_json"),
        (JSON, b"\xef\xbb\xbf{}", 400, "invalid_json"),
        (JSON, b"", 400, "invalid_request"),
        (JSON, None, 400, "invalid_request"),
        (JSON, b"null", 400, "invalid_request"),
        (JSON, b"[]", 400, "invalid_request"),
        (JSON, b'{"input":"x","cache":"false"}', 400, "invalid_request"),
        (JSON, b'{"input":"x","stream":1}', 400, "invalid_request"),
        (JSON, b'{"input":"x","stream":null}', 400, "invalid_request"),
        (JSON, b'{"input":"x","maxTokens":true}', 400, "invalid_request"),
        (JSON, b'{"input":"  "}', 400, "invalid_request"),
        (JSON, b'{"input":"' + b"x" * 40_000 + b'"}', 413, "body_too_large"),
    ],
)
def test_a_refused_body_is_one_warning_and_no_stack(
    headers: dict[str, str], body: bytes | None, status: int, code: str
) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask("POST", "/v1/infer", headers=headers, body=body)
            assert (reply.status, reply.code) == (status, code)
            assert b"stack" not in reply.body
            (line,) = ray.lines()
            assert (line["level"], line["message"], line["path"]) == ("warn", "request rejected", "/v1/infer")
            error = line["error"]
            assert isinstance(error, dict)
            assert set(error) == {"code", "status", "message", "name"}
            assert (await ray.gauges()).get("requests.errors") is None

    asyncio.run(main())


@pytest.mark.parametrize(
    "headers", [{"content-type": "application/vnd.ray+json; charset=utf-8"}, {**JSON, "content-encoding": "identity"}]
)
def test_accepted_kinds_of_bodies_are_answered(headers: dict[str, str]) -> None:
    async def main() -> None:
        async with running() as ray:
            reply = await ray.ask("POST", "/v1/infer", headers=headers, body=b'{"input":"x"}')
            assert reply.status == 200

    asyncio.run(main())


def test_given_a_declared_length_over_the_limit_when_nothing_is_sent_then_413_at_once_and_the_connection_ends() -> None:
    async def main() -> None:
        async with running({"server": {"requestBodyLimitBytes": 16}}) as ray, ray.connect() as client:
            await client.send(request_bytes("POST", "/v1/infer", headers={**JSON, "content-length": "17"}))
            reply = await client.reply()
            assert (reply.status, reply.code) == (413, "body_too_large")
            assert reply.details == {"limitBytes": 16, "declaredContentLength": 17}
            assert reply.headers["connection"] == "close"

    asyncio.run(main())


def test_given_a_chunked_body_when_it_crosses_the_limit_then_413_without_details() -> None:
    async def main() -> None:
        async with running({"server": {"requestBodyLimitBytes": 16}}) as ray, ray.connect() as client:
            head = request_bytes("POST", "/v1/infer", headers={**JSON, "transfer-encoding": "chunked"})
            await client.send(head + b"11\r\n" + b"x" * 17 + b"\r\n")
            reply = await client.reply()
            assert (reply.status, reply.code, reply.details) == (413, "body_too_large", {})
            assert reply.headers["connection"] == "close"

    asyncio.run(main())


# Expect: 100-continue


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({**JSON, **BEARER, "content-length": "999999"}, 413, "body_too_large"),
        ({**JSON, **BEARER, "transfer-encoding": "chunked"}, 411, "length_required"),
        ({**JSON, "authorization": "Bearer wrong", "content-length": "15"}, 401, "unauthorized"),
        ({**BEARER, "content-type": "text/plain", "content-length": "15"}, 415, "unsupported_media_type"),
        ({**JSON, **BEARER, "content-encoding": "gzip", "content-length": "15"}, 415, "unsupported_content_encoding"),
    ],
)
def test_no_refused_upload_is_told_to_continue(headers: dict[str, str], status: int, code: str) -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray, ray.connect() as client:
            await client.send(request_bytes("POST", "/v1/infer", headers={**headers, "expect": "100-continue"}))
            reply = await client.reply()
            assert (reply.status, reply.code, reply.interim) == (status, code, [])

    asyncio.run(main())


def test_given_no_budget_left_when_an_upload_asks_to_continue_then_429_and_no_100() -> None:
    async def main() -> None:
        async with running(limit(1)) as ray, ray.connect() as client:
            await client.post("/v1/infer", QUESTION)
            headers = {**JSON, "expect": "100-continue", "content-length": "15"}
            await client.send(request_bytes("POST", "/v1/infer", headers=headers))
            reply = await client.reply()
            assert (reply.status, reply.interim) == (429, [])
            assert int(reply.headers["retry-after"]) >= 1

    asyncio.run(main())


def test_given_an_acceptable_upload_when_it_asks_then_100_once_and_then_the_answer() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            body = b'{"input":"hello"}'
            headers = {**JSON, "expect": "100-Continue", "content-length": str(len(body))}
            await client.send(request_bytes("POST", "/v1/infer", headers=headers))
            assert (await client.reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(body)
            reply = await client.reply()
            assert (reply.status, reply.interim) == (200, [])

    asyncio.run(main())


# Authentication

PROTECTED = [
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/v1/config"),
    ("POST", "/v1/infer"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/job_missing"),
]


@pytest.mark.parametrize(("method", "path"), PROTECTED)
@pytest.mark.parametrize("authorization", [None, "Bearer wrong-key", f"Basic {KEY}"])
def test_given_auth_when_a_protected_route_is_asked_without_a_valid_key_then_401(
    method: str, path: str, authorization: str | None
) -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray:
            headers = {"authorization": authorization} if authorization else {}
            reply = await ray.ask(method, path, headers=headers)
            assert (reply.status, reply.code) == (401, "unauthorized")
            assert reply.headers["www-authenticate"] == 'Bearer realm="ray"'
            assert "retry-after" not in reply.headers
            (line,) = ray.lines()
            assert (line["level"], line["message"]) == ("warn", "request rejected")
            assert KEY not in ray.log.getvalue()
            assert "wrong-key" not in ray.log.getvalue()
            assert (await ray.gauges())["requests.auth_rejected"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/livez"), ("GET", "/readyz")])
def test_given_auth_when_an_open_route_is_asked_then_it_answers(method: str, path: str) -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray:
            assert (await ray.ask(method, path)).status == 200

    asyncio.run(main())


def test_given_auth_when_the_key_is_right_then_the_routes_answer() -> None:
    async def main() -> None:
        async with running(AUTH, environ=ENVIRON) as ray:
            for path in ("/health", "/metrics", "/v1/config"):
                assert (await ray.ask("GET", path, headers=BEARER)).status == 200
            assert (await ray.post("/v1/infer", QUESTION, BEARER)).status == 200

    asyncio.run(main())


def test_given_no_keys_in_the_environment_when_auth_is_on_then_the_gateway_is_not_made() -> None:
    async def main() -> None:
        with pytest.raises(RayError, match="RAY_API_KEYS"):
            async with running(AUTH):
                pass

    asyncio.run(main())


# Rate limiting


def test_given_a_budget_of_one_when_asked_twice_then_429_with_every_header() -> None:
    async def main() -> None:
        async with running(limit(1)) as ray:
            first = await ray.post("/v1/infer", QUESTION)
            assert first.status == 200
            assert (first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == ("1", "0")
            second = await ray.post("/v1/infer", QUESTION)
            assert (second.status, second.code) == (429, "rate_limited")
            assert 1 <= int(second.headers["retry-after"]) <= 60
            assert second.headers["x-ratelimit-remaining"] == "0"
            assert second.headers["x-ratelimit-reset"] == first.headers["x-ratelimit-reset"]
            (line,) = ray.lines()
            assert (line["level"], line["message"]) == ("warn", "request rejected")
            assert (await ray.gauges())["requests.rate_limited"] == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("headers", "body", "status"), [(JSON, b"{", 400), ({}, b"{}", 415), (JSON, b'{"input":"' + b"x" * 40_000, 413)]
)
def test_given_a_taken_budget_when_the_request_then_fails_then_the_headers_still_say_so(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    async def main() -> None:
        async with running(limit(3)) as ray:
            reply = await ray.ask("POST", "/v1/infer", headers=headers, body=body)
            assert (reply.status, reply.headers["x-ratelimit-remaining"]) == (status, "2")

    asyncio.run(main())


def test_given_auth_when_a_key_is_refused_then_no_budget_is_taken() -> None:
    async def main() -> None:
        async with running({**AUTH, **limit(1)}, environ=ENVIRON) as ray:
            for _ in range(3):
                reply = await ray.post("/v1/infer", QUESTION, {"authorization": "Bearer wrong"})
                assert (reply.status, "x-ratelimit-limit" in reply.headers) == (401, False)
            assert (await ray.post("/v1/infer", QUESTION, BEARER)).status == 200

    asyncio.run(main())


def test_given_auth_off_and_keys_counted_when_two_tokens_come_from_one_address_then_they_share_its_budget() -> None:
    async def main() -> None:
        async with running(limit(1, keyStrategy="api-key")) as ray:
            first = await ray.post("/v1/infer", QUESTION, {"authorization": "Bearer one"})
            second = await ray.post("/v1/infer", QUESTION, {"authorization": "Bearer two"})
            assert (first.status, second.status) == (200, 429)

    asyncio.run(main())


def test_given_a_full_table_when_a_third_address_comes_then_429_and_readiness_says_why() -> None:
    async def main() -> None:
        async with running(limit(9, maxKeys=2, trustProxyHeaders=True)) as ray:
            statuses = [
                (await ray.post("/v1/infer", QUESTION, {"x-forwarded-for": f"203.0.113.{number}"})).status
                for number in (1, 2, 3, 1)
            ]
            assert statuses == [200, 200, 429, 200]
            ready = await ray.ask("GET", "/readyz")
            assert (ready.status, ready.json()["status"]) == (200, "degraded")
            assert "rate_limit_pressure" in str(ready.json()["reasons"])
            health = await ray.ask("GET", "/health")
            assert (health.status, health.json()["status"]) == (200, "degraded")

    asyncio.run(main())


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/health", "/metrics", "/v1/config"])
def test_reading_routes_are_not_limited(path: str) -> None:
    async def main() -> None:
        async with running(limit(1)) as ray:
            for _ in range(3):
                reply = await ray.ask("GET", path)
                assert (reply.status, "x-ratelimit-limit" in reply.headers) == (200, False)

    asyncio.run(main())


# Failures and the log


def test_given_a_failing_backend_when_asked_then_one_line_joins_the_answer() -> None:
    async def main() -> None:
        failure = RayError("provider_request_failed", "connection refused")
        async with running(provider=FakeProvider([failure])) as ray:
            reply = await ray.post("/v1/infer", QUESTION)
            assert (reply.status, reply.code) == (502, "provider_request_failed")
            assert "retry-after" not in reply.headers
            failed = [line for line in ray.lines() if line["level"] in ("warn", "error") and "error" in line]
            assert [line["message"] for line in failed] == ["inference failed"]
            assert failed[0]["requestId"] == reply.headers["x-request-id"]

    asyncio.run(main())


def test_given_a_bug_in_a_route_when_asked_then_500_and_the_stack_only_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with running() as ray:
            monkeypatch.setattr(type(ray.gateway.services.runtime), "new_deadline", lambda self: 1 / 0)
            reply = await ray.post("/v1/infer", QUESTION)
            assert (reply.status, reply.code) == (500, "gateway_error")
            assert reply.details == {"name": "ZeroDivisionError", "message": "division by zero"}
            (line,) = ray.lines()
            assert (line["level"], line["message"]) == ("error", "request failed")
            error = line["error"]
            assert isinstance(error, dict)
            assert "new_deadline" in str(error["stack"])
            assert b"Traceback" not in reply.body

    asyncio.run(main())


def test_given_debug_level_when_requests_pass_then_each_has_one_access_line() -> None:
    async def main() -> None:
        async with running(log_level="debug") as ray, ray.connect() as client:
            await client.ask("GET", "/livez?secret=1")
            await client.ask("GET", "/v1/jobs/job_17")
            await client.ask("GET", "/missing")
            await client.post("/v1/infer", QUESTION, {"x-request-id": "mine"})
            await client.ask("GET", "/livez")
            lines = ray.lines("request completed")[:4]
            shown = [(line["method"], line["path"], line["status"]) for line in lines]
            assert shown == [
                ("GET", "/livez", 200),
                ("GET", "/v1/jobs/{id}", 503),
                ("GET", "other", 404),
                ("POST", "/v1/infer", 200),
            ]
            assert lines[3]["requestId"] == "mine"
            assert {"bytes", "durationMs"} <= lines[0].keys()
            assert "secret" not in ray.log.getvalue()
            assert "127.0.0.1" not in ray.log.getvalue()

    asyncio.run(main())


def test_given_info_level_when_requests_succeed_then_nothing_is_logged() -> None:
    async def main() -> None:
        async with running() as ray:
            await ray.post("/v1/infer", QUESTION)
            await ray.ask("GET", "/livez")
            assert ray.lines() == []

    asyncio.run(main())


def test_given_the_mock_when_prompts_and_answers_pass_then_no_line_holds_them() -> None:
    async def main() -> None:
        async with running(log_level="debug") as ray:
            reply = await ray.post("/v1/infer", {"input": "a very private question", "system": "private too"})
            assert "private" in str(reply.json()["output"])
            assert "private" not in ray.log.getvalue()

    asyncio.run(main())


# Counting


async def http_requests(ray: Running) -> set[str]:
    text = (await ray.ask("GET", "/metrics?format=prometheus")).body.decode()
    return {line for line in text.splitlines() if line.startswith("ray_http_requests_total{")}


def test_every_response_is_counted_by_route_method_and_status() -> None:
    async def main() -> None:
        async with running() as ray, ray.connect() as client:
            await client.ask("GET", "/livez")
            await client.ask("PUT", "/livez")
            await client.ask("BREW", "/coffee")
            await client.post("/v1/infer", QUESTION)
            assert await http_requests(ray) == {
                'ray_http_requests_total{route="/livez",method="GET",status="200"} 1',
                'ray_http_requests_total{route="/livez",method="other",status="405"} 1',
                'ray_http_requests_total{route="other",method="other",status="404"} 1',
                'ray_http_requests_total{route="/v1/infer",method="POST",status="200"} 1',
            }

    asyncio.run(main())


def test_given_rejected_requests_when_counted_then_they_stand_under_their_code() -> None:
    async def main() -> None:
        async with running() as ray:
            await ray.ask("POST", "/v1/infer", headers=JSON, body=b"{")
            await ray.post("/v1/infer", {"input": 1})
            text = (await ray.ask("GET", "/metrics", headers={"accept": "text/plain"})).body.decode()
            assert 'ray_requests_rejected_total{code="invalid_json"} 1' in text
            assert 'ray_requests_rejected_total{code="invalid_request"} 1' in text
            view = json.loads((await ray.ask("GET", "/metrics")).body)
            assert "requests.total" not in view["counters"]
            assert "requests.errors" not in view["counters"]

    asyncio.run(main())
