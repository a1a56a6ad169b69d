"""`GET /openapi.json`: the description of every route, this one included, in OpenAPI 3.1.

Source: http-api, section 18.
"""

from __future__ import annotations

from functools import cache

from ray.gateway.exchange import Exchange
from ray.gateway.responses import json_body, prepared_json_response
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import Response


async def openapi(services: Services, exchange: Exchange) -> Response:
    """The document. It tells which routes there are and nothing about this machine, so it needs no key."""
    return prepared_json_response(document_body(services.config.auth.enabled), exchange.headers)


@cache
def document_body(auth_enabled: bool) -> bytes:
    """The document as it is sent. Made when it is first asked for, then kept: it changes with the program only."""
    from ray.gateway.openapi import openapi_document  # nobody but this needs the schemas of all answers
    from ray.gateway.routes import all_routes

    return json_body(openapi_document(all_routes(), auth_enabled=auth_enabled))


OPENAPI = Route(
    "GET",
    "/openapi.json",
    openapi,
    protected=False,
    doc="This description.",
    responses={200: "OpenApi"},
)
