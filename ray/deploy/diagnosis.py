"""What `validate` and `doctor` print: the findings, and in JSON the facts behind them."""

from __future__ import annotations

from typing import TextIO

from ray.deploy.checks import diagnose
from ray.deploy.facts import Facts
from ray.deploy.findings import has_errors
from ray.deploy.output import count_of, findings_table, print_json
from ray.deploy.preflight import preflight_document


def print_diagnosis(facts: Facts, out: TextIO, *, as_json: bool) -> int:
    """The exit status: 1 when there is an error."""
    findings = diagnose(facts)
    settings = facts.settings
    profile = settings.loaded.config.profile
    if as_json:
        document = {
            "configPath": settings.config_path,
            "profile": profile,
            "diagnostics": [finding.document() for finding in findings],
            "preflight": preflight_document(facts),
        }
        print_json(document, out)
    else:
        out.write(f"{settings.config_path} (profile {profile})\n\n{findings_table(findings)}\n{count_of(findings)}\n")
    return 1 if has_errors(findings) else 0
