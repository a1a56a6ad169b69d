"""The gateway: HTTP routes, guards and the life of the process around one runtime per model."""

from ray.gateway.app import DEFAULT_DRAIN_MS, Gateway
from ray.gateway.in_process import InProcess
from ray.gateway.lifecycle import report_boot_failure, serve
from ray.gateway.routes import all_routes

__all__ = ["DEFAULT_DRAIN_MS", "Gateway", "InProcess", "all_routes", "report_boot_failure", "serve"]
