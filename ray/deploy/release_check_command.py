"""`release-check VERSION`: is this tree ready for the tag `vVERSION`? Nothing is changed, and nothing is fetched."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from typing import TextIO

from ray.deploy.failures import DeployError, UsageError
from ray.deploy.findings import Finding, has_errors
from ray.deploy.output import count_of, findings_table, print_json
from ray.deploy.paths import path_option
from ray.deploy.reading import read_text
from ray.deploy.settings import add_json_argument

VERSION_FILE = "ray/version.py"
VERSION_ATTRIBUTE = "ray.version.VERSION"
CHANGELOG = "CHANGELOG.md"
PROJECT_FILE = "pyproject.toml"
MAX_FILE_BYTES = 262_144
GIT_TIMEOUT_S = 60
MAX_NAMED_FILES = 5
# Semantic Versioning 2.0.0, the pattern that it suggests.
SEMVER = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
MAX_VERSION_CHARS = 64
_VERSION_LINE = re.compile(r"^VERSION = \"([^\"]*)\"$", re.MULTILINE)
_SECTION = re.compile(r"^## \[?([^\s\]]+)\]?(.*)$", re.MULTILINE)
_DATE = re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION", help="the version to release, without v: 1.2.3")
    parser.add_argument("--cwd", metavar="PATH", default=".", help="top of the tree (default: this directory)")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """0: `git tag -a vVERSION` may follow."""
    version = options.version
    if len(version) > MAX_VERSION_CHARS or SEMVER.fullmatch(version) is None:
        raise UsageError("VERSION must be a semantic version without v, such as 1.2.3 or 1.3.0-rc.1")
    cwd = path_option(options.cwd, "--cwd")
    findings = check_release(cwd, version, environ)
    is_ready = not has_errors(findings)
    if options.json:
        print_json(
            {"ok": is_ready, "version": version, "diagnostics": [finding.document() for finding in findings]}, out
        )
    else:
        out.write(findings_table(findings) + count_of(findings) + "\n")
        if is_ready:
            out.write(f"Ready: git tag -a v{version} -m 'Ray {version}'\n")
    return 0 if is_ready else 1


def check_release(cwd: str, version: str, environ: Mapping[str, str]) -> list[Finding]:
    """What speaks for and against this release. Raises `DeployError` for files that are not there."""
    return [
        _version(_text(cwd, VERSION_FILE), version),
        *_packaging(_text(cwd, PROJECT_FILE)),
        _changelog(_text(cwd, CHANGELOG), version),
        *_git(cwd, version, environ),
    ]


def _version(text: str, version: str) -> Finding:
    found = _VERSION_LINE.findall(text)
    if found == [version]:
        return Finding("info", "release_version_ok", f"{VERSION_FILE} says {version}")
    said = found[0] if found else "nothing that can be read"
    return Finding("error", "release_version_mismatch", f'{VERSION_FILE} says {said}: write VERSION = "{version}"')


def _packaging(text: str) -> Iterator[Finding]:
    """One version for everything, and nothing that would have to be installed along."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield Finding("error", "release_packaging_invalid", f"{PROJECT_FILE} cannot be read: {error}")
        return
    project = document.get("project", {})
    source = document.get("tool", {}).get("setuptools", {}).get("dynamic", {}).get("version", {}).get("attr")
    if "version" in project or source != VERSION_ATTRIBUTE:
        yield Finding(
            "error",
            "release_packaging_version",
            f"{PROJECT_FILE} has a version of its own: take it from {VERSION_ATTRIBUTE} alone",
        )
    if project.get("dependencies"):
        yield Finding("error", "release_packaging_dependencies", f"{PROJECT_FILE} names dependencies: Ray has none")


def _changelog(text: str, version: str) -> Finding:
    sections = list(_SECTION.finditer(text))
    for section, following in zip(sections, [*sections[1:], None], strict=True):
        if section[1] != version:
            continue
        if not _DATE.search(section[2]):
            remedy = "write the date of the release behind the version (YYYY-MM-DD)"
            return Finding("error", "release_changelog_undated", f"{CHANGELOG} has {section[0]!r}: {remedy}")
        if not text[section.end() : following.start() if following else len(text)].strip():
            return Finding("error", "release_changelog_empty", f"{CHANGELOG} says nothing about {version}")
        return Finding("info", "release_changelog_ok", f"{CHANGELOG} has a section about {version}")
    return Finding("error", "release_changelog_missing", f"{CHANGELOG} has no section '## {version} (YYYY-MM-DD)'")


def _git(cwd: str, version: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        changed = [
            line[3:]
            for line in _ask_git(cwd, environ, "status", "--porcelain", "--no-renames", "-z").split("\0")
            if line
        ]
        tags = _ask_git(cwd, environ, "tag", "--list", f"v{version}").split()
    except DeployError as error:
        yield Finding("error", "release_git_unusable", str(error))
        return
    if changed:
        named = ", ".join(changed[:MAX_NAMED_FILES]) + (", ..." if len(changed) > MAX_NAMED_FILES else "")
        yield Finding("error", "release_tree_dirty", f"Not committed: {named}. Commit it, or take it away")
    else:
        yield Finding("info", "release_tree_clean", "Everything is committed")
    if tags:
        yield Finding("error", "release_tag_exists", f"The tag v{version} is there already: take the next version")
    else:
        yield Finding("info", "release_tag_free", f"There is no tag v{version} here")


def _ask_git(cwd: str, environ: Mapping[str, str], *arguments: str) -> str:
    """What git says. Its own variables are left out: they could name another repository."""
    kept = {name: text for name, text in environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", cwd, *arguments],
            env={**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise DeployError("git is not installed here: install it, or run this where it is") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"git {arguments[0]} gave no answer: {error}") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise DeployError(f"git {arguments[0]} failed in {cwd}: {said[0][:500] if said else done.returncode}")
    return done.stdout.decode("utf-8", "replace")


def _text(cwd: str, name: str) -> str:
    path = os.path.join(cwd, name)
    try:
        return read_text(path, MAX_FILE_BYTES)
    except OSError as error:
        raise DeployError(f"{path} cannot be read ({error.strerror or error}): name the tree with --cwd") from None
    except ValueError as problem:
        raise DeployError(f"{path} {problem}: name the tree with --cwd") from None
