"""Writes what is generated in the documentation: the metric reference, the state diagram inside README.md, the table of faults inside relay.md.

`python -m docs.build` writes, `--check` fails when something on disk differs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docs.faults import table
from syncwatch.core.states import diagram
from syncwatch.exposition.reference import reference

ROOT = Path(__file__).resolve().parent.parent
DIAGRAM = re.compile(r"(<!-- states: generated -->\n```mermaid\n).*?(```\n)", re.DOTALL)
FAULTS = re.compile(r"(<!-- fields: generated -->\n).*?(?=\n(?!\|))", re.DOTALL)


def files() -> dict[Path, str]:
    """Every generated file and its text. Raises ValueError if a page has lost its place for what is generated."""
    readme, relay = ROOT / "README.md", ROOT / "docs" / "relay.md"
    text, found = DIAGRAM.subn(lambda match: match[1] + diagram() + match[2], readme.read_text())
    if found != 1:
        raise ValueError("README.md has no place for the state diagram")
    faults, found = FAULTS.subn(lambda match: match[1] + table(), relay.read_text())
    if found != 1:
        raise ValueError("docs/relay.md has no place for the fields of faults")
    return {ROOT / "docs" / "metrics.md": reference(), readme: text, relay: faults}


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit code."""
    check = arguments == ["--check"]
    if arguments and not check:
        print("usage: python -m docs.build [--check]", file=sys.stderr)
        return 2
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: make generate", file=sys.stderr)
        else:
            path.write_text(files()[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
