"""What is read from `llama-server`, and how it is started."""

from __future__ import annotations

import pytest

from ray.bench.budgets.backend_bench import launched_config
from ray.bench.processes.llama_process import Work, launch_words, parse_work
from ray.bench.processes.load import Reply
from ray.bench.processes.process import MeasurementError

METRICS = b"""# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 4788
llamacpp:prompt_tokens_cached_total 4623
llamacpp:prompt_seconds_total 13.7914
llamacpp:tokens_predicted_total 360
llamacpp:tokens_predicted_seconds_total 5.50765
"""


def test_the_work_of_a_server_is_read_from_its_counters() -> None:
    assert parse_work(Reply(200, METRICS, closes=False)) == Work(4788, 13.7914, 360, 5.50765)


def test_work_between_two_readings_is_their_difference() -> None:
    assert Work(100, 8, 50, 4).since(Work(60, 5, 20, 1)) == Work(40, 3, 30, 3)


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (Reply(501, b'{"error":{}}', closes=False), "501.*prompt_tokens_total"),
        (Reply(200, METRICS.replace(b"prompt_seconds_total 13", b"other 13"), closes=False), "prompt_seconds_total"),
    ],
)
def test_counters_that_are_missing_are_a_failed_measurement(reply: Reply, named: str) -> None:
    with pytest.raises(MeasurementError, match=named):
        parse_work(reply)


def test_a_configuration_that_is_none_is_a_failed_measurement_that_names_the_key() -> None:
    document = launched_config("/opt/llama-server", "/models/a.gguf", 4321)
    with pytest.raises(MeasurementError, match=r"scheduler\.concurrency"):
        launch_words({**document, "scheduler": {"concurrency": 99}})
