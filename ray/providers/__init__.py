"""Model providers: one small interface, three honest implementations."""

from ray.providers.base import CallContext, PrefixObserver, Preparation, PromptPrefix, Provider
from ray.providers.create import create_provider
from ray.providers.llama_cpp.gguf import Gguf, GgufError, read_gguf
from ray.providers.llama_cpp.launch import launch_arguments, launch_command

__all__ = [
    "CallContext",
    "Gguf",
    "GgufError",
    "PrefixObserver",
    "Preparation",
    "PromptPrefix",
    "Provider",
    "create_provider",
    "launch_arguments",
    "launch_command",
    "read_gguf",
]
