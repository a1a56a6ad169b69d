"""The swap script, run by real shells in a directory of its own; only what touches the kernel is replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ray.deploy.swap_plan import FSTAB, SWAPPINESS_FILE, SYSCTL_FILE, SwapPlan, swap_path_problem, swap_script
from tests.deploy.support import run

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
REAL_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
needs_mkswap = pytest.mark.skipif(shutil.which("mkswap", path=REAL_PATH) is None, reason="mkswap is missing")


class Machine:
    """A root directory with a table of file systems, and programs that would need a kernel of their own."""

    def __init__(self, root: Path, shell: str) -> None:
        self.root = root
        self.programs = root / "programs"
        self.programs.mkdir()
        (self.programs / "sh").symlink_to(shutil.which(shell) or "/bin/sh")
        self.said = root / "said"
        self.said.touch()
        self.fstab = root / "fstab"
        self.fstab.write_text("UUID=1 / ext4 defaults 0 1\n")
        self.sysctl_file = root / "99-ray-swap.conf"
        self.swappiness = root / "swappiness"
        self.swap = root / "it's-a-$HOME-[*]\"swap"
        self.replace("swapon", f'echo "swapon $*" >>"{self.said}"')
        self.replace("sysctl", f'echo "sysctl $*" >>"{self.said}"; printf "%s\\n" "${{2#*=}}" >"{self.swappiness}"')
        if os.geteuid() != 0:
            self.replace("sudo", 'shift; exec "$@"')

    def replace(self, name: str, body: str) -> None:
        (self.programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.programs / name).chmod(0o755)

    def script(self, plan: SwapPlan) -> str:
        script = swap_script(plan)
        for real, ours in ((FSTAB, self.fstab), (SYSCTL_FILE, self.sysctl_file), (SWAPPINESS_FILE, self.swappiness)):
            script = script.replace(f"'{real}'", f"'{ours}'")
            # Whoever tests as root must not change the machine's own, however the script comes to spell them.
            assert real not in script.replace(str(ours), "")
        return script

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": f"{self.programs}:{REAL_PATH}"}

    def run(self, plan: SwapPlan | None = None) -> subprocess.CompletedProcess[str]:
        plan = self.plan() if plan is None else plan
        return subprocess.run(
            ["sh"], input=self.script(plan), env=self.environ, capture_output=True, text=True, check=False, timeout=60
        )

    def plan(self, **changes: int) -> SwapPlan:
        return replace(SwapPlan(path=str(self.swap), size_mib=1, min_free_after_mib=0), **changes)  # type: ignore[arg-type] # only whole numbers are changed

    def leftovers(self) -> list[str]:
        return [path.name for path in self.root.iterdir() if ".ray-tmp." in path.name]


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


@needs_mkswap
def test_the_file_is_made_used_and_entered(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.swap.stat().st_size == 1 << 20
    assert stat.S_IMODE(machine.swap.stat().st_mode) == 0o600
    assert machine.swap.stat().st_nlink == 1
    assert machine.fstab.read_text().splitlines()[-1] == f"{machine.swap} none swap sw 0 0"
    assert machine.sysctl_file.read_text() == "vm.swappiness=10\n"
    said = machine.said.read_text().splitlines()
    assert said == [f"swapon -- {machine.swap}", "sysctl -w vm.swappiness=10", "swapon --show"]
    assert machine.leftovers() == []


@needs_mkswap
def test_without_fallocate_zeros_are_written(machine: Machine) -> None:
    for name in ["stat", "timeout", "awk", "tail", "tee", "cat", "dd", "chmod", "mkswap", "ln", "rm", "id"]:
        found = shutil.which(name, path=REAL_PATH)
        assert found is not None
        (machine.programs / name).symlink_to(found)
    done = subprocess.run(
        ["sh"],
        executable=shutil.which("sh"),
        input=machine.script(machine.plan()),
        env={"PATH": str(machine.programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert machine.swap.stat().st_size == 1 << 20


def test_what_is_there_already_is_left_alone(machine: Machine) -> None:
    machine.swap.symlink_to("nowhere")
    done = machine.run()
    assert done.returncode == 1
    assert f"{machine.swap} already exists" in done.stderr
    assert machine.swap.is_symlink()
    assert machine.said.read_text() == ""


@needs_mkswap
def test_a_file_that_cannot_be_used_for_swap_is_removed(machine: Machine) -> None:
    machine.replace("swapon", "exit 255")
    before = machine.fstab.read_text()
    done = machine.run()
    assert done.returncode == 1
    assert "cannot be used for swap" in done.stderr
    assert not machine.swap.exists()
    assert machine.leftovers() == []
    assert machine.fstab.read_text() == before


def test_a_file_that_appears_meanwhile_is_left_alone(machine: Machine) -> None:
    machine.replace("mkswap", f"echo mine >\"$(cat '{machine.root}/name')\"")
    (machine.root / "name").write_text(str(machine.swap))
    done = machine.run()
    assert done.returncode == 1
    assert machine.swap.read_text() == "mine\n"
    assert machine.leftovers() == []


def test_too_little_room_is_told_with_the_figures(machine: Machine) -> None:
    machine.replace("stat", 'echo "$((300 * 256)) 4096"')
    done = machine.run(machine.plan(size_mib=200, min_free_after_mib=101))
    assert done.returncode == 1
    assert "300 MiB free; 200 MiB of swap, with 101 MiB left, need 301" in done.stderr
    assert not machine.swap.exists()


def test_a_refused_sudo_is_not_taken_for_a_file_that_exists(machine: Machine) -> None:
    machine.replace("id", "echo 1000")
    machine.replace("sudo", "echo no thanks >&2; exit 1")
    done = machine.run()
    assert done.returncode == 1
    assert "exists" not in done.stderr


@needs_mkswap
@pytest.mark.parametrize(
    ("table", "added"),
    [
        ("{swap} none swap sw 0 0\n", 0),
        ("  {swap}\tnone\tswap\tsw,pri=5\t0\t0\n", 0),
        ("# {swap} none swap sw 0 0\n", 1),
        ("#{swap} none swap sw 0 0\n", 1),
        ("{swap}2 none swap sw 0 0\n", 1),
        ("/x none swap sw 0 0 # {swap} none swap sw 0 0", 1),  # and no newline at the end
        ("", 1),
    ],
)
def test_the_table_of_file_systems_gets_one_line_if_it_has_none(tmp_path: Path, table: str, added: int) -> None:
    machine = Machine(tmp_path, "dash" if "dash" in SHELLS else "bash")
    before = table.format(swap=machine.swap)
    machine.fstab.write_text(before)
    assert machine.run().returncode == 0
    expected = before if before.endswith("\n") or not before else before + "\n"
    assert machine.fstab.read_text() == (expected + f"{machine.swap} none swap sw 0 0\n" if added else before)


def test_only_the_swappiness_is_three_steps(machine: Machine) -> None:
    done = machine.run(SwapPlan(swappiness=60, sysctl_only=True))
    assert done.returncode == 0, done.stderr
    assert machine.sysctl_file.read_text() == "vm.swappiness=60\n"
    assert machine.said.read_text() == "sysctl -w vm.swappiness=60\n"


def test_a_kernel_that_does_not_take_it_is_told(machine: Machine) -> None:
    machine.replace("sysctl", f'echo 33 >"{machine.swappiness}"')
    done = machine.run(SwapPlan(sysctl_only=True))
    assert done.returncode == 1
    assert "vm.swappiness is 33, not 10" in done.stderr


def test_an_interrupted_run_leaves_nothing(machine: Machine) -> None:
    reached = machine.root / "reached"
    machine.replace("mkswap", f": >'{reached}'; exec sleep 30")
    process = subprocess.Popen(
        ["sh"], stdin=subprocess.PIPE, env=machine.environ, start_new_session=True, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    try:
        assert process.stdin is not None
        process.stdin.write(machine.script(machine.plan()).encode())
        process.stdin.close()
        while not reached.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
    while machine.leftovers():  # the inner shell may end after the outer one
        assert time.monotonic() < deadline + 60
        time.sleep(0.01)
    assert not machine.swap.exists()


@pytest.mark.parametrize(("size", "seconds"), [(1, 300), (1024, 300), (16_384, 2_048), (65_536, 7_200)])
def test_writing_zeros_gets_time_for_its_size(size: int, seconds: int) -> None:
    assert SwapPlan(size_mib=size).creation_seconds == seconds


@pytest.mark.parametrize(
    "path", ["/", "swapfile", "/a b", "/a\tb", "", "/a/", "/a/../b", "//a", "/a\u0085b", "/" + "a" * 4096]
)
def test_a_path_that_no_table_can_hold_is_refused(path: str) -> None:
    assert swap_path_problem(path) is not None
    assert run("swap-plan", f"--path={path}")[0] == 2


def plan_of(*arguments: str, **environ: str) -> dict[str, object]:
    status, text = run("swap-plan", "--json", *arguments, environ=environ)
    assert status == 0
    document: dict[str, object] = json.loads(text)
    return document


def test_the_plan_as_json() -> None:
    plan = plan_of()
    assert list(plan) == ["path", "sizeMiB", "minFreeAfterMiB", "swappiness", "sysctlOnly", "commands", "script"]
    assert [plan[key] for key in list(plan)[:5]] == ["/swapfile", 1024, 512, 10, False]
    commands = plan["commands"]
    assert isinstance(commands, list)
    assert len(commands) == 8
    only = plan_of("--sysctl-only")["commands"]
    assert isinstance(only, list)
    assert len(only) == 3


def test_the_room_to_leave_comes_from_option_env_file_environment_default(tmp_path: Path) -> None:
    variable = {"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": "1536"}
    file = tmp_path / "ray.env"
    file.write_text("RAY_DEPLOY_MIN_FREE_STORAGE_MIB=70000\n")
    assert "needed_mib='2560'" in str(plan_of(**variable)["script"])
    assert plan_of("--min-free-after-mib=768", **variable)["minFreeAfterMiB"] == 768
    assert plan_of("--env-file", str(file), **variable)["minFreeAfterMiB"] == 70_000


def test_a_bad_variable_matters_only_where_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": "many"}
    assert run("swap-plan", environ=bad)[0] == 1
    assert "RAY_DEPLOY_MIN_FREE_STORAGE_MIB" in capsys.readouterr().err
    assert run("swap-plan", "--sysctl-only", environ=bad)[0] == 0
    assert run("swap-plan", "--min-free-after-mib=1", environ=bad)[0] == 0
    assert run("swap-plan", "--help", environ=bad)[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--size-mib=0"],
        ["--size-mib=65537"],
        ["--size-mib=01"],
        ["--size-mib=1e3"],
        ["--swappiness=201"],
        ["--min-free-after-mib=1048577"],
        ["--sysctl-only", "--path=/swap"],
        ["--sysctl-only", "--size-mib=1"],
        ["--sysctl-only", "--min-free-after-mib=1"],
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(options: list[str]) -> None:
    assert run("swap-plan", *options)[0] == 2


def test_for_people_there_are_the_figures_and_the_script() -> None:
    status, text = run("swap-plan", "--size-mib", "2048", environ={})
    assert status == 0
    assert "2,048 MiB" in text
    assert swap_script(SwapPlan(size_mib=2048)) in text
    assert "file" not in run("swap-plan", "--sysctl-only", environ={})[1].split("sh -eu")[0]
