"""The two times of the relay: true time for the ledger, and the server's own idea of it.

Facts are stamped with true time. Everything a client can see (timestamps, snowflakes, `created_at`, `Date`) follows the
server's clock, which a fault may set off. Whoever starts the relay injects the true clock, so tests can steer it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate


class ServerClock:
    """Wall time in seconds since 1970, with an offset that only the server's words show."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.now_s = now_s
        self.offset_s = 0.0

    def server_s(self) -> float:
        """What the server believes: true time plus the offset."""
        return self.now_s() + self.offset_s

    def iso_ms(self) -> str:
        """The server's time as its presence events carry it (wire: relaycast §3)."""
        return iso(self.server_s(), "milliseconds")

    def http_date(self) -> str:
        """The server's time as the `Date` header carries it."""
        return formatdate(self.server_s(), usegmt=True)


def iso(at_s: float, timespec: str = "milliseconds") -> str:
    """UTC with a trailing `Z`, as JavaScript writes it."""
    # Milliseconds are cut, not rounded: a snowflake of the same instant is cut too.
    return datetime.fromtimestamp(int(at_s * 1000) / 1000, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
