"""The routes, and how a request finds its own: exact paths in a table, a pattern for what is a job's.

The OpenAI-compatible routes are loaded with the first request below `/v1/` that is not one of Ray's own: a gateway
starts without them, and one that nobody asks that way never pays for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ray.errors import RayError
from ray.gateway.routes.infer import INFER
from ray.gateway.routes.jobs import JOB_CANCEL, JOB_DELETE, JOB_LIST, JOB_STATUS, JOB_SUBMIT
from ray.gateway.routes.openapi import OPENAPI
from ray.gateway.routes.operations import BANNER, CONFIG, HEALTH, LIVEZ, METRICS, READYZ
from ray.gateway.routes.route import ErrorStyle, Route
from ray.gateway.routes.templates import TEMPLATES

__all__ = ["LIVEZ", "READYZ", "Route", "all_routes", "find_route", "refusal_of"]

_JOB_PREFIX = "/v1/jobs/"


def _methods(*routes: Route) -> dict[str, Route]:
    """The routes of one path by method; HEAD is answered wherever GET is (RFC 9110, section 9.3.2)."""
    by_method = {route.method: route for route in routes}
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]
    return by_method


_JOB_METHODS = _methods(JOB_STATUS, JOB_DELETE)
_JOB_ACTIONS = {"cancel": _methods(JOB_CANCEL)}
_PATHS: dict[str, dict[str, Route]] = {
    "/": _methods(BANNER),
    "/openapi.json": _methods(OPENAPI),
    "/livez": _methods(LIVEZ),
    "/readyz": _methods(READYZ),
    "/health": _methods(HEALTH),
    "/metrics": _methods(METRICS),
    "/v1/config": _methods(CONFIG),
    "/v1/templates": _methods(TEMPLATES),
    "/v1/infer": _methods(INFER),
    "/v1/jobs": _methods(JOB_SUBMIT, JOB_LIST),
}
_OPENAI_PREFIX = "/v1/"


def all_routes() -> list[Route]:
    """Every route, once."""
    tables = (*_PATHS.values(), _JOB_METHODS, *_JOB_ACTIONS.values(), *_openai_paths().values())
    return [route for methods in tables for method, route in methods.items() if method == route.method]


class WrongMethod(RayError):
    """A known path with a method it does not have. `route`: the path's name; `allowed`: the `Allow` header's value."""

    def __init__(self, route: str, allowed: str) -> None:
        super().__init__("method_not_allowed", f"{route} allows {allowed}")
        self.route = route
        self.allowed = allowed


def find_route(method: str, path: str) -> Route:
    """The route of a request. Raises RayError `not_found`, or `WrongMethod` for a known path.

    Paths are compared as they are: no percent-decoding, and a trailing slash makes another path.
    """
    methods = _methods_of(path)
    if methods is None:
        raise RayError("not_found", "there is no such route")
    route = methods.get(method)
    if route is None:
        raise WrongMethod(next(iter(methods.values())).name, ", ".join(sorted(methods)))
    return route


def refusal_of(path: str) -> Callable[[RayError], dict[str, object]]:
    """How an error on this path is written, whatever the method was and whether its route was reached or not."""
    methods = _methods_of(path)
    style: ErrorStyle = "ray" if methods is None else next(iter(methods.values())).error_style
    if style != "openai":
        return RayError.envelope
    from ray.gateway.openai.errors import error_document

    return error_document


def _methods_of(path: str) -> dict[str, Route] | None:
    return _PATHS.get(path) or _job_methods(path) or _openai_methods(path)


def _openai_methods(path: str) -> dict[str, Route] | None:
    """The routes of OpenAI's protocol at this path; ids of models may hold slashes, so the id is all the rest."""
    if not path.startswith(_OPENAI_PREFIX):
        return None
    from ray.gateway.routes.openai import MODEL, MODEL_PREFIX

    paths = _openai_paths()
    is_model = len(path) > len(MODEL_PREFIX) and path.startswith(MODEL_PREFIX)
    return paths[MODEL.name] if is_model else paths.get(path)


@cache
def _openai_paths() -> dict[str, dict[str, Route]]:
    """Their table; the one model's stands in it under the name of its route."""
    from ray.gateway.routes.openai import CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, MODEL, MODELS

    return {route.name: _methods(route) for route in (CHAT_COMPLETIONS, COMPLETIONS, EMBEDDINGS, MODELS, MODEL)}


def _job_methods(path: str) -> dict[str, Route] | None:
    """The routes of `/v1/jobs/{id}` and `/v1/jobs/{id}/{action}`; the id is any segment that is not empty."""
    if not path.startswith(_JOB_PREFIX):
        return None
    identifier, slash, action = path[len(_JOB_PREFIX) :].partition("/")
    if not identifier:
        return None
    return _JOB_ACTIONS.get(action) if slash else _JOB_METHODS
