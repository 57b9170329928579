"""What a token's scopes allow (wire: relayfile §2). Pure.

A plain scope is `fs:read`; a structured one is `relayfile:fs:read`, for files also `workspace:<any>:read`, and may end with a
path. As soon as one grant for an action is limited to paths, the plain scope no longer helps for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Grant(NamedTuple):
    """One structured scope that speaks about an action; `path` is None for everything."""

    path: str | None


class Scopes:
    """The scopes of one token."""

    def __init__(self, granted: Iterable[str]) -> None:
        self.granted = frozenset(granted)

    def __bool__(self) -> bool:
        return bool(self.granted)

    def has(self, required: str) -> bool:
        """Whether an action such as `fs:read` is granted at all, somewhere."""
        return required in self.granted or bool(self._grants(required))

    def allows(self, required: str, path: str) -> bool:
        """Whether the action is granted for a path."""
        grants = self._grants(required)
        if not any(grant.path is not None for grant in grants):
            return required in self.granted or bool(grants)
        return any(grant.path is None or _covers(grant.path, path) for grant in grants)

    def _grants(self, required: str) -> list[Grant]:
        resource, action = required.split(":", 1)
        found = []
        for scope in self.granted:
            plane, *rest = scope.split(":", 3)
            if len(rest) < 2:
                continue
            named, act = rest[0], rest[1]
            if not (plane in ("relayfile", "*") and named in (resource, "*")) and not (
                plane == "workspace" and resource == "fs"
            ):
                continue
            if act not in (action, "*") and not (act == "manage" and action in ("read", "write")):
                continue
            path = rest[2] if len(rest) > 2 else "*"
            found.append(Grant(None if path in ("", "*") else path))
        return found


def _covers(pattern: str, path: str) -> bool:
    """`/dir/**` is the directory and all below, `/dir/*` all below at any depth, `prefix*` what begins so, else the very path."""
    if pattern.endswith("/**"):
        return path == pattern[:-3] or path.startswith(pattern[:-2])
    if pattern.endswith("/*"):
        return path.startswith(pattern[:-1]) and path != pattern[:-1]
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern
