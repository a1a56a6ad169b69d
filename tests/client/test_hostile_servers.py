"""Both clients against servers that break the rules: bounded, typed errors, nothing followed, nothing sent twice."""

from __future__ import annotations

import json

import pytest

from ray.client import (
    RayAnswerError,
    RayClientError,
    RayConnectionError,
    RayRefused,
    RayTimeout,
    Retries,
)
from tests.client.both import BOTH, Ask
from tests.client.scripted import Says, answer, events, server_that

both = pytest.mark.parametrize("ask", BOTH, ids=lambda ask: ask.__name__)
KEY = "a-secret-key"
TOKEN = b'event: token\ndata: {"text":"Blue"}\n\n'
RESULT = b'event: result\ndata: {"output":"Blue"}\n\n'


def raw(text: str, then: str = "close") -> Says:
    return Says(text.replace("\n", "\r\n").encode("latin-1"), then)


@both
@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (answer(200, b"{}" + b" " * 1000), RayAnswerError, "larger than response_body_limit_bytes, 1000 bytes (1002"),
        (raw("HTTP/1.1 200 OK\ncontent-type: application/json\n\n{}" + " " * 1000), RayAnswerError, "larger than"),
        (answer(200, b"<html>", kind="text/html"), RayAnswerError, "content type 'text/html' instead of JSON"),
        (answer(200, b"{}", kind=""), RayAnswerError, "content type none"),
        (answer(200, b"{}", kind="application/jsonp"), RayAnswerError, "content type 'application/jsonp'"),
        (answer(200, b"not json"), RayAnswerError, "invalid JSON"),
        (answer(200, b'{"a": NaN}'), RayAnswerError, "invalid JSON"),
        (answer(200, b'{"a": "\xff"}'), RayAnswerError, "invalid JSON"),
        (answer(200, b"[" * 900), RayAnswerError, "invalid JSON"),
        (answer(200, b'{"a": ' + b"9" * 900 + b"}" * 0), RayAnswerError, "invalid JSON"),
        (answer(200, b"[1]"), RayAnswerError, "not an object"),
        (raw("HTTP/1.1 200 OK\ncontent-length: 9\ncontent-type: application/json\n\n{}"), RayConnectionError, "cut"),
        (raw("HTTP/1.1 200 OK\ncontent-len"), RayConnectionError, "cut"),
        (raw("220 smtp.example.org ESMTP\n"), RayConnectionError, "rules of HTTP"),
        (raw("HTTP/1.1 200 OK\n" + "x: y\n" * 100 + "\n"), RayConnectionError, "headers are too large"),
        (raw("HTTP/1.1 200 OK\nx: " + "y" * 9000 + "\n\n"), RayConnectionError, "headers are too large"),
        (raw("HTTP/1.1 200 OK\ncontent-length: -1\n\n"), RayConnectionError, "Content-Length"),
        (raw("HTTP/1.1 200 OK\ntransfer-encoding: gzip\n\n"), RayConnectionError, "Transfer-Encoding"),
        (raw("HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nzz\n{}\n0\n\n"), RayConnectionError, ""),
        (raw("HTTP/1.1 200 OK\ncontent-encoding: gzip\ncontent-length: 0\n\n"), RayConnectionError, "compressed"),
        (Says(b""), RayConnectionError, ""),
    ],
)
def test_given_an_answer_that_breaks_the_rules_when_asked_then_the_error_says_how_and_shows_no_key(
    ask: Ask, said: Says, kind: type[RayClientError], words: str
) -> None:
    with server_that(said) as server, pytest.raises(kind) as failure:
        ask(server.url, "infer", "A question.", api_key=KEY, response_body_limit_bytes=1000)

    assert words.replace("'", "") in str(failure.value).replace("'", "")
    assert "POST /v1/infer" in str(failure.value)
    assert KEY not in str(failure.value)
    assert "A question" not in str(failure.value)


@both
@pytest.mark.parametrize("method", ["infer", "stream"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_given_a_redirect_when_asked_then_it_is_an_error_and_the_key_goes_nowhere_else(
    ask: Ask, method: str, status: int
) -> None:
    with server_that() as elsewhere, server_that(answer(status, b"", ("location", elsewhere.url))) as server:
        with pytest.raises(RayRefused) as refusal:
            ask(server.url, method, "A question.", api_key=KEY)

        assert refusal.value.status == status
        assert refusal.value.code is None
        assert len(server.requests) == 1
        assert elsewhere.connections == 0


@both
@pytest.mark.parametrize("method", ["infer", "stream"])
def test_given_a_proxys_own_refusal_when_asked_then_its_page_is_the_body_and_the_message_is_one_line(
    ask: Ask, method: str
) -> None:
    page = b"<html>\x1b[31m\r\nBad Gateway</html>"
    with (
        server_that(answer(502, page, ("x-request-id", "bad id"), kind="text/html")) as server,
        pytest.raises(RayRefused) as refusal,
    ):
        ask(server.url, method, "A question.")

    error = refusal.value
    assert (error.status, error.code, error.retry_after, error.request_id) == (502, None, None, None)
    assert error.body == page.decode()
    assert str(error).isprintable()


@both
def test_given_a_refusal_with_a_stack_when_asked_then_the_body_has_none_at_any_depth(ask: Ask) -> None:
    said = {"error": {"code": "gateway_error", "message": "Sorry.", "details": [{"Stack": "at f", "a": {"stack": 1}}]}}
    with (
        server_that(answer(500, json.dumps(said).encode(), ("x-request-id", "req_1"))) as server,
        pytest.raises(RayRefused) as refusal,
    ):
        ask(server.url, "infer", "A question.")

    error = refusal.value
    assert (error.code, error.request_id) == ("gateway_error", "req_1")
    assert json.loads(error.body) == {"error": {"code": "gateway_error", "message": "Sorry.", "details": [{"a": {}}]}}


@both
@pytest.mark.parametrize("method", ["infer", "stream"])
def test_given_a_refusal_without_end_when_asked_then_its_beginning_is_kept_and_marked(ask: Ask, method: str) -> None:
    with server_that(answer(500, b"a" * 200_000, kind="text/plain")) as server, pytest.raises(RayRefused) as refusal:
        ask(server.url, method, "A question.")

    assert refusal.value.body == "a" * 65_536 + " [cut after 65536 of 200000 bytes]"
    assert len(str(refusal.value)) < 1_200


@both
@pytest.mark.parametrize(
    "said",
    [Says(b"", "hold"), Says(b"HTTP/1.1 200 OK\r\ncontent-le", "hold"), answer(200, b"{", ("x", "y"), then="hold")],
)
def test_given_a_server_that_falls_silent_when_the_time_is_over_then_the_error_names_it(ask: Ask, said: Says) -> None:
    silent = Says(said.data.replace(b"content-length: 1", b"content-length: 9"), "hold")
    with server_that(silent) as server, pytest.raises(RayTimeout, match="within 200 ms"):
        ask(server.url, "infer", "A question.", timeout_ms=200)


@both
@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (events(TOKEN), RayAnswerError, "cut off before its end"),
        (events(b""), RayAnswerError, "cut off before its end"),
        (events(b"event: token\ndata: 5\n\n"), RayAnswerError, "not a JSON object"),
        (events(b"event: token\ndata: {}\n\n"), RayAnswerError, "no text"),
        (events(b"event: result\ndata: [\n\n"), RayAnswerError, "not a JSON object"),
        (events(b": " + b"x" * 5000), RayAnswerError, "larger|exceeds"),
        (events(TOKEN * 200), RayAnswerError, "larger than response_body_limit_bytes"),
        (answer(200, b'{"output":"Blue"}'), RayAnswerError, "something else than an event stream"),
        (
            raw("HTTP/1.1 200 OK\ncontent-type: text/event-stream\ntransfer-encoding: chunked\n\n50\nevent: tok"),
            RayConnectionError,
            "cut",
        ),
        (events(TOKEN, "hold"), RayTimeout, "within 300 ms"),
    ],
)
def test_given_a_stream_that_does_not_end_well_when_read_then_it_is_an_error(
    ask: Ask, said: Says, kind: type[RayClientError], words: str
) -> None:
    waits_ms = 300 if said.then == "hold" else 30_000
    with server_that(said) as server, pytest.raises(kind, match=words):
        ask(server.url, "stream", "A question.", response_body_limit_bytes=4000, timeout_ms=waits_ms)


@both
def test_given_an_error_in_the_middle_of_a_stream_when_read_then_it_is_a_refusal_with_the_status_of_its_code(
    ask: Ask,
) -> None:
    cut = b'event: error\ndata: {"error":{"code":"provider_timeout","message":"Too slow."}}\n\n'
    for method, data in (
        ("stream", TOKEN + cut + RESULT),
        ("stream_chat", b'data: {"error":{"message":"Too slow.","code":"provider_timeout"}}\n\n'),
    ):
        with server_that(events(data)) as server, pytest.raises(RayRefused, match="in the middle") as refusal:
            ask(server.url, method, "A question.")

        assert (refusal.value.status, refusal.value.code, refusal.value.retry_after) == (504, "provider_timeout", 5)


@both
def test_given_something_after_the_result_when_a_stream_is_read_then_it_is_not_looked_at(ask: Ask) -> None:
    with server_that(
        events(TOKEN + b": keep-alive\n\nevent: new\ndata: 1\n\n" + RESULT + b"event: error\ndata: x\n\n")
    ) as server:
        streamed = ask(server.url, "stream", "A question.")

    assert streamed == (["Blue"], {"output": "Blue"})


@both
def test_given_a_list_of_jobs_that_never_gets_further_when_read_then_it_ends(ask: Ask) -> None:
    page = answer(200, b'{"jobs":[],"nextCursor":"again"}', then="keep")
    with server_that(page, page) as server:
        assert ask(server.url, "jobs") == []
        assert len(server.requests) == 1


@both
@pytest.mark.parametrize("body", [b'{"jobs":5}', b'{"jobs":[5]}', b"{}"])
def test_given_a_list_that_is_none_when_read_then_it_is_an_error(ask: Ask, body: bytes) -> None:
    with server_that(answer(200, body)) as server, pytest.raises(RayAnswerError, match="no list of objects"):
        ask(server.url, "jobs")


BUSY = answer(503, b'{"error":{"code":"queue_full","message":"Full."}}', ("retry-after", "0"))
FINE = answer(200, b'{"output":"Blue","id":"job_1"}')


@both
@pytest.mark.parametrize("method", ["infer", "chat", "health"])
def test_given_refusals_that_say_when_when_retries_are_wanted_then_the_same_is_sent_again(
    ask: Ask, method: str
) -> None:
    arguments = () if method == "health" else ("A question.",)
    with server_that(BUSY, BUSY, FINE) as server:
        ask(server.url, method, *arguments, retries=Retries(attempts=3))

        assert len(server.requests) == 3
        assert server.requests[0] == server.requests[1] == server.requests[2]


@both
def test_given_a_stream_that_is_refused_at_first_when_retries_are_wanted_then_it_comes(ask: Ask) -> None:
    with server_that(BUSY, events(TOKEN + RESULT)) as server:
        assert ask(server.url, "stream", "A question.", retries=Retries()) == (["Blue"], {"output": "Blue"})


@both
@pytest.mark.parametrize(
    ("said", "method", "options"),
    [
        (BUSY, "infer", {}),  # nobody asked for retries
        (BUSY, "infer", {"retries": Retries(attempts=1)}),
        (Says(b""), "infer", {"retries": Retries()}),  # the model may be at work already
        (Says(b""), "create_job", {"retries": Retries()}),  # the job may have been made
        (BUSY, "create_job", {"retries": Retries()}),  # a code that does not say for certain that it was not
        (answer(503, b"", ("retry-after", "60")), "infer", {"retries": Retries(longest_wait_ms=1000)}),
        (answer(503, b""), "infer", {"retries": Retries()}),  # it does not say when
        (answer(400, b"", ("retry-after", "0")), "infer", {"retries": Retries()}),
        (answer(502, b"", ("retry-after", "0")), "infer", {"retries": Retries()}),
    ],
)
def test_given_what_may_not_be_sent_twice_when_it_fails_then_it_is_sent_once(
    ask: Ask, said: Says, method: str, options: dict[str, object]
) -> None:
    with server_that(said, FINE) as server:
        with pytest.raises(RayClientError):
            ask(server.url, method, "A question.", **options)

        assert len(server.requests) == 1


@both
def test_given_an_idempotency_key_when_the_connection_breaks_then_the_job_is_submitted_again_with_it(ask: Ask) -> None:
    accepted = answer(202, b'{"id":"job_1","status":"queued"}')
    with server_that(Says(b""), accepted) as server:
        made = ask(server.url, "create_job", "Work.", idempotency_key="order-42", retries=Retries())

        assert made == {"id": "job_1", "status": "queued"}
        assert [server.header("idempotency-key", number) for number in (0, 1)] == ["order-42", "order-42"]


@both
def test_given_a_gateway_that_restarts_when_waiting_for_a_job_then_the_waiting_goes_on(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.client.plans._LOOK_AGAIN_SECONDS", 0.0)
    running = answer(200, b'{"id":"job_1","status":"running"}')
    draining = answer(503, b'{"error":{"code":"gateway_draining","message":"Stopping."}}', ("retry-after", "0"))
    done = answer(200, b'{"id":"job_1","status":"failed"}')
    with server_that(running, draining, Says(b""), done) as server:
        assert ask(server.url, "wait_job", "job_1") == {"id": "job_1", "status": "failed"}

        assert len(server.requests) == 4
        assert server.requests[0].startswith(b"GET /v1/jobs/job_1?wait=20 ")


@both
def test_given_a_job_that_does_not_end_when_the_time_is_over_then_the_error_says_that_it_goes_on(ask: Ask) -> None:
    running = answer(200, b'{"id":"job_1","status":"running"}')
    with server_that(running, running, running) as server, pytest.raises(RayTimeout, match="job_1 has not ended"):
        ask(server.url, "wait_job", "job_1", timeout_ms=50)


@both
def test_given_own_headers_and_a_key_when_asked_then_the_request_carries_them_and_the_key_wins(ask: Ask) -> None:
    own = {"X-Request-Id": "mine-1", "Authorization": "Basic xyz", "Accept": "application/x+json"}
    with server_that(FINE) as server:
        ask(f"{server.url}/behind/a/prefix/", "infer", "Grün?", headers=own, api_key=KEY)

        assert server.requests[0].startswith(b"POST /behind/a/prefix/v1/infer HTTP/1.1\r\n")
        assert server.header("authorization") == f"Bearer {KEY}"
        assert server.header("x-request-id") == "mine-1"
        assert server.header("accept") == "application/x+json"
        assert server.header("content-type") == "application/json"
        assert server.requests[0].endswith('\r\n\r\n{"input":"Grün?"}'.encode())
