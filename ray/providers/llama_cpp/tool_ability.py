"""Whether a llama-server shows tools to its model. It does not say so itself: a chat template that knows nothing of
tools leaves them out without a word, even when a call is required. So a tool is put into a prompt and looked for."""

from __future__ import annotations

import time

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.llama_cpp.capabilities import MAX_AGE_SECONDS, TEMPLATE_TIMEOUT_MS
from ray.providers.reading import mapping
from ray.providers.refusals import TOOLS_REMEDY
from ray.providers.tool_calls import refusal
from ray.providers.upstream import Upstream, is_loading, upstream_status

_NAME = "ray_tool_check"
_TRIAL = {
    "messages": [{"role": "user", "content": "ping"}],
    "tools": [
        {
            "type": "function",
            "function": {"name": _NAME, "description": "Check.", "parameters": {"type": "object", "properties": {}}},
        }
    ],
}


class ToolAbility:
    """Tried with the first request that has tools: once per server if they are shown, once a minute if not."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._is_able = False
        self._unable_until = 0.0

    async def check(self, deadline: Deadline) -> None:
        """Raises `invalid_request` with the remedy, and `request_timeout`. A server that cannot be asked passes: it
        will not answer the request either."""
        if self._is_able:
            return
        if time.monotonic() < self._unable_until:
            raise refusal(TOOLS_REMEDY)
        try:
            answer = await self._upstream.call(
                "POST", "/apply-template", _TRIAL, deadline=deadline, timeout_ms=TEMPLATE_TIMEOUT_MS
            )
        except RayError as error:
            if error.code == "request_timeout":
                raise
            if upstream_status(error) is None or is_loading(error):
                return
            answer = None
        self._is_able = _NAME in str(mapping(answer).get("prompt", ""))
        if not self._is_able:
            self._unable_until = time.monotonic() + MAX_AGE_SECONDS
            raise refusal(TOOLS_REMEDY)

    def forget(self) -> None:
        """The server is another one."""
        self._is_able, self._unable_until = False, 0.0
