"""What Ray says about itself: log lines and figures."""

from ray.telemetry.event_loop import EventLoopLag
from ray.telemetry.exposition import PROMETHEUS_CONTENT_TYPE, metrics_json, prometheus_text, wants_prometheus
from ray.telemetry.log import Logger, discard_output, error_fields
from ray.telemetry.metrics import Counter, Histogram, Metrics
from ray.telemetry.process import ProcessCollector

__all__ = [
    "PROMETHEUS_CONTENT_TYPE",
    "Counter",
    "EventLoopLag",
    "Histogram",
    "Logger",
    "Metrics",
    "ProcessCollector",
    "discard_output",
    "error_fields",
    "metrics_json",
    "prometheus_text",
    "wants_prometheus",
]
