"""dashboards/: what is committed is what the Python says, keeps the community linter's conventions, and asks for what is exported."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path

import pytest

from dashboards import build
from dashboards.board import COLUMNS, Head, Line, Section, Tile, board, encoded
from dashboards.links import CONNECTION_UID, FLEET_UID, REASONS_URL, RUNBOOKS_URL
from dashboards.panels import GREEN, GREY, RED, About, Query, graph
from dashboards.sdk import dashboard_model, register_default_plugins
from syncwatch.exposition.registry import DEFINITIONS
from tests.expressions import (
    BOARDS,
    RUNBOOKS,
    SERIES,
    Json,
    Selection,
    alerts,
    boards,
    groupings,
    made_labels,
    marks,
    panels,
    plain,
    problems,
    selections,
    targets,
)

BOARD_NAMES = ("syncwatch-connection.json", "syncwatch-fleet.json")
CONNECTION = BOARD_NAMES[0]

NOT_SHOWN = {
    "syncwatch_connection_state_entered_timestamp_seconds": "the timeline shows it",
    "syncwatch_connection_established_timestamp_seconds": "the timeline shows it",
    "syncwatch_last_frame_timestamp_seconds": "its age is shown",
    "syncwatch_last_event_timestamp_seconds": "its age is shown",
    "process_virtual_memory_bytes": "resident memory is what matters",
}
"""Metrics that the dashboard leaves out on purpose, and why."""

UNITS = {"none", "short", "percentunit", "s", "bytes", "Bps", "cps", "cpm"}
"""Grafana's names of the units in use; the linter knows them all."""


def test_the_committed_files_are_what_the_python_says() -> None:
    """No drift in either direction: nothing changed by hand, nothing left over, nothing missing."""
    assert [] == build.drift(build.DIRECTORY)
    written = [f"json/{name}" for name in BOARD_NAMES]
    assert [*written, "rules/alertmanager.yaml", "rules/syncwatch.rules.yaml"] == sorted(build.files())
    assert build.DIRECTORY / "json" == BOARDS


def test_the_bytes_are_the_same_each_time() -> None:
    """Two builds in one process share nothing that counts up."""
    assert build.files() == build.files()


def test_check_finds_changed_missing_and_left_over_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` writes nothing and names each file; writing then cures all three."""
    name = f"json/{BOARD_NAMES[0]}"
    arguments = ["--directory", str(tmp_path)]
    assert 1 == build.main(["--check", *arguments])
    assert [] == list(tmp_path.iterdir())
    assert 0 == build.main(arguments)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    (tmp_path / "json" / "old.json").write_text("{}")
    capsys.readouterr()
    assert 1 == build.main(["--check", *arguments])
    said = capsys.readouterr().err
    assert [f"{tmp_path / 'json' / 'old.json'}", f"{tmp_path / name}"] == [line.split(": ")[0] for line in said.splitlines()]
    assert 0 == build.main(arguments)
    assert 0 == build.main(["--check", *arguments])


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_the_sdk_reads_its_own_bytes_back(name: str) -> None:
    """Decoded into the SDK's types and encoded again, the file is the same: nothing in it is unknown to Grafana's schema."""
    register_default_plugins()
    raw = (BOARDS / name).read_bytes()
    assert raw == encoded(dashboard_model.Dashboard.from_json(json.loads(raw)))


def test_a_line_must_fill_the_grid() -> None:
    """A layout with a hole is a mistake of ours and raises."""
    tile = Tile(COLUMNS - 1, graph(About("title", "description", "s"), Query("up")))
    narrow = Section("section", (Line(8, (tile,)),))
    with pytest.raises(ValueError, match="does not fill 24 columns"):
        board(Head("uid", "title", "description"), [], [narrow])


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_head(name: str) -> None:
    """Found by a stable uid, not editable, of the schema that current Grafana writes, and linked to the runbooks."""
    one = boards()[name]
    assert name == f"{one['uid']}.json"
    assert 42 == one["schemaVersion"]
    assert one["editable"] is False
    assert one["title"].startswith("syncwatch / ")
    assert one["description"]
    other = FLEET_UID if name == CONNECTION else CONNECTION_UID
    assert [f"/d/{other}", RUNBOOKS_URL, REASONS_URL] == [link["url"] for link in one["links"]]
    assert (True, True, False) == tuple(one["links"][0][key] for key in ("includeVars", "keepTime", "targetBlank"))


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_variables(name: str) -> None:
    """Data source, job and instance, and on one dashboard connection, as the linter wants them."""
    source, *queries = boards()[name]["templating"]["list"]
    assert ("datasource", "datasource", "Data source", "prometheus") == (
        source["type"],
        source["name"],
        source["label"],
        source["query"],
    )
    wanted = [("job", "Job"), ("instance", "Instance"), ("connection", "Connection")]
    assert wanted[: 3 if name == CONNECTION else 2] == [(one["name"], one["label"]) for one in queries]
    for one in queries:
        kept = {key: one[key] for key in ("type", "multi", "includeAll", "allValue", "refresh")}
        assert {"type": "query", "multi": True, "includeAll": True, "allValue": ".+", "refresh": 2} == kept
        assert "$datasource" == one["datasource"]["uid"]
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", one["query"])
        assert asked is not None
        assert [] == problems(selections(asked[1])[0])
        assert one["name"] == asked[2]


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_every_panel_says_what_it_is(name: str) -> None:
    """Title, description, unit and data source on each; ids and titles unique; at least one query."""
    all_panels = list(panels(boards()[name]))
    for panel in all_panels:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert {"type": "prometheus", "uid": "$datasource"} == panel["datasource"]
        assert panel["targets"], panel["title"]
        assert len(panel["targets"]) == len({target["refId"] for target in panel["targets"]})
    rows = [panel for panel in boards()[name]["panels"] if panel["type"] == "row"]
    ids = [panel["id"] for panel in chain(rows, all_panels)]
    assert len(ids) == len(set(ids))
    assert len(all_panels) == len({panel["title"] for panel in all_panels})


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_layout(name: str) -> None:
    """Nothing overlaps, lines are full, and no panel is too narrow to be read at 1280 pixels (53 a column)."""
    one = boards()[name]
    assert "Now" == one["panels"][0]["title"]
    open_panels = [panel for panel in one["panels"] if panel["type"] != "row" or not panel["panels"]]
    folded = [panel["panels"] for panel in one["panels"] if panel["type"] == "row" and panel["panels"]]
    for group in (open_panels, *folded):
        cells = [cell for panel in group for cell in _cells(panel)]
        assert len(cells) == len(set(cells))
        assert all(0 <= column < COLUMNS for column, _ in cells)
        for line in {row for _, row in cells}:
            assert COLUMNS == sum(row == line for _, row in cells)
    for panel in panels(one):
        assert panel["gridPos"]["w"] >= (4 if panel["type"] == "stat" else 8), panel["title"]


def _cells(panel: Json) -> list[tuple[int, int]]:
    place = panel["gridPos"]
    return [(place["x"] + right, place["y"] + down) for right in range(place["w"]) for down in range(place["h"])]


def test_every_query_selects_what_the_variables_chose() -> None:
    """Data source, job and instance everywhere; where connections are chosen, connection (or its name) wherever the metric has it.

    The one exception to what the linter wants: alerts. Those that matter most are about no single sidecar and have no such labels.
    """
    for target in targets():
        assert {"type": "prometheus", "uid": "$datasource"} == target.query["datasource"]
        for selection in selections(target.expression):
            of_nobody = "|" if selection.metric.startswith("ALERTS") else ""
            assert (f"$job{of_nobody}", f"$instance{of_nobody}") == (selection.matchers.get("job"), selection.matchers.get("instance"))
            labels = SERIES[selection.metric][0]
            if target.board != CONNECTION:
                assert "$connection" not in target.expression
            elif "connection" in labels:
                assert "$connection" == selection.matchers["connection"]
            elif "name" in labels and selection.matchers["component"] == "connection":
                assert "$connection" == selection.matchers["name"]


def test_every_query_reads_what_is_exported() -> None:
    """Names, labels and fixed label values exist; counters stand in rate or increase, and nothing else does."""
    for target in targets():
        found = [problem for selection in selections(target.expression) for problem in problems(selection)]
        assert [] == found, target.panel["title"]


TILES = {
    "syncwatch-connection.json": ["Socket", "Unverified for", "Last frame", "Last event", "Lost in range", "Healthy in range"],
    "syncwatch-fleet.json": ["Availability", "Connections down", "Sidecars missing", "Events lost", "Connections", "Sidecars"],
}


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_tiles_forget_who_is_gone(name: str) -> None:
    """Each big number is asked once, for the range's end: of a range the last value would stay, green, after the sidecar is gone."""
    tiles = [panel for panel in panels(boards()[name]) if panel["type"] == "stat"]
    assert TILES[name] == [panel["title"] for panel in tiles]
    assert [] == [panel["title"] for panel in tiles for query in panel["targets"] if not query.get("instant") or query.get("range")]


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_nothing_has_no_good_colour(name: str) -> None:
    """Grafana paints a missing value like the lowest step, which is green where low is good: each tile says itself what nothing means."""
    colors = {}
    for panel in (panel for panel in panels(boards()[name]) if panel["type"] == "stat"):
        defaults = panel["fieldConfig"]["defaults"]
        (nothing,) = [one["options"] for one in defaults["mappings"] if one["type"] == "special"]
        assert ("null+nan", defaults["noValue"]) == (nothing["match"], nothing["result"]["text"])
        colors[panel["title"]] = nothing["result"]["color"]
    others = {"Sidecars missing": GREEN, "Sidecars": RED} if name != CONNECTION else {}
    assert dict.fromkeys(TILES[name], GREY) | others == colors


MARKS = {"syncwatch-connection.json": ["Firing alerts", "Counter restarts", "Reconnects"], "syncwatch-fleet.json": ["Firing alerts"]}


@pytest.mark.parametrize("name", BOARD_NAMES)
def test_annotations_mark_alerts_resets_and_reconnects(name: str) -> None:
    """From what is exported, of what was chosen; each says what happened and, on a connection's dashboard, to which connection."""
    found = list(marks(name))
    assert MARKS[name] == [one["name"] for one in found]
    for one in found:
        (selection,) = selections(one["expr"])
        assert [] == problems(selection)
        chosen = ("job", "instance", "connection") if name == CONNECTION else ("job", "instance")
        anybody = "|" if selection.metric == "ALERTS" else ""
        assert [f"${label}{anybody}" for label in chosen] == [selection.matchers[label] for label in chosen]
        assert "$datasource" == one["datasource"]["uid"]
        assert name != CONNECTION or "{{connection}}" in one["textFormat"]
        assert set(re.findall(r"{{(\w+)}}", one["titleFormat"] + one["textFormat"])) <= (groupings(one["expr"]) or SERIES[selection.metric][0])
        assert one["enable"] is True


def test_alerts_lead_to_their_runbooks() -> None:
    """The table of what fires has the page of each, by its name."""
    (panel,) = [one for one in panels(boards()["syncwatch-fleet.json"]) if one["title"] == "Firing alerts"]
    (links,) = [override["properties"][0]["value"] for override in panel["fieldConfig"]["overrides"] if override["matcher"]["options"] == "alertname"]
    assert [f"{RUNBOOKS_URL}/${{__value.raw}}.md"] == [link["url"] for link in links]
    assert all((RUNBOOKS / links[0]["url"].rpartition("/")[2].replace("${__value.raw}", rule["alert"])).exists() for rule in alerts())


def test_tables_lead_to_the_connection() -> None:
    """The worst connections of the fleet, each to its own dashboard, with its job and the same time."""
    (panel,) = [one for one in panels(boards()["syncwatch-fleet.json"]) if one["title"] == "Worst first"]
    links = [value["value"][0]["url"] for override in panel["fieldConfig"]["overrides"] for value in override["properties"] if value["id"] == "links"]
    assert [f"/d/{CONNECTION_UID}?"] == [url[: len(CONNECTION_UID) + 4] for url in links]
    assert {"var-job=${__data.fields.job}", "var-instance=${__data.fields.instance}", "var-connection=${__value.raw}", "${__url_time_range}"} <= set(links[0].partition("?")[2].split("&"))


def test_ranges_follow_the_scrape_interval() -> None:
    """A rate looks over $__rate_interval, a sum for one number or table over the whole shown range."""
    for target in targets():
        ranges = set(re.findall(r"\[(.*?)\]", target.expression))
        assert ranges <= {"$__rate_interval", "$__range"}, target.panel["title"]
        if "$__range" in ranges:
            assert target.query["instant"] is True
        assert not re.search(r"i?rate\([^[]*\[\$__range", target.expression)


def test_legends_name_labels_that_the_query_keeps() -> None:
    """A legend with a label that was aggregated away would be blank."""
    for target in targets():
        named = set(re.findall(r"{{(\w+)}}", target.query.get("legendFormat", "")))
        kept = groupings(target.expression)
        if not kept:
            kept = {"job", "instance"}.union(*(SERIES[one.metric][0] for one in selections(target.expression)))
        assert named <= kept, target.panel["title"]


def test_groupings_keep_labels_that_exist() -> None:
    """A label that no metric of the query has would merge what was meant to be apart."""
    for target in targets():
        labels = made_labels(target.expression).union({"job", "instance"}, *(SERIES[one.metric][0] for one in selections(target.expression)))
        assert groupings(target.expression) <= labels, target.panel["title"]


def test_sidecars_of_two_jobs_are_two() -> None:
    """What is told by instance is told by job too: two jobs may have an instance of the same name."""
    kept = [(target.panel["title"], groupings(target.expression)) for target in targets()]
    assert [] == [title for title, labels in kept if "instance" in labels and "job" not in labels]


def test_what_is_stacked_adds_up() -> None:
    """Counts and shares of one whole; the highest or lowest of several sidecars are no parts of anything."""
    stacked = [target for target in targets() if target.panel["fieldConfig"]["defaults"].get("custom", {}).get("stacking", {}).get("mode") == "normal"]
    assert stacked
    assert [] == [target.panel["title"] for target in stacked if re.search(r"\b(max|min|quantile|avg) by\b", target.expression)]


def measured(expression: str) -> str:
    """What kind of number a query gives: seconds that passed, seconds that are left, how often a minute, or another."""
    if expression.startswith("60 * "):
        return "a minute"
    if expression.endswith("- time()"):
        return "left"
    passed = "time() - " in expression or "histogram_quantile" in expression or re.search(r"_seconds\{", expression) or re.search(r"_sum\{.*_count\{", expression)
    return "passed" if passed else "another"


def test_one_axis_has_one_kind_of_number() -> None:
    """Seconds beside rates have no unit, and five minutes beside a month are no line that could be read."""
    of_unit = {"s": {"passed", "left"}, "cpm": {"a minute"}, "short": {"another"}}
    for name in BOARD_NAMES:
        for panel in (panel for panel in panels(boards()[name]) if panel["type"] == "timeseries"):
            kinds = {measured(query["expr"]) for query in panel["targets"]}
            assert 1 == len(kinds), panel["title"]
            assert kinds <= of_unit.get(panel["fieldConfig"]["defaults"]["unit"], kinds), panel["title"]


def test_what_is_rare_in_a_fleet_is_drawn_where_it_happened() -> None:
    """No line at 0 for each of a thousand connections: bars only where there was something, by server or by reason."""
    bars = [target for target in targets() if target.panel["type"] == "timeseries" and target.panel["fieldConfig"]["defaults"]["custom"].get("drawStyle") == "bars"]
    of_all = [target for target in bars if target.board != CONNECTION and "syncwatch_watcher" not in target.expression and "syncwatch_mirror" not in target.expression]
    drawn = ["Events lost, by upstream", "Claims contradicted, by upstream", "Counter restarts, by upstream", "Disconnects of all", "Failed attempts of all"]
    assert drawn == [target.panel["title"] for target in of_all]
    for target in of_all:
        assert target.expression.endswith(" > 0"), target.panel["title"]
        assert "connection" not in groupings(target.expression), target.panel["title"]
        assert target.panel["fieldConfig"]["defaults"]["noValue"]


def test_causes_are_drawn_where_there_was_one() -> None:
    """What is told apart by why it happened is nothing most of the time: ten lines at 0 for ten reasons would hide the one that counts."""
    by_cause = [target for target in targets() if re.search(r"{{(reason|cause)}}", target.query.get("legendFormat", "")) and target.panel["type"] == "timeseries"]
    assert by_cause
    assert [] == [target.panel["title"] for target in by_cause if not target.expression.endswith(" > 0")]


def test_everything_is_shown_or_left_out_on_purpose() -> None:
    """A new metric does not go unseen."""
    shown = {selection.metric for target in targets() for selection in selections(target.expression)}
    parts = re.compile("_(bucket|sum|count)$")
    shown |= {parts.sub("", metric) for metric in shown if metric not in {one.name for one in DEFINITIONS}}
    missing = {one.name for one in DEFINITIONS} - shown
    assert set(NOT_SHOWN) == missing


def test_the_reader_of_expressions_sees_what_is_there() -> None:
    """The tests above rest on it."""
    (one, two) = selections('sum by (a) (rate(x_total{job=~"$job"}[$__rate_interval])) > y')
    assert Selection("x_total", {"job": "$job"}, "rate", 240.0) == one
    assert Selection("y", {}, "", 0.0) == two
    assert {"a"} == groupings("sum by (a) (x)")
    assert "rate(x[4m])" == plain("rate(x[$__rate_interval])")
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        selections("sum by (")
