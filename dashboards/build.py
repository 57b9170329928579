"""Writes the dashboards' JSON and the rules, or says whether the committed files still are what the Python says.

python -m dashboards.build            write
python -m dashboards.build --check    write nothing; exit 1 when a file differs, is missing or is left over
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dashboards.alerting import inhibitions_file, rules_file
from dashboards.board import encoded
from dashboards.connection import connection_dashboard
from dashboards.fleet import fleet_dashboard

DIRECTORY = Path(__file__).parent
GENERATED = ("json/*.json", "rules/*.yaml")
"""Nothing but what is generated has such a name; the rules' cases are a folder below."""


def files() -> Mapping[str, bytes]:
    """Every file by its name below this folder."""
    boards = (connection_dashboard(), fleet_dashboard())
    rules = {"rules/alertmanager.yaml": inhibitions_file(), "rules/syncwatch.rules.yaml": rules_file()}
    return {f"json/{built.uid}.json": encoded(built) for built in boards} | rules


def write(directory: Path) -> list[str]:
    """Make `directory` hold exactly these files; returns the names of files written or removed.

    Raises: OSError when it cannot.
    """
    wanted, changed = files(), drift(directory)
    for name in changed:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in wanted:
            path.write_bytes(wanted[name])
        else:
            path.unlink()
    return changed


def drift(directory: Path) -> list[str]:
    """Names of files that differ from the Python, are missing, or belong to nothing."""
    paths = (path for pattern in GENERATED for path in directory.glob(pattern))
    found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
    wanted = files()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description="Write the dashboards' JSON and the rules.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on any difference")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.check:
        for name in write(options.directory):
            print(f"{options.directory / name}: updated")
        return 0
    different = drift(options.directory)
    for name in different:
        print(f"{options.directory / name}: not what the Python says; run: python -m dashboards.build", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
