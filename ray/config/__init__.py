"""Configuration: one frozen `Config` from profile, file and environment."""

from ray.config.adapters import (
    Adapter,
    LaunchProfile,
    LlamaCppAdapter,
    MockAdapter,
    OpenAICompatibleAdapter,
    WarmupRequest,
)
from ray.config.async_queue import AsyncQueueConfig, CallbackPayload
from ray.config.built_in_templates import BUILT_IN_TEMPLATES
from ray.config.hosts import BaseUrl, is_loopback, parse_base_url
from ray.config.keys import resolve_api_keys
from ray.config.load import LoadedConfig, config_from_mapping, load_config
from ray.config.schema import (
    PROFILE_NAMES,
    AuthConfig,
    CacheConfig,
    Config,
    ModelConfig,
    OperationalConfig,
    RateLimitConfig,
    SchedulerConfig,
    ServerConfig,
    TelemetryConfig,
)
from ray.config.templates import MARKER_HEAD, PLACEHOLDER, TemplateConfig
from ray.config.tuning import (
    AdaptiveTuningConfig,
    GracefulDegradationConfig,
    PrefixStoreConfig,
    PromptCompilerConfig,
)
from ray.config.variables import Variable, VariableGroup, variable_groups
from ray.config.view import config_document, sanitised_config

__all__ = [
    "BUILT_IN_TEMPLATES",
    "MARKER_HEAD",
    "PLACEHOLDER",
    "PROFILE_NAMES",
    "Adapter",
    "AdaptiveTuningConfig",
    "AsyncQueueConfig",
    "AuthConfig",
    "BaseUrl",
    "CacheConfig",
    "CallbackPayload",
    "Config",
    "GracefulDegradationConfig",
    "LaunchProfile",
    "LlamaCppAdapter",
    "LoadedConfig",
    "MockAdapter",
    "ModelConfig",
    "OpenAICompatibleAdapter",
    "OperationalConfig",
    "PrefixStoreConfig",
    "PromptCompilerConfig",
    "RateLimitConfig",
    "SchedulerConfig",
    "ServerConfig",
    "TelemetryConfig",
    "TemplateConfig",
    "Variable",
    "VariableGroup",
    "WarmupRequest",
    "config_document",
    "config_from_mapping",
    "is_loopback",
    "load_config",
    "parse_base_url",
    "resolve_api_keys",
    "sanitised_config",
    "variable_groups",
]
