"""The first section: can this connection be trusted now, and if not, why.

What belongs here: what somebody must see in the first minute, without scrolling.
"""

from __future__ import annotations

from dashboards.board import Line, Section, Tile
from dashboards.links import REASONS_URL, runbook
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    About,
    AnyPanel,
    Link,
    Query,
    lanes,
    number,
    rows,
)
from dashboards.promql import connection, health, in_range, least, sidecar, state_code, total, worst
from syncwatch.core.states import State

STATE_COLORS = {
    State.IDLE: GREY,
    State.CONNECTING: YELLOW,
    State.RESYNCING: BLUE,
    State.OPEN: GREEN,
    State.POLLING: PURPLE,
    State.RECONNECTING: ORANGE,
    State.FAILED: RED,
    State.CLOSED: GREY,
}
STATE_NAMES = {code: (str(state), STATE_COLORS[state]) for code, state in enumerate(State)}

UNVERIFIED_LIMITS = ((None, GREEN), (120.0, YELLOW), (300.0, RED))
"""Yellow once a tip check (every 60 s by default) was missed, red where SyncwatchStreamUnverified begins to count."""


def section() -> Section:
    """The whole section."""
    return Section("Now", (Line(4, _headline()), Line(6, (Tile(24, _states()),)), Line(8, _reasons())))


def _headline() -> tuple[Tile, ...]:
    up = number(
        About(
            "Socket",
            "Up while every chosen connection has an established WebSocket (resyncing or open). It says nothing about the "
            "stream: see Unverified for.",
            "none",
            Link("Runbook", runbook("SyncwatchConnectionDown")),
        ),
        Query(least(connection("syncwatch_connection_up"))),
        ((None, RED), (1, GREEN)),
        names={0: ("down", RED), 1: ("up", GREEN)},
    )
    unverified = number(
        About(
            "Unverified for",
            "Time since the server's own newest number was last seen equal to our cursor; the worst of the chosen. A pong "
            "never counts. This is what grows when the socket looks fine and nothing arrives.",
            "s",
            Link("Runbook", runbook("SyncwatchStreamUnverified")),
        ),
        Query(worst(connection("syncwatch_unverified_seconds"))),
        UNVERIFIED_LIMITS,
    )
    frame = number(
        About("Last frame", "Age of the last inbound frame of any kind; the worst of the chosen.", "s"),
        Query(worst(connection("syncwatch_last_frame_age_seconds"))),
        ((None, GREEN), (45, YELLOW), (120, RED)),
        absent="never",
    )
    event = number(
        About(
            "Last event",
            "Age of the last data event; the worst of the chosen. An idle stream is fine while it stays verified.",
            "s",
        ),
        Query(worst(connection("syncwatch_last_event_age_seconds"))),
        ((None, BLUE),),
        absent="never",
    )
    lost = number(
        About(
            "Lost in range",
            "Events given up in the shown range, to the nearest whole. Exact totals are in syncwatch status.",
            "short",
            Link("Runbook", runbook("SyncwatchEventsLost")),
        ),
        Query(in_range(connection("syncwatch_sequence_lost_total"))),
        ((None, GREEN), (1, RED)),
        absent="not numbered",
    )
    seconds = "syncwatch_health_seconds_total"
    healthy, all_ = (total(f"increase({health(seconds, *only)}[$__range])") for only in (('health="healthy"',), ()))
    healthy_share = number(
        About("Healthy in range", "Share of the shown range without any reason: the SLI.", "percentunit"),
        Query(f"{healthy} / {all_}"),
        ((None, RED), (0.99, YELLOW), (0.999, GREEN)),
    )
    return tuple(Tile(4, panel) for panel in (up, unverified, frame, event, lost, healthy_share))


def _states() -> AnyPanel:
    return lanes(
        About(
            "State",
            "State of each connection at each scrape. A state shorter than the scrape interval cannot show here: the time in "
            "each state and the state changes below miss nothing.",
            "none",
            Link("Runbook", runbook("SyncwatchConnectionDown")),
        ),
        Query(state_code(), "{{instance}} {{connection}}"),
        names=STATE_NAMES,
    )


def _reasons() -> tuple[Tile, ...]:
    by = ("job", "instance", "component", "name", "reason")
    chosen, own = health("syncwatch_degraded"), sidecar("syncwatch_degraded", 'component="sidecar"')
    counters = (health("syncwatch_degradations_total"), sidecar("syncwatch_degradations_total", 'component="sidecar"'))
    hold = f"{worst(f'{chosen} or {own}', *by)} == 1"
    began = " or ".join(f"{in_range(counter, *by)} > 0" for counter in counters)
    over_time = lanes(
        About(
            "Reasons over time",
            "Each reason that held at some time in the shown range, of the chosen connections and of their sidecars.",
            "none",
            Link("Reasons", REASONS_URL),
        ),
        Query(hold, "{{instance}} {{name}} {{reason}}"),
        names={1: ("holds", RED)},
        absent="no reason in range",
    )
    summary = rows(
        About(
            "Reasons in range",
            "holds: 1 if it held at the end of the shown range. times: how often it began in the range. A reason leads to what "
            "it means and what to do.",
            "none",
            Link("Reasons", REASONS_URL),
        ),
        Query(hold),
        Query(began),
        transformations=(
            ("merge", {}),
            ("organize", {"excludeByName": {"Time": True}, "renameByName": {"Value #A": "holds", "Value #B": "times"}}),
        ),
        column_links={"reason": Link("What it means, what to do", f"{REASONS_URL}#${{__value.raw}}")},
    )
    return (Tile(14, over_time), Tile(10, summary))
