"""Runs a command under what a unit file says, as far as that can be done without a service manager.

    python -m tests.integration.sandbox UNIT UID -- COMMAND...

In a mount namespace of its own: everything read-only but `ReadWritePaths=`, /proc as `ProcSubset=` has it, paths of
`InaccessiblePaths=` hidden. Then, as user UID without privileges: `UMask=`, `LimitNOFILE=`, `LimitCORE=`, the system
calls of `SystemCallFilter=` (the groups as the installed systemd lists them), `RestrictAddressFamilies=` and
`MemoryDenyWriteExecute=` through libseccomp, which is what systemd itself uses. Needs root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
PR_SET_NO_NEW_PRIVS = 38
ALLOW = 0x7FFF_0000
DENY = 0x0005_0000
MASKED_EQUAL, EQUAL = 7, 4
PROT_WRITE, PROT_EXEC = 2, 4


class Comparison(ctypes.Structure):
    """libseccomp's `struct scmp_arg_cmp`."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def values(unit: str, setting: str) -> list[str]:
    return re.findall(rf"^{setting}=(.*)$", unit, re.MULTILINE)


def value(unit: str, setting: str) -> str:
    found = values(unit, setting)
    return found[-1] if found else ""


def checked(status: int, what: str) -> int:
    if status < 0:
        raise OSError(-status if status > -4096 else 0, what)
    return status


def members(group: str) -> set[str]:
    """The system calls of a group such as `@system-service`, the groups in it taken apart."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True, timeout=60
    )
    calls: set[str] = set()
    for line in listed.stdout.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            calls |= members(name)
        elif name and not name.startswith("#"):
            calls.add(name)
    return calls


def allowed_calls(unit: str) -> set[str]:
    """Later lines with `~` take away from what earlier ones allow; systemd always allows `@default`."""
    calls = members("@default")
    for line in values(unit, "SystemCallFilter"):
        named = set().union(*(members(word) for word in line.removeprefix("~").split()))
        calls = calls - named if line.startswith("~") else calls | named
    return calls


class Filters:
    """Seccomp filters, loaded into this process one after the other."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._library.seccomp_load.argtypes = (ctypes.c_void_p,)

    def _load(self, rules: Sequence[tuple[str, int, tuple[Comparison, ...]]], otherwise: int) -> None:
        context = self._library.seccomp_init(ctypes.c_uint32(otherwise))
        for call, action, comparisons in rules:
            number = self._library.seccomp_syscall_resolve_name(call.encode())
            if number == -1:  # of another architecture
                continue
            given = (Comparison * max(1, len(comparisons)))(*comparisons)
            status = self._library.seccomp_rule_add_array(
                ctypes.c_void_p(context), ctypes.c_uint32(action), number, len(comparisons), given
            )
            if status != -errno.EDOM:
                checked(status, call)
        checked(self._library.seccomp_load(context), "seccomp_load")

    def only_calls(self, calls: set[str]) -> None:
        self._load([(call, ALLOW, ()) for call in sorted(calls)], DENY | errno.EPERM)

    def only_families(self, names: Sequence[str]) -> None:
        numbers = {int(getattr(socket, name)) for name in names}
        denied = DENY | errno.EAFNOSUPPORT
        self._load(
            [("socket", denied, (Comparison(0, EQUAL, each, 0),)) for each in range(46) if each not in numbers], ALLOW
        )

    def no_writable_code(self) -> None:
        both, denied = PROT_WRITE | PROT_EXEC, DENY | errno.EPERM
        self._load(
            [
                ("mmap", denied, (Comparison(2, MASKED_EQUAL, both, both),)),
                ("mprotect", denied, (Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC),)),
                ("pkey_mprotect", denied, (Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC),)),
            ],
            ALLOW,
        )


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=30)


def enclose(unit: str) -> None:
    """The file system as the unit sees it."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    for place in shlex.split(value(unit, "ReadWritePaths")):
        mount("--bind", place.removeprefix("-"), place.removeprefix("-"))
    for place in shlex.split(value(unit, "InaccessiblePaths")):
        path = place.removeprefix("-")
        if os.path.isdir(path):
            mount("-t", "tmpfs", "-o", "mode=000,ro", "tmpfs", path)
    subset = ",subset=pid" if value(unit, "ProcSubset") == "pid" else ""
    mount("-t", "proc", "-o", f"hidepid=invisible{subset}", "proc", "/proc")
    mount("-o", "remount,bind,ro", "/")


def confine(unit: str, uid: int) -> None:
    """User, limits and filters, in the order in which a later one does not forbid an earlier."""
    calls = allowed_calls(unit)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = int(value(unit, "LimitNOFILE"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.umask(int(value(unit, "UMask"), 8))
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError("no_new_privs")
    filters = Filters()
    filters.only_families(value(unit, "RestrictAddressFamilies").split())
    if value(unit, "MemoryDenyWriteExecute") == "true":
        filters.no_writable_code()
    # Last: it forbids loading further filters.
    filters.only_calls(calls)


def main(arguments: Sequence[str]) -> None:
    unit_path, uid, dashes, *command = arguments
    assert dashes == "--"
    unit = Path(unit_path).read_text("utf-8")
    enclose(unit)
    confine(unit, int(uid))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
