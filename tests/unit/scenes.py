"""What `syncwatch status` shows, scene by scene: connections of each kind and what else a sidecar watches, well, degraded and down.

The expected texts are the files in `screens/`, compared to the letter by `test_terminal.py`. After a change that was meant, write them anew and look at the
difference before you commit it:

    python -m tests.unit.scenes
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from syncwatch.core.health import Check, Component, Health, Reason
from syncwatch.core.histogram import FAST_S
from syncwatch.core.reported import Advice
from syncwatch.core.snapshot import HookSnapshot, ReportSnapshot, Snapshot, TaskSnapshot, Transition
from syncwatch.core.states import AttemptFailure, AuditResult, AuditVerdict, Claim, Origin, State, Verdict, WatchMode
from syncwatch.core.wire import FrameKind, Numbering
from syncwatch.exposition import status
from tests.unit.snapshots import (
    NOW_S,
    WALL_S,
    connection,
    continuity,
    fresh_connection,
    fresh_mirror,
    fresh_service,
    fresh_watcher,
    health,
    heartbeat,
    held,
    histogram,
    lifetime,
    mirror,
    moment,
    service,
    sidecar,
    snapshot,
    timeline,
    watcher,
)

FOLDER = Path(__file__).parent / "screens"
WIDTHS = (80, 120)


class Scene(NamedTuple):
    """A picture of a sidecar; `source` is where the command has it from, `verbose` whether it is to tell everything."""

    picture: Snapshot
    verbose: bool = False
    source: dict[str, Any] | None = None


def document(taken: Snapshot, source: dict[str, Any] | None = None) -> dict[str, Any]:
    """The document as the command has it."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status.document(taken)))
    return read if source is None else {**read, "source": source}


def shown(scene: Scene, width: int, colour: bool = False) -> str:
    """The text of a scene."""
    return status.render(document(scene.picture, scene.source), colour, width, scene.verbose)


# --- Relaycast ----------------------------------------------------------------------------------------------------------------------------------

CLEAN = {"gaps": {}, "missing": 0, "missed": 0, "recovered": 0, "lost": 0, "unaccounted": 0, "last_loss": None, "resets": 0}


def cast_healthy() -> Snapshot:
    """Open, in order, with a canary."""
    return snapshot(connections=(connection(continuity=continuity(**CLEAN), anomalies={}, heartbeat=heartbeat(missed=0, late=0, sent=265)),))


def cast_degraded() -> Snapshot:
    """Connected, answered, and behind; and something was lost a while ago."""
    return snapshot(health=health(held(Reason.BEHIND), held(Reason.EVENTS_LOST, 100.0)))


def cast_down() -> Snapshot:
    """Refused credentials, an expired token, never connected."""
    cast = fresh_connection(
        timeline=timeline(state=State.FAILED, recent=(Transition(moment(60.0), State.CONNECTING, State.FAILED, "unauthorized"),)),
        attempts=3,
        attempt_failures={AttemptFailure.UNAUTHORIZED: 3},
        consecutive_failures=3,
        last_failure="unauthorized: the server refused with HTTP 401",
        next_attempt_now_s=NOW_S + 42.0,
        token_expiry_wall_s=WALL_S - 90.0,
        started=moment(61.0),
    )
    return snapshot(connections=(cast,), health=health(held(Reason.FAILED, 60.0), held(Reason.UNAUTHORIZED, 60.0)))


def cast_first_attempt() -> Snapshot:
    """A server that accepts and says nothing: the first attempt is under way, and nothing was ever proven."""
    state = timeline(state=State.CONNECTING, recent=(Transition(moment(4.9), State.IDLE, State.CONNECTING, "start"),))
    cast = fresh_connection(timeline=state, attempts=1, attempting=True, started=moment(4.9), verified_now_s=NOW_S - 4.9)
    return snapshot(connections=(cast,), health=health(health={}))


# --- Relayfile ----------------------------------------------------------------------------------------------------------------------------------


def files(**changes: Any) -> Any:
    """A Relayfile connection: numbers that increase, a log to compare with."""
    ledger = continuity(
        **CLEAN,
        events_received={Origin.LIVE: 812, Origin.STORE: 30},
        audits={AuditResult.CLEAN: 40, AuditResult.REPAIRED: 1},
        audit_events={AuditVerdict.LATE: 2},
        resyncs={(Claim.COMPLETE, Verdict.VERIFIED): 2},
        cursor=90_210,
        epoch=1,
    )
    default: dict[str, Any] = {
        "name": "docs", "protocol": "relayfile", "dialect": "push", "numbering": Numbering.INCREASING, "upstream": "https://files.example:443",
        "continuity": ledger, "canary": None, "anomalies": {}, "clock_offset_s": None, "event_latency": None,
    }  # fmt: skip
    return connection(**default | changes)


def files_healthy() -> Snapshot:
    """Live, and the log agrees."""
    return snapshot(connections=(files(),))


def files_degraded() -> Snapshot:
    """No WebSocket; the feed carries on."""
    recent = (Transition(moment(340.0), State.OPEN, State.RECONNECTING, "network"), Transition(moment(300.0), State.RECONNECTING, State.POLLING, "3 failed handshakes"))
    docs = files(
        timeline=timeline(state=State.POLLING, recent=recent),
        established=None,
        consecutive_failures=5,
        last_failure="rejected: the server refused with HTTP 503",
        next_attempt_now_s=NOW_S + 80.0,
        token_expiry_wall_s=WALL_S + 3600.0,
        heartbeat=heartbeat(last_sent=moment(345.0), last_ack=moment(344.0), sent=264, missed=0, late=0, outstanding=0),
    )
    return snapshot(connections=(docs,), health=health(held(Reason.UPSTREAM_ERROR, 340.0, name="docs"), held(Reason.POLLING, 300.0, name="docs"), names=("docs",)))


def files_down() -> Snapshot:
    """Nobody there, and nothing of the feed."""
    docs = files(
        timeline=timeline(state=State.RECONNECTING, recent=(Transition(moment(7300.0), State.OPEN, State.RECONNECTING, "heartbeat_timeout"),)),
        established=None,
        consecutive_failures=212,
        last_failure="refused: connection refused (ECONNREFUSED)",
        next_attempt_now_s=NOW_S + 29.5,
        started=moment(90_000.0),
        verified_now_s=NOW_S - 7300.0,
        last_event=moment(7322.0),
        heartbeat=heartbeat(last_sent=moment(7310.0), last_ack=moment(7325.0), outstanding=0, missed=2),
    )
    return snapshot(connections=(docs,), health=health(held(Reason.RECONNECTING, 7300.0, name="docs"), names=("docs",)))


# --- TPS ----------------------------------------------------------------------------------------------------------------------------------------


def branch(**changes: Any) -> Any:
    """A branch whose host we are: nothing is numbered, heartbeats are echoed."""
    ledger = continuity(**CLEAN, epoch=1, cursor=None, events_received={Origin.LIVE: 7}, duplicates=0, out_of_order=0, resyncs={}, replayed=0, forgotten={})
    default: dict[str, Any] = {
        "timeline": timeline(recent=(Transition(moment(101.0), State.IDLE, State.CONNECTING, "start"), Transition(moment(100.0), State.CONNECTING, State.OPEN, "ready"))),
        "name": "b1", "protocol": "tps", "dialect": "host", "numbering": Numbering.NONE, "upstream": "wss://branch.example:443",
        "continuity": ledger, "canary": None, "anomalies": {}, "clock_offset_s": None, "event_latency": None, "verified_now_s": None,
        "frames_received": {FrameKind.EVENT: 7, FrameKind.HEARTBEAT: 132}, "frames_sent": {FrameKind.HEARTBEAT: 133, FrameKind.CONTROL: 7},
        "received_bytes": 18_310, "sent_bytes": 15_240, "lifetime": lifetime(events=63, missed=0, recovered=0, lost=0, unaccounted=0),
        "heartbeat": heartbeat(sent=133, acknowledged=132, missed=0, late=0, outstanding=1, last_sent=moment(12.0), last_ack=moment(41.9), last_rtt_s=0.021, half_open={}),
    }  # fmt: skip
    return connection(**default | changes)


def branch_healthy() -> Snapshot:
    """Echoed, and mail arrives."""
    return snapshot(connections=(branch(),))


def branch_degraded() -> Snapshot:
    """An older branch, which never echoes."""
    silent = heartbeat(sent=133, acknowledged=0, missed=0, late=0, outstanding=1, last_sent=moment(12.0), last_ack=None, last_rtt_s=None, half_open={})
    return snapshot(connections=(branch(heartbeat=silent),), health=health(held(Reason.NO_ECHO, 3900.0, name="b1"), names=("b1",)))


def branch_down() -> Snapshot:
    """It was frozen: the heartbeat that was not echoed ended the connection."""
    frozen = branch(
        timeline=timeline(state=State.RECONNECTING, recent=(Transition(moment(75.0), State.OPEN, State.RECONNECTING, "heartbeat_timeout"),)),
        established=None,
        consecutive_failures=2,
        last_failure="timeout: not finished within 10 s: it stood at protocol",
        next_attempt_now_s=NOW_S + 8.0,
        heartbeat=heartbeat(sent=133, acknowledged=132, missed=1, late=0, outstanding=0, last_sent=moment(85.0), last_ack=moment(115.0), last_rtt_s=0.021),
        last_event=moment(1900.0),
    )
    reasons = (held(Reason.HANDSHAKE_TIMEOUT, 65.0, name="b1"), held(Reason.RECONNECTING, 75.0, name="b1"), held(Reason.HEARTBEAT_TIMEOUT, 75.0, name="b1"))
    return snapshot(connections=(frozen,), health=health(*reasons, names=("b1",)))


def host(told: dict[str, Any], **changes: Any) -> Any:
    """A branch whose host is another process: only its file tells, and much of it never."""
    default: dict[str, Any] = {"path": "/home/ops/.tps/connections/b1.json", "read": moment(0.4), "written": moment(12.0), "pid": 4711, "process": "alive", "reconnects": 0}
    nothing = heartbeat(sent=133, acknowledged=0, missed=0, late=0, outstanding=0, last_sent=moment(12.0), last_ack=moment(12.0), last_rtt_s=None, rtt=histogram(FAST_S), half_open={})
    known: dict[str, Any] = {
        "dialect": "passive", "upstream": "", "report": ReportSnapshot(**default | told), "continuity": None, "heartbeat": nothing, "attempts": 0, "attempt_failures": {},
        "frames_received": {FrameKind.UNKNOWN: 139}, "frames_sent": {FrameKind.HEARTBEAT: 133}, "received_bytes": 0, "sent_bytes": 0, "reconnects": 0,
        "last_event": None, "last_frame": moment(12.0), "certificate_expiry_wall_s": None, "disconnects": {}, "close_codes": {}, "handshake": histogram(FAST_S), "last_handshake_s": {},
        "lifetime": lifetime(events=0, reconnects=3, missed=0, recovered=0, lost=0, unaccounted=0, late=0, resets=0),
    }  # fmt: skip
    return branch(**known | changes)


def host_healthy() -> Snapshot:
    """Its file is fresh and its process lives."""
    return snapshot(connections=(host({}),))


def host_degraded() -> Snapshot:
    """Heartbeats are sent, and nothing has come for longer than it may."""
    old = heartbeat(sent=140, acknowledged=0, missed=0, late=0, outstanding=0, last_sent=moment(12.0), last_ack=moment(222.0), last_rtt_s=None, rtt=histogram(FAST_S), half_open={})
    return snapshot(connections=(host({}, heartbeat=old, last_frame=moment(222.0)),), health=health(held(Reason.HEARTBEAT_TIMEOUT, 182.0, name="b1", advice=Advice.SILENT), names=("b1",)))


def host_down() -> Snapshot:
    """Its process is gone, and another one has its number."""
    told = {"process": "reused", "written": moment(4000.0), "reconnects": 5, "remarks": ("its connectedAt is in the future",)}
    gone = timeline(state=State.RECONNECTING, recent=(Transition(moment(3950.0), State.OPEN, State.RECONNECTING, "the host is gone"),))
    why = held(Reason.RECONNECTING, 3950.0, name="b1", advice=Advice.NO_HOST)
    gone_for_good = host(told, timeline=gone, established=None, last_failure="the host's process 4711 is gone: another one has its number by now")
    return snapshot(connections=(gone_for_good,), health=health(why, names=("b1",)))


# --- all else -----------------------------------------------------------------------------------------------------------------------------------


def services() -> Snapshot:
    """One that is well, one that is unwell, one that was not asked yet, one whose task is stuck; no connection."""
    well: dict[str, Any] = {"healthy": True, "since": moment(3600.0), "last_probe": moment(29.0), "last_healthy": moment(29.0), "last_failure": None}
    unwell = held(Reason.SERVICE_UNHEALTHY, component=Component.SERVICE, name="flair")
    stuck = held(Reason.TASK_STALLED, component=Component.SERVICE, name="stuck")
    owners = {(Component.SERVICE, name): value for name, value in (("flair", Health.DEGRADED), ("docs", Health.HEALTHY), ("stuck", Health.DOWN))}
    all_of_them = (service(name="docs", **well), service(), fresh_service(name="new"), service(name="stuck", **well))
    return snapshot(connections=(), services=all_of_them, health=health(unwell, stuck, names=(), health=owners))


def watchers() -> Snapshot:
    """Alive, polling, blind in a corner, dead, and not found out yet; no connection."""
    alive: dict[str, Any] = {"up": True, "blind_since": None, "detail": None, "unseen": 0}
    blind, dead = (held(reason, component=Component.WATCHER, name=name) for reason, name in ((Reason.WATCHER_BLIND, "project"), (Reason.WATCHER_DEAD, "gone")))
    healths = {"src": Health.HEALTHY, "share": Health.HEALTHY, "project": Health.DEGRADED, "gone": Health.DOWN}
    all_of_them = (
        watcher(name="src", path="/srv/src", **alive),
        watcher(name="share", path="/mnt/share", **alive | {"mode": WatchMode.POLLING, "detail": "the file system is nfs: the tree is read again and again"}),
        watcher(),
        watcher(name="gone", path="/srv/gone", dead_since=moment(60.0), blind_since=None, detail="/srv/gone: no such directory", unseen=0, directories=0),
        fresh_watcher(name="new", path="/srv/new"),
    )
    owners = {(Component.WATCHER, name): value for name, value in healths.items()}
    return snapshot(connections=(), watchers=all_of_them, health=health(dead, blind, names=(), health=owners))


def mirrors() -> Snapshot:
    """In step, differing, without a root, and not compared yet; no connection."""
    stuck, gone = (held(Reason.MIRROR_STUCK, component=Component.MIRROR, name=name) for name in ("agent", "lost"))
    healths = {"docs": Health.HEALTHY, "agent": Health.DEGRADED, "lost": Health.DOWN}
    well: dict[str, Any] = {"pending": 0, "oldest_pending_now_s": None, "differing": 0, "differences": (), "last_error": None}
    all_of_them = (
        mirror(name="docs", mode="observe", mount="/mnt/docs", project="/srv/docs", **well),
        mirror(refusal="25 of 40 files would go"),
        mirror(name="lost", mount="/mnt/lost", project="/srv/lost", up=False, gone=("/mnt/lost: no such directory",)),
        fresh_mirror(name="new", mount="/mnt/new", project="/srv/new"),
    )
    owners = {(Component.MIRROR, name): value for name, value in healths.items()}
    return snapshot(connections=(), mirrors=all_of_them, health=health(stuck, gone, names=(), health=owners))


def three_kinds() -> Snapshot:
    """One of each kind and in each health, and a service."""
    reasons = (held(Reason.RECONNECTING, 7300.0, name="docs"), held(Reason.NO_ECHO, 3900.0, name="b1"))
    (down,), (silent,) = files_down().connections, branch_degraded().connections
    known = health(*reasons, names=("cast", "docs", "b1"))
    known = msgspec.structs.replace(known, health={**known.health, (Component.SERVICE, "flair"): Health.HEALTHY})
    flair = service(healthy=True, since=moment(3600.0), last_healthy=moment(29.0), last_failure=None)
    return snapshot(connections=(*cast_healthy().connections, down, silent), services=(flair,), health=known)


def troubled_sidecar() -> Snapshot:
    """All that can be wrong with the process itself."""
    own = sidecar(
        tasks=(TaskSnapshot("connection/cast", 90.0, True), TaskSnapshot("statefile", 0.0, False)),
        statefile_write_failures=2,
        config_last_reload_successful=False,
        config_errors=("syncwatch.yaml:3: listen: wrong", "syncwatch.yaml:4: log: wrong"),
        suspended=True,
        gate_file_failures=3,
    )
    hooks = (HookSnapshot("ui", 70, 5, 2, 1, "HTTP 503"), HookSnapshot("pager", 3, 0, 0, 0, None))
    return snapshot(sidecar=own, hooks=hooks, health=health(held(Reason.TASK_STALLED, 60.0)))


def unconfigured() -> Snapshot:
    """A sidecar that waits for a configuration that it can use."""
    errors = ("syncwatch.yaml:3: listen: wrong", "syncwatch.yaml:4: log: wrong")
    own = sidecar(
        config_last_reload_successful=False, config_last_reload_success_wall_s=None, config_errors=errors, statefile_write_failures=None
    )
    why = f"no usable configuration: {errors[0]} (and 1 more)"
    known = health(names=(), health={(Component.SIDECAR, "syncwatch"): Health.DOWN})
    checks = {**known.checks, "readyz": (Check("configuration", False, why),), "gate": (Check("read", False, why), Check("write", False, why))}
    return snapshot(connections=(), sidecar=own, health=msgspec.structs.replace(known, checks=checks))


def source(**changes: Any) -> dict[str, Any]:
    """The status file of a sidecar that cannot be asked."""
    default = {
        "kind": "file", "at": "/var/lib/syncwatch/status.json", "age_s": 3.2, "current": True, "detail": None,
        "unreachable": "http://127.0.0.1:10120/status cannot be asked: connection refused",
    }  # fmt: skip
    return default | changes


GONE = "the sidecar is not running, last seen 2026-11-20 13:06:40 UTC: it did not end in an orderly way"

SCENES: dict[str, Callable[[], Scene]] = {
    "relaycast_healthy": lambda: Scene(cast_healthy()),
    "relaycast_degraded": lambda: Scene(cast_degraded()),
    "relaycast_down": lambda: Scene(cast_down()),
    "relaycast_first_attempt": lambda: Scene(cast_first_attempt()),
    "relayfile_healthy": lambda: Scene(files_healthy()),
    "relayfile_degraded": lambda: Scene(files_degraded()),
    "relayfile_down": lambda: Scene(files_down()),
    "tps_host_healthy": lambda: Scene(branch_healthy()),
    "tps_host_degraded": lambda: Scene(branch_degraded()),
    "tps_host_down": lambda: Scene(branch_down()),
    "tps_passive_healthy": lambda: Scene(host_healthy()),
    "tps_passive_degraded": lambda: Scene(host_degraded()),
    "tps_passive_down": lambda: Scene(host_down()),
    "services": lambda: Scene(services()),
    "watchers": lambda: Scene(watchers()),
    "mirrors": lambda: Scene(mirrors()),
    "three_kinds": lambda: Scene(three_kinds()),
    "verbose": lambda: Scene(msgspec.structs.replace(cast_degraded(), connections=(*cast_degraded().connections, files()), services=(service(),)), verbose=True),
    "sidecar_in_trouble": lambda: Scene(troubled_sidecar()),
    "without_a_configuration": lambda: Scene(unconfigured()),
    "not_started": lambda: Scene(snapshot(connections=(fresh_connection(),), health=health(names=(), health={}))),
    "from_the_file": lambda: Scene(cast_healthy(), source=source()),
    "not_running": lambda: Scene(three_kinds(), source=source(age_s=191.0, current=False, detail=GONE)),
}
"""A component that shows something adds its scenes here."""


def file_of(name: str, width: int) -> Path:
    """Where a screen is kept."""
    return FOLDER / f"{name}.{width}.txt"


def write_anew() -> None:
    """All of them; screens of scenes that are gone are removed."""
    wanted = {file_of(name, width): shown(make(), width) for name, make in SCENES.items() for width in WIDTHS}
    for left in set(FOLDER.glob("*.txt")) - wanted.keys():
        left.unlink()
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_anew()
