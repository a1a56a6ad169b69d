"""Settings that are read and checked, and that nothing in Ray obeys yet.

Existing config files load before everything they name is built, and a setting that does nothing must not look as if it
did: the generated page and the schema mark these keys. A test compares the list with what the code reads, so a key
leaves it in the change that makes it work.
"""

from __future__ import annotations

MARK = "no effect yet"

PENDING = frozenset({"model.adapter.slotStateTtlMs"})


def is_pending(path: tuple[str, ...]) -> bool:
    """Whether this key, or the section it stands in, is without effect in this version."""
    return any(".".join(path[:length]) in PENDING for length in range(1, len(path) + 1))
