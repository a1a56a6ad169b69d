"""Prometheus text, and who gets it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from ray.telemetry import PROMETHEUS_CONTENT_TYPE, Metrics, prometheus_text, wants_prometheus
from ray.telemetry.exposition import _escaped_help
from ray.version import VERSION

SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?:\{(?P<labels>[a-z]+=\"(?:[^\"\\\n]|\\[\\\"n])*\"(?:,[a-z]+=\"(?:[^\"\\\n]|\\[\\\"n])*\")*)\})?"
    r" (?P<value>-?\d+(?:\.\d+)?(?:e[+-]\d+)?)"
)


@dataclass
class Exposition:
    """A scrape, read as strictly as the format demands."""

    types: dict[str, str] = field(default_factory=dict)
    samples: dict[str, float] = field(default_factory=dict)


def scrape(metrics: Metrics) -> Exposition:
    text = prometheus_text(metrics)
    assert text.endswith("\n")
    assert "\n\n" not in text
    read = Exposition()
    family, helped = "", ""
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert line.split(" ", 3)[3], f"{helped} has no help"
        elif line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family == helped, "HELP comes right before TYPE"
            assert family not in read.types, f"{family} appears twice"
            read.types[family] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            suffixes = ("_bucket", "_sum", "_count") if read.types[family] == "histogram" else ("",)
            assert match["name"] in {family + suffix for suffix in suffixes}, f"{line} stands under {family}"
            key = line.rpartition(" ")[0]
            assert key not in read.samples, f"{key} appears twice"
            read.samples[key] = float(match["value"])
    return read


def everything_recorded() -> Metrics:
    metrics = Metrics()
    for family in metrics.families:
        row = family.row
        labels = {name: values[0] for name, values in row.labels.items()}
        if row.kind == "counter":
            metrics.increment(row.name, 1, **labels)
        elif row.kind == "histogram":
            metrics.observe(row.name, 0.3, **labels)
        else:
            metrics.set(row.name, 0.5, **labels)
    return metrics


def test_a_fresh_registry_is_well_formed_and_counters_stand_at_zero() -> None:
    read = scrape(Metrics())
    assert read.samples['ray_inference_requests_total{source="provider"}'] == 0
    assert read.samples['ray_inference_errors_total{code="queue_full"}'] == 0
    assert read.samples['ray_inference_errors_total{code="other"}'] == 0
    assert read.samples["ray_cache_hits_total"] == 0
    assert read.samples['ray_queue_wait_seconds_count{lane="draft"}'] == 0
    # What somebody else counts is absent until it has been read: the kernel may not offer it at all.
    assert not any("cgroup" in key or "cache_evictions" in key or "queue_depth" in key for key in read.samples)


def test_with_everything_recorded_it_is_well_formed_too() -> None:
    metrics = everything_recorded()
    families = {family.row.prometheus for family in metrics.families} - {None}
    assert scrape(metrics).types.keys() == families | {"ray_build_info"}


def test_the_types_are_what_the_names_promise() -> None:
    types = scrape(everything_recorded()).types
    assert types["ray_inference_requests_total"] == "counter"
    assert types["ray_cache_evictions_total"] == "counter"
    assert types["process_cpu_seconds_total"] == "counter"
    assert types["ray_queue_depth"] == "gauge"
    assert types["ray_provider_status"] == "gauge"
    assert types["ray_event_loop_lag_seconds"] == "histogram"


@pytest.mark.parametrize(
    ("name", "value", "sample", "expected"),
    [
        ("process.memory.rss_mib", 1.5, "process_resident_memory_bytes", 1_572_864),
        ("provider.health.latency_ms", 35, "ray_provider_health_duration_seconds", 0.035),
        ("process.cpu.cgroup_usage_usec", 2_500_000, "ray_cgroup_cpu_usage_seconds_total", 2.5),
        ("process.cpu.user_ms_total", 1_250, 'ray_process_cpu_seconds_total{mode="user"}', 1.25),
        ("queue.short_depth", 2, 'ray_queue_depth{lane="short"}', 2),
        (
            "process.cpu.linux_psi_full_avg60",
            12.5,
            'ray_pressure_stall_ratio{resource="cpu",kind="full",window="60s"}',
            0.125,
        ),
        (
            "process.memory.linux_psi_some_total_usec",
            500_000,
            'ray_pressure_stalled_seconds_total{resource="memory",kind="some"}',
            0.5,
        ),
        ("process.memory.cgroup_oom_kill_events", 3, 'ray_cgroup_memory_events_total{event="oom_kill"}', 3),
        (
            "cache.dropped_oversized_entries_total",
            4,
            'ray_cache_dropped_entries_total{reason="oversized"}',
            4,
        ),
        ("gateway.http.degraded", 1, 'ray_pressure_active{signal="http"}', 1),
        ("gateway.http.idle_sockets", 7, 'ray_http_connections{state="idle"}', 7),
        ("gateway.warmup.stopped", 1, 'ray_warmup_state{state="stopped"}', 1),
        ("rate_limit.window_ms", 60_000, "ray_rate_limit_window_seconds", 60),
        ("provider.slots.idle", 2, 'ray_provider_slots{state="idle"}', 2),
    ],
)
def test_figures_are_shown_in_base_units(name: str, value: float, sample: str, expected: float) -> None:
    metrics = Metrics()
    metrics.set(name, value)
    assert scrape(metrics).samples[sample] == expected


@pytest.mark.parametrize("name", ["queue.depth", "queue.depth_ratio", "provider.slot.last_id", "process.cpu.percent"])
def test_what_others_can_compute_is_not_exported(name: str) -> None:
    metrics = Metrics()
    before = prometheus_text(metrics)
    metrics.set(name, 1)
    assert prometheus_text(metrics) == before


def test_memory_keeps_its_exact_bytes_although_json_rounds() -> None:
    metrics = Metrics()
    metrics.set("process.memory.rss_mib", 26_345_472 / 1_048_576)
    assert scrape(metrics).samples["process_resident_memory_bytes"] == 26_345_472


def test_a_histogram_is_cumulative_and_ends_with_inf() -> None:
    metrics = Metrics()
    for value in (0.01, 0.05, 0.3, 500):
        metrics.observe("inference.duration", value, source="provider")
    lines = [line for line in prometheus_text(metrics).split("\n") if "inference_duration" in line]
    provider = [line.replace("ray_inference_duration_seconds", "") for line in lines if '"provider"' in line]
    assert provider == [
        '_bucket{source="provider",le="0.05"} 2',
        '_bucket{source="provider",le="0.1"} 2',
        '_bucket{source="provider",le="0.25"} 2',
        '_bucket{source="provider",le="0.5"} 3',
        '_bucket{source="provider",le="1"} 3',
        '_bucket{source="provider",le="2.5"} 3',
        '_bucket{source="provider",le="5"} 3',
        '_bucket{source="provider",le="10"} 3',
        '_bucket{source="provider",le="20"} 3',
        '_bucket{source="provider",le="30"} 3',
        '_bucket{source="provider",le="60"} 3',
        '_bucket{source="provider",le="120"} 3',
        '_bucket{source="provider",le="+Inf"} 4',
        '_sum{source="provider"} 500.36',
        '_count{source="provider"} 4',
    ]


def test_the_providers_state_is_one_hot_and_absent_before_the_first_probe() -> None:
    metrics = Metrics()
    assert "ray_provider_status" not in prometheus_text(metrics)
    metrics.set("provider.health.status", 0.5, status="warming")
    metrics.set("provider.health.status", 1, status="ready")
    states = {key: value for key, value in scrape(metrics).samples.items() if "provider_status" in key}
    assert states == {
        f'ray_provider_status{{status="{state}"}}': float(state == "ready")
        for state in ("unknown", "ready", "warming", "degraded", "unavailable")
    }


def test_an_undeclared_state_is_unknown() -> None:
    metrics = Metrics()
    metrics.set("provider.health.status", 0, status="on fire")
    assert scrape(metrics).samples['ray_provider_status{status="unknown"}'] == 1


def test_an_undeclared_label_value_is_other() -> None:
    metrics = Metrics()
    metrics.increment("requests.errors", code='evil"} 1\nfake_total{a="')
    metrics.increment("requests.total", source="carrier pigeon")
    read = scrape(metrics)
    assert read.samples['ray_inference_errors_total{code="other"}'] == 1
    assert read.samples['ray_inference_requests_total{source="other"}'] == 1


def test_http_requests_appear_as_they_come() -> None:
    metrics = Metrics()
    metrics.increment("http.requests", route="/v1/infer", method="POST", status="200")
    metrics.increment("http.requests", route="/v1/infer", method="BREW", status="418")
    http = {key: value for key, value in scrape(metrics).samples.items() if "http_requests_total" in key}
    assert http == {
        'ray_http_requests_total{route="/v1/infer",method="POST",status="200"}': 1,
        'ray_http_requests_total{route="/v1/infer",method="other",status="other"}': 1,
    }


def test_build_info_names_version_and_python() -> None:
    assert re.search(
        rf'^ray_build_info{{version="{re.escape(VERSION)}",python="3\.\d+\.\d+"}} 1$',
        prometheus_text(Metrics()),
        re.MULTILINE,
    )


def test_label_values_and_help_are_escaped() -> None:
    text = prometheus_text(Metrics({"version": 'a"b\\c\nd'}))
    assert 'ray_build_info{version="a\\"b\\\\c\\nd"} 1\n' in text
    assert _escaped_help('a\\b\n"c"') == 'a\\\\b\\n"c"'


def test_collectors_run_for_the_text_too() -> None:
    metrics = Metrics()
    metrics.add_collector(lambda registry: registry.set("queue.tokens", 9))
    assert scrape(metrics).samples["ray_queue_tokens"] == 9


# Negotiation

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


@pytest.mark.parametrize(
    "accept",
    [
        # Prometheus 3, as it scrapes by default
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        # Prometheus 2.5 to 2.48
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        # Prometheus 1 and Telegraf: JSON is mentioned, and wanted less
        f"{PROTOBUF};q=0.7,text/plain;version=0.0.4;q=0.3,"
        'application/json;schema="prometheus/telemetry";version=0.0.2;q=0.2,*/*;q=0.1',
        # Native histograms: protobuf first
        f"{PROTOBUF};q=0.7,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.2",
        # Prometheus told to use protobuf only
        f"{PROTOBUF};q=0.6,*/*;q=0.5",
        "text/plain",
        "TEXT/Plain; Q=0.5",
        "text/*",
        "application/openmetrics-text",
        "text/plain, application/json;q=0.9",
        "application/json;q=0.5, text/plain;q=0.501",
        "application/json;q=0, */*",
        "text/html, text/plain;q=0.9, application/json;q=0.1",
        ", text/plain ,",
    ],
)
def test_a_client_that_prefers_text_gets_prometheus(accept: str) -> None:
    assert wants_prometheus(accept, "")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/*",
        "application/json, text/plain",
        "application/json;q=0.9, text/plain;q=0.8",
        "text/plain;q=0.5, */*",
        "text/plain;q=0",
        "text/plain;q=0, text/*",
        "text/plain;q=2",
        "text/plain;q=high",
        "text/plain;q=0.1234",
        "text/plain;q=-1",
        "text/plain;q=.5",
        "text/plain;q=",
        "text",
        "text/",
        "/plain",
        ";;,,==",
        # a browser
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        # axios
        "application/json, text/plain, */*",
    ],
)
def test_every_other_client_gets_json(accept: str | None) -> None:
    assert not wants_prometheus(accept, "")


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ("format=prometheus", None, True),
        ("format=prometheus", "application/json", True),
        ("a=b&format=Prometheus&c", None, True),
        ("format=json", "text/plain", False),
        ("format=xml", "text/plain", True),
        ("format=xml", None, False),
        ("format", "text/plain", True),
        ("format=", None, False),
        ("xformat=prometheus", None, False),
        ("name=format=prometheus", None, False),
        ("format=json&format=prometheus", None, False),
    ],
)
def test_the_query_decides_before_the_header(query: str, accept: str | None, expected: bool) -> None:
    assert wants_prometheus(accept, query) is expected


def test_the_content_type_names_the_format_version() -> None:
    assert PROMETHEUS_CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
