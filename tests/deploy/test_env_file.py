"""Env files: what is read, what is refused, and that it is what systemd would read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray.deploy.env_file import parse_env, quoted, read_env_file
from ray.deploy.failures import DeployError

SECRET = "sesame-open-5f1d"


def parsed(text: str) -> dict[str, str]:
    return parse_env(text, "/etc/ray/ray.env")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("\n\n  \t\n", {}),
        ("# A=1\n  # B=2\n; C=3\n", {}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("  C = y \n", {"C": "y"}),
        ("A=x # c", {"A": "x # c"}),
        ("A=", {"A": ""}),
        ("A=''\nB=\"\"", {"A": "", "B": ""}),
        ("A=a=b=c", {"A": "a=b=c"}),
        ("A=it's", {"A": "it's"}),
        ("A=' x '", {"A": " x "}),
        ('A=" x "', {"A": " x "}),
        ("A='a\\nb$c'", {"A": "a\\nb$c"}),
        ('A="a\\"b\\\\c\\$d\\`e"', {"A": 'a"b\\c$d`e'}),
        ('A="a\\d"', {"A": "a\\d"}),
        ("A=${HOME} $B", {"A": "${HOME} $B"}),
        ("A=50%", {"A": "50%"}),
        ("_a9=1", {"_a9": "1"}),
        ("A=\u00e4\u20ac", {"A": "\u00e4\u20ac"}),
        ("A='x\ty'", {"A": "x\ty"}),
    ],
)
def test_lines_are_read(text: str, values: dict[str, str]) -> None:
    assert parsed(text) == values


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (f"{SECRET}", "NAME=value"),
        (f"={SECRET}", "NAME=value"),
        (f"export C={SECRET}", "no valid name"),
        (f"1A={SECRET}", "no valid name"),
        (f"A-B={SECRET}", "no valid name"),
        (f"\u00e9={SECRET}", "no valid name"),
        (f"{'A' * 129}={SECRET}", "more than 128"),
        (f"__proto__={SECRET}", "unsafe"),
        (f'K={SECRET}"', "unterminated"),
        (f'K="{SECRET}', "unterminated"),
        (f"K='{SECRET}", "unterminated"),
        (f'K="{SECRET}" # c', "unterminated"),
        (f"K=\"{SECRET}'", "unterminated"),
        ("K='", "unterminated"),
        (f'K="{SECRET}" "b"', "inside the quoted"),
        (f"K='{SECRET}'b'", "inside the quoted"),
        (f'K="{SECRET}\\"', "unterminated"),
        (f"K={SECRET}\\", "ends with a backslash"),
        (f"K={SECRET}\\b", "single quotes"),
        (f'K="{SECRET}\\nx"', "two characters"),
        (f'K="{SECRET}\\tx"', "two characters"),
        (f"# {SECRET} \\", "ends with a backslash"),
        (f"K={SECRET}\x01x", "control character"),
        (f"K={SECRET}\x85x", "control character"),
        (f"K={SECRET}\rL=1", "control character"),
    ],
)
def test_a_line_that_is_wrong_or_means_something_else_to_systemd_is_refused_by_its_number(line: str, part: str) -> None:
    with pytest.raises(DeployError) as refusal:
        parsed(f"# first\nA=1\n{line}\n")
    message = str(refusal.value)
    assert part in message
    assert "/etc/ray/ray.env, line 3," in message
    assert SECRET not in message


def test_an_escaped_backslash_before_n_is_not_a_line_break() -> None:
    assert parsed('A="a\\\\nb"') == {"A": "a\\nb"}


def test_assignments_are_counted_with_their_duplicates() -> None:
    assert len(parsed("A=1\n" * 512)) == 1
    with pytest.raises(DeployError, match="at most 512 assignments"):
        parsed("A=1\n" * 513)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_what_is_quoted_is_read_back(value: str) -> None:
    line = quoted(value)
    if line is None:
        assert any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value)
    else:
        assert parsed(f"K={line}") == {"K": value}


def test_a_file_is_read_and_its_values_stay_out_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "ray.env"
    path.write_text(f"RAY_API_KEYS={SECRET}\n")
    file = read_env_file(str(path))
    assert file.values == {"RAY_API_KEYS": SECRET}
    assert SECRET not in repr(file)


def test_the_largest_file_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "ray.env"
    path.write_bytes(b"#" * 65_536)
    assert read_env_file(str(path)).values == {}
    path.write_bytes(b"#" * 65_537)
    with pytest.raises(DeployError, match="larger than 65536 bytes"):
        read_env_file(str(path))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="does not exist"):
        read_env_file(str(tmp_path / "missing"))
    with pytest.raises(DeployError, match="regular file"):
        read_env_file(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DeployError, match="regular file"):
        read_env_file(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("content", "part"), [(b"A=\xff\n", "not valid UTF-8"), (b"\xef\xbb\xbfA=1\n", "byte-order mark")]
)
def test_bytes_that_systemd_would_take_otherwise_are_refused(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "ray.env"
    path.write_bytes(content)
    with pytest.raises(DeployError, match=part):
        read_env_file(str(path))


def test_an_unreadable_file_says_how_it_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ray.env"
    path.write_text("A=1\n")

    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    # root may read everything, so the refusal has to be played
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(DeployError, match="sudo"):
        read_env_file(str(path))
