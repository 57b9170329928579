"""The Dockerfile, read: what a linter says, what gets in, who runs. That it builds and runs is `make test-image`."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from tests.requires import require

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_hadolint_has_nothing_to_say() -> None:
    """Not even about style; its shell check included. It does complain where there is something to complain about."""
    hadolint = require("hadolint")
    done = subprocess.run([hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stdout)
    worse = DOCKERFILE.replace("USER 65532:65532\n", "USER root\n")
    done = subprocess.run([hadolint, "--no-color", "-"], input=worse, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "Last USER should not be root" in done.stdout


def test_only_what_is_copied_gets_in() -> None:
    """The build context is a list of what is let in, so that no token file or folder of somebody's ends in a layer."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert "*" == lines[0]
    allowed = {line.removeprefix("!").partition("/")[0] for line in lines if line.startswith("!")}
    copied = {word.partition("/")[0] for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()}
    assert copied == allowed


def test_it_runs_as_nobody_and_needs_nothing_but_its_state_directory() -> None:
    """In the last stage, which nothing of the first reaches but the installed program."""
    build, _, last = DOCKERFILE.rpartition("\nFROM ")
    assert 1 == build.count("\nFROM ")
    assert ["--from=build /opt/syncwatch /opt/syncwatch"] == re.findall(r"^COPY (.*)$", last, re.MULTILINE)
    assert ["65532:65532"] == re.findall(r"^USER (.*)$", last, re.MULTILINE)
    assert "mkdir -m 0700 /var/lib/syncwatch" in last
    assert "PYTHONDONTWRITEBYTECODE=1" in last


def test_what_is_installed_is_what_was_tested() -> None:
    """The versions of the development set constrain the image's; every dependency has one there."""
    assert "--constraint requirements-dev.lock" in DOCKERFILE
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[>=;]", one)[0].lower().replace("_", "-") for one in project["dependencies"]}
    locked = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    assert wanted <= {name.lower().replace("_", "-") for name in re.findall(r"^([\w-]+)==", locked, re.MULTILINE)}
