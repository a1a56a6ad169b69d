"""Rules between settings. Each is a small function from a `Config` to the problems it sees.

Single values (type, range, form) are checked where they are declared; here stands what one value demands of another.
The first problem is the one reported, so the order of `RULES` is the order of importance. The docstrings are what
operators read in docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ray.config.adapters import LaunchProfile, LlamaCppAdapter, MockAdapter, WarmupRequest
from ray.config.built_in_templates import BUILT_IN_TEMPLATES
from ray.config.hosts import (
    BaseUrl,
    hosts_overlap,
    is_loopback,
    normal_host,
    parse_base_url,
    points_at_gateway,
)
from ray.config.kinds import SettingError
from ray.config.schema import Config
from ray.config.templates import TemplateConfig

Problems = Iterator[SettingError]
Rule = Callable[[Config], Problems]

_ADAPTER = "model.adapter"
_LAUNCH = "model.adapter.launchProfile"
_MAX_OUTPUT = "model.maxOutputTokens"


def _at_most(key: str, value: float, other: str, limit: float) -> Problems:
    if value > limit:
        details = {"value": value, "limit": limit}
        problem = f"({value}) must be at most {other} ({limit})"
        yield SettingError(key, problem, related=(other,), details=details)


def _less_than(key: str, value: float, other: str, limit: float) -> Problems:
    if value >= limit:
        details = {"value": value, "limit": limit}
        yield SettingError(key, f"({value}) must be less than {other} ({limit})", related=(other,), details=details)


def output_fits_context(config: Config) -> Problems:
    """`model.maxOutputTokens` is at most `model.contextWindow`."""
    model = config.model
    yield from _at_most(_MAX_OUTPUT, model.max_output_tokens, "model.contextWindow", model.context_window)


def batch_window_ends_before_timeout(config: Config) -> Problems:
    """`scheduler.batchWindowMs` is less than `scheduler.requestTimeoutMs`."""
    scheduler = config.scheduler
    yield from _less_than(
        "scheduler.batchWindowMs",
        scheduler.batch_window_ms,
        "scheduler.requestTimeoutMs",
        scheduler.request_timeout_ms,
    )


def lookahead_fits_queue(config: Config) -> Problems:
    """`scheduler.affinityLookahead` is at most `scheduler.maxQueue`."""
    scheduler = config.scheduler
    yield from _at_most(
        "scheduler.affinityLookahead", scheduler.affinity_lookahead, "scheduler.maxQueue", scheduler.max_queue
    )


def short_lane_fits_output(config: Config) -> Problems:
    """`scheduler.shortJobMaxTokens` is at most `model.maxOutputTokens`."""
    limit = config.model.max_output_tokens
    yield from _at_most("scheduler.shortJobMaxTokens", config.scheduler.short_job_max_tokens, _MAX_OUTPUT, limit)


def one_request_fits_budgets(config: Config) -> Problems:
    """`scheduler.maxInflightTokens` and `maxQueuedTokens` exceed `model.maxOutputTokens`: one request must fit."""
    minimum = config.model.max_output_tokens + 1
    budgets = {
        "scheduler.maxInflightTokens": config.scheduler.max_inflight_tokens,
        "scheduler.maxQueuedTokens": config.scheduler.max_queued_tokens,
    }
    for key, tokens in budgets.items():
        if tokens < minimum:
            problem = f"({tokens}) must be at least {minimum}, one more than {_MAX_OUTPUT}, or no request fits"
            yield SettingError(key, problem, related=(_MAX_OUTPUT,), details={"minimumRequestTokens": minimum})


def degraded_output_fits(config: Config) -> Problems:
    """`gracefulDegradation.degradeToMaxTokens` is at most `model.maxOutputTokens`."""
    limit = config.model.max_output_tokens
    key = "gracefulDegradation.degradeToMaxTokens"
    yield from _at_most(key, config.graceful_degradation.degrade_to_max_tokens, _MAX_OUTPUT, limit)


def degradation_starts_before_queue_is_full(config: Config) -> Problems:
    """`gracefulDegradation.queueDepthThreshold` is less than `scheduler.maxQueue` while degradation is enabled."""
    if config.graceful_degradation.enabled:
        key = "gracefulDegradation.queueDepthThreshold"
        depth = config.graceful_degradation.queue_depth_threshold
        yield from _less_than(key, depth, "scheduler.maxQueue", config.scheduler.max_queue)


def adaptive_tuning_is_consistent(config: Config) -> Problems:
    """`adaptiveTuning.learnedCapMinSamples` is at most `familyHistorySize`; `minOutputTokens` and
    `learnedCapHeadroomTokens` are at most `model.maxOutputTokens`, also while tuning is off."""
    tuning, limit = config.adaptive_tuning, config.model.max_output_tokens
    yield from _at_most(
        "adaptiveTuning.learnedCapMinSamples",
        tuning.learned_cap_min_samples,
        "adaptiveTuning.familyHistorySize",
        tuning.family_history_size,
    )
    yield from _at_most("adaptiveTuning.minOutputTokens", tuning.min_output_tokens, _MAX_OUTPUT, limit)
    headroom = tuning.learned_cap_headroom_tokens
    yield from _at_most("adaptiveTuning.learnedCapHeadroomTokens", headroom, _MAX_OUTPUT, limit)


def preferred_context_fits(config: Config) -> Problems:
    """`model.operational.preferredCtxSize` is at most `model.contextWindow`."""
    model = config.model
    if model.operational is not None:
        key, preferred = "model.operational.preferredCtxSize", model.operational.preferred_ctx_size
        yield from _at_most(key, preferred, "model.contextWindow", model.context_window)


def backend_is_not_the_gateway(config: Config) -> Problems:
    """`model.adapter.baseUrl` does not lead back to the gateway: every request would call itself."""
    url = _backend_url(config)
    if url is not None and points_at_gateway(url, config.server.host, config.server.port):
        problem = "must not point at the gateway itself: every request would call itself"
        yield SettingError(f"{_ADAPTER}.baseUrl", problem, related=("server.host", "server.port"))


def slot_probe_fits_timeout(config: Config) -> Problems:
    """`slotSnapshotTimeoutMs` is at most the adapter's `timeoutMs`."""
    adapter = config.model.adapter
    if isinstance(adapter, LlamaCppAdapter):
        key = f"{_ADAPTER}.slotSnapshotTimeoutMs"
        yield from _at_most(key, adapter.slot_snapshot_timeout_ms, f"{_ADAPTER}.timeoutMs", adapter.timeout_ms)


def warmups_are_answerable(config: Config) -> Problems:
    """A warm-up request has either `templateId` or `input` (with `system`), and `maxTokens` of at most
    `model.maxOutputTokens`."""
    if isinstance(config.model.adapter, MockAdapter):
        return
    for index, warmup in enumerate(config.model.adapter.warmup_requests):
        key = f"{_ADAPTER}.warmupRequests[{index}]"
        if warmup.template_id is not None and warmup.input is not None:
            yield SettingError(
                f"{key}.input", "must be absent when templateId is given", related=(f"{key}.templateId",)
            )
        if warmup.template_id is not None and warmup.system is not None:
            yield SettingError(
                f"{key}.system", "must be absent when templateId is given", related=(f"{key}.templateId",)
            )
        if warmup.template_id is None and warmup.input is None:
            yield SettingError(f"{key}.input", "is required when there is no templateId")
        if warmup.max_tokens is not None:
            limit = config.model.max_output_tokens
            yield from _at_most(f"{key}.maxTokens", warmup.max_tokens, _MAX_OUTPUT, limit)


def templates_have_ids_of_their_own(config: Config) -> Problems:
    """No template under `templates` has the id of a built-in one: clients rely on what those say."""
    for template_id in config.templates:
        if template_id in BUILT_IN_TEMPLATES:
            yield SettingError(f"templates.{template_id}", "has the id of a built-in template: choose another id")


def warmup_templates_are_filled(config: Config) -> Problems:
    """A warm-up request names a built-in template or one under `templates`, and gives a value for each of its
    variables."""
    if isinstance(config.model.adapter, MockAdapter):
        return
    for index, warmup in enumerate(config.model.adapter.warmup_requests):
        key = f"{_ADAPTER}.warmupRequests[{index}]"
        if warmup.template_id is not None:
            template = BUILT_IN_TEMPLATES.get(warmup.template_id) or config.templates.get(warmup.template_id)
            yield from _template_problems(key, warmup, template)


def _template_problems(key: str, warmup: WarmupRequest, template: TemplateConfig | None) -> Problems:
    if template is None:
        yield SettingError(
            f"{key}.templateId",
            f"names the template {warmup.template_id!r}, which is not known",
            related=("templates",),
        )
        return
    unknown = [name for name in warmup.template_variables if name not in template.variables]
    if unknown:
        problem = f"has {', '.join(unknown)}, which the template {warmup.template_id} does not know"
        yield SettingError(f"{key}.templateVariables", problem, details={"unsupportedKeys": unknown})
    missing = [name for name in template.variables if name not in warmup.template_variables]
    if missing:
        problem = f"lacks {', '.join(missing)}, which the template {warmup.template_id} needs"
        yield SettingError(f"{key}.templateVariables", problem, details={"missingVariables": missing})


def prefixes_have_a_directory_of_their_own(config: Config) -> Problems:
    """`prefixStore.storageDir` differs from `asyncQueue.storageDir`: each counts and clears its own files."""
    if config.prefix_store.enabled and config.prefix_store.storage_dir == config.async_queue.storage_dir:
        other = "asyncQueue.storageDir"
        yield SettingError("prefixStore.storageDir", f"must differ from {other}", related=(other,))


def launch_host_stays_local(config: Config) -> Problems:
    """`launchProfile.host` is a loopback address, so that the backend stays behind the gateway."""
    launch = _launch(config)
    if launch is not None and not is_loopback(launch.host):
        problem = "must be a loopback address such as 127.0.0.1, so that the backend stays behind the gateway"
        yield SettingError(f"{_LAUNCH}.host", problem)


def launch_port_is_free(config: Config) -> Problems:
    """`launchProfile.port` differs from `server.port` where both would listen on the same address."""
    launch = _launch(config)
    if launch is None or launch.port != config.server.port:
        return
    if hosts_overlap(launch.host, config.server.host):
        problem = f"({launch.port}) must not overlap server.port: llama-server and the gateway need one each"
        yield SettingError(f"{_LAUNCH}.port", problem, related=("server.port",))


def base_url_reaches_launched_server(config: Config) -> Problems:
    """With a launchProfile, `baseUrl` is plain http, has its host and port, and no path."""
    launch, url = _launch(config), _backend_url(config)
    if launch is None or url is None:
        return
    related = (f"{_LAUNCH}.host", f"{_LAUNCH}.port")
    problem = _mismatch(url, launch)
    if problem:
        yield SettingError(f"{_ADAPTER}.baseUrl", problem, related=related)


def _mismatch(url: BaseUrl, launch: LaunchProfile) -> str | None:
    if url.scheme != "http":
        return "must use plain http with a launchProfile: llama-server is started without TLS"
    if not is_loopback(url.host):
        return "must have a loopback host with a launchProfile: llama-server listens on this machine only"
    listens_on = normal_host(launch.host)
    if (
        isinstance(listens_on, bytes) and normal_host(url.host) != listens_on
    ):  # for `localhost` any loopback host is fine
        return "must have the host of launchProfile.host"
    if url.port != launch.port:
        return f"must have the port of launchProfile.port ({launch.port})"
    if url.path not in ("", "/"):
        return "must not have a path with a launchProfile"
    return None


def launch_context_fits_model(config: Config) -> Problems:
    """`launchProfile.ctxSize` is at most `model.contextWindow`."""
    launch = _launch(config)
    if launch is not None:
        window = config.model.context_window
        yield from _at_most(f"{_LAUNCH}.ctxSize", launch.ctx_size, "model.contextWindow", window)


def inflight_fits_launch_capacity(config: Config) -> Problems:
    """`scheduler.maxInflightTokens` is at most `launchProfile.ctxSize` times `parallel`.

    llama-server's slots share one context; the product is kept as the limit that existing files obey.
    """
    launch = _launch(config)
    if launch is None:
        return
    inflight, capacity = config.scheduler.max_inflight_tokens, launch.ctx_size * launch.parallel
    if inflight > capacity:
        yield SettingError(
            "scheduler.maxInflightTokens",
            f"({inflight}) must be at most the launch context capacity, ctxSize times parallel ({capacity})",
            related=(f"{_LAUNCH}.ctxSize", f"{_LAUNCH}.parallel"),
            details={"value": inflight, "limit": capacity},
        )


def physical_batch_fits_logical(config: Config) -> Problems:
    """`launchProfile.ubatchSize` is at most `batchSize`."""
    launch = _launch(config)
    if launch is not None:
        yield from _at_most(f"{_LAUNCH}.ubatchSize", launch.ubatch_size, f"{_LAUNCH}.batchSize", launch.batch_size)


def _launch(config: Config) -> LaunchProfile | None:
    adapter = config.model.adapter
    return adapter.launch_profile if isinstance(adapter, LlamaCppAdapter) else None


def _backend_url(config: Config) -> BaseUrl | None:
    adapter = config.model.adapter
    url = None if isinstance(adapter, MockAdapter) else parse_base_url(adapter.base_url)
    return url if isinstance(url, BaseUrl) else None


RULES: tuple[Rule, ...] = (
    output_fits_context,
    batch_window_ends_before_timeout,
    lookahead_fits_queue,
    short_lane_fits_output,
    one_request_fits_budgets,
    degraded_output_fits,
    degradation_starts_before_queue_is_full,
    adaptive_tuning_is_consistent,
    preferred_context_fits,
    backend_is_not_the_gateway,
    slot_probe_fits_timeout,
    warmups_are_answerable,
    templates_have_ids_of_their_own,
    warmup_templates_are_filled,
    prefixes_have_a_directory_of_their_own,
    launch_host_stays_local,
    launch_port_is_free,
    base_url_reaches_launched_server,
    launch_context_fits_model,
    inflight_fits_launch_capacity,
    physical_batch_fits_logical,
)


def first_problem(config: Config) -> SettingError | None:
    """The first broken rule, or None."""
    return next((problem for rule in RULES for problem in rule(config)), None)
