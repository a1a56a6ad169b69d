"""What the config says about exposure, keys, and behaviour under load. Nothing of the host is needed for it."""

from __future__ import annotations

from ray.config import is_loopback, resolve_api_keys
from ray.deploy.checks.catalogue import ERROR, WARN, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.private_network import private_network
from ray.deploy.variables import DEPLOY_VARIABLES, MIN_FREE_VARIABLE, STAGING_VARIABLES
from ray.errors import RayError

POSTURE = Catalogue()
# Those that no service reads.
_FOR_THESE_COMMANDS = {name for name, *_ in (*DEPLOY_VARIABLES, *STAGING_VARIABLES)}


@POSTURE.check(
    {"deploy_min_free_storage_invalid": ERROR},
    inspects=f"`{MIN_FREE_VARIABLE}`",
    remedy=f"Set {MIN_FREE_VARIABLE} to a whole number of MiB from 0 to 1048576, or remove it for 1024",
)
def free_storage_cushion(facts: Facts) -> Found:
    if facts.settings.min_free_problem:
        yield "deploy_min_free_storage_invalid", f"{MIN_FREE_VARIABLE} {facts.settings.min_free_problem}"


@POSTURE.check(
    {"environment_leaks": WARN},
    inspects="settings of the gateway (`RAY_*`) in this shell that are not in the env file",
    remedy="Put them into {env_file}, or run this command without them (`env -u NAME …`)",
)
def shell_variables(facts: Facts) -> Found:
    settings = facts.settings
    names = set(settings.leaked_variables) - _FOR_THESE_COMMANDS
    if settings.env_file is None:
        names.discard(settings.loaded.config.auth.api_key_env)  # other findings speak of keys without a file
    if names:
        listed = ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "")
        yield (
            "environment_leaks",
            f"This shell sets {listed}: they shape this result, but the service will not see them",
        )


@POSTURE.check(
    {"auth_disabled": WARN},
    inspects="`auth.enabled`",
    remedy="Set auth.enabled to true before anybody else can reach this gateway",
)
def auth(facts: Facts) -> Found:
    if not facts.settings.loaded.config.auth.enabled:
        yield "auth_disabled", "Anybody who reaches the gateway may use it: auth is off"


@POSTURE.check(
    {"auth_keys_unverified": WARN, "auth_keys_missing": ERROR},
    inspects="the API keys in the variable that `auth.apiKeyEnv` names",
    remedy="Write {key_variable}=KEY into {env_file}; `openssl rand -hex 32` makes a key, commas separate several",
)
def auth_keys(facts: Facts) -> Found:
    settings = facts.settings
    config = settings.loaded.config
    try:
        resolve_api_keys(config, settings.environ)
    except RayError as error:
        is_blank = not settings.environ.get(config.auth.api_key_env, "").strip()
        if settings.keys_deferred and is_blank:
            said = f"The keys, and overrides of settings, in {settings.systemd_env_file} were not read"
            yield "auth_keys_unverified", said
        else:
            yield "auth_keys_missing", str(error)


@POSTURE.check(
    {"env_file_missing": WARN},
    inspects="whether an env file is named while `auth.enabled` is on",
    remedy="Name it with --env-file (--systemd-env-file when it cannot be read here), for example {env_file}",
)
def env_file_named(facts: Facts) -> Found:
    if facts.settings.loaded.config.auth.enabled and facts.settings.env_file_path is None:
        yield "env_file_missing", "No env file is named, so the service would start without API keys"


@POSTURE.check(
    {"graceful_degradation_disabled": WARN, "graceful_degradation_token_clamp_ineffective": WARN},
    inspects="`gracefulDegradation`: on, and its token limit below `model.maxOutputTokens`",
    remedy="Set gracefulDegradation.enabled to true and degradeToMaxTokens below model.maxOutputTokens",
)
def graceful_degradation(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    clamp, most = config.graceful_degradation.degrade_to_max_tokens, config.model.max_output_tokens
    if not config.graceful_degradation.enabled:
        yield "graceful_degradation_disabled", "Under pressure, requests will fail instead of being shortened"
    elif clamp >= most:
        said = f"Under pressure nothing gets shorter: degradeToMaxTokens is {clamp}, maxOutputTokens {most}"
        yield "graceful_degradation_token_clamp_ineffective", said


@POSTURE.check(
    {"prompt_compiler_disabled": WARN},
    inspects="`promptCompiler.enabled`",
    remedy="Set promptCompiler.enabled to true",
)
def prompt_compiler(facts: Facts) -> Found:
    if not facts.settings.loaded.config.prompt_compiler.enabled:
        yield "prompt_compiler_disabled", "Prompts are passed on untidied, which costs tokens and shared prefixes"


@POSTURE.check(
    {
        "adaptive_tuning_disabled": WARN,
        "adaptive_output_reduction_disabled": WARN,
        "adaptive_min_output_tokens_ineffective": WARN,
        "adaptive_learned_caps_disabled": WARN,
    },
    inspects="`adaptiveTuning`, in profiles other than `tiny`",
    remedy="In adaptiveTuning set enabled and learnedFamilyCapEnabled to true, maxOutputReductionRatio above 0, and "
    "minOutputTokens below model.maxOutputTokens",
)
def adaptive_tuning(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    tuning = config.adaptive_tuning
    if config.profile == "tiny":
        return
    if not tuning.enabled:
        yield "adaptive_tuning_disabled", "Answers are not adapted to the speed of this machine"
        return
    if tuning.max_output_reduction_ratio <= 0:
        yield "adaptive_output_reduction_disabled", "Adaptive tuning may not shorten anything: its ratio is 0"
    if tuning.min_output_tokens >= config.model.max_output_tokens:
        said = "Adaptive tuning cannot shorten anything: minOutputTokens is not below model.maxOutputTokens"
        yield "adaptive_min_output_tokens_ineffective", said
    if not tuning.learned_family_cap_enabled:
        yield "adaptive_learned_caps_disabled", "What families of prompts really need is not learned"


@POSTURE.check(
    {"scheduler_dedupe_disabled": WARN},
    inspects="`scheduler.dedupeInflight`",
    remedy="Set scheduler.dedupeInflight to true",
)
def dedupe(facts: Facts) -> Found:
    if not facts.settings.loaded.config.scheduler.dedupe_inflight:
        yield "scheduler_dedupe_disabled", "Equal requests that arrive together are each generated"


@POSTURE.check(
    {"cache_disabled": WARN, "cache_key_ignores_generation_params": WARN},
    inspects="`cache`: on, with a key that has the sampling settings in it",
    remedy="Set cache.enabled to true and cache.keyStrategy to input+params",
)
def cache(facts: Facts) -> Found:
    settings = facts.settings.loaded.config.cache
    if not settings.enabled:
        yield "cache_disabled", "Requests that repeat are generated again: the cache is off"
    elif settings.key_strategy == "input":
        said = "Requests that differ only in maxTokens, temperature or topP get each other's answers"
        yield "cache_key_ignores_generation_params", said


@POSTURE.check(
    {"gateway_bind_host_private": WARN, "gateway_bind_host_public": ERROR},
    inspects="`server.host`",
    remedy="Set server.host (RAY_HOST) to 127.0.0.1 and let Caddy face the network. Only a node of a pool listens on "
    "its address in a private network, one that is yours alone and better encrypted; with --proxy-address "
    "(RAY_DEPLOY_PROXY_ADDRESS) nobody but that Caddy can connect",
)
def bind_address(facts: Facts) -> Found:
    host = facts.settings.loaded.config.server.host
    if is_loopback(host):
        return
    network = private_network(host)
    if network is None:
        yield "gateway_bind_host_public", f"The gateway would listen on {host}, past the proxy and its TLS"
        return
    who = ", ".join(facts.settings.proxies) or f"everybody in {network}"
    yield (
        "gateway_bind_host_private",
        f"The gateway would listen on {host} for {who}: keys, prompts and answers cross that network without TLS",
    )


@POSTURE.check(
    {"caddy_site_address_local": WARN, "caddy_site_address_http_only": WARN},
    inspects="the site address (`--domain`)",
    remedy="Pass --domain (or RAY_DEPLOY_DOMAIN) with a public DNS name, bare or with https://",
)
def site_address(facts: Facts) -> Found:
    domain = facts.settings.domain
    # Private use is what a config without auth is for.
    if not facts.proxy:
        return
    if domain.is_local:
        yield "caddy_site_address_local", f"The site address {domain.text} cannot be reached from the internet"
    elif domain.scheme == "http":
        yield "caddy_site_address_http_only", f"The site address {domain.text} carries API keys without TLS"


@POSTURE.check(
    {"service_user_root": WARN},
    inspects="the account of the services (`--user`)",
    remedy="Use an account of its own: `useradd --system --home {cwd} --shell /usr/sbin/nologin ray`, then --user ray",
)
def service_user_is_root(facts: Facts) -> Found:
    account = facts.installation.account if facts.installation else None
    if facts.settings.user in ("root", "0") or (account is not None and account.uid == 0):
        yield "service_user_root", "The services would run as root"
