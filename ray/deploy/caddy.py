"""The reverse proxy's file: TLS and the public address for one gateway, or for a pool of them on several machines.

Caddy gets what it cannot know and no more. What the defaults of Caddy 2.6 would break is said where it stands:

- A stream is compressed only as a whole, event by event it would arrive at its end: `encode` names what it may touch.
- Event streams are flushed at once without being asked. `flush_interval -1` would do it too, and would also keep the
  gateway working for clients that have left: Caddy does not pass their leaving on then.
- `max_size` cuts a body while it is being sent on, and the client reads 502. A declared length is looked at before.
- `fail_duration` counts uploads that clients cut short against the node: a few of them would close the whole pool. A
  check of /readyz each second, and the next node for a connection that is refused, do what it is for.
- A connection that the gateway has just closed as idle must not be taken for the next request: Caddy closes first.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from string import Template

from ray.config import Config, is_loopback
from ray.deploy.failures import DeployError
from ray.deploy.private_network import address_of, private_network
from ray.deploy.settings import DeploySettings
from ray.deploy.site_address import SiteAddress, parse_site_address
from ray.http import Limits

POOL_FILE = "Caddyfile.pool"
# After the gateway's own deadline, so that the client reads the gateway's 504 and not Caddy's.
BEYOND_DEADLINE_MS = 5_000
# `GET /v1/jobs/{id}?wait=` may take this long, whatever the deadline of requests is (http-api, section 5).
LONGEST_JOB_WAIT_MS = 20_000
KEEP_ALIVE_S = math.floor(Limits().keep_alive_timeout_s) - 2
UNAVAILABLE_RETRY_AFTER_S = 2
MIN_NODES = 2
MAX_NODES = 32

_SITE = Template("""\
$address {
	# Only whole answers are compressed: a compressed stream would arrive all at once, at its end.
	encode zstd gzip {
		match {
			header Content-Type application/json*
			header Content-Type text/plain*
		}
	}
	header {
		X-Content-Type-Options nosniff
		Referrer-Policy no-referrer
		-Server
	}
	@too_large expression `{header.Content-Length} != "" && int({header.Content-Length}) > $limit`
	error @too_large 413
	request_body {
		max_size $limit
	}
$proxies
	# What Caddy itself has to say, in the gateway's form.
	handle_errors {
		header {
			Content-Type "application/json; charset=utf-8"
			Cache-Control no-store
			-Server
		}
		@cut expression `{err.status_code} == 413`
		respond @cut `{"error":{"code":"body_too_large","message":"the request body must not exceed $limit bytes"}}`
		@away expression `{err.status_code} in [502, 503, 504]`
		header @away Retry-After $retry_after
		respond @away `{"error":{"code":"gateway_unavailable","message":"the gateway does not answer"}}`
	}
}
""")

_PROXY = Template("""\
	reverse_proxy $upstreams {
$options
		transport http {
			dial_timeout 5s
			response_header_timeout $timeout
			read_timeout $timeout
			write_timeout 10s
			# Less than the gateway keeps an idle connection.
			keepalive ${keep_alive}s
		}
	}
""")

# A restart with the socket unit lets checks and requests wait, not fail: hence the long timeout.
_ONE_GATEWAY = Template("""\
		health_uri /livez
		health_interval 15s
		health_timeout $timeout""")

_POOL = Template("""\
		lb_policy least_conn
		# What a node refuses to take goes to the next one; it is out as soon as a check fails.
		lb_try_duration 2s
		health_uri /readyz
		health_interval 1s
		health_timeout 2s""")

_POOL_HEAD = """\
# Several Ray nodes behind one Caddy, each a machine with its own gateway and backend. A node gets requests while its
# /readyz says so; the one with the fewest open requests gets the next one. The way between Caddy and the nodes is
# plain HTTP: use a private network.
"""

_JOBS_HEAD = """\
	# Durable jobs lie on the disk of one node: all job routes go to the first, and fail while it is away.
	@jobs path /v1/jobs /v1/jobs/*
"""


def render_caddyfile(settings: DeploySettings) -> str:
    """The Caddyfile of one machine: the site, and the gateway beside it.

    Raises `DeployError` (`caddy_upstream_invalid`) when `server.host` is no host that can be connected to.
    """
    server = settings.loaded.config.server
    return _site(settings, _proxy(settings, _gateway(server.host, server.port), _ONE_GATEWAY))


def render_pool(settings: DeploySettings, nodes: Sequence[str]) -> str:
    """The Caddyfile for several nodes, `HOST:PORT` each, all with the config of `settings`.

    Raises `DeployError` (`caddy_pool_invalid`) for fewer than 2 or more than 32 nodes, for one that is named twice,
    and for what is not a host with a port.
    """
    checked = [_node(text) for text in nodes]
    if not MIN_NODES <= len(checked) <= MAX_NODES:
        raise DeployError(
            f"A pool has {MIN_NODES} to {MAX_NODES} nodes, and {len(checked)} are named", code="caddy_pool_invalid"
        )
    if len(set(checked)) < len(checked):
        raise DeployError("A node of the pool is named twice", code="caddy_pool_invalid")
    jobs = _JOBS_HEAD + _proxy(settings, f"@jobs {checked[0]}", _ONE_GATEWAY)
    return _POOL_HEAD + _site(settings, jobs + _proxy(settings, " ".join(checked), _POOL))


def _site(settings: DeploySettings, proxies: str) -> str:
    return _SITE.substitute(
        address=settings.domain.text,
        limit=settings.loaded.config.server.request_body_limit_bytes,
        proxies=proxies.rstrip("\n"),
        retry_after=UNAVAILABLE_RETRY_AFTER_S,
    )


def _proxy(settings: DeploySettings, upstreams: str, options: Template) -> str:
    timeout = _duration(_longest_answer_ms(settings.loaded.config) + BEYOND_DEADLINE_MS)
    return _PROXY.substitute(
        upstreams=upstreams, options=options.substitute(timeout=timeout), timeout=timeout, keep_alive=KEEP_ALIVE_S
    )


def _longest_answer_ms(config: Config) -> int:
    """How long the gateway may take to begin an answer."""
    waiting_ms = LONGEST_JOB_WAIT_MS if config.async_queue.enabled else 0
    return max(config.scheduler.request_timeout_ms, waiting_ms)


def _duration(milliseconds: int) -> str:
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def _gateway(host: str, port: int) -> str:
    """Where Caddy finds the gateway of its own machine: a gateway that listens everywhere is met on loopback."""
    name = host.strip().lower().removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        text = name
    else:
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        text = str(address) if address.version == 4 else f"[{address}]"
    upstream = f"{text}:{port}"
    if _connectable(upstream) is None:
        raise DeployError(
            f"Caddy cannot reach a gateway at {upstream}: set server.host to 127.0.0.1", code="caddy_upstream_invalid"
        )
    return upstream


def _node(text: str) -> str:
    parsed = _connectable(text)
    if parsed is None:
        raise DeployError(
            "A node of the pool must be HOST:PORT, such as 10.0.0.11:3000 or [fd00::11]:3000", code="caddy_pool_invalid"
        )
    if address_of(parsed.host) is not None and not (is_loopback(parsed.host) or private_network(parsed.host)):
        raise DeployError(
            f"The node {text} has a public address, and there is no TLS between Caddy and a node: give it one in a "
            "private network (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10, fc00::/7)",
            code="caddy_pool_invalid",
        )
    return text.lower()


def _connectable(text: str) -> SiteAddress | None:
    """The parts of `HOST:PORT`; None when it is not that, or stands for many hosts."""
    parsed = parse_site_address(text)
    if isinstance(parsed, str) or parsed.scheme is not None or parsed.port is None:
        return None
    return parsed if parsed.host and not parsed.host.startswith("*") else None
