"""Probes: bounded in time and output, with next to nothing in their environment, and never an exception."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from ray.deploy.probes import EXCERPT_CHARS, Identity, excerpt, probe_environment, run_probe, within

ENVIRON = {"PATH": os.environ["PATH"]}


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_a_program_that_ends_well_gives_what_it_said_on_both_streams() -> None:
    probe = run_probe(python("import sys; print('one'); print('two', file=sys.stderr)"), ENVIRON)

    assert (probe.is_ok, probe.stdout, probe.stderr, probe.code) == (True, "one\n", "two\n", 0)
    assert probe.first_line == "one"


def test_a_failing_program_gives_its_status_and_the_beginning_of_what_it_said() -> None:
    probe = run_probe(python("import sys; print('a\\n  b' + 'x' * 900, file=sys.stderr); sys.exit(126)"), ENVIRON)

    assert (probe.status, probe.code) == ("failed", 126)
    assert probe.error is not None
    assert "ended with status 126; output: a bxxx" in probe.error
    assert probe.error.endswith("...")


def test_a_program_ended_by_a_signal_says_which() -> None:
    probe = run_probe(python("import os, signal; os.kill(os.getpid(), signal.SIGILL)"), ENVIRON)

    assert probe.error is not None
    assert "was ended by SIGILL" in probe.error


def test_a_program_that_does_not_exist_is_missing() -> None:
    assert run_probe(["/nowhere/program"], ENVIRON).status == "missing"


def test_a_working_directory_that_does_not_exist_is_a_failure_and_not_a_missing_program() -> None:
    probe = run_probe(python("pass"), ENVIRON, cwd="/nowhere")

    assert probe.status == "failed"


@pytest.mark.parametrize("content", ["not a program", "#!/nowhere/interpreter\n"])
def test_a_file_that_cannot_be_run_does_not_raise(tmp_path: Path, content: str) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755)

    assert run_probe([str(program)], ENVIRON).status != "ok"


def test_a_program_that_hangs_is_ended_at_its_time_limit_together_with_its_children(tmp_path: Path) -> None:
    born = tmp_path / "child"
    # A shell: it starts in milliseconds, also where an interpreter takes longer than the limit.
    probe = run_probe(["/bin/sh", "-c", 'sleep 600 & echo $! >"$0"; wait', str(born)], ENVIRON, seconds=1.5)

    assert probe.error is not None
    assert "did not end within 1.5 s" in probe.error
    assert probe.code is None
    assert _ends(int(born.read_text()))


def test_a_child_that_keeps_the_output_open_cannot_keep_the_probe_waiting() -> None:
    code = f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(600)'])"
    probe = run_probe(python(code), ENVIRON, seconds=1.0)

    assert probe.error is not None
    assert "did not end" in probe.error


def test_a_program_that_never_stops_talking_is_ended_at_the_cap() -> None:
    probe = run_probe(python("while True: print('x' * 1000)"), ENVIRON, cap=10_000)

    assert probe.error is not None
    assert "wrote more than 10000 bytes" in probe.error
    assert len(probe.stdout) == 10_000


def test_secrets_home_and_the_loaders_variables_are_not_in_the_environment() -> None:
    environ = {
        "PATH": "/bin:/usr/bin",
        "HOME": "/root",
        "LD_PRELOAD": "/evil.so",
        "RAY_API_KEYS": "secret",
        "LANG": "C.UTF-8",
        "TMPDIR": "/var/tmp",
        "LC_ALL": "",
    }
    assert probe_environment(environ) == {"PATH": "/bin:/usr/bin", "LANG": "C.UTF-8", "TMPDIR": "/var/tmp"}
    probe = run_probe(python("import os; print(sorted(os.environ))"), environ)
    assert "RAY_API_KEYS" not in probe.stdout


@pytest.mark.parametrize("path", ["", None])
def test_without_a_path_the_system_directories_are_searched(path: str | None) -> None:
    environ = {} if path is None else {"PATH": path}

    assert probe_environment(environ)["PATH"].startswith("/usr/local/sbin:")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a probe as somebody else")
def test_root_runs_a_probe_as_the_account_with_its_groups_only() -> None:
    code = "import os; print(os.getuid(), os.getgid(), sorted(os.getgroups()))"
    probe = run_probe(["/usr/bin/python3", "-I", "-S", "-c", code], ENVIRON, identity=Identity(65534, 65534, (65534,)))

    assert probe.stdout == "65534 65534 [65534]\n"


def test_excerpts_are_one_short_line() -> None:
    assert excerpt(" a\n\tb ") == "a b"
    assert excerpt("\x1b[31mred\x07") == "?[31mred?"
    assert excerpt("x" * 300) == "x" * EXCERPT_CHARS + "..."


def test_a_look_that_hangs_is_given_up_and_one_that_fails_is_told() -> None:
    release = threading.Event()

    def hang() -> str:
        release.wait()
        return "late"

    def fail() -> str:
        raise PermissionError(13, "Permission denied")

    try:
        assert within(0.05, hang, lambda reason: reason) == "no answer within 0.05 s"
    finally:
        release.set()
    assert within(5, fail, lambda reason: reason) == "Permission denied"


def _ends(process: int) -> bool:
    """Has this process gone, or become a zombie that nobody waits for, within some seconds?"""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
