"""Model providers: one small interface, three honest implementations."""

from ray.providers.base import CallContext, PrefixObserver, Preparation, PromptPrefix, Provider
from ray.providers.create import create_provider
from ray.providers.llama_cpp.launch import launch_arguments, launch_command

TYPE_CHECKING = False  # for type checkers it is true by its name; importing `typing` for it would cost 5 ms
if TYPE_CHECKING:
    from ray.providers.llama_cpp.gguf import Gguf, GgufError, read_gguf

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

_OF_MODEL_FILES = frozenset({"Gguf", "GgufError", "read_gguf"})


if not TYPE_CHECKING:  # a gateway never reads a model file: its 3 ms are for those that do

    def __getattr__(name: str) -> object:
        if name not in _OF_MODEL_FILES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from ray.providers.llama_cpp import gguf

        value: object = getattr(gguf, name)
        globals()[name] = value
        return value
