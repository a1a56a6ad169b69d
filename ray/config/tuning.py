"""Settings that shape prompts and answers: degradation under pressure, the prompt compiler, adaptive output caps."""

from __future__ import annotations

from dataclasses import dataclass

from ray.config.containers import TextList
from ray.config.kinds import TIMEOUT_MS, Boolean, Integer, Number
from ray.config.sections import setting
from ray.config.texts import FilePath

OUTPUT_TOKENS = Integer(1, 2048)
_Ratio = Number(0, 1)
_PositiveRatio = Number(0, 1, above_minimum=True)
_Percent = Number(0, 100, above_minimum=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class GracefulDegradationConfig:
    """Under pressure, answers get shorter instead of failing, and say so. Each threshold is one sign of pressure."""

    enabled: bool = setting(
        Boolean(),
        "Shorten prompts and answers; off, nothing counts as pressure and nothing is cut.",
        "RAY_GRACEFUL_DEGRADATION_ENABLED",
        default=True,
    )
    queue_depth_threshold: int = setting(
        Integer(1, 512),
        "Waiting requests (less than scheduler.maxQueue while enabled).",
        "RAY_DEGRADATION_QUEUE_DEPTH_THRESHOLD",
        default=16,
    )
    max_prompt_chars: int = setting(
        Integer(1, 65_536),
        "Longer prompts lose the end of their input, pressure or not.",
        "RAY_DEGRADATION_MAX_PROMPT_CHARS",
        default=6000,
    )
    degrade_to_max_tokens: int = setting(
        OUTPUT_TOKENS,
        "Completion tokens allowed under pressure (at most model.maxOutputTokens).",
        "RAY_DEGRADATION_MAX_TOKENS",
        default=128,
    )
    memory_rss_threshold_mib: int = setting(
        Integer(1, 65_536),
        "The gateway's own resident memory in MiB.",
        "RAY_DEGRADATION_MEMORY_RSS_THRESHOLD_MIB",
        default=512,
    )
    memory_cgroup_pressure_ratio_threshold: float = setting(
        _PositiveRatio,
        "Used share of the cgroup's memory limit.",
        "RAY_DEGRADATION_MEMORY_CGROUP_PRESSURE_RATIO_THRESHOLD",
        default=0.9,
    )
    cpu_throttled_ratio_threshold: float = setting(
        _PositiveRatio,
        "Share of CPU periods in which the cgroup was throttled.",
        "RAY_DEGRADATION_CPU_THROTTLED_RATIO_THRESHOLD",
        default=0.2,
    )
    memory_psi_some_avg10_threshold: float = setting(
        _Percent,
        "Memory pressure `some avg10`, in percent.",
        "RAY_DEGRADATION_MEMORY_PSI_SOME_AVG10_THRESHOLD",
        default=10,
    )
    memory_psi_full_avg10_threshold: float = setting(
        _Percent,
        "Memory pressure `full avg10`, in percent.",
        "RAY_DEGRADATION_MEMORY_PSI_FULL_AVG10_THRESHOLD",
        default=1,
    )
    cpu_psi_some_avg10_threshold: float = setting(
        _Percent,
        "CPU pressure `some avg10`, in percent.",
        "RAY_DEGRADATION_CPU_PSI_SOME_AVG10_THRESHOLD",
        default=50,
    )
    cpu_psi_full_avg10_threshold: float = setting(
        _Percent,
        "CPU pressure `full avg10`, in percent.",
        "RAY_DEGRADATION_CPU_PSI_FULL_AVG10_THRESHOLD",
        default=5,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixStoreConfig:
    """Beginnings of prompts that llama-server has read once, kept on disk and restored instead of read again. Of use
    with the `llama.cpp` adapter only, and only while its `cachePrompt` is on."""

    enabled: bool = setting(
        Boolean(), "Keep evaluated prompt prefixes on disk.", "RAY_PREFIX_STORE_ENABLED", default=False
    )
    storage_dir: str = setting(
        FilePath(),
        "Directory of the snapshots, the same one that llama-server's --slot-save-path names.",
        "RAY_PREFIX_STORE_STORAGE_DIR",
        default=".ray/prefixes",
    )
    max_mib: int = setting(
        Integer(1, 1_048_576),
        "Most disk space in MiB; the least recently used snapshot goes first.",
        "RAY_PREFIX_STORE_MAX_MIB",
        default=512,
    )
    min_tokens: int = setting(
        Integer(1, 32_768), "Shortest prefix in tokens worth keeping.", "RAY_PREFIX_STORE_MIN_TOKENS", default=64
    )
    min_sightings: int = setting(
        Integer(1, 1000),
        "Requests with the same prefix before it is written.",
        "RAY_PREFIX_STORE_MIN_SIGHTINGS",
        default=2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCompilerConfig:
    """Tidying of prompts, and what tells prompt families apart."""

    enabled: bool = setting(Boolean(), "Compile prompts.", "RAY_PROMPT_COMPILER_ENABLED", default=True)
    collapse_whitespace: bool = setting(
        Boolean(), "Collapse runs of blanks.", "RAY_PROMPT_COMPILER_COLLAPSE_WHITESPACE", default=True
    )
    dedupe_repeated_lines: bool = setting(
        Boolean(), "Drop long lines that repeat.", "RAY_PROMPT_COMPILER_DEDUPE_REPEATED_LINES", default=True
    )
    family_metadata_keys: tuple[str, ...] = setting(
        TextList(16, 128),
        "Metadata keys that name a prompt's family, most specific first.",
        "RAY_PROMPT_COMPILER_FAMILY_METADATA_KEYS",
        default=("promptFamily", "taskTemplate", "template", "useCase"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveTuningConfig:
    """Caps on answers that follow measured speed and what each prompt family really needs."""

    enabled: bool = setting(Boolean(), "Adapt the output cap.", "RAY_ADAPTIVE_TUNING_ENABLED", default=True)
    sample_size: int = setting(Integer(1, 512), "Recent requests looked at.", "RAY_ADAPTIVE_SAMPLE_SIZE", default=32)
    queue_latency_threshold_ms: int = setting(
        TIMEOUT_MS,
        "Waiting time in milliseconds that counts as slow.",
        "RAY_ADAPTIVE_QUEUE_LATENCY_THRESHOLD_MS",
        default=350,
    )
    min_completion_tokens_per_second: int = setting(
        Integer(1, 1000),
        "Speed in tokens per second below which answers are cut.",
        "RAY_ADAPTIVE_MIN_COMPLETION_TOKENS_PER_SECOND",
        default=14,
    )
    max_output_reduction_ratio: float = setting(
        _Ratio, "Largest share that may be cut.", "RAY_ADAPTIVE_MAX_OUTPUT_REDUCTION_RATIO", default=0.5
    )
    min_output_tokens: int = setting(
        OUTPUT_TOKENS,
        "Completion tokens always left (at most model.maxOutputTokens).",
        "RAY_ADAPTIVE_MIN_OUTPUT_TOKENS",
        default=64,
    )
    learned_family_cap_enabled: bool = setting(
        Boolean(), "Learn a cap for each prompt family.", "RAY_ADAPTIVE_LEARNED_FAMILY_CAP_ENABLED", default=True
    )
    family_history_size: int = setting(
        Integer(1, 1024), "Answers remembered per family.", "RAY_ADAPTIVE_FAMILY_HISTORY_SIZE", default=64
    )
    learned_cap_min_samples: int = setting(
        Integer(1, 1024),
        "Answers needed before the cap acts (at most familyHistorySize).",
        "RAY_ADAPTIVE_LEARNED_CAP_MIN_SAMPLES",
        default=8,
    )
    draft_percentile: float = setting(
        _Ratio, "Percentile of answer lengths in the draft lane.", "RAY_ADAPTIVE_DRAFT_PERCENTILE", default=0.95
    )
    short_percentile: float = setting(
        _Ratio, "Percentile of answer lengths in the short lane.", "RAY_ADAPTIVE_SHORT_PERCENTILE", default=0.9
    )
    learned_cap_headroom_tokens: int = setting(
        OUTPUT_TOKENS,
        "Tokens added on top of the percentile (at most model.maxOutputTokens).",
        "RAY_ADAPTIVE_LEARNED_CAP_HEADROOM_TOKENS",
        default=24,
    )
