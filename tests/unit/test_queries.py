"""queries: what an expression asks syncwatch for is read as the language has it, and what is asked in vain is named."""

from __future__ import annotations

import pytest

from syncwatch.queries import EXPORTED, OF_TARGETS, UnreadableError, misunderstood, selectors
from tests.expressions import marks, plain, rules, runbook_queries, selections, targets

EVERYTHING = [
    *(plain(target.expression) for target in targets()),
    *(plain(mark["expr"]) for mark in marks()),
    *(rule["expr"] for rule in rules()),
    *(query for _, query in runbook_queries()),
]


@pytest.mark.parametrize("expression", EVERYTHING)
def test_expressions_are_read_as_the_language_has_them(expression: str) -> None:
    """In every committed query the same metrics with the same matchers as a full parser finds."""
    ours = {(one.metric, tuple(sorted((label, value) for label, _, value in one.matchers))) for one in selectors(expression)}
    theirs = {(one.metric, tuple(sorted(one.matchers.items()))) for one in selections(expression)}
    assert theirs <= ours
    assert {one for one in theirs if one[0].startswith("syncwatch_")} == {one for one in ours if one[0].startswith("syncwatch_")}


@pytest.mark.parametrize("expression", EVERYTHING)
def test_nothing_of_ours_is_asked_in_vain(expression: str) -> None:
    """Rules, dashboards, annotations and runbooks: no false alarm."""
    assert [] == misunderstood(expression)


NEAR = "; did you mean"
UP = "syncwatch_connection_up"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("syncwatch_unverified_secnds > 300", f"syncwatch_unverified_secnds is exported by no syncwatch of this version{NEAR} syncwatch_unverified_seconds?"),
        ("syncwatch_nothing_like_it", "syncwatch_nothing_like_it is exported by no syncwatch of this version"),
        ("syncwatch_heartbeat_rtt_seconds > 1", f"syncwatch_heartbeat_rtt_seconds is exported by no syncwatch of this version{NEAR} syncwatch_heartbeat_rtt_seconds_sum?"),
        ('{__name__="syncwatch_connection_upp"}', f"syncwatch_connection_upp is exported by no syncwatch of this version{NEAR} {UP}?"),
        ('{"syncwatch_connection_upp"}', f"syncwatch_connection_upp is exported by no syncwatch of this version{NEAR} {UP}?"),
        ('{__name__=~"syncwatch_(connection|wacher)_up"}', f"syncwatch_wacher_up is exported by no syncwatch of this version{NEAR} syncwatch_watcher_up?"),
        ('{__name__=~"syncwatch_.+_up",conection="a"}', f"__name__=~ has no label conection{NEAR} connection?"),
        ('{__name__="syncwatch_connection_state",state="opened"}', f"syncwatch_connection_state: state is never opened{NEAR} open?"),
        ('syncwatch_degraded{reason="events_last"}', f"syncwatch_degraded: reason is never events_last{NEAR} events_lost?"),
        ('syncwatch_degraded{reason=~"behind|polling|sick"}', "syncwatch_degraded: reason is never sick"),
        ('syncwatch_degraded{reason=~"(behind|evnts_lost)"}', f"syncwatch_degraded: reason is never evnts_lost{NEAR} events_lost?"),
        ('syncwatch_degraded{reason!~"behnd.*"}', f"syncwatch_degraded: reason is never behnd.*{NEAR} behind?"),
        ('syncwatch_degraded{reason=""}', "syncwatch_degraded: reason is never empty"),
        ('syncwatch_degraded{connection="cast"}', "syncwatch_degraded has no label connection; it has component, name, reason"),
        ('syncwatch_inotify_watches{watcher="a"}', "syncwatch_inotify_watches has no label watcher; it has none"),
        ('syncwatch_connection_state{stat="open"}', f"syncwatch_connection_state has no label stat{NEAR} state?"),
        ('syncwatch_connection_state{state="opened"}', f"syncwatch_connection_state: state is never opened{NEAR} open?"),
        ('syncwatch_connection_state{state="OPEN"}', f"syncwatch_connection_state: state is never OPEN{NEAR} open?"),
        ("syncwatch_connection_state{state=`OPEN`}", f"syncwatch_connection_state: state is never OPEN{NEAR} open?"),
        (f"sum by (conection) ({UP})", f"by (conection): nothing there has a label conection{NEAR} connection?"),
        (f"sum({UP}) BY (conection)", f"by (conection): nothing there has a label conection{NEAR} connection?"),
        (f"sum without (conection) ({UP})", f"without (conection): nothing there has a label conection{NEAR} connection?"),
        (f"sum by (name) ({UP})", "by (name): nothing there has a label name"),
        (f"sum by (name) ({UP}) * on (name) group_left () syncwatch_degraded", "by (name): nothing there has a label name"),
        (f"{UP} * on (job, instance, conection) group_left (upstream) syncwatch_connection_info", f"on (conection): nothing there has a label conection{NEAR} connection?"),
        (f"{UP} * ignoring (upstrem) syncwatch_connection_info", f"ignoring (upstrem): nothing there has a label upstrem{NEAR} upstream?"),
        (f"{UP} * on (connection) group_left (upsteam) syncwatch_connection_info", f"group_left (upsteam): nothing there has a label upsteam{NEAR} upstream?"),
        ("up * on (job, instance) group_right (mod) syncwatch_watcher_info", f"group_right (mod): nothing there has a label mod{NEAR} mode?"),
        ('{"syncwatch_connection_state","state"="opened"}', f"syncwatch_connection_state: state is never opened{NEAR} open?"),
        ('syncwatch_connection_state{"stat"="open"}', f"syncwatch_connection_state has no label stat{NEAR} state?"),
        ('{"__name__"="syncwatch_connection_upp"}', f"syncwatch_connection_upp is exported by no syncwatch of this version{NEAR} {UP}?"),
        (f'sum by ("conection") ({UP})', f"by (conection): nothing there has a label conection{NEAR} connection?"),
        ('{__name__=~"syncwatch_(connection|wacher)_up|syncwatch_team:up"}', f"syncwatch_wacher_up is exported by no syncwatch of this version{NEAR} syncwatch_watcher_up?"),
        ('count_values by (conection) ("v", syncwatch_connection_up)', f"by (conection): nothing there has a label conection{NEAR} connection?"),
    ],
)
def test_what_is_asked_in_vain(expression: str, said: str) -> None:
    """One sentence each."""
    assert [said] == misunderstood(expression)


@pytest.mark.parametrize(
    "expression",
    [
        'syncwatch_degraded{namespace="shop",reason=~"behind.*",component!="service"} == 1',
        "sum by (le) (rate(syncwatch_heartbeat_rtt_seconds_bucket[5m])) # syncwatch_unverified_secnds",
        'up{job="syncwatch_unverified_secnds"} or my_syncwatch_metric or connection:syncwatch_mine:rate5m',
        "syncwatch_service_up{target_service=`flair`} offset 5m",
        'syncwatch_connection_up{version="2",revision="a",team="x"}',
        "sum by (node, namespace, team, version) (syncwatch_watcher_up)",
        "sum by (node) (syncwatch_watcher_info)",
        'sum by (connection) (label_replace(syncwatch_degraded, "connection", "$1", "name", "(.+)"))',
        'sum by (kind) (label_join(syncwatch_connection_up, "kind", "-", "job", "connection"))',
        'sum by (version) (count_values("version", syncwatch_connection_up))',
        'sum by (version) (count_values without (job) ("version", syncwatch_connection_up))',
        "sum by (conection) (my_metric * on (job, instance) group_left (conection) syncwatch_build_info)",
        "max without (component, name) (syncwatch_connection_up)",
        'syncwatch_degraded{reason=~"(events|watcher)_(lost|dead)"}',
        'syncwatch_degraded{reason=~"(?i)BEHIND",reason!="",component=~"connection|"}',
        'syncwatch_connection_state{state=~"$state"} or syncwatch_connection_state{state="{{ .Values.state }}"}',
        '{__name__=~".*_up"} or {__name__!="syncwatch_connection_upp",name="x"} or {job="x"} or {__name__="mine",conection="a"}',
        '{__name__=~"syncwatch_(connection|watcher)_up",watcher="x"}',
        '{"syncwatch_connection_up",connection="a"}',
        'syncwatch_connection_up{connection="a\\"},b{"}',
        "on_call_total or by or sum(without)",
        'syncwatch_team:lost:rate5m{conection="a"} or sum by (conection) (syncwatch_team:lost:rate5m)',
        '{__name__=~"syncwatch_team:.+",conection="a"} or {__name__=~"(?:syncwatch_team:lost|syncwatch_connection_up)"}',
        '{"connection"="x"} or {"my.metric","connection"!="x"} or {"syncwatch_connection_up",connection="a"} or syncwatch_connection_up{"connection"=~"x","team.name"="y",}',
        'sum by ("connection", "team.name") (syncwatch_connection_up)',
    ],
)
def test_what_is_right_or_not_ours_passes(expression: str) -> None:
    """Labels of targets, patterns, comments, strings, labels that are made, templates and other people's metrics are nothing to judge."""
    assert [] == misunderstood(expression)


@pytest.mark.parametrize(
    "expression",
    [
        'syncwatch_sli{conection="a"} < 1',
        "sum by (conection) (syncwatch_sli)",
        '{"syncwatch_sli"} or {__name__="syncwatch_sli",conection="a"}',
        '{__name__=~"syncwatch_(sli|connection_up)",conection="a"}',
        '{__name__=~"syncwatch_sl.+"}',
        'syncwatch_connection_state{state="opened"}',
    ],
)
def test_what_rules_record_is_theirs(expression: str) -> None:
    """Its labels and words too, and what they record under a name of ours; without the rules each is asked in vain."""
    assert [] == misunderstood(expression, {"syncwatch_sli", "syncwatch_connection_state"})
    assert [] != misunderstood(expression)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sum(rate(syncwatch_frames_received_total[5m])", ") is missing"),
        ("up{job=syncwatch}", 'the matchers of up are label="value" with = != =~ or !~, separated by commas'),
        ("{job=syncwatch}", 'the matchers of a selector are label="value" with = != =~ or !~, separated by commas'),
        ('up{job="a" instance="b"}', "a comma is missing between the matchers of up"),
        ('up{job="a}', 'a string begins with " and does not end'),
        ("up) > 1", ") closes nothing that is open"),
        ("up(]", "] closes nothing that is open"),
    ],
)
def test_what_cannot_be_read(expression: str, said: str) -> None:
    """Raised, with a sentence."""
    for read in (misunderstood, selectors):
        with pytest.raises(UnreadableError) as raised:
            read(expression)
        assert said == str(raised.value)


def test_no_metric_has_a_label_of_targets() -> None:
    """Otherwise a typing error in it would go unseen."""
    assert set() == {label for labels in EXPORTED.values() for label in labels} & OF_TARGETS
