"""Writes the dashboards' JSON and the rules, or says whether the committed files still are what the Python says.

python -m dashboards.build            write
python -m dashboards.build --check    write nothing; exit 1 when a file differs, is missing or is left over
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from dashboards.alerting import inhibitions_file, rules_file
from dashboards.board import encoded
from dashboards.connection import connection_dashboard
from dashboards.fleet import fleet_dashboard
from dashboards.generated import Generated

DIRECTORY = Path(__file__).parent
GENERATED = ("json/*.json", "rules/*.yaml")
"""Nothing but what is generated has such a name; the rules' cases are a folder below."""


def files() -> Mapping[str, bytes]:
    """Every file by its name below this folder."""
    boards = (connection_dashboard(), fleet_dashboard())
    rules = {"rules/alertmanager.yaml": inhibitions_file(), "rules/syncwatch.rules.yaml": rules_file()}
    return {f"json/{built.uid}.json": encoded(built) for built in boards} | rules


BUILD = Generated("dashboards.build", "Write the dashboards' JSON and the rules.", DIRECTORY, GENERATED, files)
drift, write, main = BUILD.drift, BUILD.write, BUILD.main

if __name__ == "__main__":
    sys.exit(main())
