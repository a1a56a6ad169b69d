"""How probable a backend says its tokens were: the three spellings of the protocols, as one noun. Pure functions."""

from __future__ import annotations

import math

from ray.providers.reading import mapping
from ray.types import TokenLogprob

# "As good as never": what the protocol's clients know instead of minus infinity, which JSON cannot write.
NEVER = -9999.0
MAX_TOKEN_CHARS = 1_024


def token_logprobs(value: object, top: int) -> tuple[TokenLogprob, ...]:
    """From a list of objects with `token`, `logprob` and `top_logprobs`, as llama-server's `completion_probabilities`
    and the chat protocol's `logprobs.content` are. `top`: alternatives that are kept of each.

    Entries without text are left out: llama-server also reports the token that ends the answer, which is no part of
    it. Among the alternatives it stays.
    """
    return tuple(entry for entry in _entries(value, top) if entry.token)


def _entries(value: object, top: int) -> list[TokenLogprob]:
    found = []
    for entry in value if isinstance(value, list) else []:
        given = mapping(entry)
        token = given.get("token")
        if isinstance(token, str):
            others = tuple(_entries(given.get("top_logprobs"), 0)[:top]) if top else ()
            found.append(TokenLogprob(token[:MAX_TOKEN_CHARS], _logarithm(given.get("logprob")), others))
    return found


def choice_logprobs(value: object, top: int) -> tuple[TokenLogprob, ...]:
    """From the `logprobs` of a choice: `{"content": […]}`, or the parallel lists of the older completions protocol."""
    given = mapping(value)
    if "content" in given:
        return token_logprobs(given["content"], top)
    tokens, logarithms, alternatives = (
        item if isinstance(item := given.get(name), list) else []
        for name in ("tokens", "token_logprobs", "top_logprobs")
    )
    found = []
    for position, token in enumerate(tokens):
        if not isinstance(token, str) or not token:
            continue
        others = mapping(alternatives[position]) if position < len(alternatives) else {}
        ranked = sorted(((_logarithm(item), name) for name, item in others.items()), reverse=True)[:top]
        found.append(
            TokenLogprob(
                token[:MAX_TOKEN_CHARS],
                _logarithm(logarithms[position] if position < len(logarithms) else None),
                tuple(TokenLogprob(name[:MAX_TOKEN_CHARS], item) for item, name in ranked),
            )
        )
    return tuple(found)


def _logarithm(value: object) -> float:
    """At most 0, because a probability is at most 1; what is no number, or less than any, is `NEVER`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return NEVER
    return float(min(max(value, NEVER), 0.0))
