"""Committed files that are what some Python says: write them, or say which are not.

What belongs here: the comparison and the command, the same for every module that writes files. What stands in them is those modules' business.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Generated(NamedTuple):
    """The files of one module."""

    module: str
    """As `python -m` wants it."""
    what: str
    """For the help."""
    directory: Path
    patterns: Sequence[str]
    """Nothing but what is generated has such a name."""
    files: Callable[[], Mapping[str, bytes]]
    """Every file by its name below the directory."""

    def drift(self, directory: Path) -> list[str]:
        """Names of files that differ from the Python, are missing, or belong to nothing."""
        paths = {path for pattern in self.patterns for path in directory.glob(pattern)}
        found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}
        wanted = self.files()
        return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))

    def write(self, directory: Path) -> list[str]:
        """Make `directory` hold exactly these files; returns the names of files written or removed. Raises: OSError when it cannot."""
        wanted, changed = self.files(), self.drift(directory)
        for name in changed:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in wanted:
                path.write_bytes(wanted[name])
            else:
                path.unlink()
        return changed

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """The command; returns its exit code."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.what)
        parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on any difference")
        parser.add_argument("--directory", type=Path, default=self.directory, help="default: %(default)s")
        options = parser.parse_args(arguments)
        if not options.check:
            for name in self.write(options.directory):
                print(f"{options.directory / name}: updated")
            return 0
        different = self.drift(options.directory)
        for name in different:
            print(f"{options.directory / name}: not what the Python says; run: python -m {self.module}", file=sys.stderr)
        return 1 if different else 0
