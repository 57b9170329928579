"""What a program that watches in process is told of its health: one flat, typed answer from one snapshot.

What belongs here: the answer of `get_health_status()`. Names are a public interface: they keep their meaning, new ones may come. Everything is raw,
as in /gate and /status: nothing here is damped. None means unknown, never 0.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from syncwatch.core.health import GRAVITY, INCIDENTS, Component, Health, Held, Reason
from syncwatch.core.snapshot import ConnectionSnapshot, Moment, Snapshot
from syncwatch.core.states import State
from syncwatch.exposition import gate

_WORST = (Health.DOWN, Health.DEGRADED, Health.HEALTHY)


class HealthReason(msgspec.Struct, frozen=True, kw_only=True):
    """A reason that holds now. `incident`: it happened and is held up to view; it closes no gate."""

    component: Component
    name: str
    reason: Reason
    incident: bool
    since: datetime
    age_s: float
    advice: str


class HealthStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the sync is at `at`. Times are aware and UTC, ages come from the monotonic clock.

    What stands before `connection` is about everything that was asked for (the gate, `may_read` and `may_write`, always about everything), the
    rest about that one connection. `reconnects` and all counts are of this process; missed = recovered + lost + unaccounted + missing. `synced`: it was
    caught up at least once.
    """

    at: datetime
    health: Health
    degraded: bool
    degraded_reason: Reason | None
    reasons: tuple[HealthReason, ...]
    may_read: bool
    may_write: bool
    connection: str
    state: State
    state_entered_at: datetime | None
    synced: bool
    last_frame_age_s: float | None
    last_event_age_s: float | None
    unverified_s: float | None
    reconnects: int
    consecutive_failures: int | None
    last_failure: str | None
    epoch: int | None
    cursor: int | None
    missed: int | None
    recovered: int | None
    lost: int | None
    unaccounted: int | None
    missing: int | None
    last_loss_at: datetime | None


def build(snapshot: Snapshot, name: str | None = None) -> HealthStatus:
    """The answer about one connection and the process around it; without a name, about everything, in detail about the connection worst off.

    Raises: KeyError when there is no connection (of that name).
    """
    one = _worst_off(snapshot) if name is None else _named(snapshot, name)
    owners = {(Component.CONNECTION, one.name), (Component.SIDECAR, "syncwatch")}
    all_held, all_health = snapshot.health.held, snapshot.health.health
    held = [item for item in all_held if name is None or (item.component, item.name) in owners]
    known = {health for owner, health in all_health.items() if name is None or owner in owners}
    health = next((word for word in _WORST if word in known), Health.DOWN)
    at, ledger, entered_s = snapshot.at, one.continuity if one.numbered else None, one.timeline.entered_wall_s.get(one.timeline.state)
    return HealthStatus(
        at=_time(at.wall_s),
        health=health,
        degraded=health is not Health.HEALTHY,
        degraded_reason=held[0].reason if held else None,
        reasons=tuple(_reason(item, at) for item in held),
        may_read=gate.verdict(snapshot, gate.Purpose.READ).open,
        may_write=gate.verdict(snapshot, gate.Purpose.WRITE).open,
        connection=one.name,
        state=one.timeline.state,
        state_entered_at=None if entered_s is None else _time(entered_s),
        synced=one.settled_once,
        last_frame_age_s=_age_s(one.last_frame, at),
        last_event_age_s=_age_s(one.last_event, at),
        unverified_s=None if one.verified_now_s is None else max(0.0, at.now_s - one.verified_now_s),
        reconnects=one.reconnects,
        consecutive_failures=None if one.report is not None else one.consecutive_failures,  # made and counted by somebody else
        last_failure=one.last_failure,
        epoch=None if ledger is None else ledger.epoch,
        cursor=None if ledger is None else ledger.cursor,
        missed=None if ledger is None else ledger.missed,
        recovered=None if ledger is None else ledger.recovered,
        lost=None if ledger is None else ledger.lost,
        unaccounted=None if ledger is None else ledger.unaccounted,
        missing=None if ledger is None else ledger.missing,
        last_loss_at=None if one.continuity is None or one.continuity.last_loss is None else _time(one.continuity.last_loss.wall_s),
    )


def _named(snapshot: Snapshot, name: str) -> ConnectionSnapshot:
    for one in snapshot.connections:
        if one.name == name:
            return one
    raise KeyError(name)


def _worst_off(snapshot: Snapshot) -> ConnectionSnapshot:
    """The one with the gravest reason; among equals the first that was configured."""
    if not snapshot.connections:
        raise KeyError("no connection is configured")
    gravest: dict[str, int] = {}
    for item in snapshot.health.held:
        if item.component is Component.CONNECTION:
            gravest[item.name] = min(GRAVITY[item.reason], gravest.get(item.name, len(GRAVITY)))
    return min(snapshot.connections, key=lambda one: gravest.get(one.name, len(GRAVITY)))


def _reason(held: Held, at: Moment) -> HealthReason:
    age_s = max(0.0, at.now_s - held.since_s)
    return HealthReason(
        component=held.component,
        name=held.name,
        reason=held.reason,
        incident=held.reason in INCIDENTS,
        since=_time(at.wall_s - age_s),
        age_s=age_s,
        advice=held.advice,
    )


def _age_s(moment: Moment | None, at: Moment) -> float | None:
    return None if moment is None else max(0.0, at.now_s - moment.now_s)


def _time(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)
