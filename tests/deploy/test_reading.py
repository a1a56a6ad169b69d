"""Reading small files: whatever stands in the place of one, reading ends, and what is given is all of it or nothing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ray.deploy.reading import read_regular, read_text

LIMIT = 1_000


@pytest.mark.parametrize("size", [0, 1, LIMIT])
def test_a_file_within_the_limit_is_read_whole(tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    assert read_regular(str(file), LIMIT) == b"x" * size


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(str(tmp_path / "link"), LIMIT) == b"text"


def test_one_byte_over_the_limit_is_too_much(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(ValueError, match=rf"^is larger than {LIMIT} bytes$"):
        read_regular(str(file), LIMIT)


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 1 << 40)
    with pytest.raises(ValueError, match="is larger than"):
        read_regular(str(file), LIMIT)


def test_a_file_of_proc_whose_size_is_zero_is_read_and_limited() -> None:
    assert read_regular("/proc/self/status", 1 << 20).startswith(b"Name:")
    with pytest.raises(ValueError, match="is larger than 10 bytes"):
        read_regular("/proc/self/status", 10)


def test_a_pipe_nobody_writes_to_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"^is no regular file$"):
        read_regular(str(tmp_path / "pipe"), LIMIT)


@pytest.mark.parametrize("path", ["/", "/dev/null", "/dev/zero"])
def test_directories_and_devices_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"^is no regular file$"):
        read_regular(path, LIMIT)


def test_what_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="No such device"):
            read_regular(str(tmp_path / "socket"), LIMIT)
    with pytest.raises(FileNotFoundError):
        read_regular(str(tmp_path / "missing"), LIMIT)


def test_a_refusal_leaves_no_file_open(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="regular"):
        read_regular(str(tmp_path), LIMIT)
    # Other descriptors may come and go meanwhile: a server of an earlier test may still be closing its own.
    assert str(tmp_path) not in [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]


def test_text_has_the_line_ends_of_unix(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("é\r\nb\n".encode())
    assert read_text(str(tmp_path / "file"), LIMIT) == "é\nb\n"


def test_other_bytes_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"^is not UTF-8 text$"):
        read_text(str(tmp_path / "file"), LIMIT)
