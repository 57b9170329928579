"""Writes the dashboards' JSON, or says whether the committed files still are what the Python says.

python -m dashboards.build            write
python -m dashboards.build --check    write nothing; exit 1 when a file differs, is missing or is left over
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dashboards.board import encoded
from dashboards.connection import connection_dashboard

DIRECTORY = Path(__file__).parent / "json"


def files() -> Mapping[str, bytes]:
    """Every dashboard's file name and bytes."""
    return {f"{built.uid}.json": encoded(built) for built in (connection_dashboard(),)}


def write(directory: Path) -> list[str]:
    """Make `directory` hold exactly the dashboards; returns the names of files written or removed.

    Raises: OSError when it cannot.
    """
    wanted, changed = files(), drift(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in wanted:
            (directory / name).write_bytes(wanted[name])
        else:
            (directory / name).unlink()
    return changed


def drift(directory: Path) -> list[str]:
    """Names of files that differ from the Python, are missing, or belong to no dashboard."""
    found = {path.name: path.read_bytes() for path in directory.glob("*.json")}
    wanted = files()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description="Write the dashboards' JSON.")
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
