"""The prefix store: in use, usable by this backend, and with a directory of its own."""

from __future__ import annotations

from ray.config import LlamaCppAdapter
from ray.deploy.checks.catalogue import ERROR, INFO, WARN, WORSE_ON_HOST, Catalogue, Found
from ray.deploy.checks.jobs import hidden_storage
from ray.deploy.facts import Facts
from ray.deploy.output import mib
from ray.deploy.sizing import launch_profile

PREFIXES = Catalogue()
STEM = "prefix_store_storage"
USE_ANOTHER = "Use /var/lib/ray/prefixes (RAY_PREFIX_STORE_STORAGE_DIR)"


@PREFIXES.check(
    {"prefix_store_off": INFO},
    inspects="`prefixStore.enabled` with a launched llama-server",
    remedy="Set prefixStore.enabled to true when prompts share long beginnings",
    strict=True,
)
def prefix_store_in_use(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    if launch_profile(config) is not None and not config.prefix_store.enabled:
        yield (
            "prefix_store_off",
            "Prompt prefixes are not kept on disk; prefixStore.enabled would spare reading them again",
        )


@PREFIXES.check(
    {"prefix_store_unsupported": WARN},
    inspects="whether this backend can use the prefix store that is on",
    remedy="Use the llama.cpp adapter with cachePrompt on, in the adapter and in its launchProfile, or set "
    "prefixStore.enabled to false",
)
def prefix_store_support(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    adapter = config.model.adapter
    if not config.prefix_store.enabled:
        return
    if not isinstance(adapter, LlamaCppAdapter):
        yield "prefix_store_unsupported", f"The prefix store is on, and a backend of kind {adapter.kind} has none"
    elif not adapter.cache_prompt or (adapter.launch_profile is not None and not adapter.launch_profile.cache_prompt):
        yield "prefix_store_unsupported", "The prefix store is on, and cachePrompt is off, so it is never used"


@PREFIXES.check(
    {"prefix_store_switched_off": WARN},
    inspects="`prefixStore` in the health of the gateway that runs here already",
    remedy="Do what it says and restart both services, or set prefixStore.enabled to false",
    strict=True,
)
def prefix_store_running(facts: Facts) -> Found:
    if facts.store_verdict is not None:
        yield "prefix_store_switched_off", f"The running gateway does not use its prefix store: {facts.store_verdict}"


@PREFIXES.check(
    {"prefix_store_sliding_window": WARN},
    inspects="whether the layers of the model look back over a window only (as Gemma's do)",
    remedy="Add --swa-full to launchProfile.extraArgs (`python3 -m ray.deploy fit` says how much memory it takes), "
    "or set prefixStore.enabled to false",
)
def prefix_store_and_window(facts: Facts) -> Found:
    content = facts.backend.model_file if facts.backend else None
    if content is None or content.memory is None or not facts.settings.loaded.config.prefix_store.enabled:
        return
    memory = content.memory
    if memory.model.window and not memory.server.full_window:
        said = (
            f"This {memory.model.architecture} model keeps only the last {memory.model.window:,} tokens in some "
            "layers: the store will find its prefixes incomplete and switch itself off"
        )
        yield "prefix_store_sliding_window", said


@PREFIXES.check(
    {f"{STEM}_volatile": WARN, f"{STEM}_home_protected": ERROR, f"{STEM}_protect_system_readonly": ERROR},
    inspects="where `prefixStore.storageDir` lies",
    remedy=USE_ANOTHER,
)
def prefix_directory_place(facts: Facts) -> Found:
    yield from hidden_storage(STEM, facts.backend.prefixes if facts.backend else None, "Prompt prefixes")


@PREFIXES.check(
    {
        f"{STEM}_not_directory": WORSE_ON_HOST,
        f"{STEM}_unreadable": WORSE_ON_HOST,
        f"{STEM}_service_user_inaccessible": ERROR,
        f"{STEM}_open": WARN,
        f"{STEM}_low": WARN,
        f"{STEM}_ok": INFO,
    },
    inspects="the directory of `prefixStore.storageDir`: writable by the account, closed to others, with room",
    remedy="`install -d -m 0700 -o {user} -g {group} {prefixes}`, on a disk with room for prefixStore.maxMiB",
)
def prefix_directory(facts: Facts) -> Found:
    room = facts.backend.prefixes if facts.backend else None
    access = facts.backend.access.get("prefixes") if facts.backend else None
    most = facts.settings.loaded.config.prefix_store.max_mib
    if room is None:
        return
    if room.place.status == "found" and not room.place.is_directory:
        yield f"{STEM}_not_directory", f"{room.path} cannot be a directory: {room.place.shown} is something else"
    elif room.available_mib is None:
        yield f"{STEM}_unreadable", f"{room.path} cannot be looked at: {room.error}"
    elif access is not None and access.status == "blocked":
        said = f"{facts.settings.user} may not write into {room.path}: {access.error}"
        yield f"{STEM}_service_user_inaccessible", said
    elif room.exists and room.place.mode & 0o077:
        yield f"{STEM}_open", f"{room.place.shown} has mode {room.place.mode:04o}: others may read what prompts say"
    elif room.available_mib < most:
        yield f"{STEM}_low", f"{room.place.shown} has {mib(room.available_mib)} free for up to {mib(most)} of prefixes"
    else:
        yield f"{STEM}_ok", f"Prompt prefixes go to {room.path}, with {mib(room.available_mib)} free"
