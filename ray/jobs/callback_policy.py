"""Whether a callback URL may be called, asked twice: when a job is submitted, and afresh at each attempt.

A name is resolved once per attempt, every address is judged, and what comes out is the addresses themselves: whoever
connects needs no second lookup, which could answer differently. Reasons are coarse; an address that a name has inside
the network is told to nobody. Source: jobs, sections 10 and 17 (B8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray.config import AsyncQueueConfig
from ray.errors import RayError
from ray.jobs.addresses import AllowedHosts, is_open_port, is_public, is_this_machine, unmapped
from ray.jobs.resolver import Lookup, ResolutionFailed, Resolver, system_lookup
from ray.jobs.urls import CallbackUrl, parsed_url

MAX_ADMISSION_DNS_S = 1.0
# Two threads each, four together: a client that submits names whose servers never answer cannot keep finished jobs from
# being delivered.
_THREADS = 2

_PROBLEMS: Mapping[str, str] = {
    "https_required": "must use https here (asyncQueue.callbackRequireHttps)",
    "blocked_port": "must use port 80, 443 or 1024 to 65535, and none of the gateway's and its backend's own "
    "(asyncQueue.callbackAllowedPorts opens others)",
    "blocked_address": "leads to an address that callbacks must not reach, such as a private one "
    "(asyncQueue.callbackAllowedHosts makes exceptions)",
    "dns_failed": "has a host name without any address",
    "timeout": "has a host name that could not be resolved in time",
}


class CallbackRefused(Exception):
    """The URL must not be called. `reason`: one coarse word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CheckedTarget:
    """A URL, and the packed addresses that were judged; IPv4 inside IPv6 is unwrapped. Connect to these, by number."""

    url: CallbackUrl
    addresses: tuple[bytes, ...]


class CallbackPolicy:
    """The rules of `asyncQueue` on callbacks. `own_ports`: see `addresses.own_ports`; `lookup` is replaced in tests."""

    def __init__(
        self, settings: AsyncQueueConfig, own_ports: frozenset[int], *, lookup: Lookup = system_lookup
    ) -> None:
        self.settings = settings
        self._own_ports = own_ports
        self._allowed = AllowedHosts(settings.callback_allowed_hosts)
        self._admissions = Resolver(_THREADS, "ray-callback-dns-admission", lookup)
        self._deliveries = Resolver(_THREADS, "ray-callback-dns-delivery", lookup)

    async def check(self, value: object) -> CheckedTarget:
        """Judge the `callbackUrl` of a submission. Takes `callbackTimeoutMs` at most, and never more than 1 s.

        Raises `RayError` invalid_request with `details.reason`: invalid_url, https_required, blocked_port,
        blocked_address, dns_failed or timeout.
        """
        url = parsed_url(value)
        timeout_s = min(self.settings.callback_timeout_ms / 1000, MAX_ADMISSION_DNS_S)
        try:
            return await self._checked(url, self._admissions, timeout_s)
        except CallbackRefused as refusal:
            reason = refusal.reason
        except ResolutionFailed:
            reason = "dns_failed"
        except TimeoutError:
            reason = "timeout"
        details = {"field": "callbackUrl", "reason": reason}
        raise RayError("invalid_request", f"callbackUrl {_PROBLEMS[reason]}", details=details)

    async def resolve(self, text: str) -> CheckedTarget:
        """Judge a stored URL before an attempt; the caller keeps the deadline. Raises `CallbackRefused` and
        `ResolutionFailed`."""
        try:
            url = parsed_url(text)
        except RayError:
            raise CallbackRefused("invalid_url") from None
        return await self._checked(url, self._deliveries, None)

    def close(self) -> None:
        """End the threads that look names up."""
        self._admissions.close()
        self._deliveries.close()

    async def _checked(self, url: CallbackUrl, resolver: Resolver, timeout_s: float | None) -> CheckedTarget:
        settings = self.settings
        if settings.callback_require_https and url.scheme != "https":
            raise CallbackRefused("https_required")
        if not is_open_port(url.port, self._own_ports, settings.callback_allowed_ports):
            raise CallbackRefused("blocked_port")
        found = (url.address,) if url.address is not None else await resolver.resolve(url.host, timeout_s)
        target = CheckedTarget(url, tuple(dict.fromkeys(unmapped(address) for address in found)))
        # One of Ray's own ports is opened for a receiver elsewhere, never for Ray calling itself.
        if url.port in self._own_ports and any(is_this_machine(address) for address in target.addresses):
            raise CallbackRefused("blocked_port")
        trusted = settings.callback_allow_private_network or url in self._allowed
        if not trusted and not all(is_public(address) for address in target.addresses):
            raise CallbackRefused("blocked_address")
        return target
