"""Which kind of model would suit a request. Informational: nothing acts on it yet.

Source: runtime specification, section 11.7.
"""

from __future__ import annotations

from ray.types import InferenceRequest, TaskKind, TaskRoutingDiagnostics

MODEL_ROLE_TAG = "modelRole"
FAMILY_METADATA_KEY = "promptFamily"

_ROLES: dict[TaskKind, str] = {
    "classification": "classifier",
    "rewrite": "drafter",
    "draft": "drafter",
    "unknown": "general",
}


def task_routing(request: InferenceRequest, active_role: str | None) -> TaskRoutingDiagnostics:
    """`active_role`: what the operator says this model is good for, the config tag `modelRole`.

    A model without a role, and a task that any model may do, always match.
    """
    kind = task_kind(request)
    role = _ROLES[kind]
    return TaskRoutingDiagnostics(
        task_kind=kind,
        recommended_model_role=role,
        matched_active_role=not active_role or active_role == role or role == "general",
        active_model_role=active_role or None,
    )


def task_kind(request: InferenceRequest) -> TaskKind:
    """Read off the response format, the name of the prompt family, and whether e-mail is spoken of."""
    family = request.metadata.get(FAMILY_METADATA_KEY, "").lower()
    if request.wants_json or "classification" in family:
        return "classification"
    if "rewrite" in family:
        return "rewrite"
    if "email" in family or any("email" in message.content.lower() for message in request.messages):
        return "draft"
    return "unknown"
