"""`RAY_*` variables laid over a config document.

Which variable sets which key is declared with the key (`schema.py`, `adapters.py`); this file walks the declaration.
Every value is trimmed, and a blank one counts as not set. Variables of a backend or launch profile that the config
does not have are not read at all, so garbage in them is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ray.config.adapters import HTTP_KINDS, LLAMA_CPP
from ray.config.hosts import origin
from ray.config.kinds import Place, SettingError
from ray.config.merge import LONE_SURROGATE
from ray.config.schema import CONFIG, OperationalConfig
from ray.config.sections import OneOf, Section, Setting

PROFILE_VARIABLE = "RAY_PROFILE"
_LLAMA_CPP_PREFIX = "RAY_LLAMA_CPP_"
Document = dict[str, object]


class Environment:
    """The variables of a process, read once: trimmed, blank ones left out."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._values = {name: text.strip() for name, text in environ.items() if name.startswith("RAY_")}

    def get(self, name: str) -> str | None:
        return self._values.get(name) or None

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of these variables that is set."""
        return next((name for name in names if self.get(name)), None)


@dataclass(slots=True)
class Overlay:
    """A document under change, and which variable each changed key came from (`sources`: dotted key → variable)."""

    document: Document
    environment: Environment
    sources: dict[str, str] = field(default_factory=dict)

    def put(self, parent: Document, path: str, name: str, value: object, source: str) -> None:
        parent[name] = value
        self.sources[f"{path}.{name}" if path else name] = source


def overlay_environment(document: Document, environ: Mapping[str, str]) -> dict[str, str]:
    """Lay the environment over `document`, in place. Returns which variable set which dotted key.

    Raises `SettingError` naming the variable when its text has the wrong form or its value is out of range.
    """
    overlay = Overlay(document, Environment(environ))
    _overlay_section(overlay, CONFIG, document, "")
    _follow_model_id(overlay)
    _follow_launch_address(overlay)
    _follow_context_size(overlay)
    return overlay.sources


def variables_of(entry: Setting, adapter_kind: object) -> tuple[str, ...]:
    """The variables that set this key: the `RAY_LLAMA_CPP_` ones only speak to a llama.cpp backend."""
    return tuple(
        name
        for name in entry.variables
        if name != PROFILE_VARIABLE and (adapter_kind == LLAMA_CPP or not name.startswith(_LLAMA_CPP_PREFIX))
    )


def _overlay_section(overlay: Overlay, section: Section[object], parent: Document | None, path: str) -> None:
    """`parent` is None for a section that the config does not have: its variables are checked and then ignored."""
    backend = parent.get("kind") if parent and path == "model.adapter" else LLAMA_CPP  # others have no such variables
    for entry in section.settings:
        place = f"{path}.{entry.key}" if path else entry.key
        below = None if parent is None else parent.get(entry.key)
        if isinstance(entry.kind, Section | OneOf):
            for inner, target in _sections_below(entry, below):
                _overlay_section(overlay, inner, target, place)
            continue
        source = overlay.environment.first(variables_of(entry, backend))
        if source is None:
            continue
        value = _parsed(entry, overlay.environment.get(source) or "", source, place)
        if parent is not None:
            _check_range(entry, value, source, place)
            overlay.put(parent, path, entry.key, value, source)


def _sections_below(entry: Setting, value: object) -> Iterator[tuple[Section[object], Document | None]]:
    if isinstance(entry.kind, OneOf):
        chosen = entry.kind.section_of(value)
        if chosen is not None and isinstance(value, dict):
            yield chosen, value
    elif isinstance(entry.kind, Section):
        if isinstance(value, dict):
            yield entry.kind, value
        elif value is None and entry.kind.owner is OperationalConfig:
            yield entry.kind, None  # these variables are meant for any model: a malformed one is worth an error


def _parsed(entry: Setting, text: str, source: str, place: str) -> object:
    # A byte that is not UTF-8 arrives as a lone surrogate (PEP 383), which no log line or answer could carry.
    if not text.isprintable() and LONE_SURROGATE.search(text):
        raise SettingError(source, f"must be valid UTF-8 (it sets {place})")
    try:
        return entry.kind.parse(text)
    except ValueError as error:
        raise SettingError(source, f"{error} (it sets {place})") from None


def _check_range(entry: Setting, value: object, source: str, place: str) -> None:
    """Judge the value before other keys follow it, so that the error names the key it was meant for."""
    try:
        entry.kind.read(value, Place(place, "/"))
    except SettingError as error:
        details = error.details | {"variable": source}
        raise SettingError(error.key, f"{error.problem} (set by {source})", details=details) from None


def _child(document: object, *names: str) -> Document | None:
    """The object at this path, if there is one."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else None


def _follow_model_id(overlay: Overlay) -> None:
    """`RAY_MODEL_ID` also names the model at the backend, unless these names are set themselves."""
    name = overlay.environment.get("RAY_MODEL_ID")
    adapter = _child(overlay.document, "model", "adapter")
    if name is None or adapter is None or adapter.get("kind") not in HTTP_KINDS:
        return
    if "model.adapter.modelRef" not in overlay.sources:
        overlay.put(adapter, "model.adapter", "modelRef", name, "RAY_MODEL_ID")
    launch = _child(adapter, "launchProfile")
    if launch is not None and "model.adapter.launchProfile.alias" not in overlay.sources:
        overlay.put(launch, "model.adapter.launchProfile", "alias", name, "RAY_MODEL_ID")


def _follow_launch_address(overlay: Overlay) -> None:
    """A launch host or port from the environment moves `baseUrl` along, unless that is set itself."""
    adapter = _child(overlay.document, "model", "adapter")
    launch = _child(adapter, "launchProfile")
    moved = [
        overlay.sources[key]
        for key in ("model.adapter.launchProfile.host", "model.adapter.launchProfile.port")
        if key in overlay.sources
    ]
    if adapter is None or launch is None or not moved or "model.adapter.baseUrl" in overlay.sources:
        return
    host, port = launch.get("host"), launch.get("port")
    if isinstance(host, str) and isinstance(port, int):
        overlay.put(adapter, "model.adapter", "baseUrl", origin(host, port), moved[0])


def _follow_context_size(overlay: Overlay) -> None:
    """`RAY_LLAMA_CPP_CTX_SIZE` also sets the planning figure, unless that is set itself."""
    source = overlay.sources.get("model.adapter.launchProfile.ctxSize")
    launch = _child(overlay.document, "model", "adapter", "launchProfile")
    operational = _child(overlay.document, "model", "operational")
    if source is None or launch is None or operational is None:
        return
    if "model.operational.preferredCtxSize" not in overlay.sources:
        overlay.put(operational, "model.operational", "preferredCtxSize", launch["ctxSize"], source)
