"""What an operator copies from a page into a root shell: it ends by itself, and it names what it means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(ROOT / "deploy").rglob("*.md"),
        *(path for path in (ROOT / "docs").glob("*.md") if path.stem in ("operations", "portable-1b")),
        *(ROOT / "docs/integrations").glob("*.md"),
    ]
)
BLOCK = re.compile(r"^ *```(?:sh|shell|bash|console)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# What can wait for a network, a lock, a service or a disk. `fit` and `swap-plan` cannot: they read and print.
SLOW = re.compile(
    r"(?:^|\s)(?:systemctl|apt-get|git clone|caddy|rsync|scp|python3 -m ray\.deploy(?! (?:fit|swap-plan)))\b"
)
CURL = re.compile(r"""(?:^|\s)curl (?=-|["']?(?:http|\$))""")  # run, not named as a package
UNIT_ACTIONS = "start|stop|restart|try-restart|reload|reload-or-restart|enable|disable|status|is-active|show"


def commands(page: Path) -> Iterator[str]:
    """The simple commands of the page's shell blocks, one after the other."""
    for block in BLOCK.findall(page.read_text("utf-8")):
        text = re.sub(r"(?<!\\)#(?=\s).*$", "", block.replace("\\\n", " "), flags=re.MULTILINE)
        # A pipe at the end of a line goes on in the next one; both halves are commands of their own anyway.
        for command in re.split(r"\n|&&|\|\|?|;", text):
            if command.strip():
                yield " ".join(command.split())


def faults(command: str) -> Iterator[str]:
    """What is wrong with a command for a page of operators."""
    if SLOW.search(command) and not re.search(r"(?:^|\s|\()timeout (?:-\S+ )*\d+[smh]? ", command):
        yield "has no `timeout`"
    if CURL.search(command) and not ("--connect-timeout" in command and "--max-time" in command):
        yield "has no --connect-timeout or no --max-time"
    if re.search(r"\bgit clone\b", command) and "--depth 1" not in command:
        yield "fetches the whole history"
    action = re.search(rf"\bsystemctl (?:-\S+ )*(?:{UNIT_ACTIONS}) (.*)", command)
    if action:
        yield from (
            f"names {word} without its kind"
            for word in action[1].split()
            if re.match(r"[a-z]", word) and not re.search(r"\.(?:service|socket|timer|slice)$", word)
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_page_for_operators_when_its_commands_are_copied_then_each_ends_and_names_what_it_means(
    page: Path,
) -> None:
    assert [f"{command}: {fault}" for command in commands(page) for fault in faults(command)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_given_a_page_for_operators_when_an_example_is_copied_then_no_stranger_is_called_back(page: Path) -> None:
    assert re.findall(r'"callbackUrl": *"https?://[^"]*example\.(?:com|org|net)', page.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("systemctl daemon-reload", "timeout"),
        ("timeout 60 systemctl restart ray-gateway", "kind"),
        ("timeout 60 systemctl enable --now caddy.service ray-gateway", "kind"),
        ("curl http://127.0.0.1:3000/livez", "--connect-timeout"),
        ("curl --max-time 5 http://127.0.0.1:3000/livez", "--connect-timeout"),
        ("timeout 300 git clone https://git.example.com/ray", "history"),
        ("sudo apt-get update", "timeout"),
        ("python3 -m ray.deploy doctor", "timeout"),
    ],
)
def test_the_rules_see_a_fault(command: str, fault: str) -> None:
    assert any(fault in found for found in faults(command))


@pytest.mark.parametrize(
    "command",
    [
        "timeout 60 systemctl restart ray-gateway.service ray-gateway.socket",
        "timeout -k 5 60s systemctl daemon-reload",
        "sudo timeout 300 apt-get update",
        "curl --connect-timeout 2 --max-time 5 http://127.0.0.1:3000/livez",
        "timeout 300 git clone --quiet --depth 1 https://git.example.com/ray",
        "timeout 600 apt-get install --yes caddy curl git",
        "python3 -m ray.deploy fit --config ray.json",
        "id ray",
    ],
)
def test_the_rules_let_a_good_command_pass(command: str) -> None:
    assert list(faults(command)) == []


def test_there_are_pages_and_commands_to_look_at() -> None:
    assert any(commands(page) for page in PAGES)
    assert len(list(commands(ROOT / "deploy/vps/README.md"))) > 20
