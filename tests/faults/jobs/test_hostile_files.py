"""A store in which somebody has been: whatever lies there, a start harms no good job, follows no link, waits for no
pipe, and deletes nothing that it cannot read.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.jobs.kills import jobs_config
from tests.faults.jobs.test_two_gateways import submit, wait_ended
from tests.integration.backend import PATIENCE_SECONDS, GatewayProcess, free_port, wait_until
from tests.integration.conftest import StartGateway

Record = dict[str, object]

# One edit each of a good record. What comes out is no record any more.
EDITS: dict[str, Callable[[Record], object]] = {
    "no-id": lambda record: record.pop("id"),
    "no-status": lambda record: record.pop("status"),
    "no-request": lambda record: record.pop("request"),
    "no-created-at": lambda record: record.pop("createdAt"),
    "no-updated-at": lambda record: record.pop("updatedAt"),
    "no-attempts": lambda record: record.pop("attempts"),
    "no-max-attempts": lambda record: record.pop("maxAttempts"),
    "no-version": lambda record: record.pop("v"),
    "unknown-key": lambda record: record.update(surprise=1),
    "other-id": lambda record: record.update(id="job_0000000000000000"),
    "unknown-status": lambda record: record.update(status="done"),
    "status-null": lambda record: record.update(status=None),
    "request-list": lambda record: record.update(request=[]),
    "request-empty": lambda record: record.update(request={}),
    "created-at-number": lambda record: record.update(createdAt=12),
    "created-at-no-date": lambda record: record.update(createdAt="2026-99-99T00:00:00.000Z"),
    "created-at-newline": lambda record: record.update(createdAt=f"{record['createdAt']}\n"),
    "attempts-negative": lambda record: record.update(attempts=-1),
    "attempts-true": lambda record: record.update(attempts=True),
    "attempts-fraction": lambda record: record.update(attempts=0.5),
    "attempts-huge": lambda record: record.update(attempts=101),
    "attempts-above-most": lambda record: record.update(attempts=3, maxAttempts=2),
    "completed-but-queued": lambda record: record.update(completedAt=record["createdAt"]),
    "result-but-queued": lambda record: record.update(result={}),
    "succeeded-without-result": lambda record: record.update(status="succeeded", completedAt=record["createdAt"]),
    "failed-without-error": lambda record: record.update(status="failed", completedAt=record["createdAt"]),
    "callback-text": lambda record: record.update(callback="http://127.0.0.1/"),
    "callback-delivered-never": lambda record: record.update(
        callback={"url": "http://127.0.0.1/", "status": "delivered", "attempts": 1}
    ),
    "version-zero": lambda record: record.update(v=0),
    "version-text": lambda record: record.update(v="1"),
}

# What is not JSON at all, or no record by far.
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "half": b'{"id": "job_ha',
    "zeros": bytes(4096),
    "invalid-utf8": b'{"id": "\xff\xfe"}',
    "list": b"[]",
    "null": b"null",
    "nan": b'{"attempts": NaN}',
    "huge-number": b'{"attempts": ' + b"9" * 100_000 + b"}",
    "deep": b"[" * 500_000 + b"]" * 500_000,
    "too-large": b" " * (2 * 1024 * 1024 + 1),
}

NO_ID = "not an id.json"
# Of a callback: no submission could have brought them, and the form of a record says nothing about them.
ODD_URLS = ("file:///etc/passwd", "http://[::1", "gopher://127.0.0.1:70/", "http://h\r\nx: y/")


def queued_record(start_gateway: StartGateway, config: dict[str, object], storage: Path) -> tuple[str, Record]:
    """The name and the content of a queued job's file as a gateway wrote it."""
    slow = {"adapter": {"kind": "mock", "latencyMs": 60_000}}
    gateway = start_gateway({**config, "model": slow})
    first, job_id = submit(gateway, "keeps the only place"), submit(gateway, "a good job")
    wait_until(
        lambda: gateway.get(f"/v1/jobs/{first}").json()["status"] == "running", PATIENCE_SECONDS, "the first job runs"
    )
    gateway.signal(signal.SIGKILL)
    gateway.wait_exit()
    return job_id, json.loads((storage / "jobs" / f"{job_id}.json").read_bytes())


def lay(directory: Path, record: Record) -> set[str]:
    """Put every hostile file of this module into the store. Their names."""
    names = set()
    for number, (what, edit) in enumerate(EDITS.items()):
        job_id = f"job_edit-{number}-{what}"
        edited: Record = {**json.loads(json.dumps(record)), "id": job_id}
        edit(edited)
        (directory / f"{job_id}.json").write_text(json.dumps(edited))
        names.add(f"{job_id}.json")
    for what, content in CONTENTS.items():
        (directory / f"job_{what}.json").write_bytes(content)
        names.add(f"job_{what}.json")
    (directory / NO_ID).write_text(json.dumps(record))
    return names | {NO_ID}


def test_given_hostile_files_when_it_starts_then_they_are_put_aside_untouched_and_the_good_job_is_done(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    config = jobs_config(storage, free_port(), dispatchConcurrency=1)
    job_id, record = queued_record(start_gateway, config, storage)
    hostile = lay(storage / "jobs", record)
    contents = sorted((storage / "jobs" / name).read_bytes() for name in hostile)

    gateway = start_gateway(config)

    assert wait_ended(gateway, job_id)["status"] == "succeeded"
    aside = [path for path in (storage / "quarantine").iterdir() if path.is_file()]
    assert sorted(path.read_bytes() for path in aside) == contents
    assert {path.name for path in (storage / "jobs").iterdir()}.isdisjoint(hostile)
    assert gateway.get("/health").json()["status"] == "degraded"
    assert health_block(gateway)["quarantined"] == len(hostile)
    for name in hostile - {NO_ID}:
        assert gateway.get(f"/v1/jobs/{name.removesuffix('.json')}").status == 404, name


def health_block(gateway: GatewayProcess) -> dict[str, object]:
    block = gateway.get("/health").json()["asyncQueue"]
    assert isinstance(block, dict)
    return block


def test_given_callback_urls_that_no_submission_could_have_when_it_starts_then_nobody_is_called(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    config = jobs_config(storage, free_port(), dispatchConcurrency=1)
    job_id, record = queued_record(start_gateway, config, storage)
    for number, url in enumerate(ODD_URLS):
        odd = {**record, "id": f"job_odd-{number}", "callback": {"url": url, "status": "pending", "attempts": 0}}
        (storage / "jobs" / f"job_odd-{number}.json").write_text(json.dumps(odd))

    gateway = start_gateway(config)

    assert wait_ended(gateway, job_id)["status"] == "succeeded"
    for odd_id in (f"job_odd-{number}" for number in range(len(ODD_URLS))):
        assert wait_ended(gateway, odd_id)["status"] == "succeeded"
        wait_callback(gateway, odd_id, "failed", "invalid_url")


def wait_callback(gateway: GatewayProcess, job_id: str, status: str, reason: str) -> None:
    def there() -> bool:
        callback = gateway.get(f"/v1/jobs/{job_id}").json()["callback"]
        return isinstance(callback, dict) and (callback["status"], callback.get("lastError")) == (status, reason)

    wait_until(there, PATIENCE_SECONDS, f"the callback of {job_id} is {status} ({reason})")


def test_given_links_pipes_and_directories_in_the_store_when_it_starts_then_none_is_followed_or_waited_for(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    config = jobs_config(storage, free_port(), dispatchConcurrency=1)
    job_id, record = queued_record(start_gateway, config, storage)
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps({**record, "id": "job_link"}))
    jobs = storage / "jobs"
    (jobs / "job_link.json").symlink_to(outside)
    os.mkfifo(jobs / "job_pipe.json")
    (jobs / "job_directory.json").mkdir()
    os.link(outside, jobs / "job_twice.json")
    (jobs / "notes.txt").write_text("somebody's notes")
    (jobs / f".tmp-{job_id}.json-left").write_text("half a rec")
    before = outside.read_bytes()

    gateway = start_gateway(config)

    assert wait_ended(gateway, job_id)["status"] == "succeeded"
    for name in ("job_link", "job_pipe", "job_directory", "job_twice"):
        assert gateway.get(f"/v1/jobs/{name}").status == 404, name
    assert outside.read_bytes() == before
    assert (jobs / "notes.txt").read_text() == "somebody's notes"
    assert list(jobs.glob(".tmp-*")) == []


def test_given_a_record_of_a_newer_version_when_it_starts_then_it_refuses_and_leaves_everything_where_it_is(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    config = jobs_config(storage, free_port(), dispatchConcurrency=1)
    _, record = queued_record(start_gateway, config, storage)
    newer = storage / "jobs" / "job_newer.json"
    newer.write_text(json.dumps({**record, "id": "job_newer", "v": 2, "priority": "high"}))
    before = {path.name: path.read_bytes() for path in (storage / "jobs").iterdir()}

    with pytest.raises(AssertionError, match="the gateway ended with 1") as refused:
        start_gateway(config)

    assert "job_newer" in str(refused.value)
    assert {path.name: path.read_bytes() for path in (storage / "jobs").iterdir()} == before


def test_given_a_store_of_ours_that_others_may_read_when_it_starts_then_it_is_closed_to_them(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    storage = tmp_path / "queue"
    for directory in (storage, storage / "jobs"):
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)

    gateway = start_gateway(jobs_config(storage, free_port()))

    job_id = submit(gateway, "private")
    assert stat.S_IMODE(storage.stat().st_mode) == 0o700
    assert stat.S_IMODE((storage / "jobs").stat().st_mode) == 0o700
    assert stat.S_IMODE((storage / "jobs" / f"{job_id}.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["link", "file"])
def test_given_a_jobs_directory_that_is_none_when_it_starts_then_it_refuses_and_names_it(
    start_gateway: StartGateway, tmp_path: Path, kind: str
) -> None:
    storage, elsewhere = tmp_path / "queue", tmp_path / "elsewhere"
    storage.mkdir(mode=0o700)
    elsewhere.mkdir(mode=0o700)
    if kind == "link":
        (storage / "jobs").symlink_to(elsewhere)
    else:
        (storage / "jobs").write_text("no directory")

    with pytest.raises(AssertionError, match="the gateway ended with 1") as refused:
        start_gateway(jobs_config(storage, free_port()))

    assert str(storage) in str(refused.value)
    assert list(elsewhere.iterdir()) == []
