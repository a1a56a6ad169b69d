"""What a llama-server can do, read from `/props` and one trial of `/apply-template`.

Read once a minute at most, by one caller at a time, and again when the server turns out to be another one. Nothing
here raises: what could not be read is `unknown`, with the reason in `errors`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ray.errors import RayError
from ray.providers.reading import count, mapping, text
from ray.providers.upstream import Upstream, upstream_status
from ray.types import Availability

PROPS_TIMEOUT_MS = 5_000
TEMPLATE_TIMEOUT_MS = 2_500
MAX_AGE_SECONDS = 60.0
# Build and model file: another pair means another server, for which nothing remembered holds.
Fingerprint = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """One reading. `context_window`: tokens per request, None when the server did not say; `slot_window`: the same as
    the server says it, unclamped. `instance`: another value means a restarted server, None on builds without such a
    mark. `props_error`: why `/props` could not be read; `template_error`: why `/apply-template` could not be used."""

    apply_template: Availability = "unknown"
    chat_template: Availability = "unknown"
    backend_model: str | None = None
    context_window: int | None = None
    total_slots: int | None = None
    has_slots_endpoint: bool = False
    is_sleeping: bool = False
    fingerprint: Fingerprint | None = None
    instance: str | None = None
    model_ftype: str | None = None
    slot_window: int | None = None
    adapters: str | None = None
    props_error: RayError | None = None
    template_error: RayError | None = None

    @property
    def errors(self) -> tuple[str, ...] | None:
        """Messages of what failed, for people."""
        messages = []
        if self.props_error is not None:
            messages.append(f"props: {self.props_error.message}")
        if self.template_error is not None:
            messages.append(f"applyTemplate: {self.template_error.message}")
        return tuple(messages) or None


class CapabilityReader:
    """Reads and remembers. `on_new_backend` is called when the server behind the URL was exchanged."""

    def __init__(self, upstream: Upstream, context_window: int, on_new_backend: Callable[[], None]) -> None:
        """`context_window`: the configured window, the most that is believed."""
        self._upstream = upstream
        self._context_window = context_window
        self._on_new_backend = on_new_backend
        self._known: Capabilities | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[Capabilities] | None = None
        self._fingerprint: Fingerprint | None = None
        self._template: Availability = "unknown"
        self._template_error: RayError | None = None
        self._template_tried_at = 0.0

    async def get(self) -> Capabilities:
        """The remembered reading if it is at most a minute old, else a new one."""
        if self._known is not None and time.monotonic() - self._read_at < MAX_AGE_SECONDS:
            return self._known
        return await self.refresh()

    async def refresh(self) -> Capabilities:
        """A new reading; callers at the same time share one."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._finished)
        # Shielded: a caller that leaves does not take the reading away from the others.
        return await asyncio.shield(self._reading)

    def drop(self) -> None:
        """Forget: a call has failed, so the server may have gone, or come back as another one."""
        self._known = None

    async def close(self) -> None:
        """Wait for a reading under way; the upstream is closed already, so that takes no time."""
        if self._reading is not None:
            await asyncio.wait([self._reading])

    def _finished(self, _: asyncio.Task[Capabilities]) -> None:
        self._reading = None

    async def _read(self) -> Capabilities:
        try:
            props = mapping(await self._upstream.call("GET", "/props", timeout_ms=PROPS_TIMEOUT_MS))
            if not props:
                raise self._upstream.invalid("/props", "is not a JSON object")
        except RayError as error:
            self._known = None
            return Capabilities(apply_template=self._template, props_error=error)
        reading = read_props(props, self._context_window)
        if reading.fingerprint != self._fingerprint:
            self._renew(reading.fingerprint)
        if reading.chat_template == "available" and not reading.is_sleeping:
            await self._try_template()
        reading = replace(reading, apply_template=self._template, template_error=self._template_error)
        self._known, self._read_at = reading, time.monotonic()
        return reading

    def _renew(self, fingerprint: Fingerprint | None) -> None:
        is_other = self._fingerprint is not None
        self._fingerprint = fingerprint
        self._template, self._template_error, self._template_tried_at = "unknown", None, 0.0
        if is_other:
            self._on_new_backend()

    async def _try_template(self) -> None:
        """Render one word, once per server if it works, once a minute if it does not. It would wake a sleeping one."""
        now = time.monotonic()
        tried_lately = self._template_tried_at > 0 and now - self._template_tried_at < MAX_AGE_SECONDS
        if self._template == "available" or tried_lately:
            return
        self._template_tried_at = now
        body = {"messages": [{"role": "user", "content": "ping"}]}
        try:
            answer = mapping(await self._upstream.call("POST", "/apply-template", body, timeout_ms=TEMPLATE_TIMEOUT_MS))
            if text(answer.get("prompt")) is None:
                raise self._upstream.invalid("/apply-template", "has no prompt")
        except RayError as error:
            # Only an answer proves that the endpoint cannot be used; silence proves nothing.
            answered = error.code == "provider_invalid_response" or upstream_status(error) not in (None, 503)
            self._template = "unavailable" if answered else "unknown"
            self._template_error = error
        else:
            self._template, self._template_error = "available", None


def read_props(props: Mapping[str, object], context_window: int) -> Capabilities:
    """What `/props` of today's llama-server says. `context_window`: the most tokens that are believed."""
    settings = mapping(props.get("default_generation_settings"))
    window = count(settings.get("n_ctx"), context_window)
    build, path = text(props.get("build_info")), text(props.get("model_path"), 4_096)
    return Capabilities(
        chat_template="available" if text(props.get("chat_template")) else "unavailable",
        backend_model=text(props.get("model_alias")) or text(settings.get("model")),
        context_window=window or context_window,
        total_slots=count(props.get("total_slots")),
        has_slots_endpoint=props.get("endpoint_slots") is True,
        is_sleeping=props.get("is_sleeping") is True,
        fingerprint=(build, path),
        # llama-server makes this mark up at every start, so that no prompt can contain it by accident.
        instance=text(props.get("media_marker")),
        model_ftype=text(props.get("model_ftype")),
        slot_window=count(settings.get("n_ctx")),
        adapters=text(json.dumps(mapping(settings.get("params")).get("lora"), sort_keys=True), 4_096),
    )
