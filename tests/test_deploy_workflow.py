"""The workflow that deploys is off by default, and runs by hand only. tests/integration/test_walkthrough.py runs it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / ".github/workflows"
DEPLOY = (WORKFLOWS / "deploy-vps.yml").read_text("utf-8")
SCRIPT = (ROOT / "deploy/vps/deploy.sh").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")


def block(text: str, key: str) -> str:
    """What is indented below a key at the left edge."""
    found = re.search(rf"^{key}:\n((?:(?: .*)?\n)*)", text, re.MULTILINE)
    assert found, key
    return found[1]


def test_given_the_deploy_workflow_when_read_then_a_person_starts_it_and_nothing_else_does() -> None:
    assert re.findall(r"^  (\w+):", block(DEPLOY, "on"), re.MULTILINE) == ["workflow_dispatch"]


def test_given_the_deploy_workflow_when_read_then_it_is_held_to_one_repository_and_one_environment() -> None:
    job = block(DEPLOY, "jobs")

    assert "vars.RAY_DEPLOY_REPOSITORY != '' && github.repository == vars.RAY_DEPLOY_REPOSITORY" in job
    assert "environment: ray-vps" in job
    assert block(DEPLOY, "permissions").split() == ["contents:", "read"]
    assert "cancel-in-progress: false" in block(DEPLOY, "concurrency")


def test_given_the_deploy_workflow_when_read_then_no_value_is_written_into_a_command() -> None:
    commands = re.findall(r"run: (.*(?:\n {10}.*)*)", DEPLOY)

    assert commands == ["deploy/vps/deploy.sh HEAD"]


def test_given_a_setting_of_the_workflow_when_looked_up_then_the_script_reads_it_and_operations_explains_it() -> None:
    names = re.findall(r"^          (RAY_\w+):", DEPLOY, re.MULTILINE)

    assert len(names) == 17
    assert [name for name in names if name not in SCRIPT] == []
    assert [name for name in names if f"`{name}`" not in OPERATIONS] == []


def test_given_any_job_of_any_workflow_when_read_then_it_has_a_time_limit() -> None:
    for workflow in WORKFLOWS.glob("*.yml"):
        jobs = re.findall(r"^  \w[\w-]*:\n((?:    .*\n|\n)*)", block(workflow.read_text("utf-8"), "jobs"), re.MULTILINE)
        assert jobs
        assert [job for job in jobs if "    timeout-minutes: " not in job] == []
