"""All checks, in the order in which they speak, and the diagnosis they make together."""

from __future__ import annotations

from ray.deploy.checks.backend import BACKEND
from ray.deploy.checks.budgets import BUDGETS
from ray.deploy.checks.catalogue import remedy_form
from ray.deploy.checks.installation import INSTALLATION
from ray.deploy.checks.jobs import JOBS
from ray.deploy.checks.memory import MEMORY
from ray.deploy.checks.posture import POSTURE
from ray.deploy.checks.prefixes import PREFIXES
from ray.deploy.facts import Facts
from ray.deploy.findings import Check, Finding

__all__ = ["CHECKS", "SUBJECTS", "diagnose", "remedy_form"]

# Title and checks of each subject.
SUBJECTS: tuple[tuple[str, tuple[Check[Facts], ...]], ...] = tuple(
    (title, tuple(catalogue.checks))
    for title, catalogue in (
        ("What the config says", POSTURE),
        ("Host and installation", INSTALLATION),
        ("Budgets of the gateway", BUDGETS),
        ("Durable jobs", JOBS),
        ("Adapter and backend", BACKEND),
        ("Prefix store", PREFIXES),
        ("Memory", MEMORY),
    )
)
CHECKS: tuple[Check[Facts], ...] = tuple(check for _, checks in SUBJECTS for check in checks)


def diagnose(facts: Facts) -> list[Finding]:
    """What every check finds. Strict checks speak only of facts that were gathered strictly."""
    findings = [finding for check in CHECKS if facts.strict or not check.strict for finding in check.run(facts)]
    return findings or [Finding("info", "config_ok", "There is nothing to say about this config")]
