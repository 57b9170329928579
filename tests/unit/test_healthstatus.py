"""What a program is told of its health is what the snapshot says, raw, and about whom it asked."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from syncwatch.core.health import Check, Component, Health, Reason
from syncwatch.core.states import State
from syncwatch.exposition.healthstatus import HealthStatus, build
from tests.unit.snapshots import WALL_S, connection, fresh_connection, health, held, snapshot, timeline


def at(wall_s: float) -> datetime:
    """Aware, UTC."""
    return datetime.fromtimestamp(wall_s, UTC)


def test_all_is_well() -> None:
    """Every value comes from its one place."""
    status = build(snapshot())
    assert (Health.HEALTHY, False, None, ()) == (status.health, status.degraded, status.degraded_reason, status.reasons)
    assert (True, True, at(WALL_S)) == (status.may_read, status.may_write, status.at)
    one = connection()
    assert ("cast", one.timeline.state, True) == (status.connection, status.state, status.synced)
    assert at(one.timeline.entered_wall_s[status.state]) == status.state_entered_at
    assert (0.5, 2.5, 40.0) == (status.last_frame_age_s, status.last_event_age_s, status.unverified_s)
    assert (one.reconnects, one.consecutive_failures) == (status.reconnects, status.consecutive_failures)
    assert one.continuity is not None
    for name in ("epoch", "cursor", "missed", "recovered", "lost", "unaccounted", "missing"):
        assert getattr(one.continuity, name) == getattr(status, name)


def test_what_is_not_known_is_none() -> None:
    """Never 0."""
    status = build(snapshot(connections=(fresh_connection(continuity=None),)))
    assert build(snapshot(connections=(connection(timeline=timeline(entered_wall_s={})),))).state_entered_at is None
    unknown = (status.last_frame_age_s, status.last_event_age_s, status.unverified_s, status.lost, status.epoch, status.last_loss_at)
    assert (None,) * 6 == unknown
    assert State.IDLE == status.state


def test_reasons_come_raw_with_since_and_advice() -> None:
    """The gravest first; an incident alone closes no gate."""
    status = build(snapshot(health=health(held(Reason.BEHIND, 60.0), held(Reason.EVENTS_LOST, 100.0))))
    assert (Health.DEGRADED, True, Reason.BEHIND) == (status.health, status.degraded, status.degraded_reason)
    assert [("behind", False, 60.0), ("events_lost", True, 100.0)] == [(one.reason, one.incident, one.age_s) for one in status.reasons]
    assert at(WALL_S - 60.0) == status.reasons[0].since
    assert all(one.advice and "cast" == one.name and Component.CONNECTION is one.component for one in status.reasons)
    assert not status.may_read


def test_of_several_connections_the_worst_off_is_told_in_detail() -> None:
    """Reasons and health are of all; asked by name, only of that one and the process."""
    names = ("one", "two", "three")
    sick = health(held(Reason.FAILED, name="three"), held(Reason.BEHIND, name="two"), names=names)
    taken = snapshot(connections=tuple(connection(name=name) for name in names), health=sick)
    whole, well = build(taken), build(taken, "one")
    assert ("three", Health.DOWN, 2) == (whole.connection, whole.health, len(whole.reasons))
    assert ("one", Health.HEALTHY, ()) == (well.connection, well.health, well.reasons)
    assert not well.may_read, "the gate is about everything"
    assert Reason.BEHIND is build(taken, "two").degraded_reason
    assert "one" == build(snapshot(connections=taken.connections)).connection, "among equals the first"


def test_a_stalled_process_is_everybodys_trouble() -> None:
    """Whatever a connection says then cannot be trusted."""
    stalled = held(Reason.TASK_STALLED, component=Component.SIDECAR, name="syncwatch")
    status = build(snapshot(health=health(stalled)), "cast")
    assert (True, Reason.TASK_STALLED) == (status.degraded, status.degraded_reason)


def test_no_such_connection() -> None:
    """A KeyError, not somebody else's health; and no verdict is closed."""
    with pytest.raises(KeyError):
        build(snapshot(), "other")
    with pytest.raises(KeyError):
        build(snapshot(connections=()))
    assert not build(snapshot(health=health(checks={"gate": (Check("other", True),)}))).may_read


def test_the_names_are_pinned() -> None:
    """They are a public interface: only added."""
    expected = (
        "at health degraded degraded_reason reasons may_read may_write connection state state_entered_at synced last_frame_age_s "
        "last_event_age_s unverified_s reconnects consecutive_failures last_failure epoch cursor missed recovered lost unaccounted missing last_loss_at"
    )
    assert expected.split() == list(HealthStatus.__struct_fields__)
    told = msgspec.to_builtins(build(snapshot(health=health(held(Reason.BEHIND)))))
    assert ["component", "name", "reason", "incident", "since", "age_s", "advice"] == list(told["reasons"][0])
