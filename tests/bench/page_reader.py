"""A page taken apart: tags, texts, and that every tag is closed in turn."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, texts, and whether every tag was closed in turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def harmless(page: str) -> bool:
    """Nothing that runs, and nothing that would be loaded from anywhere."""
    tags = Page(page).tags
    names = {name for _, attributes in tags for name in attributes}
    runs = {tag for tag, _ in tags} & {"script", "link", "img", "iframe", "form"}
    return (
        not runs
        and not names & {"src", "href"}
        and not any(name.startswith("on") for name in names)
        and ("url(" not in page and "@import" not in page)
    )
