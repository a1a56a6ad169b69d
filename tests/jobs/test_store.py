"""The job store on a real disk: what it makes, what it refuses, what it leaves alone."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.disk import FileFacts, RealDisk
from ray.jobs.record import MAX_RECORD_BYTES, JobRecord, decode, encode, light
from ray.jobs.store import JobStore, Recovery
from tests.jobs.records import queued, running, succeeded

Result = TypeVar("Result")
NOW = 1_795_283_514.0


def with_store(directory: Path | str, work: Callable[[JobStore, Recovery], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        thread = DiskThread("test-disk")
        store = JobStore(str(directory), RealDisk(), thread, wall=lambda: NOW)
        try:
            return await work(store, await store.open())
        finally:
            await store.close()
            await thread.close()

    return asyncio.run(main())


def opened(directory: Path | str) -> Recovery:
    async def work(store: JobStore, recovery: Recovery) -> Recovery:
        return recovery

    return with_store(directory, work)


def put(directory: Path | str, *records: JobRecord) -> None:
    async def work(store: JobStore, recovery: Recovery) -> None:
        for record in records:
            await store.put(record)

    with_store(directory, work)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def refusal(directory: Path | str) -> RayError:
    with pytest.raises(RayError) as caught:
        opened(directory)
    return caught.value


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A storage directory with the job `job_1`."""
    put(tmp_path / "queue", queued())
    return tmp_path / "queue"


# Keeping


def test_given_a_missing_directory_when_opened_then_every_level_is_made_for_us_alone(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        put(tmp_path / "a" / "b" / "queue", queued())
    finally:
        os.umask(previous)
    made = [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/queue"]
    assert [mode_of(path) for path in (*made, made[2] / "jobs", made[2] / "quarantine")] == [0o700] * 5
    assert mode_of(made[2] / "jobs" / "job_1.json") == 0o600
    assert mode_of(made[2] / "lock") == 0o600


def test_given_records_when_put_then_the_next_start_finds_them_and_no_temporary_file(tmp_path: Path) -> None:
    put(tmp_path, queued("job_1"), queued("job_2"), running("job_2"))
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["job_1.json", "job_2.json"]
    assert {record.id: record for record in opened(tmp_path).records} == {"job_1": queued(), "job_2": running("job_2")}


def test_given_a_settled_job_when_opened_then_its_answer_stays_on_disk_until_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, succeeded())

    async def work(store: JobStore, recovery: Recovery) -> None:
        assert recovery.records == (light(succeeded()),)
        assert await store.read("job_1") == succeeded()
        assert await store.read("job_2") is None

    with_store(tmp_path, work)


def test_given_a_record_when_removed_then_it_is_gone_and_removing_it_again_is_fine(home: Path) -> None:
    async def work(store: JobStore, recovery: Recovery) -> None:
        await store.remove("job_1")
        await store.remove("job_1")

    with_store(home, work)
    assert opened(home).records == ()


def test_given_records_when_asked_for_room_then_their_bytes_and_the_disk_are_told_once_a_second(tmp_path: Path) -> None:
    async def main() -> None:
        now = [10.0]
        thread = DiskThread("test-disk")
        store = JobStore(str(tmp_path), RealDisk(), thread, monotonic=lambda: now[0])
        await store.open()
        await store.put(queued("job_1"))
        first = await store.room()
        assert first is not None
        assert (first.store_files, first.store_bytes) == (1, len(encode(queued())))
        assert first.available_bytes > 0
        await store.put(queued("job_2"))
        assert await store.room() == first
        now[0] += 1.0
        later = await store.room()
        assert later is not None
        assert later.store_files == 2
        await store.remove("job_1")
        now[0] += 1.0
        assert (await store.room() or first).store_files == 1
        await store.close()
        with pytest.raises(RayError, match="closed"):
            await store.put(queued())
        await thread.close()

    asyncio.run(main())


def test_given_an_id_that_is_a_path_then_the_store_touches_nothing(home: Path) -> None:
    async def work(store: JobStore, recovery: Recovery) -> None:
        for name in ("../lock", "a/b", "", "."):
            with pytest.raises(ValueError, match="not a job id"):
                await store.remove(name)

    with_store(home, work)
    assert (home / "lock").exists()


# One process

SECOND = """
import asyncio, sys
from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.disk import RealDisk
from ray.jobs.store import JobStore
async def main():
    store = JobStore(sys.argv[1], RealDisk(), DiskThread("second"))
    try:
        await store.open()
        print("opened")
    except RayError as error:
        print(error.code, error)
asyncio.run(main())
"""


def second_process(directory: Path) -> str:
    done = subprocess.run([sys.executable, "-c", SECOND, str(directory)], capture_output=True, text=True, timeout=30)
    return done.stdout


def test_given_a_gateway_at_work_when_a_second_process_opens_the_directory_then_it_is_refused(home: Path) -> None:
    async def work(store: JobStore, recovery: Recovery) -> str:
        return await asyncio.to_thread(second_process, home)

    answer = with_store(home, work)
    assert answer.startswith("async_queue_locked")
    assert str(home) in answer
    assert "asyncQueue.storageDir" in answer
    assert second_process(home).startswith("opened"), "the first one has closed: its lock is free"


# Whose directory


def test_given_our_own_loose_modes_when_opened_then_they_are_tightened(home: Path) -> None:
    record = home / "jobs" / "job_1.json"
    for path, mode in ((home, 0o755), (home / "jobs", 0o777), (home / "quarantine", 0o750), (record, 0o644)):
        path.chmod(mode)
    (home / "lock").chmod(0o666)
    assert len(opened(home).records) == 1
    assert [mode_of(path) for path in (home, home / "jobs", home / "quarantine")] == [0o700] * 3
    assert mode_of(record) == mode_of(home / "lock") == 0o600


class _Stranger(RealDisk):
    """Runs as another user than the one who owns the files."""

    def user(self) -> int:
        return os.geteuid() + 1


class _StrangersFiles(RealDisk):
    """The directories are ours; the records belong to someone else."""

    def handle_facts(self, handle: int) -> FileFacts:
        facts = super().handle_facts(handle)
        is_record = facts.kind == "file" and facts.size > 0
        return facts._replace(owner=facts.owner + 1) if is_record else facts


def test_given_a_directory_of_another_user_when_opened_then_it_is_refused_and_not_changed(home: Path) -> None:
    home.chmod(0o755)
    with pytest.raises(RayError) as caught:
        asyncio.run(JobStore(str(home), _Stranger(), DiskThread("test-disk")).open())
    assert caught.value.code == "async_queue_storage_error"
    assert "belongs to the user" in str(caught.value)
    assert mode_of(home) == 0o755


def test_given_a_record_of_another_user_when_opened_then_it_is_put_aside_unread(home: Path) -> None:
    async def main() -> Recovery:
        store = JobStore(str(home), _StrangersFiles(), DiskThread("test-disk"))
        recovery = await store.open()
        await store.close()
        return recovery

    recovery = asyncio.run(main())
    assert recovery.records == ()
    assert [file.reason for file in recovery.quarantined] == ["it belongs to another user"]


@pytest.mark.parametrize("inner", [None, "jobs", "quarantine", "lock"])
def test_given_a_link_in_the_place_of_ours_when_opened_then_it_is_refused(home: Path, inner: str | None) -> None:
    place = home if inner is None else home / inner
    elsewhere = home.parent / "elsewhere"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    assert refusal(home).code == "async_queue_storage_error"


def test_given_a_link_above_the_storage_directory_then_it_is_followed(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "public").symlink_to("private")
    put(tmp_path / "public" / "queue", queued())
    assert (tmp_path / "private/queue/jobs/job_1.json").exists()


def test_given_a_file_in_the_place_of_the_directory_then_the_refusal_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("a file")
    error = refusal(tmp_path / "queue")
    assert error.code == "async_queue_storage_error"
    assert "asyncQueue.storageDir" in str(error)


def test_given_a_fifo_as_the_lock_then_it_is_refused_without_waiting(home: Path) -> None:
    (home / "lock").unlink()
    os.mkfifo(home / "lock")
    assert refusal(home).code == "async_queue_storage_error"


# What else lies among the records


def test_given_things_that_are_not_ours_when_opened_then_they_are_left_alone(home: Path) -> None:
    jobs = home / "jobs"
    (jobs / "notes.txt").write_text("mine")
    (jobs / "folder.json").mkdir()
    (jobs / ".tmp-folder").mkdir()
    os.mkfifo(jobs / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(jobs / "s.json"))
    outside = home.parent / "outside.json"
    outside.write_bytes(encode(queued("link")))
    (jobs / "link.json").symlink_to(outside)
    (jobs / "dangling.json").symlink_to("nowhere")
    before = sorted(os.listdir(jobs))
    recovery = opened(home)
    assert [record.id for record in recovery.records] == ["job_1"]
    assert recovery[1:] == ((), 0, ())
    assert sorted(os.listdir(jobs)) == before


def test_given_left_over_temporary_files_when_opened_then_they_are_removed(home: Path) -> None:
    for number in range(3):
        (home / "jobs" / f".tmp-job_1.json-{number}").write_bytes(b"{")
    assert opened(home).removed_temp_files == 3
    assert opened(home).removed_temp_files == 0


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        ("foo bar.json", b"{}", "the name"),
        (".json", b"{}", "the name"),
        ("job_2.json", encode(queued("job_3")), "record.id"),
        ("job_2.json", b"{", "not JSON"),
        ("job_2.json", b"", "not JSON"),
        ("job_2.json", b"\xff", "not UTF-8"),
        ("job_2.json", b"x" * (MAX_RECORD_BYTES + 1), "larger than"),
    ],
)
def test_given_a_file_that_is_no_record_when_opened_then_it_is_put_aside_and_the_others_live(
    home: Path, name: str, contents: bytes, reason: str
) -> None:
    (home / "jobs" / name).write_bytes(contents)

    async def work(store: JobStore, recovery: Recovery) -> tuple[Recovery, int]:
        return recovery, store.quarantined

    recovery, count = with_store(home, work)
    assert [record.id for record in recovery.records] == ["job_1"]
    assert [file.name for file in recovery.quarantined] == [name]
    assert reason in recovery.quarantined[0].reason
    assert count == 1
    held = home / "quarantine" / f"{int(NOW * 1000)}-{name}"
    assert held.read_bytes() == contents
    assert not (home / "jobs" / name).exists()
    assert opened(home).quarantined == (), "once"


def test_given_a_record_with_a_second_name_when_opened_then_it_is_put_aside(home: Path) -> None:
    os.link(home / "jobs" / "job_1.json", home.parent / "other-name")
    recovery = opened(home)
    assert recovery.records == ()
    assert "hard links" in recovery.quarantined[0].reason


class _Growing(RealDisk):
    """Files grow between the look at their size and the reading."""

    def read(self, handle: int, limit: int) -> bytes:
        return super().read(handle, limit).ljust(limit)


def test_given_a_file_that_grows_while_it_is_read_then_it_is_put_aside(home: Path) -> None:
    async def main() -> Recovery:
        store = JobStore(str(home), _Growing(), DiskThread("test-disk"))
        recovery = await store.open()
        await store.close()
        return recovery

    assert "larger than" in asyncio.run(main()).quarantined[0].reason


def test_given_a_file_too_large_for_the_quarantine_then_it_stays_and_is_reported(home: Path) -> None:
    huge = home / "jobs" / "huge.json"
    with huge.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    recovery = opened(home)
    assert recovery.unreadable == ("huge.json",)
    assert huge.exists()


def test_given_a_record_of_a_newer_ray_when_opened_then_the_start_is_refused_and_nothing_is_moved(home: Path) -> None:
    document = {**json.loads(encode(queued("job_2"))), "v": 2}
    (home / "jobs" / "job_2.json").write_text(json.dumps(document))
    (home / "jobs" / "bad.json").write_text("no record")
    error = refusal(home)
    assert error.code == "async_queue_storage_error"
    assert "newer Ray" in str(error)
    assert "job_2.json" in str(error)
    assert sorted(os.listdir(home / "jobs")) == ["bad.json", "job_1.json", "job_2.json"]
    (home / "jobs" / "job_2.json").unlink()
    assert len(opened(home).records) == 1, "the refused start has let go of its lock"


@pytest.mark.parametrize(("others", "refused"), [(4_095, False), (4_096, True)])
def test_given_thousands_of_foreign_files_then_only_more_than_4096_entries_are_refused(
    home: Path, others: int, refused: bool
) -> None:
    for number in range(others):
        (home / "jobs" / f"n{number}").touch()
    if refused:
        assert refusal(home).code == "async_queue_recovery_limit_exceeded"
    else:
        assert len(opened(home).records) == 1


def test_given_more_than_2048_temporary_files_then_the_start_is_refused_and_the_next_one_is_well(home: Path) -> None:
    for number in range(2_049):
        (home / "jobs" / f".tmp-{number}").touch()
    error = refusal(home)
    assert error.code == "async_queue_recovery_limit_exceeded"
    assert isinstance(error.details, dict)
    assert error.details["removedTempFiles"] == 2_048
    recovery = opened(home)
    assert (recovery.removed_temp_files, len(recovery.records)) == (1, 1)


def test_given_a_record_that_someone_changed_when_read_then_it_is_an_error_and_the_file_stays(home: Path) -> None:
    async def work(store: JobStore, recovery: Recovery) -> None:
        (home / "jobs" / "job_1.json").write_text("{}")
        with pytest.raises(RayError) as caught:
            await store.read("job_1")
        assert caught.value.code == "async_queue_storage_error"

    with_store(home, work)
    assert (home / "jobs" / "job_1.json").exists()


def test_given_a_record_written_by_hand_as_documented_then_it_is_a_job(home: Path) -> None:
    data = encode(queued("by_hand"))
    (home / "jobs" / "by_hand.json").write_bytes(json.dumps(json.loads(data)).encode())
    assert {record.id for record in opened(home).records} == {"job_1", "by_hand"}
    assert decode(data, "by_hand").id == "by_hand"
