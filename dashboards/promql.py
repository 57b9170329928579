"""The text of queries: selectors that carry the dashboard's variables, and the few shapes that panels use.

What belongs here: strings. Counters appear inside rate or increase only, so that a restarted sidecar never shows as a cliff.
"""

from __future__ import annotations

from syncwatch.core.states import State

TARGET = 'job=~"$job",instance=~"$instance"'
"""The matchers of every selector: which sidecars."""

ALERT = 'alertname=~"Syncwatch.+",job=~"$job|",instance=~"$instance|"'
"""The matchers of alerts; where a label is missing, its matcher with nothing in it holds."""
FIRES = 'alertstate="firing"'


def sidecar(metric: str, *matchers: str) -> str:
    """A metric of the chosen sidecars."""
    return f"{metric}{{{','.join((TARGET, *matchers))}}}"


def connection(metric: str, *matchers: str) -> str:
    """A metric of the chosen connections."""
    return sidecar(metric, 'connection=~"$connection"', *matchers)


def service(metric: str, *matchers: str) -> str:
    """A metric of the services that the chosen sidecars ask."""
    return sidecar(metric, *matchers)


def health(metric: str, *matchers: str) -> str:
    """A health metric of the chosen connections: there they are named by `component` and `name`."""
    return sidecar(metric, 'component="connection"', 'name=~"$connection"', *matchers)


def firing(*matchers: str) -> str:
    """The firing alerts of the chosen sidecars, and those that are about no single sidecar, or no single job: they concern everybody."""
    return f"ALERTS{{{','.join((ALERT, FIRES, *matchers))}}}"


def firing_for() -> str:
    """How long what each of the same alerts is about has been so: from before it fired, while it was pending."""
    return f"time() - ALERTS_FOR_STATE{{{ALERT}}} and ignoring (alertstate) {firing()}"


def process(metric: str) -> str:
    """A process metric of the chosen sidecars, and of no other process, although `All` jobs may be chosen."""
    return f"{sidecar(metric)} and on (job, instance) {sidecar('syncwatch_build_info')}"


def total(vector: str, *by: str) -> str:
    """The sum over everything but `by`."""
    return _aggregated("sum", vector, by)


def worst(vector: str, *by: str) -> str:
    """The highest of the chosen."""
    return _aggregated("max", vector, by)


def least(vector: str, *by: str) -> str:
    """The lowest of the chosen."""
    return _aggregated("min", vector, by)


def per_second(selector: str, *by: str) -> str:
    """Rate of a counter."""
    return total(f"rate({selector}[$__rate_interval])", *by)


def per_minute(selector: str, *by: str) -> str:
    """As `per_second`, for what happens rarely."""
    return f"60 * {per_second(selector, *by)}"


def in_range(selector: str, *by: str) -> str:
    """How much a counter grew in the shown range, to the nearest whole: Prometheus extrapolates to the range's edges."""
    return f"round({total(f'increase({selector}[$__range])', *by)})"


def quantile(rank: float, histogram: str, *by: str) -> str:
    """A quantile of a connection's classic histogram; `histogram` is its name without `_bucket`."""
    buckets = per_second(connection(f"{histogram}_bucket"), *by, "le")
    return f"histogram_quantile({rank}, {buckets})"


def mean(histogram: str, *by: str) -> str:
    """The mean of a connection's histogram."""
    seconds, count = (per_second(connection(f"{histogram}_{part}"), *by) for part in ("sum", "count"))
    return f"{seconds} / {count}"


def in_buckets(rank: float, buckets: str, *by: str) -> str:
    """A quantile of any classic histogram; `buckets` selects its `_bucket`."""
    return f"histogram_quantile({rank}, {per_second(buckets, *by, 'le')})"


def by_upstream(vector: str) -> str:
    """A vector of connections with the label `upstream` added: which server each leads to."""
    return f"{vector} * on (job, instance, connection) group_left (upstream) {sidecar('syncwatch_connection_info')}"


def health_by_upstream(function: str, span: str, *matchers: str) -> str:
    """Growth of the health seconds of connections, with the label `upstream`."""
    seconds = sidecar("syncwatch_health_seconds_total", 'component="connection"', *matchers)
    names = f'label_replace({sidecar("syncwatch_connection_info")}, "name", "$1", "connection", "(.+)")'
    return f"{function}({seconds}[{span}]) * on (job, instance, name) group_left (upstream) {names}"


def as_connection(vector: str) -> str:
    """A vector in which connections are called `name`, with the label `connection` instead."""
    return f'label_replace({vector}, "connection", "$1", "name", "(.+)")'


def shares(selector: str, label: str) -> str:
    """Of all that a counter grew, the share of each value of `label`: a ratio of sums, never a mean of ratios."""
    return f"{per_second(selector, label)} / ignoring ({label}) group_left () {per_second(selector)}"


def state_code() -> str:
    """One number per connection for its state: the state's place in the enum. Panels map it back to the name.

    The highest and not the sum, although all but one are 0: where something tells the same sidecar twice, a sum would be another state.
    """
    lanes = [connection("syncwatch_connection_state", f'state="{state}"') for state in State]
    return worst(" or ".join(f"{code} * {lane}" for code, lane in enumerate(lanes)), "job", "instance", "connection")


def _aggregated(operator: str, vector: str, by: tuple[str, ...]) -> str:
    grouping = f" by ({', '.join(by)}) " if by else ""
    return f"{operator}{grouping}({vector})"
