"""One model's pipeline: what happens between a parsed request and its answer."""

from ray.runtime.containers import Anything, Either, JsonObject, ListOf, StringMap, compact_json
from ray.runtime.fields import Field, Object, object_schema, read_fields
from ray.runtime.generation import Reader
from ray.runtime.health import WarmState
from ray.runtime.kinds import Flag, Kind, Number, OneOf, Text, Whole, refuse
from ray.runtime.normalise import (
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_P,
    INFER_FIELDS,
    INFER_RULES,
    METADATA,
    normalise_request,
)
from ray.runtime.prefix_books import PrefixBooks
from ray.runtime.pressure import HostPressure
from ray.runtime.report import RuntimeHealth
from ray.runtime.result import result_document
from ray.runtime.runtime import Runtime

__all__ = [
    "DEFAULT_TEMPERATURE",
    "DEFAULT_TOP_P",
    "INFER_FIELDS",
    "INFER_RULES",
    "METADATA",
    "Anything",
    "Either",
    "Field",
    "Flag",
    "HostPressure",
    "JsonObject",
    "Kind",
    "ListOf",
    "Number",
    "Object",
    "OneOf",
    "PrefixBooks",
    "Reader",
    "Runtime",
    "RuntimeHealth",
    "StringMap",
    "Text",
    "WarmState",
    "Whole",
    "compact_json",
    "normalise_request",
    "object_schema",
    "read_fields",
    "refuse",
    "result_document",
]
