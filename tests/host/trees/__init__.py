"""Recorded `/proc` and `/sys` trees, and how a test gets one it may change."""

from __future__ import annotations

import shutil
from pathlib import Path

TREES = Path(__file__).parent
# A machine of which nothing can be read.
NOWHERE = str(TREES / "nowhere")
SERVICE = "sys/fs/cgroup/system.slice/ray-gateway.service"


class FakeClock:
    """Monotonic seconds that move when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Tree:
    """A copy of a recorded tree."""

    def __init__(self, name: str, directory: Path) -> None:
        self.path = directory / name
        shutil.copytree(TREES / name, self.path)

    @property
    def root(self) -> str:
        return str(self.path)

    def write(self, path: str, text: str | bytes) -> None:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def remove(self, path: str) -> None:
        (self.path / path).unlink()
