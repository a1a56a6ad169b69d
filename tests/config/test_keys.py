"""Client API keys: what counts as a key, and that no key is ever shown."""

from __future__ import annotations

import hashlib

import pytest

from ray.config import resolve_api_keys
from ray.errors import RayError
from tests.config.support import load


def digests(*keys: str) -> frozenset[bytes]:
    return frozenset(hashlib.sha256(key.encode()).digest() for key in keys)


def resolved(text: str) -> frozenset[bytes]:
    return resolve_api_keys(load({"auth": {"enabled": True}}), {"RAY_API_KEYS": text})


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("alpha", ["alpha"]),
        ("alpha, beta\ncharlie", ["alpha", "beta", "charlie"]),
        ("alpha\r\nbeta\r\n", ["alpha", "beta"]),
        ("a,,b,", ["a", "b"]),
        ("a,a", ["a"]),
        ("a;b", ["a;b"]),
        ("schlüssel", ["schlüssel"]),
        ("k" * 1024, ["k" * 1024]),
        (",".join(f"k{number}" for number in range(128)), [f"k{number}" for number in range(128)]),
    ],
)
def test_keys_are_split_on_commas_and_newlines_and_hashed(text: str, keys: list[str]) -> None:
    assert resolved(text) == digests(*keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        (", ,\n,", "must hold at least one API key"),
        ("k" * 1025, "more than 1024 characters"),
        (",".join(["k"] * 129), "at most 128 API keys, not 129"),
        ("k," * 33_000, "at most 65536 characters"),
        ("alpha beta", "whitespace or control"),
        ("alpha\tbeta", "whitespace or control"),
        ("alpha\u00a0beta", "whitespace or control"),
        ("alpha\u2028beta", "whitespace or control"),
        ("alpha\x1fbeta", "whitespace or control"),
        ("alpha\x7fbeta", "whitespace or control"),
        ("alpha\x00beta", "whitespace or control"),
    ],
)
def test_unusable_keys_are_refused_and_never_shown(text: str, words: str) -> None:
    with pytest.raises(RayError) as caught:
        resolved(text)
    assert caught.value.code == "config_validation_error"
    assert caught.value.message.startswith("RAY_API_KEYS ")
    assert words in caught.value.message
    assert "alpha" not in str(caught.value.envelope())


def test_missing_variable_is_refused_by_its_name() -> None:
    config = load({"auth": {"enabled": True, "apiKeyEnv": "EDGE_KEYS"}})
    with pytest.raises(RayError, match=r"EDGE_KEYS is empty: auth is enabled.*openssl rand"):
        resolve_api_keys(config, {"RAY_API_KEYS": "a"})
    assert resolve_api_keys(config, {"EDGE_KEYS": "a"}) == digests("a")


def test_variable_is_not_read_while_auth_is_off() -> None:
    assert resolve_api_keys(load({}), {"RAY_API_KEYS": "not a key"}) == frozenset()


def test_key_bytes_that_are_not_utf8_are_hashed_as_they_are() -> None:
    assert resolved("k\udcff") == frozenset({hashlib.sha256(b"k\xff").digest()})
