"""Headers, warm-up requests and extra llama-server arguments."""

from __future__ import annotations

import pytest

from ray.config import LlamaCppAdapter, WarmupRequest, config_document
from ray.config.names import MANAGED_FLAGS, RESERVED_HEADERS, extra_argument_problem
from tests.config.support import changed, load, load_with, refusal

SECRET = "Bearer s3cret"
FOLLOW_UP = "email.follow_up.v1"


def headers_refusal(headers: object) -> str:
    return refusal(changed("vps", model__adapter__headers=headers))


def test_headers_are_kept_as_written() -> None:
    headers = {"authorization": SECRET, "X-Ray-Upstream": "", "x!#$%&'*+.^_`|~-": "a" * 4096}
    adapter = load_with("vps", model__adapter__headers=headers).model.adapter
    assert adapter.headers == headers  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [*sorted(RESERVED_HEADERS), "Host", "Content-TYPE", "TE"])
def test_reserved_headers_are_refused(name: str) -> None:
    assert f"{name.lower()!r} is reserved" in headers_refusal({name: "x"})


def test_every_reserved_header_is_known() -> None:
    assert {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    } == set(RESERVED_HEADERS)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-ray-upstream": "a", "X-Ray-Upstream": "b"}, "names 'X-Ray-Upstream' twice"),
        ({"x bad": "a"}, "must be a valid HTTP header name"),
        ({"x:": "a"}, "must be a valid HTTP header name"),
        ({"ä": "a"}, "must be a valid HTTP header name"),
        ({"x\n": "a"}, "must be a valid HTTP header name"),
        ({"": "a"}, "must be a non-empty string"),
        ({"x" * 129: "a"}, "at most 128 characters"),
        ({"x": "s3cret\r\nx-evil: 1"}, "model.adapter.headers.x must not contain NUL"),
        ({"x": "s3cret\0"}, "model.adapter.headers.x must not contain NUL"),
        ({"x": "s3cret" * 1000}, "model.adapter.headers.x must be at most 4096 characters"),
        ({"x": 5}, "model.adapter.headers.x must be a string, not a number"),
        ({"x": None}, "model.adapter.headers.x must be a string, not null"),
        ({f"x-{number}": "a" for number in range(65)}, "at most 64 entries, not 65"),
        (None, "model.adapter.headers must be an object, not null"),
        (["x"], "model.adapter.headers must be an object, not an array"),
    ],
)
def test_bad_headers_are_refused_without_their_values(headers: object, words: str) -> None:
    message = headers_refusal(headers)
    assert words in message
    assert "s3cret" not in message


def test_header_values_stay_out_of_the_repr() -> None:
    config = load_with("vps", model__adapter__headers={"authorization": SECRET})
    assert "s3cret" not in repr(config)


# --- warm-up requests


def warmup_refusal(warmups: object) -> str:
    return refusal(changed("1b", model__adapter__warmupRequests=warmups))


def test_warmup_with_every_key() -> None:
    plain = {
        "input": "ping",
        "system": "be brief",
        "maxTokens": 192,
        "seed": -(2**53 - 1),
        "stop": ["a"] * 16,
        "responseFormat": {"type": "json_object"},
    }
    template = {"templateId": "own.v1", "templateVariables": {"s": "x", "n": 1.5, "b": True}}
    own = {"own.v1": {"lane": "short", "input": "{{ s }} {{ n }} {{ b }}"}}
    config = load_with("1b", model__adapter__warmupRequests=[plain, template], templates=own)
    adapter = config.model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.warmup_requests[0] == WarmupRequest(
        input="ping",
        system="be brief",
        max_tokens=192,
        seed=-(2**53 - 1),
        stop=("a",) * 16,
        response_format="json_object",
    )
    assert adapter.warmup_requests[1].template_variables == {"s": "x", "n": 1.5, "b": True}
    assert load(config_document(config)) == config


def test_empty_list_of_warmups_is_fine() -> None:
    load_with("1b", model__adapter__warmupRequests=[])


@pytest.mark.parametrize(
    ("warmup", "words"),
    [
        ({}, ".input is required when there is no templateId"),
        ({"input": ""}, ".input must be a non-empty string"),
        ({"input": "a" * 8193}, ".input must be at most 8192 characters"),
        ({"input": 5}, ".input must be a non-empty string, not a number"),
        ({"input": "a", "extra": 1}, ".extra is not a known key"),
        ({"input": "a", "templateId": "t"}, ".input must be absent when templateId is given"),
        ({"system": "s", "templateId": "t"}, ".system must be absent when templateId is given"),
        ({"templateId": "t"}, ".templateId names the template 't', which is not known"),
        (
            {"templateId": FOLLOW_UP, "templateVariables": {"recipientRole": "a", "previousTopic": "b"}},
            ".templateVariables lacks reasonToReply, which the template email.follow_up.v1 needs",
        ),
        (
            {"templateId": FOLLOW_UP, "templateVariables": {"topic": "a"}},
            ".templateVariables has topic, which the template email.follow_up.v1 does not know",
        ),
        ({"templateId": " "}, ".templateId must be a non-empty string"),
        ({"templateId": "t" * 129}, ".templateId must be at most 128"),
        ({"templateId": "t", "templateVariables": {"a": None}}, ".a must be a string, number or boolean, not null"),
        ({"templateId": "t", "templateVariables": {"a": {}}}, ".a must be a string, number or boolean, not an obj"),
        ({"templateId": "t", "templateVariables": {"a": float("nan")}}, ".a must be a finite number"),
        ({"templateId": "t", "templateVariables": {"a": 10**400}}, ".a must be a number within"),
        ({"templateId": "t", "templateVariables": {"a": "x" * 16_385}}, ".a must be at most 16384"),
        ({"templateId": "t", "templateVariables": {" ": "x"}}, "templateVariables key must be a non-empty"),
        ({"templateId": "t", "templateVariables": {"k" * 129: "x"}}, "templateVariables key must be at most 128"),
        ({"templateId": "t", "templateVariables": {f"k{n}": 1 for n in range(33)}}, "at most 32 entries"),
        ({"templateId": "t", "templateVariables": []}, ".templateVariables must be an object"),
        ({"input": "a", "system": " "}, ".system must be a non-empty string"),
        ({"input": "a", "system": "s" * 8193}, ".system must be at most 8192"),
        ({"input": "a", "maxTokens": 193}, ".maxTokens (193) must be at most model.maxOutputTokens (192)"),
        ({"input": "a", "maxTokens": 0}, ".maxTokens must be an integer from 1"),
        ({"input": "a", "seed": 2**53}, ".seed must be an integer"),
        ({"input": "a", "seed": 1.5}, ".seed must be an integer"),
        ({"input": "a", "stop": []}, ".stop must have at least 1 entries"),
        ({"input": "a", "stop": ["a"] * 17}, ".stop must have at most 16 entries"),
        ({"input": "a", "stop": ["a" * 257]}, ".stop[0] must be at most 256"),
        ({"input": "a", "stop": [" "]}, ".stop[0] must be a non-empty string"),
        ({"input": "a", "responseFormat": None}, ".responseFormat must be an object, not null"),
        ({"input": "a", "responseFormat": {}}, ".responseFormat.type is required"),
        ({"input": "a", "responseFormat": {"type": "json"}}, ".responseFormat.type value 'json' is not supported"),
        ({"input": "a", "responseFormat": {"type": "text", "schema": {}}}, ".responseFormat.schema is not a known"),
        (None, " must be an object, not null"),
        ("ping", " must be an object, not a string"),
    ],
)
def test_bad_warmup_is_refused_with_its_index(warmup: object, words: str) -> None:
    message = warmup_refusal([{"input": "fine"}, warmup])
    assert message.startswith("model.adapter.warmupRequests[1]")
    assert words in message


def test_number_of_warmups() -> None:
    load_with("1b", model__adapter__warmupRequests=[{"input": "a"}] * 8)
    assert "at most 8 entries, not 9" in warmup_refusal([{"input": "a"}] * 9)
    assert warmup_refusal(None) == "model.adapter.warmupRequests must be an array, not null"


# --- extra arguments

MANAGED = """
--alias --batch-size --cache-idle-slots --cache-prompt --cache-ram --cache-reuse --cont-batching --context-shift
--ctx-size --host --kv-unified --metrics --model --no-cache-idle-slots --no-cache-prompt --no-cont-batching
--no-context-shift --no-kv-unified --no-slots --no-warmup --parallel --port --slot-save-path --slots --threads
--threads-batch --threads-http --ubatch-size --warmup -a -b -c -cb -cram -kvu -m -nocb -no-kvu -np -t -tb -ub
"""
UNSUPPORTED = """
--api-prefix --ssl-key-file --ssl-cert-file --kv-unified-per-slot --reuse-port --embedding --embeddings --rerank
--reranking -hf --hf-repo -mu --model-url --models-dir --models-max --path --media-path --tools --tools-x --agent -ag
--mcp-servers-config --ui-mcp-proxy
"""
SECRETS = "--api-key --api-key-file --hf-token -hft --api_key --api_key_file --hf_token"


def test_managed_flags_are_all_known() -> None:
    assert set(MANAGED.split()) == set(MANAGED_FLAGS)


@pytest.mark.parametrize("flag", MANAGED.split())
def test_managed_flag_is_refused_with_index_and_remedy(flag: str) -> None:
    for argument in (flag, f"{flag}=4096"):
        message = refusal(changed("1b", model__adapter__launchProfile__extraArgs=["--jinja", argument, "x"]))
        assert message.startswith(f"model.adapter.launchProfile.extraArgs[1] must not use {flag}: ")
        remedy = "prefixStore.storageDir" if flag == "--slot-save-path" else "RAY_LLAMA_CPP_*"
        assert remedy in message


@pytest.mark.parametrize("flag", UNSUPPORTED.split() + SECRETS.split() + ["--batch_size", "--models_dir"])
def test_dangerous_flag_is_refused_without_its_value(flag: str) -> None:
    # llama.cpp reads underscores in long flags as hyphens, so these spellings are the same flags.
    problem = extra_argument_problem(f"{flag}=s3cret")
    assert problem is not None
    assert problem.startswith(f"must not use {flag.replace('_', '-') if flag.startswith('--') else flag}: ")
    assert "s3cret" not in problem


def test_other_arguments_pass_as_they_are() -> None:
    arguments = ["--jinja", "--load-mode", "mmap", "0.0.0.0", "--host-name", "--threads-other=2", "-x", "-t2"]
    adapter = load_with("1b", model__adapter__launchProfile__extraArgs=arguments).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.launch_profile is not None
    assert adapter.launch_profile.extra_args == tuple(arguments)


@pytest.mark.parametrize(
    "arguments", ["--jinja", None, {}, [""], [" "], [5], ["--a"] * 65, ["a" * 4097], ["a\nb"], ["a\0"]]
)
def test_bad_extra_arguments_are_refused(arguments: object) -> None:
    message = refusal(changed("1b", model__adapter__launchProfile__extraArgs=arguments))
    assert message.startswith("model.adapter.launchProfile.extraArgs")


def test_slot_id_is_a_whole_number_from_zero() -> None:
    for value in ("1", 1.5, -1, True, None, 10**9 + 1):
        assert refusal(changed("1b", model__adapter__slotId=value)).startswith(
            "model.adapter.slotId must be an integer"
        )
    adapter = load_with("1b", model__adapter__slotId=0).model.adapter
    assert isinstance(adapter, LlamaCppAdapter)
    assert adapter.slot_id == 0


def test_incomplete_launch_profile_names_the_first_missing_key() -> None:
    document = changed("vps", model__adapter={"kind": "llama.cpp", "launchProfile": {"preset": "single-vps-balanced"}})
    assert refusal(document) == "model.adapter.launchProfile.binaryPath is required"
