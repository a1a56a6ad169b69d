"""Errors: the table of codes, the envelope, and details that are safe to send whatever they were made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.errors import CODES, RayError, bounded, truncated


@pytest.mark.parametrize(
    ("code", "status", "retry_after", "expected"),
    [
        ("invalid_request", 400, None, True),
        ("queue_full", 503, 1, True),
        ("request_timeout", 504, 5, True),
        ("provider_timeout", 504, 5, True),
        ("async_queue_storage_low", 503, 30, True),
        ("provider_upstream_error", 502, None, False),
        ("gateway_error", 500, None, False),
    ],
)
def test_given_a_code_then_status_retry_after_and_expectedness_come_from_the_table(
    code: str, status: int, retry_after: int | None, expected: bool
) -> None:
    error = RayError(code, "what happened")

    assert (error.status, error.retry_after, error.expected) == (status, retry_after, expected)


def test_given_every_code_then_it_is_well_formed() -> None:
    for code, rule in CODES.items():
        assert code.replace("_", "").isalnum()
        assert code == code.lower()
        assert 400 <= rule.status < 600


def test_given_an_unknown_code_then_it_is_refused() -> None:
    with pytest.raises(KeyError):
        RayError("no_such_code", "never")


def test_given_a_backend_that_knows_better_then_status_and_hint_are_its_own() -> None:
    error = RayError("provider_upstream_error", "loading", status=503, retry_after=2)

    assert (error.status, error.retry_after) == (503, 2)


def test_given_details_then_the_envelope_carries_a_copy_without_stacks() -> None:
    details: dict[str, object] = {"limit": 3, "inner": {"Stack": "secret path", "kept": True}}
    error = RayError("invalid_request", "no", details=details)
    details["limit"] = 4

    assert error.envelope() == {
        "error": {"code": "invalid_request", "message": "no", "details": {"limit": 3, "inner": {"kept": True}}}
    }


def test_given_no_details_then_the_key_is_left_out() -> None:
    assert "details" not in str(RayError("not_found", "There is no such route.").envelope())


class Broken(Mapping[str, object]):
    """A mapping that cannot be listed."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("listing is not possible")

    def __len__(self) -> int:
        return 1


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


CIRCLE: dict[str, object] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    ("value", "copy"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        pytest.param(10**5_000, "[integer too large]", id="an integer that Python refuses to print"),
        (b"\x00\x01", "[bytes 2 bytes]"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        (ValueError("why"), {"name": "ValueError", "message": "why"}),
        (CIRCLE, {"self": "[Circular]"}),
        (list(range(66)), [*range(64), "[Truncated 2 items]"]),
        ("x" * 8_193, "x" * 8_192 + "...[truncated 1 chars]"),
        ({"__proto__": 1, 7: "seven"}, {"__proto__": 1, "7": "seven"}),
        (Unprintable(), "[Thrown: ValueError]"),
        (Broken(), "[Unreadable: RuntimeError]"),
        ([[[[[[["deep"]]]]]]], [[[[[["[Truncated]"]]]]]]),
    ],
)
def test_given_an_odd_value_then_its_copy_is_plain_and_bounded(value: object, copy: object) -> None:
    assert bounded(value) == copy


def test_given_too_many_keys_then_the_rest_is_counted() -> None:
    copy = bounded({str(number): number for number in range(70)})

    assert isinstance(copy, dict)
    assert (len(copy), copy["__truncatedKeys"]) == (65, 6)


def test_given_width_at_every_level_then_the_copy_stays_small() -> None:
    wide: object = "leaf"
    for _ in range(6):
        wide = [wide] * 64

    assert len(json.dumps(bounded(wide))) < 100_000


@pytest.mark.parametrize(("length", "limit"), [(706, 512), (141, 128), (129, 128), (10_000, 30), (100, 5)])
def test_given_a_text_over_the_limit_then_head_and_marker_fill_it_exactly(length: int, limit: int) -> None:
    cut = truncated("a" * length, limit)

    assert len(cut) <= limit
    if limit >= 30:
        head, marker = cut.split("...")
        assert marker == f"[truncated {length - len(head)} chars]"


def test_given_a_text_within_the_limit_then_it_is_kept() -> None:
    assert truncated("short", 5) == "short"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=40,
    )
)
def test_given_any_value_then_its_copy_can_be_written_as_strict_json(value: object) -> None:
    json.dumps(bounded(value), allow_nan=False).encode("utf-8")
