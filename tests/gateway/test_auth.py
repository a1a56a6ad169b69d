"""Who may ask: bearer tokens against digests of keys."""

from __future__ import annotations

from hashlib import sha256

import pytest

from ray.errors import RayError
from ray.gateway import auth
from ray.gateway.auth import Authenticator, bearer_token
from ray.types import Caller

KEY = "sk-first-key"
OTHER_KEY = "zweiter-schlüssel"


def authenticator(*keys: str) -> Authenticator:
    return Authenticator(True, frozenset(sha256(key.encode()).digest() for key in keys))


def on_the_wire(text: str) -> str:
    """A header value as the server hands it over: UTF-8 bytes, decoded as Latin-1."""
    return text.encode("utf-8").decode("latin-1")


@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_given_a_configured_key_when_presented_then_the_caller_is_known_by_its_hash(key: str) -> None:
    caller = authenticator(KEY, OTHER_KEY).identify([on_the_wire(f"Bearer {key}")], "203.0.113.9")
    assert caller == Caller(sha256(key.encode()).hexdigest(), "203.0.113.9")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        [KEY],
        ["Bearer wrong-key"],
        [f"Bearer {KEY[:-1]}"],
        [f"Bearer {KEY} extra"],
        ["Bearer a b"],
        [f"Basic {KEY}"],
        [f"Bearer {KEY}\x01"],
        [f"Bearer {KEY}\x7f"],
        ["Bearer " + "k" * 1_025],
        [f"Bearer {KEY}", "Bearer other"],
        [f"Bearer {KEY}, Bearer {KEY}"],
        ["Bearer \u20ac"],
    ],
)
def test_given_no_acceptable_key_when_identifying_then_it_is_unauthorized(lines: list[str]) -> None:
    with pytest.raises(RayError) as caught:
        authenticator(KEY, OTHER_KEY).identify(lines, "203.0.113.9")
    assert (caught.value.code, caught.value.status) == ("unauthorized", 401)
    assert KEY not in str(caught.value)
    assert caught.value.details is None


@pytest.mark.parametrize("line", [f"bearer {KEY}", f"BEARER {KEY}", f"Bearer  \t {KEY} "])
def test_given_another_spelling_of_the_scheme_when_identifying_then_the_key_counts(line: str) -> None:
    assert authenticator(KEY).identify([line], "x").key_hash is not None


def test_given_the_same_line_twice_when_identifying_then_it_is_one_token() -> None:
    assert authenticator(KEY).identify([f"Bearer {KEY}", f"Bearer {KEY}"], "x").key_hash is not None


def test_given_auth_off_when_a_token_is_presented_then_it_is_ignored() -> None:
    assert Authenticator(False, frozenset()).identify([f"Bearer {KEY}"], "10.0.0.1") == Caller(None, "10.0.0.1")


def test_given_auth_on_with_no_keys_when_identifying_then_nobody_gets_in() -> None:
    with pytest.raises(RayError, match="API key"):
        authenticator().identify([f"Bearer {KEY}"], "x")


def test_given_several_keys_when_the_first_matches_then_all_are_still_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[bytes] = []

    def recording(known: bytes, digest: bytes) -> bool:
        compared.append(known)
        return known == digest

    monkeypatch.setattr(auth, "compare_digest", recording)
    keys = [f"key-{number}" for number in range(5)]
    for key in keys:
        compared.clear()
        authenticator(*keys).identify([f"Bearer {key}"], "x")
        assert len(compared) == len(keys)


def test_given_a_token_of_1024_characters_when_read_then_it_is_kept_whole() -> None:
    assert bearer_token(["Bearer " + "k" * 1_024]) == b"k" * 1_024
    umlauts = "ü" * 1_024  # two bytes each
    assert bearer_token([on_the_wire(f"Bearer {umlauts}")]) == umlauts.encode()


@pytest.mark.parametrize("control", ["\x00", "\x01", "\x1f", "\x7f"])
def test_given_a_control_character_in_a_token_when_read_then_there_is_none(control: str) -> None:
    assert bearer_token([f"Bearer a{control}b"]) is None
