"""Is an answer any good? A smoke test of texts: cheap rules that a broken prompt or a model too small does not pass.

The rules are rough on purpose. "review" counts as a call to action, and a long template variable that a draft rightly
quotes counts as an echo, so compare scores of the same workload and do not read them as marks. Pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ray.bench.processes.process import MeasurementError
from ray.bench.run.values import read_flag, read_list, read_text, read_whole

MAX_TEXT_CHARS = 65_536
MAX_PHRASES = 32
MAX_PHRASE_CHARS = 1_024
ECHO_CHARS = 96
SHORTEST_ECHO_CHARS = 32
FULL_SCORE = 100

_PENALTIES = {
    "invalid_json": 45,
    "output_too_short": 15,
    "output_too_long": 15,
    "missing": 18,
    "forbidden": 20,
    "stop_leak": 30,
    "prompt_echo": 35,
    "missing_cta": 20,
    "email_wrapper": 25,
}
_DRAFT_TEMPLATES = frozenset({"email.cold_outreach.v1", "email.follow_up.v1"})
_CALLS_TO_ACTION = (
    "would you", "are you open", "open to", "worth a", "can we", "could we", "happy to", "send over", "take a look",
    "review", "if useful", "if helpful",
)  # fmt: skip
_WRAPPER_STARTS = ("subject:", "hi ", "hello ")
_WRAPPER_PARTS = ("best regards", "sincerely,", "thanks,")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the answer to one item is judged by. Lengths in characters of the trimmed answer.

    `counts_as_json`: the item belongs to the share of valid JSON, also when the check itself was switched off.
    `stops` and `prompts`: the item's own stop texts, and the texts that must not come back.
    """

    requires_valid_json: bool = False
    min_output_chars: int | None = None
    max_output_chars: int | None = None
    must_contain: tuple[str, ...] = ()
    must_not_contain: tuple[str, ...] = ()
    stop_must_not_appear: bool = False
    no_prompt_echo: bool = False
    requires_call_to_action: bool = False
    no_subject_greeting_signoff: bool = False
    counts_as_json: bool = False
    stops: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failures`: codes, such as `invalid_json` and `missing:intent`. `score`: 0 to 100. `valid_json`: None where no
    JSON is expected."""

    failures: tuple[str, ...]
    score: int
    valid_json: bool | None

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def echoed(self) -> bool:
        return "prompt_echo" in self.failures


def read_expectation(benchmark: object, fields: Mapping[str, object], where: str) -> Expectation:
    """The item's defaults, overridden key by key by its `benchmark` object. Raises `MeasurementError`."""
    given = {} if benchmark is None else benchmark
    if not isinstance(given, dict):
        raise MeasurementError(f"{where} must be an object")

    def flag(key: str, default: bool) -> bool:
        return read_flag(given[key], f"{where}.{key}") if key in given else default

    def length(key: str) -> int | None:
        return read_whole(given[key], f"{where}.{key}", 0, MAX_TEXT_CHARS) if key in given else None

    shortest, longest = length("minOutputChars"), length("maxOutputChars")
    if shortest is not None and longest is not None and shortest > longest:
        raise MeasurementError(f"{where}.minOutputChars is larger than maxOutputChars")
    stops = tuple(str(stop) for stop in _listed(fields.get("stop")) if stop)
    is_json = fields.get("responseFormat") == {"type": "json_object"}
    is_draft, is_section = _kind_of(fields)
    requires_json = flag("requiresValidJson", is_json)
    return Expectation(
        requires_valid_json=requires_json,
        min_output_chars=shortest,
        max_output_chars=longest,
        must_contain=_phrases(given, "mustContain", where),
        must_not_contain=_phrases(given, "mustNotContain", where),
        stop_must_not_appear=flag("stopMustNotAppear", bool(stops)),
        no_prompt_echo=flag("noPromptEcho", False),
        requires_call_to_action=flag("requiresCallToAction", is_draft),
        no_subject_greeting_signoff=flag("noSubjectGreetingSignoff", is_draft or is_section),
        counts_as_json=is_json or requires_json,
        stops=stops,
        prompts=_prompts(fields),
    )


def judge(output: str, expected: Expectation) -> Verdict:
    """What is wrong with an answer, and its score."""
    text = output.strip()
    plain = normalised(text)
    is_json = _is_json(text) if expected.counts_as_json else None
    failures: list[str] = []
    if expected.requires_valid_json and not is_json:
        failures.append("invalid_json")
    if expected.min_output_chars is not None and len(text) < expected.min_output_chars:
        failures.append("output_too_short")
    if expected.max_output_chars is not None and len(text) > expected.max_output_chars:
        failures.append("output_too_long")
    failures += [f"missing:{phrase}" for phrase in expected.must_contain if normalised(phrase) not in plain]
    failures += [f"forbidden:{phrase}" for phrase in expected.must_not_contain if normalised(phrase) in plain]
    if expected.stop_must_not_appear:
        failures += [f"stop_leak:{stop}" for stop in expected.stops if stop in text]
    if expected.no_prompt_echo and any(prompt[:ECHO_CHARS].rstrip() in plain for prompt in expected.prompts):
        failures.append("prompt_echo")
    if expected.requires_call_to_action and not any(phrase in plain for phrase in _CALLS_TO_ACTION):
        failures.append("missing_cta")
    if expected.no_subject_greeting_signoff and _is_wrapped(plain):
        failures.append("email_wrapper")
    penalty = sum(_PENALTIES[failure.partition(":")[0]] for failure in failures)
    return Verdict(tuple(failures), max(0, FULL_SCORE - penalty), is_json)


def normalised(text: str) -> str:
    """Lower case, with one space for every run of white space."""
    return " ".join(text.lower().split())


def _is_wrapped(plain: str) -> bool:
    return plain.startswith(_WRAPPER_STARTS) or any(part in plain for part in _WRAPPER_PARTS)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _kind_of(fields: Mapping[str, object]) -> tuple[bool, bool]:
    """Whether the item asks for the draft of an e-mail, and whether for a section of one."""
    metadata = fields.get("metadata")
    family = str(metadata.get("promptFamily", "")) if isinstance(metadata, Mapping) else ""
    is_draft = fields.get("templateId") in _DRAFT_TEMPLATES or "cold_outreach" in family or "follow_up" in family
    return is_draft, "section_generation" in family


def _prompts(fields: Mapping[str, object]) -> tuple[str, ...]:
    """The texts of the request that are long enough for their return to be an echo, normalised."""
    variables = fields.get("templateVariables")
    texts = [fields.get("input"), *(variables.values() if isinstance(variables, Mapping) else ())]
    candidates = (normalised(text) for text in texts if isinstance(text, str))
    return tuple(text for text in candidates if len(text) >= SHORTEST_ECHO_CHARS)


def _phrases(given: Mapping[str, object], key: str, where: str) -> tuple[str, ...]:
    if key not in given:
        return ()
    place = f"{where}.{key}"
    phrases = read_list(given[key], place, MAX_PHRASES)
    return tuple(read_text(phrase, f"{place}[{at}]", MAX_PHRASE_CHARS) for at, phrase in enumerate(phrases))


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
