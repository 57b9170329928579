"""The alert rules: what is recorded, what fires, and which alert keeps which quiet. `python -m dashboards.build` writes them to rules/.

What belongs here: expressions and words. Durations go through a `Pace`, so that the same rules can be proven in seconds instead of hours;
which jobs they are about goes through a `Scope`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dashboards.links import runbook

OBJECTIVE = 0.99
"""Share of the time in which a sync should be healthy. At this objective a lasting fault is told by its own alert before the budget's."""

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def duration(seconds: float) -> str:
    """As Prometheus writes it, in the largest unit that leaves a whole number."""
    for unit, size in (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:.0f}ms"


class Pace:
    """How long the rules look back and wait, in seconds. This one is what is shipped; tests have a faster one."""

    def window(self, seconds: float) -> float:
        """How far a range looks back."""
        return seconds

    def past(self, seconds: float) -> float:
        """How long something must have been known before it is judged."""
        return seconds

    def hold(self, seconds: float) -> float:
        """How long something must hold before it fires."""
        return seconds

    def age(self, seconds: float) -> float:
        """From which age on something counts."""
        return seconds


class Scope(NamedTuple):
    """Which jobs the rules are about: a matcher on `job`, and one for the jobs that are known as sidecars by their name alone."""

    jobs: str = 'job=~".+"'
    named: str = 'job=~".*syncwatch.*"'


class Terms(NamedTuple):
    """What expressions are made with."""

    pace: Pace
    scope: Scope

    def of(self, metric: str, *matchers: str) -> str:
        """A metric of the jobs that the rules are about."""
        return f"{metric}{{{','.join((self.scope.jobs, *matchers))}}}"

    def back(self, metric: str, seconds: float, *matchers: str) -> str:
        """The same over a range."""
        return f"{self.of(metric, *matchers)}[{self.range(seconds)}]"

    def range(self, seconds: float) -> str:
        """A range's length, without its brackets."""
        return duration(self.pace.window(seconds))

    def last(self, metric: str, *matchers: str) -> str:
        """What a metric said last: a scrape that fails now and then ends nothing."""
        return f"last_over_time({self.back(metric, 2 * MINUTE_S, *matchers)})"

    def to_upstream(self) -> str:
        """Multiplied to a vector with `connection`, this adds the label `upstream`."""
        return f"* on (job, instance, connection) group_left (upstream)\n{UPSTREAM}"

    def fired(self, seconds: float, by: str, *alerts: str) -> str:
        """Of whom one of these alerts fired this lately: what a window still remembers of a cause that is over is no news."""
        names = f'alertname="{alerts[0]}"' if len(alerts) == 1 else f'alertname=~"{"|".join(alerts)}"'
        return f'max by ({by}) (max_over_time(ALERTS{{{names},alertstate="firing"}}[{self.range(seconds)}]))'

    def reason(self, *reasons: str) -> str:
        """Connections for which one of these reasons holds; `name` becomes `connection`, as in the metrics of connections."""
        words = f'reason="{reasons[0]}"' if len(reasons) == 1 else f'reason=~"{"|".join(reasons)}"'
        held = self.last("syncwatch_degraded", 'component="connection"', words)
        return f'max without (component, name) (\n  label_replace({held} == 1, "connection", "$1", "name", "(.+)")\n)'


Expression = Callable[[Terms], str]


class Record(NamedTuple):
    """A recording rule: `level:metric:operations`."""

    name: str
    expression: Expression
    comment: str = ""


class Alert(NamedTuple):
    """An alert. `summary` is the same for all, `description` is filled in; `labels` come beside the severity."""

    name: str
    severity: str
    hold_s: float
    expression: Expression
    summary: str
    description: str
    comment: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Group(NamedTuple):
    """Rules that are evaluated in order, so that what is recorded is there when it is asked for."""

    name: str
    rules: tuple[Record | Alert, ...]


class Inhibition(NamedTuple):
    """While a source fires, the targets with equal labels notify nobody. Alerts by name, or `name{window}` for one burn rate."""

    why: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    equal: tuple[str, ...]
    source_more: tuple[str, ...] = ()
    target_more: tuple[str, ...] = ()


UPSTREAM = "connection:syncwatch_connection_info:last2m"
DOWN_STATES = 'state=~"connecting|reconnecting|failed"'
LATELY_DOWN = "connection:syncwatch_connection_down:ratio_rate2m"
MOSTLY_DOWN = "connection:syncwatch_connection_down:rate5m"
HEALTH = "upstream:syncwatch_health_seconds:rate5m"
UNHEALTHY = "upstream:syncwatch_unhealthy:ratio_rate{}"


def _down(t: Terms, seconds: float) -> str:
    return f"sum without (state) (rate({t.back('syncwatch_connection_state_seconds_total', seconds, DOWN_STATES)}))"


def _lately_down(t: Terms) -> str:
    every = t.back("syncwatch_connection_state_seconds_total", 2 * MINUTE_S)
    return f"{_down(t, 2 * MINUTE_S)}\n/\nsum without (state) (rate({every}))\n{t.to_upstream()}"


def _upstream(t: Terms) -> str:
    known = f"max by (job, instance, connection, upstream) (\n    {t.last('syncwatch_connection_info')}\n  )"
    return f"topk by (job, instance, connection) (\n  1,\n  {known}\n)"


def _absent(t: Terms) -> str:
    return f"""\
absent(
  {t.of("syncwatch_build_info")}
  or
  ({t.of("up")} and on (job, instance) present_over_time({t.back("syncwatch_build_info", 6 * HOUR_S)}))
  or
  up{{{t.scope.named}}}
)"""


def _target_down(t: Terms) -> str:
    lately = t.range(3 * MINUTE_S)
    return f"""\
(
  avg_over_time({t.back("up", 3 * MINUTE_S)}) < 0.5
  and on (job, instance)
  present_over_time({t.back("syncwatch_build_info", 6 * HOUR_S)})
)
or
avg_over_time(up{{{t.scope.named}}}[{lately}]) < 0.5"""


def _upstream_down(t: Terms) -> str:
    down = f'{LATELY_DOWN}{{upstream!=""}}'
    refused = t.reason("unauthorized", "forbidden").replace("\n", "\n      ")
    every = f"count by (upstream) (count by (upstream, instance, connection) ({down}))"
    return f"""\
count by (upstream) (
  count by (upstream, instance, connection) (
    {down} > 0.5
    unless on (job, instance, connection)
      {refused}
  )
)
/
{every}
> 0.5
and
{every} >= 3"""


def _connection_down(t: Terms) -> str:
    told = f"unless on (upstream)\n{t.fired(5 * MINUTE_S, 'upstream', 'SyncwatchUpstreamDown')}"
    return f"{MOSTLY_DOWN} > 0.5\nand\n{LATELY_DOWN} > 0.25\n{told}"


def _stream_unverified(t: Terms) -> str:
    return f"""\
{t.last("syncwatch_unverified_seconds")}
{t.to_upstream()}
> {t.pace.age(300):g}
unless on (job, instance, connection)
{t.last("syncwatch_connection_state", 'state=~"idle|closed"')} == 1"""


def _of_reason(*reasons: str) -> Expression:
    return lambda t: f"{t.reason(*reasons)}\n{t.to_upstream()}"


def _credentials_expired(t: Terms) -> str:
    def expired(what: str, metric: str) -> str:
        return f'label_replace(time() - {t.last(metric)} > 0, "credential", "{what}", "", "")'

    token = expired("token", "syncwatch_token_expiry_timestamp_seconds")
    certificate = expired("certificate", "syncwatch_tls_certificate_expiry_timestamp_seconds")
    return f"(\n  {token}\n  or\n  {certificate}\n)\n{t.to_upstream()}"


def _polling(t: Terms) -> str:
    polls = t.back("syncwatch_connection_state_seconds_total", 15 * MINUTE_S, 'state="polling"')
    return f"sum without (state) (rate({polls}))\n{t.to_upstream()}\n> 0.5"


def _flapping(t: Terms) -> str:
    counter = "syncwatch_connection_reconnects_total"
    return f"""\
increase({t.back(counter, 15 * MINUTE_S)})
{t.to_upstream()}
>= 6
and on (job, instance, connection)
increase({t.back(counter, 5 * MINUTE_S)}) > 0"""


def _canary(t: Terms) -> str:
    def grown(outcome: str, seconds: float) -> str:
        return f"increase({t.back(f'syncwatch_canaries_{outcome}_total', seconds)})"

    bad, good = f"{grown('timed_out', 900)} + {grown('failed', 900)}", grown("received", 900)
    return f"""\
({bad})
/
({bad} + {good})
{t.to_upstream()}
> 0.5
and on (job, instance, connection)
{grown("timed_out", 300)} + {grown("failed", 300)} > 0"""


def _watcher(t: Terms) -> str:
    def down(seconds: float) -> str:
        return f"rate({t.back('syncwatch_health_seconds_total', seconds, _quoted('component', 'watcher'), _quoted('health', 'down'))})"

    return f"sum without (health) ({down(300)}) > 0.5\nand\nsum without (health) ({down(120)}) > 0.25"


def _quoted(label: str, value: str) -> str:
    return f'{label}="{value}"'


def _mirror(t: Terms) -> str:
    held = t.last("syncwatch_degraded", _quoted("component", "mirror"), 'reason=~"mirror_stuck|watcher_dead"')
    return f"max without (reason) ({held}) == 1"


def _service(t: Terms) -> str:
    failures = t.back("syncwatch_service_probe_failures_total", 15 * MINUTE_S)
    return f"{t.last('syncwatch_service_up')} == 0\nand on (job, instance, target_service)\nsum without (reason) (increase({failures})) > 1.5"


def _config_or_state(t: Terms) -> str:
    reload = f'label_replace({t.last("syncwatch_config_last_reload_successful")} == 0, "what", "configuration", "", "")'
    state = t.back("syncwatch_statefile_write_failures_total", 15 * MINUTE_S)
    still = t.back("syncwatch_statefile_write_failures_total", 5 * MINUTE_S)
    failing = f"increase({state}) > 0 and increase({still}) > 0"
    return f'{reload}\nor\nlabel_replace({failing}, "what", "state file", "", "")'


def _health(t: Terms) -> str:
    seconds = "syncwatch_health_seconds_total"
    return f"""\
sum by (job, component, upstream, health) (
  rate({t.back(seconds, 300, 'component="connection"')})
  * on (job, instance, name) group_left (upstream)
  label_replace({UPSTREAM}, "name", "$1", "connection", "(.+)")
)
or
sum by (job, component, health) (rate({t.back(seconds, 300, 'component!="connection"')}))"""


def _unhealthy(seconds: float) -> Record:
    def expression(t: Terms) -> str:
        if seconds == 300:
            return f'1 - sum without (health) ({HEALTH}{{health="healthy"}}) / sum without (health) ({HEALTH})'
        range_ = f"[{t.range(seconds)}]"
        healthy = f'sum without (health) (sum_over_time({HEALTH}{{health="healthy"}}{range_}))'
        return f"1 -\n{healthy}\n/\nsum without (health) (sum_over_time({HEALTH}{range_}))"

    return Record(UNHEALTHY.format(duration(seconds)), expression)


class Burn(NamedTuple):
    """One of the burn rates: `times` the budget's pace over both windows."""

    times: float
    long_s: float
    short_s: float
    hold_s: float
    severity: str


BURNS = (
    Burn(14.4, HOUR_S, 5 * MINUTE_S, 5 * MINUTE_S, "critical"),  # holds for longer than a lone incident, held for 10 min, exceeds both windows
    Burn(6, 6 * HOUR_S, 30 * MINUTE_S, 15 * MINUTE_S, "critical"),
    Burn(3, DAY_S, 2 * HOUR_S, HOUR_S, "warning"),
    Burn(1, 3 * DAY_S, 6 * HOUR_S, 3 * HOUR_S, "warning"),
)


def _burning(burn: Burn) -> Alert:
    limit = f"{burn.times:g} * {1 - OBJECTIVE:g}"

    def expression(t: Terms) -> str:
        long, short = (UNHEALTHY.format(duration(seconds)) for seconds in (burn.long_s, burn.short_s))
        half = duration(t.pace.past(burn.long_s / 2))
        known = f"present_over_time({UNHEALTHY.format(duration(300))}[{half}] offset {half})"
        found = f"{long} > {limit}\nand\n{short} > {limit}\nand\n{known}"
        if burn.severity != "critical":
            return found
        since_s = burn.short_s + 15 * MINUTE_S  # an outage may leave an incident, which is held for 10 min
        everybody = f"unless on (upstream)\n{t.fired(since_s, 'upstream', 'SyncwatchUpstreamDown')}"
        paged = t.fired(since_s, "job, upstream, instance, connection", "SyncwatchCredentialsRefused", "SyncwatchStreamUnverified")
        share = f"count by (job, upstream) (\n  {paged}\n)\n/\ncount by (job, upstream) ({UPSTREAM})"
        indented = share.replace("\n", "\n  ")
        return f"{found}\n{everybody}\nunless\n{short} - on (job, upstream) group_left () (\n  {indented}\n) <= {limit}"

    pace = "Faster than" if burn.times == 1 else f"{burn.times:g} times as fast as"
    comment = (
        f"{pace} the budget allows, over {duration(burn.long_s)} and still over the last {duration(burn.short_s)}. "
        "What was not known half of that ago is not judged: bad first minutes are no trend."
    )
    if burn.severity == "critical":
        comment += (
            " Not for what has paged in the short window or shortly before: a server that was down for everybody, or as many connections as were refused or not "
            "verified. They may be well again, and are still in the windows, as are the incidents that they left."
        )
    return Alert(
        "SyncwatchErrorBudgetBurn",
        burn.severity,
        burn.hold_s,
        expression,
        "Sync is unhealthy more often than its objective allows.",
        f"{{{{ with $labels.upstream }}}}Connections to {{{{ . }}}}{{{{ else }}}}Components of the kind {{{{ $labels.component }}}}{{{{ end }}}} of job "
        f"{{{{ $labels.job }}}} were not healthy for {{{{ $value | humanizePercentage }}}} of the last {duration(burn.long_s)}; the objective of "
        f"{OBJECTIVE:.0%} allows {1 - OBJECTIVE:.0%}.",
        comment,
        (("window", duration(burn.long_s)),),
    )


_PLACE = "Connection {{ $labels.connection }} of {{ $labels.instance }}"

GROUPS = (
    Group(
        "syncwatch",
        (
            Record(
                UPSTREAM,
                _upstream,
                "Whose server it is. What was said last counts for 2 min, here as in the alerts: one scrape that fails must not begin every `for` anew. Of two "
                "servers in that time, of a connection that was given another one, one is taken.",
            ),
            Record(
                LATELY_DOWN,
                _lately_down,
                "Share of a sidecar's own time that a connection spends without a connection: a flap between two scrapes counts, no flap resets it, and one "
                "that has just started counts at once.",
            ),
            Record(
                MOSTLY_DOWN,
                lambda t: f"{_down(t, 5 * MINUTE_S)}\n{t.to_upstream()}",
                "The same of 5 min, whether the sidecar lived through them or not.",
            ),
            Alert(
                "SyncwatchAbsent",
                "warning",
                10 * MINUTE_S,
                _absent,
                "No syncwatch sidecar is known to Prometheus any more.",
                "Prometheus has no target that is or was a syncwatch sidecar. What sync connections do is unknown; no other alert can speak for them.",
                "Neither exported by anybody, nor a target under a job of that name. One that is a target and silent is SyncwatchTargetDown.",
            ),
            Alert(
                "SyncwatchTargetDown",
                "warning",
                5 * MINUTE_S,
                _target_down,
                "A syncwatch sidecar cannot be scraped.",
                "{{ $labels.instance }} of job {{ $labels.job }} has not answered most scrapes for 5 minutes. What its connections do is "
                "unknown; no other alert can speak for them.",
                "Known by what it exported within 6 h, under whatever job; or by its job's name, if it never answered. Most scrapes, so that one that starts again and again is seen.",
            ),
            Alert(
                "SyncwatchUpstreamDown",
                "critical",
                3 * MINUTE_S,
                _upstream_down,
                "A sync server is down for most of those who connect to it.",
                "{{ $value | humanizePercentage }} of the connections to {{ $labels.upstream }} are down. It is the server or the way to it, not one of them.",
                "More than half of at least three connections; what two jobs scrape as the same instance counts once. Refused credentials are a cause of their own, and do not count as down here.",
            ),
            Alert(
                "SyncwatchConnectionDown",
                "warning",
                2 * MINUTE_S,
                _connection_down,
                "A sync connection is down, or down most of the time.",
                f"{_PLACE} was without a connection for {{{{ $value | humanizePercentage }}}} of the last 5 minutes.",
                "Most of 5 min, and still some of the last 2. Not what is left in these windows of an outage that SyncwatchUpstreamDown told.",
            ),
            Alert(
                "SyncwatchStreamUnverified",
                "critical",
                2 * MINUTE_S,
                _stream_unverified,
                "A sync stream has not been verified for minutes; what was read may be out of date.",
                f"{_PLACE} has not seen the server's newest number equal to its own for {{{{ $value | humanizeDuration }}}}. "
                "The socket may look fine and deliver nothing.",
                "Whatever the socket looks like. Tip checks run every 60 s, so several in a row did not succeed.",
            ),
            Alert(
                "SyncwatchCredentialsRefused",
                "critical",
                2 * MINUTE_S,
                _of_reason("unauthorized", "forbidden"),
                "The server refuses a sync connection's credentials.",
                f"{_PLACE} is refused ({{{{ $labels.reason }}}}). It stays down until the token changes; the token file is tried again as soon as it does.",
            ),
            Alert(
                "SyncwatchCredentialsExpired",
                "warning",
                5 * MINUTE_S,
                _credentials_expired,
                "The token or the server's certificate of a sync connection has expired.",
                "The {{ $labels.credential }} of connection {{ $labels.connection }} of {{ $labels.instance }} expired "
                "{{ $value | humanizeDuration }} ago. An open socket lives on; the next reconnect is likely to fail.",
                "The token's own word, and the certificate that was seen at the last handshake.",
            ),
            Alert(
                "SyncwatchPollingTooLong",
                "warning",
                10 * MINUTE_S,
                _polling,
                "A sync connection lives on its polling fallback.",
                f"{_PLACE} spent {{{{ $value | humanizePercentage }}}} of the last 15 minutes polling. Nothing is lost, but every event is late, "
                "and the server carries the load.",
            ),
            Alert(
                "SyncwatchFlapping",
                "warning",
                10 * MINUTE_S,
                _flapping,
                "A sync connection keeps being lost and made again.",
                f'{_PLACE} was made again about {{{{ printf "%.0f" $value }}}} times in 15 minutes.',
                "Six or more in 15 min, and still going on; a storm that is over is not worth a ticket.",
            ),
            Alert(
                "SyncwatchEventsLost",
                "warning",
                MINUTE_S,
                _of_reason("events_lost"),
                "Events of a sync connection were lost for good.",
                f"{_PLACE} gave up events that the server numbered and never delivered. What they would have changed must be read again.",
                "The sidecar holds an incident for 10 min after the last loss.",
            ),
            Alert(
                "SyncwatchClaimContradicted",
                "warning",
                MINUTE_S,
                _of_reason("claim_contradicted"),
                "A server claimed a complete resync that was not, or a gap where there was none.",
                f"{_PLACE} counted a resync whose claim its own ledger contradicts. Applications that believe the server's claim may have lost "
                "events without knowing.",
                "The sidecar holds an incident for 10 min after the last contradiction.",
            ),
            Alert(
                "SyncwatchCanaryFailing",
                "warning",
                2 * MINUTE_S,
                _canary,
                "Messages written through a sync server's API do not arrive on its live connection.",
                f"{_PLACE}: {{{{ $value | humanizePercentage }}}} of the canaries of the last 15 minutes were refused or did not come back in time.",
                "Most of 15 min, and at least one of the last 5. A single lost canary is a reason in the status, and no alert.",
            ),
            Alert(
                "SyncwatchWatcherDead",
                "warning",
                2 * MINUTE_S,
                _watcher,
                "A file watcher is dead, or dead most of the time; changes of files are not seen.",
                "Watcher {{ $labels.name }} of {{ $labels.instance }} was dead for {{ $value | humanizePercentage }} of the last 5 minutes.",
                "Time, as with connections: a watcher that is cured and dies again does not hide.",
            ),
            Alert(
                "SyncwatchMirrorStuck",
                "warning",
                2 * MINUTE_S,
                _mirror,
                "A mirror of files does not keep up, or has lost one of its sides.",
                "Mirror {{ $labels.name }} of {{ $labels.instance }} is not in step. What one side shows may be out of date.",
                "Of its two watchers only dead ones count: a blind one leaves the regular comparisons.",
            ),
            Alert(
                "SyncwatchServiceDown",
                "warning",
                MINUTE_S,
                _service,
                "A service that a sidecar asks does not answer as it should.",
                "{{ $labels.target_service }}, asked by {{ $labels.instance }}, failed its last probe and at least one before it.",
                "Two probes: a failed one is repeated after 30 s.",
            ),
            Alert(
                "SyncwatchConfigOrState",
                "warning",
                5 * MINUTE_S,
                _config_or_state,
                "A syncwatch sidecar runs with an old configuration or none, or cannot keep its state.",
                "The {{ $labels.what }} of {{ $labels.instance }} was refused or cannot be written. It works on with what it had, if it had any; a restart would end that.",
                "A changed configuration file that is wrong changes nothing until the restart; a sidecar that then waits for another one watches nothing.",
            ),
        ),
    ),
    Group(
        "syncwatch-budget",
        (
            Record(
                HEALTH,
                _health,
                "The SLI is healthy time by all time, of all connections to one upstream together (and of all watchers, mirrors, services). Short windows are "
                "recorded and long ones summed from them, so that pods that are gone still count.",
            ),
            *(_unhealthy(seconds) for seconds in sorted({seconds for burn in BURNS for seconds in (burn.long_s, burn.short_s)})),
            *(_burning(burn) for burn in BURNS),
        ),
    ),
)  # fmt: skip

_BURN = "SyncwatchErrorBudgetBurn"
_THIS = ("job", "instance", "connection")

INHIBITIONS = (
    Inhibition(
        "A server that is down for everybody is one cause: no page and no ticket for each of its connections.",
        ("SyncwatchUpstreamDown",),
        ("SyncwatchConnectionDown", "SyncwatchStreamUnverified", "SyncwatchPollingTooLong", "SyncwatchFlapping", "SyncwatchCanaryFailing", _BURN),
        ("upstream",),
    ),
    Inhibition(
        "A refused token explains why that connection is down and not verified.",
        ("SyncwatchCredentialsRefused",),
        ("SyncwatchConnectionDown", "SyncwatchStreamUnverified", "SyncwatchPollingTooLong", "SyncwatchFlapping", "SyncwatchCanaryFailing"),
        _THIS,
    ),
    Inhibition(
        "The budget burns because of what has paged already. The windows that page see to that themselves, connection by connection.",
        ("SyncwatchCredentialsRefused", "SyncwatchStreamUnverified"),
        (_BURN,),
        ("job", "upstream"),
        target_more=('window=~"1d|3d"',),
    ),
    Inhibition("The fastest burn is enough.", (_BURN,), (_BURN,), ("job", "component", "upstream"), ('window="1h"',), ('window=~"6h|1d|3d"',)),
    Inhibition("The faster burn is enough.", (_BURN,), (_BURN,), ("job", "component", "upstream"), ('window="6h"',), ('window=~"1d|3d"',)),
    Inhibition("The faster burn is enough.", (_BURN,), (_BURN,), ("job", "component", "upstream"), ('window="1d"',), ('window="3d"',)),
)  # fmt: skip
"""What Alertmanager has to be told, so that there is one page for one cause."""

RULES_HEAD = """\
# Alerts on sync connections; written by `python -m dashboards.build`, not by hand. Rates come from the sidecar's own counters, so that a flap
# between two scrapes counts; incidents from `syncwatch_degraded`, which holds them for `health.incident_hold`: with 0s there EventsLost and
# ClaimContradicted cannot fire.
#
# To restrict the rules to some jobs, replace job=~".+" everywhere (SyncwatchTargetDown and SyncwatchAbsent name one more, for sidecars that
# never answered). `for` and the windows suit scrapes every 15 to 30 s.
# Each alert has a page in docs/runbooks. Alertmanager needs alertmanager.yaml beside this file, or one cause becomes many pages.
"""
INHIBITIONS_HEAD = """\
# Inhibitions for Alertmanager, to be put into its configuration; written by `python -m dashboards.build`, not by hand. With them there is one
# page for one cause: while a source fires, targets with equal labels notify nobody.
"""


def rules(
    pace: Pace | None = None, scope: Scope | None = None, groups: Sequence[Group] = GROUPS
) -> Mapping[str, object]:
    """The rules as Prometheus reads them."""
    terms = Terms(pace or Pace(), scope or Scope())
    return {"groups": [{"name": group.name, "rules": [_rule(one, terms) for one in group.rules]} for group in groups]}


def inhibitions() -> Sequence[Mapping[str, object]]:
    """The inhibitions as Alertmanager reads them."""
    return [
        {
            "source_matchers": _matchers(one.sources, one.source_more),
            "target_matchers": _matchers(one.targets, one.target_more),
            "equal": list(one.equal),
        }
        for one in INHIBITIONS
    ]


def rules_file() -> bytes:
    """What is committed and shipped: with comments."""
    terms = Terms(Pace(), Scope())
    lines = [RULES_HEAD + "groups:"]
    for group in GROUPS:
        lines += [f"  - name: {group.name}", "    rules:"]
        for one in group.rules:
            lines += ["", *_comment(one.comment), *_written(_rule(one, terms))]
    return ("\n".join(lines).replace("rules:\n\n", "rules:\n") + "\n").encode()


def inhibitions_file() -> bytes:
    """What is committed and shipped: with comments."""
    lines = [INHIBITIONS_HEAD + "inhibit_rules:"]
    for one, rule in zip(INHIBITIONS, inhibitions(), strict=True):
        lines += [*_comment(one.why, "  ")]
        for place, (key, value) in enumerate(rule.items()):
            items = ", ".join(f"'{item}'" if key != "equal" else str(item) for item in value)  # type: ignore[attr-defined]
            lines.append(f"  {'-' if place == 0 else ' '} {key}: [{items}]")
    return ("\n".join(lines) + "\n").encode()


def _matchers(names: tuple[str, ...], more: tuple[str, ...]) -> list[str]:
    return [f'alertname="{names[0]}"' if len(names) == 1 else f'alertname=~"{"|".join(names)}"', *more]


def _rule(one: Record | Alert, terms: Terms) -> Mapping[str, object]:
    if isinstance(one, Record):
        return {"record": one.name, "expr": one.expression(terms)}
    return {
        "alert": one.name,
        "expr": one.expression(terms),
        "for": duration(terms.pace.hold(one.hold_s)),
        "labels": {"severity": one.severity, **dict(one.labels)},
        "annotations": {"summary": one.summary, "description": one.description, "runbook_url": runbook(one.name)},
    }


def _written(rule: Mapping[str, object]) -> list[str]:
    """One rule in YAML, as a person would write it: expressions as they are, sentences folded."""
    lines: list[str] = []
    for key, value in rule.items():
        if isinstance(value, Mapping):
            lines.append(f"{key}:")
            for inner, text in value.items():
                lines += _folded(inner, text, "  ") if inner == "description" else [f"  {inner}: {text}"]
        elif "\n" in str(value):
            lines += [f"{key}: |", *(f"  {line}" for line in str(value).splitlines())]
        else:
            lines += [f"{key}: {value}"] if key != "expr" else [f"{key}: |", f"  {value}"]
    return [f"      {'- ' if place == 0 else '  '}{line}" for place, line in enumerate(lines)]


def _folded(key: str, text: str, indent: str) -> list[str]:
    return [f"{indent}{key}: >-", *_wrapped(text, f"{indent}  ", 112)]


def _comment(text: str, indent: str = "      ") -> list[str]:
    return _wrapped(text, f"{indent}# ", 140) if text else []


def _wrapped(text: str, prefix: str, width: int) -> list[str]:
    """Broken at spaces outside {{ }}, so that a template stays on its line."""
    words, lines, open_ = text.split(" "), [""], False
    for word in words:
        fits = open_ or len(prefix) + len(lines[-1]) + 1 + len(word) <= width
        if fits:
            lines[-1] += f" {word}" if lines[-1] else word
        else:
            lines.append(word)
        open_ = lines[-1].count("{{") > lines[-1].count("}}")
    return [prefix + line for line in lines]
