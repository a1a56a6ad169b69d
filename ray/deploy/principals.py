"""Names of users and groups as units and `chown` take them: a name, or a number."""

from __future__ import annotations

import re

_PRINCIPAL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,30}|[0-9]{1,10}")


def principal_problem(text: str) -> str | None:
    """The problem with the name of a user or group ("must …"), or None."""
    if _PRINCIPAL.fullmatch(text):
        return None
    return "must be a name of at most 31 letters, digits, - and _ (no digit first), or a number of at most 10 digits"
