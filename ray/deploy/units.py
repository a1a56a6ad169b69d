"""The units of one box: the gateway, the socket that outlives it, and the backend.

Both services run as the same account: the gateway renames and reads the snapshots that llama-server writes, and what it
trusts must belong to it and be closed to everyone else. What keeps them apart is what each of them can see: the backend
reads its model, writes the snapshots' directory and nothing else, and speaks to this machine alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ray.config import (
    AsyncQueueConfig,
    Config,
    LlamaCppAdapter,
    OpenAICompatibleAdapter,
    is_loopback,
    parse_base_url,
)
from ray.deploy.failures import DeployError
from ray.deploy.private_network import address_of, allowed_peers
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import MemoryLimits, Sizing, launch_profile
from ray.deploy.unit_values import (
    argument_word,
    assignment,
    listed_path,
    program_word,
    raw_path,
    raw_pattern,
    state_directory,
)
from ray.http import Limits
from ray.providers import launch_command

GATEWAY_UNIT = "ray-gateway.service"
SOCKET_UNIT = "ray-gateway.socket"
BACKEND_UNIT = "ray-llama-cpp.service"
STATE_ROOT = "/var/lib"
STATE_PLACE = "/var/lib/ray"
# Tasks are threads. The gateway has two for each answer under way, of which there are at most 8, and one each for disk,
# names and probes; llama-server has two pools of at most 32 + 32 threads that compute, and one for HTTP.
GATEWAY_TASKS = 128
BACKEND_TASKS = 256

Lines = list[tuple[str, str]]

# What both services do without. Read-only: everything but what is named as writable.
SANDBOX: Sequence[tuple[str, str]] = (
    ("NoNewPrivileges", "true"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("SystemCallArchitectures", "native"),
    ("SystemCallFilter", "@system-service"),
    ("SystemCallFilter", "~@privileged @resources"),
    ("SystemCallErrorNumber", "EPERM"),
    ("MemoryDenyWriteExecute", "true"),
    ("LockPersonality", "true"),
    ("PrivateMounts", "true"),
    ("PrivateTmp", "true"),
    ("PrivateDevices", "true"),
    ("DevicePolicy", "closed"),
    ("PrivateUsers", "true"),
    ("PrivateIPC", "true"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "true"),
    ("ProtectClock", "true"),
    ("ProtectHostname", "true"),
    ("ProtectControlGroups", "true"),
    ("ProtectKernelLogs", "true"),
    ("ProtectKernelModules", "true"),
    ("ProtectKernelTunables", "true"),
    ("ProtectProc", "invisible"),
    ("RestrictNamespaces", "true"),
    ("RestrictRealtime", "true"),
    ("RestrictSUIDSGID", "true"),
    ("RemoveIPC", "true"),
    ("KeyringMode", "private"),
    ("UMask", "0077"),
    ("LimitNOFILE", "4096"),
    # A core would hold prompts and keys.
    ("LimitCORE", "0"),
)
ONLY_THIS_MACHINE: Sequence[tuple[str, str]] = (("IPAddressDeny", "any"), ("IPAddressAllow", "localhost"))


def render_gateway(settings: DeploySettings, sizing: Sizing) -> str:
    """`ray-gateway.service`. Raises `DeployError` when a path cannot stand in a unit."""
    config = settings.loaded.config
    has_backend = launch_profile(config) is not None
    environment_file = settings.env_file_path
    service: Lines = [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "30"),
        ("User", settings.user),
        ("WorkingDirectory", raw_path("WorkingDirectory=", settings.cwd)),
    ]
    if environment_file is not None:
        service.append(("EnvironmentFile", raw_pattern("EnvironmentFile=", environment_file)))
    service += [
        ("Environment", assignment("PYTHONUNBUFFERED", "1")),
        ("Environment", assignment("PYTHONDONTWRITEBYTECODE", "1")),
        # Where the event loop stood when the watchdog ended it.
        ("Environment", assignment("PYTHONFAULTHANDLER", "1")),
        ("ExecStart", _command([settings.runtime_binary, "-m", "ray", "--config", settings.config_path])),
        *_life(restart_s=2),
        ("OOMPolicy", "stop"),
        ("OOMScoreAdjust", "-250"),
        ("TasksMax", str(GATEWAY_TASKS)),
        *_resources(sizing.gateway),
        *_writable(_gateway_places(config)),
        *SANDBOX,
        # Pressure is read from /proc/pressure, so the rest of /proc stays.
        ("ProcSubset", "all"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        *(_only_peers(settings) if _stays_on_this_machine(config) else ()),
    ]
    unit: Lines = [
        ("Description", "Ray Gateway"),
        *((("Wants", BACKEND_UNIT),) if has_backend else ()),
        ("Requires", SOCKET_UNIT),
        ("After", " ".join(["network.target", SOCKET_UNIT, *([BACKEND_UNIT] if has_backend else [])])),
        # Whatever is wrong, an unattended box goes on trying.
        ("StartLimitIntervalSec", "0"),
    ]
    return _unit(("Unit", unit), ("Service", service), ("Install", [("WantedBy", "multi-user.target")]))


def render_socket(settings: DeploySettings) -> str:
    """`ray-gateway.socket`: while the gateway restarts, connections wait in its line instead of being refused.

    Raises `DeployError` when `server.host` is a name: a socket unit takes addresses.
    """
    config = settings.loaded.config
    limits = Limits()
    socket: Lines = [
        ("ListenStream", _listen_address(config.server.host, config.server.port)),
        ("FileDescriptorName", "http"),
        ("Accept", "no"),
        # As many as the gateway accepts at a time: who waits in line is not turned away when it opens again.
        ("Backlog", str(limits.max_connections)),
        ("ReceiveBuffer", str(limits.socket_buffer_bytes)),
        ("SendBuffer", str(limits.socket_buffer_bytes)),
        # Sockets are opened early in the boot, when a private network may not have given this machine its address yet.
        *(() if is_loopback(config.server.host) else (("FreeBind", "true"),)),
        # An address list of a service does not hold for sockets that are passed to it.
        *_only_peers(settings),
    ]
    unit: Lines = [("Description", "Ray Gateway socket")]
    return _unit(("Unit", unit), ("Socket", socket), ("Install", [("WantedBy", "sockets.target")]))


def render_llama_cpp(settings: DeploySettings, sizing: Sizing) -> str | None:
    """`ray-llama-cpp.service`; None where Ray launches no backend. It has no env file: keys stay out of the backend."""
    config = settings.loaded.config
    launch = launch_profile(config)
    if launch is None or sizing.backend is None:
        return None
    service: Lines = [
        ("Type", "exec"),
        ("User", settings.user),
        # Threads of OpenMP that spin for long at each meeting point stop all the others when one of them must wait.
        ("Environment", assignment("GOMP_SPINCOUNT", "10000")),
        ("ExecStart", _command(launch_command(launch, config.prefix_store))),
        *_life(restart_s=5),
        ("OOMPolicy", "stop"),
        ("OOMScoreAdjust", "250"),
        ("TasksMax", str(BACKEND_TASKS)),
        # The weight counts between services; niceness does where the CPU controller is not at hand.
        ("Nice", "10"),
        *_resources(sizing.backend),
        *_writable(_snapshot_places(config)),
        *_hidden(settings, config.async_queue),
        *SANDBOX,
        *((("LimitMEMLOCK", "infinity"),) if "--mlock" in launch.extra_args else ()),
        ("ProcSubset", "pid"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6"),
        *ONLY_THIS_MACHINE,
    ]
    unit: Lines = [
        ("Description", "llama.cpp Server for Ray"),
        ("After", "network.target"),
        ("StartLimitIntervalSec", "0"),
    ]
    return _unit(("Unit", unit), ("Service", service), ("Install", [("WantedBy", "multi-user.target")]))


def _unit(*sections: tuple[str, Lines]) -> str:
    return "\n".join(
        f"[{name}]\n" + "".join(f"{setting}={value}\n" for setting, value in lines) for name, lines in sections
    )


def _command(words: Sequence[str]) -> str:
    program, *arguments = words
    return " ".join([program_word(program), *(argument_word(argument) for argument in arguments)])


def _life(*, restart_s: int) -> Lines:
    return [
        ("Restart", "always"),
        ("RestartSec", str(restart_s)),
        ("LogRateLimitIntervalSec", "30s"),
        ("LogRateLimitBurst", "200"),
        # The gateway lets running answers finish for 30 seconds.
        ("TimeoutStopSec", "35"),
        ("KillSignal", "SIGTERM"),
        ("KillMode", "mixed"),
    ]


def _resources(limits: MemoryLimits) -> Lines:
    return [
        ("CPUAccounting", "true"),
        ("CPUWeight", str(limits.cpu_weight)),
        ("MemoryAccounting", "true"),
        ("IOAccounting", "true"),
        ("MemoryHigh", f"{limits.high_mib}M"),
        ("MemoryMax", f"{limits.max_mib}M"),
        ("MemorySwapMax", f"{limits.swap_max_mib}M"),
    ]


def _gateway_places(config: Config) -> tuple[str, ...]:
    """The directories that the gateway writes to."""
    jobs = (config.async_queue.storage_dir,) if config.async_queue.enabled else ()
    return (*jobs, *_snapshot_places(config))


def _snapshot_places(config: Config) -> tuple[str, ...]:
    adapter = config.model.adapter
    if not isinstance(adapter, LlamaCppAdapter) or not config.prefix_store.enabled:
        return ()
    if adapter.launch_profile is not None and not adapter.launch_profile.cache_prompt:
        return ()
    return (config.prefix_store.storage_dir,)


def _writable(places: Iterable[str]) -> Lines:
    """Below /var/lib/ray systemd makes the directories and gives them to the account; elsewhere they must be there, or
    the gateway says what is missing."""
    managed, others = [], []
    for place in places:
        if place == STATE_PLACE or place.startswith(f"{STATE_PLACE}/"):
            managed.append(state_directory(place.removeprefix(f"{STATE_ROOT}/")))
        else:
            others.append("-" + place)
    lines: Lines = []
    if managed:
        lines += [("StateDirectory", " ".join(managed)), ("StateDirectoryMode", "0700")]
    if others:
        lines.append(("ReadWritePaths", " ".join(listed_path(place) for place in others)))
    return lines


def _hidden(settings: DeploySettings, jobs: AsyncQueueConfig) -> Lines:
    """What belongs to the gateway alone, although the backend runs as the same account."""
    own = [jobs.storage_dir] if jobs.enabled else []
    if settings.env_file_path is not None:
        own.append(settings.env_file_path)
    return [("InaccessiblePaths", " ".join(listed_path("-" + path) for path in own))] if own else []


def _only_peers(settings: DeploySettings) -> Sequence[tuple[str, str]]:
    """Who may connect: this machine alone, or the proxy of a private network as well. Nobody is kept from an address
    that is neither; a check refuses to render it."""
    host = settings.loaded.config.server.host
    if is_loopback(host):
        return ONLY_THIS_MACHINE
    peers = allowed_peers(host, settings.proxies)
    return () if peers is None else (("IPAddressDeny", "any"), ("IPAddressAllow", " ".join(peers)))


def _stays_on_this_machine(config: Config) -> bool:
    """Does the gateway begin to speak with nobody else? Callbacks of jobs may go anywhere, and so may a backend
    elsewhere."""
    if config.async_queue.enabled:
        return False
    adapter = config.model.adapter
    if not isinstance(adapter, LlamaCppAdapter | OpenAICompatibleAdapter):
        return True
    url = parse_base_url(adapter.base_url)
    return not isinstance(url, str) and is_loopback(url.host)


def _listen_address(host: str, port: int) -> str:
    if host.strip().lower() == "localhost":
        return f"127.0.0.1:{port}"
    address = address_of(host)
    if address is None:
        raise DeployError(
            f"server.host {host!r} is a name, and a socket unit listens on an address: set it to 127.0.0.1 (RAY_HOST)",
            code="deploy_host_is_a_name",
        )
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
