"""Model providers: one small interface, three honest implementations."""

from ray.providers.base import CallContext, Preparation, PrefixObserver, PromptPrefix, Provider
from ray.providers.create import create_provider
from ray.providers.llama_cpp.launch import launch_arguments, launch_command

__all__ = [
    "CallContext",
    "Preparation",
    "PrefixObserver",
    "PromptPrefix",
    "Provider",
    "create_provider",
    "launch_arguments",
    "launch_command",
]
