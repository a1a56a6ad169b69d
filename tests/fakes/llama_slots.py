"""The slots of the stand-in for llama-server: what each KV cache holds, and snapshots of it on disk.

A token is a word. Like the real server: a completion reuses what its prompt and the slot have in common, a snapshot is
written to and read from a directory of the server's own, and an intact file is taken at its word.
"""

from __future__ import annotations

import json
from pathlib import Path


class Refused(Exception):
    """The server's answer to a slot action that does not work: a status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeSlots:
    """`directory`: that of `--slot-save-path`, None for a server that was started without it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.directory: Path | None = None
        self.held: dict[int, list[str]] = {}
        self.busy: set[int] = set()
        # A model with a sliding window: what is held can be continued, but not cut by more than a token.
        self.can_rewind = True
        # A build that says yes to a restore and does nothing.
        self.restores_nothing = False
        # A build that does as it likes with `id_slot`.
        self.ignores_id_slot = False
        self.crashed_on: str | None = None

    def read(self, id_slot: object, prompt: str) -> tuple[int, int, int]:
        """Evaluate a prompt: the slot, the tokens of the prompt, and those of them that were reused."""
        wanted = id_slot if isinstance(id_slot, int) and id_slot >= 0 else 0
        slot = (wanted + 1 if self.ignores_id_slot else wanted) % self.total
        words = prompt.split()
        held = self.held.get(slot, [])
        common = 0
        while common < min(len(words), len(held)) and words[common] == held[common]:
            common += 1
        if not self.can_rewind and common < len(held) - 1:
            common = 0
        # The last token is always read again: its logits are what the answer begins with.
        common = min(common, len(words) - 1)
        self.held[slot] = words
        return slot, len(words), common

    def generated(self, slot: int, pieces: list[str]) -> None:
        self.held[slot] = [*self.held[slot], *"".join(pieces).split()]

    def forget(self) -> None:
        """Restarted."""
        self.held.clear()

    def act(self, slot: int, action: str, name: object) -> dict[str, object]:
        if self.directory is None:
            raise Refused(501, "This server does not support slots action. Start it with `--slot-save-path`")
        if action not in ("save", "restore", "erase"):
            raise Refused(400, "Invalid action")
        if action == "erase":
            return {"id_slot": slot, "n_erased": len(self.held.pop(slot, []))}
        if not isinstance(name, str) or "/" in name:
            raise Refused(400, "Invalid filename")
        if action == "save":
            return self._save(slot, self.directory / name)
        return self._restore(slot, self.directory / name)

    def _save(self, slot: int, path: Path) -> dict[str, object]:
        words = self.held.get(slot, [])
        # A thousand bytes a token, as if there were keys and values in it.
        data = json.dumps(words).encode().ljust(1000 * (len(words) + 1))
        try:
            path.write_bytes(data)
        except OSError:
            raise Refused(500, "Unable to save slot") from None
        return {"id_slot": slot, "filename": path.name, "n_saved": len(words), "n_written": len(data)}

    def _restore(self, slot: int, path: Path) -> dict[str, object]:
        try:
            data = path.read_bytes()
            words = json.loads(data)
            whole = len(data) == 1000 * (len(words) + 1)
        except (OSError, ValueError):
            raise Refused(400, "Unable to restore slot") from None
        if not whole:
            # The real one ends with a segmentation fault.
            self.crashed_on = path.name
            raise Refused(500, "crashed")
        if not self.restores_nothing:
            self.held[slot] = words
        return {"id_slot": slot, "filename": path.name, "n_restored": len(words), "n_read": len(data)}
