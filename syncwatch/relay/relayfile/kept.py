"""What a durable backend keeps of Relayfile over a process: counters, events, files. Rows and queries only.

Not subject to the fault "database failing": what it takes away is answers, never what was written.
"""

from __future__ import annotations

import msgspec

from syncwatch.relay.relayfile.log import Entry, Log
from syncwatch.relay.relayfile.tree import File
from syncwatch.relay.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS file_counters (one INTEGER PRIMARY KEY, events INTEGER, revisions INTEGER, operations INTEGER);
CREATE TABLE IF NOT EXISTS file_events (number INTEGER PRIMARY KEY, workspace TEXT, entry BLOB);
CREATE TABLE IF NOT EXISTS files (workspace TEXT, path TEXT, file BLOB, PRIMARY KEY (workspace, path));
"""


class Kept:
    """The tables of one database."""

    def __init__(self, store: Store) -> None:
        self._db = store.database
        self._db.executescript(_SCHEMA)

    def counters(self, log: Log) -> None:
        """Keep the counters."""
        values = (log.events, log.revisions, log.operations)
        self._db.execute("INSERT OR REPLACE INTO file_counters VALUES (1, ?, ?, ?)", values)

    def event(self, workspace: str, entry: Entry) -> None:
        """Keep an event."""
        values = (entry.number, workspace, msgspec.json.encode(entry))
        self._db.execute("INSERT INTO file_events VALUES (?, ?, ?)", values)

    def file(self, workspace: str, path: str, file: File | None) -> None:
        """Keep a file, or that it is gone."""
        if file is None:
            self._db.execute("DELETE FROM files WHERE workspace = ? AND path = ?", (workspace, path))
        else:
            values = (workspace, path, msgspec.json.encode(file))
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", values)

    def clear(self) -> None:
        """Keep nothing any more."""
        self._db.executescript("DELETE FROM file_counters; DELETE FROM file_events; DELETE FROM files;")

    def load(self, log: Log) -> list[tuple[str, File]]:
        """Take up what an earlier process left: counters and events into the log; the files are returned."""
        for log.events, log.revisions, log.operations in self._db.execute(
            "SELECT events, revisions, operations FROM file_counters"
        ):
            pass
        for workspace, entry in self._db.execute("SELECT workspace, entry FROM file_events ORDER BY number"):
            log.entries(workspace).append(msgspec.json.decode(entry, type=Entry))
        found = self._db.execute("SELECT workspace, file FROM files ORDER BY workspace, path").fetchall()
        return [(workspace, msgspec.json.decode(file, type=File)) for workspace, file in found]
