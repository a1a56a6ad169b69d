"""Whether what the gateway may hold fits its share of the machine."""

from __future__ import annotations

from ray.config import is_loopback
from ray.deploy.checks.catalogue import WARN, WORSE_ON_HOST, Catalogue, Found
from ray.deploy.facts import Facts
from ray.deploy.output import mib
from ray.deploy.private_network import private_network
from ray.deploy.sizing import GatewayShare, gateway_shares, reserve

BUDGETS = Catalogue()


@BUDGETS.check(
    {"log_level_suppresses_operational_warnings": WARN},
    inspects="`telemetry.logLevel`",
    remedy="Set RAY_LOG_LEVEL to info or warn",
)
def log_level(facts: Facts) -> Found:
    if facts.settings.loaded.config.telemetry.log_level == "error":
        yield "log_level_suppresses_operational_warnings", "Warnings about load, storage and the backend are not logged"


@BUDGETS.check(
    {"rate_limit_disabled": WARN},
    inspects="`rateLimit.enabled`",
    remedy="Set rateLimit.enabled to true",
)
def rate_limit(facts: Facts) -> Found:
    if not facts.settings.loaded.config.rate_limit.enabled:
        yield "rate_limit_disabled", "One client may use up everything: there is no rate limit"


@BUDGETS.check(
    {"rate_limit_api_key_strategy_without_auth": WARN},
    inspects="`rateLimit.keyStrategy` with `auth.enabled` off",
    remedy="Turn auth on, or set rateLimit.keyStrategy to ip",
)
def rate_limit_by_key(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    if config.rate_limit.enabled and "api-key" in config.rate_limit.key_strategy and not config.auth.enabled:
        yield (
            "rate_limit_api_key_strategy_without_auth",
            "The rate limit tells clients apart by keys, and there are none",
        )


@BUDGETS.check(
    {"rate_limit_proxy_headers_public_bind": WARN, "rate_limit_proxy_headers_disabled": WARN},
    inspects="`rateLimit.trustProxyHeaders` against `server.host`",
    remedy="Behind a proxy bind 127.0.0.1, or name its machine with --proxy-address (RAY_DEPLOY_PROXY_ADDRESS), and "
    "set rateLimit.trustProxyHeaders to true; without one set it to false",
)
def rate_limit_by_address(facts: Facts) -> Found:
    config = facts.settings.loaded.config
    if not config.rate_limit.enabled or "ip" not in config.rate_limit.key_strategy.split("+"):
        return
    is_node = private_network(config.server.host) is not None
    only_proxies = is_loopback(config.server.host) or (is_node and bool(facts.settings.proxies))
    if config.rate_limit.trust_proxy_headers and not only_proxies:
        yield "rate_limit_proxy_headers_public_bind", "Clients that connect directly may claim any address they like"
    elif not config.rate_limit.trust_proxy_headers and (only_proxies or is_node):
        yield "rate_limit_proxy_headers_disabled", "All clients share one limit: the proxy's address stands for them"


def _share(facts: Facts, name: str) -> GatewayShare:
    return next(share for share in gateway_shares(facts.settings.loaded.config) if share.name == name)


def _high(facts: Facts, code: str, share: GatewayShare) -> Found:
    if share.is_high:
        said = (
            f"The {share.name} may take {mib(share.estimate_mib)} of the gateway's memory; {mib(share.limit_mib)} fit"
        )
        yield code, said


@BUDGETS.check(
    {"rate_limit_key_store_high_for_gateway_memory": WARN},
    inspects="`rateLimit.maxKeys` at 2 KiB each",
    remedy="Lower RAY_RATE_LIMIT_MAX_KEYS",
)
def rate_limit_memory(facts: Facts) -> Found:
    if facts.settings.loaded.config.rate_limit.enabled:
        yield from _high(facts, "rate_limit_key_store_high_for_gateway_memory", _share(facts, "rate-limit keys"))


@BUDGETS.check(
    {"cache_max_bytes_high_for_gateway_memory": WARN},
    inspects="`cache.maxBytes`",
    remedy="Lower RAY_CACHE_MAX_BYTES",
)
def cache_memory(facts: Facts) -> Found:
    if facts.settings.loaded.config.cache.enabled:
        yield from _high(facts, "cache_max_bytes_high_for_gateway_memory", _share(facts, "cache"))


@BUDGETS.check(
    {"scheduler_token_buffer_high_for_gateway_memory": WARN},
    inspects="`scheduler.maxQueuedTokens` and `maxInflightTokens`",
    remedy="Lower RAY_SCHEDULER_MAX_QUEUED_TOKENS or RAY_SCHEDULER_MAX_INFLIGHT_TOKENS",
)
def scheduler_memory(facts: Facts) -> Found:
    yield from _high(facts, "scheduler_token_buffer_high_for_gateway_memory", _share(facts, "scheduler tokens"))


@BUDGETS.check(
    {"request_body_buffer_high_for_gateway_memory": WARN},
    inspects="`server.requestBodyLimitBytes` for every request that may wait or run",
    remedy="Lower RAY_REQUEST_BODY_LIMIT_BYTES or RAY_SCHEDULER_MAX_QUEUE",
)
def body_memory(facts: Facts) -> Found:
    yield from _high(facts, "request_body_buffer_high_for_gateway_memory", _share(facts, "request bodies"))


@BUDGETS.check(
    {"gateway_memory_max_exceeds_host_budget": WORSE_ON_HOST},
    inspects="the gateway's `MemoryMax=` against this machine's memory",
    remedy="Lower RAY_DEGRADATION_MEMORY_RSS_THRESHOLD_MIB, or take a larger machine",
)
def gateway_memory(facts: Facts) -> Found:
    if facts.sizing.gateway_exceeds_host:
        host = facts.sizing.host_mib
        said = (
            f"The gateway may take {mib(facts.sizing.gateway.max_mib)}; this machine has {mib(host)}, of which "
            f"{mib(reserve(host))} are the system's"
        )
        yield "gateway_memory_max_exceeds_host_budget", said


@BUDGETS.check(
    {"scheduler_concurrency_exceeds_host_cpu": WARN},
    inspects="`scheduler.concurrency` against the processors",
    remedy="Lower RAY_SCHEDULER_CONCURRENCY",
)
def concurrency(facts: Facts) -> Found:
    wanted, have = facts.settings.loaded.config.scheduler.concurrency, facts.machine.cpu_count
    if wanted > have:
        yield "scheduler_concurrency_exceeds_host_cpu", f"{wanted} requests run side by side on {have} processors"
