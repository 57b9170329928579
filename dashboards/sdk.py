"""The door to grafana-foundation-sdk: the only module that imports it. Nothing else belongs here.

The SDK warns at import that it prefers v2 dashboards. Classic ones are what every Grafana in use can import, so that warning,
and no other, is silenced here, before tests that treat warnings as errors see it.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        heatmap,
        prometheus,
        stat,
        statetimeline,
        table,
        timeseries,
    )
    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models import common as common_model
    from grafana_foundation_sdk.models import dashboard as dashboard_model
    from grafana_foundation_sdk.models import heatmap as heatmap_model
    from grafana_foundation_sdk.models import prometheus as prometheus_model

__all__ = [
    "Builder",
    "JSONEncoder",
    "common",
    "common_model",
    "dashboard",
    "dashboard_model",
    "heatmap",
    "heatmap_model",
    "prometheus",
    "prometheus_model",
    "register_default_plugins",
    "stat",
    "statetimeline",
    "table",
    "timeseries",
]
