"""Whatever JSON, text or environment comes in: the outcome is a `Config` or a `RayError`, nothing else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ray.config import Config, config_document, config_from_mapping, load_config, sanitised_config
from ray.config.nearest import known_keys
from ray.config.profiles import profile_document
from ray.config.schema import CONFIG, PROFILE_NAMES
from ray.errors import RayError
from tests.config.support import CWD, load, put
from tests.config.test_environment import rows as variable_rows

KEYS = sorted(known_keys(CONFIG, ""))
NAMES = sorted({part for key in KEYS for part in key.split(".")} | {"__proto__", "", "x", "\ud800"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["mock", "llama.cpp", "openai-compatible", "http://127.0.0.1:1", "\udc80", "a" * 5000, *PROFILE_NAMES]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5)
TEXTS = st.text(max_size=30) | st.sampled_from(["1", "0", "true", "127.0.0.1", "\udcff", "9" * 5000, "http://[::1]:1"])
VARIABLES = st.dictionaries(st.sampled_from([row[0] for row in variable_rows()] + ["RAY_PROFILE"]), TEXTS, max_size=4)


def check_refusal(refused: RayError, codes: set[str]) -> None:
    """A refusal that can be logged as one JSON line, and is not a page long."""
    assert refused.code in codes
    json.dumps(refused.envelope(), allow_nan=False).encode()
    assert len(refused.message) <= 8192


def outcome(document: dict[str, object], environ: dict[str, str]) -> Config | None:
    """The config, or None after a proper refusal; both must be fit to be sent as JSON."""
    try:
        config = config_from_mapping(document, environ, CWD)
    except RayError as refused:
        check_refusal(refused, {"config_validation_error"})
        return None
    json.dumps(sanitised_config(config), allow_nan=False).encode()
    return config


@settings(max_examples=300, deadline=None, derandomize=True)
@given(DOCUMENTS, VARIABLES)
def test_any_document_and_environment(document: dict[str, object], environ: dict[str, str]) -> None:
    outcome(document, environ)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(PROFILE_NAMES), st.lists(st.tuples(st.sampled_from(KEYS), JSON), max_size=3), VARIABLES)
def test_any_value_at_any_known_key(profile: str, changes: list[tuple[str, object]], environ: dict[str, str]) -> None:
    document = profile_document(profile)
    for key, value in changes:
        try:
            put(document, key, value)
        except AssertionError:  # an earlier change put something else in the way
            continue
    config = outcome(document, environ)
    if config is not None:
        assert load(config_document(config)) == config  # what was accepted is accepted again, unchanged


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_content(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ray.json"
        path.write_bytes(content)
        try:
            load_config(str(path), {}, CWD)
        except RayError as refused:
            check_refusal(refused, {"config_parse_error", "config_validation_error"})
