"""The prefix store's books: which figures move, and what an operator reads in the log."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest

from ray.runtime.prefix_books import PrefixBooks
from ray.telemetry import Logger, Metrics, metrics_json, prometheus_text


class Desk:
    def __init__(self) -> None:
        self.log = io.StringIO()
        self.metrics = Metrics()
        self.books = PrefixBooks("m", Logger("test", "info", self.log, self.log), self.metrics)

    def counters(self) -> dict[str, float]:
        return self.block("counters")

    def block(self, name: str) -> dict[str, float]:
        block = metrics_json(self.metrics, include_recent=False)[name]
        assert isinstance(block, dict)
        return {key.removeprefix("prefix_store."): value for key, value in block.items() if "prefix_store" in key}

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def test_nothing_is_shown_while_there_is_no_store() -> None:
    desk = Desk()
    assert (desk.counters(), desk.block("gauges")) == ({}, {})


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (lambda books: books.hit("hot", 300, 2.5), {"hits": 1, "tokens_saved": 300, "seconds_saved": 2.5}),
        (lambda books: books.hit("restored", 300, 0.5), {"hits": 1, "tokens_saved": 300, "seconds_saved": 0.5}),
        (lambda books: books.hit("evaluated", 0, 0.0), {"misses": 1}),
        (lambda books: books.hit("none", 0, 0.0), {"misses": 1}),
        (lambda books: books.hit("hot", -1, -1.0), {"hits": 1}),
        (lambda books: books.saved(8_500_000), {"saves": 1, "saved_bytes": 8_500_000}),
        (lambda books: books.restored(), {"restores": 1}),
        (lambda books: books.evicted(3), {"evictions": 3}),
        (lambda books: books.proof_failed(), {"proof_failures": 1}),
        (lambda books: books.failed("restore"), {"failures": 1}),
    ],
    ids=["hot", "restored", "evaluated", "none", "impossible", "saved", "restore", "evicted", "proof", "failed"],
)
def test_each_event_moves_its_figures_and_no_other(
    event: Callable[[PrefixBooks], None], expected: dict[str, float]
) -> None:
    desk = Desk()
    event(desk.books)
    assert desk.counters() == expected


def test_prometheus_tells_the_states_and_the_operations_apart() -> None:
    desk = Desk()
    desk.books.hit("restored", 1, 1)
    desk.books.failed("save")
    desk.books.failed("something new")
    text = prometheus_text(desk.metrics)
    assert 'ray_prefix_store_hits_total{state="restored"} 1\n' in text
    assert 'ray_prefix_store_hits_total{state="hot"} 0\n' in text
    assert 'ray_prefix_store_failures_total{operation="save"} 1\n' in text
    assert 'ray_prefix_store_failures_total{operation="other"} 1\n' in text


@pytest.mark.parametrize(
    "operation",
    [
        "save",
        "restore",
        "erase",
        "evaluate",
        "read",
        "delete",
        "directory",
        "corrupt",
        "disk_full",
        "too_large",
        "busy",
        "slot_ignored",
    ],
)
def test_every_failure_that_the_store_reports_has_a_label_of_its_own(operation: str) -> None:
    desk = Desk()
    desk.books.failed(operation)
    assert f'ray_prefix_store_failures_total{{operation="{operation}"}} 1\n' in prometheus_text(desk.metrics)


def test_the_levels_are_gauges() -> None:
    desk = Desk()
    desk.books.level(1_000, 2, 1, enabled=True)
    assert desk.block("gauges") == {"bytes": 1_000, "entries": 2, "unknown_files": 1, "enabled": 1}


def test_a_failure_is_logged_once_for_each_operation_and_counted_always() -> None:
    desk = Desk()
    for operation in ("save", "save", "restore"):
        desk.books.failed(operation)
    assert [line["operation"] for line in desk.lines()] == ["save", "restore"]
    assert desk.counters() == {"failures": 3}


def test_switching_off_is_one_warning_with_its_reason_and_shows_in_the_gauge() -> None:
    desk = Desk()
    desk.books.level(1_000, 2, 0, enabled=True)
    desk.books.switched_off("three restores in a row were read again")
    (line,) = desk.lines()
    assert (line["level"], line["event"], line["modelId"]) == ("warn", "prefix_store_off", "m")
    assert line["reason"] == "three restores in a row were read again"
    assert desk.block("gauges")["enabled"] == 0
