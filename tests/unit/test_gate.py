"""The gate's answer: closed unless said otherwise, with everything an agent has to remember."""

from __future__ import annotations

import msgspec
import pytest

from syncwatch.core.health import Check, Reason
from syncwatch.exposition import gate
from tests.unit.snapshots import WALL_S, connection, continuity, health, held, moment, snapshot

CHECKS = {"gate": (Check("read", False, "polling"), Check("write", True))}


def test_each_side_has_its_own_verdict() -> None:
    """Reading may be closed while writing is open."""
    taken = snapshot(health=health(checks=CHECKS))
    read, write = gate.answer(taken, gate.Purpose.READ), gate.answer(taken, gate.Purpose.WRITE)
    assert (False, "polling") == (read.open, read.detail)
    assert (True, "") == (write.open, write.detail)


@pytest.mark.parametrize("purpose", gate.Purpose)
def test_no_verdict_is_closed(purpose: gate.Purpose) -> None:
    """Unknown is not trusted."""
    taken = snapshot(health=health(checks={"gate": (Check("other", True),)}))
    found = gate.answer(taken, purpose)
    assert (False, gate.NO_VERDICT) == (found.open, found.detail)


def test_an_incident_is_told_by_an_open_gate() -> None:
    """Lost events do not close it, but whoever asks learns of them."""
    found = gate.answer(snapshot(health=health(held(Reason.EVENTS_LOST, 100.0))), gate.Purpose.READ)
    assert found.open
    assert [("events_lost", True)] == [(one.reason, one.incident) for one in found.reasons]


def test_losses_are_told_per_connection_and_the_last_of_all() -> None:
    """Counts of this process, totals over restarts, epoch and cursor; null where nothing is numbered."""
    lossless = continuity(epoch=7, cursor=5, lost=0, unaccounted=0, missing=0, last_loss=None)
    later = continuity(last_loss=moment(30.0))
    connections = (
        connection(),
        connection(name="files", continuity=lossless),
        connection(name="tps", continuity=None),
        connection(name="late", continuity=later),
    )
    answer = gate.answer(snapshot(connections=connections), gate.Purpose.READ)
    found = {one.connection: one for one in answer.losses}
    cast = found["cast"]
    assert (2, 700, 3, 100, 4) == (cast.epoch, cast.cursor, cast.lost, cast.unaccounted, cast.missing)
    assert (13, 100, 864_000.0) == (cast.lifetime_lost, cast.lifetime_unaccounted, cast.lifetime_since.age_s)
    assert (7, 0, None) == (found["files"].epoch, found["files"].lost, found["files"].last_loss)
    assert (None, None, None) == (found["tps"].epoch, found["tps"].lost, found["tps"].missing)
    assert answer.last_loss is not None
    assert 30.0 == answer.last_loss.age_s
    assert answer.last_loss == found["late"].last_loss


def test_the_keys_are_pinned() -> None:
    """The question comes back under its own name."""
    told = msgspec.to_builtins(gate.answer(snapshot(), gate.Purpose.WRITE))
    assert ["for", "open", "detail", "time", "reasons", "last_loss", "losses"] == list(told)
    assert ("write", "2026-11-20T13:06:40.000Z") == (told["for"], told["time"])
    assert WALL_S == 1_795_180_000.0
    expected = (
        "connection epoch cursor lost unaccounted missing last_loss lifetime_lost lifetime_unaccounted lifetime_since"
    )
    assert expected.split() == list(told["losses"][0])
