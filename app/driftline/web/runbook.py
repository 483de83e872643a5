"""The runbook as a page of the worker (`/runbook`): what each alert means and what to do, with an anchor for each kind.

An alert is read where its repository is not at hand. `docs/runbook.md` comes with the package, and is shown here as
HTML that holds nothing but it: markup in its text is escaped, and links to other files, which are not served, are text.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

from driftline.core.error import InputFileError

_INSTALLED = PurePosixPath("share/driftline/docs/runbook.md")


def slug_of(title: str) -> str:
    """The anchor of a section, as alerts link to it."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


@cache
def runbook_page() -> str:
    """The runbook as a page of its own.

    Raises:
        InputFileError: the package was installed without it.
    """
    return render(_path().read_text("utf-8"))


def render(text: str) -> str:
    """Markdown as a page."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    titles = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            title = tokens[place + 1].content
            token.attrSet("id", slug_of(title))
            if token.tag == "h2":
                titles.append(title)
        elif token.children:
            token.children = _without_files(token.children)
    index = "".join(f'<li><a href="#{slug_of(title)}">{escape(title)}</a></li>' for title in titles)
    body = str(markdown.renderer.render(tokens, markdown.options, {}))
    head, end, rest = body.partition("</h1>")
    page = f"{head}{end}<nav aria-label='Kinds of alert'><ul>{index}</ul></nav>{rest}" if end else body
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Driftline runbook</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/static/runbook.css"></head><body><main>{page}</main></body></html>'
    )


def _without_files(inline: list[Token]) -> list[Token]:
    """Text whose links all lead somewhere: to a section of this page, or to another site."""
    kept, closing = [], 0
    for token in inline:
        if token.type == "link_open" and not str(token.attrGet("href")).startswith(("#", "https://")):
            closing += 1
        elif token.type == "link_close" and closing:
            closing -= 1
        else:
            kept.append(token)
    return kept


def _path() -> Path:
    """Where the runbook is: in a checkout beside the sources, else where the package put it."""
    checkout = Path(__file__).resolve().parents[3] / "docs" / "runbook.md"
    if checkout.is_file():
        return checkout
    try:
        files = distribution("driftline").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-len(_INSTALLED.parts) :] == _INSTALLED.parts and (path := Path(str(file.locate()))).is_file():
            return path
    raise InputFileError("docs/runbook.md is not there: the package was installed without it; install it again")
