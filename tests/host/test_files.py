"""The bounded reader: absent, never an exception."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray.host.files import MAX_FILE_BYTES, parse_count, parse_counts, read_text


def test_a_file_of_exactly_the_cap_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MAX_FILE_BYTES)
    assert read_text(str(path)) == "x" * MAX_FILE_BYTES
    path.write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    assert read_text(str(path)) is None


def test_an_empty_file_is_empty_text_and_not_absent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_text(str(tmp_path / "file")) == ""


def test_a_fifo_without_a_writer_does_not_hold_up_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert read_text(str(tmp_path / "fifo")) == ""


@pytest.mark.parametrize("name", ["missing", "", "dir"], ids=["missing", "the directory itself", "a directory"])
def test_what_is_no_readable_file_is_absent(tmp_path: Path, name: str) -> None:
    (tmp_path / "dir").mkdir()
    assert read_text(f"{tmp_path}/{name}") is None


@pytest.mark.parametrize("character", ["\0", "\r", "\n"])
def test_a_path_with_a_control_character_is_never_opened(tmp_path: Path, character: str) -> None:
    if character != "\0":
        (tmp_path / f"a{character}b").write_text("there")
    assert read_text(f"{tmp_path}/a{character}b") is None


def test_a_path_beyond_4096_bytes_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("there")
    # The kernel's own limit counts the final NUL; leading slashes make a path long without making it deep.
    padded = "/" * (4_090 - len(str(tmp_path))) + f"{tmp_path}/file"
    assert len(padded) <= 4_096
    assert read_text(padded[1:]) == "there"
    assert read_text("/" * 10 + padded) is None


def test_a_path_that_cannot_be_encoded_is_absent() -> None:
    assert read_text("/proc/\ud800") is None


def test_bytes_that_are_no_utf8_can_be_used_as_a_path_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    text = read_text(str(tmp_path / "file"))
    assert text is not None
    assert os.fsencode(text) == b"caf\xe9"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("12\n", 12),
        (" 7 ", 7),
        (str(2**53 - 1), 2**53 - 1),
        (str(2**53), None),
        ("9" * 5_000, None),
        ("", None),
        ("max", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("1_0", None),
        ("0x10", None),
        ("٣", None),
        ("1 2", None),
        (None, None),
    ],
)
def test_a_count_is_plain_digits_that_json_keeps_exact(text: str | None, value: int | None) -> None:
    assert parse_count(text) == value


def test_lines_that_are_no_name_and_count_are_skipped() -> None:
    assert parse_counts("a 1\nb\n c 2\nd 3 4\ne -1\n\nf 0") == {"a": 1, "f": 0}
    assert parse_counts(None) == {}
