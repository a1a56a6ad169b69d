"""Ray: a lean AI gateway for one cheap box, in front of a local llama-server.

In a program: `Gateway` (asyncio), `serve_in_thread` (everything else), `load_config`, `RayError`; docs/embedding.md.
"""

from ray.version import VERSION as __version__

TYPE_CHECKING = False  # for type checkers it is true by its name; importing `typing` for it would cost 5 ms
if TYPE_CHECKING:
    from ray.embed import Gateway, load_config, serve_in_thread
    from ray.errors import RayError

__all__ = ["Gateway", "RayError", "__version__", "load_config", "serve_in_thread"]


# Which room a name comes from. They are loaded when somebody asks: every room of the house imports this file first.
_ROOMS = {"Gateway": "embed", "RayError": "errors", "load_config": "embed", "serve_in_thread": "embed"}


if not TYPE_CHECKING:  # a type checker knows the names from above, and finds those that are not there

    def __getattr__(name: str) -> object:
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
