"""What survives a restart: rows (wire: relaycast §5, §6, §10). SQLite in memory or in a file.

Rows and queries belong here, rules do not. `created_at` is a whole second, as the real server's database sets it. While
the fault "database failing" holds, every call raises `DatabaseError`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

REPLAY_LIMIT = 1000
"""Rows per query of a replay, and there are three queries."""

IDEMPOTENCY_TTL_S = 24 * 3600

_SCHEMA = """
CREATE TABLE IF NOT EXISTS workspaces (id INTEGER PRIMARY KEY, name TEXT, key_hash TEXT UNIQUE, created_at INTEGER);
CREATE TABLE IF NOT EXISTS agents (
  id INTEGER PRIMARY KEY, workspace_id INTEGER, name TEXT, type TEXT, token_hash TEXT UNIQUE, created_at INTEGER,
  UNIQUE (workspace_id, name));
CREATE TABLE IF NOT EXISTS channels (
  id INTEGER PRIMARY KEY, workspace_id INTEGER, name TEXT, topic TEXT, metadata TEXT, created_by INTEGER,
  created_at INTEGER, archived INTEGER DEFAULT 0,
  UNIQUE (workspace_id, name));
CREATE TABLE IF NOT EXISTS members (
  place INTEGER PRIMARY KEY, channel_id INTEGER, agent_id INTEGER, role TEXT, joined_at INTEGER,
  muted INTEGER DEFAULT 0,
  UNIQUE (channel_id, agent_id));
CREATE TABLE IF NOT EXISTS conversations (
  id INTEGER PRIMARY KEY, workspace_id INTEGER, kind TEXT, name TEXT, pair TEXT UNIQUE, created_at INTEGER);
CREATE TABLE IF NOT EXISTS participants (
  place INTEGER PRIMARY KEY, conversation_id INTEGER, agent_id INTEGER,
  UNIQUE (conversation_id, agent_id));
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY, workspace_id INTEGER, channel_id INTEGER, conversation_id INTEGER, agent_id INTEGER,
  thread_id INTEGER, text TEXT, blocks TEXT, metadata TEXT, mode TEXT, created_at INTEGER, updated_at INTEGER);
CREATE INDEX IF NOT EXISTS messages_channel ON messages (channel_id, created_at);
CREATE INDEX IF NOT EXISTS messages_conversation ON messages (conversation_id, created_at);
CREATE INDEX IF NOT EXISTS messages_thread ON messages (thread_id);
CREATE TABLE IF NOT EXISTS reactions (
  id INTEGER PRIMARY KEY, message_id INTEGER, agent_id INTEGER, emoji TEXT, created_at INTEGER,
  UNIQUE (message_id, agent_id, emoji));
CREATE TABLE IF NOT EXISTS observers (
  id INTEGER PRIMARY KEY, workspace_id INTEGER, name TEXT, token_hash TEXT UNIQUE, scopes TEXT, filters TEXT,
  created_at INTEGER,
  UNIQUE (workspace_id, name));
CREATE TABLE IF NOT EXISTS workspace_events (
  workspace_id INTEGER, seq INTEGER, type TEXT, channel_id TEXT, channel TEXT, payload BLOB, created_at REAL,
  PRIMARY KEY (workspace_id, seq));
CREATE TABLE IF NOT EXISTS idempotency (
  scope TEXT, key TEXT, fingerprint TEXT, answer BLOB, created_at REAL,
  PRIMARY KEY (scope, key));
"""


class DatabaseError(Exception):
    """The database does not answer (a fault)."""


class MessageRow(NamedTuple):
    """A message with the names its events need. Exactly one of `channel_id` and `conversation_id` is set."""

    id: int
    workspace_id: int
    channel_id: int | None
    conversation_id: int | None
    agent_id: int
    thread_id: int | None
    text: str
    blocks: str | None
    metadata: str
    mode: str
    created_at: int
    updated_at: int | None
    agent_name: str
    channel: str | None


class ReactionRow(NamedTuple):
    """A reaction that still exists."""

    message_id: int
    emoji: str
    agent_name: str
    created_at: int


_COLUMNS = (
    "m.id, m.workspace_id, m.channel_id, m.conversation_id, m.agent_id, m.thread_id, m.text, m.blocks, m.metadata, m.mode, "
    "m.created_at, m.updated_at, a.name, c.name"
)
_FROM = " FROM messages m JOIN agents a ON a.id = m.agent_id LEFT JOIN channels c ON c.id = m.channel_id "
_MESSAGE = "SELECT " + _COLUMNS + _FROM


class Store:
    """The database, in `path` (`:memory:` keeps nothing over the process). Used from one thread."""

    def __init__(self, path: str, failing: Callable[[], bool] = lambda: False) -> None:
        self._failing = failing
        self.durable = path != ":memory:"
        self.database = sqlite3.connect(path, isolation_level=None)
        # Nobody's data depends on this server surviving a power cut; waiting for the disk would only slow the tests.
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self.database.close()

    def run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        """Run one statement.

        Raises:
            DatabaseError: while that fault holds; nothing has changed then.
        """
        if self._failing():
            raise DatabaseError("the database does not answer")
        return self.database.execute(sql, values)

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """All rows of one query."""
        return self.run(sql, *values).fetchall()

    def row(self, sql: str, *values: Any) -> Any:
        """The first row of one query, or None."""
        return self.run(sql, *values).fetchone()

    def last_id(self) -> int:
        """The highest snowflake in use, 0 in an empty database."""
        tables = ("workspaces", "agents", "channels", "conversations", "messages", "reactions", "observers")
        return max(int(self.row(f"SELECT coalesce(max(id), 0) FROM {table}")[0]) for table in tables)  # noqa: S608  (names above)

    # Messages

    def add_message(
        self,
        ident: int,
        workspace_id: int,
        channel_id: int | None,
        conversation_id: int | None,
        agent_id: int,
        thread_id: int | None,
        text: str,
        blocks: str | None,
        metadata: str,
        mode: str,
        created_at: int,
    ) -> None:
        """Insert a message."""
        self.run(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            ident,
            workspace_id,
            channel_id,
            conversation_id,
            agent_id,
            thread_id,
            text,
            blocks,
            metadata,
            mode,
            created_at,
        )

    def message(self, ident: int, workspace_id: int) -> MessageRow | None:
        """One message of a workspace."""
        row = self.row(_MESSAGE + "WHERE m.id = ? AND m.workspace_id = ?", ident, workspace_id)
        return MessageRow(*row) if row else None

    def history(
        self, where: str, ident: int, limit: int, before: int | None, after: int | None, *, threads: bool = False
    ) -> list[MessageRow]:
        """Messages with `where` (a column) equal to `ident`, newest first, thread replies left out unless asked for."""
        sql = _MESSAGE + f"WHERE m.{where} = ?" + ("" if threads else " AND m.thread_id IS NULL")
        values: list[int] = [ident]
        if before is not None:
            sql, values = sql + " AND m.id < ?", [*values, before]
        if after is not None:
            sql, values = sql + " AND m.id > ?", [*values, after]
        return [MessageRow(*row) for row in self.rows(sql + " ORDER BY m.id DESC LIMIT ?", *values, limit)]

    def reactions(self, message_id: int) -> list[tuple[str, str]]:
        """Emoji and agent name of a message's reactions, oldest first."""
        sql = "SELECT r.emoji, a.name FROM reactions r JOIN agents a ON a.id = r.agent_id WHERE r.message_id = ? ORDER BY r.id"
        return [(row[0], row[1]) for row in self.rows(sql, message_id)]

    # Replay (wire: relaycast §5): newer than a whole second, oldest first, at most 1000 of each kind, by membership as
    # it is now

    def replay_channels(self, agent_id: int, after_s: int) -> list[MessageRow]:
        """Channel messages and thread replies; muted channels and the agent's own messages included."""
        sql = _MESSAGE + (
            "JOIN members b ON b.channel_id = m.channel_id AND b.agent_id = ? WHERE m.created_at > ? ORDER BY m.created_at, m.id LIMIT ?"
        )
        return [MessageRow(*row) for row in self.rows(sql, agent_id, after_s, REPLAY_LIMIT)]

    def replay_conversations(self, agent_id: int, after_s: int) -> list[tuple[MessageRow, bool]]:
        """Direct messages, each with whether its conversation is a group."""
        sql = (
            "SELECT "
            + _COLUMNS
            + ", v.kind = 'group'"
            + _FROM
            + (
                "JOIN conversations v ON v.id = m.conversation_id JOIN participants p ON p.conversation_id = m.conversation_id AND p.agent_id = ? "
                "WHERE m.created_at > ? ORDER BY m.created_at, m.id LIMIT ?"
            )
        )
        return [(MessageRow(*row[:-1]), bool(row[-1])) for row in self.rows(sql, agent_id, after_s, REPLAY_LIMIT)]

    def replay_reactions(self, agent_id: int, after_s: int) -> list[ReactionRow]:
        """Reactions that still exist, to messages the agent could see."""
        sql = (
            "SELECT r.message_id, r.emoji, a.name, r.created_at FROM reactions r JOIN agents a ON a.id = r.agent_id "
            "JOIN messages m ON m.id = r.message_id "
            "WHERE r.created_at > ? AND (EXISTS (SELECT 1 FROM members b WHERE b.channel_id = m.channel_id AND b.agent_id = ?) "
            "OR EXISTS (SELECT 1 FROM participants p WHERE p.conversation_id = m.conversation_id AND p.agent_id = ?)) "
            "ORDER BY r.created_at, r.id LIMIT ?"
        )
        return [ReactionRow(*row) for row in self.rows(sql, after_s, agent_id, agent_id, REPLAY_LIMIT)]

    # Membership

    def members(self, channel_id: int) -> list[tuple[int, str, int, bool]]:
        """Agent id, role, joined at, muted; in list order."""
        sql = "SELECT agent_id, role, joined_at, muted FROM members WHERE channel_id = ? ORDER BY place"
        return [(row[0], row[1], row[2], bool(row[3])) for row in self.rows(sql, channel_id)]

    def participants(self, conversation_id: int) -> list[int]:
        """Agent ids, in list order."""
        return [
            row[0]
            for row in self.rows(
                "SELECT agent_id FROM participants WHERE conversation_id = ? ORDER BY place", conversation_id
            )
        ]

    def add_conversation(
        self,
        ident: int,
        workspace_id: int,
        kind: str,
        name: str | None,
        pair: str | None,
        created_at: int,
        agent_ids: Iterable[int],
    ) -> None:
        """Insert a conversation and its participants."""
        self.run(
            "INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?)", ident, workspace_id, kind, name, pair, created_at
        )
        for agent_id in agent_ids:
            self.run("INSERT INTO participants (conversation_id, agent_id) VALUES (?, ?)", ident, agent_id)

    # Idempotency

    def remembered(self, scope: str, key: str, now_s: float) -> tuple[str, bytes] | None:
        """Fingerprint and answer of an earlier request, for 24 h."""
        sql = "SELECT fingerprint, answer FROM idempotency WHERE scope = ? AND key = ? AND created_at > ?"
        row = self.row(sql, scope, key, now_s - IDEMPOTENCY_TTL_S)
        return (row[0], row[1]) if row else None

    def remember(self, scope: str, key: str, fingerprint: str, answer: bytes, now_s: float) -> None:
        """Keep an answer."""
        self.run("INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)", scope, key, fingerprint, answer, now_s)
