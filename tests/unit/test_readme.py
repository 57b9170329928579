"""README.md and the generated documentation: what they show is what there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

from docs.build import files
from syncwatch.cli import main
from syncwatch.config import parse
from syncwatch.core.states import TRANSITIONS, State, diagram
from syncwatch.exposition.events import Broadcast
from syncwatch.exposition.http import Controls, local_app, public_app
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


def _commands(group: click.Group, before: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_the_table_shows_every_command() -> None:
    """Each command of the CLI is in it, nothing else is, and each answers --help."""
    named = [re.split(r"[\[]| [a-z]+\\\|", re.sub(r"FILE(\.\.\.)?|TOKEN|DIR", "", name))[0].strip() for name in re.findall(r"^\| `syncwatch ([^`]+)`", README, re.MULTILINE)]
    assert sorted(_commands(main)) == sorted(named)
    for name in named:
        assert 0 == CliRunner().invoke(main, [*name.split(), "--help"]).exit_code


def _routes(app: web.Application) -> list[str]:
    """Paths, with the methods that are not GET before them; parts that stand for others in capitals."""
    of_router = ((route.method, re.sub(r"\{(\w+)\}", lambda part: part[1].upper(), route.resource.canonical)) for route in app.router.routes() if route.resource)
    return sorted(path if method == "GET" else f"{method} {path}" for method, path in of_router if method != "HEAD")


def _unasked() -> NoReturn:
    pytest.fail("nothing is asked here")


@pytest.mark.parametrize(
    ("listener", "app"),
    [
        ("listen", lambda: public_app(_unasked, lambda *_: _unasked())),
        ("local_listen", lambda: local_app(_unasked, Controls(), Broadcast())),
    ],
)
def test_the_tables_show_every_route(listener: str, app: Callable[[], web.Application]) -> None:
    """Each route of the two listeners is in its table, and nothing else is."""
    table = README.partition(f"| on `{listener}` (")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?`) \|(?: |$)", table, re.MULTILINE)
    assert _routes(app()) == sorted(path.partition("?")[0] for cell in cells for path in re.findall("`([^`]+)`", cell))


def test_every_link_leads_somewhere() -> None:
    """Relative links name files that exist."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
