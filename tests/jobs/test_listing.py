"""Pages of jobs."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from ray.errors import RayError
from ray.jobs.listing import page_of
from ray.jobs.record import JobRecord
from tests.jobs.house import a_record, at


def jobs(count: int) -> list[JobRecord]:
    # Two of each moment, so that the id has to decide as well.
    return [a_record(f"job_{number:02}", created_at=at(number // 2)) for number in range(count)]


def ids(records: tuple[JobRecord, ...]) -> list[str]:
    return [record.id for record in records]


def test_pages_follow_each_other_newest_first_without_gap_or_repetition() -> None:
    records = jobs(7)
    seen: list[str] = []
    cursor = None
    for size in (3, 3, 1):
        page = page_of(records, None, 3, cursor)
        assert len(page.records) == size
        seen += ids(page.records)
        cursor = page.next_cursor
    assert cursor is None
    assert seen == [f"job_{number:02}" for number in reversed(range(7))]


def test_what_comes_or_goes_between_two_pages_disturbs_no_other_job() -> None:
    records = jobs(6)
    first = page_of(records, None, 2, None)
    changed = [record for record in records if record.id != ids(first.records)[-1]]
    changed.append(a_record("job_new", created_at=at(100)))
    assert ids(page_of(changed, None, 2, first.next_cursor).records) == ["job_03", "job_02"]


def test_only_jobs_of_the_wanted_status_are_listed() -> None:
    records = [*jobs(2), a_record("job_r", status="running", attempts=1)]
    assert ids(page_of(records, "running", 20, None).records) == ["job_r"]


def test_a_full_last_page_has_no_next() -> None:
    assert page_of(jobs(2), None, 2, None).next_cursor is None


@pytest.mark.parametrize(
    ("status", "limit", "cursor"),
    [
        ("done", 20, None),
        (None, 0, None),
        (None, 101, None),
        (None, 20, ""),
        (None, 20, "%%%"),
        (None, 20, "é"),
        (None, 20, "x" * 10_000),
        (None, 20, urlsafe_b64encode(b"2026-11-21T17:20:01.482Z ../etc").decode()),
        (None, 20, urlsafe_b64encode(b"\xff\xfe").decode()),
    ],
)
def test_what_no_list_gave_is_refused(status: str | None, limit: int, cursor: str | None) -> None:
    with pytest.raises(RayError) as refusal:
        page_of(jobs(1), status, limit, cursor)
    assert refusal.value.code == "invalid_request"
