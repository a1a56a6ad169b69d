"""Installing for real: what is there afterwards, and that whatever goes wrong, the old files are."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ray.deploy import staging_apply
from ray.deploy.failures import DeployError
from ray.deploy.staging_apply import apply
from ray.deploy.staging_checks import service_identity
from ray.deploy.staging_plan import Sources
from tests.deploy.staging_support import MODEL, Box, box, example_flags, hostile_box, server_text, sha256
from tests.deploy.support import EXAMPLES, ROOT

__all__ = ["box", "hostile_box"]
DAY_SECONDS = 24 * 60 * 60
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")


def plenty(_directory: str) -> int:
    return 1 << 20


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owner_of(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


@pytest.mark.parametrize("kind", ["box", "hostile_box"])
def test_both_are_installed_with_their_modes_and_owners(kind: str, request: pytest.FixtureRequest) -> None:
    box: Box = request.getfixturevalue(kind)
    assert apply(box.plan(), box.environ()) == []
    assert box.binary.read_text() == server_text()
    assert mode_of(box.binary) == 0o755
    assert mode_of(box.binary.parent) == 0o755
    assert box.model.read_bytes() == MODEL
    assert mode_of(box.model) == 0o640
    assert owner_of(box.model) == (box.uid, box.gid)
    assert mode_of(box.model.parent) == 0o750
    assert owner_of(box.model.parent) == (box.uid, box.gid)
    assert box.leftovers() == []


def test_directories_do_not_depend_on_the_umask(box: Box) -> None:
    box.binary = box.root / "a" / "b" / "llama-server"
    before = os.umask(0o077)
    try:
        apply(box.plan(), box.environ())
    finally:
        os.umask(before)
    assert mode_of(box.root / "a") == mode_of(box.root / "a" / "b") == 0o755
    assert mode_of(box.model) == 0o640


def test_a_directory_that_is_there_keeps_its_owner_and_mode_and_is_told(box: Box) -> None:
    box.model.parent.mkdir(mode=0o755)
    box.model.parent.chmod(0o755)
    warnings = apply(box.plan(), box.environ())
    assert len(warnings) == 1
    assert str(box.model.parent) in warnings[0]
    assert "755" in warnings[0]
    assert mode_of(box.model.parent) == 0o755


def test_in_one_directory_the_model_alone_belongs_to_the_service(box: Box) -> None:
    box.binary = box.root / "both" / "llama-server"
    box.model = box.root / "both" / "model.gguf"
    assert apply(box.plan(), box.environ()) == []
    assert mode_of(box.root / "both") == 0o755
    assert owner_of(box.root / "both") == (os.geteuid(), os.getegid())
    assert mode_of(box.model) == 0o640
    assert owner_of(box.model) == (box.uid, box.gid)


def test_checksums_in_any_case_of_letters_are_taken_of_source_and_copy(box: Box) -> None:
    plan = box.plan(binary_sha256=sha256(server_text().encode()), model_sha256=sha256(MODEL))
    apply(plan, box.environ())
    assert box.model.read_bytes() == MODEL


@pytest.mark.parametrize(
    "wrong", [Sources(binary_sha256="0" * 64), Sources(model_sha256="0" * 64)], ids=["llama-server", "model"]
)
def test_a_wrong_checksum_leaves_everything_as_it_was(box: Box, wrong: Sources) -> None:
    box.install_old()
    plan = box.plan(binary_sha256=wrong.binary_sha256, model_sha256=wrong.model_sha256)
    with pytest.raises(DeployError, match="SHA-256"):
        apply(plan, box.environ())
    assert box.is_old
    assert box.leftovers() == []


def test_a_copy_that_differs_is_found_by_its_checksum(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    true_copy = staging_apply._copy

    def spoiled(source: str, target: str, *rest: object) -> None:
        true_copy(source, target, *rest)  # type: ignore[arg-type] # passed on as they are
        if target.startswith(str(box.model.parent)):
            with open(target, "r+b") as file:
                file.seek(10)
                file.write(b"!")

    monkeypatch.setattr(staging_apply, "_copy", spoiled)
    box.install_old()
    with pytest.raises(DeployError, match="SHA-256"):
        apply(box.plan(model_sha256=sha256(MODEL)), box.environ())
    assert box.model.read_bytes() == b"old"
    assert box.binary.read_text() == server_text()  # was installed before, and is not taken back
    assert box.leftovers() == []


def test_a_symbolic_link_in_the_place_is_replaced_and_where_it_led_is_untouched(box: Box) -> None:
    box.install_old()
    victim = box.root / "victim"
    victim.write_bytes(b"victim")
    box.model.unlink()
    box.model.symlink_to(victim)
    apply(box.plan(), box.environ())
    assert not box.model.is_symlink()
    assert box.model.read_bytes() == MODEL
    assert victim.read_bytes() == b"victim"


def test_a_directory_in_the_place_is_not_touched(box: Box) -> None:
    box.model.mkdir(parents=True)
    with pytest.raises(DeployError, match="is a directory"):
        apply(box.plan(), box.environ())
    assert box.leftovers() == []


def test_sources_in_their_place_are_checked_and_get_their_modes(box: Box) -> None:
    box.binary, box.model = box.binary_source, box.model_source
    box.model.chmod(0o600)
    apply(box.plan(), box.environ(), lambda _: 0)  # nothing is copied, so no room is needed
    assert mode_of(box.model) == 0o640
    assert owner_of(box.model) == (box.uid, box.gid)
    assert box.binary.read_text() == server_text()


def test_what_was_interrupted_a_day_ago_is_removed_and_what_may_be_running_is_not(box: Box) -> None:
    box.install_old()
    old, fresh, other = (box.model.parent / f".ray-stage-{name}" for name in ("model.gguf-x", "model.gguf-y", "else-z"))
    for path in (old, fresh, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (time.time() - DAY_SECONDS - 3600,) * 2)
    apply(box.plan(), box.environ())
    assert sorted(box.leftovers()) == sorted([fresh.name, other.name])


def test_leftovers_are_removed_before_room_is_measured(box: Box) -> None:
    box.install_old()
    stale = box.model.parent / ".ray-stage-model.gguf-x"
    stale.write_bytes(b"half")
    os.utime(stale, (time.time() - DAY_SECONDS - 1,) * 2)
    apply(box.plan(), box.environ(), lambda _: 0 if stale.exists() else 1 << 20)
    assert box.model.read_bytes() == MODEL


def test_many_other_files_beside_the_target_do_not_matter(box: Box) -> None:
    box.install_old()
    first = box.binary.parent / "program-0"
    first.touch()
    for number in range(1, 2_049):
        os.link(first, box.binary.parent / f"program-{number}")
    apply(box.plan(), box.environ())
    assert box.binary.read_text() == server_text()


@pytest.mark.parametrize(("free_mib", "fits"), [(257, False), (258, True)])
def test_two_small_files_on_one_file_system_need_room_for_both(box: Box, free_mib: int, fits: bool) -> None:
    box.install_old()
    if fits:
        apply(box.plan(), box.environ(), lambda _: free_mib)
        return
    with pytest.raises(DeployError, match=r"257 MiB free.*keeps 256 MiB"):
        apply(box.plan(), box.environ(), lambda _: free_mib)
    assert box.is_old


@pytest.mark.parametrize(("free_mib", "fits"), [(257, False), (258, True)])
def test_a_size_is_rounded_up(box: Box, free_mib: int, fits: bool) -> None:
    box.install_old()
    box.binary = box.binary_source  # in its place: only the model is copied
    box.model_source.write_bytes(MODEL + b"\0" * ((1 << 20) + 1 - len(MODEL)))
    if fits:
        apply(box.plan(), box.environ(), lambda _: free_mib)
        assert box.model.stat().st_size == (1 << 20) + 1
        return
    with pytest.raises(DeployError, match="257 MiB free"):
        apply(box.plan(), box.environ(), lambda _: free_mib)


@pytest.mark.parametrize(("reserve", "kept"), [("512", 512), ("10", 256)])
def test_the_deploy_reserve_can_only_raise_what_stays_free(box: Box, reserve: str, kept: int) -> None:
    with pytest.raises(DeployError, match=f"keeps {kept} MiB"):
        apply(box.plan({"RAY_DEPLOY_MIN_FREE_STORAGE_MIB": reserve}), box.environ(), lambda _: 200)


@pytest.fixture
def small_disk(box: Box) -> Iterator[Path]:
    directory = box.root / "small"
    directory.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", directory], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    yield directory
    subprocess.run(["umount", directory], check=True)


@needs_root
def test_a_disk_that_is_full_in_the_middle_of_a_copy_keeps_the_old_file(box: Box, small_disk: Path) -> None:
    box.model = small_disk / "model.gguf"
    box.model.write_bytes(b"old")
    box.model_source.write_bytes(MODEL + b"\0" * (3 << 20))
    with pytest.raises(DeployError, match="No space left on device"):
        apply(box.plan(), box.environ(), plenty)
    assert box.model.read_bytes() == b"old"
    assert box.leftovers() == []


@needs_root
def test_a_disk_that_is_too_small_is_refused_before_anything_is_copied(box: Box, small_disk: Path) -> None:
    box.model = small_disk / "model.gguf"
    with pytest.raises(DeployError, match=r"small has [01] MiB free"):
        apply(box.plan(), box.environ())
    assert not box.binary.exists()


@needs_root
def test_a_read_only_disk_is_an_answer_and_no_traceback(box: Box, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    box.model = small_disk / "models" / "model.gguf"
    with pytest.raises(DeployError, match="Read-only file system"):
        apply(box.plan(), box.environ(), plenty)
    assert not box.binary.exists()


class GrowingFile(io.FileIO):
    """Somebody is still writing it."""

    def read(self, size: int | None = -1, /) -> bytes:
        with open(str(self.name), "ab") as file:
            file.write(b"more" if os.path.getsize(str(self.name)) < 200 else b"")
        return super().read(size) or b""


def test_a_source_that_grows_while_it_is_copied_is_refused(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging_apply, "open_source", GrowingFile)
    box.install_old()
    with pytest.raises(DeployError, match="changed while it was copied"):
        apply(box.plan(), box.environ())
    assert box.model.read_bytes() == b"old"
    assert box.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_interrupted_apply_leaves_the_old_files_and_nothing_else(box: Box, number: signal.Signals) -> None:
    box.install_old()
    # Hangs when it is asked from its temporary name.
    box.set_server(server_text("case $0 in *.ray-stage-*) exec sleep 30 ;; esac"))
    options = ["--cwd", str(ROOT), "--config", str(EXAMPLES / "ray.1b.generic.public.json"), "--user", box.user]
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "ray.deploy", "model-stage", "--apply", *options],
        cwd=ROOT,
        env=box.environ(),
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    try:
        while not any(mode_of(path) == 0o755 for path in box.binary.parent.glob(".ray-stage-*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert box.is_old
    assert box.leftovers() == []


def test_the_service_must_be_able_to_read_what_is_installed(box: Box) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can try it as somebody else")
    box.model.parent.mkdir(mode=0o700)
    box.model.parent.chmod(0o700)
    with pytest.raises(DeployError, match="cannot read"):
        apply(box.plan(), box.environ())
    assert not box.model.exists()
    assert box.leftovers() == []


@needs_root
def test_root_never_runs_the_program_itself(box: Box) -> None:
    box.set_server(server_text('[ "$(id -u)" -ne 0 ] || exit 9\n[ "$(id -G)" = "$(id -g)" ] || exit 8'))
    apply(box.plan(), box.environ())
    assert box.binary.exists()


def test_an_account_that_is_not_there_is_named_with_the_remedy(box: Box) -> None:
    with pytest.raises(DeployError, match="useradd"):
        apply(replace(box.plan(), user="nobody-has-this"), box.environ())


def test_a_number_without_an_account_is_taken_as_it_is_when_a_group_is_named(box: Box) -> None:
    plan = replace(box.plan(), user="4021", group="4022")
    identity = service_identity(plan)
    assert (identity.uid, identity.gid) == (4021, 4022)
    with pytest.raises(DeployError, match="--group"):
        service_identity(replace(plan, group=None))


def test_a_number_that_is_an_account_gets_its_primary_group(box: Box) -> None:
    identity = service_identity(replace(box.plan(), user=str(box.uid), group=None))
    assert (identity.uid, identity.gid) == (box.uid, box.gid)


def test_a_program_that_lacks_a_flag_is_not_installed(box: Box) -> None:
    box.install_old()
    box.set_server(server_text(flags=[flag for flag in example_flags() if flag != "--ctx-size"]))
    with pytest.raises(DeployError, match="does not know --ctx-size:"):
        apply(box.plan(), box.environ())
    assert box.is_old
