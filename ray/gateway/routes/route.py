"""What a route is: its name, its guards, and the function that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ray.gateway.exchange import Exchange
from ray.gateway.services import Services
from ray.http import Response


@dataclass(frozen=True, slots=True)
class Route:
    """`name`: the path with its parameters as written in the documentation; it labels metrics and access lines.

    `protected`: needs an API key when auth is on. `limited`: takes from the caller's request budget.
    `require`: what has to be there at all; asked before the budget is touched, raises RayError.
    """

    method: str
    name: str
    answer: Callable[[Services, Exchange], Awaitable[Response]]
    protected: bool = True
    limited: bool = False
    require: Callable[[Services], None] | None = None
