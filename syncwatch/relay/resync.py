"""What a client says, and what a replay consists of (wire: relaycast §2, §5). Pure; who sends it, and how, is the connection's.

Numbers are JavaScript's: the server compares doubles and echoes them the way `JSON.stringify` prints them.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

from syncwatch.relay.events import Frame
from syncwatch.relay.state import Agent

_decode = msgspec.json.decode


class Resync(NamedTuple):
    """A heeded resync request; `since` is what the client wrote, readable or not."""

    last_seen_seq: int | float
    since: str | None


class Said(NamedTuple):
    """A client's frame: its type (or `invalid`), and the request if it is a resync the server heeds."""

    kind: str
    resync: Resync | None = None


def understand(data: str | bytes) -> Said:
    """Read a client's frame. Never raises: what cannot be read is `invalid` and ignored by the server."""
    try:
        frame = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said("invalid")
    kind = frame.get("type") if isinstance(frame, dict) else None
    if not isinstance(kind, str):
        return Said("invalid")
    if kind != "resync":
        return Said(kind)
    last = js_number(frame.get("last_seen_seq"))
    since = frame.get("since")
    if last is None:
        return Said(kind)
    return Said(kind, Resync(last, since if isinstance(since, str) else None))


def js_number(value: object) -> int | float | None:
    """A JSON number as JavaScript holds and prints it, or None for anything else (booleans included)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        double = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    if double.is_integer() and abs(double) < 1e21:
        # JavaScript prints the shortest digits that read back: 2**60 + 1 becomes 1152921504606847000.
        return int(Decimal(repr(double)))
    return double


class Replay(NamedTuple):
    """The ring's part of an answer, and whether the ring no longer reaches back far enough."""

    frames: list[Frame]
    gap: bool


def from_ring(agent: Agent, last_seen_seq: int | float) -> Replay:
    """Steps 1 to 3 of the server's algorithm."""
    if last_seen_seq >= agent.counter:
        return Replay([], False)
    oldest = agent.ring[0].number if agent.ring else agent.counter + 1
    return Replay([frame for frame in agent.ring if frame.number > last_seen_seq], last_seen_seq < oldest - 1)


def ack(last_seen_seq: int | float, current_seq: int, replayed: int, gap: bool) -> dict[str, Any]:
    """Step 5, in the server's key order."""
    return {
        "type": "resync_ack",
        # JSON has no infinity; JavaScript prints null for it.
        "last_seen_seq": last_seen_seq if math.isfinite(last_seen_seq) else None,
        "current_seq": current_seq,
        "replayed": replayed,
        "gap_detected": gap,
    }


def floor_s(since: str) -> int | None:
    """The whole second a `since` names, or None when it cannot be read (then no row is newer).

    Reads ISO 8601 (a bare date is UTC, a time without a zone is local time, as in JavaScript) and the mail date format.
    """
    text = since.strip()
    try:
        moment = datetime.fromisoformat(f"{text}T00:00:00Z" if len(text) == 10 else text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
    try:
        return math.floor(moment.timestamp())
    except (OverflowError, OSError, ValueError):
        return None
