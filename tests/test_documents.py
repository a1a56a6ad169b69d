"""The documents tell the truth: their links lead somewhere, and the HTTP contract knows every code and route."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ray.errors import CODES
from ray.gateway.routes import find_route

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HTTP_API = (ROOT / "docs" / "http-api.md").read_text("utf-8")

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# A command in a fenced block or between backticks. Prose such as "make it" has neither.
MAKE = re.compile(r"(?:^|`|\$ |=1 )make ([a-z]+)\b", re.MULTILINE)
# A path between backticks, from the top of the repository.
PATH = re.compile(r"`((?:ray|tests|examples|docs)/[\w./-]*)`")
# Codes that never travel over HTTP: they end a boot, or belong to what is not built yet.
NOT_ON_THE_WIRE = {
    "async_job_record_too_large",
    "async_queue_full",
    "async_queue_recovery_limit_exceeded",
    "async_queue_storage_low",
    "config_parse_error",
    "config_validation_error",
    "listen_failed",
    "provider_health_invalid",
    "provider_unsupported",
}


def section(number: int) -> str:
    """The text of one numbered section of the HTTP contract."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", HTTP_API, re.MULTILINE | re.DOTALL)
    assert found, f"docs/http-api.md has no section {number}"
    return found[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_given_a_document_when_its_links_are_followed_then_each_file_exists(document: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(document.read_text("utf-8")) if "://" not in link]

    assert [target for target in targets if target and not (document.parent / target).exists()] == []


def test_given_the_documents_when_they_name_a_make_target_then_it_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for document in DOCUMENTS for name in MAKE.findall(document.read_text("utf-8"))}

    assert named, "the pattern finds no command at all"
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_given_a_document_when_it_names_a_file_of_this_repository_then_that_file_exists(document: Path) -> None:
    named = PATH.findall(document.read_text("utf-8"))

    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("code", sorted(set(CODES) - NOT_ON_THE_WIRE))
def test_given_an_error_code_when_looked_up_in_the_contract_then_status_and_retry_after_are_those_of_the_table(
    code: str,
) -> None:
    rows = [row.split(" | ") for row in section(7).splitlines() if re.match(r"\| \d{3} \|", row) and f"`{code}`" in row]

    assert len(rows) == 1, f"{code} stands in {len(rows)} rows of section 7"
    status, retry_after = rows[0][0].strip("| "), rows[0][-1].strip("| ")
    assert int(status) == CODES[code].status
    if code == "rate_limited":  # its Retry-After is computed
        assert retry_after == "until the window closes"
    else:
        assert retry_after == ("" if CODES[code].retry_after is None else str(CODES[code].retry_after))


def test_given_a_code_in_the_contract_when_looked_up_in_the_table_then_it_exists() -> None:
    listed = {
        code for row in section(7).splitlines() if row.startswith("| ") for code in re.findall(r"`([a-z_]+)`", row)
    }

    assert listed - {"details"} <= set(CODES)


ROUTE_ROWS = [row.strip("|").split("|") for row in section(3).splitlines() if re.match(r"\| `(GET|POST) ", row)]


@pytest.mark.parametrize("row", ROUTE_ROWS, ids=lambda row: row[0].strip(" `"))
def test_given_a_route_in_the_contract_when_looked_up_in_the_gateway_then_its_guards_are_the_same(
    row: list[str],
) -> None:
    shown, key, limited = (cell.strip(" `") for cell in row[:3])
    method, path = shown.split(" ")

    route = find_route(method, path.replace("{id}", "job_0"))

    assert (route.name, route.protected, route.limited) == (path, key == "yes", limited == "yes")
