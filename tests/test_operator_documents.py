"""What operators copy from the documents exists, cannot hang, and says what it does."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

import ray
from ray.config import load_config
from ray.deploy.commands import COMMANDS, command_module
from ray.runtime import normalise_request

ROOT = Path(__file__).resolve().parent.parent
WALKTHROUGH = ROOT / "deploy/vps/README.md"
OPERATIONS = ROOT / "docs/operations.md"
PORTABLE = ROOT / "docs/portable-1b.md"
RAZROO = ROOT / "docs/integrations/razroo-email-ai.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), WALKTHROUGH])
# What may wait for something: the network, a lock, systemd, a disk that does not answer.
WAITING = ("apt-get", "caddy", "git clone", "journalctl", "python3 -m ray.deploy", "python3 examples", "systemctl")
COMMAND = re.compile(r"python3? -m ray\.deploy ([a-z][a-z-]*)((?:[^`\n|;&()]|\\\n)*)")


def blocks(document: Path, language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ") for block in found]


def commands(document: Path) -> list[str]:
    """The simple commands of the blocks of shell, comments left out."""
    lines = [line for block in blocks(document, "sh") for line in block.splitlines() if not line.startswith("#")]
    return [part.strip() for line in lines for part in re.split(r"\|\|?|&&|;|\$\(", line)]


def named_commands() -> list[tuple[str, str, str]]:
    """Document, command and what stands behind it, of everything that a document says to run."""
    return [
        (document.name, name, rest.replace("\\\n", " "))
        for document in DOCUMENTS
        for name, rest in COMMAND.findall(document.read_text("utf-8"))
    ]


def test_given_the_documents_when_they_name_a_deploy_command_then_it_and_its_options_exist() -> None:
    named = named_commands()

    assert len(named) > 10
    for document, name, rest in named:
        assert name in COMMANDS, (document, name)
        parser = argparse.ArgumentParser(allow_abbrev=False)
        command_module(name).add_arguments(parser)
        known = {option for action in parser._actions for option in action.option_strings}
        options = {word.partition("=")[0] for word in rest.split() if word.startswith("--")}
        assert options <= known, (document, name, options - known)


@pytest.mark.parametrize("document", [WALKTHROUGH, OPERATIONS], ids=lambda path: path.name)
def test_given_a_command_that_may_wait_when_an_operator_copies_it_then_it_has_a_time_limit(document: Path) -> None:
    endless = [
        command
        for command in commands(document)
        if any(re.search(rf"(?:^|\s){re.escape(word)}\s", command) for word in WAITING)
        and not command.startswith("timeout ")
        and "$(timeout " not in command
    ]

    assert endless == []


@pytest.mark.parametrize("document", [WALKTHROUGH, OPERATIONS], ids=lambda path: path.name)
def test_given_a_curl_when_an_operator_copies_it_then_it_gives_up(document: Path) -> None:
    calls = [command for command in commands(document) if command.startswith("curl ")]

    assert calls
    assert [call for call in calls if "--connect-timeout" not in call or "--max-time" not in call] == []


@pytest.mark.parametrize("document", [WALKTHROUGH, OPERATIONS], ids=lambda path: path.name)
def test_given_a_unit_when_a_command_names_it_then_with_its_kind(document: Path) -> None:
    words = [word for command in commands(document) if "systemctl" in command for word in shlex.split(command)]
    units = [word for word in words if word.startswith(("ray-", "caddy"))]

    assert units
    assert [unit for unit in units if not unit.endswith((".service", ".socket"))] == []


def test_given_the_walkthrough_when_it_clones_then_only_what_it_needs() -> None:
    clones = [command for command in commands(WALKTHROUGH) if "git clone" in command]

    assert clones
    assert all("--depth 1" in clone for clone in clones)


@pytest.mark.parametrize("name", ["ray.1b.generic.public.json", "ray.1b.8gb.generic.public.json"])
def test_given_the_env_file_of_the_portable_page_when_loaded_then_the_model_is_the_operators(name: str) -> None:
    text = next(block for block in blocks(PORTABLE, "sh") if "RAY_MODEL_PATH" in block)
    environ = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))

    config = load_config(str(ROOT / "examples/config" / name), environ, str(ROOT)).config

    assert config.model.id == "my-model"
    launch = getattr(config.model.adapter, "launch_profile", None)
    assert launch is not None
    assert (launch.model_path, launch.alias) == (environ["RAY_MODEL_PATH"], "my-model")


@pytest.mark.parametrize("name", ["ray.hetzner-cx23-qwen0.6b.json", "ray.hetzner-cx23-qwen0.6b.public.json"])
def test_given_the_requests_of_the_email_page_when_its_config_checks_them_then_they_are_fine(name: str) -> None:
    config = load_config(str(ROOT / "examples/config" / name), {}, str(ROOT)).config
    examples = blocks(RAZROO, "json")

    assert len(examples) == 2
    for example in examples:
        assert normalise_request(json.loads(example), config).messages


def test_given_the_program_of_the_email_page_when_run_then_it_gets_an_answer() -> None:
    (program,) = blocks(RAZROO, "python")
    with ray.serve_in_thread({"profile": "tiny"}) as server:
        names = {"key": None, "text": "Sounds interesting."}
        exec(program.replace("https://ray.example.com", server.url), names)

    assert "output" in str(names["answer"])
