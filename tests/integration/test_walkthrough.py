"""The walkthrough of deploy/vps/README.md, block by block, in a machine within the machine.

File systems, network and processes are a namespace's own: the paths are the real ones, and nothing is left behind or
can be written that is the real machine's. That takes root (see `namespaces`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backend import ROOT
from tests.integration.conftest import Backend
from tests.integration.namespaces import missing, need_machines

WALKTHROUGH = ROOT / "deploy/vps/README.md"
MACHINE = Path(__file__).parent / "machine"
TOOLS = ("caddy", "curl", "git", "ip", "mount", "openssl", "ssh-keygen", "systemd-analyze", "tar", "unshare", "useradd")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = "\n".join(("#!/bin/sh", 'echo "apt-get $*" >>"$MACHINE/packages"', ""))
SECONDS = 420
SPACES = ("mnt", "net", "pid", "ipc", "uts")

# What the test does between the steps, by the heading before: it looks, and gives the next step something to do.
BETWEEN = {
    "8. Is it there?": """
        test "$(curl -s -o /dev/null -w '%{http_code}' -H 'content-type: application/json' -d '{"input": "x"}' \
            "https://$DOMAIN/v1/infer")" = 401
        authorized() { sed -n 's/^RAY_API_KEYS=/authorization: Bearer /p' /etc/ray/ray.env | curl -sSf -H @- "$@"; }
        job=$(authorized -H 'content-type: application/json' -d '{"input": "Say hello.", "maxTokens": 4}' \
            "https://$DOMAIN/v1/jobs" | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
        authorized "https://$DOMAIN/v1/jobs/$job?wait=20" | grep -q '"status":"succeeded"'
        first=$(readlink /srv/ray/ray)
        git -C "${REPOSITORY#file://}" commit --quiet --allow-empty --message 'A later release'
    """,
    "Upgrade": """
        test "$before" = "$first"
        test "$(readlink /srv/ray/ray)" != "$first"
        curl -sSf http://127.0.0.1:3000/livez
    """,
    "Rollback": """
        test "$(readlink /srv/ray/ray)" = "$first"
        curl -sSf http://127.0.0.1:3000/livez
    """,
    "Backup of the jobs": """
        authorized "http://127.0.0.1:3000/v1/jobs/$job" | grep -q '"status":"succeeded"'
        stat -c '%n %a %U:%G' /etc/ray/ray.json /etc/ray/ray.env /var/lib/ray/models /var/lib/ray/async-queue \
            /usr/local/bin/llama-server /etc/caddy/Caddyfile >"$MACHINE/modes"
    """,
}


def blocks() -> Iterator[tuple[str, str]]:
    """Heading and text of each block, in order."""
    heading = ""
    for found in re.finditer(
        r"^##+ ([^\n]+)$|^```sh\n(.*?)^```$", WALKTHROUGH.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        if found[1]:
            heading = found[1]
        else:
            yield heading, found[2]


def script() -> str:
    """The whole page, with what the test does in between."""
    lines, shown = [], list(blocks())
    assert len(shown) > 8
    assert set(BETWEEN) <= {heading for heading, _ in shown}
    for number, (heading, text) in enumerate(shown):
        lines += [f"echo '== {heading}'", text]
        is_last_of_its_heading = number + 1 == len(shown) or shown[number + 1][0] != heading
        if is_last_of_its_heading and heading in BETWEEN:
            lines.append(BETWEEN[heading])
    return "\n".join([*lines, "echo '== end'", ""])


@pytest.fixture
def machine() -> Iterator[Path]:
    """A directory of the machine's own, which other accounts may enter."""
    need_machines(TOOLS, PATH)
    with tempfile.TemporaryDirectory(prefix="ray-walkthrough-") as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "layers").mkdir()
        tried = entered(place, "exit 0", {"PATH": PATH, "MACHINE": directory}, 60)
        if tried.returncode != 0:
            missing(f"there can be no machine within this machine: {tried.stderr[-500:]}")
        yield place


def prepare(machine: Path, backend: Backend) -> dict[str, str]:
    """Repository, programs and artifacts; the environment of the walkthrough."""
    for name in ("bin", "artifacts", "repository"):
        (machine / name).mkdir()
    shutil.copy(MACHINE / "systemctl", machine / "bin/systemctl")
    (machine / "bin/apt-get").write_text(PACKAGES)
    for program in (machine / "bin").iterdir():
        program.chmod(0o755)
    shutil.copy(backend.binary, machine / "artifacts/llama-server")
    shutil.copy(backend.model, machine / "artifacts/model.gguf")
    repository = machine / "repository"
    for name in ("ray", "examples", "deploy"):
        shutil.copytree(ROOT / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    who = {"PATH": PATH, "HOME": str(machine), "GIT_AUTHOR_NAME": "r", "GIT_AUTHOR_EMAIL": "r@localhost"}
    who |= {"GIT_COMMITTER_NAME": "r", "GIT_COMMITTER_EMAIL": "r@localhost"}
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "A release"]):
        subprocess.run(["git", *command], cwd=repository, env=who, check=True, timeout=60)
    return {
        **who,
        "HOME": "/root",
        "PATH": f"{machine}/bin:{PATH}",
        "MACHINE": str(machine),
        "REPOSITORY": f"file://{repository}",
        "DOMAIN": "localhost",
        "LLAMA_SERVER": str(machine / "artifacts/llama-server"),
        "MODEL": str(machine / "artifacts/model.gguf"),
        "CURL_CA_BUNDLE": "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt",
    }


def entered(machine: Path, text: str, environ: dict[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a script in the machine; it ends with everything that it has started."""
    walk = machine / "walk.sh"
    walk.write_text(text)
    # Copied, because the machine does not see what lies in /tmp.
    enter = shutil.copy(MACHINE / "enter.sh", machine)
    outside = " ".join(os.readlink(f"/proc/self/ns/{space}") for space in SPACES)
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
         "--mount-proc", "sh", str(enter), str(walk)],
        env={**environ, "OUTSIDE": outside}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=seconds, check=False,
    )  # fmt: skip


def inside(machine: Path, text: str, environ: dict[str, str]) -> None:
    """Run a script in the machine. It has to come to its end, and meets programs that are played by their players."""
    played = [f'test "$(command -v {name})" = "$MACHINE/bin/{name}" || exit 1\n' for name in ("apt-get", "systemctl")]
    done = entered(machine, "".join(played) + text, environ, SECONDS)
    logs = "".join(f"\n-- {log.name}\n{log.read_text()[-3000:]}" for log in sorted((machine / "units").glob("*.log")))
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}{logs}"
    assert done.stdout.rstrip().endswith("== end")


# Everywhere that the walkthrough, or what it starts, could think of writing to.
LEAVE_TRACES = """
set -eu
for place in /etc /etc/systemd/system /run /tmp /var /var/tmp /var/lib /var/log /usr/local/bin /srv /root /dev/shm; do
    echo trace >"$place/ray-trace-of-the-test"
done
for place in / /usr /usr/bin /opt /home "$CHECKOUT"; do
    if echo trace 2>/dev/null >"$place/ray-trace-of-the-test"; then exit 1; fi
done
useradd --system ray-account-of-the-test
mount -t tmpfs tmpfs /mnt
set -- /proc/[0-9]*
test $# -lt 6
test "$(ip -o link | grep -c -v ': lo:')" = 0
echo trace >"$MACHINE/kept"
"""


def test_given_a_machine_when_it_writes_everywhere_then_nothing_of_it_is_outside(machine: Path) -> None:
    mounts = Path("/proc/self/mounts").read_text()
    environ = {"PATH": PATH, "MACHINE": str(machine), "CHECKOUT": str(ROOT)}

    done = entered(machine, LEAVE_TRACES, environ, 60)

    assert done.returncode == 0, done.stderr
    assert (machine / "kept").read_text() == "trace\n"
    assert not list((machine / "layers").iterdir())
    for place in ("/etc", "/etc/systemd/system", "/run", "/tmp", "/var", "/var/tmp", "/var/lib", "/var/log"):
        assert not Path(place, "ray-trace-of-the-test").exists()
    for place in ("/usr/local/bin", "/srv", "/root", "/dev/shm", "/", "/usr", "/usr/bin", "/opt", "/home", str(ROOT)):
        assert not Path(place, "ray-trace-of-the-test").exists()
    assert "ray-account-of-the-test" not in Path("/etc/passwd").read_text()
    assert Path("/proc/self/mounts").read_text() == mounts


@pytest.mark.parametrize("program", ["enter.sh", "systemctl"])
def test_given_the_real_machine_when_a_part_of_the_test_is_run_there_then_it_does_nothing(
    program: str, tmp_path: Path
) -> None:
    """They act on the paths and processes that they find, so they look at where they are first."""
    outside = " ".join(os.readlink(f"/proc/self/ns/{space}") for space in SPACES)
    shutil.copy(MACHINE / program, tmp_path)
    command = ["sh", str(tmp_path / program), "/dev/null"] if program == "enter.sh" else [sys.executable]
    command += [] if program == "enter.sh" else [str(tmp_path / program), "stop", "x.service"]
    for environ in ({"OUTSIDE": outside}, {}):
        done = subprocess.run(
            command, env={"PATH": "/nowhere:/usr/bin:/bin", "MACHINE": str(tmp_path), **environ}, timeout=30,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0
    assert [path.name for path in tmp_path.iterdir()] == [program]


def test_given_an_empty_machine_when_the_walkthrough_is_followed_then_it_serves_upgrades_and_restores(
    machine: Path, backend: Backend
) -> None:
    inside(machine, script(), prepare(machine, backend))

    assert " caddy " in (machine / "packages").read_text()
    assert (machine / "modes").read_text().splitlines() == [
        "/etc/ray/ray.json 640 root:ray",
        "/etc/ray/ray.env 600 root:root",
        "/var/lib/ray/models 750 ray:ray",
        "/var/lib/ray/async-queue 700 ray:ray",
        "/usr/local/bin/llama-server 755 root:root",
        "/etc/caddy/Caddyfile 644 root:root",
    ]


# One that cannot work, a first one, one that keeps the machine's env file, some that ask for what may not be, one that
# does not start, and one with another port.
DEPLOYS = """
set -eu
ssh-keygen -q -t ed25519 -N '' -f /root/key
export RAY_DEPLOY_HOST=203.0.113.9 RAY_DEPLOY_SSH_PORT=2222 RAY_DEPLOY_DOMAIN=ray.example.com
export RAY_DEPLOY_SSH_KEY="$(cat /root/key)"
export RAY_DEPLOY_KNOWN_HOSTS="[203.0.113.9]:2222 $(cut -d' ' -f1,2 /root/key.pub)"
cd "${REPOSITORY#file://}"
sources="RAY_LLAMA_CPP_BINARY_SOURCE_PATH=$LLAMA_SERVER
RAY_MODEL_SOURCE_PATH=$MODEL"
if RAY_ENV_FILE_CONTENTS=RAY_API_KEYS=a-secret-of-the-test deploy/vps/deploy.sh 2>"$MACHINE/first"; then exit 1; fi
grep -q 'the first release did not become ready' "$MACHINE/first"
test ! -e /etc/systemd/system/ray-gateway.service

RAY_ENV_FILE_CONTENTS="RAY_API_KEYS=a-secret-of-the-test
$sources" deploy/vps/deploy.sh
first=$(readlink /srv/ray/ray)
grep -q '^RAY_API_KEYS=a-secret-of-the-test$' /etc/ray/ray.env
grep -q '^RAY_DEPLOY_DOMAIN=ray.example.com$' /etc/ray/ray.env
test "$(stat -c '%a %U' /etc/ray/ray.env)" = '600 root'

git commit --quiet --allow-empty --message 'A later release'
RAY_DEPLOY_SSH_USER=deployer deploy/vps/deploy.sh
second=$(readlink /srv/ray/ray)
test "$first" != "$second"
grep -q '^RAY_API_KEYS=a-secret-of-the-test$' /etc/ray/ray.env
curl -sSf http://127.0.0.1:3000/readyz

cp "$MACHINE/calls" "$MACHINE/calls.before"
refused() {
    if env "$@" deploy/vps/deploy.sh 2>>"$MACHINE/refusals"; then exit 1; fi
}
refused RAY_DEPLOY_HOST=
refused RAY_DEPLOY_HOST=-oProxyCommand=x
refused RAY_DEPLOY_SSH_PORT=70000
refused RAY_DEPLOY_SSH_KEY=nonsense
refused RAY_DEPLOY_HOST=198.51.100.7
refused RAY_CONFIG_PATH=../ray.json
refused RAY_CONFIG_PATH=/etc/ray/ray.json
refused RAY_CONFIG_PATH=.git/config
refused RAY_CONFIG_JSON='{"profile": "nothing"}'
refused RAY_ENV_FILE_CONTENTS=RAY_API_KEYS=
refused RAY_DEPLOY_DOMAIN='a b'
refused RAY_DEPLOY_DOMAIN='$(reboot)'
refused RAY_DEPLOY_INSTALL_CADDY=yes
refused RAY_DEPLOY_INSTALL_CADDY=true RAY_DEPLOY_DOMAIN=ray.local
refused RAY_DEPLOY_INSTALL_CADDY=true RAY_CONFIG_PATH=examples/config/ray.sub1b.json
cmp "$MACHINE/calls" "$MACHINE/calls.before"

echo 'main = lambda *arguments: 3' >>ray/cli.py
git commit --quiet --all --message 'A release that does not start'
if deploy/vps/deploy.sh 2>"$MACHINE/taken-back"; then exit 1; fi
grep -q 'did not become ready' "$MACHINE/taken-back"
test "$(readlink /srv/ray/ray)" = "$second"
curl -sSf http://127.0.0.1:3000/livez

git reset --quiet --hard HEAD~1
for old in 1 2 3 4 5 6; do mkdir -p "/srv/ray/releases/old$old/ray"; done
RAY_ENV_FILE_CONTENTS="RAY_API_KEYS=a-secret-of-the-test
RAY_PORT=3100" deploy/vps/deploy.sh
curl -sSf http://127.0.0.1:3100/readyz
grep -q '^ListenStream=127.0.0.1:3100$' /etc/systemd/system/ray-gateway.socket
test "$(readlink /srv/ray/ray)" = "$second"
test -d "/srv/ray/$second"
test "$(ls /srv/ray/releases | wc -l)" -le 6
if ls -d /var/tmp/ray-deploy.*; then exit 1; fi
echo '== end'
"""
# The machine is its own remote one. What stands on the command line is kept, for a look at it.
SSH = """#!/bin/sh
echo "$*" >>"$MACHINE/calls"
env | grep a-secret-of-the-test && exit 9
for remote; do :; done
exec sh -c "$remote"
"""
SUDO = """#!/bin/sh
test "$1" = -n && shift && exec "$@"
"""


def test_given_a_commit_when_it_is_sent_to_a_machine_then_it_works_there_or_is_taken_back(
    machine: Path, backend: Backend
) -> None:
    environ = prepare(machine, backend)
    for name, text in (("ssh", SSH), ("sudo", SUDO)):
        (machine / "bin" / name).write_text(text)
        (machine / "bin" / name).chmod(0o755)

    inside(machine, DEPLOYS, environ)

    calls = (machine / "calls").read_text()
    assert calls.count("StrictHostKeyChecking=yes") == 5
    assert "a-secret-of-the-test" not in calls
    assert calls.count("deployer@203.0.113.9 sudo -n sh -c") == 1
    refusals = (machine / "refusals").read_text()
    assert "a-secret-of-the-test" not in refusals
    assert len(re.findall(r"^deploy: ", refusals, re.MULTILINE)) == 15
