"""Two real roots and the work between them, and places that need another user or a file system of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncwatch.core.effects import Compare
from syncwatch.core.mirror import Report
from syncwatch.core.mirror_rules import Side
from syncwatch.runtime.mirroring import Pair, PairSettings
from tests.requires import require

ROOT = Path(__file__).parents[2]
NOBODY = 65534
OLD_NS = 1_700_000_000 * 10**9


class Scene:
    """A mount, a project and what keeps them in step (or, with `acts=False`, only compares them)."""

    def __init__(self, folder: Path, acts: bool = True, **more: Any) -> None:
        self.mount, self.project = folder / "mount", folder / "project"
        for root in (self.mount, self.project):
            root.mkdir(exist_ok=True)
        self.steps: list[str] = []
        self.on_step: Callable[[str], None] = lambda _: None
        self.settings = PairSettings("m", str(self.mount), str(self.project), acts=acts, **more)
        self.pair = Pair(self.settings, step=self._step)

    def _step(self, what: str) -> None:
        self.steps.append(what)
        self.on_step(what)

    def compare(self, *paths: str) -> Report:
        """Everything, or only these paths."""
        return self.pair.compare(Compare(0, paths or None))

    def root(self, side: Side) -> Path:
        """Where a side is."""
        return self.mount if side is Side.MOUNT else self.project

    def files(self, side: Side) -> dict[str, bytes]:
        """Every regular file of a side but our own."""
        root = self.root(side)
        found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and not path.is_symlink()}
        return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".syncwatch/")}


def old(path: Path, data: bytes = b"old") -> Path:
    """A file that nobody has written for long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


def apart(script: str, *arguments: str, own_mounts: bool = False) -> Any:
    """What a script of its own process prints as JSON. `own_mounts`: may mount what it likes, which nobody else sees."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    if own_mounts:
        command = [require("unshare"), "--map-root-user", "--mount", *command]
        probe = subprocess.run([*command[:3], "true"], capture_output=True)
        if probe.returncode:
            words = f"no mounts of one's own here: {probe.stderr.decode().strip()}"
            if os.environ.get("SYNCWATCH_REQUIRE_ALL") == "1":
                pytest.fail(words)
            pytest.skip(words)
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=60)
    assert 0 == done.returncode, done.stderr.decode()
    return json.loads(done.stdout)
