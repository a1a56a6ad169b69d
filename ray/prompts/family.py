"""Which requests belong together: the key of a prompt family.

Requests of one family begin alike, so the beginning needs to be read only once, and their answers tend to be equally
long. The key is stable for equal input; it is no contract between versions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from ray.prompts.cleaning import clean_whitespace
from ray.types import Message

KEY_DIGITS = 16
SKELETON_CHARS = 240
# A skeleton keeps 240 characters; reading more of a long text than this would cost time and tell little.
READ_CHARS = 4_096

_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode
# In this order: a URL may hold digits, and what is quoted may be an address. Bounds keep each scan linear.
_CHANGING_PARTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"https?://\S+", re.ASCII), "<url>"),
    (re.compile(r"[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,255}", re.ASCII), "<email>"),
    (re.compile(r"\b[0-9]+\b", re.ASCII), "<number>"),
    (re.compile(r'"[^"]{1,120}"', re.ASCII), "<quote>"),
    (re.compile(r"\b[0-9a-f]{8,}\b", re.ASCII), "<hex>"),
)


def family_key(system: str, seed: str) -> str:
    """16 hex digits of SHA-256 over the tidied system text and the family's seed."""
    document = _encode({"seed": seed, "system": system})
    return hashlib.sha256(document.encode("ascii")).hexdigest()[:KEY_DIGITS]


def family_seed(messages: Sequence[Message], metadata: Mapping[str, str], metadata_keys: Sequence[str]) -> str:
    """What tells this family from another with the same system text, when no template does.

    The first of `metadata_keys` with a value that is not blank, else the skeleton of the first user message, which
    stays the same while a conversation grows.
    """
    for key in metadata_keys:
        value = metadata.get(key, "")
        if value.strip():
            return f"metadata:{value}"
    first = next((message.content for message in messages if message.role == "user"), "")
    return f"text:{skeleton(first)}"


def skeleton(text: str) -> str:
    """The part of a text that its relatives share: lower case, with what changes from one to the next replaced."""
    reduced = clean_whitespace(text[:READ_CHARS]).lower()
    for pattern, name in _CHANGING_PARTS:
        reduced = pattern.sub(name, reduced)
    return reduced[:SKELETON_CHARS]
