"""The /status document and its text: stable keys, unknown as null, every line within its width, nothing a terminal could obey."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncwatch.core.health import ADVICE, Component, Health, Reason
from syncwatch.core.session import Session, SessionSettings
from syncwatch.core.snapshot import Moment, ReportSnapshot, Snapshot, TaskSnapshot
from syncwatch.core.states import AuditResult, AuditVerdict, Claim, Disconnect, Origin, State, Verdict, WatchMode
from syncwatch.core.wire import FrameKind, Numbering
from syncwatch.exposition import document, gate, healthstatus, status
from syncwatch.protocols.tps.codec import Tps
from syncwatch.protocols.tps.keys import Identity
from tests.unit.snapshots import (
    NOW_S,
    WALL_S,
    canary,
    connection,
    continuity,
    fresh_connection,
    fresh_service,
    fresh_watcher,
    health,
    held,
    mirror,
    moment,
    service,
    sidecar,
    snapshot,
    timeline,
    watcher,
)

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("endpoints.md", "status.md")

KEYS = """
schema time health degraded_reason reasons gate checks connections watchers mirrors services hooks sidecar
gate: read write
gate.read: open detail
checks: livez healthz readyz gate
checks.livez: name ok detail
reasons: component name reason incident since advice
reasons.since: time age_s
connections: name protocol dialect continuity upstream health state state_since up started established first_sync_done reasons attempts reconnects
  disconnects close_codes heartbeats traffic verification ledger clock_offset_s event_latency canary expiry lifetime state_seconds transitions report
connections.attempts: total failures consecutive_failures last_failure next mean_handshake_s last_handshake_s under_way
connections.attempts.next: time in_s
connections.heartbeats: sent acknowledged missed late outstanding last_sent last_acknowledged last_rtt_s mean_rtt_s half_open
connections.traffic: frames_received frames_sent received_bytes sent_bytes anomalies last_frame last_event
connections.verification: unverified_s results ever
connections.ledger: epoch cursor events events_by_origin undecided duplicates out_of_order missed recovered lost unaccounted missing late last_loss
  gaps resets replayed resyncs mean_resync_s forgotten audits audit_events
connections.event_latency: events mean_s
connections.canary: sent received timed_out late lost duplicate failed mean_round_trip_s logged log_delay_s
connections.expiry: token certificate
connections.lifetime: since events reconnects missed recovered lost unaccounted late resets
connections.report: path read written pid process reconnects remarks
connections.transitions: at from_state to_state reason
watchers: name path mode health state up reasons detail directories unseen changes restarts sentinels mean_sentinel_s last_event last_alive
mirrors: name mode mount project health state up watchers_healthy reasons gone pending oldest_pending_s differing differences files moved conflicts errors
  refused_deletes refusal last_error flushes last_reconcile mean_reconcile_s comparing_for_s
mirrors.differences: path why since
mirrors.flushes: complete timeout error mean_s
services: name upstream health state state_since reasons last_probe last_healthy last_failure probes lifetime
services.lifetime: since probes failures
services.probes: total failures mean_s next
hooks: name delivered retried dropped waiting last_failure
sidecar: version revision python_version instance started suspended event_loop_lag_s tasks state_file gate_file config callback_errors
sidecar.tasks: task overdue_s wedged
sidecar.state_file: write_failures last_write
sidecar.gate_file: failures
sidecar.config: last_reload_successful last_successful_reload errors
"""
"""The public keys in their order. A line may be added to; a key that goes or changes its meaning breaks somebody's script."""

FULL = snapshot(
    connections=(connection(token_expiry_wall_s=WALL_S - 90.0, next_attempt_now_s=NOW_S + 4.0, report=ReportSnapshot("/b1.json")),),
    health=health(held(Reason.BEHIND), held(Reason.EVENTS_LOST, 100.0)),
    services=(service(),),
    watchers=(watcher(),),
    mirrors=(mirror(),),
)
"""Everything that can be known is known."""


def of(taken: Snapshot) -> dict[str, Any]:
    """The document as it arrives over HTTP."""
    read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status.document(taken)))
    return read


def first(**changes: Any) -> dict[str, Any]:
    """The document's first connection, of a snapshot with one."""
    found: dict[str, Any] = of(snapshot(connections=(connection(**changes),)))["connections"][0]
    return found


def text(taken: Snapshot, width: int = 80, colour: bool = False) -> str:
    """What `syncwatch status` prints."""
    return status.render(of(taken), colour, width)


def test_the_keys_are_pinned() -> None:
    """All keys, in their order."""
    whole = of(FULL)
    for line in KEYS.strip().replace("\n  ", " ").splitlines():
        path, _, keys = line.rpartition(": ")
        found: Any = whole
        for key in path.split(".") if path else ():
            found = found[key]
            found = found[0] if isinstance(found, list) else found
        assert keys.split() == list(found), path


def test_every_key_is_documented() -> None:
    """On the page of the endpoints, or of the command what it adds; in backquotes or in an example."""
    pages = "".join((DOCS / page).read_text(encoding="utf-8") for page in PAGES)
    words = set(re.findall(r"""[`"](\w+)(?:\[\])?[`"]""", pages))
    structs = [
        one
        for one in vars(document).values()
        if getattr(one, "__module__", "") == document.__name__ and hasattr(one, "__struct_fields__")
    ]
    assert len(structs) > 20
    assert set() == {key for one in structs for key in one.__struct_encode_fields__} - words


def test_watchers() -> None:
    """What stands, what is wrong and why; a passive one says nothing of sentinels, one that nothing is known of claims nothing."""
    blind, fresh = of(snapshot(watchers=(watcher(), fresh_watcher())))["watchers"]
    assert ("blind", False, 1, {"seen": 240, "missed": 1}) == (blind["state"], blind["up"], blind["unseen"], blind["sentinels"])
    assert ("unknown", None, None, None) == (fresh["state"], fresh["mode"], fresh["sentinels"], fresh["last_alive"])
    said = text(snapshot(watchers=(watcher(),)))
    assert "project is blind, last change 30 s ago" in said
    assert "/srv/project/private: permission denied" in said
    assert "1 directory, and what is in them" in said
    assert "polling" in text(snapshot(watchers=(watcher(mode=WatchMode.POLLING, blind_since=None, up=True, detail="the file system is nfs"),)))


def test_the_document_is_deterministic() -> None:
    """The same snapshot, the same bytes."""
    assert json.dumps(status.document(FULL)) == json.dumps(status.document(FULL))


def test_moments_have_their_stamp_and_a_monotonic_age() -> None:
    """A wall clock that stepped after the stamp changes neither."""
    stepped = first(last_event=Moment(NOW_S - 2.5, WALL_S + 600.0))
    assert {"time": "2026-11-20T13:16:40.000Z", "age_s": 2.5} == stepped["traffic"]["last_event"]
    assert {"time": "2026-11-20T13:05:00.000Z", "age_s": 100.0} == stepped["state_since"]
    assert 40.0 == stepped["verification"]["unverified_s"]


def test_what_was_never_proven_is_not_a_proof_a_while_ago() -> None:
    """Unverified time counts from the start on; whether there was a proof at all is said beside it."""
    proven, never = first()["verification"], first(verified_now_s=NOW_S - 4000.0)["verification"]
    assert [(40.0, True), (4000.0, False)] == [(one["unverified_s"], one["ever"]) for one in (proven, never)]


def test_reasons_carry_what_to_do() -> None:
    """Component, name, since when, advice; incidents are marked; the gravest is first."""
    whole = of(FULL)
    behind = {
        "component": "connection",
        "name": "cast",
        "reason": "behind",
        "incident": False,
        "since": {"time": "2026-11-20T13:05:40.000Z", "age_s": 60.0},
        "advice": ADVICE[Reason.BEHIND],
    }
    assert behind == whole["reasons"][0]
    assert ["events_lost", True] == [whole["reasons"][1][key] for key in ("reason", "incident")]
    assert whole["reasons"] == whole["connections"][0]["reasons"]
    assert ("degraded", "behind") == (whole["health"], whole["degraded_reason"])


def test_a_reason_belongs_to_its_owner_only() -> None:
    """Two connections and the sidecar, which may share a name: each shows its own, the top shows all."""
    two = (connection(), connection(name="files"))
    stalled = held(Reason.TASK_STALLED, component=Component.SIDECAR, name="cast")
    whole = of(
        snapshot(connections=two, health=health(held(Reason.STALE, name="files"), stalled, names=("cast", "files")))
    )
    assert [[], ["stale"]] == [[one["reason"] for one in c["reasons"]] for c in whole["connections"]]
    assert ["stale", "task_stalled"] == [one["reason"] for one in whole["reasons"]]
    assert ["healthy", "degraded"] == [c["health"] for c in whole["connections"]]


def test_what_never_happened_is_null() -> None:
    """And what can be counted stands at 0, but only what this protocol can count."""
    fresh = of(snapshot(connections=(fresh_connection(),)))["connections"][0]
    unknown = ("health", "started", "established", "clock_offset_s", "event_latency", "canary")
    assert [None] * len(unknown) == [fresh[key] for key in unknown]
    assert [None, None] == [fresh["traffic"][key] for key in ("last_frame", "last_event")]
    assert [None, None] == [fresh["verification"][key] for key in ("unverified_s", "ever")]
    assert fresh["attempts"]["mean_handshake_s"] is None
    assert {"live": 0, "ring": 0, "store": 0} == fresh["ledger"]["events_by_origin"]
    assert {"verified": 0, "contradicted": 0, "unverifiable": 0} == fresh["ledger"]["resyncs"]["complete"]
    assert {"unverifiable": 0} == fresh["ledger"]["resyncs"]["none"]
    assert first(continuity=None)["ledger"] is None
    assert of(snapshot(sidecar=sidecar(statefile_write_failures=None)))["sidecar"]["state_file"] is None
    assert of(snapshot(sidecar=sidecar(gate_file_failures=None)))["sidecar"]["gate_file"] is None


def test_the_clock_is_unknown_before_its_first_reading() -> None:
    """A state that was entered before there was a wall time has no since."""
    assert first(timeline=timeline(entered_wall_s={}))["state_since"] is None


def test_a_count_that_should_not_exist_is_shown() -> None:
    """What was counted is never hidden by a list of what can be."""
    found = first(
        disconnects={Disconnect.SUPERSEDED: 2, Disconnect.PEER_CLOSED: 1},
        continuity=continuity(
            events_received={Origin.POLL: 3}, resyncs={(Claim.NONE, Verdict.VERIFIED): 1}, undecided=4
        ),
    )
    assert 2 == found["disconnects"]["superseded"]
    assert {"live": 0, "ring": 0, "store": 0, "poll": 3} == found["ledger"]["events_by_origin"]
    assert {"unverifiable": 0, "verified": 1} == found["ledger"]["resyncs"]["none"]
    assert 7 == found["ledger"]["events"]


def test_what_only_a_log_can_tell() -> None:
    """Audits and what canaries left in the log; null where the protocol has no log."""
    ring = first(canary=canary())
    assert (None, None, None) == (ring["ledger"]["audits"], ring["ledger"]["audit_events"], ring["canary"]["logged"])
    read = continuity(audits={AuditResult.CLEAN: 3}, audit_events={AuditVerdict.MISSED: 1})
    files = first(protocol="relayfile", dialect="push", continuity=read, canary=canary(logged=2, log_delay_s=0.5))
    assert {"clean": 3, "repaired": 0, "failed": 0} == files["ledger"]["audits"]
    assert {"late": 0, "missed": 1, "invented": 0} == files["ledger"]["audit_events"]
    assert (2, 0.5) == (files["canary"]["logged"], files["canary"]["log_delay_s"])
    taken = snapshot(connections=(connection(protocol="relayfile", dialect="push", continuity=read, canary=canary(logged=2)),))
    lines = status.render(of(taken), verbose=True)
    assert "clean 3, repaired 0, failed 0; events: missed 1" in lines
    assert "2 in the log" in lines


def test_the_running_stay_counts() -> None:
    """Time in the present state grows without an input."""
    assert 3968.0 == first()["state_seconds"]["open"]
    assert 29.0 == first()["state_seconds"]["reconnecting"]
    assert 0.0 == first()["state_seconds"]["failed"]


def test_transitions_are_newest_first() -> None:
    """With their reasons."""
    found = first()["transitions"]
    assert ["settled", "ready", "peer_closed"] == [one["reason"] for one in found[:3]]
    assert {"time": "2026-11-20T13:05:00.000Z", "age_s": 100.0} == found[0]["at"]


def test_expiries_beyond_the_calendar_do_not_raise() -> None:
    """A token may claim any number."""
    assert "9999-12-31T23:59:59.000Z" == first(token_expiry_wall_s=9.9e11)["expiry"]["token"]["time"]
    ancient = first(token_expiry_wall_s=-5.0)["expiry"]["token"]
    assert {"time": "1970-01-01T00:00:00.000Z", "in_s": -WALL_S - 5.0} == ancient


def test_the_gate_without_a_verdict_is_closed() -> None:
    """What is not known cannot be trusted."""
    gate = of(snapshot(health=health(checks={})))["gate"]
    assert [False, False] == [gate["read"]["open"], gate["write"]["open"]]
    assert {"open": False, "detail": "behind"} == of(FULL)["gate"]["read"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((Health.HEALTHY,), 0),
        ((Health.HEALTHY, Health.DEGRADED), 1),
        ((Health.DEGRADED, Health.DOWN, Health.HEALTHY), 2),
        ((), 1),
    ],
)
def test_the_exit_code_is_the_worst(values: tuple[Health, ...], expected: int) -> None:
    """0 healthy, 1 degraded or unknown, 2 down."""
    owners = {(Component.CONNECTION, str(number)): value for number, value in enumerate(values)}
    assert expected == status.exit_code(of(snapshot(health=health(health=owners))))


def down() -> Snapshot:
    """Refused credentials, no state directory, a wedged task, a failed reload."""
    cast = fresh_connection(
        timeline=timeline(state=State.RECONNECTING, recent=()),
        attempts=3,
        last_failure="unauthorized: HTTP 401",
        next_attempt_now_s=NOW_S + 42.0,
        token_expiry_wall_s=WALL_S - 90.0,
        continuity=None,
    )
    own = sidecar(
        tasks=(TaskSnapshot("connection/cast", 90.0, True), TaskSnapshot("statefile", 0.0, False)),
        statefile_write_failures=None,
        config_last_reload_successful=False,
    )
    reasons = health(held(Reason.UNAUTHORIZED), held(Reason.RECONNECTING, 30.0))
    return snapshot(connections=(cast,), health=reasons, sidecar=own)


def test_a_refused_configuration_is_told_with_its_first_mistake() -> None:
    """All of them are in the document, one is enough for a line."""
    errors = ("syncwatch.yaml:3: listen: wrong", "syncwatch.yaml:4: log: wrong")
    refused = snapshot(sidecar=sidecar(config_last_reload_successful=False, config_errors=errors))
    assert list(errors) == status.document(refused)["sidecar"]["config"]["errors"]
    told = " ".join(text(refused).split())
    assert "the last reload failed: the configuration of before still runs; syncwatch.yaml:3: listen: wrong" in told
    assert "log: wrong" not in told


def test_something_else_is_no_status_document() -> None:
    """One sentence that names the place; new keys of a later version do no harm."""
    with pytest.raises(ValueError, match=r"^this is no status document: .*schema"):
        status.render({"hello": "world"}, False, 80)
    broken = of(FULL)
    broken["connections"][0]["up"] = "yes"
    with pytest.raises(ValueError, match=r"\$\.connections\[0\]\.up"):
        status.render(broken, False, 80)
    later = of(FULL) | {"new": 1}
    later["connections"][0]["new"] = {}
    assert text(FULL) == status.render(later, False, 80)


def services() -> Snapshot:
    """One that is unwell, one that is well, one that was not asked yet; no connection."""
    well = fresh_service(name="docs", next_probe_now_s=None)
    known: dict[str, Any] = {"healthy": True, "since": moment(3600.0), "probes": 12, "last_probe": moment(29.0), "last_healthy": moment(29.0)}
    unwell = held(Reason.SERVICE_UNHEALTHY, component=Component.SERVICE, name="flair")
    owners = {(Component.SERVICE, "flair"): Health.DEGRADED, (Component.SERVICE, "docs"): Health.HEALTHY}
    all_of_them = (service(), msgspec.structs.replace(well, **known), fresh_service(name="new", next_probe_now_s=None))
    return snapshot(connections=(), services=all_of_them, health=health(unwell, names=(), health=owners))


def test_services_in_the_document() -> None:
    """Each with its own reasons, and part of the whole health; before the first probe null, never 0."""
    whole = of(services())
    flair, docs, new = whole["services"]
    assert ("degraded", 1) == (whole["health"], status.exit_code(whole))
    assert [["service_unhealthy"], [], []] == [[reason["reason"] for reason in one["reasons"]] for one in (flair, docs, new)]
    assert ["unhealthy", "healthy", "unknown"] == [one["state"] for one in (flair, docs, new)]
    assert {"total": 14, "mean_s": 0.004} == {key: flair["probes"][key] for key in ("total", "mean_s")}
    assert 1.0 == flair["probes"]["next"]["in_s"]
    keys = ("health", "state_since", "last_probe", "last_healthy", "last_failure")
    assert [None] * len(keys) == [new[key] for key in keys]
    assert {"refused": 0, "dns": 0, "tls": 0, "timeout": 0, "status": 0, "body": 0} == new["probes"]["failures"]


def test_what_a_host_of_its_own_tells() -> None:
    """A connection that only a file tells of: what cannot be known is null or has no keys at all, never 0; its file is named."""
    told = ReportSnapshot("/b1.json", moment(0.5), moment(20.0), 4711, "alive", 3, ("odd",))
    frames = {FrameKind.UNKNOWN: 7}
    made = fresh_connection(protocol="tps", dialect="passive", numbering=Numbering.NONE, upstream="", report=told, frames_received=frames, continuity=None)
    [branch] = of(snapshot(connections=(made,)))["connections"]
    assert [None, None, {}] == [branch["attempts"][key] for key in ("total", "consecutive_failures", "failures")]
    assert [None] * 4 == [branch["heartbeats"][key] for key in ("acknowledged", "missed", "late", "outstanding")]
    assert [None, None, {"unknown": 7}, {"heartbeat": 0}] == [
        branch["traffic"][key] for key in ("received_bytes", "sent_bytes", "frames_received", "frames_sent")
    ]
    assert [{}, {}, None, {}] == [branch["disconnects"], branch["close_codes"], branch["lifetime"]["events"], branch["verification"]["results"]]
    assert {"path": "/b1.json", "pid": 4711, "process": "alive", "reconnects": 3, "remarks": ["odd"]} == {
        key: value for key, value in branch["report"].items() if key not in ("read", "written")
    }


def test_what_would_need_numbers_is_not_known_where_there_are_none() -> None:
    """A TPS host: its mail and further copies are counted, nothing that only numbers could tell; not in /status, not in the gate, not in the library."""
    host = Session("b", Tps("https://branch.example/tps/wire", Identity(bytes(32)), b"k" * 32, "b1"), SessionSettings(), random.Random(1))
    host.wall(NOW_S, WALL_S - NOW_S)
    host.start(NOW_S)
    taken = snapshot(connections=(host.snapshot(),))
    (told,) = status.build(taken).connections
    ledger = told.ledger
    assert ledger is not None
    known = {name for name, value in msgspec.structs.asdict(ledger).items() if value not in (None, {})}
    assert {"events", "events_by_origin", "duplicates", "forgotten"} == known
    lifetime = msgspec.structs.asdict(told.lifetime)
    assert {"since", "events", "reconnects"} == {name for name, value in lifetime.items() if value is not None}
    (losses,) = gate.answer(taken, gate.Purpose.READ).losses
    assert {"connection", "lifetime_since"} == {name for name, value in msgspec.structs.asdict(losses).items() if value is not None}
    answered = healthstatus.build(taken)
    assert [None] * 7 == [answered.epoch, answered.cursor, answered.missed, answered.recovered, answered.lost, answered.unaccounted, answered.missing]
