"""A machine to stage on: sources, places to install to, and a stand-in for llama-server, all in one directory."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ray.config import load_config
from ray.deploy.sizing import launch_profile
from ray.deploy.staging_plan import Sources, StagingPlan, make_plan
from ray.providers import launch_arguments
from tests.deploy.support import EXAMPLES, settings_for
from tests.fakes.gguf_file import gguf_header

EXAMPLE = "ray.1b.generic.public.json"
# A complete file of an architecture that nobody knows: its memory is guessed by rule of thumb.
MODEL = gguf_header({"general.architecture": "made-up"}, ())
# Everything that a shell, a glob, a regular expression or an env file could trip over.
HOSTILE_NAME = 'it\'s a "box" of $HOME `id` %n *[x] \\ a=b; exit'


def example_flags() -> list[str]:
    config = load_config(str(EXAMPLES / EXAMPLE), {}, "/srv/ray").config
    launch = launch_profile(config)
    assert launch is not None
    return [word for word in launch_arguments(launch, config.prefix_store) if word.startswith("--")]


def server_text(extra: str = "", flags: list[str] | None = None) -> str:
    """A shell script whose `--help` names `flags` (all that are needed) after running `extra`."""
    lines = "\n".join(f"{flag} N   what it does" for flag in (example_flags() if flags is None else flags))
    return f"#!/bin/sh\n{extra}\ncat <<'HELP'\nusage:\n{lines}\nHELP\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Box:
    """`user`: an account that is there and is not root, or the one who runs the tests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        account = pwd.getpwnam(self.user)
        self.uid, self.gid = account.pw_uid, account.pw_gid
        self.sources = root / "sources"
        self.sources.mkdir()
        self.binary_source = self.sources / "llama server"
        self.model_source = self.sources / "a model.gguf"
        self.binary = root / "bin" / "llama-server"
        self.model = root / "models" / "model.gguf"
        self.set_server()
        self.model_source.write_bytes(MODEL)

    def set_server(self, text: str | None = None, mode: int = 0o755) -> None:
        self.binary_source.write_text(server_text() if text is None else text)
        self.binary_source.chmod(mode)

    def install_old(self) -> None:
        """Both targets hold something older."""
        for path in (self.binary, self.model):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"old")

    @property
    def is_old(self) -> bool:
        return self.binary.read_bytes() == b"old" == self.model.read_bytes()

    def environ(self, **values: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "RAY_LLAMA_CPP_BINARY_PATH": str(self.binary),
            "RAY_MODEL_PATH": str(self.model),
            "RAY_LLAMA_CPP_BINARY_SOURCE_PATH": str(self.binary_source),
            "RAY_MODEL_SOURCE_PATH": str(self.model_source),
            **values,
        }

    def sourced(self, **changes: str | None) -> Sources:
        given: dict[str, str | None] = {"binary": str(self.binary_source), "model": str(self.model_source)}
        return Sources(**{**given, **changes})

    def plan(self, environ: Mapping[str, str] | None = None, **changes: str | None) -> StagingPlan:
        """A plan for a machine with memory enough. `changes`: of `Sources`."""
        values = self.environ() | dict(environ or {})
        settings = settings_for(["--user", self.user], values, example=EXAMPLE)
        return make_plan(settings, self.sourced(**changes), None)

    def leftovers(self) -> list[str]:
        """Half-made copies beside the targets."""
        places = {self.binary.parent, self.model.parent}
        return [path.name for place in places if place.is_dir() for path in place.glob(".ray-stage-*")]


@pytest.fixture
def box() -> Iterator[Box]:
    yield from _boxes("box")


@pytest.fixture
def hostile_box() -> Iterator[Box]:
    yield from _boxes(HOSTILE_NAME)


def _boxes(name: str) -> Iterator[Box]:
    # Not tmp_path: pytest closes that to everybody else, and the account of the service is somebody else.
    outer = Path(tempfile.mkdtemp(prefix="ray-staging-"))
    outer.chmod(0o755)
    try:
        root = outer / name
        root.mkdir(mode=0o755)
        yield Box(root)
    finally:
        shutil.rmtree(outer)
