"""From body bytes to a JSON value: content types, encodings, and strict JSON."""

from __future__ import annotations

import pytest

from ray.errors import RayError
from ray.gateway.json_request import check_content_encoding, check_content_type, parse_json
from ray.http import Headers


@pytest.mark.parametrize(
    "value",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        " application/json ;x=y",
        "application/vnd.ray+json; charset=utf-8",
        "application/problem+json",
    ],
)
def test_json_media_types_pass(value: str) -> None:
    check_content_type(Headers([("Content-Type", value)]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("application/jsonx", "application/jsonx"),
        ("text/plain; note=application/json", "text/plain; note=application/json"),
        ("text/json", "text/json"),
        ("application/+json", "application/+json"),
        ("application/", "application/"),
        ("json", "json"),
    ],
)
def test_other_media_types_are_refused_and_named(value: str, shown: str) -> None:
    with pytest.raises(RayError) as caught:
        check_content_type(Headers([("content-type", value)]))
    assert (caught.value.code, caught.value.status) == ("unsupported_media_type", 415)
    assert caught.value.details == {"contentType": shown, "supported": ["application/json", "application/*+json"]}


@pytest.mark.parametrize("pairs", [[], [("content-type", "  ")]])
def test_a_missing_media_type_is_refused_without_a_value_to_show(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(RayError) as caught:
        check_content_type(Headers(pairs))
    assert caught.value.details == {"supported": ["application/json", "application/*+json"]}


def test_a_media_type_of_257_characters_is_refused_by_its_length() -> None:
    with pytest.raises(RayError) as caught:
        check_content_type(Headers([("content-type", "application/json;" + "x" * 240)]))
    assert caught.value.details == {"actualChars": 257, "maxChars": 256}


def test_a_long_refused_media_type_is_shown_cut() -> None:
    with pytest.raises(RayError) as caught:
        check_content_type(Headers([("content-type", "text/" + "x" * 200)]))
    assert isinstance(caught.value.details, dict)
    assert len(caught.value.details["contentType"]) == 128


@pytest.mark.parametrize("values", [[], ["identity"], ["identity, IDENTITY"], ["identity", "identity"]])
def test_identity_codings_pass(values: list[str]) -> None:
    check_content_encoding(Headers([("content-encoding", value) for value in values]))


@pytest.mark.parametrize("values", [["br"], ["gzip"], ["identity, gzip"], ["identity,"], [""], ["identity", "br"]])
def test_other_codings_are_refused(values: list[str]) -> None:
    with pytest.raises(RayError) as caught:
        check_content_encoding(Headers([("content-encoding", value) for value in values]))
    assert (caught.value.code, caught.value.status) == ("unsupported_content_encoding", 415)
    assert isinstance(caught.value.details, dict)
    assert caught.value.details["supported"] == ["identity"]


def test_a_coding_of_129_characters_is_refused_by_its_length() -> None:
    with pytest.raises(RayError) as caught:
        check_content_encoding(Headers([("content-encoding", "identity," * 14 + "ide")]))
    assert caught.value.details == {"actualChars": 129, "maxChars": 128}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", {}),
        (b'{"a":1}', {"a": 1}),
        (b' \n{"a":[true,null,1.5,"\xc3\xbc"]} ', {"a": [True, None, 1.5, "ü"]}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b"null", None),
        (b"[]", []),
    ],
)
def test_json_is_read(body: bytes, value: object) -> None:
    assert parse_json(body) == value


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"{", "JSONDecodeError"),
        (b"   ", "JSONDecodeError"),
        (b'\xef\xbb\xbf{"input":"x"}', "JSONDecodeError"),
        (b'{"input":"x"} trailing', "JSONDecodeError"),
        (b"{'input':'x'}", "JSONDecodeError"),
        (b'{"a":NaN}', "ValueError"),
        (b'{"a":Infinity}', "ValueError"),
        (b'{"a":-Infinity}', "ValueError"),
        (b'{"a":' + b"9" * 5_000 + b"}", "ValueError"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"a":' * 100_000, "RecursionError"),
        (b'{"input":"\xff"}', "UnicodeDecodeError"),
        (b'{"input":"\xed\xa0\x80"}', "UnicodeDecodeError"),
    ],
)
def test_anything_else_is_invalid_json_with_name_and_message(body: bytes, name: str) -> None:
    with pytest.raises(RayError) as caught:
        parse_json(body)
    assert (caught.value.code, caught.value.status) == ("invalid_json", 400)
    details = caught.value.details
    assert isinstance(details, dict)
    assert set(details) == {"name", "message"}
    assert details["name"] == name
    assert 0 < len(details["message"]) <= 256
