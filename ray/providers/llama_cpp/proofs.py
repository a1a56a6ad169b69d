"""How often a backend has kept its word, and what follows from that. No I/O.

The proof of a prefix in a KV cache is the answer's own count of reused tokens.
"""

from __future__ import annotations

from ray.types import PrefixState

# Where a prefix ends and a value begins, a token or two may come out differently; sliding windows are rewound in steps.
TOLERATED_TOKENS = 8
MAX_FAILED_PROOFS = 3
# After so many hot slots in a row that had to be read again, the backend cannot go back inside its cache (a sliding
# window, a recurrent state), or somebody else uses it: restoring is cheap and does not depend on that.
MAX_FAILED_HOT_PROOFS = 2
MAX_IGNORED_SLOTS = 3


def covers(reused: int, tokens: int) -> bool:
    """Whether `reused` tokens prove that a prefix of `tokens` was there."""
    return reused >= tokens - TOLERATED_TOKENS


class Proofs:
    """Counts in a row, for one backend. `verdict`: why the prefix store must not be used with it, None while it may."""

    def __init__(self) -> None:
        self.verdict: str | None = None
        self._failed: dict[PrefixState, int] = {}
        self._ignored_slots = 0

    @property
    def trusts_hot(self) -> bool:
        """Whether a slot that was used for a prefix before can be used for it again as it is."""
        return self._failed.get("hot", 0) < MAX_FAILED_HOT_PROOFS

    def held(self, state: PrefixState) -> None:
        """The prefix was there as claimed."""
        # Each way has a count of its own: an evaluated prefix is there on servers that cannot restore one.
        if state != "hot" or self.trusts_hot:
            self._failed[state] = 0

    def failed(self, state: PrefixState) -> None:
        """The prefix was claimed to be there, and was read again."""
        number = self._failed[state] = self._failed.get(state, 0) + 1
        if state != "hot" and number >= MAX_FAILED_PROOFS:
            self.verdict = self.verdict or (
                f"the backend read prompts again {number} times in a row after their prefix had been {state}: its "
                "model or build cannot use a saved KV cache. Models with a sliding window can when llama-server is "
                "started with --swa-full"
            )

    def slot_kept(self) -> None:
        """The answer came from the slot that was named."""
        self._ignored_slots = 0

    def slot_ignored(self) -> None:
        """The answer came from another slot."""
        self._ignored_slots += 1
        if self._ignored_slots >= MAX_IGNORED_SLOTS:
            self.verdict = self.verdict or (
                f"the backend answered {self._ignored_slots} times in a row from another slot than it was asked to use"
            )
