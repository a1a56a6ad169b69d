"""A real Caddy for the integration tests, with a rendered site file, plain or with a certificate of its own making."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from tests.integration.backend import START_SECONDS, STOP_SECONDS, wait_until

# What the tests add to a site file: no port 2019, no port 80, nothing put into the machine's list of trusted roots.
GLOBAL_OPTIONS = """\
{
	admin off
	auto_https disable_redirects
	skip_install_trust
}
"""


class CaddyProcess:
    """`caddy run` with everything it stores below `directory`. It listens on return of `start`."""

    def __init__(self, binary: Path, site: str, port: int, directory: Path) -> None:
        self.port = port
        self._binary = binary
        self._home = directory / f"caddy.{port}"
        self._home.mkdir()
        self._file = self._home / "Caddyfile"
        self._file.write_text(GLOBAL_OPTIONS + site, "utf-8")
        self._log = self._home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def root_certificate(self) -> Path:
        """Of Caddy's own certificate authority, which signs for names that no public one can reach."""
        return self._home / ".local/share/caddy/pki/authorities/local/root.crt"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binary), "run", "--adapter", "caddyfile", "--config", str(self._file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
            )
        wait_until(lambda: self._listens() or self._process_ended(), START_SECONDS, "Caddy listens")
        assert not self._process_ended(), f"Caddy ended:\n{self.log()}"

    def _process_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(5)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._process = None
