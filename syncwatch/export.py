"""What ships in the package beside the program: dashboards, rules, Kubernetes files. Where they are, and writing them out.

In a wheel they are inside the package, in a checkout where they are made. Nothing here knows what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent


class Place(NamedTuple):
    """Where something is in a checkout, and which files of it are for users."""

    folder: str
    patterns: Sequence[str]


PLACES: Mapping[str, Place] = {
    "dashboards": Place("dashboards/json", ("*.json",)),
    "rules": Place("dashboards/rules", ("*.yaml",)),
    "k8s": Place(
        "deploy", tuple(f"{folder}/**/*" for folder in ("base", "component", "component-pre-1.29", "examples", "readiness", "readiness-pre-1.29"))
    ),
}


class OccupiedError(Exception):
    """Files that are there already and say something else; nothing was written."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(", ".join(map(str, paths)))
        self.paths = paths


def files(kind: str) -> Mapping[str, bytes]:
    """Every file of a kind by its name below the folder that is written. Raises: FileNotFoundError where the installation lacks them."""
    folder = PACKAGE / "shipped" / kind
    if not folder.is_dir():
        folder = PACKAGE.parent / PLACES[kind].folder
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for pattern in PLACES[kind].patterns for path in folder.glob(pattern) if path.is_file()}
    if not found:
        raise FileNotFoundError(f"this installation has no {kind}")
    return dict(sorted(found.items()))


def export(kind: str, directory: Path, *, replace: bool = False) -> Sequence[Path]:
    """Write the files of a kind into a directory, which is made if need be; returns what was written, which leaves out what was there and the same.

    Raises:
        OccupiedError: a file is there and says something else, and `replace` is not set. Nothing was written.
        OSError: it cannot be written.
    """
    wanted = {directory / name: content for name, content in files(kind).items()}
    changed = {path: content for path, content in wanted.items() if not path.exists() or path.read_bytes() != content}
    if not replace and (occupied := [path for path in changed if path.exists()]):
        raise OccupiedError(occupied)
    for path, content in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(changed)
