"""The event log: one counter for the whole server, one list per workspace, nothing ever pruned (wire: relayfile §3.3, §4). Pure."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime
from operator import attrgetter

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event as the log keeps it: without content."""

    number: int
    kind: str
    path: str
    revision: str
    content_hash: str
    origin: str
    provider: str
    correlation_id: str
    timestamp: str
    padding: int = 0
    """So many bytes of filler as content, whatever the limits say (a fault)."""

    @property
    def id(self) -> str:
        """What the wire calls it."""
        return f"evt_{self.number}"


class Log:
    """Numbers and entries. `epoch` counts how often the numbers began at 1."""

    def __init__(self) -> None:
        self.epoch = 1
        self.events = 0
        self.revisions = 0
        self.operations = 0
        self._entries: dict[str, list[Entry]] = {}

    def entries(self, workspace: str) -> list[Entry]:
        """A workspace's events, oldest first."""
        return self._entries.setdefault(workspace, [])

    def workspaces(self) -> list[str]:
        """Workspaces that anybody has used."""
        return list(self._entries)

    def next_revision(self) -> str:
        """A new revision."""
        self.revisions += 1
        return f"rev_{self.revisions}"

    def next_operation(self) -> str:
        """A new operation."""
        self.operations += 1
        return f"op_{self.operations}"

    def append(
        self,
        workspace: str,
        kind: str,
        path: str,
        at_s: float,
        *,
        revision: str = "",
        content_hash: str = "",
        origin: str = "agent_write",
        provider: str = "",
        correlation_id: str = "",
        padding: int = 0,
    ) -> Entry:
        """Number an event and keep it."""
        self.events += 1
        entry = Entry(
            self.events, kind, path, revision, content_hash, origin, provider, correlation_id, timestamp(at_s), padding
        )
        self.entries(workspace).append(entry)
        return entry

    def find(self, workspace: str, cursor: str) -> int | None:
        """The place of the event with this id in the workspace's list, or None for an id that is not there."""
        digits = cursor.removeprefix("evt_")
        if digits == cursor or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
            return None
        entries, number = self.entries(workspace), int(digits)
        place = bisect_left(entries, number, key=attrgetter("number"))
        return place if place < len(entries) and entries[place].id == cursor else None

    def clear(self) -> None:
        """What a restart does to a log in memory: everything is gone, the counters begin at 1."""
        self.epoch += 1
        self.events = self.revisions = self.operations = 0
        self._entries = {name: [] for name in self._entries}


def timestamp(at_s: float) -> str:
    """RFC 3339 in UTC with up to nine fraction digits, trailing zeros cut."""
    whole = int(at_s)
    nanos = int((at_s - whole) * 1e9)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}".rstrip("0").rstrip(".") + "Z"
