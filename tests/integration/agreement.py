"""Where a sidecar's counters and the relay's facts are compared: at one moment in which nothing moves, in both formats.

What belongs here: finding that moment, and the comparison. What must be equal is the fold's business.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.integration.fold import Fold, key
from tests.integration.sidecar import OPENMETRICS, PATIENCE_S, POLL_S, Rig, Scrape, Sidecar

UNSEEN = ("dns", "refused", "unreachable", "tls", "timeout", "protocol")
"""Handshakes that fail in these ways never reached the relay, so its facts cannot tell of them."""


async def told_alike(it: Rig, sidecar: Sidecar, fold: Fold) -> Scrape:
    """Wait for a moment in which nothing moves, and compare every counter that the relay's facts decide, in both formats."""
    deadline_s = time.monotonic() + PATIENCE_S / 2
    differences: list[Any] = ["nothing was compared"]
    while differences and time.monotonic() < deadline_s:
        await sidecar.caught_up(it.relay)
        place = it.relay.ledger.last
        scrapes = [await sidecar.scrape(), await sidecar.scrape(OPENMETRICS)]
        if place == it.relay.ledger.last:  # else a heartbeat passed meanwhile
            fold.take(it.relay.ledger.after(fold.taken))
            differences = [found for scrape in scrapes for found in compare(fold, scrape)]
        await asyncio.sleep(POLL_S)
    assert [] == differences
    missed = scrapes[0].value("syncwatch_sequence_missed_total")
    assert missed == sum(scrapes[0].value(f"syncwatch_sequence_{fate}") for fate in ("recovered_total", "lost_total", "unaccounted_total", "missing"))
    return scrapes[0]


def compare(fold: Fold, scrape: Scrape) -> list[tuple[str, dict[str, str], float, float]]:
    """Metric, labels, expected, exported; for those that differ."""
    expected = dict(fold.expected())
    expected[key("syncwatch_connection_attempts_total")] += sum(
        int(scrape.value("syncwatch_connection_attempt_failures_total", reason=reason)) for reason in UNSEEN
    )
    found = [(name, dict(labels), wanted, scrape.value(name, **dict(labels))) for (name, labels), wanted in expected.items()]
    return [one for one in found if one[2] != one[3]]
