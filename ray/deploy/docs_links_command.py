"""`docs-links`: follow every local link of every Markdown file, headings included."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TextIO

from ray.deploy.docs_links import BrokenLink, Document, check_links
from ray.deploy.output import print_json, table
from ray.deploy.paths import path_option
from ray.deploy.settings import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cwd", metavar="PATH", default=".", help="top of the tree (default: this directory)")
    add_json_argument(parser)


def run(options: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """0: every link leads somewhere."""
    documents = check_links(path_option(options.cwd, "--cwd"))
    broken = [link for document in documents for link in document.broken]
    links = sum(document.links for document in documents)
    if options.json:
        print_json(_document(documents, links, len(broken)), out)
    else:
        out.write(table((link.code, link.message) for link in broken))
        out.write(f"{len(documents)} documents, {links} local links, {len(broken)} broken\n")
    return 1 if broken else 0


def _document(documents: list[Document], links: int, errors: int) -> dict[str, object]:
    return {
        "ok": not errors,
        "docCount": len(documents),
        "linkCount": links,
        "errorCount": errors,
        "results": [
            {
                "docPath": document.path,
                "linkCount": document.links,
                "diagnostics": [_diagnostic(link) for link in document.broken],
                "errorCount": len(document.broken),
            }
            for document in documents
        ],
    }


def _diagnostic(link: BrokenLink) -> dict[str, object]:
    return {
        "level": "error",
        "code": link.code,
        "message": link.message,
        "docPath": link.document,
        "line": link.line,
        "target": link.target,
    }
