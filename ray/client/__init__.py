"""Clients of the gateway, for Python programs: blocking and asyncio, with the same calls, limits and errors.

`python -m ray.client` is the same at the shell.
"""

from ray.client.aio import AsyncRayClient, AsyncTokenStream
from ray.client.documents import ChatAnswer, EmbeddingList, Job, JobSummary, Model
from ray.client.errors import (
    RayAnswerError,
    RayClientError,
    RayConnectionError,
    RayRefused,
    RayRequestError,
    RayTimeout,
    RayUnreachable,
)
from ray.client.events import delta_text
from ray.client.options import Retries
from ray.client.sync import RayClient, TokenStream
from ray.client.tasks import DEFAULT_TASKS, Execution, TaskCatalog, TaskPlan, TaskProfile, plan_task
from ray.questions import InferAnswer, InferFields, JobAccepted, JobFields, Question

__all__ = [
    "DEFAULT_TASKS",
    "AsyncRayClient",
    "AsyncTokenStream",
    "ChatAnswer",
    "EmbeddingList",
    "Execution",
    "InferAnswer",
    "InferFields",
    "Job",
    "JobAccepted",
    "JobFields",
    "JobSummary",
    "Model",
    "Question",
    "RayAnswerError",
    "RayClient",
    "RayClientError",
    "RayConnectionError",
    "RayRefused",
    "RayRequestError",
    "RayTimeout",
    "RayUnreachable",
    "Retries",
    "TaskCatalog",
    "TaskPlan",
    "TaskProfile",
    "TokenStream",
    "delta_text",
    "plan_task",
]
