"""Writes what deploy/ repeats of dashboards/ in Kubernetes' words, or says whether the committed files still are that.

python -m deploy.build            write
python -m deploy.build --check    write nothing; exit 1 when a file differs, is missing or is left over

What belongs here: the rules as a PrometheusRule, the inhibitions as a whole configuration of Alertmanager, and the dashboards beside the
kustomization that makes ConfigMaps of them (kustomize reads no file outside of its own folder). They are packed as small as they get: one annotation of `kubectl apply` holds 256 KiB.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from dashboards.generated import Generated

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


BUILD = Generated("deploy.build", "Write the rules and dashboards for Kubernetes.", DIRECTORY, (LIST, RULE, ALERTMANAGER, f"{BOARDS}/*.json"), files)
drift, write, main = BUILD.drift, BUILD.write, BUILD.main

if __name__ == "__main__":
    sys.exit(main())
