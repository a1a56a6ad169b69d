"""Scaffolds: a template passed once through a model's chat template, cut where the values go.

The template is rendered with a marker in each gap, the backend turns that into its own prompt format, and
`build_scaffold` cuts the result at the markers. From then on a prompt is put together here, without asking the backend.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray.config import MARKER_HEAD
from ray.errors import RayError

MAX_RENDERED_CHARS = 262_144
MAX_GAPS = 64
_MARKER = re.compile(re.escape(MARKER_HEAD) + r"([0-9]{1,4})__")


def marker(index: int) -> str:
    """What stands for the value of variable number `index`. No template's text may contain such a word."""
    return f"{MARKER_HEAD}{index}__"


def marked_values(variables: Sequence[str]) -> dict[str, str]:
    """A marker for each variable, to render a template with."""
    return {name: marker(index) for index, name in enumerate(variables)}


@dataclass(frozen=True, slots=True)
class Scaffold:
    """`segments`: the fixed texts, one more than `variables`: the variable of each gap, in the order of the text."""

    segments: tuple[str, ...]
    variables: tuple[str, ...]

    def render(self, values: Mapping[str, str]) -> str:
        """The whole prompt. Values go in as they are. Raises `RayError` invalid_request when one is missing."""
        missing = [name for name in self.variables if name not in values]
        if missing:
            raise RayError(
                "invalid_request",
                f"the prompt needs a value for {', '.join(dict.fromkeys(missing))} in templateVariables",
                details={"field": "templateVariables", "missingVariables": list(dict.fromkeys(missing))},
            )
        pieces = [self.segments[0]]
        for name, segment in zip(self.variables, self.segments[1:], strict=True):
            pieces += (values[name], segment)
        return "".join(pieces)

    @property
    def fixed_head(self) -> str:
        """The text before the first value: what all prompts of this scaffold have in common."""
        return self.segments[0]


def build_scaffold(rendered: str, variables: Sequence[str]) -> Scaffold:
    """Cut `rendered` at its markers; `marker(i)` stands for `variables[i]`.

    The order of the gaps is that of the text. A variable may have several gaps, or none where the chat template leaves
    a message out. Raises `RayError` provider_invalid_response when the rendered text is too long to be a prompt, has
    more than 64 gaps, or a marker that belongs to no variable.
    """
    if len(rendered) > MAX_RENDERED_CHARS:
        raise _unusable(f"it has {len(rendered)} characters, at most {MAX_RENDERED_CHARS} are possible")
    parts = _MARKER.split(rendered)  # text, number, text, number, … text
    numbers = [int(number) for number in parts[1::2]]
    if len(numbers) > MAX_GAPS:
        raise _unusable(f"it has {len(numbers)} gaps, at most {MAX_GAPS} are possible")
    if any(number >= len(variables) for number in numbers):
        raise _unusable("it has a marker that belongs to no variable")
    return Scaffold(tuple(parts[0::2]), tuple(variables[number] for number in numbers))


def _unusable(reason: str) -> RayError:
    return RayError("provider_invalid_response", f"the backend's rendering of a prompt template is unusable: {reason}")
