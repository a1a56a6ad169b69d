"""Looking at paths: what is there, where it leads, how much room there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP
from ray.deploy.places import Place, Room, above, look_at, read_small, room_at


def test_a_file_has_its_mode_and_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("12345")
    file.chmod(0o640)
    place = look_at(str(file))

    assert (place.is_file, place.is_directory, place.is_program) == (True, False, False)
    assert (place.mode, place.size, place.real_path) == (0o640, 5, None)


def test_a_link_is_followed_and_shown_with_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "link").symlink_to("program")
    place = look_at(str(tmp_path / "link"))

    assert place.is_program
    assert place.shown == f"{tmp_path}/link (resolves to {tmp_path}/program)"


@pytest.mark.parametrize("name", ["absent", "file/below", "dangling"])
def test_what_is_not_there_is_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")

    assert look_at(str(tmp_path / name)).status == "missing"


def test_a_link_that_leads_to_itself_is_unreadable_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    place = look_at(str(tmp_path / "loop"))

    assert place.status == "unreadable"
    assert place.error


def test_a_path_with_a_nul_does_not_raise() -> None:
    assert look_at("/a\0b").status == "unreadable"


def test_what_is_hidden_is_seen_on_the_path_and_on_where_it_leads() -> None:
    assert Place("/home/ray/model", "found").hidden_under(HOME_PROTECTED) == "/home"
    assert Place("/srv/model", "found", real_path="/var/tmp/model").hidden_under(PRIVATE_TMP) == "/var/tmp"
    assert Place("/homework/model", "found").hidden_under(HOME_PROTECTED) is None


def test_room_is_that_of_the_nearest_directory_that_exists(tmp_path: Path) -> None:
    room = room_at(str(tmp_path / "a/b/c"))

    assert (room.place.path, room.exists) == (str(tmp_path), False)
    assert room.available_mib is not None
    assert room.available_mib > 0
    assert room_at(str(tmp_path)).exists


def test_below_a_file_there_is_no_room(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    room = room_at(str(tmp_path / "file/below"))

    assert room.place.path == str(tmp_path / "file")
    assert (room.place.is_directory, room.available_mib) == (False, None)


@pytest.mark.parametrize(
    ("path", "nearest", "managed"),
    [
        ("/var/lib/ray/async-queue", "/var/lib", True),
        ("/var/lib/ray/async-queue", "/var/lib/ray", True),
        ("/var/lib/ray/async-queue", "/var/lib/ray/async-queue", False),
        ("/var/lib/rayon/jobs", "/var/lib", False),
        ("/srv/jobs", "/srv", False),
    ],
)
def test_systemd_makes_what_is_missing_below_its_state_directory(path: str, nearest: str, managed: bool) -> None:
    assert Room(path, Place(nearest, "found", "directory")).is_managed is managed


def test_the_directories_above_a_path_begin_with_the_root() -> None:
    assert above("/srv/ray/file") == ["/", "/srv", "/srv/ray"]
    assert above("/") == []


def test_a_small_file_that_is_not_small_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x" * 11)

    assert read_small(str(file), 11) == "x" * 11
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_small(str(file), 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_closed_directory_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)

    assert look_at(str(tmp_path / "closed/file")).status == "unreadable"
