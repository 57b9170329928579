"""The names the server gives to things: event ids, snowflakes, tokens (wire: relaycast §1, §3.2, §3.3).

Only names belong here. What is named, and where it is kept, does not.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from functools import lru_cache

EPOCH_MS = 1_735_689_600_000
"""Snowflakes count milliseconds from here (2025-01-01)."""

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (2654435761, 1597334677, 2246822507, 3266489909)
_TOKEN = re.compile(r"(at|rk|ot)_live_[0-9a-f]{32}")


def _mix(lanes: tuple[int, int, int, int], text: str) -> tuple[int, int, int, int]:
    a, b, c, d = lanes
    p, q, r, s = _MULTIPLIERS
    for unit in memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H"):
        a = ((a ^ unit) * p) & _MASK
        b = ((b ^ unit) * q) & _MASK
        c = ((c ^ unit) * r) & _MASK
        d = ((d ^ unit) * s) & _MASK
    return a, b, c, d


# Every id begins with the same text.
_START = _mix((0xDEADBEEF, 0x41C6CE57, 0xC0DECAFE, 0x9E3779B9), '["relaycast",')


@lru_cache(maxsize=4096)
def event_id(message_id: str) -> str:
    """The stable UUID of a message's events: a pure function of the message id (wire: relaycast §3.2)."""
    part = message_id.strip() or "empty-event"
    lanes = list(_mix(_START, json.dumps(part, ensure_ascii=False) + "]"))
    for i in range(4):
        lane, after = lanes[i], lanes[(i + 1) % 4]
        lanes[i] = (((lane ^ lane >> 16) * _MULTIPLIERS[2]) ^ ((after ^ after >> 13) * _MULTIPLIERS[3])) & _MASK
    digits = bytearray(b"".join(lane.to_bytes(4, "big") for lane in lanes))
    digits[6] = digits[6] & 0x0F | 0x50
    digits[8] = digits[8] & 0x3F | 0x80
    text = digits.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Snowflakes:
    """Ids that never go back, even when the server's clock does (wire: relaycast §3.3)."""

    def __init__(self, server_s: Callable[[], float], worker: int = 1, last: int = 0) -> None:
        self._server_s = server_s
        self._worker = worker & 0x3FF
        self._ms = max((last >> 22) + EPOCH_MS, EPOCH_MS) if last else EPOCH_MS
        # An id found in the database may have used any sequence of its millisecond: start in the next one.
        self._seq = 0xFFF if last else -1

    def next(self) -> int:
        """A new id. More than 4096 in one millisecond borrow from the next one."""
        ms = int(self._server_s() * 1000)
        if ms > self._ms:
            self._ms, self._seq = ms, 0
        elif self._seq < 0xFFF:
            self._seq += 1
        else:
            self._ms, self._seq = self._ms + 1, 0
        return (self._ms - EPOCH_MS) << 22 | self._worker << 12 | self._seq


def snowflake_s(snowflake: int) -> float:
    """The server's time inside an id, in seconds since 1970."""
    return ((snowflake >> 22) + EPOCH_MS) / 1000


def new_token(kind: str) -> str:
    """A token of a kind: `at` for an agent, `rk` for a workspace key, `ot` for an observer."""
    return f"{kind}_live_{secrets.token_hex(16)}"


def token_kind(token: str) -> str | None:
    """`at`, `rk` or `ot`, or None for a token of any other form."""
    return token[:2] if _TOKEN.fullmatch(token) else None


def token_hash(token: str) -> str:
    """What the database keeps instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()
