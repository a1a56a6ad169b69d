"""Ray inside a Python program: a gateway without a socket, with one, and in a thread of its own."""

from ray.embed.gateway import AnswerStream, Gateway
from ray.embed.settings import ConfigSource, load_config
from ray.embed.thread import ServerThread, serve_in_thread
from ray.questions import InferAnswer, InferFields, JobAccepted, JobFields, Question

__all__ = [
    "AnswerStream",
    "ConfigSource",
    "Gateway",
    "InferAnswer",
    "InferFields",
    "JobAccepted",
    "JobFields",
    "Question",
    "ServerThread",
    "load_config",
    "serve_in_thread",
]
