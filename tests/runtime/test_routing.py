"""Which kind of model a request asks for."""

from __future__ import annotations

import pytest

from ray.runtime.routing import task_routing
from ray.types import InferenceRequest, Message, TaskKind, TaskRoutingDiagnostics


def request(
    text: str = "hello", system: str | None = None, family: str | None = None, json: bool = False
) -> InferenceRequest:
    messages = (Message("user", text),) if system is None else (Message("system", system), Message("user", text))
    return InferenceRequest(
        messages,
        10,
        response_format="json_object" if json else None,
        metadata={} if family is None else {"promptFamily": family},
    )


@pytest.mark.parametrize(
    ("asked", "kind", "role"),
    [
        (request(), "unknown", "general"),
        (request(json=True), "classification", "classifier"),
        (request(family="email.reply_classification"), "classification", "classifier"),
        (request(family="email.reply_rewrite"), "rewrite", "drafter"),
        (request(family="email.follow_up"), "draft", "drafter"),
        (request("Write an EMAIL"), "draft", "drafter"),
        (request(system="You write emails."), "draft", "drafter"),
        (request("Write an e-mail"), "unknown", "general"),
        (request("rewrite this"), "unknown", "general"),
    ],
)
def test_format_family_and_text_name_the_task(asked: InferenceRequest, kind: TaskKind, role: str) -> None:
    assert task_routing(asked, None) == TaskRoutingDiagnostics(kind, role, True, None)


@pytest.mark.parametrize(
    ("asked", "active", "matched"),
    [
        (request(json=True), "classifier", True),
        (request(json=True), "drafter", False),
        (request("an email"), "drafter", True),
        (request("an email"), "general", False),
        (request(), "drafter", True),
        (request(json=True), "", True),
    ],
)
def test_a_role_matches_its_task_and_every_role_does_for_a_general_one(
    asked: InferenceRequest, active: str, matched: bool
) -> None:
    routing = task_routing(asked, active)
    assert routing.matched_active_role is matched
    assert routing.active_model_role == (active or None)
