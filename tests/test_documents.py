"""The documents tell the truth: their links lead somewhere, and the HTTP contract knows every code and route."""

from __future__ import annotations

import argparse
import base64
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.deploy.commands import COMMANDS, DEFAULT_COMMAND, command_module
from ray.deploy.docs_links import check_links
from ray.errors import CODES
from ray.gateway.job_request import OPTION_FIELDS
from ray.gateway.routes import all_routes, find_route
from ray.gateway.routes.infer import STREAM
from ray.jobs.signing import WebhookSecrets, message_id
from ray.runtime import INFER_FIELDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
HTTP_API = (ROOT / "docs" / "http-api.md").read_text("utf-8")

# A command in a fenced block or between backticks. Prose such as "make it" has neither.
MAKE = re.compile(r"(?:^|`|\$ |=1 )make ([a-z]+(?:-[a-z0-9]+)*)\b", re.MULTILINE)
# A path between backticks, from the top of the repository.
PATH = re.compile(r"`((?:ray|tests|examples|docs|deploy)/[\w./-]*)`")
# A command of the deploy tools in a fenced block or between backticks, with its options, over continued lines.
DEPLOY = re.compile(r"python3? (?:-\w+ )*-m ray\.deploy\b((?:\\\n|[^\n`|;&<>#])*)")
# Codes that no answer has as its own: they end a boot, stand in a job's record, or become another one on the way.
NOT_ON_THE_WIRE = {
    "async_queue_locked",
    "async_queue_recovery_limit_exceeded",
    "config_parse_error",
    "config_validation_error",
    "job_deadline_exceeded",
    "job_recovered",
    "job_recovery_attempts_exhausted",
    "listen_failed",
    "provider_health_invalid",
    "provider_unsupported",
}


def section(number: int) -> str:
    """The text of one numbered section of the HTTP contract."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", HTTP_API, re.MULTILINE | re.DOTALL)
    assert found, f"docs/http-api.md has no section {number}"
    return found[0]


def test_given_the_documents_when_their_links_are_followed_then_each_leads_to_a_file_or_a_heading() -> None:
    assert [link.message for document in check_links(str(ROOT)) for link in document.broken] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_given_a_document_when_it_shows_a_deploy_command_then_the_command_takes_these_options(document: Path) -> None:
    for shown in DEPLOY.findall(document.read_text("utf-8")):
        words = shlex.split(shown.replace("\\\n", " "))
        if words and words[0] in ("help", "--help", "-h", "COMMAND", "..."):
            continue
        name = words.pop(0) if words and not words[0].startswith("-") else DEFAULT_COMMAND
        assert name in COMMANDS, f"{document.name}: {shown.strip()}"
        parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
        command_module(name).add_arguments(parser)
        options = {option for line in parser.format_help().split() for option in re.findall(r"--[a-z0-9-]+", line)}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= options, f"{document.name}: {shown.strip()}"


def test_given_the_documents_when_they_name_a_make_target_then_it_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
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


def fields_in(heading: str) -> list[str]:
    """The first column of the table of fields below this heading."""
    found = re.search(rf"^### {re.escape(heading)}.*?(?=^### )", HTTP_API, re.MULTILINE | re.DOTALL)
    assert found, heading
    rows = found[0].partition("| field |")[2].partition("\n\n")[0].splitlines()
    return [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_given_the_fields_that_a_request_may_have_when_looked_up_in_the_contract_then_it_lists_the_same() -> None:
    assert sorted(fields_in("4.1 ")) == sorted(field.name for field in (*INFER_FIELDS, STREAM))
    assert sorted(fields_in("5.1 ")) == sorted(field.name for field in OPTION_FIELDS if field.name != "stream")


ROUTE_ROWS = [row.strip("|").split("|") for row in section(3).splitlines() if re.match(r"\| `(DELETE|GET|POST) ", row)]


@pytest.mark.parametrize("row", ROUTE_ROWS, ids=lambda row: row[0].strip(" `"))
def test_given_a_route_in_the_contract_when_looked_up_in_the_gateway_then_its_guards_are_the_same(
    row: list[str],
) -> None:
    shown, key, limited = (cell.strip(" `") for cell in row[:3])
    method, path = shown.split(" ")

    route = find_route(method, path.replace("{id}", "job_0"))

    assert (route.name, route.protected, route.limited) == (path, key == "yes", limited == "yes")


def test_given_the_routes_of_the_gateway_when_looked_up_in_the_contract_then_it_lists_them_all() -> None:
    listed = {row[0].strip(" `") for row in ROUTE_ROWS}

    assert listed == {f"{route.method} {route.name}" for route in all_routes()}


JOBS = (ROOT / "docs" / "jobs.md").read_text("utf-8")
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode("ascii")
OLD_SECRET = "whsec_" + base64.b64encode(bytes(24)).decode("ascii")
BODY = '{"type":"job.succeeded","data":{"job":{"output":"grün"}}}'.encode()


def signed(body: bytes, secrets: str) -> dict[str, str]:
    """The headers of a callback that is sent now."""
    sender = WebhookSecrets.from_environment({"RAY_WEBHOOK_SECRETS": secrets})
    assert sender is not None
    identity, now = message_id("job_0123456789abcdef"), int(time.time())
    signature = sender.signature(identity, now, body)
    return {"webhook-id": identity, "webhook-timestamp": str(now), "webhook-signature": signature}


def snippet(language: str) -> str:
    """The one block of this language on the page about jobs."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", JOBS, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1
    return str(blocks[0])


def verifies_in_python(body: bytes, headers: dict[str, str]) -> bool:
    names: dict[str, Callable[[str, dict[str, str], bytes], bool]] = {}
    exec(snippet("python"), names)  # what readers copy has to work
    return names["verify"](SECRET, headers, body)


def verifies_in_the_shell(body: bytes, headers: dict[str, str], directory: Path) -> bool:
    file = directory / "body"
    file.write_bytes(body)
    environ = {
        "PATH": os.environ["PATH"],
        "SECRET": SECRET,
        "BODY": str(file),
        "ID": headers["webhook-id"],
        "TIMESTAMP": headers["webhook-timestamp"],
        "SIGNATURE": headers["webhook-signature"],
    }
    done = subprocess.run(
        ["sh", "-eu", "-c", snippet("sh")], env=environ, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() in ("verified", "refused")
    return done.stdout.strip() == "verified"


@pytest.mark.parametrize("language", ["python", "sh"])
@pytest.mark.parametrize("secrets", [SECRET, f"{SECRET},{OLD_SECRET}", f"{OLD_SECRET},{SECRET}"])
def test_given_the_verifier_of_the_page_when_a_callback_comes_then_it_accepts_ours_and_refuses_a_changed_one(
    language: str, secrets: str, tmp_path: Path
) -> None:
    if language == "sh" and not (shutil.which("openssl") and shutil.which("od")):
        pytest.skip("needs openssl and od")

    def verifies(body: bytes, headers: dict[str, str]) -> bool:
        if language == "python":
            return verifies_in_python(body, headers)
        return verifies_in_the_shell(body, headers, tmp_path)

    headers = signed(BODY, secrets)

    assert verifies(BODY, headers)
    assert not verifies(BODY.replace(b"job_", b"jab_").replace(b"type", b"tyqe"), headers)
    assert not verifies(BODY, {**headers, "webhook-id": "msg_job_other"})
    assert not verifies(BODY, signed(BODY, OLD_SECRET))


def test_given_the_verifier_of_the_page_when_a_callback_is_replayed_later_then_it_is_refused() -> None:
    headers = signed(BODY, SECRET)

    assert not verifies_in_python(BODY, {**headers, "webhook-timestamp": str(int(time.time()) - 301)})
