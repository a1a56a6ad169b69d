"""The printed script, run by real shells."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import replace

import pytest

from ray.deploy.staging_plan import StagingPlan
from ray.deploy.staging_script import END_MARK, staging_script, staging_steps
from tests.deploy.staging_support import MODEL, Box, box, example_flags, hostile_box, server_text, sha256

__all__ = ["box", "hostile_box"]
DAY_SECONDS = 24 * 60 * 60
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]

# Who is not root gets these in the place of the real ones, and becomes nobody else.
SUDO = '#!/bin/sh\nshift\nexec "$@"\n'
SETPRIV = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'


class Shell:
    """A shell for scripts, with programs of our own before the system's on its path."""

    def __init__(self, box: Box, name: str) -> None:
        self.box = box
        self.programs = box.root.parent / "programs"
        self.programs.mkdir()
        (self.programs / "sh").symlink_to(shutil.which(name) or "/bin/sh")
        if os.geteuid() != 0:
            self.replace("sudo", SUDO)
            self.replace("setpriv", SETPRIV)

    def replace(self, name: str, text: str) -> None:
        program = self.programs / name
        program.write_text(text)
        program.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": f"{self.programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "RAY_API_KEYS": "a secret"}

    def run(self, script: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Give the script to `sh` on its standard input."""
        return subprocess.run(
            ["sh"], input=script, env=self.environ | settings, capture_output=True, text=True, check=False, timeout=60
        )


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, box: Box) -> Shell:
    return Shell(box, request.param)


def installed(box: Box) -> bool:
    return box.binary.read_text() == server_text() and box.model.read_bytes() == MODEL


def test_both_are_installed_with_their_modes_and_owners(shell: Shell, box: Box) -> None:
    done = shell.run(staging_script(box.plan()))
    assert done.stderr == ""
    assert done.returncode == 0
    assert installed(box)
    assert stat.S_IMODE(box.binary.stat().st_mode) == 0o755
    found = box.model.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (box.uid, box.gid, 0o640)
    found = box.model.parent.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (box.uid, box.gid, 0o750)
    assert box.leftovers() == []


@pytest.mark.parametrize("name", SHELLS)
def test_no_path_can_confuse_a_shell(hostile_box: Box, name: str) -> None:
    shell = Shell(hostile_box, name)
    binary_sha256, model_sha256 = sha256(server_text().encode()), sha256(MODEL)
    hostile_box.model = hostile_box.root / "models" / "-m'o\"d$el [*].gguf"
    done = shell.run(staging_script(hostile_box.plan(binary_sha256=binary_sha256, model_sha256=model_sha256)))
    assert done.stderr == ""
    assert done.returncode == 0
    assert installed(hostile_box)
    again = shell.run(staging_script(hostile_box.plan(binary_sha256=binary_sha256, model_sha256=model_sha256)))
    assert again.returncode == 0
    assert hostile_box.leftovers() == []


@pytest.mark.parametrize(
    ("binary", "model", "steps"), [(None, None, 10), ("0" * 64, None, 11), ("0" * 64, "1" * 64, 12)]
)
def test_there_are_ten_steps_and_one_for_each_checksum(
    box: Box, binary: str | None, model: str | None, steps: int
) -> None:
    assert len(staging_steps(box.plan(binary_sha256=binary, model_sha256=model))) == steps


@pytest.mark.parametrize("which", ["llama-server", "model"])
def test_a_wrong_checksum_ends_it_before_the_program_runs(shell: Shell, box: Box, which: str) -> None:
    box.install_old()
    ran = box.root / "ran"
    box.root.chmod(0o777)
    box.set_server(server_text(f"touch '{ran}'"))
    wrong = "0" * 64
    plan = box.plan(binary_sha256=wrong) if which == "llama-server" else box.plan(model_sha256=wrong)
    done = shell.run(staging_script(plan))
    assert done.returncode == 1
    assert wrong in done.stderr
    assert box.is_old
    assert ran.exists() == (which == "model")


# Each stands for something that goes wrong between the checks and the end of the installation.
BROKEN_INSTALL = """#!/bin/sh
for last; do :; done
case $last in
  *.ray-stage-{name}*) {what} ;;
esac
exec /usr/bin/install "$@"
"""


@pytest.mark.parametrize("what", ["exit 1", 'echo something else >"$last"; exit 0', 'printf GGU >"$last"; exit 1'])
def test_a_copy_that_fails_never_gets_into_place(shell: Shell, box: Box, what: str) -> None:
    box.install_old()
    for name in ("llama-server", "model.gguf"):
        shell.replace("install", BROKEN_INSTALL.format(name=name, what=what))
        done = shell.run(staging_script(box.plan()))
        assert done.returncode == 1
        assert box.model.read_bytes() == b"old"
        assert box.leftovers() == []
    assert box.binary.read_text() == server_text()  # the second run got that far


def test_a_copy_that_differs_is_found_by_its_checksum(shell: Shell, box: Box) -> None:
    box.install_old()
    shell.replace("install", BROKEN_INSTALL.format(name="model.gguf", what='printf "GGUF?" >"$last"; exit 0'))
    done = shell.run(staging_script(box.plan(model_sha256=sha256(MODEL))))
    assert done.returncode == 1
    assert "SHA-256" in done.stderr
    assert box.model.read_bytes() == b"old"


def test_a_program_that_the_service_cannot_run_never_gets_into_place(shell: Shell, box: Box) -> None:
    box.install_old()
    box.set_server(server_text("case $0 in *.ray-stage-*) echo no library; exit 127 ;; esac"))
    done = shell.run(staging_script(box.plan()))
    assert done.returncode == 1
    assert "no library" in done.stderr
    assert box.is_old
    assert box.leftovers() == []


def test_flags_are_looked_for_as_whole_words(shell: Shell, box: Box) -> None:
    flags = [flag for flag in example_flags() if flag not in ("--model", "--threads")]
    box.set_server(server_text(flags=[*flags, "--model-url", "--threads-batch"]))
    done = shell.run(staging_script(box.plan()))
    assert done.returncode == 1
    assert "does not know --model --threads:" in done.stderr
    assert not box.binary.exists()


def test_the_program_sees_no_secret(shell: Shell, box: Box) -> None:
    box.set_server(server_text('[ -z "${RAY_API_KEYS-}${HOME-}${LD_PRELOAD-}" ] || exit 9'))
    done = shell.run(staging_script(box.plan()), HOME="/root", RAY_API_KEYS="a secret")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run it as somebody else")
def test_root_never_runs_the_program_itself(shell: Shell, box: Box) -> None:
    box.set_server(server_text('[ "$(id -u)" -ne 0 ] && [ "$(id -G)" = "$(id -g)" ] || exit 9'))
    assert shell.run(staging_script(box.plan())).returncode == 0


def test_a_failure_does_not_end_the_shell_it_was_pasted_into(shell: Shell, box: Box) -> None:
    box.model_source.write_bytes(b"NOPE")
    done = shell.run(staging_script(box.plan()) + 'echo "still here after $?"\n')
    assert "no GGUF file" in done.stderr
    assert done.stdout.splitlines()[-1] == "still here after 1"


def test_half_of_the_script_does_nothing(shell: Shell, box: Box) -> None:
    script = staging_script(box.plan())
    done = shell.run(script[: script.index("stage </dev/null")])
    assert "done" not in done.stdout
    assert not box.binary.parent.exists()


def test_it_may_be_run_from_a_file_as_well(shell: Shell, box: Box) -> None:
    file = box.root / "stage.sh"
    file.write_text(staging_script(box.plan()))
    assert subprocess.run(["sh", file], env=shell.environ, check=False, capture_output=True).returncode == 0
    assert installed(box)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_copy_leaves_the_old_file_and_nothing_else(
    shell: Shell, box: Box, number: signal.Signals
) -> None:
    box.install_old()
    reached = box.root / "reached"
    shell.replace(
        "install", BROKEN_INSTALL.format(name="model.gguf", what=f'printf half >"$last"; : >"{reached}"; exec sleep 30')
    )
    # As a terminal does it: everybody in the foreground gets the signal.
    process = subprocess.Popen(
        ["sh"], stdin=subprocess.PIPE, env=shell.environ, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdin is not None
        process.stdin.write(staging_script(box.plan()).encode())
        process.stdin.close()
        deadline = time.monotonic() + 60
        while not reached.exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, number)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
    while box.leftovers():  # the inner shell may end after the outer one
        assert time.monotonic() < deadline + 60
        time.sleep(0.01)
    assert box.model.read_bytes() == b"old"


def test_what_was_interrupted_a_day_ago_is_removed(shell: Shell, box: Box) -> None:
    box.install_old()
    old, fresh = (box.model.parent / f".ray-stage-model.gguf-{name}" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - DAY_SECONDS - 120,) * 2)
    assert shell.run(staging_script(box.plan())).returncode == 0
    assert box.leftovers() == [fresh.name]


def test_a_directory_that_is_there_is_not_given_away(shell: Shell, box: Box) -> None:
    box.model.parent.mkdir()
    box.model.parent.chmod(0o755)
    done = shell.run(staging_script(box.plan()))
    assert done.returncode == 0
    assert "warning" in done.stderr
    assert stat.S_IMODE(box.model.parent.stat().st_mode) == 0o755


FULL_DISK = '#!/bin/sh\n[ "$1" = -f ] && { echo "$((__FREE__ * 256)) 4096"; exit; }\nexec /usr/bin/stat "$@"\n'


@pytest.mark.parametrize(("free_mib", "fits"), [(257, False), (258, True)])
def test_a_full_disk_is_refused_before_anything_is_copied(shell: Shell, box: Box, free_mib: int, fits: bool) -> None:
    box.install_old()
    shell.replace("stat", FULL_DISK.replace("__FREE__", str(free_mib)))
    done = shell.run(staging_script(box.plan()))
    assert (done.returncode == 0) == fits
    assert installed(box) if fits else box.is_old
    if not fits:
        assert "257 MiB free" in done.stderr


def test_a_model_that_does_not_fit_into_memory_is_refused(shell: Shell, box: Box) -> None:
    with box.model_source.open("ab") as file:
        file.truncate(1500 << 20)  # sparse
    done = shell.run(staging_script(box.plan()))
    assert "1500" not in done.stdout
    assert "needs 2428 MiB of memory, llama-server may use 2380 MiB" in done.stderr
    assert not box.binary.exists()


def test_a_binary_that_is_far_too_large_is_not_run(shell: Shell, box: Box) -> None:
    with box.binary_source.open("ab") as file:
        file.truncate((512 << 20) + 1)  # sparse
    done = shell.run(staging_script(box.plan()))
    assert "larger than 536870912 bytes" in done.stderr


def test_in_their_place_files_are_checked_and_not_copied(shell: Shell, box: Box) -> None:
    box.binary, box.model = box.binary_source, box.model_source
    shell.replace("stat", FULL_DISK.replace("__FREE__", "0"))
    box.model.chmod(0o600)
    done = shell.run(staging_script(box.plan()))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(box.model.stat().st_mode) == 0o640
    assert box.model.stat().st_uid == box.uid


def test_a_directory_in_the_place_is_not_touched(shell: Shell, box: Box) -> None:
    box.model.mkdir(parents=True)
    done = shell.run(staging_script(box.plan()))
    assert done.returncode == 1
    assert list(box.model.iterdir()) == []
    assert box.leftovers() == []


def changed(plan: StagingPlan, user: str, group: str | None) -> StagingPlan:
    return replace(plan, user=user, group=group)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_numbers_are_accounts_too(shell: Shell, box: Box) -> None:
    assert shell.run(staging_script(changed(box.plan(), str(box.uid), None))).returncode == 0
    assert (box.model.stat().st_uid, box.model.stat().st_gid) == (box.uid, box.gid)
    assert shell.run(staging_script(changed(box.plan(), "nobody", "daemon"))).returncode == 0
    assert box.model.stat().st_gid == 1


def test_an_account_that_is_not_there_is_named(shell: Shell, box: Box) -> None:
    done = shell.run(staging_script(changed(box.plan(), "nobody-has-this", None)))
    assert done.returncode == 1
    assert "there is no account nobody-has-this" in done.stderr
    assert not box.binary.parent.exists()


def test_the_mark_at_the_end_cannot_stand_in_a_value(box: Box) -> None:
    script = staging_script(box.plan())
    assert script.splitlines().count(END_MARK) == 1
    assert script.endswith(f"\n{END_MARK}\n")
