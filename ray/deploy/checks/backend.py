"""The adapter, and the llama-server that this machine runs."""

from __future__ import annotations

import posixpath

from ray.config import LaunchProfile, LlamaCppAdapter, MockAdapter, OpenAICompatibleAdapter, is_loopback, parse_base_url
from ray.deploy.checks.catalogue import ERROR, INFO, WARN, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.launch_flags import MAX_NAMED_FLAGS
from ray.deploy.paths import HOME_PROTECTED, PRIVATE_TMP, under
from ray.deploy.places import Place
from ray.deploy.sizing import launch_profile

BACKEND = Catalogue()
SMALL_PRESETS = frozenset({"single-vps-sub1b", "single-vps-sub1b-cx23", "single-vps-sub1b-cax11", "single-vps-1b-cx23"})
PRESET_ARCHITECTURES = {"single-vps-sub1b-cax11": "arm64", "single-vps-sub1b-cx23": "x64"}
LARGE_SLOT_TOKENS = 4_096
LARGE_SMALL_CACHE_MIB = 1_024
STAGE_BINARY = (
    "Set RAY_LLAMA_CPP_BINARY_SOURCE_PATH and RAY_MODEL_SOURCE_PATH and run `python3 -m ray.deploy model-stage "
    "--apply`, or `install -m 0755 llama-server {binary}`"
)
STAGE_MODEL = (
    "Set RAY_LLAMA_CPP_BINARY_SOURCE_PATH and RAY_MODEL_SOURCE_PATH and run `python3 -m ray.deploy model-stage "
    "--apply`, or `install -D -m 0640 -o {user} -g {group} MODEL.gguf {model}`"
)


def _http(facts: Facts) -> OpenAICompatibleAdapter | LlamaCppAdapter | None:
    adapter = facts.settings.loaded.config.model.adapter
    return None if isinstance(adapter, MockAdapter) else adapter


def _launch(facts: Facts) -> LaunchProfile | None:
    return launch_profile(facts.settings.loaded.config)


@BACKEND.check(
    {"openai_compatible_base_url_includes_v1_path": WARN, "openai_compatible_base_url_not_loopback": WARN},
    inspects="`model.adapter.baseUrl` of an OpenAI-compatible backend",
    remedy="Name the backend's root, without /v1, on this machine: http://127.0.0.1:8081",
)
def openai_base_url(facts: Facts) -> Found:
    adapter = _http(facts)
    if not isinstance(adapter, OpenAICompatibleAdapter):
        return
    url = parse_base_url(adapter.base_url)
    if isinstance(url, str):
        return  # the loader refuses it
    if posixpath.basename(url.path.rstrip("/")).lower() == "v1":
        yield "openai_compatible_base_url_includes_v1_path", "The backend's URL ends with /v1, which Ray adds itself"
    if facts.settings.loaded.config.profile in ("vps", "balanced") and not is_loopback(url.host):
        yield "openai_compatible_base_url_not_loopback", f"The backend is another machine: {url.host}"


@BACKEND.check(
    {"timeout_budget_tight": WARN},
    inspects="`scheduler.requestTimeoutMs` against `model.adapter.timeoutMs`",
    remedy="Raise RAY_SCHEDULER_REQUEST_TIMEOUT_MS above the adapter's timeout, so that waiting has a share",
)
def timeouts(facts: Facts) -> Found:
    adapter, whole = _http(facts), facts.settings.loaded.config.scheduler.request_timeout_ms
    if adapter is not None and whole <= adapter.timeout_ms:
        yield "timeout_budget_tight", f"A request may take {whole} ms, and its generation alone {adapter.timeout_ms} ms"


@BACKEND.check(
    {"slow_request_threshold_masks_timeouts": WARN},
    inspects="`telemetry.slowRequestThresholdMs` against both timeouts",
    remedy="Lower RAY_TELEMETRY_SLOW_REQUEST_THRESHOLD_MS below both timeouts",
)
def slow_requests(facts: Facts) -> Found:
    config, adapter = facts.settings.loaded.config, _http(facts)
    if adapter is None:
        return
    first, slow = (
        min(config.scheduler.request_timeout_ms, adapter.timeout_ms),
        config.telemetry.slow_request_threshold_ms,
    )
    if slow >= first:
        said = f"Requests are called slow after {slow} ms, and they end after {first} ms: none is ever called slow"
        yield "slow_request_threshold_masks_timeouts", said


@BACKEND.check(
    {"warmup_disabled": WARN},
    inspects="`model.warmOnBoot`",
    remedy="Set model.warmOnBoot to true",
)
def warm_up(facts: Facts) -> Found:
    if _http(facts) is not None and not facts.settings.loaded.config.model.warm_on_boot:
        yield "warmup_disabled", "The first client after a start waits for the backend to wake up"


@BACKEND.check(
    {"llama_launch_profile_missing": WARN},
    inspects="`model.adapter.launchProfile` of a llama.cpp backend",
    remedy="Describe the backend in model.adapter.launchProfile, so that Ray writes its unit and divides the memory",
)
def launch_profile_given(facts: Facts) -> Found:
    if isinstance(_http(facts), LlamaCppAdapter) and _launch(facts) is None:
        yield "llama_launch_profile_missing", "Ray knows nothing of how llama-server is started"


@BACKEND.check(
    {"llama_launch_profile_architecture_mismatch": ERROR, "llama_launch_profile_architecture_ok": INFO},
    inspects="the launch preset against this processor",
    remedy="Take a config made for this machine: ray.sub1b*.json for x64, ray.sub1b.cax11*.json for arm64",
    strict=True,
)
def architecture(facts: Facts) -> Found:
    launch = _launch(facts)
    wanted = PRESET_ARCHITECTURES.get(launch.preset) if launch else None
    if launch is None or wanted is None:
        return
    if wanted == facts.machine.architecture:
        yield "llama_launch_profile_architecture_ok", f"The preset {launch.preset} is for {wanted}, as this machine"
    else:
        said = f"The preset {launch.preset} is for {wanted}, and this machine is {facts.machine.architecture}"
        yield "llama_launch_profile_architecture_mismatch", said


@BACKEND.check(
    {"llama_binary_path_home_protected": ERROR, "llama_binary_path_private_tmp": ERROR},
    inspects="where `launchProfile.binaryPath` lies and leads",
    remedy="Install llama-server at a system path such as /usr/local/bin/llama-server and name it in binaryPath",
)
def binary_place(facts: Facts) -> Found:
    launch = _launch(facts)
    if launch is not None:
        yield from _hidden("llama_binary_path", launch.binary_path, facts.backend.binary if facts.backend else None)


@BACKEND.check(
    {"llama_model_path_home_protected": ERROR, "llama_model_path_private_tmp": ERROR},
    inspects="where `launchProfile.modelPath` lies and leads",
    remedy="Put the model under /var/lib/ray/models and name it in modelPath",
)
def model_place(facts: Facts) -> Found:
    launch = _launch(facts)
    if launch is not None:
        yield from _hidden("llama_model_path", launch.model_path, facts.backend.model if facts.backend else None)


def _hidden(stem: str, path: str, place: Place | None) -> Found:
    """`place`: what lies there, None when nobody looked."""
    shown = place.shown if place is not None else path
    for suffix, roots in (("home_protected", HOME_PROTECTED), ("private_tmp", PRIVATE_TMP)):
        root = under(path, roots) or (place.hidden_under(roots) if place is not None else None)
        if root is not None:
            yield f"{stem}_{suffix}", f"A hardened service does not see {shown}: {root} is hidden from it"
            return


@BACKEND.check(
    {
        "llama_binary_missing": ERROR,
        "llama_binary_unreadable": ERROR,
        "llama_binary_service_user_inaccessible": ERROR,
        "llama_binary_ok": INFO,
    },
    inspects="the llama-server program: there, executable, open to the account",
    remedy=STAGE_BINARY,
    strict=True,
)
def binary(facts: Facts) -> Found:
    backend = facts.backend
    if backend is None or any(backend.binary.hidden_under(roots) for roots in (HOME_PROTECTED, PRIVATE_TMP)):
        return
    place, access = backend.binary, backend.access.get("binary")
    if place.status == "missing":
        yield "llama_binary_missing", f"There is no llama-server at {place.path}"
    elif not place.is_program:
        yield "llama_binary_unreadable", f"{place.shown} {place.error or 'is not an executable file'}"
    elif access is not None and access.status == "blocked":
        said = f"{facts.settings.user} may not run {place.shown}: {access.error}"
        yield "llama_binary_service_user_inaccessible", said
    else:
        yield "llama_binary_ok", f"llama-server is {place.shown}"


@BACKEND.check(
    {"llama_binary_probe_failed": ERROR, "llama_binary_probe_ok": INFO},
    inspects="`llama-server --help`, run as the account",
    remedy="Install a build for this processor and this system's libraries (`ldd {binary}` names missing ones)",
    strict=True,
)
def binary_probe(facts: Facts) -> Found:
    backend = facts.backend
    if backend is None or backend.probe is None or _is_blocked(facts, "binary"):
        return
    if backend.probe.is_ok:
        yield "llama_binary_probe_ok", f"{backend.binary.path} starts"
    else:
        yield "llama_binary_probe_failed", f"llama-server does not start: {backend.probe.error}"


@BACKEND.check(
    {"llama_binary_launch_flags_unsupported": ERROR, "llama_binary_launch_flags_ok": INFO},
    inspects="every generated flag, and those of `extraArgs`, in the program's help",
    remedy="Install a current llama-server, or remove the flag where it comes from `extraArgs`",
    strict=True,
)
def binary_flags(facts: Facts) -> Found:
    backend = facts.backend
    if backend is None or backend.probe is None or not backend.probe.is_ok:
        return
    missing = backend.unsupported_flags
    if missing:
        more = ", ..." if len(missing) > MAX_NAMED_FLAGS else ""
        named = ", ".join(missing[:MAX_NAMED_FLAGS]) + more
        yield "llama_binary_launch_flags_unsupported", f"This llama-server does not know {named}"
    else:
        yield "llama_binary_launch_flags_ok", f"This llama-server knows all {len(backend.flags)} flags of its unit"


def _is_blocked(facts: Facts, name: str) -> bool:
    access = facts.backend.access.get(name) if facts.backend else None
    return access is not None and access.status == "blocked"


@BACKEND.check(
    {
        "cache_prompt_disabled": WARN,
        "llama_continuous_batching_disabled": WARN,
        "llama_warmup_disabled": WARN,
        "llama_endpoints_disabled": WARN,
    },
    inspects="switches of `launchProfile`: cachePrompt, continuousBatching, warmup, enableMetrics, exposeSlots",
    remedy="Set it to true in model.adapter.launchProfile",
)
def launch_switches(facts: Facts) -> Found:
    launch, adapter = _launch(facts), _http(facts)
    if launch is None or not isinstance(adapter, LlamaCppAdapter):
        return
    if not launch.cache_prompt or not adapter.cache_prompt:
        yield "cache_prompt_disabled", "cachePrompt is off: what two prompts share is read twice"
    if not launch.continuous_batching:
        yield (
            "llama_continuous_batching_disabled",
            "continuousBatching is off: a request waits for a whole batch to end",
        )
    if not launch.warmup:
        yield "llama_warmup_disabled", "warmup is off: the first request pays for loading the model"
    if not (launch.enable_metrics and launch.expose_slots):
        yield "llama_endpoints_disabled", "enableMetrics or exposeSlots is off: Ray sees less of the backend"


@BACKEND.check(
    {
        "cache_ram_implicit": WARN,
        "cache_ram_unbounded": WARN,
        "cache_idle_slots_without_cache_ram": WARN,
        "cache_ram_high_for_small_vps": WARN,
        "cache_idle_slots_without_unified_kv": WARN,
    },
    inspects="`launchProfile.cacheRamMiB` and `cacheIdleSlots`, while the prefix store is off",
    remedy="Set cacheRamMiB to a figure that fits (512 on a 4 GB machine), with cacheIdleSlots and enableUnifiedKv on, "
    "or to 0 with cacheIdleSlots off",
)
def prompt_cache(facts: Facts) -> Found:
    launch = _launch(facts)
    if launch is None:
        return
    cache, has_store = launch.cache_ram_mib, facts.settings.loaded.config.prefix_store.enabled
    if cache is None and not has_store:
        yield "cache_ram_implicit", "cacheRamMiB is not set: llama-server is started without a prompt cache"
    elif cache == -1:
        yield "cache_ram_unbounded", "llama-server's prompt cache has no limit"
    elif cache == 0 and launch.cache_idle_slots and not has_store:
        yield "cache_idle_slots_without_cache_ram", "Idle slots are to be kept in a prompt cache of 0 MiB"
    elif cache is not None and cache > LARGE_SMALL_CACHE_MIB and launch.preset in SMALL_PRESETS:
        yield "cache_ram_high_for_small_vps", f"A prompt cache of {cache:,} MiB is large for a 4 GB machine"
    if launch.cache_idle_slots and not launch.enable_unified_kv and not has_store:
        yield "cache_idle_slots_without_unified_kv", "cacheIdleSlots has no effect without enableUnifiedKv"


@BACKEND.check(
    {"scheduler_exceeds_parallel": WARN},
    inspects="`scheduler.concurrency` against `launchProfile.parallel`",
    remedy="Lower RAY_SCHEDULER_CONCURRENCY to the number of slots",
)
def slots(facts: Facts) -> Found:
    launch, running = _launch(facts), facts.settings.loaded.config.scheduler.concurrency
    if launch is not None and running > launch.parallel:
        yield "scheduler_exceeds_parallel", f"{running} requests run side by side on {launch.parallel} slots"


@BACKEND.check(
    {"llama_threads_exceed_host_cpu": WARN},
    inspects="`launchProfile.threads` and `threadsBatch` against the processors",
    remedy="Lower RAY_LLAMA_CPP_THREADS and RAY_LLAMA_CPP_THREADS_BATCH",
)
def threads(facts: Facts) -> Found:
    launch, have = _launch(facts), facts.machine.cpu_count
    if launch is None:
        return
    wanted = max(launch.threads, launch.threads_batch or 0)
    if wanted > have:
        yield "llama_threads_exceed_host_cpu", f"llama-server computes with {wanted} threads on {have} processors"


@BACKEND.check(
    {"ctx_per_slot_high": WARN, "cax11_parallel_high": WARN, "ctx_per_slot_tight": WARN},
    inspects="`launchProfile.ctxSize` divided by `parallel`, against `model.maxOutputTokens`",
    remedy="Change RAY_LLAMA_CPP_CTX_SIZE or RAY_LLAMA_CPP_PARALLEL: a slot should hold at least two of the longest "
    "answers and less than 4096 tokens, and a CAX11 one slot",
)
def context_per_slot(facts: Facts) -> Found:
    launch, longest = _launch(facts), facts.settings.loaded.config.model.max_output_tokens
    if launch is None:
        return
    tokens = launch.ctx_size // launch.parallel
    if tokens >= LARGE_SLOT_TOKENS:
        yield "ctx_per_slot_high", f"A slot has {tokens:,} tokens of context, which takes long to fill on this class"
    if launch.preset == "single-vps-sub1b-cax11" and launch.parallel > 1:
        yield "cax11_parallel_high", f"{launch.parallel} slots share the two small cores of a CAX11"
    if tokens < 2 * longest:
        yield "ctx_per_slot_tight", f"A slot has {tokens:,} tokens of context for answers of up to {longest}"


@BACKEND.check(
    {
        "model_file_missing": ERROR,
        "model_file_unreadable": ERROR,
        "model_file_format_invalid": ERROR,
        "model_file_format_unreadable": ERROR,
        "model_file_format_ok": INFO,
    },
    inspects="the model file: there, regular, with a whole GGUF header and all of its tensors",
    remedy=STAGE_MODEL,
    strict=True,
)
def model_file(facts: Facts) -> Found:
    backend = facts.backend
    if backend is None or any(backend.model.hidden_under(roots) for roots in (HOME_PROTECTED, PRIVATE_TMP)):
        return
    place, content = backend.model, backend.model_file
    if place.status == "missing":
        yield "model_file_missing", f"There is no model at {place.path}"
    elif not place.is_file:
        yield "model_file_unreadable", f"{place.shown} {place.error or 'is not a regular file'}"
    elif content is not None and content.error is not None:
        code = "model_file_format_unreadable" if content.is_unreadable else "model_file_format_invalid"
        yield code, f"The model file is no use: {content.error}"
    elif content is not None and content.memory is not None:
        model = content.memory.model
        yield "model_file_format_ok", f"{place.shown} is a {model.architecture} model of {len(model.layers)} layers"


@BACKEND.check(
    {"model_file_service_user_inaccessible": ERROR},
    inspects="whether the account may read the model",
    remedy="`chown {user}:{group} {model} && chmod 0640 {model}`, and `chmod o+x` what is closed above it",
    strict=True,
)
def model_access(facts: Facts) -> Found:
    access = facts.backend.access.get("model") if facts.backend else None
    if facts.backend is not None and access is not None and access.status == "blocked":
        said = f"{facts.settings.user} may not read {facts.backend.model.shown}: {access.error}"
        yield "model_file_service_user_inaccessible", said
