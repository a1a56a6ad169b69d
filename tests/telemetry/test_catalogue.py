"""The catalogue: the names that dashboards and scripts rely on, and the rules that every row follows."""

from __future__ import annotations

import re

import pytest

from ray.errors import CODES
from ray.telemetry.catalogue import ADMISSION_CODES, CATALOGUE, INFERENCE_ERROR_CODES, REJECTION_CODES
from ray.telemetry.catalogue_jobs import JOB_FAILURE_CODES, JOB_REJECTION_CODES
from ray.telemetry.metric import Metric


def spelled_out(pattern: str) -> list[str]:
    """`a.{b,c}_{d,e}` as four names."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    return [
        name
        for choice in match[1].split(",")
        for name in spelled_out(pattern[: match.start()] + choice + pattern[match.end() :])
    ]


JSON_COUNTERS = (
    "requests.{total,degraded,errors,rate_limited,auth_rejected}",
    "cache.{hits,misses}",
    "provider.slot.assignments",
    "provider.prompt_cache.{hits,misses}",
    "prefix_store.{hits,misses,restores,saves,saved_bytes,evictions,tokens_saved,seconds_saved}",
    "prefix_store.{proof_failures,failures}",
    "async_queue.jobs_{submitted,replayed,rejected,started,succeeded,failed,cancelled,retried,recovered,pruned,deleted}",
    "async_queue.{records_quarantined,write_failures,callback_attempts}",
)
JSON_GAUGES = (
    "queue.{depth,short_depth,draft_depth,max_depth,depth_ratio,tokens,max_tokens,tokens_ratio,last_delay_ms}",
    "inference.{in_flight,concurrency,in_flight_ratio,in_flight_tokens,max_inflight_tokens,in_flight_tokens_ratio}",
    "preparation.{active,concurrency,active_ratio,queued,max_queue,queued_ratio}",
    "cache.{entries,max_entries,entries_ratio,bytes,max_bytes,bytes_ratio,evictions_total,expirations_total}",
    "cache.dropped_{oversized,unmeasurable}_entries_total",
    "prompt.compiler.chars_saved",
    "{learned_output_cap,adaptive}.max_tokens_ratio",
    "provider.completion_tps",
    "provider.slot.last_id",
    "provider.slots.{total,processing,idle,occupancy_ratio}",
    "provider.prompt_cache.{tokens_cached,reuse_ratio}",
    "provider.health.{status,latency_ms}",
    "prefix_store.{bytes,entries,unknown_files,enabled}",
    "process.memory.{rss_mib,rss_threshold_mib,rss_pressure_ratio,pressure,linux_psi_pressure}",
    "process.memory.cgroup_{current_mib,high_mib,limit_mib,pressure_ratio,pressure_ratio_threshold,pressure}",
    "process.memory.cgroup_swap_{current_mib,limit_mib,pressure_ratio,pressure_ratio_threshold}",
    "process.memory.cgroup_{high,max,oom,oom_kill}_events",
    "process.memory.cgroup_{high,max,oom,oom_kill}_events_delta",
    "process.memory.cgroup_event_pressure",
    "process.{memory,cpu}.linux_psi_{some,full}_{avg10,avg60,avg300,avg10_threshold,total_usec}",
    "process.cpu.{percent,user_ms_total,system_ms_total,pressure,linux_psi_pressure}",
    "process.cpu.cgroup_{usage,user,system,quota,period,throttled}_usec",
    "process.cpu.cgroup_{quota_cores,periods,throttled_periods,throttled_ratio,throttled_threshold}",
    "runtime.event_loop_lag_{p95,mean,max}_ms",
    "gateway.warmup.{attempts,failures,in_flight,retry_scheduled,retry_delay_ms,succeeded,stopped}",
    "gateway.http.{sockets,active_sockets,idle_sockets,active_requests,max_connections,degraded}",
    "gateway.http.{connection_ratio,connection_ratio_threshold,request_body_limit_bytes,max_header_bytes}",
    "gateway.http.{max_headers_count,max_requests_per_socket}",
    "gateway.http.{headers_timeout_ms,request_timeout_ms,keep_alive_timeout_ms}",
    "rate_limit.{enabled,degraded,active_keys,max_keys,active_keys_ratio,pressure_threshold}",
    "rate_limit.{window_ms,max_requests,trust_proxy_headers}",
    "async_queue.{enabled,degraded,queued,running,succeeded,failed,cancelled}",
    "async_queue.{active_inference_jobs,active_callback_deliveries,retry_scheduled}",
    "async_queue.callback_{pending,delivered,failed,retry_scheduled,concurrency,timeout_ms}",
    "async_queue.{job_retry_scheduled,oldest_queued_age_ms,total_jobs,max_jobs,jobs_ratio,jobs_pressure}",
    "async_queue.{pressure_threshold,pending_admissions,pending_writes,storage_failing,quarantined}",
    "async_queue.{reserved_admission_mib,available_storage_mib,min_free_storage_mib,effective_available_storage_mib}",
    "async_queue.storage_{reserve_ratio,low,admission_reserve_ratio,admission_low}",
    "async_queue.{available_inodes,min_free_inodes,store_mib,max_store_mib}",
    "async_queue.{completed_ttl_ms,poll_interval_ms,dispatch_concurrency,max_attempts,max_callback_attempts}",
)
# family: its label names
PROMETHEUS = {
    "ray_inference_requests_total": ("source",),
    "ray_inference_errors_total": ("code",),
    "ray_inference_degraded_total": (),
    "ray_inference_duration_seconds": ("source",),
    "ray_inference_time_to_first_token_seconds": (),
    "ray_rate_limit_rejections_total": (),
    "ray_auth_rejections_total": (),
    "ray_requests_rejected_total": ("code",),
    "ray_cache_hits_total": (),
    "ray_cache_misses_total": (),
    "ray_cache_entries": (),
    "ray_cache_entries_limit": (),
    "ray_cache_size_bytes": (),
    "ray_cache_size_limit_bytes": (),
    "ray_cache_evictions_total": (),
    "ray_cache_expirations_total": (),
    "ray_cache_dropped_entries_total": ("reason",),
    "ray_prompt_compiler_saved_chars_total": (),
    "ray_learned_output_cap_ratio": (),
    "ray_adaptive_output_cap_ratio": (),
    "ray_queue_depth": ("lane",),
    "ray_queue_depth_limit": (),
    "ray_queue_tokens": (),
    "ray_queue_tokens_limit": (),
    "ray_queue_wait_seconds": ("lane",),
    "ray_inference_in_flight": (),
    "ray_inference_in_flight_limit": (),
    "ray_inference_in_flight_tokens": (),
    "ray_inference_in_flight_tokens_limit": (),
    "ray_preparation_active": (),
    "ray_preparation_active_limit": (),
    "ray_preparation_queue_depth": (),
    "ray_preparation_queue_depth_limit": (),
    "ray_scheduler_rejections_total": ("code",),
    "ray_scheduler_deduplicated_total": (),
    "ray_provider_status": ("status",),
    "ray_provider_health_duration_seconds": (),
    "ray_provider_slots": ("state",),
    "ray_provider_slot_assignments_total": (),
    "ray_provider_prompt_cached_tokens_total": (),
    "ray_provider_prompt_cache_hits_total": (),
    "ray_provider_prompt_cache_misses_total": (),
    "ray_provider_prompt_tokens_total": (),
    "ray_provider_completion_tokens_total": (),
    "ray_provider_completion_tokens_per_second": (),
    "ray_prefix_store_hits_total": ("state",),
    "ray_prefix_store_misses_total": ("state",),
    "ray_prefix_store_restores_total": (),
    "ray_prefix_store_saves_total": (),
    "ray_prefix_store_written_bytes_total": (),
    "ray_prefix_store_evictions_total": (),
    "ray_prefix_store_saved_tokens_total": (),
    "ray_prefix_store_saved_seconds_total": (),
    "ray_prefix_store_proof_failures_total": (),
    "ray_prefix_store_failures_total": ("operation",),
    "ray_prefix_store_size_bytes": (),
    "ray_prefix_store_entries": (),
    "ray_prefix_store_unknown_files": (),
    "ray_prefix_store_enabled": (),
    "ray_jobs_submitted_total": (),
    "ray_jobs_replayed_total": (),
    "ray_jobs_rejected_total": ("code",),
    "ray_jobs_started_total": (),
    "ray_jobs_succeeded_total": (),
    "ray_jobs_failed_total": ("code",),
    "ray_jobs_cancelled_total": (),
    "ray_jobs_retried_total": (),
    "ray_jobs_recovered_total": (),
    "ray_jobs_pruned_total": (),
    "ray_jobs_deleted_total": (),
    "ray_job_records_quarantined_total": (),
    "ray_job_write_failures_total": (),
    "ray_job_callback_attempts_total": ("outcome",),
    "ray_job_wait_seconds": (),
    "ray_job_run_seconds": (),
    "ray_job_duration_seconds": (),
    "ray_job_write_seconds": (),
    "ray_job_queue_enabled": (),
    "ray_jobs": ("state",),
    "ray_job_tasks_active": ("kind",),
    "ray_job_callbacks": ("state",),
    "ray_job_retries_scheduled": ("kind",),
    "ray_job_oldest_queued_age_seconds": (),
    "ray_jobs_stored": (),
    "ray_jobs_stored_limit": (),
    "ray_job_queue_pressure": ("signal",),
    "ray_job_admissions_pending": (),
    "ray_job_writes_pending": (),
    "ray_job_quarantine_files": (),
    "ray_job_storage_available_bytes": (),
    "ray_job_storage_floor_bytes": (),
    "ray_job_storage_available_inodes": (),
    "ray_job_storage_floor_inodes": (),
    "ray_job_store_size_bytes": (),
    "ray_job_store_size_limit_bytes": (),
    "process_resident_memory_bytes": (),
    "process_virtual_memory_bytes": (),
    "process_cpu_seconds_total": (),
    "process_start_time_seconds": (),
    "process_open_fds": (),
    "process_max_fds": (),
    "ray_process_cpu_seconds_total": ("mode",),
    "ray_memory_rss_threshold_bytes": (),
    "ray_event_loop_lag_seconds": (),
    "ray_cgroup_memory_usage_bytes": (),
    "ray_cgroup_memory_high_bytes": (),
    "ray_cgroup_memory_limit_bytes": (),
    "ray_cgroup_memory_pressure_ratio": (),
    "ray_cgroup_memory_events_total": ("event",),
    "ray_cgroup_swap_usage_bytes": (),
    "ray_cgroup_swap_limit_bytes": (),
    "ray_cgroup_swap_pressure_ratio": (),
    "ray_cgroup_cpu_usage_seconds_total": (),
    "ray_cgroup_cpu_user_seconds_total": (),
    "ray_cgroup_cpu_system_seconds_total": (),
    "ray_cgroup_cpu_quota_cores": (),
    "ray_cgroup_cpu_periods_total": (),
    "ray_cgroup_cpu_throttled_periods_total": (),
    "ray_cgroup_cpu_throttled_seconds_total": (),
    "ray_cgroup_cpu_throttled_ratio": (),
    "ray_pressure_active": ("signal",),
    "ray_pressure_threshold": ("signal",),
    "ray_pressure_stall_ratio": ("resource", "kind", "window"),
    "ray_pressure_stalled_seconds_total": ("resource", "kind"),
    "ray_http_requests_total": ("route", "method", "status"),
    "ray_http_request_duration_seconds": ("route",),
    "ray_http_connections": ("state",),
    "ray_http_requests_in_flight": (),
    "ray_http_connections_limit": (),
    "ray_warmup_attempts_total": (),
    "ray_warmup_failures_total": (),
    "ray_warmup_state": ("state",),
    "ray_warmup_retry_delay_seconds": (),
    "ray_rate_limit_keys": (),
    "ray_rate_limit_keys_limit": (),
    "ray_rate_limit_window_seconds": (),
    "ray_rate_limit_requests_limit": (),
}


@pytest.mark.parametrize(("block", "patterns"), [("counters", JSON_COUNTERS), ("gauges", JSON_GAUGES)])
def test_json_has_exactly_the_names_scripts_rely_on(block: str, patterns: tuple[str, ...]) -> None:
    expected = {name for pattern in patterns for name in spelled_out(pattern)}
    assert {row.name for row in CATALOGUE if row.json == block} == expected


def test_prometheus_has_exactly_the_families_dashboards_rely_on() -> None:
    families = {row.prometheus: (*row.constant, *row.labels) for row in CATALOGUE if row.prometheus is not None}
    assert families == PROMETHEUS


def test_names_and_series_are_declared_once() -> None:
    names = [row.name for row in CATALOGUE]
    series = [(row.prometheus, tuple(sorted(row.constant.items()))) for row in CATALOGUE if row.prometheus is not None]
    assert len(set(names)) == len(names)
    assert len(set(series)) == len(series)


def test_rows_of_one_family_agree() -> None:
    families: dict[str, list[Metric]] = {}
    for row in CATALOGUE:
        if row.prometheus is not None:
            families.setdefault(row.prometheus, []).append(row)
    for name, members in families.items():
        assert len({row.prometheus_type for row in members}) == 1, name
        assert len({(*row.constant, *row.labels) for row in members}) == 1, name
        assert members[0].help, name


def test_prometheus_names_follow_the_naming_rules() -> None:
    for row in CATALOGUE:
        if row.prometheus is None:
            assert row.json is not None, f"{row.name} is shown nowhere"
            continue
        assert re.fullmatch(r"(ray|process)_[a-z_]+", row.prometheus), row.prometheus
        assert row.prometheus.endswith("_total") == (row.prometheus_type == "counter"), row.prometheus
        assert not re.search(r"_(ms|mib|usec|percent|ratio_total)$", row.prometheus), row.prometheus
        for label in (*row.constant, *row.labels):
            assert re.fullmatch(r"[a-z]+", label)
            assert label != "le"


def test_json_names_follow_the_naming_rules() -> None:
    for row in CATALOGUE:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]{0,127}", row.name)


def test_buckets_ascend_and_only_histograms_have_them() -> None:
    for row in CATALOGUE:
        assert list(row.buckets) == sorted(set(row.buckets))
        assert bool(row.buckets) == (row.kind == "histogram")


@pytest.mark.parametrize(
    "codes",
    [REJECTION_CODES, ADMISSION_CODES, INFERENCE_ERROR_CODES, JOB_REJECTION_CODES, JOB_FAILURE_CODES],
)
def test_error_code_labels_are_codes_that_exist(codes: tuple[str, ...]) -> None:
    assert set(codes) - {"other"} <= CODES.keys()
    assert codes[-1] == "other"
