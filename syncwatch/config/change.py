"""What a changed configuration means for what already runs: a plan, or every reason why it needs a restart.

Law: pure; two configurations in, names and sentences out. It is safe for what is added later: a top-level key that is not named here needs a
restart, a connection's key that is not named here makes a new session. Nothing is ever silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from syncwatch.config.connections import Connection
from syncwatch.config.decode import keys_of
from syncwatch.config.endpoints import Address
from syncwatch.config.mistakes import Mistake, in_order
from syncwatch.config.schema import Config, Mirror, Service, Watcher

CHANGEABLE = frozenset({"auto_reload", "log", "connections", "watchers", "mirrors", "services", "health"})
"""Top-level keys that may change while it runs; any other needs a restart."""

SETTINGS = frozenset({
    "connect_timeout", "max_frame", "tls", "proxy", "token_file", "subscribe", "heartbeat", "reconnect", "resync", "verify", "stale_after",
    "canary", "polling", "audit", "services_file",
})  # fmt: skip
"""Keys of a connection that a running session takes over. Any other says whose events are watched, and makes a new session.

`tls`, `proxy`, `token_file`, `max_frame`, `connect_timeout` and `subscribe` are words of the next handshake. `token_file` is where credentials are read, not
who is watched: a token moves to another path more often than it becomes another agent's, and that is found by the overlap proof.
"""

B = TypeVar("B", Service, Mirror, Watcher)
_SHOWN = (str, Path, Address, type(None))


class Fates(msgspec.Struct, frozen=True):
    """Names of watchers, mirrors or services, as those of connections in a Plan. Another URL is another service; other roots, another mode or other rules are another mirror."""

    kept: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def changes(self, kind: str) -> dict[str, tuple[str, ...]]:
        """What is to be done to the components of this kind, for the log."""
        done = {f"{kind}_{word}": getattr(self, word) for word in ("configured", "replaced", "added", "removed")}
        return {word: names for word, names in done.items() if names}


class Plan(msgspec.Struct, frozen=True):
    """Names of connections: the removed ones in the old order, all others in the new one. With `refusals` nothing is to be done at all."""

    kept: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    services: Fates = Fates()
    mirrors: Fates = Fates()
    watchers: Fates = Fates()
    others: tuple[str, ...] = ()
    """Top-level keys, `connections`, `watchers`, `mirrors` and `services` apart, that say something else."""
    refusals: tuple[Mistake, ...] = ()

    @property
    def changes(self) -> dict[str, tuple[str, ...]]:
        """What is to be done, for the log; empty when the two say the same."""
        done = {"configured": self.configured, "replaced": self.replaced, "added": self.added, "removed": self.removed, "keys": self.others}
        return {word: names for word, names in done.items() if names} | {
            word: names
            for kind in ("watchers", "mirrors", "services")
            for word, names in getattr(self, kind).changes(kind).items()
        }


def plan(old: Config, new: Config) -> Plan:
    """What has to happen so that `new` runs where `old` ran."""
    changed = tuple(key for key, field in keys_of(Config).items() if getattr(old, field.name) != getattr(new, field.name))
    before, after = _by_name(old), _by_name(new)
    everywhere = old.health.incident_hold_s != new.health.incident_hold_s  # a setting of each session, written once
    fates = {name: _fate(before.get(name), connection, everywhere) for name, connection in after.items()}
    return Plan(
        **{fate: tuple(name for name, its in fates.items() if its == fate) for fate in ("kept", "configured", "replaced", "added")},
        removed=tuple(name for name in before if name not in after),
        services=_fates(old.services, new.services, lambda one: one.url),
        watchers=_fates(old.watchers, new.watchers, lambda one: (one.path, one.ignore)),
        mirrors=_fates(old.mirrors, new.mirrors, _what_a_mirror_is),
        others=tuple(key for key in changed if key not in ("connections", "watchers", "mirrors", "services")),
        refusals=tuple(in_order(_refusals(old, new, changed))),
    )


def same_stream(old: Connection, new: Connection) -> bool:
    """Whether a session of `old` may go on as one of `new`: the same server, the same protocol, the same events."""
    return type(old) is type(new) and all(
        getattr(old, field.name) == getattr(new, field.name) for key, field in keys_of(type(new)).items() if key not in SETTINGS
    )


def _fate(old: Connection | None, new: Connection, everywhere: bool) -> str:
    if old is None:
        return "added"
    if not same_stream(old, new):
        return "replaced"
    return "configured" if everywhere or old != new else "kept"


def _fates(old: Sequence[B], new: Sequence[B], identity: Callable[[B], object]) -> Fates:
    """`identity`: what makes one of the same name another one."""
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    fates: dict[str, list[str]] = {"kept": [], "configured": [], "replaced": [], "added": []}
    for name, one in after.items():
        known = before.get(name)
        if known is None:
            fate = "added"
        elif identity(known) != identity(one):
            fate = "replaced"
        else:
            fate = "kept" if known == one else "configured"
        fates[fate].append(name)
    return Fates(**{fate: tuple(names) for fate, names in fates.items()}, removed=tuple(name for name in before if name not in after))


def _what_a_mirror_is(mirror: Mirror) -> object:
    """Everything but how often it looks, and how long a flush may take."""
    return mirror.mode, mirror.mount, mirror.project, mirror.ignore, mirror.read_only, mirror.keep_conflicts


def _by_name(config: Config) -> dict[str, Connection]:
    return {connection.name: connection for connection in config.connections}


def _refusals(old: Config, new: Config, changed: tuple[str, ...]) -> Iterator[Mistake]:
    for key in changed:
        if key not in CHANGEABLE:
            name = keys_of(Config)[key].name
            yield new.source.mistake(key, f"{_difference(getattr(old, name), getattr(new, name))} needs a restart")


def _difference(old: Any, new: Any) -> str:
    if isinstance(old, _SHOWN) and isinstance(new, _SHOWN):
        return f"a change from {_said(old)} to {_said(new)}"
    return "a change"


def _said(value: Any) -> str:
    return "null" if value is None else str(value)
