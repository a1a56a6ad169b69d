"""Real kills: a gateway with jobs and callbacks in flight dies by SIGKILL at random moments, again and again.

Clients submit, read, cancel and delete all the while and keep a ledger; a submission without an answer is sent again
with its idempotency key. At the end every acknowledged job must have ended, once, and nothing else may exist.
`python -m tests.faults.jobs.kills --kills 200` is the long form; the same seed gives the same moments.
"""

from __future__ import annotations

import argparse
import http.client
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.jobs.ledger import Document, Entry, Ledger, settled
from tests.faults.jobs.receiver import Receiver, new_secret
from tests.integration.backend import ROOT, Answer, GatewayProcess, ask, free_port, wait_until

CLIENTS = 2
SETTLE_SECONDS = 120.0
ANSWER_SECONDS = 10.0
REFUSALS = 0.3
# Moments of death after the gateway listens, and of those that do not even get there.
LIFE_SECONDS = (0.02, 0.45)
STILLBORN_SECONDS = (0.05, 0.35)
STILLBORN_SHARE = 0.2
MAX_JOBS = 2_000
PAUSE_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class KillReport:
    """How a run went. `faults`: one line for each broken promise."""

    kills: int
    acknowledged: int
    deleted: int
    statuses: Mapping[str, int]
    callbacks: Mapping[str, int]
    deliveries: int
    duplicates: int
    faults: list[str]

    def text(self) -> str:
        return (
            f"{self.kills} kills: {self.acknowledged} jobs acknowledged, {self.deleted} deleted, "
            f"ended {dict(self.statuses)}, callbacks {dict(self.callbacks)}, "
            f"{self.deliveries} deliveries arrived, {self.duplicates} of them again; {len(self.faults)} faults"
        )


def jobs_config(storage: Path, port: int, **async_queue: object) -> dict[str, object]:
    """A gateway on the mock backend whose jobs are quick and retried at once."""
    return {
        "profile": "tiny",
        "server": {"port": port},
        "model": {"adapter": {"kind": "mock", "latencyMs": 40}},
        "scheduler": {"concurrency": 2, "requestTimeoutMs": 100_000},
        "rateLimit": {"enabled": False},
        # A busy machine must not shorten or refuse anything.
        "gracefulDegradation": {"enabled": False},
        "adaptiveTuning": {"enabled": False},
        "asyncQueue": {
            "enabled": True,
            "storageDir": str(storage),
            "maxJobs": MAX_JOBS,
            "minFreeStorageMiB": 1,
            "pollIntervalMs": 20,
            "dispatchConcurrency": 2,
            "maxAttempts": 4,
            "maxCallbackAttempts": 12,
            "callbackTimeoutMs": 5_000,
            "callbackAllowPrivateNetwork": True,
            **async_queue,
        },
    }


class Client:
    """One thread that submits and looks, through whatever happens to the gateway."""

    def __init__(self, name: str, port: int, ledger: Ledger, receiver: Receiver, seed: int) -> None:
        self._name = name
        self._port = port
        self._ledger = ledger
        self._receiver = receiver
        self._rng = random.Random(seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends after the submission under way was acknowledged."""
        self._stopped.set()

    def join(self) -> None:
        self._thread.join(SETTLE_SECONDS)
        if self._thread.is_alive():
            self._ledger.faults.append(f"client {self._name} never got its last answer")

    def _work(self) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            key = f"{self._name}-{number}"
            self._submit(self._ledger.intend(key, f"question {key} of a client"))
            self._look_at_one()
            time.sleep(self._rng.uniform(0, PAUSE_SECONDS))

    def _submit(self, entry: Entry) -> None:
        """Until it is acknowledged: the key makes repeating safe."""
        document: dict[str, object] = {"input": entry.text, "maxTokens": 16, "cache": False}
        if self._rng.random() < 0.7:
            document["callbackUrl"] = self._receiver.url(f"/hook/{entry.key}")
        while True:
            answer = self._ask("POST", "/v1/jobs", document, {"idempotency-key": entry.key})
            if answer is None or answer.status in (409, 503):
                time.sleep(PAUSE_SECONDS)
                continue
            if answer.status == 202:
                self._ledger.acknowledge(entry, answer.json())
            else:
                self._ledger.faults.append(f"{entry.key}: a submission was answered {answer.status} {answer.body!r}")
            return

    def _look_at_one(self) -> None:
        known = self._ledger.acknowledged()
        if not known:
            return
        entry = self._rng.choice(known)
        path, action = f"/v1/jobs/{entry.job_id}", self._rng.random()
        if action < 0.08:
            entry.cancel_asked = True
            self._ask("POST", f"{path}/cancel")
        elif action < 0.4:
            self._delete(entry, path)
        else:
            look(self._ledger, entry, self._ask("GET", f"{path}?wait=1" if action > 0.9 else path))

    def _delete(self, entry: Entry, path: str) -> None:
        if entry.outcome is None:
            return
        entry.delete_asked = True
        answer = self._ask("DELETE", path)
        if answer is not None and answer.status == 409:
            entry.delete_asked = False
        elif answer is not None and answer.status == 204:
            entry.deleted = True
        elif answer is not None:
            self._ledger.faults.append(f"{entry.key}: deleting was answered {answer.status} {answer.body!r}")

    def _ask(
        self, method: str, path: str, document: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        """The answer, or None when the gateway was not there to give one."""
        try:
            return ask(self._port, method, path, document, headers, ANSWER_SECONDS)
        except (OSError, http.client.HTTPException):
            return None


def look(ledger: Ledger, entry: Entry, answer: Answer | None) -> None:
    """Note what a GET showed of an acknowledged job."""
    if answer is None or answer.status == 503:
        return
    if answer.status == 200:
        ledger.observe(answer.json())
    elif answer.status in (404, 410):
        ledger.missing(entry, answer.status)
    else:
        ledger.faults.append(f"{entry.key}: reading it was answered {answer.status} {answer.body!r}")


class KillRun:
    """One run in `directory`: lives and deaths of a gateway, then the reckoning."""

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._rng = random.Random(seed)
        self._secret = new_secret(self._rng)
        self._ledger = Ledger()
        self._port = free_port()
        self._config = jobs_config(directory / "queue", self._port)

    def run(self, kills: int, progress: Callable[[str], None] = lambda _: None) -> KillReport:
        """Kill `kills` times, then let everything end. Raises nothing for a broken promise: they are in the report."""
        with Receiver(self._secret, seed=self._rng.randrange(1 << 30), refusals=REFUSALS) as receiver:
            seeds = [self._rng.randrange(1 << 30) for _ in range(CLIENTS)]
            clients = [Client(f"c{n}", self._port, self._ledger, receiver, seed) for n, seed in enumerate(seeds)]
            for client in clients:
                client.start()
            for number in range(kills):
                self._one_life()
                if (number + 1) % 20 == 0:
                    progress(f"{number + 1} kills, {len(self._ledger.acknowledged())} jobs, {self._ledger.faults[:3]}")
            for client in clients:
                client.stop()
            receiver.accept_everything()
            final = self._last_life(clients)
            self._ledger.judge_deliveries(receiver.deliveries, final)
            return self._report(kills, receiver, final)

    def _one_life(self) -> None:
        if self._rng.random() < STILLBORN_SHARE:
            self._die_while_starting(self._rng.uniform(*STILLBORN_SECONDS))
            return
        gateway = self._gateway()
        try:
            gateway.start()
            time.sleep(self._rng.uniform(*LIFE_SECONDS))
            gateway.signal(signal.SIGKILL)
            gateway.wait_exit()
        finally:
            gateway.stop()

    def _die_while_starting(self, seconds: float) -> None:
        """Recovery is the one part that `_one_life` always leaves alone."""
        command = [sys.executable, "-m", "ray", "--config", str(self._gateway().config_path)]
        child = subprocess.Popen(
            command, cwd=ROOT, env=self._environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(seconds)
        finally:
            child.kill()
            child.wait()

    def _last_life(self, clients: list[Client]) -> dict[str, Document]:
        """All records after everything has settled, and again after an orderly restart: they must be the same."""
        first = self._gateway()
        first.start()
        try:
            for client in clients:
                client.join()
            wait_until(
                self._all_settled, SETTLE_SECONDS, lambda: f"every job ends and is delivered\n{first.output()[-3000:]}"
            )
            before = self._records()
            first.signal(signal.SIGTERM)
            if (status := first.wait_exit()) != 0:
                self._ledger.faults.append(f"an orderly stop ended with {status}")
        finally:
            first.stop()
        second = self._gateway()
        second.start()
        try:
            if (after := self._records()) != before:
                self._ledger.faults.append("I5: a restart without work in between changed a record")
            self._look_at_the_directory()
        finally:
            second.stop()
        return after

    def _all_settled(self) -> bool:
        return all(settled(record) for record in self._records().values())

    def _records(self) -> dict[str, Document]:
        """Every record there is, by id; each acknowledged one is looked at on its own as well."""
        for entry in self._ledger.acknowledged():
            look(self._ledger, entry, ask(self._port, "GET", f"/v1/jobs/{entry.job_id}"))
        listed = self._listed()
        known = {entry.job_id: entry for entry in self._ledger.entries.values()}
        if not self._ledger.unacknowledged():
            untold = [job_id for job_id in listed if job_id not in known]
            self._ledger.faults += [f"I2 {job_id}: it exists, and no client was ever told of it" for job_id in untold]
        returned = [job_id for job_id in listed if job_id in known and known[job_id].deleted]
        self._ledger.faults += [f"{job_id}: it was deleted and is there again" for job_id in returned]
        return {job_id: ask(self._port, "GET", f"/v1/jobs/{job_id}").json() for job_id in listed}

    def _listed(self) -> list[str]:
        ids: list[str] = []
        cursor = ""
        while True:
            page = ask(self._port, "GET", f"/v1/jobs?limit=100{cursor}").json()
            jobs = page["jobs"]
            assert isinstance(jobs, list)
            ids += [job["id"] for job in jobs]
            if not page.get("nextCursor"):
                return ids
            cursor = f"&cursor={page['nextCursor']}"

    def _look_at_the_directory(self) -> None:
        queue = self._directory / "queue"
        left = [path.name for path in queue.rglob(".tmp-*")]
        if left:
            self._ledger.faults.append(f"I6: temporary files survived two starts: {left}")
        quarantined = [path.name for path in (queue / "quarantine").glob("*")]
        if quarantined:
            self._ledger.faults.append(f"I8: what the gateway wrote itself was put aside: {quarantined}")

    def _report(self, kills: int, receiver: Receiver, final: Mapping[str, Document]) -> KillReport:
        deliveries = receiver.deliveries
        entries = list(self._ledger.entries.values())
        callbacks = [record["callback"] for record in final.values() if "callback" in record]
        return KillReport(
            kills=kills,
            acknowledged=sum(1 for entry in entries if entry.job_id is not None),
            deleted=sum(1 for entry in entries if entry.deleted),
            statuses=Counter(str(record["status"]) for record in final.values()),
            callbacks=Counter(str(one["status"]) for one in callbacks if isinstance(one, dict)),
            deliveries=len(deliveries),
            duplicates=len(deliveries) - len({one.webhook_id for one in deliveries}),
            faults=self._ledger.faults,
        )

    def _gateway(self) -> GatewayProcess:
        return GatewayProcess(self._config, self._directory, environ=self._environ)

    @property
    def _environ(self) -> dict[str, str]:
        return {"RAY_WEBHOOK_SECRETS": self._secret}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.jobs.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=150, metavar="N", help="how often it dies (default 150)")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="the moments (default: others each time)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ray-kills-") as directory:
        report = KillRun(Path(directory), seed).run(options.kills, lambda text: print(f"  {text}", flush=True))
    print(report.text())
    for fault in report.faults:
        print(f"  {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
