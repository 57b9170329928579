"""deploy/ as the tests see it: rendered by kubectl, held against schemas, and what stands where in a pod."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.interop.npm import install
from tests.requires import require

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"

Document = dict[str, Any]


@cache
def rendered(folder: Path) -> str:
    """What `kubectl kustomize` makes of a folder. Raises: AssertionError with kubectl's words."""
    done = subprocess.run(
        [require("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def objects(folder: Path) -> list[Document]:
    """The same as objects."""
    return [one for one in yaml.safe_load_all(rendered(folder)) if one]


def named(folder: Path, kind: str, name: str) -> Document:
    """One of them. Raises: ValueError when there is none, or several."""
    (found,) = [one for one in objects(folder) if (kind, name) == (one["kind"], one["metadata"]["name"])]
    return found


def pod(folder: Path, kind: str = "Deployment", name: str = "agent") -> Document:
    """The pod's template of a workload: its `metadata` and `spec`."""
    template: Document = named(folder, kind, name)["spec"]["template"]
    return template


def syncwatch(template: Document) -> Document:
    """syncwatch's container, wherever in the pod it stands."""
    spec = template["spec"]
    (found,) = [one for one in [*spec.get("initContainers", []), *spec["containers"]] if one["name"] == "syncwatch"]
    container: Document = found
    return container


def wrong(documents: Sequence[Document]) -> list[list[str]]:
    """For each document what the schemas of prometheus-operator, or of Compose, find wrong with it."""
    install(HERE)
    lines = "".join(json.dumps(one) + "\n" for one in documents)
    command = [require("node"), "validate.mjs"]
    done = subprocess.run(command, cwd=HERE, input=lines, capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def overlay(folder: Path, *components: str, resources: str | None = None, **more: Any) -> Path:
    """A kustomization of an application's own in `folder`, which must be deep enough to be no parent of deploy/."""
    folder.mkdir(parents=True, exist_ok=True)
    text = resources or (DEPLOY / "examples/sidecar/agent.yaml").read_text(encoding="utf-8")
    (folder / "app.yaml").write_text(text)
    up = "../" * len(folder.resolve().parts[1:])
    paths = [f"{up}{(DEPLOY / one).resolve().relative_to('/')}" for one in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["app.yaml"], "components": paths, **more}))
    return folder
