"""A dashboard around its panels: variables, head, layout on the 24-column grid, and its bytes.

What belongs here: what every dashboard of the project has in common.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from dashboards.panels import DATA_SOURCE, AnyPanel, Link, head_link
from dashboards.sdk import JSONEncoder, dashboard, dashboard_model

COLUMNS = 24


class Tile(NamedTuple):
    """A panel and the columns it takes."""

    columns: int
    panel: AnyPanel


class Line(NamedTuple):
    """Tiles side by side; a unit of height is 38 pixels at any width."""

    height: int
    tiles: tuple[Tile, ...]


class Section(NamedTuple):
    """Lines under one heading. A folded section asks nothing until somebody opens it."""

    title: str
    lines: tuple[Line, ...]
    folded: bool = False


class Mark(NamedTuple):
    """Vertical lines in all panels where an expression has something; `text` and `heading` may name labels."""

    title: str
    color: str
    expression: str
    text: str
    heading: str = ""
    """Of each line, if it is not the title."""


class Head(NamedTuple):
    """What the dashboard says about itself. `uid` is part of users' links: it never changes."""

    uid: str
    title: str
    description: str
    links: tuple[Link, ...] = ()


def board(
    head: Head, variables: Sequence[dashboard.QueryVariable], sections: Sequence[Section], marks: Sequence[Mark] = ()
) -> dashboard_model.Dashboard:
    """A complete dashboard. `variables` come after data source, job and instance.

    Raises: ValueError where a line's tiles do not fill the grid.
    """
    built = dashboard.Dashboard(head.title).uid(head.uid).description(head.description).tags(["syncwatch"]).readonly()
    built.timezone("browser").time("now-1h", "now").refresh("30s").tooltip(
        dashboard_model.DashboardCursorSync.CROSSHAIR
    )
    built.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for variable in (*_targets(), *variables):
        built.with_variable(variable)
    for link in head.links:
        built.link(head_link(link))
    for mark in marks:
        built.annotation(_annotation(mark))
    _place(built, sections)
    return built.build()


def chosen(name: str, label: str, metric: str, tag: str) -> dashboard.QueryVariable:
    """A variable over the values of `tag`, found again when the time range changes; any number of them, at first all."""
    definition = f"label_values({metric}, {tag})"
    everything = dashboard_model.VariableOption(selected=True, text=["All"], value=["$__all"])
    built = dashboard.QueryVariable(name).label(label).datasource(DATA_SOURCE).query(definition).definition(definition)
    built.refresh(dashboard_model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        dashboard_model.VariableSort.ALPHABETICAL_ASC
    )
    return built.multi(True).include_all(True).all_value(".+").current(everything)


def encoded(built: dashboard_model.Dashboard) -> bytes:
    """The bytes that are committed: the same for the same dashboard, on every machine."""
    return json.dumps(built, cls=JSONEncoder, indent=2, ensure_ascii=False).encode() + b"\n"


def _annotation(mark: Mark) -> dashboard.AnnotationQuery:
    built = dashboard.AnnotationQuery().name(mark.title).datasource(DATA_SOURCE).enable(True).icon_color(mark.color)
    return built.expr(mark.expression).title_format(mark.heading or mark.title).text_format(mark.text)


def _targets() -> tuple[dashboard.QueryVariable, ...]:
    info = "syncwatch_build_info"
    return (
        chosen("job", "Job", info, "job"),
        chosen("instance", "Instance", f'{info}{{job=~"$job"}}', "instance"),
    )


def _place(built: dashboard.Dashboard, sections: Sequence[Section]) -> None:
    """Sections below each other, panels numbered in reading order, so that a link to a panel keeps its meaning."""
    top, last_id = 0, 0
    for section in sections:
        last_id += 1
        row = dashboard.Row(section.title).id(last_id).collapsed(section.folded)
        row.grid_pos(dashboard_model.GridPos(x=0, y=top, w=COLUMNS, h=1))
        panels = _positioned(section, top + 1, last_id)
        _add(built, row, panels, section.folded)
        last_id += len(panels)
        top += 1 if section.folded else 1 + sum(line.height for line in section.lines)


def _positioned(section: Section, top: int, last_id: int) -> list[AnyPanel]:
    panels: list[AnyPanel] = []
    for line in section.lines:
        if sum(tile.columns for tile in line.tiles) != COLUMNS:
            raise ValueError(f"a line of {section.title!r} does not fill {COLUMNS} columns")
        left = 0
        for tile in line.tiles:
            position = dashboard_model.GridPos(x=left, y=top, w=tile.columns, h=line.height)
            panels.append(tile.panel.id(last_id + len(panels) + 1).grid_pos(position))
            left += tile.columns
        top += line.height
    return panels


def _add(built: dashboard.Dashboard, row: dashboard.Row, panels: Sequence[AnyPanel], folded: bool) -> None:
    """Grafana keeps a folded row's panels inside it and an open row's beside it."""
    if folded:
        for panel in panels:
            row.with_panel(panel)
    built.with_row(row)
    if not folded:
        for panel in panels:
            built.with_panel(panel)
