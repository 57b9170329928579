"""tests/requires.py: a missing program skips, and fails where nothing may be skipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.requires import require

TESTS = Path(__file__).parents[1]

COMES_WITH = {
    "prometheus": "promtool",
    "amtool": "prometheus-alertmanager",
    "hadolint": "make tools",
    "kubectl": "make tools",
    "kubernetes-validate": "make tools",
    "unshare": "every Debian",
}
"""Programs that .ci/run does not look for, and what brings them."""


def test_a_program_that_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its path, found on PATH."""
    program = tmp_path / "tool"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(program) == require("tool")


def test_a_program_beside_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Comes before the one on PATH: its version is pinned."""
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        folder.mkdir()
        (folder / "tool").touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(own / "python"))
    monkeypatch.setenv("PATH", str(other))
    assert str(own / "tool") == require("tool")


def test_a_missing_program_skips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a developer's machine."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SYNCWATCH_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match="tool is not installed"):
        require("tool")


def test_a_missing_program_fails_where_nothing_may_be_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In CI, where everything is installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SYNCWATCH_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="tool is not installed"):
        require("tool")


def test_what_tests_need_is_installed_where_nothing_may_be_skipped() -> None:
    """Each program that a test asks for is looked for by .ci/run, and installed where it is missing; or comes with something that is."""
    folders = (path for path in TESTS.rglob("*.py") if "node_modules" not in path.parts and path != Path(__file__))
    texts = [path.read_text(encoding="utf-8") for path in folders]
    asked = {program for text in texts for program in re.findall(r'(?:require|needs)\("([\w-]+)"\)', text)}
    looked_for = set(re.findall(r"^command -v (\S+)", (TESTS.parent / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"promtool", "chromium", "git"} <= asked
    assert set() == asked - looked_for - set(COMES_WITH)
    assert set(COMES_WITH) <= asked, "one that nobody asks for any more"
    assert {"make", *COMES_WITH.values()} - {"make tools", "every Debian"} <= looked_for
