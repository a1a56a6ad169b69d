"""Both clients offer the same, and docs/clients.md names all of it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from ray.client import DEFAULT_TASKS, AsyncRayClient, RayClient, errors
from ray.client.command_line import _parser

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "clients.md").read_text("utf-8")
CALLS = sorted(name for name, _ in inspect.getmembers(RayClient, inspect.isfunction) if not name.startswith("_"))


def section(title: str) -> str:
    found = re.search(rf"^#+ {title}\n.*?(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/clients.md has no section {title!r}"
    return found[0]


@pytest.mark.parametrize("name", CALLS)
def test_given_a_call_when_looked_up_in_the_other_client_then_it_is_asked_in_the_same_way(name: str) -> None:
    blocking, awaiting = (inspect.signature(getattr(client, name)) for client in (RayClient, AsyncRayClient))

    assert str(blocking).partition(" -> ")[0] == str(awaiting).partition(" -> ")[0]


@pytest.mark.parametrize("name", [name for name in CALLS if name != "close"])
def test_given_a_call_when_looked_up_on_the_page_then_it_is_there(name: str) -> None:
    assert f"`{name}(" in section("Calls")


def test_given_an_option_when_looked_up_on_the_page_then_it_is_there_and_no_other() -> None:
    options = [name for name in inspect.signature(AsyncRayClient.__init__).parameters if name != "self"]

    assert re.findall(r"^\| `(\w+)` \|", section("Options"), re.MULTILINE) == options
    assert [*inspect.signature(RayClient.__init__).parameters][1:] == options[:-1]


def test_given_an_exception_when_looked_up_on_the_page_then_it_is_there() -> None:
    assert [name for name in errors.__all__ if f"`{name}`" not in section("Errors")] == []


def test_given_a_task_profile_when_looked_up_on_the_page_then_its_figures_are_those() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)`[^|]*\| (\d.*) \|$", section("Task profiles"), re.MULTILINE))

    for profile in DEFAULT_TASKS.profiles:
        cells = [cell.strip() for cell in rows[profile.id].split("|")]
        assert cells[:3] == [str(profile.max_tokens), f"{profile.temperature:g}", f"{profile.top_p:g}"]
        assert cells[3] == f"{profile.timeout_ms:,}".replace(",", " ")
        assert (cells[4] == "yes") == (profile.cache_policy == "read-write")
        assert cells[5] == profile.lane
        assert (cells[6] == "of the work") == (profile.dedupe_policy == "profile-input")
        assert cells[7] == (f"`{profile.response_format}`" if profile.response_format else "")


def test_given_the_commands_of_the_page_when_parsed_then_they_are_commands() -> None:
    lines = re.findall(r"python3 -m ray\.client (.+?)(?:  +#.*)?$", section("At the shell"), re.MULTILINE)

    assert len(lines) >= 8
    for line in lines:
        _parser().parse_args([word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)])
