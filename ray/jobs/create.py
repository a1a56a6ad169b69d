"""The job queue put together from its parts: store, callbacks, queue."""

from __future__ import annotations

from collections.abc import Mapping

from ray.config import Config
from ray.errors import RayError
from ray.host import DiskThread
from ray.jobs.addresses import own_ports
from ray.jobs.callback_policy import CallbackPolicy
from ray.jobs.callbacks import Callbacks
from ray.jobs.disk import RealDisk
from ray.jobs.queue import JobQueue
from ray.jobs.signing import WebhookSecrets
from ray.jobs.store import JobStore, Recovery
from ray.runtime import Runtime
from ray.telemetry import Logger, Metrics


def create_job_queue(
    config: Config, runtime: Runtime, environ: Mapping[str, str], logger: Logger, metrics: Metrics
) -> JobQueue:
    """The queue that `config.async_queue` describes; touches no disk before `JobQueue.start`.

    Raises RayError `config_validation_error` when `RAY_WEBHOOK_SECRETS` in `environ` is malformed.
    """
    secrets = WebhookSecrets.from_environment(environ)
    policy = CallbackPolicy(config.async_queue, own_ports(config))
    callbacks = Callbacks(policy, secrets, None, logger, metrics)
    store = _Store(config.async_queue.storage_dir, RealDisk(), DiskThread("ray-jobs"))
    queue = JobQueue(config, store, runtime, callbacks, logger, metrics)
    callbacks.owner = queue
    return queue


class _Store(JobStore):
    """A store with a thread of its own, which ends with it, and with an opening that is refused."""

    async def open(self) -> Recovery:
        try:
            return await super().open()
        except RayError:
            await self._thread.close()
            raise

    async def close(self) -> None:
        await super().close()
        await self._thread.close()
