"""Which requests exist below a workspace, and what each needs (wire: relayfile §1). Pure."""

from __future__ import annotations

from typing import NamedTuple

from syncwatch.relay.kinds import Route

PREFIX = "/v1/workspaces/"


class Target(NamedTuple):
    """What a request is about. `part` is what varies in its path; `acl` says whether the query's path is checked too."""

    name: str
    group: Route
    scope: str
    workspace: str
    part: str = ""
    acl: bool = False


_FIXED: dict[tuple[str, str], tuple[Route, str, bool]] = {
    ("GET", "fs/ws"): ("api", "fs:read", False),
    ("GET", "fs/events"): ("feed", "fs:read", False),
    ("PUT", "fs/file"): ("file", "fs:write", True),
    ("GET", "fs/file"): ("file", "fs:read", True),
    ("DELETE", "fs/file"): ("file", "fs:write", True),
    ("POST", "fs/bulk"): ("bulk", "fs:write", False),
    ("GET", "sync/status"): ("sync", "sync:read", False),
    ("GET", "sync/ingress"): ("sync", "sync:read", False),
    ("POST", "webhooks/ingest"): ("ingest", "sync:trigger", False),
}


def find(method: str, path: str) -> Target | None:
    """What a request is about, or None: another method on a known path is an unknown route too."""
    if (method, path) == ("GET", "/v1/admin/backends"):
        return Target("admin/backends", "admin", "admin:read", "")
    workspace, _, below = path.removeprefix(PREFIX).partition("/")
    if not path.startswith(PREFIX) or not workspace:
        return None
    fixed = _FIXED.get((method, below))
    if fixed is not None:
        group, scope, acl = fixed
        return Target(below, group, scope, workspace, acl=acl)
    parts = below.split("/")
    if method == "GET" and len(parts) == 2 and parts[0] == "ops":
        return Target("ops", "ops", "ops:read", workspace, parts[1])
    if method == "POST" and len(parts) == 3 and (parts[0], parts[2]) == ("writeback", "ack"):
        return Target("writeback/ack", "ops", "sync:trigger", workspace, parts[1])
    return None
