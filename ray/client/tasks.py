"""Task profiles: what a kind of work usually needs, laid over a request before it is sent.

    plan = plan_task({"input": mail, "system": "Answer with JSON."}, "classify")
    answer = client.infer(plan.request, timeout_ms=plan.execution.timeout_ms)

The gateway knows nothing of them: a plan is an ordinary request, and its metadata rides along. Pure functions; what is
wrong raises RayError `invalid_request` whose details name the `field`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal, NoReturn, get_args

from ray.errors import RayError, truncated
from ray.types import Lane

CachePolicy = Literal["read-write", "bypass"]
DedupePolicy = Literal["profile-input", "none"]
Mode = Literal["defaults", "profile"]

MAX_PROFILES = 128
MAX_ID_CHARS = 128
MAX_TOKENS = 4_096
MAX_TIMEOUT_MS = 600_000
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_METADATA_ENTRIES = 32
MAX_METADATA_KEY_CHARS = 128
MAX_METADATA_VALUE_CHARS = 1_024


@dataclass(frozen=True, slots=True)
class TaskProfile:
    """What one kind of work needs. `response_format`: the type, None for the request's own; `stop`: () likewise."""

    id: str
    task: str
    max_tokens: int
    temperature: float
    top_p: float
    timeout_ms: int
    cache_policy: CachePolicy
    lane: Lane
    dedupe_policy: DedupePolicy
    response_format: Literal["text", "json_object"] | None = None
    stop: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskCatalog:
    """The profiles of an application, checked and copied when it is made. `default_profile_id`: for requests that name
    none."""

    profiles: tuple[TaskProfile, ...]
    default_profile_id: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.profiles) <= MAX_PROFILES:
            _refuse("profiles", f"a catalog has 1 to {MAX_PROFILES} profiles")
        ids = [profile.id for profile in self.profiles]
        for profile in self.profiles:
            _check_profile(profile)
            if ids.count(profile.id) > 1:
                _refuse("profiles", f"two profiles have the id {_shown(profile.id)}")
        if self.default_profile_id is not None and self.default_profile_id not in ids:
            _refuse(
                "defaultProfileId", f"the catalog has no profile {_shown(self.default_profile_id)} to be the default"
            )
        object.__setattr__(self, "profiles", tuple(_copied(profile) for profile in self.profiles))

    def profile(self, profile_id: str | None = None) -> TaskProfile:
        """A copy of the profile of this id; without one the catalog's default, else `draft`. Raises
        `invalid_request`."""
        wanted = profile_id if profile_id is not None else self.default_profile_id or "draft"
        found = next((profile for profile in self.profiles if profile.id == wanted), None)
        if found is None:
            known = truncated(", ".join(profile.id for profile in self.profiles), 1_000)
            _refuse("profileId", f"there is no task profile {_shown(wanted)}: the catalog has {known}")
        return _copied(found)


@dataclass(frozen=True, slots=True)
class Execution:
    """How the request is meant to run. `timeout_ms` is only said: give it to the call that sends the request."""

    profile_id: str
    task: str
    mode: Mode
    lane: Lane
    timeout_ms: int
    cache_policy: CachePolicy
    dedupe_policy: DedupePolicy
    dedupe_key: str | None = None


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """A profile laid over a request. `request`: the JSON object to send."""

    profile: TaskProfile
    request: dict[str, object]
    execution: Execution


def plan_task(
    request: Mapping[str, object],
    profile_id: str | None = None,
    *,
    mode: Mode = "defaults",
    metadata: Mapping[str, str] | None = None,
    dedupe_policy: DedupePolicy | None = None,
    catalog: TaskCatalog | None = None,
) -> TaskPlan:
    """A full request out of a profile and what is special about this one.

    `mode`: with `defaults` what the request says wins, with `profile` what the profile says. `metadata` goes over that
    of the profile and of the request. `dedupe_policy`: instead of the profile's, in both modes; a key that the request
    has stays. Raises RayError `invalid_request`.
    """
    profile = (catalog or DEFAULT_TASKS).profile(profile_id)
    if mode not in get_args(Mode):
        _refuse("mode", "mode must be defaults or profile")
    if dedupe_policy is not None:
        _one_of("dedupePolicy", dedupe_policy, get_args(DedupePolicy), "of the plan")
    dedupe = dedupe_policy or profile.dedupe_policy
    asked = dict(request)
    own = _metadata(asked.get("metadata", {}), "metadata")
    options = _metadata(metadata or {}, "options.metadata")
    lane = profile.lane if mode == "profile" else _lane(options, own, profile.lane)
    policy = _cache_policy(asked, profile, mode)

    planned = {**_settings(profile), **asked} if mode == "defaults" else {**asked, **_settings(profile)}
    planned["cache"] = policy == "read-write"
    planned["metadata"] = _merged(profile, own, options, lane, policy)
    key = _dedupe_key(planned, profile, dedupe)
    if key is not None:
        planned["dedupeKey"] = key
    execution = Execution(profile.id, profile.task, mode, lane, profile.timeout_ms, policy, dedupe, key)
    return TaskPlan(profile, planned, execution)


def _copied(profile: TaskProfile) -> TaskProfile:
    """The same with metadata of its own, so that nobody who changes it changes a catalog."""
    return replace(profile, metadata=dict(profile.metadata))


def _settings(profile: TaskProfile) -> dict[str, object]:
    """What a profile says about a request, in the request's own form."""
    settings: dict[str, object] = {
        "maxTokens": profile.max_tokens,
        "temperature": profile.temperature,
        "topP": profile.top_p,
    }
    if profile.stop:
        settings["stop"] = list(profile.stop)
    if profile.response_format is not None:
        settings["responseFormat"] = {"type": profile.response_format}
    return settings


def _lane(options: Mapping[str, str], own: Mapping[str, str], default: Lane) -> Lane:
    for given in (options, own):
        match given.get("promptLane"):
            case "short":
                return "short"
            case "draft":
                return "draft"
    return default


def _cache_policy(asked: Mapping[str, object], profile: TaskProfile, mode: Mode) -> CachePolicy:
    if mode == "profile" or "cache" not in asked:
        return profile.cache_policy
    cache = asked["cache"]
    if not isinstance(cache, bool):
        _refuse("cache", "cache must be true or false")
    return "read-write" if cache else "bypass"


def _merged(
    profile: TaskProfile, own: Mapping[str, str], options: Mapping[str, str], lane: Lane, policy: CachePolicy
) -> dict[str, str]:
    merged = {
        **profile.metadata,
        **own,
        **options,
        "rayTaskProfile": profile.id,
        "rayTaskKind": profile.task,
        "rayTaskCachePolicy": policy,
        "promptLane": lane,
    }
    if len(merged) > MAX_METADATA_ENTRIES:
        _refuse(
            "metadata",
            f"profile, request and options have {len(merged)} entries of metadata together, "
            f"the four of the plan included: at most {MAX_METADATA_ENTRIES} are allowed",
        )
    return merged


def _dedupe_key(planned: Mapping[str, object], profile: TaskProfile, policy: DedupePolicy) -> str | None:
    """The request's own; else, if the policy wants one, the same for the same work, however long its answer may be."""
    own = planned.get("dedupeKey")
    if own is not None:
        if not isinstance(own, str):
            _refuse("dedupeKey", "dedupeKey must be a string")
        return own
    if policy == "none":
        return None
    work = [
        profile.id,
        profile.task,
        *(planned.get(name) for name in ("input", "system", "templateId", "templateVariables")),
        planned.get("responseFormat", {"type": "text"}),
    ]
    try:
        text = json.dumps(work, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        _refuse("input", "input, system, template variables and response format must be plain JSON")
    return f"task-{sha256(text.encode('ascii')).hexdigest()}"


def _check_profile(profile: TaskProfile) -> None:
    where = f"of profile {_shown(profile.id)}"
    for name, value in (("id", profile.id), ("task", profile.task)):
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_CHARS:
            _refuse(name, f"{name} {where} must have 1 to {MAX_ID_CHARS} characters")
    _whole("maxTokens", profile.max_tokens, MAX_TOKENS, where)
    _whole("timeoutMs", profile.timeout_ms, MAX_TIMEOUT_MS, where)
    _number("temperature", profile.temperature, 0.0, 2.0, where)
    _number("topP", profile.top_p, 0.1, 1.0, where)
    _one_of("cachePolicy", profile.cache_policy, get_args(CachePolicy), where)
    _one_of("lane", profile.lane, get_args(Lane), where)
    _one_of("dedupePolicy", profile.dedupe_policy, get_args(DedupePolicy), where)
    _one_of("responseFormat", profile.response_format, (None, "text", "json_object"), where)
    stops = profile.stop
    if len(stops) > MAX_STOPS or not all(isinstance(stop, str) and 1 <= len(stop) <= MAX_STOP_CHARS for stop in stops):
        _refuse("stop", f"stop {where} must have at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARS} characters")
    _metadata(profile.metadata, f"metadata {where}")


def _whole(name: str, value: object, high: int, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        _refuse(name, f"{name} {where} must be a whole number from 1 to {high}")


def _number(name: str, value: object, low: float, high: float, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        _refuse(name, f"{name} {where} must be a number from {low:g} to {high:g}")


def _one_of(name: str, value: object, choices: tuple[object, ...], where: str) -> None:
    if value not in choices:
        _refuse(name, f"{name} {where} must be one of {', '.join(str(choice) for choice in choices)}")


def _metadata(value: object, name: str) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or len(value) > MAX_METADATA_ENTRIES:
        _refuse(name, f"{name} must be an object of at most {MAX_METADATA_ENTRIES} texts")
    for key, text in value.items():
        if (
            not isinstance(key, str)
            or not isinstance(text, str)
            or len(key) > MAX_METADATA_KEY_CHARS
            or len(text) > MAX_METADATA_VALUE_CHARS
        ):
            _refuse(
                name,
                f"{name} must hold texts: keys of at most {MAX_METADATA_KEY_CHARS} characters, "
                f"values of at most {MAX_METADATA_VALUE_CHARS}",
            )
    return value


def _shown(text: object) -> str:
    return repr(truncated(str(text), MAX_ID_CHARS))


def _refuse(name: str, message: str) -> NoReturn:
    raise RayError("invalid_request", message, details={"field": name})


def _family(name: str) -> dict[str, str]:
    return {"promptFamily": f"task.{name}"}


DEFAULT_TASKS = TaskCatalog(
    (
        TaskProfile(
            "classify", "classify", 64, 0.0, 0.9, 12_000, "read-write", "short", "profile-input", "json_object",
            metadata=_family("classify"),
        ),
        TaskProfile(
            "summarize", "summarize", 160, 0.2, 0.9, 20_000, "read-write", "draft", "profile-input",
            metadata=_family("summarize"),
        ),
        TaskProfile(
            "draft", "draft", 180, 0.35, 0.95, 25_000, "bypass", "draft", "none",
            metadata=_family("draft"),
        ),
        TaskProfile(
            "revise", "revise", 140, 0.25, 0.9, 18_000, "bypass", "draft", "none",
            metadata=_family("revise"),
        ),
        TaskProfile(
            "extract-json", "extract-json", 120, 0.0, 0.9, 14_000, "read-write", "short", "profile-input",
            "json_object",
            metadata=_family("extract-json"),
        ),
    ),
    default_profile_id="draft",
)  # fmt: skip
