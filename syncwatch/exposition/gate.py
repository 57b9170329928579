"""The answer to an agent's question: may I trust what I read, may I write?

What belongs here: the answer of /gate from one snapshot. The verdict itself was decided by the health; a verdict that is missing is closed.
"""

from __future__ import annotations

import enum

from syncwatch.core.snapshot import ConnectionSnapshot, Moment, Snapshot
from syncwatch.core.timestamps import rfc3339
from syncwatch.exposition import document

NO_VERDICT = "there is no verdict yet"


class Purpose(enum.StrEnum):
    """What the gate is asked for; each is also the name of its check."""

    READ = "read"
    WRITE = "write"


def verdict(snapshot: Snapshot, purpose: Purpose) -> document.Verdict:
    """Open or closed, and what closed it."""
    for check in snapshot.health.checks.get("gate", ()):
        if check.name == purpose:
            return document.Verdict(check.ok, check.detail)
    return document.Verdict(False, NO_VERDICT)


def answer(snapshot: Snapshot, purpose: Purpose) -> document.GateAnswer:
    """Everything an agent needs to decide and to remember."""
    found = verdict(snapshot, purpose)
    ledgers = [one.continuity for one in snapshot.connections if one.continuity is not None]
    last = max((ledger.last_loss for ledger in ledgers if ledger.last_loss is not None), key=_when, default=None)
    return document.GateAnswer(
        purpose=purpose,
        open=found.open,
        detail=found.detail,
        time=rfc3339(snapshot.at.wall_s),
        reasons=document.reasons(snapshot.health.held, snapshot.at),
        last_loss=document.instant(last, snapshot.at),
        losses=tuple(_losses(one, snapshot.at) for one in snapshot.connections),
    )


def _when(moment: Moment) -> float:
    return moment.now_s


def _losses(connection: ConnectionSnapshot, at: Moment) -> document.Losses:
    ledger, lifetime = connection.continuity if connection.numbered else None, connection.lifetime
    return document.Losses(
        connection=connection.name,
        epoch=None if ledger is None else ledger.epoch,
        cursor=None if ledger is None else ledger.cursor,
        lost=None if ledger is None else ledger.lost,
        unaccounted=None if ledger is None else ledger.unaccounted,
        missing=None if ledger is None else ledger.missing,
        last_loss=None if connection.continuity is None else document.instant(connection.continuity.last_loss, at),
        lifetime_lost=None if ledger is None else lifetime.lost,
        lifetime_unaccounted=None if ledger is None else lifetime.unaccounted,
        lifetime_since=document.since_wall(lifetime.since_wall_s, at),
    )
