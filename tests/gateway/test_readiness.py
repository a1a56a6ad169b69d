"""The table of `/readyz`: which readings make which answer."""

from __future__ import annotations

import pytest

from ray.gateway.readiness import Pressures, connection_pressure, readiness, service_status
from ray.types import ProviderStatus

KEYS_AND_REASONS = [
    ("queue", "queue", "queue_pressure"),
    ("preparation", "preparation", "preparation_pressure"),
    ("memory", "memory", "memory_pressure"),
    ("cpu", "cpu", "cpu_pressure"),
    ("async_queue", "asyncQueue", "async_queue_pressure"),
    ("rate_limit", "rateLimit", "rate_limit_pressure"),
    ("gateway_http", "gatewayHttp", "gateway_http_pressure"),
]


@pytest.mark.parametrize(
    ("provider", "status_code", "status", "reasons"),
    [
        ("ready", 200, "ok", []),
        ("unknown", 200, "ok", []),
        ("degraded", 200, "degraded", ["provider_degraded"]),
        ("warming", 503, "degraded", ["provider_warming"]),
        ("unavailable", 503, "unavailable", ["provider_unavailable"]),
    ],
)
def test_the_backend_alone_decides_between_200_and_503(
    provider: ProviderStatus, status_code: int, status: str, reasons: list[str]
) -> None:
    code, body = readiness(provider, Pressures(), queue_depth=3, in_flight=1)
    assert code == status_code
    assert body == {
        "status": status,
        "service": "ray-gateway",
        "providerStatus": provider,
        "queueDepth": 3,
        "inFlight": 1,
        "pressure": {key: False for _, key, _ in KEYS_AND_REASONS},
        "reasons": reasons,
    }


@pytest.mark.parametrize(("name", "key", "reason"), KEYS_AND_REASONS)
def test_given_one_pressure_when_ready_then_it_is_degraded_and_still_200(name: str, key: str, reason: str) -> None:
    code, body = readiness("ready", Pressures(**{name: True}), queue_depth=0, in_flight=0)
    assert (code, body["status"], body["reasons"]) == (200, "degraded", [reason])
    assert body["pressure"] == {other: other == key for _, other, _ in KEYS_AND_REASONS}


def test_given_everything_at_once_when_unavailable_then_the_reasons_keep_their_order() -> None:
    everything = Pressures(**{name: True for name, _, _ in KEYS_AND_REASONS})
    code, body = readiness("unavailable", everything, queue_depth=0, in_flight=0)
    assert code == 503
    assert body["status"] == "unavailable", "pressure never softens it"
    assert body["reasons"] == ["provider_unavailable", *(reason for _, _, reason in KEYS_AND_REASONS)]


@pytest.mark.parametrize(
    ("provider", "pressed", "status"),
    [
        ("ready", False, "ok"),
        ("ready", True, "degraded"),
        ("unknown", False, "ok"),
        ("warming", False, "degraded"),
        ("degraded", True, "degraded"),
        ("unavailable", True, "unavailable"),
    ],
)
def test_the_status_is_the_worst_of_what_is_known(provider: ProviderStatus, pressed: bool, status: str) -> None:
    assert service_status(provider, Pressures(queue=pressed)) == status


@pytest.mark.parametrize(("sockets", "pressed"), [(0, False), (230, False), (231, True), (256, True)])
def test_given_231_of_256_sockets_when_asked_then_the_connections_press(sockets: int, pressed: bool) -> None:
    assert connection_pressure(sockets, 256) is pressed
