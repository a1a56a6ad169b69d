"""Counting prompt tokens with the backend's own tokenizer, remembered by digest, corrected by what answers report."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256

from ray.clock import Deadline
from ray.errors import RayError
from ray.providers.reading import mapping
from ray.providers.upstream import Upstream

TOKENIZE_TIMEOUT_MS = 30_000
MAX_REMEMBERED = 1_024
CHARS_PER_TOKEN_ESTIMATE = 3
# More than a few tokens of difference is not a begin-of-sequence token but another prompt.
MAX_LEARNED_OFFSET = 4


class TokenCounter:
    """Counts what `/completion` will evaluate for a prompt, special tokens that the server adds included."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._offset: int | None = None

    async def count(self, prompt: str, deadline: Deadline) -> int:
        """Tokens of `prompt`, at least 1. When the tokenizer cannot be asked: characters ÷ 3, rounded up.

        Raises `request_timeout` only.
        """
        key = sha256(prompt.encode("utf-8", "replace")).digest()
        known = self._counts.get(key)
        if known is None:
            try:
                known = await self._tokenize(prompt, deadline)
            except RayError as error:
                if error.code == "request_timeout":
                    raise
                return max(1, -(-len(prompt) // CHARS_PER_TOKEN_ESTIMATE))
            self._counts[key] = known
            if len(self._counts) > MAX_REMEMBERED:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return max(1, known + (self._offset or 0))

    def learn(self, prompt: str, evaluated: int) -> None:
        """Take the difference between the first answer's `tokens_evaluated` and the local count as what the server
        adds by itself."""
        if self._offset is not None:
            return
        known = self._counts.get(sha256(prompt.encode("utf-8", "replace")).digest())
        if known is not None and abs(evaluated - known) <= MAX_LEARNED_OFFSET:
            self._offset = evaluated - known

    def forget(self) -> None:
        """Another model counts differently."""
        self._counts.clear()
        self._offset = None

    async def _tokenize(self, prompt: str, deadline: Deadline) -> int:
        body = {"content": prompt, "add_special": True}
        answer = await self._upstream.call("POST", "/tokenize", body, deadline=deadline, timeout_ms=TOKENIZE_TIMEOUT_MS)
        tokens = mapping(answer).get("tokens")
        if not isinstance(tokens, list):
            raise self._upstream.invalid("/tokenize", "has no list of tokens")
        return len(tokens)
