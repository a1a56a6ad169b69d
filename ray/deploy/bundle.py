"""Everything that `render` makes for one box, in the order in which it is shown, and how it is put into a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ray.deploy.caddy import POOL_FILE, render_caddyfile, render_pool
from ray.deploy.env_example import env_example
from ray.deploy.findings import Finding
from ray.deploy.settings import DeploySettings
from ray.deploy.sizing import Sizing
from ray.deploy.summary import render_summary
from ray.deploy.units import (
    BACKEND_UNIT,
    GATEWAY_UNIT,
    SOCKET_UNIT,
    render_gateway,
    render_llama_cpp,
    render_socket,
)
from ray.deploy.writing import sync_directory, write_file

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file. `key`: its name in JSON; `title`: its heading in the text form."""

    key: str
    title: str
    file_name: str
    text: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files, and the summary that goes with them."""

    artifacts: tuple[Artifact, ...]
    summary: Mapping[str, object]

    def document(self) -> dict[str, object]:
        """Text by key, and the summary as an object."""
        return {artifact.key: artifact.text for artifact in self.artifacts} | {"summary": self.summary}

    def text(self) -> str:
        """All of it, one section after the other."""
        sections = [(artifact.title, artifact.text) for artifact in self.artifacts]
        return "\n".join(f"# {title}\n\n{body}" for title, body in (*sections, ("Summary", self._summary_text())))

    def write(self, directory: str) -> dict[str, str]:
        """Put the files into `directory`, made where it is missing; the absolute path of each by key. Raises OSError.

        A backend unit from an earlier render goes when this one has none: installed along with the rest, it would run
        a model that the gateway does not speak to. Other files are left alone.
        """
        os.makedirs(directory, exist_ok=True)
        written = {
            artifact.key: write_file(directory, artifact.file_name, artifact.text) for artifact in self.artifacts
        }
        written["summary"] = write_file(directory, SUMMARY_FILE, self._summary_text())
        if BACKEND_UNIT not in {artifact.file_name for artifact in self.artifacts}:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, BACKEND_UNIT))
                sync_directory(directory)
        return written

    def _summary_text(self) -> str:
        return json.dumps(self.summary, indent=2, ensure_ascii=False) + "\n"


def make_bundle(
    settings: DeploySettings,
    sizing: Sizing,
    findings: Iterable[Finding],
    preflight: Mapping[str, object],
    nodes: Sequence[str] = (),
) -> Bundle:
    """Render everything. `nodes`: `HOST:PORT` of several gateways, for a second Caddyfile in front of all of them.

    Raises `DeployError` when a value cannot stand in a unit or a Caddyfile.
    """
    backend = render_llama_cpp(settings, sizing)
    artifacts = [
        Artifact("service", "Ray systemd service", GATEWAY_UNIT, render_gateway(settings, sizing)),
        Artifact("socket", "Ray systemd socket", SOCKET_UNIT, render_socket(settings)),
    ]
    if backend is not None:
        artifacts.append(Artifact("llamaCppService", "llama.cpp systemd service", BACKEND_UNIT, backend))
    artifacts.append(Artifact("caddyfile", "Caddyfile", "Caddyfile", render_caddyfile(settings)))
    if nodes:
        pool = render_pool(settings, nodes)
        artifacts.append(Artifact("caddyfilePool", "Caddyfile for several nodes", POOL_FILE, pool))
    example = env_example(settings.loaded.config)
    artifacts.append(Artifact("envFileExample", "Environment File Example", "ray.env.example", example))
    return Bundle(tuple(artifacts), render_summary(settings, sizing, findings, preflight))
