"""docs/configuration.md, written from the declaration of the settings.

The prose about loading stands here; every key, range, default, variable and rule comes from where it is declared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ray.config.adapters import ADAPTER, LLAMA_CPP, LaunchProfile, WarmupRequest
from ray.config.environment import PROFILE_VARIABLE, variables_of
from ray.config.pending import MARK, is_pending
from ray.config.profiles import profile_document
from ray.config.rules import RULES
from ray.config.schema import CONFIG, DEFAULT_PROFILE, PROFILE_NAMES
from ray.config.sections import OneOf, Section, Setting
from ray.config.templates import TEMPLATE, TemplateConfig

Values = list[object]
_ABSENT = object()

_INTRODUCTION = """\
# Configuration

<!-- Generated from ray/config by `python -m ray.config.export`. Do not edit. -->

A config file is a small JSON object that names a *profile* and says what is different:

```json
{"profile": "sub1b", "auth": {"enabled": true}, "scheduler": {"maxQueue": 96}}
```

`python -m ray --config FILE` starts the gateway with it. `--check` loads it, says what would run and exits.
`--print-config` shows the effective config. [`ray.schema.json`](ray.schema.json) gives editors the same keys and
ranges: name it in the file as `"$schema"`, which Ray itself does not read. Complete examples are in
[`examples/config`](../examples/config).

## Where a value comes from

Highest first:

1. **the environment**: the `RAY_*` variable in the tables below;
2. **the file** given with `--config`; there is no search path and no variable that names it;
3. **the profile**.

The profile itself is the exception: `profile` in the file beats `RAY_PROFILE`, and without both it is `sub1b`.

Objects merge key by key. An array replaces the whole array. A file that names another `model.adapter.kind` than its
profile starts that adapter afresh: it keeps only `baseUrl`, `modelRef`, `timeoutMs` and the other keys that both HTTP
kinds share, and nothing when one of the two kinds is `mock`.

Relative paths in values and in `--config` start at the working directory, not at the file.

### Environment variables

Values are trimmed, and a blank variable counts as not set, so a list or text cannot be emptied this way. Whole numbers
are decimal digits; booleans are `1 true yes on` and `0 false no off` in any case; lists are comma-separated. Variables
for a backend or launch profile that the config does not have are not read at all.

Some variables move a second key along, unless that key's own variable is set:

| variable | also sets |
|---|---|
| `RAY_MODEL_ID` | `model.adapter.modelRef`, `launchProfile.alias` |
| `RAY_LLAMA_CPP_HOST`, `RAY_LLAMA_CPP_PORT` | `model.adapter.baseUrl`, as `http://HOST:PORT` |
| `RAY_LLAMA_CPP_CTX_SIZE` | `model.operational.preferredCtxSize` |

Ray reads no env file itself: systemd's `EnvironmentFile=` puts one into the environment of the service.

### Secrets

No key, token or password belongs into a config file. `auth.apiKeyEnv` and `model.adapter.apiKeyEnv` hold the *names* of
variables. Client keys are separated by commas or newlines: at most 128 keys of at most 1024 characters, without
whitespace. URLs with credentials or a query, and llama-server arguments that carry a secret, are refused. `/v1/config`
shows the effective config with the values of `model.adapter.headers` redacted.

## When something is wrong

A load reports one problem, the first one found, and the gateway does not start: one JSON line on stderr, exit status 1.
The message names the dotted key, what was expected, and the variable if the value came from one.

| input | outcome |
|---|---|
| file missing, unreadable, a directory, FIFO or device, over 262144 bytes | `config_validation_error` naming the path |
| not JSON, not UTF-8, byte-order mark, `NaN` or `Infinity`, absurd nesting | `config_parse_error` naming the path |
| unknown key, at any depth | `config_validation_error` with the dotted key and the nearest known one |
| the keys `__proto__`, `constructor`, `prototype`, at any depth | `config_validation_error` with the dotted key |
| wrong type: files are not coerced, so `"false"` is not a boolean and `true` no number | `config_validation_error` |
| out of range, or at odds with another key | `config_validation_error` with both keys |

A key that is repeated in one object counts once, with its last value. `3000.0` is the whole number 3000.
"""

_TEMPLATE_NOTE = "[templates.md](templates.md) shows how to write one and lists the built-in ones."
_PROFILE_NOTES = {
    "tiny": "mock backend: starts at once, needs nothing; smoke tests and development",
    "sub1b": "llama.cpp, 0.5B-class model, 2 vCPU and 4 GB x86; the default",
    "sub1b-cax11": "llama.cpp, 0.5B-class model, 2 vCPU and 4 GB ARM, one slot",
    "1b": "llama.cpp, 1B-class model, 2 vCPU and 4 GB, one slot",
    "1b-8gb": "llama.cpp, 1B-class model, 4 vCPU and 8 GB, two slots",
    "vps": "a local OpenAI-compatible server with a 3B-class model",
    "balanced": "a local OpenAI-compatible server with a 7B-class model",
}


def configuration_markdown() -> str:
    """The whole page, ending in one newline."""
    return "\n".join([_INTRODUCTION, *_profiles(), *_sections(), *_rules()]) + "\n"


def _profiles() -> Iterator[str]:
    yield "## Profiles\n\n| profile | for |\n|---|---|"
    yield from (f"| `{name}` | {_PROFILE_NOTES[name]} |" for name in PROFILE_NAMES)
    yield "\nColumns below: *default* is the value in every profile that has the key; where profiles differ, a second"
    yield "table gives each one's value. A dash means that the profile does not have the key.\n"
    yield f"What is marked *{MARK}* is read and checked, so that existing files load, but nothing in this version obeys"
    yield "it: the [roadmap](roadmap.md) says when it will.\n"


def _sections() -> Iterator[str]:
    yield "## Keys\n"
    top = [entry for entry in CONFIG.settings if not isinstance(entry.kind, Section)]
    yield from _table("The top level", "A config has these keys and the sections below.", top, ())
    yield from _table("A template", f"{_intro(TemplateConfig)} {_TEMPLATE_NOTE}", list(TEMPLATE.settings), (), level=4)
    for entry in CONFIG.settings:
        if isinstance(entry.kind, Section):
            yield from _section(entry.kind, (entry.key,))


def _section(section: Section[object], path: tuple[str, ...]) -> Iterator[str]:
    leaves = [entry for entry in section.settings if not isinstance(entry.kind, Section | OneOf)]
    title = f"`{'.'.join(path)}`" + (f" *({MARK})*" if is_pending(path) else "")
    yield from _table(title, _intro(section.owner), leaves, path)
    for entry in section.settings:
        if isinstance(entry.kind, Section):
            yield from _section(entry.kind, (*path, entry.key))
        elif isinstance(entry.kind, OneOf):
            yield from _adapters((*path, entry.key))


def _adapters(path: tuple[str, ...]) -> Iterator[str]:
    """The kinds of backend, each with the keys that it alone has; what HTTP kinds share is told once."""
    assert isinstance(ADAPTER, OneOf)  # declared so in adapters.py
    kinds = ", ".join(f"`{name}`" for name in ADAPTER.sections)
    yield f"### `{'.'.join(path)}`\n\nThe backend. `kind` says which one: {kinds}. Each kind knows only its own keys.\n"
    mock, openai, llama = ADAPTER.sections.values()
    shared = {entry.key for entry in openai.settings}
    yield from _table("`mock`", _intro(mock.owner), [e for e in mock.settings if e.key != "kind"], path, level=4)
    both = [entry for entry in openai.settings if entry.key != "kind"]
    yield from _table("`openai-compatible` and `llama.cpp`", "What both HTTP kinds share.", both, path, level=4)
    yield from _table("A warm-up request", _intro(WarmupRequest), list(Section(WarmupRequest).settings), (), level=4)
    own = [e for e in llama.settings if e.key not in shared and not isinstance(e.kind, Section)]
    yield from _table("`llama.cpp`", _intro(llama.owner), own, path, level=4)
    launch = list(Section(LaunchProfile).settings)
    intro = f"{_intro(LaunchProfile)} If the section is there, every key that is not marked optional is required."
    yield from _table(f"`{'.'.join(path)}.launchProfile`", intro, launch, (*path, "launchProfile"))


def _table(title: str, intro: str, entries: list[Setting], path: tuple[str, ...], level: int = 3) -> Iterator[str]:
    yield f"{'#' * level} {title}\n\n{intro}\n"
    yield "| key | meaning | allowed | default | variable |\n|---|---|---|---|---|"
    differing: list[tuple[str, Values]] = []
    for entry in entries:
        values = _values(entry, (*path, entry.key))
        present = [value for value in values if value is not _ABSENT]
        default = _shown(present[0]) if present else _declared(entry)
        if not path and entry.key == "profile":
            default = _shown(DEFAULT_PROFILE)
        elif any(value != present[0] for value in present):
            differing.append((entry.key, values))
            default = "by profile"
        if _ABSENT in values and present and _declared(entry) not in (default, _shown(_ABSENT)):
            default += f", otherwise {_declared(entry)}"  # for a file that names another kind than its profile
        note = " *(optional)*" if entry.optional else ""
        if is_pending((*path, entry.key)) and not is_pending(path):  # a section without effect is marked as a whole
            note += f" *({MARK})*"
        allowed = entry.kind.allowed().replace("|", "\\|")
        yield f"| `{entry.key}`{note} | {entry.meaning} | {allowed} | {default} | {_variables(entry, path)} |"
    yield ""
    if differing:
        yield "| default of | " + " | ".join(f"`{name}`" for name in PROFILE_NAMES) + " |"
        yield "|---|" + "---|" * len(PROFILE_NAMES)
        for key, values in differing:
            yield f"| `{key}` | " + " | ".join(_shown(value) for value in values) + " |"
        yield ""


def _values(entry: Setting, path: tuple[str, ...]) -> Values:
    """The key's value in each profile."""
    values: Values = []
    for name in PROFILE_NAMES:
        value: object = profile_document(name)
        for part in path:
            value = value.get(part, _ABSENT) if isinstance(value, dict) else _ABSENT
        values.append(value)
    return values


def _declared(entry: Setting) -> str:
    return _shown(_ABSENT if entry.default is None else entry.kind.write(entry.default))


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "–"  # noqa: RUF001 - a dash for people to read
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _variables(entry: Setting, path: tuple[str, ...]) -> str:
    names = (PROFILE_VARIABLE,) if entry.key == "profile" and not path else variables_of(entry, LLAMA_CPP)
    return ", else ".join(f"`{name}`" for name in names) if names else ""


def _intro(owner: object) -> str:
    """The first paragraph of a section's docstring."""
    text = (owner.__doc__ or "").partition("\n\n")[0]
    return " ".join(text.split())


def _rules() -> Iterator[str]:
    yield "## Rules between keys\n"
    yield "Lowering `model.maxOutputTokens` alone often means lowering the caps below it as well.\n"
    for rule in RULES:
        yield f"- {_intro(rule)}"
