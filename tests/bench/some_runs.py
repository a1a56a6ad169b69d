"""Runs made up for the tests of reports."""

from __future__ import annotations

from ray.bench.run.report import RunReport, RunSettings
from ray.bench.run.sample import QueuePoint, Sample

DIGEST = "ab" * 32


def some_settings(**changes: object) -> RunSettings:
    values: dict[str, object] = {
        "target": "http://127.0.0.1:3000",
        "workload": "email-workload.jsonl",
        "workload_digest": DIGEST,
        "items": 5,
        "requests": 20,
        "clients": 2,
    }
    return RunSettings(**{**values, **changes})  # type: ignore[arg-type]  # the tests give fields by name


def some_run(latencies: list[float], *, label: str = "a run", **changes: object) -> RunReport:
    """A run of cold answers one after the other, 10 tokens each, with these latencies in ms."""
    samples, start = [], 0.0
    for number, latency in enumerate(latencies):
        samples.append(
            Sample(
                number,
                number % 5,
                start,
                latency,
                ttft_ms=latency / 2,
                queue_ms=1.0,
                gateway_ms=latency,
                prompt_tokens=40,
                completion_tokens=10,
                cached_tokens=20 if number else 0,
                prefix="hot" if number else "none",
                tokens_per_second=10_000 / latency,
                quality_score=100.0,
            )
        )
        start += latency
    values: dict[str, object] = {
        "label": label,
        "generated_at": "2026-01-02T03:04:05.678Z",
        "settings": some_settings(requests=len(latencies)),
        "wall_ms": start,
        "samples": tuple(samples),
        "queue": (QueuePoint(0.0, 0, 1), QueuePoint(start, 3, 1)),
        "facts": {"Ray": "0.1.0"},
    }
    return RunReport(**{**values, **changes})  # type: ignore[arg-type]  # the tests give fields by name
