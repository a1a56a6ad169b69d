"""Model providers: one small interface, three honest implementations."""

from ray.providers.base import CallContext, PrefixObserver, Preparation, PromptPrefix, Provider
from ray.providers.create import create_provider
from ray.providers.llama_cpp.launch import launch_arguments, launch_command

TYPE_CHECKING = False  # for type checkers it is true by its name; importing `typing` for it would cost 5 ms
if TYPE_CHECKING:
    from ray.providers.llama_cpp.gguf import Gguf, GgufError, read_gguf
    from ray.providers.llama_cpp.memory import (
        ModelMemory,
        ServerShape,
        largest_context,
        memory_of,
        model_memory,
        server_shape,
    )

__all__ = [
    "CallContext",
    "Gguf",
    "GgufError",
    "ModelMemory",
    "PrefixObserver",
    "Preparation",
    "PromptPrefix",
    "Provider",
    "ServerShape",
    "create_provider",
    "largest_context",
    "launch_arguments",
    "launch_command",
    "memory_of",
    "model_memory",
    "read_gguf",
    "server_shape",
]

_OF_MODEL_FILES = frozenset({"Gguf", "GgufError", "read_gguf"})
_OF_MODEL_MEMORY = frozenset(
    {"ModelMemory", "ServerShape", "largest_context", "memory_of", "model_memory", "server_shape"}
)


if not TYPE_CHECKING:  # a gateway never reads a model file: its 3 ms are for those that do

    def __getattr__(name: str) -> object:
        if name in _OF_MODEL_FILES:
            from ray.providers.llama_cpp import gguf as source
        elif name in _OF_MODEL_MEMORY:
            from ray.providers.llama_cpp import memory as source
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(source, name)
        globals()[name] = value
        return value
