"""The table of routes: what is found where, and what a gateway loads before anybody asks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ray.errors import RayError
from ray.gateway.routes import Route, WrongMethod, all_routes, find_route

ROOT = Path(__file__).resolve().parents[3]


def test_given_a_gateway_that_nobody_asks_when_it_is_imported_then_openais_protocol_is_not_loaded() -> None:
    script = "import sys, ray.gateway; print([name for name in sys.modules if 'openai' in name])"
    printed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize("route", all_routes(), ids=lambda route: f"{route.method} {route.name}")
def test_every_route_is_found_under_its_name(route: Route) -> None:
    assert find_route(route.method, route.name.replace("{id}", "one")) is route


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models", "/v1/models"),
        ("/v1/models/owner/name", "/v1/models/{id}"),
        ("/v1/models//", "/v1/models/{id}"),
        ("/v1/jobs/job_1", "/v1/jobs/{id}"),
    ],
)
def test_given_a_path_with_an_id_then_its_route_is_found_for_head_too(path: str, name: str) -> None:
    assert find_route("HEAD", path).name == name


@pytest.mark.parametrize(
    "path", ["/v1/models/", "/v1/", "/v1", "/v1/chat", "/v1/chat/completions/", "/chat/completions"]
)
def test_given_a_path_that_is_none_of_them_then_it_is_not_found(path: str) -> None:
    with pytest.raises(RayError) as refusal:
        find_route("GET", path)
    assert refusal.value.code == "not_found"


def test_given_another_method_then_the_refusal_names_those_that_the_path_has() -> None:
    with pytest.raises(WrongMethod) as refusal:
        find_route("PUT", "/v1/models/one")
    assert (refusal.value.route, refusal.value.allowed) == ("/v1/models/{id}", "GET, HEAD")
