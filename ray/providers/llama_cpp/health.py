"""The honest health of a llama-server, from `/health`, `/props` and, where offered, `/slots`."""

from __future__ import annotations

import asyncio
import time

from ray.clock import iso_now
from ray.config import LlamaCppAdapter
from ray.errors import RayError
from ray.providers.llama_cpp.capabilities import Capabilities, CapabilityReader
from ray.providers.llama_cpp.slots import SlotReader, SlotSnapshot
from ray.providers.reading import mapping, text
from ray.providers.upstream import Upstream, is_loading, upstream_status
from ray.types import DetectedCapabilities, Health, ProviderStatus, as_json

HEALTH_TIMEOUT_MS = 5_000
# The failures that mean that nobody answered.
_SILENT = frozenset({"provider_request_failed", "provider_timeout", "request_timeout"})
_PROBE = "/health + /props"
_PROBE_WITH_SLOTS = "/health + /props + /slots"


class HealthProbe:
    """Asks one server. `template_expected`: the config says that the model has a chat template."""

    def __init__(
        self,
        upstream: Upstream,
        capabilities: CapabilityReader,
        slots: SlotReader,
        adapter: LlamaCppAdapter,
        *,
        preference: str | None,
        template_expected: bool,
    ) -> None:
        self._upstream = upstream
        self._capabilities = capabilities
        self._slots = slots
        self._adapter = adapter
        self._preference = preference
        self._template_expected = template_expected

    async def run(self) -> Health:
        """One reading. Never raises."""
        started = time.monotonic()
        failure, found = await asyncio.gather(self._ask(), self._capabilities.refresh())
        snapshot = SlotSnapshot()
        if failure is not None:
            self._slots.read_soon()
        # Asking for slots wakes a sleeping server, and one without the endpoint need not be asked.
        elif found.has_slots_endpoint and not found.is_sleeping:
            snapshot = await self._slots.snapshot()
        status, message = judge(failure, found, self._template_expected)
        return Health(
            status,
            checked_at=iso_now(),
            latency_ms=round((time.monotonic() - started) * 1000, 3),
            detected_capabilities=self._detected(found),
            details=self._details(failure, found, snapshot, message),
            restarts=self._slots.restarts,
        )

    async def _ask(self) -> RayError | None:
        """What `/health` has to say against this server; None when it is well."""
        try:
            answer = await self._upstream.call("GET", "/health", timeout_ms=HEALTH_TIMEOUT_MS)
        except RayError as error:
            return error
        said = text(mapping(answer).get("status"))
        if said is not None and "loading" in said.lower():
            return RayError("provider_upstream_error", "the model backend is still loading its model", status=503)
        return None

    def _detected(self, found: Capabilities) -> DetectedCapabilities:
        profile = self._adapter.launch_profile
        return DetectedCapabilities(
            apply_template=found.apply_template,
            chat_template=found.chat_template,
            # Every llama-server holds an answer to a JSON object by a grammar; nothing needs to be tried out.
            json_mode="unknown" if found.fingerprint is None else "available",
            model_ref=self._adapter.model_ref,
            backend_model=found.backend_model,
            launch_preset=profile.preset if profile else None,
            context_window=found.context_window,
            total_slots=found.total_slots,
            prompt_format_preference=self._preference,
            errors=found.errors,
        )

    def _details(
        self, failure: RayError | None, found: Capabilities, snapshot: SlotSnapshot, message: str | None
    ) -> dict[str, object]:
        slots = snapshot.slots
        busy = None if slots is None else sum(slot.is_processing for slot in slots)
        details: dict[str, object | None] = {
            "probe": _PROBE if slots is None else _PROBE_WITH_SLOTS,
            "message": message,
            "modelRef": self._adapter.model_ref,
            "slotsIdle": None if slots is None or busy is None else len(slots) - busy,
            "slotsProcessing": busy,
            "slots": None if slots is None else as_json(slots),
            "totalSlots": found.total_slots,
            "contextWindow": found.context_window,
            "backendModel": found.backend_model,
            "applyTemplate": found.apply_template,
            "chatTemplate": found.chat_template,
            "sleeping": True if found.is_sleeping else None,
            "healthError": None if failure is None else failure.message,
            "capabilitiesError": None if found.errors is None else "; ".join(found.errors),
            "slotsError": snapshot.error,
        }
        return {name: value for name, value in details.items() if value is not None}


def judge(failure: RayError | None, found: Capabilities, template_expected: bool) -> tuple[ProviderStatus, str | None]:
    """The status and, when it is not plainly ready, why. `failure`: what `/health` had to say.

    All slots being busy is no illness: how much may wait is decided elsewhere.
    """
    props = found.props_error
    if failure is not None and (failure.status == 503 or is_loading(failure) or upstream_status(failure) == 503):
        return "warming", "the backend is loading its model"
    if failure is not None and upstream_status(failure) is None and failure.code in _SILENT:
        return "unavailable", failure.message
    if props is not None and upstream_status(props) in (401, 403):
        return "unavailable", (
            "the backend refuses the API key: set model.adapter.apiKeyEnv to the variable that holds its key"
        )
    if props is not None and (is_loading(props) or upstream_status(props) == 503):
        return "warming", "the backend is loading its model"
    if failure is not None:
        return ("unavailable" if props is not None else "degraded"), failure.message
    if props is not None:
        return "degraded", f"the backend's /props cannot be read: {props.message}"
    if template_expected and "unavailable" in (found.apply_template, found.chat_template):
        return "degraded", "the chat template that the configuration expects is not available on the backend"
    return "ready", "the backend sleeps and wakes up with the next request" if found.is_sleeping else None
