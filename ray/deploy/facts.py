"""All that `validate` and `doctor` know, gathered before the first check runs: checks only think.

Gathering never raises, and each look and each probe has its own time limit. `validate` and a plain `render` look at
little more than the config; `doctor` and `--strict-filesystem` look at the host as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.deploy.account import Access, Need, access_of, room_need
from ray.deploy.backend_facts import Backend, look_at_backend
from ray.deploy.installation import HostPlaces, Installation, look_at_installation
from ray.deploy.machine import Machine, read_machine
from ray.deploy.places import Place, Room, look_at, room_at
from ray.deploy.running import store_verdict
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing, launch_profile, size
from ray.deploy.swap import Swap, read_swap


@dataclass(frozen=True, slots=True)
class Facts:
    """`installation`: None when not strict. `backend`: None where Ray launches none, or storage is not looked at.
    `env_file`: what lies at the path of `EnvironmentFile=`. `jobs`: the room for durable jobs, None while they are
    off. `proxy`: False where Caddy is not the proxy. `store_verdict`: why the gateway that runs here does not use its
    prefix store."""

    settings: DeploySettings
    strict: bool
    machine: Machine
    sizing: Sizing
    swap: Swap
    env_file: Place | None
    jobs: Room | None
    jobs_access: Access | None
    backend: Backend | None
    installation: Installation | None
    proxy: bool = True
    store_verdict: str | None = None


def gather(
    settings: DeploySettings,
    *,
    strict: bool,
    storage: bool = True,
    proxy: bool = True,
    machine: Machine | None = None,
    places: HostPlaces | None = None,
) -> Facts:
    """Look at everything. `storage`: False leaves out what this machine's disks hold (jobs, program, model), for looks
    at configs of other machines. `machine`, `places`: other ones than this machine's own."""
    config = settings.loaded.config
    machine = machine or read_machine()
    sizing = size(config, machine.memory_mib, settings.memory_mib)
    installation = look_at_installation(settings, sizing, places or HostPlaces(), proxy=proxy) if strict else None
    account = installation.account if installation else None
    jobs = room_at(config.async_queue.storage_dir) if storage and config.async_queue.enabled else None
    launch = launch_profile(config)
    return Facts(
        settings=settings,
        strict=strict,
        machine=machine,
        sizing=sizing,
        swap=read_swap(),
        env_file=None if settings.env_file_path is None else look_at(settings.env_file_path),
        jobs=jobs,
        jobs_access=_jobs_access(settings, installation, jobs),
        backend=None if launch is None or not storage else look_at_backend(settings, launch, sizing, account),
        installation=installation,
        proxy=proxy,
        store_verdict=store_verdict(settings, account) if account else None,
    )


def _jobs_access(settings: DeploySettings, installation: Installation | None, jobs: Room | None) -> Access | None:
    if installation is None or jobs is None or not jobs.place.is_directory:
        return None
    wanted: dict[str, tuple[str, Need]] = {"jobs": (jobs.place.path, room_need(jobs))}
    return access_of(installation.account, wanted, settings.process_environ).get("jobs")
