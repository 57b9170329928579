"""The whole configuration: every block and key beside those of connections, with defaults and what must hold between values.

Units: attributes ending in `_s` are seconds. Everything is immutable and comparable, so that a reload can tell what changed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import field

from syncwatch.config import endpoints, reasons, values
from syncwatch.config.connections import Connection, TpsHostConnection
from syncwatch.config.endpoints import Address
from syncwatch.config.mistakes import Source
from syncwatch.config.rules import (
    AnyPath,
    Block,
    Count,
    HttpUrl,
    ListenAddress,
    Name,
    OncePath,
    Pattern,
    ProbeReason,
    Rule,
    Seconds,
    SecondsOrZero,
    TokenPath,
    Written,
    graces,
)

Faults = Iterator[tuple[str, str]]
IGNORED = (".git", "node_modules")


class Log(Block, frozen=True, kw_only=True):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Sentinel(Block, frozen=True, kw_only=True):
    """Touching a file of our own and waiting for its event. Acts: it writes one file."""

    interval_s: Seconds = field(default=15.0, name="interval")
    timeout_s: Seconds = field(default=5.0, name="timeout")


class Watcher(Block, frozen=True, kw_only=True):
    """A directory whose changes are watched."""

    name: Name
    path: AnyPath
    sentinel: Sentinel | None = None
    ignore: tuple[Pattern, ...] = IGNORED

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """What syncwatch writes itself is not what is to be watched."""
        path = got.get("path")
        if path and ".syncwatch" in Path(path).parts:
            yield "path", f"{path} is a place where syncwatch keeps files of its own; name the directory above it"


class Reconcile(Block, frozen=True, kw_only=True):
    """How often two trees are compared in full: while the watchers are healthy, and while one is down."""

    healthy_s: Seconds = field(default=60.0, name="healthy")
    degraded_s: Seconds = field(default=10.0, name="degraded")


class Mirror(Block, frozen=True, kw_only=True):
    """Two trees that should be equal. Acts in mode sync: it copies and deletes."""

    name: Name
    mode: Literal["observe", "sync"] = "observe"
    mount: AnyPath
    project: AnyPath
    debounce_s: SecondsOrZero = field(default=0.05, name="debounce")
    reconcile: Reconcile = Reconcile()
    ignore: tuple[Pattern, ...] = IGNORED
    read_only: tuple[Pattern, ...] = ()
    keep_conflicts: bool = True
    flush_timeout_s: Seconds = field(default=20.0, name="flush_timeout")

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """The two roots are different trees."""
        mount, project = got.get("mount"), got.get("project")
        if mount and project and nested(mount, project):
            yield "project", f"{project} and the mount {mount} are the same tree or one inside the other"


class Service(Block, frozen=True, kw_only=True):
    """An HTTP service that is asked now and then."""

    name: Name
    url: HttpUrl
    interval_s: Seconds = field(default=300.0, name="interval")
    retry_interval_s: Seconds = field(default=30.0, name="retry_interval")
    timeout_s: Seconds = field(default=5.0, name="timeout")
    expect_status: Annotated[int, Rule("an HTTP status", values.whole(100, 599), written=Written.NUMBER)] | None = None
    expect_body: Annotated[str, Rule("a regular expression", values.expression)] | None = None


class Hook(Block, frozen=True, kw_only=True):
    """A URL that is told about events."""

    name: Name
    events: tuple[Literal["degraded", "recovered", "resynced", "gap"], ...] = (
        "degraded",
        "recovered",
        "resynced",
        "gap",
    )
    url: HttpUrl
    timeout_s: Seconds = field(default=5.0, name="timeout")
    max_attempts: Count = 5
    queue: Count = 100
    secret_file: TokenPath | None = None

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """A hook without events would never be called."""
        if got.get("events") == ():
            yield "events", "names no event, so this hook would never be called"


def _ready_graces() -> Mapping[str, float]:
    return MappingProxyType(
        {
            "unauthorized": 0.0,
            "forbidden": 0.0,
            "failed": 0.0,
            "reconnecting": 60.0,
            "heartbeat_timeout": 60.0,
            "behind": 60.0,
            "gap_open": 30.0,
            "watcher_dead": 0.0,
        }
    )


class Ready(Block, frozen=True, kw_only=True):
    """What `/readyz` waits for. `fail_on` maps reasons to the seconds that each may last; given, it replaces the default whole."""

    wait_for_first_sync: bool = True
    fail_on: Annotated[Mapping[str, float], graces(reasons.probe_reason)] = field(default_factory=_ready_graces)


class Healthz(Block, frozen=True, kw_only=True):
    """What `/healthz` answers beside what `/livez` says."""

    fail_on: Annotated[Mapping[str, float], graces(reasons.healthz_reason)] = field(
        default_factory=lambda: MappingProxyType({})
    )


class Gate(Block, frozen=True, kw_only=True):
    """The reasons that close `/gate`."""

    read: tuple[ProbeReason, ...] = (
        "connecting", "reconnecting", "failed", "unauthorized", "forbidden", "heartbeat_timeout", "send_half_open", "behind",
        "gap_open", "polling",
    )  # fmt: skip
    write: tuple[ProbeReason, ...] = (
        "connecting", "reconnecting", "failed", "unauthorized", "forbidden", "send_half_open", "mirror_stuck", "watcher_dead",
        "watcher_blind",
    )  # fmt: skip


class Health(Block, frozen=True, kw_only=True):
    """How states become verdicts."""

    degraded_after_s: SecondsOrZero = field(default=5.0, name="degraded_after")
    recovered_after_s: SecondsOrZero = field(default=10.0, name="recovered_after")
    incident_hold_s: SecondsOrZero = field(default=600.0, name="incident_hold")
    ready: Ready = Ready()
    healthz: Healthz = Healthz()
    gate: Gate = Gate()


class Config(Block, frozen=True, kw_only=True):
    """The configuration of one sidecar. `source` tells where it was written and takes no part in comparing."""

    listen: ListenAddress = Address("0.0.0.0", 10119)
    probes_listen: ListenAddress | None = None
    local_listen: ListenAddress = Address("127.0.0.1", 10120)
    local_token_file: TokenPath | None = None
    web_config: OncePath | None = None
    instance: Annotated[str, Rule("text", values.instance, before=endpoints.with_variables)] | None = None
    state_dir: AnyPath | None = None
    gate_file: AnyPath | None = None
    auto_reload_s: SecondsOrZero = field(default=30.0, name="auto_reload")
    log: Log = Log()
    connections: tuple[Connection, ...] = ()
    watchers: tuple[Watcher, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    services: tuple[Service, ...] = ()
    hooks: tuple[Hook, ...] = ()
    health: Health = Health()
    source: Source = field(default_factory=Source)

    @classmethod
    def faults(cls, got: Mapping[str, Any]) -> Faults:
        """Something to watch, listeners that can all be had, and a token where others can reach us."""
        if all(got.get(kind) == () for kind in ("connections", "watchers", "mirrors", "services")):
            yield "", "nothing to watch; name at least one connection, watcher, mirror or service"
        yield from _watcher_faults(got)
        yield from _listener_faults(got)
        yield from _host_faults(got)


def _watcher_faults(got: Mapping[str, Any]) -> Faults:
    """Two watchers of one directory would be one, counted twice."""
    known: dict[str, str] = {}
    for position, watcher in enumerate(got.get("watchers") or ()):
        path = posixpath.normpath(str(watcher.path))
        if path in known:
            yield f"watchers[{position}].path", f"{watcher.path} is watched by {known[path]} already"
        known.setdefault(path, watcher.name)


def _host_faults(got: Mapping[str, Any]) -> Faults:
    """A branch is connected to once, and its mail has a directory of its own."""
    earlier: dict[str, int] = {}
    for position, connection in enumerate(got.get("connections") or ()):
        if not isinstance(connection, TpsHostConnection):
            continue
        first = earlier.setdefault(connection.peer_key, position)
        if first != position:
            yield f"connections[{position}].peer_key", f"is the branch of connections[{first}] as well: of two connections to a branch each cuts the other off"
        if got.get("state_dir") == connection.mail_dir:
            yield f"connections[{position}].mail_dir", "is state_dir as well; give the mail a directory of its own"


def _listener_faults(got: Mapping[str, Any]) -> Faults:
    local = got.get("local_listen")
    if local and not local.loopback and got.get("local_token_file", ...) is None:
        yield "local_listen", f"{local} can be reached from elsewhere, so it needs local_token_file"
    listeners = [(key, got[key]) for key in ("listen", "local_listen", "probes_listen") if got.get(key)]
    for position, (key, address) in enumerate(listeners):
        for earlier, taken in listeners[:position]:
            if address.collides(taken):
                yield key, f"{address} is taken by {earlier}, {taken}"


def nested(one: Path, other: Path) -> bool:
    """The two paths are the same or one lies inside the other, as they are written (links are not followed)."""
    first, second = (Path(posixpath.normpath(str(path).replace("//", "/"))) for path in (one, other))
    return first.is_relative_to(second) or second.is_relative_to(first)
