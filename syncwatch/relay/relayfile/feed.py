"""The feed that is polled (wire: relayfile §4). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from syncwatch.relay.relayfile.log import Entry, Log
from syncwatch.relay.relayfile.tokens import Refusal

LIMIT = 200
MAX_LIMIT = 1000


class Query(NamedTuple):
    """What is asked for."""

    cursor: str = ""
    limit: int = LIMIT
    provider: str = ""
    direction: str = "asc"


class FeedPage(NamedTuple):
    """What is answered; `known` says whether the log had the cursor."""

    entries: Sequence[Entry]
    next_cursor: str | None
    known: bool


def query(text: Mapping[str, str]) -> Query:
    """A query string, read as the server reads it.

    Raises:
        Refusal: 400 for a direction that does not exist.
    """
    direction = text.get("direction", "").strip().lower() or "asc"
    if direction not in ("asc", "desc"):
        message = f'unsupported direction "{text["direction"]}" (must be asc or desc)'
        raise Refusal(400, "bad_request", message)
    return Query(
        text.get("cursor", "").strip(),
        _limit(text.get("limit", "")),
        text.get("provider", "").strip().lower(),
        direction,
    )


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    return LIMIT if number < 1 else min(number, MAX_LIMIT)


def page(log: Log, workspace: str, asked: Query) -> FeedPage:
    """A page. A cursor that the log does not know: upwards from the very beginning, downwards nothing."""
    entries = log.entries(workspace)
    place = log.find(workspace, asked.cursor) if asked.cursor else None
    known = not asked.cursor or place is not None
    if asked.direction == "asc":
        rest: Sequence[Entry] = entries if place is None else entries[place + 1 :]
    elif not known:
        rest = ()
    else:
        rest = entries[::-1] if place is None else entries[:place][::-1]
    if asked.provider:
        rest = [entry for entry in rest if entry.provider == asked.provider]
    shown = rest[: asked.limit]
    return FeedPage(shown, shown[-1].id if len(rest) > len(shown) else None, known)


def told(entry: Entry) -> dict[str, Any]:
    """An event as the feed tells it: never with content, and with empty fields where the stream leaves them out."""
    fields: dict[str, Any] = {
        "eventId": entry.id,
        "type": entry.kind,
        "path": entry.path,
        "revision": entry.revision,
        "contentHash": entry.content_hash,
        "origin": entry.origin,
        "provider": entry.provider,
        "correlationId": entry.correlation_id,
        "timestamp": entry.timestamp,
    }
    return {name: value for name, value in fields.items() if value or name not in ("contentHash", "provider")}
