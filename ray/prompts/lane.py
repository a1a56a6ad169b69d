"""The lane rule: is this request expected to be a short job or a draft?"""

from __future__ import annotations

from ray.types import InferenceRequest, Lane

LANE_METADATA_KEY = "promptLane"


def lane_of(request: InferenceRequest, short_job_max_tokens: int, template_lane: Lane | None = None) -> Lane:
    """The scheduling lane of `request`. `short_job_max_tokens`: completion tokens, `scheduler.shortJobMaxTokens`.

    The first rule that matches decides: the lane of the template the request was made from, the caller's own word in
    `metadata.promptLane` (any other value is ignored), JSON answers are short, an allowance of at most
    `short_job_max_tokens` is short, everything else is a draft.
    """
    if template_lane is not None:
        return template_lane
    wish = request.metadata.get(LANE_METADATA_KEY)
    if wish == "short":
        return "short"
    if wish == "draft":
        return "draft"
    if request.wants_json or request.max_tokens <= short_job_max_tokens:
        return "short"
    return "draft"
