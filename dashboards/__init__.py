"""Grafana dashboards, alert rules and the Python that writes the dashboards' JSON.

Nothing here runs in the sidecar. `python -m dashboards.build` writes `json/`; `rules/` is written by hand and proven by promtool.
"""
