"""Do the links in Markdown files lead somewhere? Files of this tree and their headings; nothing is fetched.

What a link is: `[text](target)` within one paragraph, outside of code. Images and
targets with a scheme are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ray.deploy.failures import DeployError
from ray.deploy.reading import read_text

SKIPPED_DIRECTORIES = frozenset(
    {
        *(".git", ".ray", ".cache", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"),
        *(".hypothesis", ".playwright-mcp", ".changeset", "build", "coverage", "dist", "node_modules", "tmp"),
    }
)
MAX_DOCUMENTS = 512
MAX_DIRECTORIES = 4_096
MAX_FILES = 32_768
MAX_ENTRIES = 4_096
MAX_BYTES = 524_288
MAX_SHOWN_CHARS = 200

INVALID = "local_markdown_link_invalid"
OUTSIDE = "local_markdown_link_outside_repo"
MISSING = "local_markdown_link_missing"
ANCHOR = "local_markdown_anchor_missing"
UNREADABLE = "markdown_invalid"

_LINK = re.compile(
    r"(?<!\\)(!?)\[(?:[^\[\]\\]|\\.|\[[^\[\]]*\])*\]"
    r"\(\s*(?:<([^<>\n]*)>|([^\s()]*(?:\([^\s()]*\)[^\s()]*)*))"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BREAKS = re.compile(r"[\0\r\n]")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_NAMED_ANCHOR = re.compile(r"<a\s+(?:[^>]*?\s)?(?:id|name)=[\"']([^\"']+)[\"']", re.IGNORECASE)
_NOT_IN_SLUG = re.compile(r"[^\w -]")


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """`line`: from 1; 0 for the document as a whole. `target`: as it is written."""

    code: str
    message: str
    document: str
    line: int
    target: str


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file, looked through."""

    path: str
    links: int
    broken: tuple[BrokenLink, ...]


def check_links(root: str) -> list[Document]:
    """Every Markdown file under `root`, sorted by path. Raises `DeployError`: none, too many, or an unreadable tree."""
    checker = _Checker(os.path.realpath(root))
    return [checker.document(path) for path in markdown_files(checker.root)]


def markdown_files(root: str) -> list[str]:
    """Relative paths of the regular `*.md` files under `root`; directories in `SKIPPED_DIRECTORIES` are left out."""
    found: list[str] = []
    waiting, directories, files = [""], 0, 0
    while waiting:
        place = waiting.pop()
        directories += 1
        for count, entry in enumerate(_entries(root, place), start=1):
            path = os.path.join(place, entry.name)
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in SKIPPED_DIRECTORIES:
                    waiting.append(path)
            elif entry.is_file(follow_symlinks=False):
                files += 1
                if entry.name.endswith(".md"):
                    found.append(path)
            if count > MAX_ENTRIES or directories > MAX_DIRECTORIES or files > MAX_FILES or len(found) > MAX_DOCUMENTS:
                raise DeployError(f"There is too much under {root} to look through, last {path}: name another --cwd")
    if not found:
        raise DeployError(f"There is no Markdown file under {root}: name another --cwd")
    return sorted(found)


def _entries(root: str, place: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(os.path.join(root, place)) as entries:
            yield from entries
    except OSError as error:
        raise DeployError(f"{os.path.join(root, place)} cannot be read: {error.strerror or error}") from None


def prose_lines(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers from 1, and lines without fenced code."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = _FENCE.fullmatch(line)
        if fence:
            if mark and mark[1][0] == fence[0] and len(mark[1]) >= len(fence) and not mark[2].strip():
                fence = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        else:
            yield number, line


def local_links(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers and targets, as written. What stands between backticks is no link, and neither is an image."""
    for first, paragraph in _paragraphs(text):
        # Code inside a link's text is blotted out rather than cut, so that the link keeps its place.
        bare = _CODE_SPAN.sub(lambda code: re.sub(r"[^\n]", ".", code[0]), paragraph)
        for link in _LINK.finditer(bare):
            start, end = link.span(2) if link[2] is not None else link.span(3)
            target = paragraph[start:end]
            if not link[1] and not target.startswith("//") and not _SCHEME.match(target):
                yield first + bare.count("\n", 0, start), target


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Lines that stand together, and the number of the first."""
    first, lines = 0, list[str]()
    for number, line in prose_lines(text):
        if lines and (not line.strip() or number != first + len(lines)):
            yield first, "\n".join(lines)
            lines = []
        if line.strip():
            first = first if lines else number
            lines.append(line)
    if lines:
        yield first, "\n".join(lines)


def heading_slugs(text: str) -> frozenset[str]:
    """The anchors that a reader on the web finds: of each heading, numbered when repeated, and named ones."""
    slugs: set[str] = set()
    repeats: dict[str, int] = {}
    for _, line in prose_lines(text):
        slugs.update(_NAMED_ANCHOR.findall(line))
        heading = _HEADING.fullmatch(line)
        if heading is None:
            continue
        base = slug(heading[2] or "")
        count = repeats.get(base, 0)
        repeats[base] = count + 1
        slugs.add(f"{base}-{count}" if count else base)
    return frozenset(slugs)


def slug(heading: str) -> str:
    """The anchor of a heading: links and code by their text, lower case, only letters, digits, `_` and `-`."""
    text = re.sub(r"[ \t]+#+[ \t]*$", "", f" {heading.strip()}").strip()
    text = re.sub(r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1", text).replace("`", "")
    return _NOT_IN_SLUG.sub("", text.lower()).replace(" ", "-")


class _Checker:
    """The tree, and the headings of the documents that were linked to."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._slugs: dict[str, frozenset[str] | None] = {}

    def document(self, path: str) -> Document:
        try:
            text = self._read(path)
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            return Document(path, 0, (BrokenLink(UNREADABLE, f"{path} {reason}", path, 0, ""),))
        links, broken = 0, []
        for line, target in local_links(text):
            links += 1
            problem = self._problem(path, target)
            if problem is not None:
                code, said = problem
                short = target[:MAX_SHOWN_CHARS]
                broken.append(BrokenLink(code, f"{path}:{line}: {short!r} {said}", path, line, short))
        return Document(path, links, tuple(broken))

    def _problem(self, document: str, target: str) -> tuple[str, str] | None:
        """Code and reason, when the link leads nowhere."""
        written, hash_mark, fragment = target.partition("#")
        path, anchor = _decoded(written.partition("?")[0]), _decoded(fragment)
        if path is None or anchor is None:
            return INVALID, "is not a path: percent signs or control characters in it cannot be read"
        base = "" if path.startswith("/") else os.path.dirname(document)
        full = os.path.normpath(os.path.join(self.root, base, path.lstrip("/"))) if path else self._at(document)
        if not self._holds(full):
            return OUTSIDE, "leads out of this tree"
        if not os.path.exists(full):
            return MISSING, "leads to nothing"
        if hash_mark and full.endswith(".md") and not self._has_anchor(full, anchor):
            return ANCHOR, "names a heading that is not there"
        return None

    def _at(self, path: str) -> str:
        return os.path.join(self.root, path)

    def _holds(self, full: str) -> bool:
        """Inside the tree, as written and where symbolic links lead?"""
        top = self.root.rstrip("/") + "/"
        return all(f"{place}/".startswith(top) for place in (full, os.path.realpath(full)))

    def _has_anchor(self, full: str, anchor: str) -> bool:
        if full not in self._slugs:
            try:
                self._slugs[full] = heading_slugs(self._read(os.path.relpath(full, self.root)))
            except (OSError, ValueError):
                self._slugs[full] = None  # the document has a finding of its own
        known = self._slugs[full]
        return known is None or not anchor or anchor in known or slug(anchor) in known

    def _read(self, path: str) -> str:
        """The text of a document. Raises OSError, and ValueError with a reason."""
        return read_text(self._at(path), MAX_BYTES)


def _decoded(text: str) -> str | None:
    """Percent-decoded; None for a bad encoding, or a NUL or line break in it."""
    if _BAD_PERCENT.search(text):
        return None
    try:
        plain = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if _BREAKS.search(plain) else plain
