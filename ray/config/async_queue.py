"""Settings of durable jobs: where they are kept, how they are tried, how results are called back."""

# ruff: noqa: RUF009 - setting() returns a dataclass field, not a shared default value

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ray.config.containers import IntegerList, TextList
from ray.config.kinds import Boolean, Choice, Integer
from ray.config.names import callback_host_problem
from ray.config.sections import setting
from ray.config.texts import FilePath

CallbackPayload = Literal["full", "thin"]
CALLBACK_PAYLOADS: tuple[CallbackPayload, ...] = get_args(CallbackPayload)

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncQueueConfig:
    """Durable jobs: where they are kept, how they are tried, how results are called back."""

    enabled: bool = setting(Boolean(), "Accept durable jobs.", "RAY_ASYNC_QUEUE_ENABLED", default=False)
    storage_dir: str = setting(
        FilePath(), "Directory of the job records.", "RAY_ASYNC_QUEUE_STORAGE_DIR", default=".ray/async-queue"
    )
    max_jobs: int = setting(Integer(1, 2000), "Most jobs kept.", "RAY_ASYNC_QUEUE_MAX_JOBS", default=128)
    max_store_mib: int = setting(
        Integer(4, 1_048_576),
        "Most MiB of all job records together; past it jobs are refused.",
        "RAY_ASYNC_QUEUE_MAX_STORE_MIB",
        default=512,
    )
    min_free_storage_mib: int = setting(
        Integer(1, 1_048_576),
        "Free disk space in MiB below which jobs are refused.",
        "RAY_ASYNC_QUEUE_MIN_FREE_STORAGE_MIB",
        default=256,
    )
    min_free_inodes: int = setting(
        Integer(0, 1_000_000_000),
        "Free inodes below which jobs are refused; 0, or a file system that does not count them, is off.",
        "RAY_ASYNC_QUEUE_MIN_FREE_INODES",
        default=1024,
    )
    completed_ttl_ms: int = setting(
        Integer(1, 7 * DAY_MS),
        "How long a finished job is kept, in milliseconds.",
        "RAY_ASYNC_QUEUE_COMPLETED_TTL_MS",
        default=DAY_MS,
    )
    retain_request: bool = setting(
        Boolean(),
        "Keep the prompt of a finished job; false blanks it when the job finishes.",
        "RAY_ASYNC_QUEUE_RETAIN_REQUEST",
        default=True,
    )
    poll_interval_ms: int = setting(
        Integer(1, 60_000),
        "Base of the growing, random pause before a retry of a job or callback, in milliseconds.",
        "RAY_ASYNC_QUEUE_POLL_INTERVAL_MS",
        default=1000,
    )
    dispatch_concurrency: int = setting(
        Integer(1, 8), "Jobs run side by side.", "RAY_ASYNC_QUEUE_DISPATCH_CONCURRENCY", default=1
    )
    max_attempts: int = setting(Integer(1, 100), "Tries per job.", "RAY_ASYNC_QUEUE_MAX_ATTEMPTS", default=3)
    callback_timeout_ms: int = setting(
        Integer(1, 30_000),
        "Longest callback request in milliseconds, from the name lookup to the answer's headers.",
        "RAY_ASYNC_QUEUE_CALLBACK_TIMEOUT_MS",
        default=5000,
    )
    max_callback_attempts: int = setting(
        Integer(1, 100), "Tries per callback.", "RAY_ASYNC_QUEUE_MAX_CALLBACK_ATTEMPTS", default=5
    )
    callback_payload: CallbackPayload = setting(
        Choice(CALLBACK_PAYLOADS),
        "What a callback carries: the `full` job, or a `thin` one of id and status, to be fetched by the receiver.",
        "RAY_ASYNC_QUEUE_CALLBACK_PAYLOAD",
        default="full",
    )
    callback_require_https: bool = setting(
        Boolean(), "Refuse callback URLs without TLS.", "RAY_ASYNC_QUEUE_CALLBACK_REQUIRE_HTTPS", default=False
    )
    callback_allow_private_network: bool = setting(
        Boolean(),
        "Let callbacks reach private addresses.",
        "RAY_ASYNC_QUEUE_CALLBACK_ALLOW_PRIVATE_NETWORK",
        default=False,
    )
    callback_allowed_hosts: tuple[str, ...] = setting(
        TextList(64, 253, check=callback_host_problem, rule="host names, `*.` names or addresses, without port"),
        "Hosts that callbacks may reach even at private addresses.",
        "RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_HOSTS",
        default=(),
    )
    callback_allowed_ports: tuple[int, ...] = setting(
        IntegerList(Integer(1, 65_535), 64),
        "Ports that callbacks may use besides 80, 443 and 1024 to 65535; those of the gateway and its backend are "
        "closed unless listed here.",
        "RAY_ASYNC_QUEUE_CALLBACK_ALLOWED_PORTS",
        default=(),
    )
