"""Durable jobs: callbacks, pace, and the disk they live on. Nothing is said while they are off."""

from __future__ import annotations

from ray.config import AsyncQueueConfig
from ray.deploy.checks.catalogue import ERROR, INFO, WARN, WORSE_ON_HOST, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.output import mib
from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP, READ_ONLY
from ray.deploy.places import Room
from ray.errors import RayError
from ray.jobs import SECRETS_VARIABLE, WebhookSecrets

JOBS = Catalogue()
FASTEST_RETRY_MS = 250
JOB_MIB = 2  # a large job with its result


def _queue(facts: Facts) -> AsyncQueueConfig | None:
    queue = facts.settings.loaded.config.async_queue
    return queue if queue.enabled else None


@JOBS.check(
    {"async_callback_private_network_allowed": WARN},
    inspects="`asyncQueue.callbackAllowPrivateNetwork`",
    remedy="Set it to false and name the hosts that are meant in callbackAllowedHosts",
)
def callbacks_to_private_networks(facts: Facts) -> Found:
    queue = _queue(facts)
    if queue is not None and queue.callback_allow_private_network:
        yield "async_callback_private_network_allowed", "Whoever may submit jobs can make callbacks to this network"


@JOBS.check(
    {"async_callback_hosts_allowlisted": WARN},
    inspects="`asyncQueue.callbackAllowedHosts`",
    remedy="Keep only hosts of your own in callbackAllowedHosts",
)
def callbacks_to_listed_hosts(facts: Facts) -> Found:
    queue = _queue(facts)
    if queue is not None and queue.callback_allowed_hosts:
        count = len(queue.callback_allowed_hosts)
        hosts = "1 host" if count == 1 else f"{count} hosts"
        yield "async_callback_hosts_allowlisted", f"Callbacks may go to {hosts} even at private addresses"


@JOBS.check(
    {"webhook_secrets_missing": WARN, "webhook_secrets_invalid": ERROR},
    inspects=f"`{SECRETS_VARIABLE}` while jobs are on",
    remedy=f"Write {SECRETS_VARIABLE}=whsec_SECRET into {{env_file}}; "
    "`echo whsec_$(openssl rand -base64 32)` makes one",
    strict=True,
)
def webhook_secrets(facts: Facts) -> Found:
    if _queue(facts) is None or facts.settings.keys_deferred:
        return
    try:
        secrets = WebhookSecrets.from_environment(facts.settings.environ)
    except RayError as error:
        yield "webhook_secrets_invalid", str(error)
        return
    if secrets is None:
        yield "webhook_secrets_missing", "Callbacks are not signed: receivers cannot tell them from forged ones"


@JOBS.check(
    {"async_queue_dispatch_exceeds_scheduler_concurrency": WARN},
    inspects="`asyncQueue.dispatchConcurrency` against `scheduler.concurrency`",
    remedy="Lower RAY_ASYNC_QUEUE_DISPATCH_CONCURRENCY",
)
def dispatch(facts: Facts) -> Found:
    queue, running = _queue(facts), facts.settings.loaded.config.scheduler.concurrency
    if queue is not None and queue.dispatch_concurrency > running:
        said = f"{queue.dispatch_concurrency} jobs are started side by side, and only {running} requests run"
        yield "async_queue_dispatch_exceeds_scheduler_concurrency", said


@JOBS.check(
    {"async_queue_retry_interval_too_fast": WARN},
    inspects="`asyncQueue.pollIntervalMs`",
    remedy=f"Raise RAY_ASYNC_QUEUE_POLL_INTERVAL_MS to {FASTEST_RETRY_MS} or more",
)
def retries(facts: Facts) -> Found:
    queue = _queue(facts)
    if queue is not None and queue.poll_interval_ms < FASTEST_RETRY_MS:
        yield "async_queue_retry_interval_too_fast", f"Jobs are tried again after {queue.poll_interval_ms} ms"


@JOBS.check(
    {"async_queue_retained_jobs_exceed_storage_reserve": WARN},
    inspects="`asyncQueue.maxJobs` at 2 MiB each, at most `maxStoreMiB`, against `minFreeStorageMiB`",
    remedy="Lower RAY_ASYNC_QUEUE_MAX_JOBS, or raise RAY_ASYNC_QUEUE_MIN_FREE_STORAGE_MIB",
)
def retained_jobs(facts: Facts) -> Found:
    queue = _queue(facts)
    if queue is None:
        return
    most, kept_free = min(queue.max_jobs * JOB_MIB, queue.max_store_mib), queue.min_free_storage_mib
    if most > kept_free:
        yield (
            "async_queue_retained_jobs_exceed_storage_reserve",
            (f"{queue.max_jobs} jobs may take {mib(most)}, and only {mib(kept_free)} are kept free"),
        )


STEM = "async_queue_storage"
USE_ANOTHER = "Use /var/lib/ray/async-queue (RAY_ASYNC_QUEUE_STORAGE_DIR): the unit makes it for {user}"


@JOBS.check(
    {f"{STEM}_inodes_low": WORSE_ON_HOST},
    inspects="free inodes at `asyncQueue.storageDir`, where they are counted, against `maxJobs` and `minFreeInodes`",
    remedy="Lower RAY_ASYNC_QUEUE_MAX_JOBS and RAY_ASYNC_QUEUE_MIN_FREE_INODES, or use another file system",
)
def job_inodes(facts: Facts) -> Found:
    queue, room = _queue(facts), facts.jobs
    if queue is None or room is None or room.available_inodes is None:
        return
    needed = max(queue.max_jobs, queue.min_free_inodes)
    if room.available_inodes < needed:
        yield f"{STEM}_inodes_low", f"{room.place.shown} has {room.available_inodes:,} inodes free of {needed:,} needed"


@JOBS.check(
    {f"{STEM}_volatile": WARN, f"{STEM}_home_protected": ERROR, f"{STEM}_protect_system_readonly": ERROR},
    inspects="where `asyncQueue.storageDir` lies",
    remedy=USE_ANOTHER,
)
def job_directory_place(facts: Facts) -> Found:
    yield from hidden_storage(STEM, facts.jobs, "Jobs")


def hidden_storage(stem: str, room: Room | None, what: str) -> Found:
    """What a hardened service cannot see, cannot write, or loses."""
    if room is None:
        return
    place = room.place
    paths = {room.path, place.path, *((place.real_path,) if place.real_path else ())}

    def lies_under(roots: tuple[str, ...]) -> str | None:
        return next((root for root in roots for path in paths if path == root or path.startswith(f"{root}/")), None)

    if (root := lies_under(PRIVATE_TMP)) is not None:
        yield f"{stem}_volatile", f"{what} would be kept in {room.path}, and {root} does not outlive a restart"
    if (root := lies_under(HOME_PROTECTED)) is not None:
        yield f"{stem}_home_protected", f"{what} would be kept in {room.path}, and ProtectHome= hides {root}"
    if (root := lies_under(READ_ONLY)) is not None:
        yield f"{stem}_protect_system_readonly", f"{what} would be kept in {room.path}, and {root} is read-only"


@JOBS.check(
    {f"{STEM}_not_directory": WORSE_ON_HOST},
    inspects="whether `asyncQueue.storageDir` is, or can become, a directory",
    remedy=USE_ANOTHER,
)
def job_directory(facts: Facts) -> Found:
    room = facts.jobs
    if room is not None and room.place.status == "found" and not room.place.is_directory:
        yield f"{STEM}_not_directory", f"{room.path} cannot be a directory: {room.place.shown} is something else"


@JOBS.check(
    {f"{STEM}_unreadable": ERROR, f"{STEM}_service_user_inaccessible": ERROR},
    inspects="whether the account may write there",
    remedy="`install -d -m 0750 -o {user} -g {group} {jobs}`",
    strict=True,
)
def job_directory_access(facts: Facts) -> Found:
    room, access = facts.jobs, facts.jobs_access
    if room is None or (room.place.status == "found" and not room.place.is_directory):
        return
    if room.available_mib is None:
        yield f"{STEM}_unreadable", f"{room.path} cannot be looked at: {room.error}"
    elif access is not None and access.status == "blocked":
        said = f"{facts.settings.user} may not write into {room.path}: {access.error}"
        yield f"{STEM}_service_user_inaccessible", said


@JOBS.check(
    {f"{STEM}_low": WORSE_ON_HOST, f"{STEM}_ok": INFO},
    inspects="free space at `asyncQueue.storageDir` against `minFreeStorageMiB`",
    remedy="Free space there, or use a larger disk: below it every job is refused",
)
def job_room(facts: Facts) -> Found:
    queue, room, access = _queue(facts), facts.jobs, facts.jobs_access
    if queue is None or room is None or room.available_mib is None:
        return
    if room.available_mib < queue.min_free_storage_mib:
        said = (
            f"{room.place.shown} has {mib(room.available_mib)} free, and {mib(queue.min_free_storage_mib)} have to be"
        )
        yield f"{STEM}_low", said
    elif access is None or access.status == "ok":
        by_systemd = "; systemd makes the directory (StateDirectory=)" if room.is_managed else ""
        yield f"{STEM}_ok", f"Jobs go to {room.path}, with {mib(room.available_mib)} free{by_systemd}"
