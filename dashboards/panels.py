"""Panels with the project's conventions applied: every panel has title, description, unit and the templated data source.

What belongs here: how a panel looks. What it asks, and why, stands with its dashboard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from dashboards.sdk import (
    Builder,
    common,
    common_model,
    dashboard,
    dashboard_model,
    heatmap,
    heatmap_model,
    prometheus,
    prometheus_model,
    stat,
    statetimeline,
    table,
    timeseries,
)

DATA_SOURCE = common_model.DataSourceRef(type_val="prometheus", uid="$datasource")

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e"

AnyPanel = timeseries.Panel | stat.Panel | statetimeline.Panel | heatmap.Panel | table.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, statetimeline.Panel, heatmap.Panel, table.Panel)

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from this value on, this colour; the first begins at None, minus infinity."""

Names = Mapping[int, tuple[str, str]]
"""What a value is called and which colour it has."""


class Query(NamedTuple):
    """One query. `legend` names each series of a graph; tables show labels as columns and need none."""

    expression: str
    legend: str = ""


class Link(NamedTuple):
    """A link at a panel's or the dashboard's head."""

    title: str
    url: str


class About(NamedTuple):
    """What every panel says about itself. `unit` is Grafana's name of it."""

    title: str
    description: str
    unit: str
    link: Link | None = None


def graph(
    about: About,
    *queries: Query,
    stacked: bool = False,
    bars: bool = False,
    limit: Steps = (),
    top: float | None = None,
    signed: bool = False,
    absent: str = "",
) -> timeseries.Panel:
    """Lines over time from 0 (unless `signed`) to `top`. `stacked` areas add up, `bars` suit what is rare, `limit` draws thresholds.

    `absent`: what to say when there is nothing to draw, where that is no surprise.
    """
    panel = _conventional(timeseries.Panel(), about, [_over_time(query) for query in queries])
    panel.legend(_legend()).tooltip(_tooltip()).line_width(1).fill_opacity(10)
    panel.show_points(common_model.VisibilityMode.AUTO)
    if not signed:
        panel.min(0)
    if absent:
        panel.no_value(absent)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A")).fill_opacity(60)
    if bars:
        panel.draw_style(common_model.GraphDrawStyle.BARS).fill_opacity(80)
    if limit:
        panel.thresholds(_steps(limit))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.DASHED))
    if top is not None:
        panel.max(top)
    return panel


def number(
    about: About,
    query: Query,
    steps: Steps,
    *,
    names: Names | None = None,
    absent: str = "unknown",
    absent_color: str = GREY,
) -> stat.Panel:
    """One big number for the range's end, coloured by `steps` or `names`; `absent` in `absent_color` when there is none.

    It is asked once: the last value in the range would stay on the tile, and green, when whoever reported it is gone. Nothing has the colour of
    the lowest step unless it is given one.
    """
    panel = _conventional(stat.Panel(), about, [_once(query)])
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.color_mode(common_model.BigValueColorMode.BACKGROUND).graph_mode(common_model.BigValueGraphMode.NONE)
    panel.text_mode(common_model.BigValueTextMode.VALUE).justify_mode(common_model.BigValueJustifyMode.CENTER)
    panel.thresholds(_steps(steps)).no_value(absent)
    panel.mappings([*([] if names is None else [_value_map(names)]), _when_absent(absent, absent_color)])
    return panel


def lanes(about: About, *queries: Query, names: Names, absent: str = "") -> statetimeline.Panel:
    """One lane per series over time, each value with its name and colour; `absent` as for `graph`."""
    panel = _conventional(statetimeline.Panel(), about, [_over_time(query) for query in queries])
    panel.mappings([_value_map(names)]).merge_values(True).row_height(0.8).line_width(0).fill_opacity(85)
    panel.show_value(common_model.VisibilityMode.AUTO).legend(_legend()).tooltip(_tooltip())
    if absent:
        panel.no_value(absent)
    return panel


def buckets(about: About, query: Query) -> heatmap.Panel:
    """A classic histogram over time: `about.unit` is the y axis's, the cells count."""
    target = _over_time(query._replace(legend="{{le}}")).format(prometheus_model.PromQueryFormat.HEATMAP)
    panel = _conventional(heatmap.Panel(), about, [target])
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(about.unit)).cell_values(
        heatmap.CellValues().unit("short")
    )
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).hide_legend()
    scheme = heatmap.HeatmapColorOptions().mode(heatmap_model.HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    panel.color(scheme.scale(heatmap_model.HeatmapColorScale.EXPONENTIAL).exponent(0.5))
    panel.tooltip(heatmap.HeatmapTooltip().mode(common_model.TooltipDisplayMode.SINGLE))
    return panel


def rows(
    about: About,
    *queries: Query,
    transformations: Sequence[tuple[str, Mapping[str, object]]] = (),
    column_links: Mapping[str, Link] | None = None,
    column_units: Mapping[str, str] | None = None,
    absent: str = "",
) -> table.Panel:
    """Values at the range's end as a table. `column_links`: where a column's cells lead. `column_units`: where it is not the panel's. `absent` as for `graph`."""
    targets = [_once(query).format(prometheus_model.PromQueryFormat.TABLE) for query in queries]
    panel = _conventional(table.Panel(), about, targets)
    panel.show_header(True).cell_height(common_model.TableCellHeight.SM)
    if absent:
        panel.no_value(absent)
    for transformation, options in transformations:
        panel.with_transformation(dashboard_model.DataTransformerConfig(id_val=transformation, options=dict(options)))
    for column, link in (column_links or {}).items():
        cells = [{"title": link.title, "url": link.url, "targetBlank": True}]
        panel.override_by_name(column, [dashboard_model.DynamicConfigValue(id_val="links", value=cells)])
    for column, unit in (column_units or {}).items():
        panel.override_by_name(column, [dashboard_model.DynamicConfigValue(id_val="unit", value=unit)])
    return panel


def head_link(link: Link) -> dashboard.DashboardLink:
    """A link: to another dashboard with the same time and choices, to anything else in a tab of its own."""
    built = dashboard.DashboardLink(link.title).type(dashboard_model.DashboardLinkType.LINK)
    if link.url.startswith("/d/"):
        return built.url(link.url).icon("dashboard").tooltip(link.title).keep_time(True).include_vars(True)
    return built.url(link.url).icon("doc").tooltip(link.title).target_blank(True)


def _conventional(panel: P, about: About, targets: Sequence[prometheus.Dataquery]) -> P:
    for place, target in enumerate(targets):
        panel.with_target(target.ref_id(chr(ord("A") + place)))
    panel.datasource(DATA_SOURCE).title(about.title).description(about.description).unit(about.unit)
    if about.link is not None:
        panel.links([head_link(about.link)])
    return panel


def _query(query: Query) -> prometheus.Dataquery:
    built = prometheus.Dataquery().datasource(DATA_SOURCE).expr(query.expression)
    built.editor_mode(prometheus_model.QueryEditorMode.CODE)
    return built.legend_format(query.legend) if query.legend else built


def _over_time(query: Query) -> prometheus.Dataquery:
    return _query(query).range()


def _once(query: Query) -> prometheus.Dataquery:
    return _query(query).instant()


def _steps(steps: Steps) -> Builder[dashboard_model.ThresholdsConfig]:
    built = [dashboard_model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(dashboard_model.ThresholdsMode.ABSOLUTE).steps(built)


def _value_map(names: Names) -> dashboard_model.ValueMap:
    results = {
        str(value): dashboard_model.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return dashboard_model.ValueMap(options=results)


def _when_absent(text: str, color: str) -> dashboard_model.SpecialValueMap:
    result = dashboard_model.ValueMappingResult(text=text, color=color, index=0)
    match = dashboard_model.SpecialValueMatch.NULL_AND_NAN
    return dashboard_model.SpecialValueMap(options=dashboard_model.DashboardSpecialValueMapOptions(match=match, result=result))


def _legend() -> common.VizLegendOptions:
    built = common.VizLegendOptions().show_legend(True).display_mode(common_model.LegendDisplayMode.LIST)
    return built.placement(common_model.LegendPlacement.BOTTOM)


def _tooltip() -> common.VizTooltipOptions:
    return (
        common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI).sort(common_model.SortOrder.DESCENDING)
    )
