"""Writes what deploy/ repeats of dashboards/ in Kubernetes' words, or says whether the committed files still are that.

python -m deploy.build            write
python -m deploy.build --check    write nothing; exit 1 when a file differs, is missing or is left over

What belongs here: the rules as a PrometheusRule, the inhibitions as a whole configuration of Alertmanager, and the dashboards beside the
kustomization that makes ConfigMaps of them (kustomize reads no file outside of its own folder). They are packed as small as they get: one annotation of `kubectl apply` holds 256 KiB.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DIRECTORY = Path(__file__).parent
DASHBOARDS = Path(__file__).parents[1] / "dashboards"
RULES = DASHBOARDS / "rules" / "syncwatch.rules.yaml"
INHIBITIONS = DASHBOARDS / "rules" / "alertmanager.yaml"
BOARDS, LIST, RULE, ALERTMANAGER = "base/dashboards", "base/dashboards/kustomization.yaml", "base/prometheusrule.yaml", "compose/alertmanager.yaml"

RULE_HEAD = """\
# The rules of dashboards/rules/syncwatch.rules.yaml, written by `python -m deploy.build`, not by hand. Alertmanager needs the inhibitions of
# dashboards/rules/alertmanager.yaml in its own configuration: the operator's AlertmanagerConfig would hold them for one namespace only.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: syncwatch
  labels:
    release: kube-prometheus-stack # what that chart's Prometheus selects by; yours may want another
spec:
"""
LIST_HEAD = """\
# The dashboards as ConfigMaps, one each: an object of the API server holds 1 MiB. Written by `python -m deploy.build`, not by hand.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
generatorOptions:
  disableNameSuffixHash: true
  labels:
    grafana_dashboard: "1"         # what Grafana's sidecar in kube-prometheus-stack looks for
  annotations:
    grafana_folder: syncwatch
configMapGenerator:
"""
ALERTMANAGER_HEAD = """\
# Where alerts go: nowhere but Alertmanager's own page, until a receiver says more. Written by `python -m deploy.build`, not by hand.
route:
  receiver: nobody
  group_by: [alertname, upstream]
  group_wait: 10s
receivers:
  - name: nobody
# As in dashboards/rules/alertmanager.yaml: one page for one cause.
"""


def files() -> Mapping[str, bytes]:
    """Every file by its name below deploy/. Raises: ValueError when one of the rules files has not the line that it must have."""
    rules = "".join(f"  {line}" if line.strip() else line for line in _from("groups:", RULES).splitlines(keepends=True))
    boards = {
        f"{BOARDS}/{path.name}": (json.dumps(json.loads(path.read_bytes()), separators=(",", ":")) + "\n").encode()
        for path in sorted((DASHBOARDS / "json").glob("*.json"))
    }
    listed = "".join(f"  - {{name: {Path(name).stem}, files: [{Path(name).name}]}}\n" for name in boards)
    return {
        LIST: (LIST_HEAD + listed).encode(),
        RULE: (RULE_HEAD + rules).encode(),
        ALERTMANAGER: (ALERTMANAGER_HEAD + _from("inhibit_rules:", INHIBITIONS)).encode(),
        **boards,
    }


def _from(line: str, path: Path) -> str:
    """A file's text from a line on."""
    _, found, rest = path.read_text(encoding="utf-8").partition(f"\n{line}\n")
    if not found:
        raise ValueError(f"{path}: there is no line {line!r}")
    return f"{line}\n{rest}"


def drift(directory: Path) -> list[str]:
    """Names of files that differ, are missing, or belong to nothing."""
    paths = [*directory.glob(f"{BOARDS}/*.json"), *(directory / name for name in (LIST, RULE, ALERTMANAGER))]
    found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths if path.exists()}
    wanted = files()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def write(directory: Path) -> list[str]:
    """Make `directory` hold exactly these files; returns the names of files written or removed. Raises: OSError when it cannot."""
    wanted, changed = files(), drift(directory)
    for name in changed:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in wanted:
            path.write_bytes(wanted[name])
        else:
            path.unlink()
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.build", description="Write the rules and dashboards for Kubernetes.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on any difference")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.check:
        for name in write(options.directory):
            print(f"{options.directory / name}: updated")
        return 0
    different = drift(options.directory)
    for name in different:
        print(f"{options.directory / name}: not what dashboards/ says; run: python -m deploy.build", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
