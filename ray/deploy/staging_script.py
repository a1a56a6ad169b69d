"""The staging plan as one shell script, to be read first and then run on the machine it is for.

It is a here-document for a shell of its own: pasted, piped into `sh` or run as a file it behaves the same, and a step
that fails ends that shell and not the operator's. Every step is a subshell, nothing after a failed one is run, and
until the last line of an installation the old file is in its place. Values stand once, quoted, at the top.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ray.deploy.staging_plan import LARGEST_BINARY_BYTES, Artifact, StagingPlan

END_MARK = "END_OF_STAGING"
BINARY_PLACEHOLDER = "/path/to/llama-server"
MODEL_PLACEHOLDER = "/path/to/model.gguf"

# Needs coreutils, util-linux (setpriv) and findutils, which every Debian and Ubuntu has; sudo when not run by root.
_FUNCTIONS = r"""
fail() { printf 'staging: %s\n' "$1" >&2; exit 1; }
warn() { printf 'staging: warning: %s\n' "$1" >&2; }

# In the foreground, so that Ctrl-C reaches what is running.
limit='timeout --foreground -k 5'

if [ "$(id -u)" -eq 0 ]; then
  as_root() { "$@"; }
else
  as_root() { sudo -- "$@"; }
fi

# The account of the service, by number: sudo would take a number for a name.
case $service_user in
  *[!0-9]*) uid=$(id -u -- "$service_user") || fail "there is no account $service_user: create it first" ;;
  *) uid=$service_user ;;
esac
case $service_group in
  '') gid=$(id -g -- "$service_user") || fail "account $service_user has no primary group: name one with --group" ;;
  *[!0-9]*)
    entry=$(getent group "$service_group") || fail "there is no group $service_group: create it first"
    gid=${entry#*:*:}
    gid=${gid%%:*}
    ;;
  *) gid=$service_group ;;
esac

# A program gets the path and nothing else of this environment. Root never runs what is not installed yet.
# The shell in between: env would take a program with a = in its name for a variable.
system_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
as_service() {
  as_root $limit 10 setpriv --reuid="$uid" --regid="$gid" --clear-groups -- \
    env -i PATH="$system_path" sh -c 'exec "$@"' sh "$@"
}
as_caller() {
  if [ "$(id -u)" -eq 0 ]; then
    as_service "$@"
  else
    $limit 10 env -i PATH="$system_path" sh -c 'exec "$@"' sh "$@"
  fi
}

size_of() { $limit 30 stat -Lc %s -- "$1" || fail "$1 cannot be read"; }
mib_of() {
  bytes=$(size_of "$1")
  [ "$bytes" -gt 0 ] || bytes=1
  echo $(((bytes + 1048575) / 1048576))
}
free_mib() {
  figures=$(as_root $limit 30 stat -f -c '%a %S' -- "$1") || fail "the free space of $1 cannot be read"
  echo $((${figures% *} * ${figures#* } / 1048576))
}
need_mib() { # directory, MiB needed, MiB of them that stay free, what for
  free=$(free_mib "$1")
  [ "$free" -ge "$2" ] || fail "$1 has $free MiB free, but $4 needs $2 MiB, $3 MiB of them to stay free"
}
check_sha256() { # file, checksum
  actual=$(as_root $limit 1800 sha256sum -- "$1") || fail "the checksum of $1 cannot be taken"
  actual=${actual#\\}
  actual=${actual%% *}
  [ "$actual" = "$2" ] || fail "$1 has SHA-256 $actual, not $2: fetch it again"
}
check_program() { # as whom, program
  if ! (ulimit -f 4096 && "$1" "$2" --help >"$work/help" 2>&1); then
    head -c 1000 -- "$work/help" >&2
    fail "$2 --help did not end well; root lets the account of the service run it, which has to reach it"
  fi
  tr -cs 'A-Za-z0-9_-' '\n' <"$work/help" >"$work/words"
  missing=
  for flag in $required_flags; do
    grep -Fxq -e "$flag" "$work/words" || missing="$missing $flag"
  done
  [ -z "$missing" ] || fail "$2 does not know$missing: install a newer llama-server"
}
check_gguf() { # as whom, file
  [ "$("$1" timeout 10 head -c 4 -- "$2" | tr -d '\000')" = GGUF ] || fail "$2 is no GGUF file, or cannot be read"
}
clean() { # directory, pattern: what interrupted runs left a day ago or earlier
  as_root $limit 60 find "$1" -maxdepth 1 -type f -name "$2" -mmin +1440 -delete
}
warn_unless() { # directory, owner and mode as they should be: a directory that is there is not changed
  found=$(as_root $limit 30 stat -c '%u:%g %a' -- "$1")
  [ "$found" = "$2" ] || warn "$1 stays as it is: owner and mode $found, not $2"
}

cd /
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"""

# In a subshell of its own; $temporary is gone when it ends, however it ends.
_TEMPORARY = """trap 'as_root rm -f -- "$temporary"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM"""


def staging_script(plan: StagingPlan) -> str:
    """The whole script."""
    parts = [
        f"sh -eu <<'{END_MARK}'",
        "set -eu",
        "umask 022",
        "export LC_ALL=C",
        "",
        *_values(plan),
        _FUNCTIONS,
        "stage() {",
        *staging_steps(plan),
        "}",
        # What a step runs must not read the rest of the script as its input.
        "stage </dev/null",
        "echo 'staging: done. Run doctor before you restart ray-llama-cpp.service.'",
        END_MARK,
    ]
    return "\n".join(parts) + "\n"


def quoted(text: str) -> str:
    """One word for a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _values(plan: StagingPlan) -> Iterator[str]:
    values = {
        "service_user": plan.user,
        "service_group": plan.group or "",
        "binary_source": plan.binary.source or BINARY_PLACEHOLDER,
        "binary_target": plan.binary.target,
        "binary_directory": plan.binary.directory,
        "binary_temporary": os.path.join(plan.binary.directory, plan.binary.temporary_prefix),
        "model_source": plan.model.source or MODEL_PLACEHOLDER,
        "model_target": plan.model.target,
        "model_directory": plan.model.directory,
        "model_temporary": os.path.join(plan.model.directory, plan.model.temporary_prefix),
        "required_flags": " ".join(plan.flags),
    }
    return (f"{name}={quoted(text)}" for name, text in values.items())


def staging_steps(plan: StagingPlan) -> list[str]:
    """The steps, a subshell each. They use the values and functions at the top of the script."""
    titled = [*_preparing(plan), *_checking(plan), *_installing(plan)]
    return [f"( # {number}. {title}\n{body}\n)" for number, (title, body) in enumerate(titled, start=1)]


def _preparing(plan: StagingPlan) -> Iterator[tuple[str, str]]:
    def clean(name: str, artifact: Artifact) -> str:
        return f'clean "${name}_directory" {quoted(_pattern(artifact.temporary_prefix))}'

    yield (
        "directory of the program",
        '[ -d "$binary_directory" ] || as_root $limit 60 install -d -m 0755 -- "$binary_directory"\n'
        + clean("binary", plan.binary),
    )
    if plan.share_a_directory:
        yield "directory of the model: the same", clean("model", plan.model)
        return
    yield (
        "directory of the model",
        'if [ -d "$model_directory" ]; then\n'
        '  warn_unless "$model_directory" "$uid:$gid 750"\n'
        "else\n"
        '  as_root $limit 60 install -d -m 0750 -o "$uid" -g "$gid" -- "$model_directory"\n'
        "fi\n" + clean("model", plan.model),
    )


def _checking(plan: StagingPlan) -> Iterator[tuple[str, str]]:
    binary, model = plan.binary, plan.model
    largest = LARGEST_BINARY_BYTES
    lines = [
        '[ -f "$binary_source" ] || fail "$binary_source is no regular file"',
        'bytes=$(size_of "$binary_source")',
        f'[ "$bytes" -le {largest} ] || fail "$binary_source is larger than {largest} bytes"',
    ]
    if not binary.is_in_place:
        lines += [
            'size=$(mib_of "$binary_source")',
            f'need_mib "$binary_directory" $((size + {binary.reserve_mib})) {binary.reserve_mib} llama-server',
        ]
    yield "the program is there, and there is room for it", "\n".join(lines)
    if binary.sha256 is not None:
        yield "the program is the right one", f'check_sha256 "$binary_source" {binary.sha256}'
    yield (
        "the program starts, and knows its flags",
        '[ -x "$binary_source" ] || fail "$binary_source is not executable"\ncheck_program as_caller "$binary_source"',
    )
    if plan.limit_mib is not None and plan.without_model_mib is not None:
        yield (
            "the model fits into memory",
            'size=$(mib_of "$model_source")\n'
            f"needed=$((size + {plan.without_model_mib}))\n"
            f'[ "$needed" -le {plan.limit_mib} ] || '
            f'fail "$model_source needs $needed MiB of memory, llama-server may use {plan.limit_mib} MiB"',
        )
    if not binary.is_in_place and not model.is_in_place:
        yield "there is room for both together", _room_for_both(max(binary.reserve_mib, model.reserve_mib))
    lines = ['[ -f "$model_source" ] || fail "$model_source is no regular file"']
    if not model.is_in_place:
        lines += [
            'size=$(mib_of "$model_source")',
            f'need_mib "$model_directory" $((size + {model.reserve_mib})) {model.reserve_mib} "the model"',
        ]
    yield "there is room for the model", "\n".join(lines)
    yield "the model is a GGUF file", 'check_gguf as_root "$model_source"'
    if model.sha256 is not None:
        yield "the model is the right one", f'check_sha256 "$model_source" {model.sha256}'


def _room_for_both(reserve_mib: int) -> str:
    return (
        'binary_device=$(as_root $limit 30 stat -c %d -- "$binary_directory")\n'
        'model_device=$(as_root $limit 30 stat -c %d -- "$model_directory")\n'
        'if [ "$binary_device" = "$model_device" ]; then\n'
        '  binary_size=$(mib_of "$binary_source")\n'
        '  model_size=$(mib_of "$model_source")\n'
        '  for directory in "$binary_directory" "$model_directory"; do\n'
        f'    need_mib "$directory" $((binary_size + model_size + {reserve_mib})) {reserve_mib} '
        '"llama-server with its model"\n'
        "  done\n"
        "fi"
    )


def _installing(plan: StagingPlan) -> Iterator[tuple[str, str]]:
    binary, model = plan.binary, plan.model
    checksum = [] if binary.sha256 is None else [f'check_sha256 "$temporary" {binary.sha256}']
    yield (
        "install the program",
        "\n".join(
            [
                'temporary=$binary_target\nas_root $limit 60 chmod 0755 -- "$temporary"',
                'check_program as_service "$temporary"',
            ]
            if binary.is_in_place
            else [
                'temporary=$(as_root $limit 60 mktemp -- "${binary_temporary}XXXXXXXX")',
                _TEMPORARY,
                'as_root $limit 120 install -m 0755 -- "$binary_source" "$temporary"',
                *checksum,
                'check_program as_service "$temporary"',
                *_put("binary"),
            ]
        ),
    )
    checksum = [] if model.sha256 is None else [f'check_sha256 "$temporary" {model.sha256}']
    readable = ['check_gguf as_root "$temporary"', *checksum, 'check_gguf as_service "$temporary"']
    owned = 'as_root $limit 60 chmod 0640 -- "$temporary"\nas_root $limit 60 chown -- "$uid:$gid" "$temporary"'
    yield (
        "install the model",
        "\n".join(
            ["temporary=$model_target", owned, *readable]
            if model.is_in_place
            else [
                'temporary=$(as_root $limit 60 mktemp -- "${model_temporary}XXXXXXXX")',
                _TEMPORARY,
                'as_root $limit 1800 install -m 0640 -o "$uid" -g "$gid" -- "$model_source" "$temporary"',
                *readable,
                *_put("model"),
                'check_gguf as_service "$model_target"',
            ]
        ),
    )


def _put(name: str) -> list[str]:
    """From the temporary name to the final one, and to the disk."""
    return [
        'as_root $limit 300 sync -- "$temporary"',
        f'as_root $limit 60 mv -fT -- "$temporary" "${name}_target"',
        f'as_root $limit 60 sync -- "${name}_directory"',
        "trap - EXIT",
    ]


def _pattern(prefix: str) -> str:
    """A pattern of `find -name` for names that begin with `prefix`."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in prefix) + "*"
