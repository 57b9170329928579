"""syncwatch export: what ships is written out as it is, and nobody's work is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from syncwatch.cli import main
from syncwatch.export import PLACES, OccupiedError, export, files
from tests.expressions import BOARDS, ROOT, RULES

DEPLOY = ROOT / "deploy"
KINDS = {
    "dashboards": {path.name: path.read_bytes() for path in BOARDS.glob("*.json")},
    "k8s": {
        path.relative_to(DEPLOY).as_posix(): path.read_bytes()
        for folder in ("base", "component", "component-pre-1.29", "examples", "readiness", "readiness-pre-1.29")
        for path in (DEPLOY / folder).rglob("*")
        if path.is_file()
    },
    "rules": {name: RULES.with_name(name).read_bytes() for name in ("alertmanager.yaml", "syncwatch.rules.yaml")},
}


def run(*arguments: object) -> Result:
    """The command."""
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_is_committed(tmp_path: Path, kind: str) -> None:
    """Byte by byte, into a folder that is made; each file is named."""
    folder = tmp_path / "a" / "b"
    done = run(kind, folder)
    assert (0, [str(folder / name) for name in sorted(KINDS[kind])]) == (done.exit_code, done.output.splitlines())
    assert KINDS[kind] == {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_time_changes_nothing(tmp_path: Path) -> None:
    """And says so; a file that is missing is written again."""
    export("rules", tmp_path)
    done = run("rules", tmp_path)
    assert (0, f"{tmp_path}: up to date\n") == (done.exit_code, done.output)
    (tmp_path / "alertmanager.yaml").unlink()
    assert [tmp_path / "alertmanager.yaml"] == export("rules", tmp_path)


def test_nobodys_work_is_overwritten(tmp_path: Path) -> None:
    """A file that says something else stops everything, by name, until it is forced."""
    mine = tmp_path / "syncwatch.rules.yaml"
    mine.write_text("mine")
    done = run("rules", tmp_path)
    assert 2 == done.exit_code
    assert f"{mine}: is there and says something else\nsyncwatch export: nothing was written; --force replaces them\n" == done.stderr
    assert [mine] == list(tmp_path.iterdir())
    with pytest.raises(OccupiedError, match=r"syncwatch\.rules\.yaml"):
        export("rules", tmp_path)
    assert 0 == run("rules", tmp_path, "--force").exit_code
    assert KINDS["rules"] == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    """A path below a file is no folder."""
    (tmp_path / "file").write_text("")
    done = run("rules", tmp_path / "file" / "below")
    assert 2 == done.exit_code
    assert done.stderr.startswith("syncwatch export: ")
    assert "Not a directory" in done.stderr


def test_an_installation_without_them_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty folder."""
    monkeypatch.setitem(PLACES, "rules", PLACES["rules"]._replace(folder="nowhere"))
    with pytest.raises(FileNotFoundError, match="this installation has no rules"):
        files("rules")
    done = run("rules", tmp_path)
    assert (2, "syncwatch export: rules: this installation has no rules\n") == (done.exit_code, done.stderr)


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    """With those that there are."""
    done = run("everything", tmp_path)
    assert 2 == done.exit_code
    assert "dashboards" in done.stderr
