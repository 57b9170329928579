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


def test_the_pod_shown_probes_healthz_and_nothing_else() -> None:
    """Startup and liveness ask /healthz on the port that is listened on; there is no readinessProbe."""
    (shown,) = [block for block in _blocks("yaml") if "initContainers:" in block]
    (container,) = yaml.safe_load(shown)["initContainers"]
    assert "/healthz" == container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"]
    assert 10119 == container["ports"][0]["containerPort"]
    assert "readinessProbe" not in container


def test_every_command_shown_exists() -> None:
    """Commands in the tables answer --help."""
    named = {name.replace("FILE", "").replace("TOKEN", "").split("[")[0].strip() for name in re.findall(r"^\| `syncwatch ([^`]+)`", README, re.MULTILINE)}
    assert named == {"run", "demo", "status", "gate", "check config", "relay", "tps join"}
    for name in named:
        assert 0 == CliRunner().invoke(main, [*name.split(), "--help"]).exit_code


def test_every_link_leads_somewhere() -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
