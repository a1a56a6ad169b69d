"""What Ray knows about prompts before any backend sees them."""

from ray.prompts.compiler import CompiledPrompt, compile_prompt
from ray.prompts.control_tokens import defused
from ray.prompts.family import family_key
from ray.prompts.lane import lane_of
from ray.prompts.scaffold import Scaffold, build_scaffold, marked_values, marker
from ray.prompts.templates import (
    Template,
    TemplateCatalog,
    built_in_templates,
    catalog_of,
    filled,
    messages_of,
    render,
)
from ray.prompts.values import template_values

__all__ = [
    "CompiledPrompt",
    "Scaffold",
    "Template",
    "TemplateCatalog",
    "build_scaffold",
    "built_in_templates",
    "catalog_of",
    "compile_prompt",
    "defused",
    "family_key",
    "filled",
    "lane_of",
    "marked_values",
    "marker",
    "messages_of",
    "render",
    "template_values",
]
