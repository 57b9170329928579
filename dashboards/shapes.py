"""Panels that recur: a counter by its labels, several counters side by side, a histogram's quantiles.

What belongs here: shapes of questions that sections share.
"""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.panels import About, AnyPanel, Query, graph
from dashboards.promql import connection, per_minute, per_second, quantile

RARE = "none in range, or not counted here"
"""What a panel of rare things says when it has nothing to draw: it cannot know which of the two it is."""


def rare_by(about: About, counter: str, *labels: str, legend: str = "") -> AnyPanel:
    """A rare thing per minute, split by `labels`; only what happened is drawn. `legend` follows the connection's name."""
    happened = f"{per_minute(connection(counter), 'connection', *labels)} > 0"
    named = legend or " ".join(f"{{{{{label}}}}}" for label in labels)
    return graph(about, Query(happened, f"{{{{connection}}}} {named}"), bars=True, absent=RARE)


def flow_by(about: About, counter: str, label: str) -> AnyPanel:
    """A frequent thing per second, split by `label`, stacked."""
    flow = per_second(connection(counter), "connection", label)
    return graph(about, Query(flow, f"{{{{connection}}}} {{{{{label}}}}}"), stacked=True)


def side_by_side(about: About, counters: Mapping[str, str], absent: str = "") -> AnyPanel:
    """Counters per minute, or per second where the unit says so, named by the mapping's keys."""
    rate = per_second if about.unit in {"cps", "Bps"} else per_minute
    queries = (
        Query(rate(connection(counter), "connection"), f"{{{{connection}}}} {name}")
        for name, counter in counters.items()
    )
    return graph(about, *queries, absent=absent)


def median_and_p99(about: About, histogram: str, absent: str = "") -> AnyPanel:
    """The median and the 99th percentile of a histogram."""
    return graph(
        about,
        Query(quantile(0.5, histogram, "connection"), "{{connection}} median"),
        Query(quantile(0.99, histogram, "connection"), "{{connection}} p99"),
        absent=absent,
    )
