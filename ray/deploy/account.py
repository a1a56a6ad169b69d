"""The account of the services, and what it may reach.

As root the kernel is asked, by a child that runs as that account: then access lists and everything else count. Others
can only compare permission bits, for the path as written and for where it leads.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ray.deploy.places import Room, Status, above
from ray.deploy.probes import LOOK_SECONDS, Identity, run_probe, within

MAX_GROUPS = 1_024
Need = Literal["r", "x", "rx", "wx", "rwx"]
_BITS = {"r": 4, "w": 2, "x": 1}

# Reads [[path, bits], …], answers with the first path on the way that is closed, or null, for each.
_CHILD = """
import json, os, sys
def up(path):
    while path != '/':
        path = os.path.dirname(path)
        yield path
def closed(path, bits):
    for way in (path, os.path.realpath(path)):
        for directory in reversed(list(up(way))):
            if not os.access(directory, os.X_OK):
                return directory
    return None if os.access(path, bits) else path
json.dump([closed(path, bits) for path, bits in json.loads(sys.argv[1])], sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Account:
    """An account and its groups, the primary one first. `group`: the name of that one, where it has one."""

    user: str
    status: Status
    uid: int = -1
    gid: int = -1
    group: str | None = None
    groups: tuple[int, ...] = ()
    error: str | None = None

    @property
    def identity(self) -> Identity | None:
        return Identity(self.uid, self.gid, self.groups) if self.status == "found" else None


@dataclass(frozen=True, slots=True)
class Access:
    """May the account do it? `error`: what is in the way."""

    status: Literal["ok", "blocked"]
    error: str | None = None


def read_account(user: str) -> Account:
    """Look up a name or a number. A number has to be an account's: it needs a primary group."""
    return within(
        LOOK_SECONDS,
        lambda: _looked_up(user),
        lambda error: Account(user, "unreadable", error=error),
    )


def _looked_up(user: str) -> Account:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        return Account(user, "missing")
    gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    groups = tuple(dict.fromkeys([entry.pw_gid, *gids]))[:MAX_GROUPS]
    try:
        group = grp.getgrgid(entry.pw_gid).gr_name
    except KeyError:
        group = None
    return Account(user, "found", entry.pw_uid, entry.pw_gid, group, groups)


def access_of(
    account: Account | None, wanted: Mapping[str, tuple[str, Need]], environ: Mapping[str, str]
) -> dict[str, Access]:
    """For each name in `wanted` (path and need) whether the account may do it. Empty where there is no account."""
    if account is None or account.identity is None or not wanted:
        return {}
    asked = [(path, sum(_BITS[letter] for letter in need)) for path, need in wanted.values()]
    closed = _asked_kernel(account.identity, asked, environ)
    if closed is None:
        compared = [_by_mode(account, path, bits) for path, bits in asked]
        return {name: access for name, access in zip(wanted, compared, strict=True) if access is not None}
    return {name: _access(place) for name, place in zip(wanted, closed, strict=True)}


def room_need(room: Room) -> Need:
    """What the account needs at the nearest existing path of a directory that it will write to. Below /var/lib/ray
    systemd makes the directory and gives it to the account, which then only has to get there."""
    if room.exists:
        return "rwx"
    return "x" if room.is_managed else "wx"


def _by_mode(account: Account, path: str, bits: int) -> Access | None:
    """None when somebody who may not look cannot tell."""
    return within(LOOK_SECONDS, lambda: _access(_closed(account, path, bits)), lambda _: None)


def _asked_kernel(
    identity: Identity, asked: Sequence[tuple[str, int]], environ: Mapping[str, str]
) -> list[str | None] | None:
    """None when nobody can become that account here, or no interpreter is open to it."""
    if os.geteuid() != 0 and os.geteuid() != identity.uid:
        return None
    for interpreter in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        if interpreter:
            command = [interpreter, "-I", "-S", "-c", _CHILD, json.dumps(asked)]
            probe = run_probe(command, environ, identity=identity, cwd="/")
            if probe.is_ok:
                answers = json.loads(probe.stdout)
                return [answer if isinstance(answer, str) else None for answer in answers]
    return None


def _closed(account: Account, path: str, bits: int) -> str | None:
    """The first thing on the way to `path` that permission bits close to the account."""
    for way in (path, os.path.realpath(path)):
        for directory in above(way):
            if not is_open(account, os.stat(directory), _BITS["x"]):
                return directory
    return None if is_open(account, os.stat(path), bits) else path


def is_open(account: Account, status: os.stat_result, bits: int) -> bool:
    """What permission bits say: the owner's count for the owner, else the group's for members, else the others'."""
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        granted = status.st_mode >> 6
    elif status.st_gid in account.groups:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & bits == bits


def _access(closed: str | None) -> Access:
    if closed is None:
        return Access("ok")
    try:
        mode = f" has mode {stat.S_IMODE(os.stat(closed).st_mode):04o}"
    except OSError:
        mode = ""
    return Access("blocked", f"{closed}{mode}")
