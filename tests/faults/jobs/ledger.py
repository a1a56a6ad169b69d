"""What the outside has seen of the jobs, and the judgement over it: which promise was broken, if any.

The ledger knows nothing of how jobs are kept. It writes down acknowledgements, records as they were read over HTTP and
deliveries as they arrived, and holds them against the promises: an acknowledged job exists (I1), one key made one job
(I2), it was started at most `maxAttempts` times (I3), a terminal state never changes (I4), a delivered callback is not
sent again (I7), every delivery of a job has the same id and the same bytes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tests.faults.jobs.receiver import Delivery

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
# The mock backend never fails by itself: a job fails only because its attempts were spent on kills.
EXPECTED_FAILURES = frozenset({"job_recovery_attempts_exhausted"})
EVENT_OF = {"succeeded": "job.succeeded", "failed": "job.failed", "cancelled": "job.cancelled"}

Document = Mapping[str, object]


@dataclass(slots=True)
class Entry:
    """One submission. `key`: its idempotency key and the path of its callback; `job_id` is set by the first 202."""

    key: str
    text: str
    job_id: str | None = None
    outcome: str | None = None
    answer: str | None = None
    delivered_seen_at: float | None = None
    cancel_asked: bool = False
    cancel_acknowledged: bool = False
    delete_asked: bool = False
    deleted: bool = False


@dataclass(slots=True)
class Ledger:
    """All entries by key, and every broken promise as one line. Safe to use from several threads."""

    entries: dict[str, Entry] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    expected_failures: frozenset[str] = EXPECTED_FAILURES
    _by_id: dict[str, Entry] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def fork(self) -> Ledger:
        """A ledger that goes on from here on its own: what the same clients see when another thing happens next."""
        with self._lock:
            entries = {key: replace(entry) for key, entry in self.entries.items()}
            by_id = {entry.job_id: entry for entry in entries.values() if entry.job_id is not None}
            return Ledger(entries, list(self.faults), self.expected_failures, by_id)

    def intend(self, key: str, text: str) -> Entry:
        """A submission is about to be sent, perhaps without an answer."""
        with self._lock:
            return self.entries.setdefault(key, Entry(key, text))

    def acknowledge(self, entry: Entry, answer: Document) -> None:
        """A 202 was read."""
        with self._lock:
            job_id = str(answer.get("id"))
            if answer.get("status") != "queued":
                self.faults.append(f"{entry.key}: a 202 said {answer.get('status')!r}")
            if entry.job_id not in (None, job_id):
                self.faults.append(f"I2 {entry.key}: one key made two jobs, {entry.job_id} and {job_id}")
            owner = self._by_id.setdefault(job_id, entry)
            if owner is not entry:
                self.faults.append(f"I2 {job_id}: two keys, {owner.key} and {entry.key}, were given one job")
            entry.job_id = job_id

    def observe(self, record: Document) -> None:
        """A record as an answer showed it."""
        with self._lock:
            entry = self._by_id.get(str(record.get("id")))
            if entry is None:
                return
            if _number(record, "attempts") > _number(record, "maxAttempts"):
                self.faults.append(f"I3 {entry.key}: {record.get('attempts')} starts of {record.get('maxAttempts')}")
            outcome = outcome_of(record)
            if entry.outcome is None:
                entry.outcome = outcome
                self.faults += self._faults_of_outcome(entry, record)
            elif outcome != entry.outcome:
                self.faults.append(f"I4 {entry.key}: it was {entry.outcome} and is now {outcome or record}")
            self._note_answer(entry, record)
            if _callback(record).get("status") == "delivered" and entry.delivered_seen_at is None:
                entry.delivered_seen_at = time.monotonic()

    def _note_answer(self, entry: Entry, record: Document) -> None:
        """The answer of a job, where it is shown; a list shows none."""
        result = record.get("result")
        if not isinstance(result, dict):
            return
        answer = json.dumps(result, sort_keys=True)
        if entry.answer is None:
            entry.answer = answer
            if entry.text not in str(result.get("output")):
                self.faults.append(f"{entry.key}: it was given the answer to another question")
        elif answer != entry.answer:
            self.faults.append(f"I4 {entry.key}: its answer has changed")

    def _faults_of_outcome(self, entry: Entry, record: Document) -> list[str]:
        status = record.get("status")
        if status == "cancelled" and not entry.cancel_asked:
            return [f"{entry.key}: cancelled, and nobody asked for that"]
        if status == "failed":
            error = record.get("error")
            code = error.get("code") if isinstance(error, dict) else None
            return [] if code in self.expected_failures else [f"{entry.key}: failed with {error}"]
        return []

    def missing(self, entry: Entry, status: int) -> None:
        """A job that was acknowledged is not found."""
        with self._lock:
            if not entry.delete_asked:
                self.faults.append(f"I1 {entry.key}: {entry.job_id} was acknowledged and is gone ({status})")

    def acknowledged(self) -> list[Entry]:
        """Every entry that a 202 was read for and that nobody asked to delete."""
        with self._lock:
            return [entry for entry in self.entries.values() if entry.job_id is not None and not entry.delete_asked]

    def unacknowledged(self) -> list[Entry]:
        with self._lock:
            return [entry for entry in self.entries.values() if entry.job_id is None]

    def judge_deliveries(self, deliveries: Iterable[Delivery], final: Mapping[str, Document]) -> None:
        """Hold what arrived against the records at the end, by job id."""
        by_key: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_key.setdefault(delivery.path.rpartition("/")[2], []).append(delivery)
        for key, entry in self.entries.items():
            arrived = by_key.pop(key, [])
            self.faults += [f"I7 {key}: {fault}" for fault in _delivery_faults(entry, arrived)]
            record = final.get(entry.job_id or "")
            if record is not None:
                self.faults += [f"{key}: {fault}" for fault in _callback_faults(_callback(record), arrived)]
        self.faults += [f"a delivery to {key!r}, which nobody asked for" for key in by_key]


def outcome_of(record: Document) -> str | None:
    """What must never change once it was seen, but for the answer, as text; None while the job has not ended."""
    if record.get("status") not in TERMINAL:
        return None
    fixed = {name: record.get(name) for name in ("status", "completedAt", "error")}
    return json.dumps(fixed, sort_keys=True)


def settled(record: Document) -> bool:
    """Whether the job has ended and nothing is left to be delivered."""
    return outcome_of(record) is not None and _callback(record).get("status") != "pending"


def _delivery_faults(entry: Entry, arrived: list[Delivery]) -> list[str]:
    faults = [f"delivery {one.webhook_id}: {one.fault}" for one in arrived if one.fault is not None]
    if len({one.webhook_id for one in arrived}) > 1:
        faults.append(f"several ids for one job: {sorted({one.webhook_id for one in arrived})}")
    if len({one.body for one in arrived}) > 1:
        faults.append("the bytes differ between attempts")
    if entry.delivered_seen_at is not None:
        late = [one for one in arrived if one.at > entry.delivered_seen_at]
        faults += [
            f"sent again {one.at - entry.delivered_seen_at:.3f} s after it was known as delivered" for one in late
        ]
    if arrived and entry.outcome is not None:
        body = json.loads(arrived[0].body)
        status = json.loads(entry.outcome)["status"]
        if body["type"] != EVENT_OF[status] or body["data"]["job"]["id"] != entry.job_id:
            faults.append(f"a delivery of {body['type']} for a job that is {status}")
        elif outcome_of(body["data"]["job"]) not in (None, entry.outcome):
            faults.append("the delivered record has another outcome than the one that is read")
    return faults


def _callback_faults(callback: Document, arrived: list[Delivery]) -> list[str]:
    faults = []
    if len(arrived) > _number(callback, "attempts"):
        faults.append(f"{len(arrived)} deliveries arrived, {callback.get('attempts')} were counted")
    if callback.get("status") == "delivered" and not any(one.accepted for one in arrived):
        faults.append("delivered, and nothing was accepted")
    return faults


def _callback(record: Document) -> Document:
    callback = record.get("callback")
    return callback if isinstance(callback, dict) else {}


def _number(record: Document, key: str) -> int:
    value = record.get(key)
    return value if isinstance(value, int) else 0
