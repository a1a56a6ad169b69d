"""Which backend the slots belong to: what it is, whether it is still the same one, and why its slots cannot be used."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial

from ray.config import LaunchProfile
from ray.errors import RayError
from ray.host import DiskThread
from ray.providers.base import PromptPrefix
from ray.providers.llama_cpp.capabilities import Capabilities
from ray.providers.llama_cpp.fingerprint import backend_fingerprint, prefix_key
from ray.providers.llama_cpp.slot_actions import SlotActions

RETRY_SECONDS = 60.0
SILENCE_RETRY_SECONDS = 5.0
# A server takes longer than this to be exchanged for another one.
CONFIRM_SECONDS = 1.0
NO_SLOT_ACTIONS = "the backend was started without --slot-save-path"


class KnownBackend:
    """What is known of one backend. `obstacle`: why its slots cannot be used until the next look at it, None while they
    can; `slots`: how many it has; `fingerprint`: of model and settings, None before it was first asked."""

    def __init__(
        self,
        profile: LaunchProfile | None,
        actions: SlotActions,
        look: Callable[[], Awaitable[Capabilities]],
        disk: DiskThread,
        *,
        opened: Callable[[], Awaitable[str | None]],
        renewed: Callable[[], None],
        lost: Callable[[], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`look` asks the backend what it is, and never raises. `opened` opens the directory of the snapshots, or says
        why not. Who hears what: `renewed`, it is another backend; `lost`, the same one without its KV caches;
        `changed`, after everything that may have changed the obstacle."""
        self.obstacle: str | None = "the backend has not been asked yet"
        self.slots: int | None = None
        self.fingerprint: str | None = None
        self._profile = profile
        self._actions = actions
        self._look = look
        self._disk = disk
        self._opened = opened
        self._renewed = renewed
        self._lost = lost
        self._changed = changed
        self._clock = clock
        self._meeting = asyncio.Lock()
        self._met: Capabilities | None = None
        self._marks: object = None
        self._instance: str | None = None
        self._look_again_at = 0.0
        self._looked_at = -math.inf

    async def meet(self, found: Capabilities) -> None:
        """Take note of what the backend is now: another one, restarted, with or without slot actions. Never raises."""
        if self._is_current(found):
            return
        async with self._meeting:
            if not self._is_current(found):
                await self._meet(found)

    def doubt(self) -> None:
        """It has gone, or lost its KV caches: it is looked at again."""
        self._met = None
        self._looked_at = -math.inf

    def refused_actions(self) -> None:
        """It has said that it has no slot actions, whatever it said before."""
        self.obstacle, self._look_again_at = NO_SLOT_ACTIONS, self._clock() + RETRY_SECONDS

    def is_of(self, prefix: PromptPrefix) -> bool:
        """Whether the prefix was prepared for the backend that is there now."""
        return self.fingerprint is not None and prefix_key(self.fingerprint, prefix.text) == prefix.key

    async def is_still(self, prefix: PromptPrefix) -> bool:
        """The same after a fresh look: another model's file restored, or written under this name, would be nonsense
        that no later check could find."""
        if self._clock() - self._looked_at > CONFIRM_SECONDS:
            found = await self._look()
            if found.fingerprint is None:
                return False
            await self.meet(found)
        return self._met is not None and self.is_of(prefix)

    def _is_current(self, found: Capabilities) -> bool:
        if found.fingerprint is None:
            # It could not be asked.
            return True
        return found is self._met and (self.obstacle is None or self._clock() < self._look_again_at)

    async def _meet(self, found: Capabilities) -> None:
        marks = (found.fingerprint, found.instance, found.model_ftype, found.slot_window, found.total_slots)
        is_same = marks == self._marks and self._met is not None and not found.is_sleeping
        if not (is_same and self.obstacle is None):
            self._look_again_at = self._clock() + RETRY_SECONDS
            fingerprint = await self._disk.run(partial(backend_fingerprint, found, self._profile))
            if fingerprint != self.fingerprint:
                self.fingerprint = fingerprint
                self._renewed()
            elif found.instance != self._instance or found.is_sleeping:
                # Restarted, or asleep without its model.
                self._lost()
            self.slots, self._marks, self._instance = found.total_slots, marks, found.instance
            if not found.is_sleeping:
                self.obstacle = await self._find_obstacle(found)
            self._changed()
        self._met, self._looked_at = found, self._clock()

    async def _find_obstacle(self, found: Capabilities) -> str | None:
        """Why the slots cannot be used at the moment."""
        if not found.total_slots:
            return "the backend does not say how many slots it has"
        refused = await self._opened()
        if refused is not None:
            return f"the directory of the snapshots cannot be used: {refused}"
        try:
            return None if await self._actions.supported() else NO_SLOT_ACTIONS
        except RayError as error:
            self._look_again_at = self._clock() + SILENCE_RETRY_SECONDS
            return error.message
