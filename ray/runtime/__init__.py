"""One model's pipeline: what happens between a parsed request and its answer."""

from ray.runtime.generation import Reader
from ray.runtime.health import WarmState
from ray.runtime.normalise import normalise_request
from ray.runtime.prefix_books import PrefixBooks
from ray.runtime.pressure import HostPressure
from ray.runtime.report import RuntimeHealth
from ray.runtime.result import result_document
from ray.runtime.runtime import Runtime

__all__ = [
    "HostPressure",
    "PrefixBooks",
    "Reader",
    "Runtime",
    "RuntimeHealth",
    "WarmState",
    "normalise_request",
    "result_document",
]
