"""`docs-links`: what is a link, what is an anchor, and which links are broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ray.deploy.docs_links import (
    ANCHOR,
    INVALID,
    MAX_BYTES,
    MISSING,
    OUTSIDE,
    UNREADABLE,
    check_links,
    heading_slugs,
    local_links,
    slug,
)
from ray.deploy.failures import DeployError
from tests.deploy.support import run


def broken(root: Path) -> list[tuple[str, str, int, str]]:
    return [
        (one.code, one.document, one.line, one.target) for document in check_links(str(root)) for one in document.broken
    ]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("see [a](b.md)", ["b.md"]),
        ("[a](b.md) and [c](d.md#e)", ["b.md", "d.md#e"]),
        ('[a](b.md "a title")', ["b.md"]),
        ("[a](<b c.md>)", ["b c.md"]),
        ("[a](b(1).md)", ["b(1).md"]),
        ("[a [b] c](d.md)", ["d.md"]),
        ("[`a`](b.md)", ["b.md"]),
        ("[a\nb](c.md)", ["c.md"]),
        ("![a](b.png)", []),
        ("[![a](b.png)](c.md)", ["c.md"]),
        ("`[a](b.md)`", []),
        ("``x ` [a](b.md)``", []),
        ("\\[a](b.md)", []),
        ("[a](https://example.com/b.md)", []),
        ("[a](mailto:a@example.com)", []),
        ("[a](//example.com/b.md)", []),
        ("```\n[a](b.md)\n```\n[c](d.md)", ["d.md"]),
        ("~~~text\n[a](b.md)\n```\n~~~\n[c](d.md)", ["d.md"]),
        ("    ```\n[a](b.md)", ["b.md"]),
        ("[a]\n\n(b.md)", []),
        ("[a][b]\n\n[b]: c.md", []),
    ],
)
def test_given_a_line_when_read_then_its_local_links_are_found(text: str, targets: list[str]) -> None:
    assert [target for _, target in local_links(text)] == targets


def test_given_links_further_down_when_read_then_the_line_of_each_target_is_told() -> None:
    text = "# A\n\n```\ncode\n```\n[one\nword](b.md) [two](c.md)\n\n\n[three](d.md)\n"

    assert list(local_links(text)) == [(7, "b.md"), (7, "c.md"), (10, "d.md")]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Root Section", "root-section"),
        ("  Padded ## ", "padded"),
        ("`make gate` runs it", "make-gate-runs-it"),
        ("4.1 Fields, and more!", "41-fields-and-more"),
        ("snake_case-and-dash", "snake_case-and-dash"),
        ("[a link](b.md) inside", "a-link-inside"),
        ("C#", "c"),
        ("Größe", "größe"),
    ],
)
def test_given_a_heading_when_slugged_then_it_is_the_anchor_of_the_web(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_given_repeated_headings_and_named_anchors_when_read_then_all_are_known() -> None:
    text = '# A b\n## A b\n### A b ###\n```\n# not one\n```\n<a id="here"></a>\n#no heading\n'

    assert heading_slugs(text) == {"a-b", "a-b-1", "a-b-2", "here"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/page.md").write_text("# Root Section\n\n## Twice\n\n## Twice\n")
    (tmp_path / "code.py").write_text("pass\n")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("docs/page.md", None),
        ("/docs/page.md", None),
        ("docs/../docs/page.md", None),
        ("docs/page.md?plain=1#root-section", None),
        ("docs/page.md#Root%20Section", None),
        ("docs/page.md#twice-1", None),
        ("docs/page.md#", None),
        ("docs", None),
        ("code.py#L1", None),
        ("#top", None),
        ("docs%2Fpage.md", None),
        ("docs/nothing.md", MISSING),
        ("/nothing", MISSING),
        ("docs/page.md#twice-2", ANCHOR),
        ("#bottom", ANCHOR),
        ("../outside.md", OUTSIDE),
        ("docs/../../outside.md", OUTSIDE),
        ("/../outside.md", OUTSIDE),
        ("out/secret.md", OUTSIDE),
        ("docs/page.md%0Aevil", INVALID),
        ("docs/page%00.md", INVALID),
        ("docs/%zz.md", INVALID),
        ("docs/%ff.md", INVALID),
        ("docs/page.md#%", INVALID),
    ],
)
def test_given_a_link_when_followed_then_it_leads_somewhere_or_its_fault_is_named(
    target: str, code: str | None, tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (tree / "out").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    (tree / "README.md").write_text(f"# Top\n\n[x]({target})\n")

    assert broken(tree) == ([] if code is None else [(code, "README.md", 3, target)])


def test_given_documents_that_cannot_be_read_when_checked_then_each_is_a_finding(tree: Path) -> None:
    (tree / "large.md").write_bytes(b" " * (MAX_BYTES + 1))
    (tree / "latin.md").write_bytes("Größe".encode("latin-1"))
    (tree / "README.md").write_text("[a](large.md#x) [b](latin.md#y)\n")

    assert [(code, document) for code, document, _, _ in broken(tree)] == [
        (UNREADABLE, "large.md"),
        (UNREADABLE, "latin.md"),
    ]


def test_given_a_pipe_that_is_linked_to_when_checked_then_nobody_waits_for_it(tree: Path) -> None:
    os.mkfifo(tree / "pipe.md")
    (tree / "README.md").write_text("[a](pipe.md#x)\n")

    assert broken(tree) == []


@pytest.mark.parametrize("name", [".git", ".venv", ".cache", "node_modules", "tmp", ".ray", "build"])
def test_given_directories_of_tools_when_checked_then_they_are_left_out(name: str, tree: Path) -> None:
    (tree / name).mkdir()
    (tree / name / "README.md").write_text("[a](nothing.md)\n")

    assert [document.path for document in check_links(str(tree))] == ["docs/page.md"]


def test_given_no_document_at_all_when_checked_then_that_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="no Markdown file"):
        check_links(str(tmp_path))


def test_given_too_many_entries_when_checked_then_it_stops(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.deploy.docs_links.MAX_ENTRIES", 3)
    for number in range(4):
        (tree / f"{number}.txt").touch()

    with pytest.raises(DeployError, match="too much"):
        check_links(str(tree))


def test_given_a_broken_link_when_run_then_the_report_names_file_line_and_target(tree: Path) -> None:
    (tree / "README.md").write_text("[a](docs/page.md)\n[b](docs/nothing.md)\n")

    status, text = run("docs-links", "--cwd", str(tree))
    assert status == 1
    assert "README.md:2: 'docs/nothing.md'" in text
    assert text.endswith("2 documents, 2 local links, 1 broken\n")

    status, text = run("docs-links", "--cwd", str(tree), "--json")
    document = json.loads(text)
    assert status == 1
    assert (document["ok"], document["docCount"], document["linkCount"], document["errorCount"]) == (False, 2, 2, 1)
    assert document["results"][0]["diagnostics"][0] == {
        "level": "error",
        "code": MISSING,
        "message": "README.md:2: 'docs/nothing.md' leads to nothing",
        "docPath": "README.md",
        "line": 2,
        "target": "docs/nothing.md",
    }
