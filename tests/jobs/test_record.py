"""The record: every one that can be written is read again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray.config import config_from_mapping
from ray.errors import RayError
from ray.jobs.record import (
    ADMISSION_HEADROOM_BYTES,
    MAX_RECORD_BYTES,
    JobCallback,
    JobError,
    JobIdempotency,
    JobRecord,
    MalformedRecord,
    NewerRecord,
    decode,
    encode,
    inference_request,
    is_job_id,
    job_error,
    light,
    public_document,
    stored_request,
    summary,
    without_prompt,
)
from ray.prompts import catalog_of
from ray.runtime import normalise_request
from ray.types import InferenceRequest, Message, ToolCall
from tests.jobs.records import (
    CREATED,
    DEADLINE,
    LATER,
    REQUEST,
    RESULT,
    failed,
    queued,
    running,
    succeeded,
    with_callback,
)

DELIVERED = JobCallback("https://hooks.example/", "delivered", 2, None, LATER, LATER)
GIVEN_UP = JobCallback("https://hooks.example/", "failed", 5, None, LATER, None, "http_503")
WAITING = JobCallback("https://hooks.example/", "pending", 1, DEADLINE, LATER, None, "timeout")
FULL = replace(
    with_callback(succeeded(), DELIVERED),
    owner="key:" + "a" * 64,
    idempotency=JobIdempotency("b" * 64, "c" * 64),
    result_ttl_ms=60_000,
)


@pytest.mark.parametrize(
    "record",
    [
        queued(),
        replace(queued(), error=JobError("once more", "provider_timeout"), next_attempt_at=DEADLINE, attempts=1),
        running(),
        replace(running(), cancel_requested=True),
        succeeded(),
        with_callback(succeeded(), WAITING),
        with_callback(succeeded(), GIVEN_UP),
        failed(),
        replace(failed(), status="cancelled", error=None),
        replace(failed(), request=without_prompt(REQUEST)),
        FULL,
    ],
    ids=lambda record: cast("JobRecord", record).status,
)
def test_given_a_record_when_written_and_read_then_it_is_the_same(record: JobRecord) -> None:
    assert decode(encode(record), record.id) == record


def test_given_a_record_then_its_file_is_ascii_and_readable_by_a_person() -> None:
    text = encode(replace(queued(), request={**REQUEST, "input": "Grüße \ud800"})).decode("ascii")
    assert text.startswith('{\n  "v": 1,\n  "id": "job_1",\n  "status": "queued",')
    assert "\\u00fc" in text
    assert "\\ud800" in text


# Every record the writer can emit is accepted by the reader

_texts = st.text(st.characters(codec=None), max_size=60)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_texts, inner, max_size=5),
    max_leaves=20,
)
# What an exception may carry: anything at all.
_odd = st.sampled_from(["x" * 9_000, ValueError("inner"), object(), {1, 2}, "\ud800", b"bytes", 2**70, float("inf")])
_hostile = st.recursive(
    st.none() | st.booleans() | st.floats() | _texts | _odd,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts | st.sampled_from(["stack", "STACK"]), inner),
    max_leaves=8,
)
_wide = _hostile.map(lambda value: [value] * 70) | _hostile.map(lambda value: {f"key {n}": value for n in range(70)})
_details = st.dictionaries(_texts | st.just("Stack"), _hostile | _wide, max_size=4)
_messages = st.lists(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), _texts), min_size=1, max_size=4
)
_requests = st.builds(
    InferenceRequest,
    messages=_messages.map(tuple),
    max_tokens=st.integers(1, 2**53 - 1),
    temperature=st.floats(0, 2),
    top_p=st.floats(0.1, 1),
    seed=st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
    stop=st.lists(_texts, max_size=4).map(tuple),
    response_format=st.sampled_from([None, "text", "json_object"]),
    cache=st.booleans(),
    dedupe_key=st.none() | _texts,
    metadata=st.dictionaries(_texts, _texts, max_size=40),
)
_results = st.builds(
    lambda diagnostics, output: {**RESULT, "diagnostics": diagnostics, "output": output},
    st.dictionaries(_texts, _json, max_size=40),
    _texts,
)
_relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@_relaxed
@given(_requests, _results, _details, st.text(max_size=9_000), _texts)
def test_given_hostile_contents_when_written_then_the_reader_accepts_the_record(
    request: InferenceRequest, result: Mapping[str, object], details: dict[str, object], message: str, reason: str
) -> None:
    asked = replace(queued(), request=stored_request(request))
    assert decode(encode(asked), "job_1") == asked
    done = replace(succeeded(), request=asked.request, result=result)
    assert decode(encode(done), "job_1") == done
    for error in (RayError("provider_timeout", message, details=details), RuntimeError(message)):
        broken = replace(failed(), request=asked.request, error=job_error(error))
        assert decode(encode(broken), "job_1") == broken
    unchecked = replace(failed(), error=JobError(message, "c" * 200, details))
    told = with_callback(unchecked, replace(GIVEN_UP, last_error=f"x{reason}{message}"))
    read = decode(encode(told), "job_1")
    assert decode(encode(read), "job_1") == read
    assert public_document(read) == public_document(told), "before and after a restart people see the same"


def test_given_forty_keys_of_diagnostics_and_deep_ones_when_written_then_they_are_read() -> None:
    deep: object = "leaf"
    for _ in range(20):
        deep = {"inner": deep}
    wide = {f"reading{number}": number for number in range(40)}
    record = replace(succeeded(), result={**RESULT, "diagnostics": {"degradation": wide, "other": deep}})
    assert decode(encode(record), "job_1") == record


def test_given_details_with_the_marks_of_bounding_when_written_again_and_again_then_they_stay_as_they_are() -> None:
    error = RayError("provider_timeout", "m", details={"list": list(range(70)), "text": "t" * 9_000})
    record = replace(failed(), error=job_error(error))
    assert record.error is not None
    assert record.error.details == error.details
    for _ in range(3):
        assert decode(encode(record), "job_1") == record


def test_given_details_beyond_64_kib_then_only_their_size_is_kept() -> None:
    error = RayError("provider_timeout", "m", details={str(number): "t" * 8_000 for number in range(20)})
    kept = job_error(error).details
    assert kept is not None
    assert "160" in str(kept["omitted"])


def test_given_an_unforeseen_exception_then_the_record_tells_its_kind_and_none_of_its_text() -> None:
    error = job_error(ValueError("/srv/secret: the prompt was 'hello'"))
    assert error == JobError("the gateway failed while it ran the job (ValueError)")


# Size


def _with_prompt_of(record: JobRecord, chars: int) -> JobRecord:
    return replace(record, request={**REQUEST, "input": "x" * chars})


def test_given_a_record_that_grows_past_two_mib_then_it_is_refused_with_its_size() -> None:
    with pytest.raises(RayError) as caught:
        encode(_with_prompt_of(running(), MAX_RECORD_BYTES))
    assert caught.value.code == "async_job_record_too_large"
    assert caught.value.status == 413
    assert cast("dict[str, object]", caught.value.details)["maxBytes"] == MAX_RECORD_BYTES


def test_given_the_largest_prompt_that_is_admitted_then_its_worst_failure_can_be_written_too() -> None:
    size = len(encode(queued()))
    largest = MAX_RECORD_BYTES - ADMISSION_HEADROOM_BYTES - size + len(cast("str", REQUEST["input"]))
    admitted = _with_prompt_of(with_callback(queued()), largest - 200)
    encode(admitted)
    with pytest.raises(RayError, match="record"):
        encode(_with_prompt_of(queued(), largest + 1))
    worst = RayError("provider_timeout", "\U0001f600" * 8_192, details={str(n): "d" * 8_000 for n in range(8)})
    broken = replace(_with_prompt_of(with_callback(failed()), largest - 200), error=job_error(worst))
    told = with_callback(broken, replace(GIVEN_UP, last_error="\U0001f600" * 8_192))
    assert decode(encode(broken), "job_1") == broken
    assert decode(encode(told), "job_1") == told


def test_given_a_light_record_then_it_is_never_written() -> None:
    assert light(succeeded()).result is None
    assert light(succeeded()).is_light
    with pytest.raises(MalformedRecord):
        encode(light(succeeded()))


# Hostile files

REMOVED = object()
Damage = Callable[[dict[str, Any]], None]


def _set(*path: str, to: object) -> Damage:
    def damage(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        if to is REMOVED:
            del document[path[-1]]
        else:
            document[path[-1]] = to

    damage.__name__ = f"{'.'.join(path)} = {'(removed)' if to is REMOVED else str(to)[:20]}"
    return damage


ALWAYS = ("v", "id", "status", "request", "createdAt", "updatedAt", "attempts", "maxAttempts", "deadlineAt")


@pytest.mark.parametrize(
    "damage",
    [
        *(_set(key, to=REMOVED) for key in ALWAYS),
        *(_set(key, to=None) for key in ALWAYS),
        *(_set(key, to=[]) for key in (*ALWAYS, "startedAt", "result", "callback", "owner", "idempotency")),
        _set("unknown", to=1),
        _set("callback", "unknown", to=1),
        _set("idempotency", "unknown", to=1),
        _set("request", "callbackUrl", to="https://x.example/"),
        _set("v", to=0),
        _set("v", to=True),
        _set("v", to="1"),
        _set("v", to=1.0),
        _set("id", to="job_2"),
        _set("status", to="done"),
        _set("attempts", to=-1),
        _set("attempts", to=True),
        _set("attempts", to=1.0),
        _set("attempts", to=4),
        _set("attempts", to=101),
        _set("maxAttempts", to=0),
        _set("maxAttempts", to=101),
        _set("createdAt", to="2026-11-21T17:20:01Z"),
        _set("createdAt", to="2026-02-30T17:20:01.000Z"),
        _set("updatedAt", to="2026-11-21T17:20:01.482+00:00"),
        _set("updatedAt", to=1_795_281_601),
        _set("completedAt", to=REMOVED),
        _set("nextAttemptAt", to=LATER),
        _set("resultTtlMs", to=0),
        _set("result", to=REMOVED),
        _set("result", "output", to=REMOVED),
        _set("result", "output", to=1),
        _set("result", "cached", to=1),
        _set("result", "usage", to=[]),
        _set("error", to={"message": "beside a success"}),
        _set("request", "input", to=REMOVED),
        _set("request", "messages", to=[]),
        _set("request", "maxTokens", to=0),
        _set("request", "metadata", to={"promptFamily": []}),
        _set("request", "stop", to=[1]),
        _set("request", "responseFormat", to={"type": "xml"}),
        _set("callback", "url", to=" "),
        _set("callback", "url", to="https://x.example/" + "x" * 8_192),
        _set("callback", "status", to="failed"),
        _set("callback", "deliveredAt", to=REMOVED),
        _set("callback", "lastError", to="delivered, and yet an error"),
        _set("callback", "attempts", to=101),
        _set("idempotency", "keyHash", to="B" * 64),
        _set("owner", to="o" * 257),
    ],
    ids=lambda damage: cast("Damage", damage).__name__,
)
def test_given_a_record_with_one_fault_when_read_then_it_is_malformed(damage: Damage) -> None:
    document = json.loads(encode(FULL))
    damage(document)
    with pytest.raises(MalformedRecord) as caught:
        decode(json.dumps(document).encode(), "job_1")
    assert len(caught.value.reason) < 300


@pytest.mark.parametrize(
    ("record", "damage"),
    [
        (queued(), _set("completedAt", to=LATER)),
        (queued(), _set("expiresAt", to=LATER)),
        (queued(), _set("result", to=RESULT)),
        (queued(), _set("request", "input", to="")),
        (running(), _set("error", to={"message": "m"})),
        (failed(), _set("error", to=REMOVED)),
        (failed(), _set("error", "details", to={"a": [{"Stack": "at line 1"}]})),
        (failed(), _set("error", "message", to="m" * 8_193)),
        (with_callback(failed()), _set("callback", "deliveredAt", to=LATER)),
        (with_callback(failed(), GIVEN_UP), _set("callback", "lastError", to="  ")),
        (with_callback(failed(), GIVEN_UP), _set("callback", "lastError", to=REMOVED)),
    ],
    ids=lambda value: value.status if isinstance(value, JobRecord) else value.__name__,
)
def test_given_keys_that_contradict_each_other_when_read_then_the_record_is_malformed(
    record: JobRecord, damage: Damage
) -> None:
    document = json.loads(encode(record))
    damage(document)
    with pytest.raises(MalformedRecord):
        decode(json.dumps(document).encode(), "job_1")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"v": 1}',
        b"\xff\xfe",
        b'{"v": 1, "id": "\xff"}',
        b"[" * 100_000,
        b'{"v": ' + b"9" * 5_000 + b"}",
        b"\x00" * 100,
        b" " * (MAX_RECORD_BYTES + 1),
        b'{"v": NaN}',
    ],
    ids=range(13),
)
def test_given_bytes_that_are_no_record_when_read_then_they_are_malformed_and_not_repeated(data: bytes) -> None:
    with pytest.raises(MalformedRecord) as caught:
        decode(data, "job_1")
    assert len(caught.value.reason) < 300


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_given_a_number_that_is_not_finite_when_read_then_the_record_is_malformed(number: str) -> None:
    data = encode(succeeded()).replace(b'"latencyMs": 12.5', f'"latencyMs": {number}'.encode())
    assert number.encode() in data
    with pytest.raises(MalformedRecord):
        decode(data, "job_1")


def test_given_diagnostics_that_are_too_deep_when_read_then_the_record_is_malformed() -> None:
    data = encode(succeeded()).replace(b'"diagnostics": {}', b'"diagnostics": {"a": ' + b"[" * 500 + b"]" * 500 + b"}")
    with pytest.raises(MalformedRecord):
        decode(data, "job_1")


@given(st.binary(max_size=300))
def test_given_any_bytes_when_read_then_the_answer_is_a_record_or_malformed(data: bytes) -> None:
    with pytest.raises(MalformedRecord):
        decode(data, "job_1")


def test_given_a_key_twice_when_read_then_the_last_one_counts() -> None:
    data = encode(queued()).replace(b'"attempts": 0', b'"attempts": 9, "attempts": 0')
    assert decode(data, "job_1") == queued()


def test_given_a_record_of_a_newer_version_when_read_then_it_is_told_apart_from_a_malformed_one() -> None:
    document = {**json.loads(encode(queued())), "v": 2, "somethingNew": True}
    with pytest.raises(NewerRecord) as caught:
        decode(json.dumps(document).encode(), "job_1")
    assert caught.value.version == 2


@pytest.mark.parametrize("name", ["", "a" * 129, "a.b", "../job", "a/b", "job_1\n", "jöb", "job 1", "a\0b"])
def test_given_a_name_outside_the_alphabet_then_it_is_no_job_id(name: str) -> None:
    assert not is_job_id(name)
    with pytest.raises(MalformedRecord):
        encode(replace(queued(), id=name))


@pytest.mark.parametrize("name", ["a", "job_0123456789abcdef", "A-Z_09", "a" * 128])
def test_given_a_name_of_the_alphabet_then_it_is_a_job_id(name: str) -> None:
    assert is_job_id(name)


# What people see


def test_given_a_record_then_its_owner_sees_it_without_the_bookkeeping() -> None:
    document = public_document(FULL)
    assert not {"v", "owner", "idempotency", "cancelRequested"} & document.keys()
    assert document["result"] == RESULT
    assert document["expiresAt"] == DEADLINE
    assert document["callback"] == {
        "url": "https://hooks.example/",
        "status": "delivered",
        "attempts": 2,
        "lastAttemptAt": LATER,
        "deliveredAt": LATER,
    }


def test_given_a_record_then_its_line_in_a_list_has_neither_prompt_nor_answer() -> None:
    assert summary(FULL) == {
        "id": "job_1",
        "status": "succeeded",
        "createdAt": CREATED,
        "updatedAt": LATER,
        "attempts": 1,
        "callbackStatus": "delivered",
    }


# The stored request

CONFIG = config_from_mapping({"profile": "tiny", "model": {"adapter": {"kind": "mock"}}})


def test_given_a_submission_when_stored_and_taken_up_again_then_the_model_is_asked_the_same() -> None:
    body = {
        "input": "Say it in JSON",
        "system": "Be brief",
        "maxTokens": 12,
        "temperature": 0.5,
        "topP": 0.5,
        "seed": 7,
        "stop": ["\n"],
        "responseFormat": {"type": "json_object"},
        "dedupeKey": "k",
        "cache": False,
        "metadata": {"a": "b"},
    }
    request = normalise_request(body, CONFIG)
    document = stored_request(request)
    assert document == body
    assert inference_request(document, CONFIG) == request


def test_given_a_template_when_stored_then_its_text_is_kept_and_its_name_is_not() -> None:
    template = next(iter(catalog_of(CONFIG)))
    values = dict.fromkeys(template.variables, "a few words")
    request = normalise_request({"templateId": template.id, "templateVariables": values}, CONFIG)
    document = stored_request(request)
    assert "templateId" not in document
    restored = inference_request(document, CONFIG)
    assert restored.messages == request.messages
    assert restored.template_id is None
    assert restored.metadata == request.metadata


def test_given_more_metadata_than_a_submission_may_have_then_the_stored_request_is_taken_all_the_same() -> None:
    document = {**REQUEST, "metadata": {f"key {number}": "v" * 2_000 for number in range(36)}}
    record = replace(queued(), request=document)
    assert len(inference_request(decode(encode(record), "job_1").request, CONFIG).metadata) == 36


def test_given_a_model_with_less_output_than_at_admission_then_the_stored_request_is_clamped() -> None:
    assert inference_request({**REQUEST, "maxTokens": 10**9}, CONFIG).max_tokens == CONFIG.model.max_output_tokens


@pytest.mark.parametrize(
    "messages",
    [
        (Message("user", ""),),
        (Message("system", "s"), Message("user", "")),
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        (Message("system", ""), Message("user", "a")),
        (Message("user", "  padded \n"),),
        (
            Message("user", "weather?"),
            Message("assistant", "", (ToolCall("1", "weather", "{"), ToolCall("2", "time", "{}"))),
            Message("tool", "sunny", tool_call_id="1"),
            Message("tool", "", tool_call_id="2"),
        ),
    ],
)
def test_given_any_conversation_when_stored_then_every_message_comes_back_as_it_was(
    messages: tuple[Message, ...],
) -> None:
    request = InferenceRequest(messages, max_tokens=8)
    record = replace(queued(), request=stored_request(request))
    assert inference_request(decode(encode(record), "job_1").request, CONFIG) == request


@pytest.mark.parametrize(
    "changes",
    [
        {"response_format": "json_schema", "json_schema": '{"type":"object"}'},
        {"tools": "[]", "tool_choice": '"required"'},
        {"tools": "[]", "parallel_tool_calls": False},
        {"tools": "[]", "parallel_tool_calls": True},
        {"top_logprobs": 0},
        {"top_logprobs": 20},
        {"is_raw": True},
    ],
)
def test_given_a_request_of_the_chat_protocol_when_stored_then_it_comes_back_as_it_was(
    changes: dict[str, Any],
) -> None:
    request = replace(InferenceRequest((Message("user", "hi"),), max_tokens=8), **changes)
    record = replace(queued(), request=stored_request(request))
    assert inference_request(decode(encode(record), "job_1").request, CONFIG) == request


def test_given_schemas_and_tools_and_a_prompt_that_is_not_kept_then_they_are_not_kept_either() -> None:
    request = InferenceRequest(
        (Message("user", "hi"),), 8, json_schema='"secret"', tools='"secret"', tool_choice='"secret"'
    )
    assert "secret" not in str(without_prompt(stored_request(request)))


def test_given_a_prompt_that_is_not_kept_then_nothing_a_person_wrote_is_left() -> None:
    for document in (stored_request(InferenceRequest((Message("assistant", "secret"),), 8)), REQUEST):
        kept = without_prompt({**document, "metadata": {"who": "secret"}})
        assert "secret" not in str(kept)
        assert "moon" not in str(kept)
        assert kept["maxTokens"] == document["maxTokens"]
