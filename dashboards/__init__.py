"""Grafana dashboards, alert rules and the Python that writes both.

Nothing here runs in the sidecar. `python -m dashboards.build` writes `json/` and `rules/`; the cases in `rules/tests/` are written by hand, for promtool.
"""
