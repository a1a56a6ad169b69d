"""A workload: the requests of a run, from a JSON or JSONL file, checked before the first one is sent.

One JSON array, or one JSON object per line that is not blank. Each object is the body of a `POST /v1/infer` and may
hold a `benchmark` object, which is never sent: it says what a good answer looks like (`ray.bench.run.quality`). Keys
that the route does not have are left out of what is sent. Everything wrong is a `MeasurementError` that names the
entry, counted from 1, and the key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ray.bench.processes.process import MeasurementError
from ray.bench.run.quality import MAX_TEXT_CHARS, Expectation, read_expectation
from ray.bench.run.values import read_flag, read_list, read_number, read_object, read_text, read_whole

MAX_FILE_BYTES = 1_048_576
MAX_ITEMS = 1_024
MAX_BODY_BYTES = 1_048_576

# The gateway's own limits: what it would refuse is refused before it is asked.
MAX_TEMPLATE_ID_CHARS = 128
MAX_VARIABLES = 32
MAX_NAME_CHARS = 128
MAX_VARIABLE_CHARS = 16_384
MAX_TOKENS = 8_192
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_DEDUPE_KEY_CHARS = 512
MAX_METADATA_ENTRIES = 32
MAX_METADATA_CHARS = 1_024


@dataclass(frozen=True, slots=True)
class Item:
    """One request. `fields`: what is sent; `expected`: what its answer is judged by."""

    fields: Mapping[str, object]
    expected: Expectation


@dataclass(frozen=True, slots=True)
class Workload:
    """`name`: the file as it was given, or `default-workload`. `digest`: of what is sent, so that two reports can say
    whether they are about the same questions."""

    name: str
    items: tuple[Item, ...]
    digest: str


def load_workload(path: str | None) -> Workload:
    """The workload in the file, the built-in one without a file. Raises `MeasurementError`."""
    if path is None:
        return workload_of("default-workload", parse_items(json.dumps(_DEFAULT_ITEMS)))
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise MeasurementError(f"cannot read the workload {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise MeasurementError(f"the workload {path} has more than {MAX_FILE_BYTES} bytes: split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MeasurementError(f"the workload {path} is not UTF-8: byte {error.start} is none") from None
    try:
        return workload_of(path, parse_items(text))
    except MeasurementError as error:
        raise MeasurementError(f"the workload {path}: {error}") from None


def workload_of(name: str, items: tuple[Item, ...]) -> Workload:
    sent = json.dumps([item.fields for item in items], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Workload(name, items, hashlib.sha256(sent.encode("utf-8", "surrogatepass")).hexdigest())


def parse_items(text: str) -> tuple[Item, ...]:
    """The items of a workload text. Raises `MeasurementError`."""
    entries = _entries(text)
    if not entries:
        raise MeasurementError("there is no request in it")
    if len(entries) > MAX_ITEMS:
        raise MeasurementError(f"it has {len(entries)} entries; at most {MAX_ITEMS} are possible")
    return tuple(_item(entry, f"entry {number}") for number, entry in enumerate(entries, 1))


def _entries(text: str) -> list[object]:
    stripped = text.lstrip()
    if stripped.startswith("["):
        # A file of lines whose first is an array by mistake is no array as a whole, and is told so by its line.
        try:
            whole = _json(stripped)
        except ValueError as error:
            if "\n" not in stripped.strip() or not _is_json(stripped.split("\n", 1)[0]):
                raise MeasurementError(f"invalid JSON: {error}") from None
        else:
            return whole if isinstance(whole, list) else [whole]
    entries = []
    # Only line feeds end a line of JSONL: other separators may stand inside of a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entries.append(_json(line))
        except ValueError as error:
            raise MeasurementError(f"line {number} is invalid JSON: {error}") from None
    return entries


def _is_json(text: str) -> bool:
    try:
        _json(text)
    except ValueError:
        return False
    return True


def _json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _item(entry: object, where: str) -> Item:
    if not isinstance(entry, dict):
        raise MeasurementError(f"{where} must be an object")
    fields = {key: read(entry[key], f"{where}.{key}") for key, read in _FIELDS.items() if key in entry}
    if "input" not in fields and "templateId" not in fields:
        raise MeasurementError(f"{where} needs input or templateId")
    if "templateId" in fields and ("input" in fields or "system" in fields):
        raise MeasurementError(f"{where} has a templateId, which excludes input and system")
    try:
        size = len(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))
    except UnicodeEncodeError:
        raise MeasurementError(f"{where} holds half a surrogate pair, which cannot be sent") from None
    if size > MAX_BODY_BYTES:
        raise MeasurementError(f"{where} makes a request of {size} bytes; at most {MAX_BODY_BYTES} can be sent")
    return Item(fields, read_expectation(entry.get("benchmark"), fields, f"{where}.benchmark"))


def _text_of(largest: int) -> Callable[[object, str], object]:
    return lambda value, where: read_text(value, where, largest)


def _variables(value: object, where: str) -> object:
    variables = read_object(value, where, MAX_VARIABLES, MAX_NAME_CHARS)
    return {name: _variable(one, f"{where}.{name}") for name, one in variables.items()}


def _variable(value: object, where: str) -> object:
    if isinstance(value, str):
        return read_text(value, where, MAX_VARIABLE_CHARS, blank=True)
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float):
        raise MeasurementError(f"{where} must be a string, a number or a boolean")
    return read_number(value, where, None, None)


def _stops(value: object, where: str) -> object:
    stops = read_list(value, where, MAX_STOPS)
    if not stops or "" in stops:
        raise MeasurementError(f"{where} must hold 1 to {MAX_STOPS} texts that are not empty")
    return [read_text(one, f"{where}[{place}]", MAX_STOP_CHARS, blank=True) for place, one in enumerate(stops)]


def _metadata(value: object, where: str) -> object:
    entries = read_object(value, where, MAX_METADATA_ENTRIES, MAX_NAME_CHARS)
    return {name: read_text(one, f"{where}.{name}", MAX_METADATA_CHARS, blank=True) for name, one in entries.items()}


def _response_format(value: object, where: str) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object"):
        raise MeasurementError(f'{where} must be {{"type": "text"}} or {{"type": "json_object"}}')
    return {"type": kind}


_FIELDS: Mapping[str, Callable[[object, str], object]] = {
    "input": _text_of(MAX_TEXT_CHARS),
    "system": _text_of(MAX_TEXT_CHARS),
    "templateId": _text_of(MAX_TEMPLATE_ID_CHARS),
    "templateVariables": _variables,
    "maxTokens": lambda value, where: read_whole(value, where, 1, MAX_TOKENS),
    "temperature": lambda value, where: read_number(value, where, 0, 2),
    "topP": lambda value, where: read_number(value, where, 0, 1),
    "seed": lambda value, where: read_whole(value, where, 0, 2**53 - 1),
    "stop": _stops,
    "responseFormat": _response_format,
    "cache": read_flag,
    "dedupeKey": _text_of(MAX_DEDUPE_KEY_CHARS),
    "metadata": _metadata,
}

_DEFAULT_ITEMS: list[dict[str, object]] = [
    {
        "templateId": "email.cold_outreach.v1",
        "templateVariables": {
            "recipientRole": "VP of Engineering",
            "topic": "slow continuous integration",
            "valueProp": "test runs that finish in a third of the time without new hardware",
            "companyContext": "a logistics company whose monorepo has grown to four hundred services",
        },
    },
    {
        "templateId": "email.cold_outreach.v1",
        "templateVariables": {
            "recipientRole": "Head of Sales Operations",
            "topic": "stale records in the CRM",
            "valueProp": "contact data that is checked every night and corrected by rule",
            "companyContext": "a distributor of spare parts with sixty sellers in nine regions",
        },
    },
    {
        "templateId": "email.reply_classification.v1",
        "templateVariables": {
            "replyText": "Thanks, but this is not a topic for us now. Try me again after the summer."
        },
    },
    {
        "templateId": "email.reply_rewrite.v1",
        "templateVariables": {
            "rewriteGoal": "sound more confident and keep it short",
            "replyText": "Hi, I just wanted to maybe ask whether you might have had a chance to look at the offer?",
        },
    },
]
