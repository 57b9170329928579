"""The /status document and its text: stable keys, unknown as null, every line within its width, nothing a terminal could obey."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncwatch.core.health import ADVICE, Component, Health, Reason
from syncwatch.core.snapshot import HookSnapshot, Moment, ReportSnapshot, Snapshot, TaskSnapshot, Transition
from syncwatch.core.states import AuditResult, AuditVerdict, Claim, Disconnect, Origin, State, Verdict
from syncwatch.core.wire import FrameKind, Numbering
from syncwatch.exposition import document, status, terminal
from tests.unit.snapshots import (
    NOW_S,
    WALL_S,
    canary,
    connection,
    continuity,
    fresh_connection,
    fresh_service,
    health,
    heartbeat,
    held,
    moment,
    service,
    sidecar,
    snapshot,
    timeline,
)

DOCS = Path(__file__).parents[2] / "docs" / "endpoints.md"

KEYS = """
schema time health degraded_reason reasons gate checks connections services hooks sidecar
gate: read write
gate.read: open detail
checks: livez healthz readyz gate
checks.livez: name ok detail
reasons: component name reason incident since advice
reasons.since: time age_s
connections: name protocol dialect continuity upstream health state state_since up started established first_sync_done reasons attempts reconnects
  disconnects close_codes heartbeats traffic verification ledger clock_offset_s event_latency canary expiry lifetime state_seconds transitions report
connections.attempts: total failures consecutive_failures last_failure next mean_handshake_s last_handshake_s
connections.attempts.next: time in_s
connections.heartbeats: sent acknowledged missed late outstanding last_sent last_acknowledged last_rtt_s mean_rtt_s half_open
connections.traffic: frames_received frames_sent received_bytes sent_bytes anomalies last_frame last_event
connections.verification: unverified_s results
connections.ledger: epoch cursor events events_by_origin undecided duplicates out_of_order missed recovered lost unaccounted missing late last_loss
  gaps resets replayed resyncs mean_resync_s forgotten audits audit_events
connections.event_latency: events mean_s
connections.canary: sent received timed_out late lost duplicate failed mean_round_trip_s logged log_delay_s
connections.expiry: token certificate
connections.lifetime: since events reconnects missed recovered lost unaccounted late resets
connections.report: path read written pid process reconnects remarks
connections.transitions: at from_state to_state reason
services: name upstream health state state_since reasons last_probe last_healthy last_failure probes
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
    """On the page of the endpoints, in backquotes or in an example."""
    words = set(re.findall(r"""[`"](\w+)(?:\[\])?[`"]""", DOCS.read_text(encoding="utf-8")))
    structs = [
        one
        for one in vars(document).values()
        if getattr(one, "__module__", "") == document.__name__ and hasattr(one, "__struct_fields__")
    ]
    assert len(structs) > 20
    assert set() == {key for one in structs for key in one.__struct_encode_fields__} - words


def test_the_document_is_deterministic() -> None:
    """The same snapshot, the same bytes."""
    assert json.dumps(status.document(FULL)) == json.dumps(status.document(FULL))


def test_moments_have_their_stamp_and_a_monotonic_age() -> None:
    """A wall clock that stepped after the stamp changes neither."""
    stepped = first(last_event=Moment(NOW_S - 2.5, WALL_S + 600.0))
    assert {"time": "2026-11-20T13:16:40.000Z", "age_s": 2.5} == stepped["traffic"]["last_event"]
    assert {"time": "2026-11-20T13:05:00.000Z", "age_s": 100.0} == stepped["state_since"]
    assert 40.0 == stepped["verification"]["unverified_s"]


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
    assert fresh["verification"]["unverified_s"] is None
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
    lines = text(snapshot(connections=(connection(protocol="relayfile", dialect="push", continuity=read, canary=canary(logged=2)),)))
    assert "3 clean, 0 repaired, 0 failed; events: 1 missed" in lines
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


HEALTHY_TEXT = """\
● cast connected for 1 min 40 s                      relaycast ring · contiguous
  upstream    https://cast.example:443
  uptime      1 min 41 s, since 2026-11-20 13:04:59 UTC; 1 reconnect
  attempts    6, 4 of them failed (refused 3, timeout 1)
  heartbeats  266 sent, 264 acknowledged, 1 missed, 1 outstanding
              sent 10 ms ago, acknowledged 15 s ago, round trip 4 ms
  traffic     2,317 frames, 812.3 kB received; 333 frames, 9.9 kB sent; 2
              anomalies
  last event  2.5 s ago
  unverified  40 s
  events      1,834 (1,234 live, 500 ring, 100 store); 151 duplicates
  position    epoch 2, cursor 700; 1 reset of the server's counter
  missed      607 = 500 recovered + 3 lost + 100 unaccounted + 4 missing
  last loss   1 min 40 s ago
  resyncs     64 complete/verified, 1 gap/unverifiable
  canaries    66 sent, 64 received, 1 lost, 1 refused; mean round trip 30 ms
  lifetime    13 lost, 100 unaccounted, 1,607 missed, 91,834 events, 12
              reconnects since 2026-11-10 13:06:40 UTC
  certificate expires in 60 d 0 h
  transitions 2026-11-20 13:05:00  resyncing → open: settled
              2026-11-20 13:04:59  reconnecting → resyncing: ready
              2026-11-20 13:04:30  open → reconnecting: peer_closed
              2026-11-20 12:00:02  connecting → open: ready, nothing to resume
              2026-11-20 12:00:00  idle → connecting: start

  gate read   open
  gate write  open
  sidecar     syncwatch 0.1.0 on box-1f2e, up 1 h 6 min; 2 tasks in time; loop
              lag 2 ms
"""

DOWN_TEXT = """\
○ cast down: unauthorized for 1 min 0 s              relaycast ring · contiguous
  unauthorized  for 1 min 0 s: the server refused the token: renew the token
              file, it is tried again as soon as it changes
  reconnecting  for 30 s: no connection now; it is retried with growing delays:
              check the server and the network
  last failure  unauthorized: HTTP 401
  upstream    http://127.0.0.1:8787
  uptime      no connection now; 0 reconnects
  attempts    3; next in 42 s
  heartbeats  0 sent, 0 acknowledged, 0 missed
              sent never, acknowledged never, round trip unknown
  traffic     0 frames, 0 B received; 0 frames, 0 B sent
  last event  never
  unverified  unknown
  lifetime    0 reconnects since 2026-11-20 13:06:40 UTC
  token       expired 1 min 30 s ago

  gate read   closed: unauthorized, reconnecting
  gate write  closed: unauthorized, reconnecting
  sidecar     syncwatch 0.1.0 on box-1f2e, up 1 h 6 min; connection/cast wedged
              for 1 min 30 s; loop lag 2 ms; no state directory; the last reload
              failed: the configuration of before still runs
"""


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


def test_the_text_of_a_healthy_sidecar() -> None:
    """To the letter, at 80 columns."""
    assert HEALTHY_TEXT == text(snapshot())


def test_the_text_of_trouble_says_what_to_do() -> None:
    """Reasons with their advice come first, then the facts; what is unknown is called so."""
    assert DOWN_TEXT == text(down())


def test_a_degraded_connection_is_named_by_its_gravest_reason() -> None:
    """Sign, word, reason."""
    assert text(FULL).startswith("◐ cast degraded: behind for 1 min 0 s ")


def test_an_idle_connection_is_neither_good_nor_bad() -> None:
    """Its sign says nothing."""
    assert text(snapshot(connections=(fresh_connection(),))).startswith("· cast idle for 0 ms")


def test_nothing_configured_is_said() -> None:
    """An empty answer would look like a fault."""
    assert text(snapshot(connections=())).startswith("· no connections are configured\n")


@pytest.mark.parametrize("width", [0, 40, 61, 80, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_every_line_fits(width: int, colour: bool) -> None:
    """At any width from 40 up, whatever the server sent; colours take no room and are closed on each line."""
    long = "x" * 300
    noisy = timeline(recent=(Transition(moment(1.0), State.OPEN, State.RECONNECTING, long),))
    big = continuity(missed=10**15, lost=10**15, cursor=2**53 - 1)
    for taken in (FULL, down(), snapshot(connections=(connection(timeline=noisy, last_failure=long, continuity=big),))):
        lines = text(taken, width, colour).splitlines()
        bare = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
        assert max(map(len, bare)) <= max(width, 40)
        assert bare == text(taken, width).splitlines()
        last_codes = {codes[-1] for codes in (re.findall(r"\x1b\[(\d+)m", line) for line in lines) if codes}
        assert ({"0"} if colour else set()) == last_codes


def test_colours_only_when_asked() -> None:
    """Without, not one escape; with, the sign has its colour."""
    assert "\x1b" not in text(FULL)
    assert text(FULL, colour=True).startswith("\x1b[33m\x1b[1m◐ cast degraded")
    assert text(snapshot(), colour=True).startswith("\x1b[32m\x1b[1m● cast connected")


def test_a_server_cannot_write_to_the_terminal() -> None:
    """Control characters in what it sent are shown, not obeyed."""
    evil = "bye\x1b[2J\r\n\u202egone\x9b31m"
    noisy = timeline(recent=(Transition(moment(1.0), State.OPEN, State.RECONNECTING, evil),))
    shown = text(snapshot(connections=(connection(timeline=noisy, last_failure=evil),)), width=200)
    assert 2 == shown.count(r"bye\x1b[2J\r\n\u202egone\x9b31m")
    assert set(shown) & {"\x1b", "\r", "\u202e", "\x9b"} == set()


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


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0.0, "0 ms"), (0.0004, "0.4 ms"), (0.0123, "12.3 ms"), (0.09949, "99.5 ms"), (0.0996, "0.1 s"), (9.94, "9.9 s"), (9.96, "10 s"),
        (59.6, "1 min 0 s"), (61.0, "1 min 1 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (90_000.0, "1 d 1 h"), (864_000.0, "10 d 0 h"),
    ],
)  # fmt: skip
def test_spans(duration_s: float, expected: str) -> None:
    """At most two units, and never 60 of one."""
    assert expected == terminal.span(duration_s)


def test_heartbeats_that_never_were() -> None:
    """No invented round trip."""
    assert "round trip unknown" in text(snapshot(connections=(connection(heartbeat=heartbeat(last_rtt_s=None)),)), 200)


def test_hooks_and_gate_files_in_trouble_are_named() -> None:
    """Only then: who reads the page has to do something."""
    hooks = (HookSnapshot("ui", 70, 5, 2, 1, "HTTP 503"), HookSnapshot("pager", 3, 0, 0, 0, None))
    lines = text(snapshot(hooks=hooks, sidecar=sidecar(gate_file_failures=3)))
    assert "  hook        ui is not taken: HTTP 503; 1 waiting, 2 dropped\n" in lines
    assert "3 failures of the gate file to follow the gate" in " ".join(lines.split())
    assert "pager" not in lines
    assert "hook" not in text(snapshot())


SERVICES_TEXT = """\
◐ flair unhealthy for 1 min 0 s                  service · http://127.0.0.1:9926
  service_unhealthy  for 1 min 0 s: the service does not answer as expected:
              look at the service
  error       HTTP 503
  checked     29 s ago, last healthy 6 min 0 s ago
  probes      14, 3 of them failed (refused 2, status 1); mean 4 ms; next in 1.0
              s

● docs healthy for 1 h 0 min                     service · http://127.0.0.1:9926
  checked     29 s ago, last healthy 29 s ago
  probes      12

· new was not asked yet                          service · http://127.0.0.1:9926
  checked     never, last healthy never
  probes      0

"""


def services() -> Snapshot:
    """One that is unwell, one that is well, one that was not asked yet; no connection."""
    well = fresh_service(name="docs", next_probe_now_s=None)
    known: dict[str, Any] = {"healthy": True, "since": moment(3600.0), "probes": 12, "last_probe": moment(29.0), "last_healthy": moment(29.0)}
    unwell = held(Reason.SERVICE_UNHEALTHY, component=Component.SERVICE, name="flair")
    owners = {(Component.SERVICE, "flair"): Health.DEGRADED, (Component.SERVICE, "docs"): Health.HEALTHY}
    all_of_them = (service(), msgspec.structs.replace(well, **known), fresh_service(name="new", next_probe_now_s=None))
    return snapshot(connections=(), services=all_of_them, health=health(unwell, names=(), health=owners))


def test_the_text_of_services() -> None:
    """State, age of the check, last healthy, error, what to do; what is not known is called so."""
    assert text(services()).startswith(SERVICES_TEXT)


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


def test_a_service_cannot_write_to_the_terminal() -> None:
    """What its answer had a say in is shown, not obeyed."""
    assert r"error       bye\x1b[2J" in text(snapshot(services=(service(last_failure="bye\x1b[2J"),)))


def test_a_service_whose_task_is_stuck() -> None:
    """What it said last is old: neither healthy nor unhealthy."""
    stuck = held(Reason.TASK_STALLED, component=Component.SERVICE, name="flair")
    taken = snapshot(services=(service(healthy=True, last_failure=None),), health=health(stuck, health={(Component.SERVICE, "flair"): Health.DOWN}))
    assert "○ flair down: task_stalled for 1 min 0 s " in text(taken)


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
