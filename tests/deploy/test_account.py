"""The account of the services: looked up by name or number, and what it may reach."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from ray.deploy import account as account_module
from ray.deploy.account import Account, Need, access_of, is_open, read_account, room_need
from ray.deploy.places import Place, Room

NOBODY = Account("nobody", "found", 65534, 65534, "nogroup", (65534,))
ENVIRON = {"PATH": os.environ["PATH"]}


def status(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def test_an_account_is_found_by_name_and_by_number() -> None:
    me = pwd.getpwuid(os.getuid())

    for user in (me.pw_name, str(me.pw_uid)):
        found = read_account(user)
        assert (found.status, found.uid, found.gid) == ("found", me.pw_uid, me.pw_gid)
        assert found.groups[0] == me.pw_gid


def test_of_very_many_groups_the_primary_one_and_the_first_1024_count(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [*range(5_000, 6_500), me.pw_gid])

    assert read_account(me.pw_name).groups == (me.pw_gid, *range(5_000, 6_023))


@pytest.mark.parametrize("user", ["no-such-account-here", "4000000001", "9999999999"])
def test_an_account_that_is_not_there_is_missing_and_has_no_identity(user: str) -> None:
    found = read_account(user)

    assert found.status == "missing"
    assert found.identity is None


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "bits", "open_"),
    [
        (0o700, 1000, 1000, 4, True),
        (0o077, 1000, 1000, 4, False),  # the owner's bits alone count for the owner
        (0o050, 0, 1000, 5, True),
        (0o005, 0, 1000, 5, False),  # and the group's for members
        (0o050, 0, 7, 5, True),
        (0o005, 0, 0, 5, True),
        (0o755, 0, 0, 2, False),
        (0o750, 0, 0, 1, False),
    ],
)
def test_permission_bits_are_read_as_the_kernel_reads_them(
    mode: int, uid: int, gid: int, bits: int, open_: bool
) -> None:
    someone = Account("someone", "found", 1000, 1000, None, (1000, 7))

    assert is_open(someone, status(mode, uid, gid), bits) is open_


def test_root_may_do_everything() -> None:
    assert is_open(Account("root", "found", 0, 0, "root", (0,)), status(0, 5, 5), 7)


@pytest.mark.parametrize("as_root", [True, False])
def test_the_first_closed_directory_on_the_way_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_root: bool
) -> None:
    """By the kernel as root, by the permission bits otherwise: for others' files both say the same."""
    if as_root and os.geteuid() != 0:
        pytest.skip("only root can ask in somebody else's name")
    if not as_root:
        monkeypatch.setattr(account_module, "_asked_kernel", lambda *_: None)
    open_everything(tmp_path)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/file").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "open").write_text("")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "link").symlink_to("closed/file")
    wanted: dict[str, tuple[str, Need]] = {
        name: (str(tmp_path / name), "r") for name in ("closed/file", "file", "open", "link")
    }
    if os.geteuid() != 0 and not as_root:
        pytest.skip("the files would belong to the account that is asked about")

    found = access_of(NOBODY, wanted, ENVIRON)

    assert found["open"].status == "ok"
    assert found["file"].error == f"{tmp_path}/file has mode 0600"
    assert found["closed/file"].error == f"{tmp_path}/closed has mode 0700"
    assert found["link"].error == f"{tmp_path}/closed has mode 0700"


def open_everything(path: Path) -> None:
    """pytest closes its directories to others."""
    for directory in (path, *path.parents):
        if directory != Path("/") and directory.owner() == pwd.getpwuid(os.getuid()).pw_name:
            mode = directory.stat().st_mode
            if not mode & 0o001:
                directory.chmod(stat.S_IMODE(mode) | 0o011)


def test_without_an_account_nothing_is_tried() -> None:
    missing = Account("ray", "missing")

    assert access_of(missing, {"x": ("/", "r")}, ENVIRON) == {}
    assert access_of(None, {"x": ("/", "r")}, ENVIRON) == {}


@pytest.mark.parametrize(
    ("path", "nearest", "need"),
    [
        ("/srv/jobs", "/srv/jobs", "rwx"),
        ("/srv/jobs", "/srv", "wx"),
        ("/var/lib/ray/jobs", "/var/lib/ray", "x"),  # systemd makes it, the account only has to get there
        ("/var/lib/ray/jobs", "/var/lib/ray/jobs", "rwx"),
    ],
)
def test_a_directory_to_be_written_has_to_be_open_or_to_be_made(path: str, nearest: str, need: str) -> None:
    assert room_need(Room(path, Place(nearest, "found", "directory"))) == need
