"""The catalogue's rows about the process and the machine it runs on.

A row of the kernel's figures is absent where the kernel file or field is absent.
"""

from __future__ import annotations

from ray.telemetry.metric import (
    MIB_PER_BYTE,
    MS_PER_SECOND,
    PERCENT_PER_RATIO,
    USEC_PER_SECOND,
    Metric,
    gauge,
    histogram,
    total,
)

LOOP_LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

PRESSURE_HELP = "Whether a pressure signal is over its threshold."
_THRESHOLD_HELP = "The threshold of a pressure signal, as a ratio."
_EVENTS_HELP = "Memory events of the control group, by event."
_STALL_HELP = "Share of time in which tasks stalled (PSI), by resource, kind and window."
_STALLED_HELP = "Time in which tasks stalled (PSI), by resource and kind."

_PROCESS = (
    gauge(
        "process.memory.rss_mib",
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge("process.virtual_memory_bytes", "process_virtual_memory_bytes", "Virtual memory size in bytes.", json=False),
    gauge(
        "process.memory.rss_threshold_mib",
        "ray_memory_rss_threshold_bytes",
        "Resident size that counts as pressure.",
        divisor=MIB_PER_BYTE,
    ),
    gauge("process.memory.rss_pressure_ratio", decimals=4),
    gauge("process.cpu.percent", decimals=2),
    total(
        "process.cpu.seconds",
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        json=False,
    ),
    total(
        "process.cpu.user_ms_total",
        "ray_process_cpu_seconds_total",
        "CPU time spent, by mode.",
        divisor=MS_PER_SECOND,
        mode="user",
    ),
    total(
        "process.cpu.system_ms_total",
        "ray_process_cpu_seconds_total",
        "CPU time spent, by mode.",
        divisor=MS_PER_SECOND,
        mode="system",
    ),
    gauge(
        "process.start_time",
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        json=False,
    ),
    gauge("process.open_fds", "process_open_fds", "Number of open file descriptors.", json=False),
    gauge("process.max_fds", "process_max_fds", "Maximum number of open file descriptors.", json=False),
    histogram(
        "event_loop.lag",
        "ray_event_loop_lag_seconds",
        "How late the event loop ran a periodic callback.",
        LOOP_LAG_BUCKETS,
    ),
    gauge("runtime.event_loop_lag_p95_ms", decimals=3),
    gauge("runtime.event_loop_lag_mean_ms", decimals=3),
    gauge("runtime.event_loop_lag_max_ms", decimals=3),
)

_MEMORY = (
    gauge(
        "process.memory.cgroup_current_mib",
        "ray_cgroup_memory_usage_bytes",
        "Memory used by the control group.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "process.memory.cgroup_high_mib",
        "ray_cgroup_memory_high_bytes",
        "Soft memory limit of the control group.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "process.memory.cgroup_limit_mib",
        "ray_cgroup_memory_limit_bytes",
        "Hard memory limit of the control group.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "process.memory.cgroup_pressure_ratio",
        "ray_cgroup_memory_pressure_ratio",
        "Memory used, as a share of the limit that comes first.",
        decimals=4,
    ),
    gauge(
        "process.memory.cgroup_pressure_ratio_threshold",
        "ray_pressure_threshold",
        _THRESHOLD_HELP,
        signal="cgroup_memory",
    ),
    gauge(
        "process.memory.cgroup_swap_current_mib",
        "ray_cgroup_swap_usage_bytes",
        "Swap used by the control group.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "process.memory.cgroup_swap_limit_mib",
        "ray_cgroup_swap_limit_bytes",
        "Swap limit of the control group.",
        divisor=MIB_PER_BYTE,
        decimals=2,
    ),
    gauge(
        "process.memory.cgroup_swap_pressure_ratio",
        "ray_cgroup_swap_pressure_ratio",
        "Swap used, as a share of its limit.",
        decimals=4,
    ),
    gauge(
        "process.memory.cgroup_swap_pressure_ratio_threshold",
        "ray_pressure_threshold",
        _THRESHOLD_HELP,
        signal="cgroup_swap",
    ),
    gauge("process.memory.cgroup_pressure", "ray_pressure_active", PRESSURE_HELP, signal="cgroup_memory"),
    *(
        total(f"process.memory.cgroup_{event}_events", "ray_cgroup_memory_events_total", _EVENTS_HELP, event=event)
        for event in ("high", "max", "oom", "oom_kill")
    ),
    *(gauge(f"process.memory.cgroup_{event}_events_delta") for event in ("high", "max", "oom", "oom_kill")),
    gauge("process.memory.cgroup_event_pressure", "ray_pressure_active", PRESSURE_HELP, signal="cgroup_events"),
    gauge("process.memory.linux_psi_pressure", "ray_pressure_active", PRESSURE_HELP, signal="memory_psi"),
    gauge("process.memory.pressure", "ray_pressure_active", PRESSURE_HELP, signal="memory"),
)

_CPU = (
    total(
        "process.cpu.cgroup_usage_usec",
        "ray_cgroup_cpu_usage_seconds_total",
        "CPU time used by the control group.",
        divisor=USEC_PER_SECOND,
    ),
    total(
        "process.cpu.cgroup_user_usec",
        "ray_cgroup_cpu_user_seconds_total",
        "CPU time used by the control group in user mode.",
        divisor=USEC_PER_SECOND,
    ),
    total(
        "process.cpu.cgroup_system_usec",
        "ray_cgroup_cpu_system_seconds_total",
        "CPU time used by the control group in the kernel.",
        divisor=USEC_PER_SECOND,
    ),
    gauge("process.cpu.cgroup_quota_usec"),
    gauge("process.cpu.cgroup_period_usec"),
    gauge(
        "process.cpu.cgroup_quota_cores",
        "ray_cgroup_cpu_quota_cores",
        "CPU quota of the control group, in cores.",
        decimals=4,
    ),
    total("process.cpu.cgroup_periods", "ray_cgroup_cpu_periods_total", "CPU quota periods that have passed."),
    total(
        "process.cpu.cgroup_throttled_periods",
        "ray_cgroup_cpu_throttled_periods_total",
        "CPU quota periods in which the group was throttled.",
    ),
    total(
        "process.cpu.cgroup_throttled_usec",
        "ray_cgroup_cpu_throttled_seconds_total",
        "Time the group was throttled.",
        divisor=USEC_PER_SECOND,
    ),
    gauge(
        "process.cpu.cgroup_throttled_ratio",
        "ray_cgroup_cpu_throttled_ratio",
        "Share of recent CPU quota periods that were throttled.",
        decimals=4,
    ),
    gauge("process.cpu.cgroup_throttled_threshold", "ray_pressure_threshold", _THRESHOLD_HELP, signal="cpu_throttled"),
    gauge("process.cpu.linux_psi_pressure", "ray_pressure_active", PRESSURE_HELP, signal="cpu_psi"),
    gauge("process.cpu.pressure", "ray_pressure_active", PRESSURE_HELP, signal="cpu"),
)


def _stalls(resource: str) -> tuple[Metric, ...]:
    """Pressure stall information of one resource: percentages in JSON, ratios in Prometheus."""
    rows: list[Metric] = []
    for kind in ("some", "full"):
        prefix = f"process.{resource}.linux_psi_{kind}"
        for window in ("10", "60", "300"):
            rows.append(
                gauge(
                    f"{prefix}_avg{window}",
                    "ray_pressure_stall_ratio",
                    _STALL_HELP,
                    divisor=PERCENT_PER_RATIO,
                    decimals=2,
                    resource=resource,
                    kind=kind,
                    window=f"{window}s",
                )
            )
        rows.append(
            total(
                f"{prefix}_total_usec",
                "ray_pressure_stalled_seconds_total",
                _STALLED_HELP,
                divisor=USEC_PER_SECOND,
                resource=resource,
                kind=kind,
            )
        )
        rows.append(
            gauge(
                f"{prefix}_avg10_threshold",
                "ray_pressure_threshold",
                _THRESHOLD_HELP,
                divisor=PERCENT_PER_RATIO,
                signal=f"{resource}_psi_{kind}",
            )
        )
    return tuple(rows)


HOST_METRICS: tuple[Metric, ...] = (*_PROCESS, *_MEMORY, *_CPU, *_stalls("memory"), *_stalls("cpu"))
