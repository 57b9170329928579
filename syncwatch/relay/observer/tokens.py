"""Observer tokens: who may watch a workspace, and what of it each of them sees (wire: relaycast §0, §12)."""

from __future__ import annotations

from typing import Any

import msgspec

from syncwatch.relay import ids
from syncwatch.relay.directory import ApiError, Directory, second
from syncwatch.relay.state import Workspace

SCOPES = ("stream:read", "messages:read", "dms:read", "reactions:read", "channels:read", "agents:read", "activity:read")

_SCOPE_OF = (
    ("message.reacted", "reactions:read"),
    ("reaction.", "reactions:read"),
    ("message.", "messages:read"),
    ("thread.", "messages:read"),
    ("dm.", "dms:read"),
    ("group_dm.", "dms:read"),
    ("channel.", "channels:read"),
    ("member.", "channels:read"),
    ("agent.", "agents:read"),
)
"""The scope that a kind of event needs, first match; whatever is not listed needs `activity:read`."""


class Filters(msgspec.Struct, frozen=True):
    """What a token is limited to; empty means everything."""

    channel_names: tuple[str, ...] = ()
    channel_ids: tuple[str, ...] = ()
    include_dms: bool = False


class Seen(msgspec.Struct, frozen=True):
    """What a filter looks at in an event. `channel` is a name; both are None for what belongs to no channel."""

    kind: str
    channel: str | None
    channel_id: str | None


class Observer:
    """A token's holder. `label` names it in the ledger."""

    def __init__(
        self, ident: int, workspace: Workspace, name: str, label: str, scopes: tuple[str, ...], filters: Filters
    ) -> None:
        self.id = ident
        self.workspace = workspace
        self.name = name
        self.label = label
        self.scopes = scopes
        self.filters = filters
        self.token = ""
        """The token itself, known only to whoever created or rotated it."""

    @property
    def may_stream(self) -> bool:
        """Whether it may open a socket and read the log."""
        return "stream:read" in self.scopes

    def sees(self, event: Seen) -> bool:
        """Whether an event is shown to it, live and in the log alike."""
        scope = next((scope for start, scope in _SCOPE_OF if event.kind.startswith(start)), "activity:read")
        if scope not in self.scopes or (scope == "dms:read" and not self.filters.include_dms):
            return False
        names, idents = self.filters.channel_names, self.filters.channel_ids
        if not (names or idents) or (event.channel is None and event.channel_id is None):
            return True
        return event.channel in names or event.channel_id in idents


class Observers:
    """All observers. A revoked one is forgotten, and known by nobody having its id."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._store = directory.store
        self._by_hash: dict[str, Observer] = {}
        self._by_id: dict[int, Observer] = {}
        for ident, workspace_id, name, token_hash, scopes, filters in self._store.rows(
            "SELECT id, workspace_id, name, token_hash, scopes, filters FROM observers ORDER BY id"
        ):
            self._by_hash[token_hash] = self._take_up(
                ident,
                directory.hub.workspaces[workspace_id],
                name,
                msgspec.json.decode(scopes, type=tuple[str, ...]),
                msgspec.json.decode(filters, type=Filters),
            )

    def _take_up(
        self, ident: int, workspace: Workspace, name: str, scopes: tuple[str, ...], filters: Filters
    ) -> Observer:
        label = self.directory.label(name, workspace)
        observer = self._by_id[ident] = Observer(ident, workspace, name, label, scopes, filters)
        return observer

    # Finding

    def by_token(self, token: str) -> Observer | None:
        """Whom a token belongs to."""
        return self._by_hash.get(ids.token_hash(token)) if ids.token_kind(token) == "ot" else None

    def by_label(self, label: str) -> Observer:
        """An observer by its label.

        Raises:
            KeyError: there is none.
        """
        for observer in self._by_id.values():
            if observer.label == label:
                return observer
        raise KeyError(label)

    def all(self) -> list[Observer]:
        """Everybody's."""
        return list(self._by_id.values())

    def of(self, workspace: Workspace, ident: int | None = None) -> list[Observer]:
        """A workspace's observers, or the one with this id."""
        return [one for one in self._by_id.values() if one.workspace is workspace and ident in (None, one.id)]

    def holds(self, observer: Observer) -> bool:
        """Whether it has not been revoked."""
        return observer.id in self._by_id

    # Changing

    def create(self, workspace: Workspace, name: str, scopes: tuple[str, ...], filters: Filters) -> Observer:
        """Create an observer.

        Raises:
            ApiError: 409 `observer_token_name_conflict`.
        """
        if any(one.name == name for one in self.of(workspace)):
            raise ApiError(409, "observer_token_name_conflict", f'An observer token named "{name}" already exists')
        ident, token = self.directory.snowflakes.next(), ids.new_token("ot")
        self._store.run(
            "INSERT INTO observers VALUES (?, ?, ?, ?, ?, ?, ?)",
            ident,
            workspace.id,
            name,
            ids.token_hash(token),
            msgspec.json.encode(scopes).decode(),
            msgspec.json.encode(filters).decode(),
            self.directory.now_s(),
        )
        observer = self._by_hash[ids.token_hash(token)] = self._take_up(ident, workspace, name, scopes, filters)
        observer.token = token
        return observer

    def revoke(self, observer: Observer) -> None:
        """End a token; whoever is connected with it learns at a publish."""
        self._store.run("DELETE FROM observers WHERE id = ?", observer.id)
        self._by_hash = {known: other for known, other in self._by_hash.items() if other is not observer}
        self._by_id.pop(observer.id, None)

    def rotate(self, observer: Observer) -> str:
        """A new token for the same observer; the old one is unknown from now on."""
        token = ids.new_token("ot")
        self._store.run("UPDATE observers SET token_hash = ? WHERE id = ?", ids.token_hash(token), observer.id)
        self._by_hash = {known: other for known, other in self._by_hash.items() if other is not observer}
        self._by_hash[ids.token_hash(token)] = observer
        observer.token = token
        return token

    def describe(self, observer: Observer, *, token: bool = False) -> dict[str, Any]:
        """An observer as replies show it; the token only to whoever made it."""
        created_at = self._store.row("SELECT created_at FROM observers WHERE id = ?", observer.id)[0]
        told = {
            "id": str(observer.id),
            "name": observer.name,
            "scopes": list(observer.scopes),
            "filters": msgspec.to_builtins(observer.filters),
            "created_at": second(created_at),
        }
        return told | ({"token": observer.token} if token else {})
