"""The /status document as text for a person at a terminal.

What belongs here: words, columns, colours. The input is the JSON document alone, because it comes over HTTP or out of a file.

A component that has something to say adds a section: a module here with a function of the page and the document, and its place in
SECTIONS. It puts heads and facts on the page; escaping, wrapping, colours and wide terminals are the page's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.connections import connections
from syncwatch.exposition.terminal.mirrors import mirrors
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.services import services
from syncwatch.exposition.terminal.sidecar import sidecar
from syncwatch.exposition.terminal.watchers import watchers
from syncwatch.exposition.terminal.words import span

SECTIONS: tuple[Callable[[Page, doc.Status], None], ...] = (connections, watchers, mirrors, services, sidecar)
"""In the order in which they are read. Each ends with a blank line, but for the last one."""


def render(status: Mapping[str, Any], colour: bool = False, width: int = 80, verbose: bool = False) -> str:
    """The document as lines of at most `width` columns (40 or more), ending with a line feed.

    Raises: ValueError if it is no status document.
    """
    try:
        typed = msgspec.convert(status, doc.Shown)
    except msgspec.ValidationError as error:
        raise ValueError(f"this is no status document: {error}") from None
    source = typed.source
    page = Page(colour, width, current=source is None or source.current, verbose=verbose)
    if source is not None and source.kind == "file":
        _source(page, source)
    if typed.sidecar.config.last_successful_reload is None:
        page.head("down", "nothing is watched: there is no usable configuration")
        for mistake in typed.sidecar.config.errors:
            page.fact("mistake", mistake)
        page.blank()
    elif not typed.connections and not typed.watchers and not typed.mirrors and not typed.services:
        page.head(None, "no connections are configured")
        page.blank()
    for section in SECTIONS:
        section(page, typed)
    return page.text()


def _source(page: Page, source: doc.Source) -> None:
    """Where it comes from, if not from the sidecar itself, and how old it is."""
    old = span(source.age_s)
    page.head(None, f"as of {old} ago, from the status file" if source.detail is None else f"{source.detail} ({old} ago)")
    if source.detail is not None:
        page.fact("", "What follows is how it was then.")
    if source.unreachable is not None:
        page.fact("over HTTP", source.unreachable)
    page.fact("file", source.at)
    page.blank()
