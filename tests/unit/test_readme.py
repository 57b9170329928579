"""README.md and the generated documentation: what they show is what there is."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from docs.build import files
from syncwatch.cli import main
from syncwatch.config import parse
from syncwatch.core.states import TRANSITIONS, State, diagram
from syncwatch.version import __version__

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_generated_documents_are_up_to_date() -> None:
    """The metric reference and the README's diagram are what the generators write."""
    assert {path.name: text for path, text in files().items()} == {path.name: path.read_text() for path in files()}


def test_the_diagram_shows_every_edge() -> None:
    """Each transition of the table is in the diagram; those to `closed` in one note."""
    text = diagram()
    for state, row in TRANSITIONS.items():
        for target in row:
            shown = f"{state} --> {target}:" if target is not State.CLOSED else f"stop, from {State.IDLE}"
            assert shown in text


def test_the_configuration_shown_is_valid() -> None:
    """The README's configuration loads as it stands."""
    (shown,) = [block for block in _blocks("yaml") if "connections:" in block]
    assert "cast" == parse(shown, "README.md", {}).connections[0].name


def test_the_kustomization_shown_leads_to_the_sidecar_of_this_version() -> None:
    """Its component is in this repository, tagged as this version will be; what it does to a pod, the tests of deploy/ hold."""
    (shown,) = [yaml.safe_load(block) for block in _blocks("yaml") if "components:" in block]
    (component,) = shown["components"]
    path, _, tag = component.split("//", 2)[2].partition("?")
    assert (ROOT / path / "kustomization.yaml").is_file()
    assert f"ref=v{__version__}" == tag
    assert ["syncwatch-config"] == [one["name"] for one in shown["configMapGenerator"]]


def test_what_is_typed_after_make_run_is_where_make_run_put_it() -> None:
    """No path has the command then; and what is installed is this version."""
    shown = README.partition("## Install")[0]
    assert [".venv/bin/"] == re.findall(r"`([^`\s]*)syncwatch status", shown)
    install = README.partition("## Install")[2].partition("\n## ")[0]
    assert {__version__} == set(re.findall(r"(?:@v|syncwatch:)(\d[\d.]*\d)", install))


def test_every_command_shown_exists() -> None:
    """Commands in the tables answer --help."""
    named = {re.split(r"[\[]| [a-z]+\\\|", re.sub("FILE|TOKEN|DIR", "", name))[0].strip() for name in re.findall(r"^\| `syncwatch ([^`]+)`", README, re.MULTILINE)}
    assert named == {"run", "demo", "status", "gate", "check config", "check rules", "export", "relay", "tps join"}
    for name in named:
        assert 0 == CliRunner().invoke(main, [*name.split(), "--help"]).exit_code


def test_every_link_leads_somewhere() -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
