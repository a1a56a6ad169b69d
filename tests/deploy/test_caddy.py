"""The Caddyfiles: what stands in them, and that the real Caddy takes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ray.deploy.caddy import KEEP_ALIVE_S, LONGEST_JOB_WAIT_MS, render_caddyfile, render_pool
from ray.deploy.failures import DeployError
from ray.gateway.job_request import MAX_WAIT_SECONDS
from ray.http import Limits
from tests.deploy.support import EXAMPLE_NAMES, EXAMPLES, KEYS, run, settings_for

NODES = ("10.0.0.11:3000", "10.0.0.12:3000")


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def rendered(*arguments: str, example: str = "", **environ: str) -> str:
    return render_caddyfile(settings_for(arguments, {**KEYS, **environ}, example=example))


def pool(*nodes: str, **environ: str) -> str:
    return render_pool(settings_for(["--domain", "ray.example.com"], {**KEYS, **environ}), nodes)


@pytest.fixture
def caddy() -> str:
    binary = shutil.which("caddy")
    if binary is None:
        pytest.skip("needs caddy: apt-get install caddy")
    return binary


def caddy_says(binary: str, command: str, text: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """`caddy COMMAND` about this text, under a name of which Caddy cannot guess the format."""
    file = directory / "site.conf"
    file.write_text(text, "utf-8")
    return subprocess.run(
        [binary, command, "--adapter", "caddyfile", "--config", str(file)],
        cwd=directory,
        env={"HOME": str(directory), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_given_the_public_config_when_rendered_then_the_site_has_its_limits_and_its_deadline() -> None:
    text = rendered("--domain", "ray.example.com", example="ray.sub1b.public.json")

    found = lines(text)
    assert found[0] == "ray.example.com {"
    for expected in (
        "encode zstd gzip {",
        "X-Content-Type-Options nosniff",
        "Referrer-Policy no-referrer",
        "-Server",
        "max_size 48000",
        "reverse_proxy 127.0.0.1:3000 {",
        "health_uri /livez",
        "health_interval 15s",
        "dial_timeout 5s",
        "response_header_timeout 25s",
        "read_timeout 25s",
        "write_timeout 10s",
    ):
        assert expected in found


def test_given_the_public_config_when_rendered_then_nothing_is_said_about_logs_certificates_or_forwarded_headers() -> (
    None
):
    words = rendered(example="ray.sub1b.public.json").split()

    # Forwarded addresses are Caddy's own business: it drops what clients claim.
    assert not {"log", "tls", "email", "header_up", "trusted_proxies", "flush_interval"} & set(words)


@pytest.mark.parametrize(
    ("request_ms", "told"), [("32000", "37s"), ("120000", "125s"), ("32250", "37250ms"), ("30", "5030ms")]
)
def test_given_a_deadline_when_rendered_then_caddy_waits_five_seconds_longer(request_ms: str, told: str) -> None:
    found = lines(rendered(RAY_SCHEDULER_REQUEST_TIMEOUT_MS=request_ms, RAY_ASYNC_QUEUE_ENABLED="false"))

    assert f"response_header_timeout {told}" in found
    assert f"read_timeout {told}" in found
    assert f"health_timeout {told}" in found


def test_given_jobs_when_rendered_then_caddy_waits_for_the_longest_poll() -> None:
    impatient = {"RAY_SCHEDULER_REQUEST_TIMEOUT_MS": "8000"}

    assert LONGEST_JOB_WAIT_MS == MAX_WAIT_SECONDS * 1000
    assert "response_header_timeout 25s" in lines(rendered(RAY_ASYNC_QUEUE_ENABLED="true", **impatient))
    assert "response_header_timeout 13s" in lines(rendered(RAY_ASYNC_QUEUE_ENABLED="false", **impatient))


def test_given_the_gateways_idle_limit_when_rendered_then_caddy_gives_connections_up_before_it() -> None:
    assert 1 <= KEEP_ALIVE_S < Limits().keep_alive_timeout_s
    assert f"keepalive {KEEP_ALIVE_S}s" in lines(rendered())


@pytest.mark.parametrize(
    ("host", "upstream"),
    [
        ("127.0.0.1", "127.0.0.1:3100"),
        ("127.0.0.7", "127.0.0.7:3100"),
        ("localhost", "localhost:3100"),
        ("::1", "[::1]:3100"),
        ("0:0:0:0:0:0:0:1", "[::1]:3100"),
        ("::ffff:127.0.0.1", "127.0.0.1:3100"),
        ("0.0.0.0", "127.0.0.1:3100"),
        ("::", "[::1]:3100"),
        ("10.0.0.11", "10.0.0.11:3100"),
    ],
)
def test_given_the_gateways_address_when_rendered_then_caddy_connects_to_it(host: str, upstream: str) -> None:
    assert f"reverse_proxy {upstream} {{" in lines(rendered(RAY_HOST=host, RAY_PORT="3100"))


@pytest.mark.parametrize("address", ["http://localhost:8080", "https://ray.example.com", "[2001:db8::1]:443", ":8443"])
def test_given_a_site_address_when_rendered_then_it_opens_the_site_as_it_was_given(address: str) -> None:
    assert rendered("--domain", address).startswith(f"{address} {{\n")


def test_given_nodes_when_a_pool_is_rendered_then_each_gets_requests_while_it_is_ready() -> None:
    found = lines(pool(*NODES))

    at = found.index("reverse_proxy 10.0.0.11:3000 10.0.0.12:3000 {")
    assert {"lb_policy least_conn", "health_uri /readyz", "lb_try_duration 2s"} <= set(found[at:])
    assert "health_uri /livez" not in found[at:]


def test_given_nodes_when_a_pool_is_rendered_then_the_job_routes_have_one_home() -> None:
    found = lines(pool(*NODES))

    assert "@jobs path /v1/jobs /v1/jobs/*" in found
    assert "reverse_proxy @jobs 10.0.0.11:3000 {" in found


def test_given_a_node_on_its_private_address_when_rendered_then_its_files_and_the_pools_are_made() -> None:
    config = str(EXAMPLES / "ray.sub1b.public.json")
    nodes = [option for node in NODES for option in ("--node", node)]

    status, text = run("render", "--json", "--config", config, *nodes, environ={**KEYS, "RAY_HOST": "10.0.0.11"})

    assert status == 0
    made = json.loads(text)
    assert "ListenStream=10.0.0.11:3000" in made["socket"]
    assert "IPAddressAllow=localhost 10.0.0.0/8\n" in made["socket"]
    assert "reverse_proxy 10.0.0.11:3000 {" in made["caddyfile"]
    assert "reverse_proxy 10.0.0.11:3000 10.0.0.12:3000 {" in made["caddyfilePool"]


@pytest.mark.parametrize(
    "nodes",
    [
        (),
        ("10.0.0.11:3000",),
        ("10.0.0.11:3000", "10.0.0.11:3000"),
        ("node-a:3000", "NODE-A:3000"),
        tuple(f"10.0.0.{number}:3000" for number in range(33)),
    ],
    ids=["none", "one", "twice", "twice in another case", "too many"],
)
def test_given_no_pool_when_rendered_then_it_is_refused(nodes: tuple[str, ...]) -> None:
    with pytest.raises(DeployError) as refused:
        pool(*nodes)

    assert refused.value.code == "caddy_pool_invalid"


@pytest.mark.parametrize(
    "node",
    [
        "10.0.0.12",
        ":3000",
        "10.0.0.12:0",
        "10.0.0.12:65536",
        "http://10.0.0.12:3000",
        "fd00::12:3000",
        "*.example.com:3000",
        "10.0.0.12:3000 {",
        "10.0.0.12:3000\n",
        "{env.SECRET}:3000",
        "unix//run/x.sock",
    ],
)
def test_given_a_node_that_means_something_else_to_caddy_when_rendered_then_it_is_refused(node: str) -> None:
    with pytest.raises(DeployError) as refused:
        pool("10.0.0.11:3000", node)

    assert refused.value.code == "caddy_pool_invalid"
    assert "HOST:PORT" in str(refused.value)


@pytest.mark.parametrize("node", ["203.0.113.7:3000", "[2001:db8::7]:3000", "0.0.0.0:3000", "169.254.1.1:3000"])
def test_given_a_node_with_a_public_address_when_rendered_then_it_is_refused_for_lack_of_tls(node: str) -> None:
    with pytest.raises(DeployError, match="no TLS") as refused:
        pool("10.0.0.11:3000", node)

    assert refused.value.code == "caddy_pool_invalid"


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_given_an_example_config_when_its_caddyfile_is_validated_then_caddy_takes_it(
    name: str, caddy: str, tmp_path: Path
) -> None:
    done = caddy_says(caddy, "validate", rendered("--domain", "ray.example.com", example=name), tmp_path)

    assert done.returncode == 0, done.stderr
    # Caddy says so when a file is not written as `caddy fmt` would write it.
    assert "not formatted" not in done.stderr


@pytest.mark.parametrize(
    "address", ["http://localhost:8080", "[2001:db8::1]:443", ":8443", "xn--bcher-kva.example.com"]
)
def test_given_a_site_address_when_validated_then_caddy_takes_it(address: str, caddy: str, tmp_path: Path) -> None:
    done = caddy_says(caddy, "validate", rendered("--domain", address), tmp_path)

    assert done.returncode == 0, done.stderr


def test_given_a_pool_when_adapted_then_caddy_understands_what_was_meant(caddy: str, tmp_path: Path) -> None:
    text = pool("10.0.0.11:3000", "[fd00::12]:3000", "node-c.internal:3000")
    validated = caddy_says(caddy, "validate", text, tmp_path)
    adapted = caddy_says(caddy, "adapt", text, tmp_path)

    assert validated.returncode == 0, validated.stderr
    assert "not formatted" not in validated.stderr
    proxies = [handler for handler in handlers(json.loads(adapted.stdout)) if handler.get("handler") == "reverse_proxy"]
    assert [[upstream["dial"] for upstream in proxy["upstreams"]] for proxy in proxies] == [
        ["10.0.0.11:3000"],
        ["10.0.0.11:3000", "[fd00::12]:3000", "node-c.internal:3000"],
    ]
    assert proxies[1]["health_checks"]["active"]["uri"] == "/readyz"
    # Caddy 2.6 would hold uploads against a node that clients have cut short.
    assert "passive" not in proxies[1]["health_checks"]
    assert proxies[1]["load_balancing"]["selection_policy"] == {"policy": "least_conn"}


def handlers(document: object) -> list[dict[str, Any]]:
    """Every handler of an adapted config, in order, however deep it lies."""
    if isinstance(document, list):
        return [handler for entry in document for handler in handlers(entry)]
    if isinstance(document, dict):
        own = [document] if "handler" in document else []
        return own + [handler for entry in document.values() for handler in handlers(entry)]
    return []
