"""Web pages as clients: which may read answers, and what a browser is told before it sends what a form could not.

Off unless `server.corsAllowedOrigins` names origins. Then every answer says `vary: origin`, and answers to a listed
origin, errors too, carry the headers that let its page read them. A page of another origin is not refused: its browser
keeps the answer from it, and everybody else is not affected. Keys travel in `Authorization`, never in cookies, so
credentials in the sense of CORS are not allowed to anyone.
Source: the Fetch standard, section 3.2 (CORS protocol); http-api, section 19.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray.gateway.responses import NO_STORE, Header
from ray.http import Headers, Request, Response

# Seconds that a browser may remember a preflight; browsers have limits of their own.
PREFLIGHT_MAX_AGE_S = 600
# `*` never covers `Authorization`. It lets the headers through that clients add for statistics, such as OpenAI's own.
ALLOWED_HEADERS = "authorization, content-type, idempotency-key, x-request-id, *"
EXPOSED_HEADERS = ", ".join(
    (
        "retry-after",
        "x-request-id",
        "x-ray-degraded",
        "x-should-retry",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "location",
        "idempotent-replayed",
    )
)
VARY: Header = ("vary", "origin")


class Cors:
    """Which origins may read what this gateway answers."""

    __slots__ = ("_origins",)

    def __init__(self, origins: Iterable[str]) -> None:
        """`origins`: as browsers send them; compared letter by letter."""
        self._origins = frozenset(origins)

    def headers(self, request: Headers) -> list[Header]:
        """What every answer to a request with these headers carries, its errors included."""
        origin = self._allowed(request)
        if origin is None:
            return [VARY]
        return [
            VARY,
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", EXPOSED_HEADERS),
        ]

    def is_preflight(self, request: Request) -> bool:
        """Does a browser ask, on behalf of a listed origin, what it may send?"""
        return (
            request.method == "OPTIONS"
            and request.headers.get("access-control-request-method") is not None
            and self._allowed(request.headers) is not None
        )

    def preflight(self, methods: str, headers: Iterable[Header]) -> Response:
        """The answer to that. `methods`: what the path takes, as in `Allow`; `headers`: what every answer carries, with
        those of `headers`. The browser itself compares what it wants with what is allowed here."""
        told = [
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", ALLOWED_HEADERS),
            ("access-control-max-age", str(PREFLIGHT_MAX_AGE_S)),
            NO_STORE,
        ]
        return Response(204, [*told, *headers])

    def _allowed(self, request: Headers) -> str | None:
        """The page's origin, if it is a listed one and the only one given."""
        origins = request.get_all("origin")
        return origins[0] if len(origins) == 1 and origins[0] in self._origins else None
