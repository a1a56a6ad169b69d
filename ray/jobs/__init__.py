"""Durable jobs: accepted work that ends in exactly one visible state, through crashes and full disks."""

from ray.jobs.create import create_job_queue
from ray.jobs.listing import JobPage
from ray.jobs.queue import JobQueue, JobSubmission
from ray.jobs.record import JobRecord, public_document, summary
from ray.jobs.signing import SECRETS_VARIABLE, WebhookSecrets

__all__ = [
    "SECRETS_VARIABLE",
    "JobPage",
    "JobQueue",
    "JobRecord",
    "JobSubmission",
    "WebhookSecrets",
    "create_job_queue",
    "public_document",
    "summary",
]
