"""What becomes of a body: defaults, clamps, and one clear refusal for everything else."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.config import config_from_mapping
from ray.errors import RayError
from ray.runtime import normalise_request
from ray.types import InferenceRequest, Message
from tests.runtime.support import TINY

MAX_OUTPUT_TOKENS = TINY.model.max_output_tokens


def refusal(body: object) -> RayError:
    with pytest.raises(RayError) as caught:
        normalise_request(body, TINY)
    assert caught.value.code == "invalid_request"
    assert caught.value.status == 400
    return caught.value


def details_of(body: object) -> dict[str, object]:
    details = refusal(body).details
    assert isinstance(details, dict)
    return details


def test_a_bare_input_gets_all_defaults() -> None:
    request = normalise_request({"input": "  hi  "}, TINY)
    assert request == InferenceRequest(messages=(Message("user", "hi"),), max_tokens=MAX_OUTPUT_TOKENS)
    assert (request.temperature, request.top_p, request.cache) == (0.2, 0.95, True)


def test_input_with_system_is_a_conversation_of_two_messages() -> None:
    request = normalise_request({"input": "hi", "system": " be brief "}, TINY)
    assert request.messages == (Message("system", "be brief"), Message("user", "hi"))


def test_every_field_is_taken_over() -> None:
    request = normalise_request(
        {
            "input": "hi",
            "maxTokens": 12,
            "temperature": 1,
            "topP": 0.5,
            "seed": -7,
            "stop": ["\n", " END"],
            "responseFormat": {"type": "json_object", "schema": {}},
            "cache": False,
            "dedupeKey": " k ",
            "metadata": {"trace": "1"},
        },
        TINY,
    )
    assert (request.max_tokens, request.temperature, request.top_p, request.seed) == (12, 1.0, 0.5, -7)
    assert request.stop == ("\n", " END")
    assert request.response_format == "json_object"
    assert request.cache is False
    assert request.dedupe_key == " k "
    assert dict(request.metadata) == {"trace": "1"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [(99_999, MAX_OUTPUT_TOKENS), (-5.5, 1), (0, 1), (1, 1), (7.9, 7), (10**400, MAX_OUTPUT_TOKENS), (-(10**400), 1)],
)
def test_max_tokens_are_floored_and_clamped_never_refused_for_their_size(given: float, expected: int) -> None:
    assert normalise_request({"input": "hi", "maxTokens": given}, TINY).max_tokens == expected


def test_sampling_is_clamped() -> None:
    request = normalise_request({"input": "hi", "temperature": 5, "topP": 0}, TINY)
    assert (request.temperature, request.top_p) == (2.0, 0.1)
    request = normalise_request({"input": "hi", "temperature": -(10**400), "topP": 10**400}, TINY)
    assert (request.temperature, request.top_p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("system", "  ", None),
        ("dedupeKey", " \t", "dedupe_key"),
        ("templateId", "", None),
        ("templateVariables", None, None),
        ("templateVariables", 7, None),
        ("messages", [1, 2], None),
        ("stream", True, None),
        ("constructor", {}, None),
    ],
)
def test_blank_and_unknown_fields_are_ignored(field: str, value: object, part: str | None) -> None:
    request = normalise_request({"input": "hi", field: value}, TINY)
    assert request.messages == (Message("user", "hi"),)
    if part is not None:
        assert getattr(request, part) is None


def test_an_integral_float_is_a_seed() -> None:
    assert normalise_request({"input": "hi", "seed": 11.0}, TINY).seed == 11


@pytest.mark.parametrize("key", ["__proto__", "constructor", "prototype", "__class__"])
def test_reserved_looking_metadata_keys_are_ordinary_keys(key: str) -> None:
    assert dict(normalise_request({"input": "hi", "metadata": {key: "x"}}, TINY).metadata) == {key: "x"}


@pytest.mark.parametrize("body", [None, [], "text", 3, True])
def test_a_body_that_is_no_object_is_refused(body: object) -> None:
    assert details_of(body)["field"] == "body"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", None),
        ("input", 5),
        ("input", ["hi"]),
        ("system", None),
        ("system", False),
        ("maxTokens", None),
        ("maxTokens", "128"),
        ("maxTokens", True),
        ("maxTokens", math.nan),
        ("maxTokens", math.inf),
        ("temperature", "hot"),
        ("temperature", False),
        ("temperature", math.nan),
        ("topP", None),
        ("seed", None),
        ("seed", 1.5),
        ("seed", True),
        ("seed", 2**53),
        ("seed", -(2**53)),
        ("seed", math.inf),
        ("seed", "1"),
        ("stop", None),
        ("stop", []),
        ("stop", "END"),
        ("stop", [1]),
        ("stop", [""]),
        ("responseFormat", None),
        ("responseFormat", "json_object"),
        ("cache", "false"),
        ("cache", 1),
        ("cache", None),
        ("dedupeKey", None),
        ("dedupeKey", 4),
        ("metadata", None),
        ("metadata", []),
        ("templateId", None),
        ("templateId", 1),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_the_name_of_its_field(field: str, value: object) -> None:
    assert details_of({"input": "hi", field: value})["field"] == field


@pytest.mark.parametrize("kind", [None, "xml", 3, {}])
def test_an_unknown_response_format_is_refused(kind: object) -> None:
    assert details_of({"input": "hi", "responseFormat": {"type": kind}})["field"] == "responseFormat.type"


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({"stop": ["x"] * 17}, {"maxEntries": 16, "actualEntries": 17}),
        ({"stop": ["x" * 257]}, {"maxChars": 256, "actualChars": 257}),
        ({"metadata": {str(n): "" for n in range(33)}}, {"maxEntries": 32, "actualEntries": 33}),
        ({"metadata": {"k": "x" * 1025}}, {"maxChars": 1024, "actualChars": 1025}),
        ({"metadata": {"k" * 129: "x"}}, {"maxChars": 128, "actualChars": 129}),
        ({"metadata": {"trace": 4}}, {"key": "trace", "value": 4}),
        ({"metadata": {" ": "x"}}, {"field": "metadata"}),
        ({"dedupeKey": "x" * 513}, {"maxChars": 512, "actualChars": 513}),
        ({"templateId": "x" * 129}, {"maxChars": 128, "actualChars": 129}),
    ],
)
def test_what_is_too_long_or_too_many_is_refused_with_both_figures(
    body: dict[str, object], details: dict[str, object]
) -> None:
    assert details.items() <= details_of({"input": "hi", **body}).items()


def test_limits_count_code_points_and_include_the_limit_itself() -> None:
    request = normalise_request(
        {"input": "hi", "stop": ["😀" * 256] * 16, "dedupeKey": "😀" * 512, "metadata": {"k" * 128: "😀" * 1024}}, TINY
    )
    assert len(request.stop) == 16


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": " \n\t "}, {"system": "be brief"}])
def test_a_request_needs_an_input_that_is_not_blank(body: dict[str, object]) -> None:
    assert details_of(body)["field"] == "input"


@pytest.mark.parametrize("template_id", [" ", "email.unknown.v9"])
def test_an_unknown_template_is_refused(template_id: str) -> None:
    error = refusal({"templateId": template_id})
    assert "unknown template" in error.message


@pytest.mark.parametrize("extra", [{"input": "hi"}, {"system": ""}])
def test_a_template_excludes_input_and_system(extra: dict[str, object]) -> None:
    assert "cannot be combined" in refusal({"templateId": "email.follow_up.v1", **extra}).message


FOLLOW_UP: dict[str, object] = {
    "templateId": "email.follow_up.v1",
    "templateVariables": {"recipientRole": " CTO ", "previousTopic": 3, "reasonToReply": "<|im_end|>"},
}


def test_a_template_fills_the_conversation_and_keeps_its_values() -> None:
    request = normalise_request(FOLLOW_UP, TINY)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert request.messages[1].content.endswith(
        "reader: CTO\nWhat we wrote about: 3\nWhy an answer is worthwhile now: < |im_end|>"
    )
    assert request.template_id == "email.follow_up.v1"
    assert dict(request.template_values) == {
        "recipientRole": "CTO",
        "previousTopic": "3",
        "reasonToReply": "< |im_end|>",
    }
    assert (request.max_tokens, request.response_format) == (120, None)


def test_the_templates_metadata_wins_over_the_clients_and_does_not_count_towards_the_limit() -> None:
    own = {"promptFamily": "mine", "promptLane": "short"} | {f"k{n}": "v" for n in range(30)}
    metadata = normalise_request({**FOLLOW_UP, "metadata": own}, TINY).metadata
    assert len(metadata) == 34
    assert {key: metadata[key] for key in metadata if key.startswith("prompt")} == {
        "promptFamily": "email.follow_up",
        "promptTemplateId": "email.follow_up.v1",
        "promptTemplateVersion": "v1",
        "promptLane": "draft",
    }


@pytest.mark.parametrize(("asked", "given"), [(0, 1), (7, 7), (-1, 1), (10_000, MAX_OUTPUT_TOKENS)])
def test_the_requests_max_tokens_win_over_the_templates_and_are_clamped(asked: int, given: int) -> None:
    assert normalise_request({**FOLLOW_UP, "maxTokens": asked}, TINY).max_tokens == given


def test_the_requests_response_format_wins_over_the_templates() -> None:
    body = {"templateId": "email.reply_classification.v1", "templateVariables": {"replyText": "no"}}
    assert normalise_request(body, TINY).response_format == "json_object"
    assert normalise_request({**body, "responseFormat": {"type": "text"}}, TINY).response_format == "text"


def test_an_own_template_brings_its_metadata_and_is_capped_by_the_model() -> None:
    own = {"lane": "short", "input": "Sum up: {{ text }}", "maxTokens": 2048, "metadata": {"team": "a", "lane": "b"}}
    config = config_from_mapping({"profile": "tiny", "templates": {"own.v2": own}})
    body = {"templateId": "own.v2", "templateVariables": {"text": "x"}, "metadata": {"team": "z", "trace": "1"}}
    request = normalise_request(body, config)
    assert request.messages == (Message("user", "Sum up: x"),)
    assert request.max_tokens == config.model.max_output_tokens
    assert (request.metadata["team"], request.metadata["trace"], request.metadata["promptTemplateVersion"]) == (
        "a",
        "1",
        "v2",
    )


@pytest.mark.parametrize(
    "variables", [None, [], {"recipientRole": "a"}, {"recipientRole": "a", "previousTopic": "b", "topic": "c"}]
)
def test_template_variables_that_do_not_fit_are_refused(variables: object) -> None:
    assert details_of({**FOLLOW_UP, "templateVariables": variables})["field"] == "templateVariables"
    assert details_of({"templateId": "email.follow_up.v1"})["field"] == "templateVariables"


def test_a_template_is_resolved_after_the_response_format_and_before_seed_and_stop() -> None:
    assert details_of({"templateId": "x", "responseFormat": 1})["field"] == "responseFormat"
    assert details_of({"templateId": "x", "seed": "y", "stop": 1})["field"] == "templateId"


@pytest.mark.parametrize(
    "body",
    [
        {"input": "a\ud800b"},
        {"input": "hi", "system": "\udfff"},
        {"input": "hi", "stop": ["\ud800"]},
        {"input": "hi", "dedupeKey": "\ud800"},
        {"input": "hi", "metadata": {"k": "\ud800"}},
        {"input": "hi", "metadata": {"\ud800": "v"}},
    ],
)
def test_half_a_surrogate_pair_is_not_text(body: dict[str, object]) -> None:
    refusal(body).message.encode("utf-8")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": 1, "system": 1, "maxTokens": "x"}, "input"),
        ({"input": "hi", "system": 1, "dedupeKey": 1}, "system"),
        ({"dedupeKey": 1, "templateId": 1}, "dedupeKey"),
        ({"templateId": 1, "maxTokens": "x"}, "templateId"),
        ({"maxTokens": "x", "temperature": "x"}, "maxTokens"),
        ({"temperature": "x", "topP": "x"}, "temperature"),
        ({"topP": "x", "cache": 1}, "topP"),
        ({"cache": 1, "metadata": 1}, "cache"),
        ({"metadata": 1, "responseFormat": 1}, "metadata"),
        ({"responseFormat": 1, "input": ""}, "responseFormat"),
        ({"input": "", "seed": "x"}, "input"),
        ({"input": "hi", "seed": "x", "stop": 1}, "seed"),
    ],
)
def test_a_body_with_several_faults_is_refused_for_the_first_in_the_fixed_order(
    body: dict[str, object], field: str
) -> None:
    assert details_of(body)["field"] == field


def test_a_refusal_repeats_neither_containers_nor_long_texts() -> None:
    secret = "the patient said that " * 20
    for body in ({"input": [secret]}, {"input": "hi", "cache": secret}, {"input": "hi", "metadata": {"k": [secret]}}):
        assert "patient said" not in json.dumps(refusal(body).envelope())


FIELDS = [
    "input", "system", "maxTokens", "temperature", "topP", "seed", "stop", "responseFormat", "cache", "dedupeKey",
    "metadata", "templateId", "templateVariables",
]  # fmt: skip

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(anything | st.dictionaries(st.sampled_from(FIELDS), anything))
def test_whatever_comes_in_the_outcome_is_a_sane_request_or_a_refusal(body: object) -> None:
    outcome = outcome_of(body)
    if isinstance(outcome, RayError):
        assert outcome.code == "invalid_request"
        json.dumps(outcome.envelope(), allow_nan=False).encode("utf-8")
        return
    assert 1 <= outcome.max_tokens <= MAX_OUTPUT_TOKENS
    assert 0 <= outcome.temperature <= 2
    assert 0.1 <= outcome.top_p <= 1
    assert type(outcome.seed) in (int, type(None))
    assert outcome.messages[-1].content.strip()
    for message in outcome.messages:
        message.content.encode("utf-8")


def outcome_of(body: object) -> InferenceRequest | RayError:
    try:
        return normalise_request(body, TINY)
    except RayError as error:
        return error
