"""A swap file, as one shell script to be read first: Ray itself changes nothing.

As with staging it is a here-document for a shell of its own, every step is a subshell, and nothing after a failed one
is run. The file is made under another name and appears complete, or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ray.deploy.paths import normalised, path_problem
from ray.deploy.staging_script import quoted

END_MARK = "END_OF_SWAP"
DEFAULT_PATH = "/swapfile"
DEFAULT_SIZE_MIB = 1_024
LARGEST_SIZE_MIB = 65_536
DEFAULT_MIN_FREE_AFTER_MIB = 512
DEFAULT_SWAPPINESS = 10
LARGEST_SWAPPINESS = 200
FSTAB = "/etc/fstab"
SYSCTL_FILE = "/etc/sysctl.d/99-ray-swap.conf"
SWAPPINESS_FILE = "/proc/sys/vm/swappiness"
# Zeros written one by one: at least 8 MiB a second, within five minutes to two hours.
SLOWEST_MIB_PER_SECOND = 8
_UNUSABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """`min_free_after_mib`: what stays free on the file system. `sysctl_only`: no file, only the swappiness."""

    path: str = DEFAULT_PATH
    size_mib: int = DEFAULT_SIZE_MIB
    min_free_after_mib: int = DEFAULT_MIN_FREE_AFTER_MIB
    swappiness: int = DEFAULT_SWAPPINESS
    sysctl_only: bool = False

    @property
    def needed_mib(self) -> int:
        return self.size_mib + self.min_free_after_mib

    @property
    def creation_seconds(self) -> int:
        return min(7_200, max(300, -(-self.size_mib // SLOWEST_MIB_PER_SECOND)))


def swap_path_problem(path: str) -> str | None:
    """The problem with the place of a swap file ("must …"), or None. /etc/fstab separates by blanks."""
    problem = path_problem(path)
    if problem is not None:
        return problem
    if _UNUSABLE.search(path):
        return "must not contain blanks or control characters"
    if not path.startswith("/") or path.endswith("/") or normalised(path) != path:
        return "must be the absolute path of a file, without . or .. or doubled slashes"
    return None


_FUNCTIONS = r"""
fail() { printf 'swap: %s\n' "$1" >&2; exit 1; }

# In the foreground, so that Ctrl-C reaches what is running.
limit='timeout --foreground -k 5'

if [ "$(id -u)" -eq 0 ]; then
  as_root() { "$@"; }
else
  as_root() { sudo -- "$@"; }
fi
"""

_ROOM = r"""
[ -d "$directory" ] || fail "$directory is no directory"
figures=$(as_root $limit 30 stat -f -c '%a %S' -- "$directory") || fail "the free space of $directory cannot be read"
free=$((${figures% *} * ${figures#* } / 1048576))
[ "$free" -ge "$needed_mib" ] ||
  fail "$directory has $free MiB free; $size_mib MiB of swap, with $min_free_after_mib MiB left, need $needed_mib"
"""

# What it says is compared, not how it ends: sudo that is refused ends with 1 as well.
_ABSENT = r"""
found=$(as_root $limit 30 sh -c 'if [ -e "$1" ] || [ -L "$1" ]; then echo yes; else echo no; fi' sh "$path")
[ "$found" = no ] || fail "$path already exists: swapon --show says whether it is in use"
"""

_MAKE = r"""
temporary=$path.ray-tmp.$$
as_root sh -c 'umask 077; set -C; : >"$1"' sh "$temporary" || fail "$temporary cannot be made"
made=
trap 'as_root rm -f -- "$temporary" ${made:+"$made"}' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
if as_root sh -c 'command -v fallocate' >/dev/null; then
  as_root $limit "$creation_seconds" fallocate -l "${size_mib}M" -- "$temporary"
else
  as_root $limit "$creation_seconds" dd if=/dev/zero of="$temporary" bs=1048576 count="$size_mib" conv=fsync status=none
fi
as_root $limit 60 chmod 600 -- "$temporary"
as_root $limit 60 mkswap -- "$temporary"
# A link and no renaming: it fails when something has appeared there meanwhile.
as_root $limit 60 ln -T -- "$temporary" "$path"
made=$path
as_root $limit 60 rm -f -- "$temporary"
as_root $limit 60 swapon -- "$path" || fail "$path cannot be used for swap, and is removed: see the line above"
trap - EXIT
"""

# A comment, or another file whose name begins alike, is no entry of this one.
_FSTAB = r"""
if ! name=$fstab_name awk '$1 == ENVIRON["name"] && $3 == "swap" { found = 1 } END { exit !found }' "$fstab"; then
  end=$(tail -c 1 -- "$fstab")
  { [ -z "$end" ] || echo; printf '%s none swap sw 0 0\n' "$fstab_name"; } |
    as_root $limit 60 tee -a -- "$fstab" >/dev/null
fi
"""

_STEPS_OF_FILE = (
    ("there is room for it", _ROOM),
    ("nothing is in its place", _ABSENT),
    ("make it, and use it", _MAKE),
    ("use it after a restart, too", _FSTAB),
)
_STEPS_OF_SWAPPINESS = (
    (
        "swap late, after a restart, too",
        """printf 'vm.swappiness=%s\\n' "$swappiness" | as_root $limit 60 tee -- "$sysctl_file" >/dev/null""",
    ),
    ("swap late from now on", 'as_root $limit 60 sysctl -w "vm.swappiness=$swappiness"'),
    (
        "the kernel has taken it",
        'value=$($limit 30 cat -- "$swappiness_file")\n'
        '[ "$value" = "$swappiness" ] || fail "vm.swappiness is $value, not $swappiness"',
    ),
)
_STEP_AT_THE_END = ("what there is now", "as_root $limit 30 swapon --show")


def swap_steps(plan: SwapPlan) -> list[str]:
    """The steps, a subshell each. They use the values and functions at the top of the script."""
    steps = (*_STEPS_OF_FILE, *_STEPS_OF_SWAPPINESS, _STEP_AT_THE_END)
    chosen = _STEPS_OF_SWAPPINESS if plan.sysctl_only else steps
    return [f"( # {number}. {title}\n{body.strip()}\n)" for number, (title, body) in enumerate(chosen, start=1)]


def swap_script(plan: SwapPlan) -> str:
    """The whole script."""
    parts = [
        f"sh -eu <<'{END_MARK}'",
        "set -eu",
        "export LC_ALL=C",
        "",
        *_values(plan),
        _FUNCTIONS,
        "make_swap() {",
        *swap_steps(plan),
        "}",
        # What a step runs must not read the rest of the script as its input.
        "make_swap </dev/null",
        "echo 'swap: done. Run doctor again.'",
        END_MARK,
    ]
    return "\n".join(parts) + "\n"


def _values(plan: SwapPlan) -> Iterator[str]:
    values = {"swappiness": str(plan.swappiness), "sysctl_file": SYSCTL_FILE, "swappiness_file": SWAPPINESS_FILE}
    if not plan.sysctl_only:
        values |= {
            "path": plan.path,
            "directory": os.path.dirname(plan.path),
            "size_mib": str(plan.size_mib),
            "min_free_after_mib": str(plan.min_free_after_mib),
            "needed_mib": str(plan.needed_mib),
            "creation_seconds": str(plan.creation_seconds),
            "fstab": FSTAB,
            # fstab(5) reads \134 as a backslash; a # only begins a comment at the start of a line.
            "fstab_name": plan.path.replace("\\", "\\134"),
        }
    return (f"{name}={quoted(text)}" for name, text in values.items())
