"""Workload files: both forms, what is sent, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.bench.processes.process import MeasurementError
from ray.bench.run.workload_file import MAX_FILE_BYTES, load_workload, parse_items
from ray.config import config_from_mapping
from ray.errors import RayError
from ray.runtime import normalise_request

ROOT = Path(__file__).parents[3]


def test_lines_and_an_array_hold_the_same_items() -> None:
    lines = '\n{"input": "one"}\n\n  {"input": "two", "seed": 7}\n'
    array = '  [{"input": "one"}, {"input": "two", "seed": 7}]'
    assert parse_items(lines) == parse_items(array)
    assert [item.fields for item in parse_items(lines)] == [{"input": "one"}, {"input": "two", "seed": 7}]


def test_a_line_separator_inside_of_a_text_does_not_end_a_line() -> None:
    assert parse_items('{"input": "one\u2028two"}')[0].fields == {"input": "one\u2028two"}


def test_only_keys_of_the_route_are_sent() -> None:
    item = parse_items(
        '{"input": "x", "extra": 1, "responseFormat": {"type": "json_object", "extra": 2}, "benchmark": {}}'
    )[0]
    assert item.fields == {"input": "x", "responseFormat": {"type": "json_object"}}
    assert item.expected.requires_valid_json


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no request in it"),
        (" \n\n", "no request in it"),
        ("[]", "no request in it"),
        ("null", "entry 1 must be an object"),
        ('{"input": "x"}\n7', "entry 2 must be an object"),
        ('{"input": "x"}\n{"input": }', "line 2 is invalid JSON"),
        ('\n{"temperature": NaN, "input": "x"}', "line 2 is invalid JSON: NaN"),
        ('[{"input": "x"}\n]]', "invalid JSON"),
        ('["a"]\n{"input": "x"}', "entry 1 must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"input": " "}', "entry 1.input must not be blank"),
        ("{}", "entry 1 needs input or templateId"),
        ('{"input": "x", "templateId": "t"}', "excludes input and system"),
        ('{"templateId": "t", "templateVariables": {"bad": {}}}', "templateVariables.bad must be a string, a number"),
        ('{"templateId": "t", "templateVariables": []}', "templateVariables must be an object"),
        ('{"input": "x", "maxTokens": 0}', "maxTokens must be from 1 to 8192"),
        ('{"input": "x", "maxTokens": 2.5}', "maxTokens must be a whole number"),
        ('{"input": "x", "temperature": 2.1}', "temperature must be from 0 to 2"),
        ('{"input": "x", "topP": true}', "topP must be a number"),
        ('{"input": "x", "seed": -1}', "seed must be from 0"),
        ('{"input": "x", "stop": "END"}', "stop must be an array"),
        ('{"input": "x", "responseFormat": "json"}', "responseFormat must be"),
        ('{"input": "x", "cache": 1}', "cache must be true or false"),
        ('{"input": "x", "metadata": {"a": 1}}', "metadata.a must be a string"),
        ('{"input": "x", "metadata": {"": "b"}}', "metadata has a key of 0 characters"),
        (r'{"input": "\ud800"}', "half a surrogate pair"),
        (json.dumps({"input": "x", "metadata": {"a": "b" * 1_025}}), "1025 characters; at most 1024"),
        (json.dumps({"input": "x" * 65_537}), "entry 1.input has 65537 characters"),
        (json.dumps({"input": "x", "system": "y" * 65_537}), "entry 1.system has 65537 characters"),
        (json.dumps({"templateId": "t" * 129}), "129 characters; at most 128"),
        (json.dumps({"templateId": "t", "templateVariables": {str(n): 1 for n in range(33)}}), "33 entries"),
        ("\n".join(['{"input": "x"}'] * 1_025), "1025 entries; at most 1024"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        parse_items(text)


DRAFT = {
    "templateId": "email.follow_up.v1",
    "templateVariables": {"recipientRole": "a", "previousTopic": "b", "reasonToReply": "c"},
}


@pytest.mark.parametrize(
    ("item", "beyond"),
    [
        ({"input": "x", "stop": ["s" * 256] * 16}, {"input": "x", "stop": ["s"] * 17}),
        ({"input": "x", "stop": ["\n"]}, {"input": "x", "stop": [""]}),
        ({"input": "x", "stop": ["s" * 256]}, {"input": "x", "stop": ["s" * 257]}),
        ({"input": "x", "stop": ["s"]}, {"input": "x", "stop": []}),
        ({"input": "x", "dedupeKey": "k" * 512}, {"input": "x", "dedupeKey": "k" * 513}),
        ({"input": "x", "metadata": {"k" * 128: "v" * 1_024}}, {"input": "x", "metadata": {"k" * 129: "v"}}),
        (
            {"input": "x", "metadata": {f"k{n}": "v" for n in range(32)}},
            {"input": "x", "metadata": {f"k{n}": "v" for n in range(33)}},
        ),
        ({"input": "x", "responseFormat": {"type": "text"}}, {"input": "x", "responseFormat": {"type": "xml"}}),
        ({"input": "x", "seed": 2**53 - 1}, {"input": "x", "seed": 2**64}),
        (DRAFT, {**DRAFT, "input": "x"}),
        (DRAFT, {**DRAFT, "templateVariables": {"recipientRole": []}}),
    ],
)
def test_the_limits_are_those_of_the_gateway(item: dict[str, object], beyond: dict[str, object]) -> None:
    config = config_from_mapping({"profile": "tiny"})
    sent = parse_items(json.dumps([item]))[0].fields
    normalise_request(dict(sent), config)
    with pytest.raises(MeasurementError):
        parse_items(json.dumps([beyond]))
    with pytest.raises(RayError):
        normalise_request(beyond, config)


def test_a_body_over_the_limit_is_refused_before_anything_is_sent() -> None:
    variables = {f"v{number}": "€" * 16_384 for number in range(32)}
    with pytest.raises(MeasurementError, match="makes a request of"):
        parse_items(json.dumps({"templateId": "t", "templateVariables": variables}, ensure_ascii=False))


def test_files_that_are_missing_too_large_or_no_text_are_named(tmp_path: Path) -> None:
    large, binary = tmp_path / "large.json", tmp_path / "binary.json"
    large.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    binary.write_bytes(b"\xff\xfe")
    for path, says in ((tmp_path / "none", "cannot read"), (large, "more than 1048576 bytes"), (binary, "not UTF-8")):
        with pytest.raises(MeasurementError, match=says):
            load_workload(str(path))


def test_a_digest_is_of_what_is_sent_and_not_of_how_it_is_written(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    one.write_text('{"input": "x", "seed": 1, "benchmark": {"minOutputChars": 1}}')
    two.write_text('[{"seed": 1, "input": "x", "note": true}]')
    other.write_text('{"input": "x", "seed": 2}')
    assert load_workload(str(one)).digest == load_workload(str(two)).digest != load_workload(str(other)).digest


def test_without_a_file_there_are_four_requests() -> None:
    workload = load_workload(None)
    assert (workload.name, len(workload.items)) == ("default-workload", 4)
