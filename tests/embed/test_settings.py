"""What a configuration may be given as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray.embed import load_config
from ray.errors import RayError


def test_given_a_path_a_mapping_or_a_config_then_it_is_the_same_configuration(tmp_path: Path) -> None:
    document = {"profile": "tiny", "server": {"port": 4_711}}
    path = tmp_path / "ray.json"
    path.write_text(json.dumps(document))
    from_mapping = load_config(document, environ={})
    assert load_config(path, environ={}) == load_config(str(path), environ={}) == from_mapping
    assert load_config(from_mapping, environ={"RAY_PORT": "4712"}) is from_mapping


@pytest.mark.parametrize("as_file", [True, False])
def test_given_variables_then_they_override_what_was_given(as_file: bool, tmp_path: Path) -> None:
    document = {"profile": "tiny", "server": {"port": 4_711}}
    path = tmp_path / "ray.json"
    path.write_text(json.dumps(document))
    assert load_config(path if as_file else document, environ={"RAY_PORT": "4712"}).server.port == 4_712


def test_given_nothing_then_the_profile_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_PROFILE", "tiny")
    assert load_config().profile == "tiny"
    assert load_config(environ={"RAY_PROFILE": "sub1b"}).profile == "sub1b"


@pytest.mark.parametrize(
    ("text", "code"), [("{", "config_parse_error"), ('{"server": {"port": 0}}', "config_validation_error")]
)
def test_given_a_file_that_cannot_be_used_then_the_error_has_a_code(text: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "ray.json"
    path.write_text(text)
    with pytest.raises(RayError) as refusal:
        load_config(path, environ={})
    assert refusal.value.code == code
