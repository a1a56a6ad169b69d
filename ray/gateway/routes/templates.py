"""`GET /v1/templates`: which prompt templates a client can name, and what each wants to be given.

Source: http-api, section 6.
"""

from __future__ import annotations

from ray.gateway.exchange import Exchange
from ray.gateway.responses import json_response
from ray.gateway.routes.route import Route
from ray.gateway.services import Services
from ray.http import Response
from ray.prompts import catalog_of


async def templates(services: Services, exchange: Exchange) -> Response:
    """The templates without their texts, which are of use to whoever writes them, and then only in the config."""
    listing = catalog_of(services.config).listing(services.config.model.max_output_tokens)
    return json_response(200, {"templates": listing}, exchange.headers)


TEMPLATES = Route(
    "GET",
    "/v1/templates",
    templates,
    doc="The prompt templates that a request can name.",
    responses={200: "TemplateList"},
)
