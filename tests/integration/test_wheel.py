"""A wheel, as it is installed: what `syncwatch export` and `check rules` need is inside, and it needs no checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.expressions import ROOT, RULES
from tests.unit.test_export import KINDS


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a fresh wheel, somewhere else."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def syncwatch(site: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program of that wheel: its folder comes first, and the working directory is not the checkout."""
    program = f"import sys; sys.path.insert(0, {str(site)!r}); import syncwatch.__main__ as m; assert m.__file__.startswith({str(site)!r}), m.__file__; sys.argv[0] = 'syncwatch'; m.main()"
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], cwd=site, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_wheel_exports(installed: Path, tmp_path: Path, kind: str) -> None:
    """The same bytes as in the checkout."""
    done = syncwatch(installed, "export", kind, tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    assert KINDS[kind] == {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_it_exports_it_accepts(installed: Path, tmp_path: Path) -> None:
    """Its own rules, checked by itself."""
    syncwatch(installed, "export", "rules", tmp_path)
    done = syncwatch(installed, "check", "rules", tmp_path / "syncwatch.rules.yaml")
    assert 0 == done.returncode, done.stderr
    count = sum(line.lstrip(" -").startswith(("alert:", "record:")) for line in RULES.read_text(encoding="utf-8").splitlines())
    assert count > 20
    assert f"ok, {count} rules" in done.stdout
