"""deploy/ for Kubernetes: kubectl renders it, the schemas of Kubernetes and of prometheus-operator accept it, and it says what it has to say."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import build
from syncwatch.config import RelaycastConnection, parse
from syncwatch.export import export
from syncwatch.version import __version__
from tests.deploy.parts import DEPLOY, Document, named, objects, overlay, pod, rendered, syncwatch, wrong
from tests.requires import require

DOCS = DEPLOY.parent / "docs" / "kubernetes.md"
README = (DEPLOY.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = DEPLOY / "examples"
RULES = DEPLOY.parent / "dashboards" / "rules" / "syncwatch.rules.yaml"
OPERATOR = "monitoring.coreos.com/v1"
MIB = 1 << 20

STATEFUL = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: agent}}
spec:
  {more}
  selector: {{matchLabels: {{app: agent}}}}
  template:
    metadata: {{labels: {{app: agent}}}}
    spec:
      terminationGracePeriodSeconds: 300
      containers: [{{name: agent, image: "agent:1"}}]
"""


@pytest.mark.parametrize(
    ("folder", "versions"),
    [
        ("base", ("1.25", "1.29", "1.37")),
        ("examples/cluster", ("1.25", "1.29", "1.37")),
        ("examples/sidecar", ("1.29", "1.33", "1.37")),
        ("examples/sidecar-pre-1.29", ("1.25", "1.28")),
    ],
)
def test_kubernetes_accepts_it(tmp_path: Path, folder: str, versions: tuple[str, ...]) -> None:
    """Strictly, so that a misspelt key is found; at the oldest and the newest version that it is meant for."""
    own = [one for one in objects(DEPLOY / folder) if one["apiVersion"] != OPERATOR]
    assert len(own) >= 2
    accepted(tmp_path, own, versions)


def accepted(folder: Path, documents: Sequence[Document], versions: Sequence[str]) -> None:
    """Each of these versions of Kubernetes accepts each of the documents. Raises: AssertionError with what is wrong with which."""
    file = folder / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    for version in versions:
        command = [require("kubernetes-validate"), "--strict", "-k", f"{version}.0", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr
        assert len(documents) == (done.stdout + done.stderr).count(" passed for resource ")


def test_a_native_sidecar_is_unknown_before_1_29(tmp_path: Path) -> None:
    """The check can fail: `restartPolicy` of a container did not exist, which is what the other variant is for."""
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered(EXAMPLES / "sidecar"))
    command = [require("kubernetes-validate"), "--strict", "-k", "1.27.0", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert 1 == done.returncode
    assert "restartPolicy" in done.stdout + done.stderr


def test_prometheus_operator_accepts_it() -> None:
    """The PodMonitor and the PrometheusRule, also as to keys; and each of three mistakes is found."""
    own = {one["kind"]: one for one in objects(DEPLOY / "base") if one["apiVersion"] == OPERATOR}
    assert {"PodMonitor", "PrometheusRule"} == set(own)
    misspelt, no_duration, no_group = (copy.deepcopy(own[kind]) for kind in ("PodMonitor", "PodMonitor", "PrometheusRule"))
    misspelt["spec"]["podMetricsEndpoints"][0]["intervall"] = "15s"
    no_duration["spec"]["podMetricsEndpoints"][0]["interval"] = "15 seconds"
    no_group["spec"]["groups"][0]["rules"][0]["exprr"] = "1"
    good, also_good, *bad = wrong([own["PodMonitor"], own["PrometheusRule"], misspelt, no_duration, no_group])
    assert [[], []] == [good, also_good]
    assert [1, 1, 1] == [len(one) for one in bad]


def test_the_generated_files_are_up_to_date(tmp_path: Path) -> None:
    """What is committed is what is written; a file that differs, is missing or left over is named."""
    assert [] == build.drift(DEPLOY)
    for name, content in build.files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / build.RULE).write_text("groups: []\n")
    (tmp_path / build.ALERTMANAGER).unlink()
    (tmp_path / build.BOARDS / "old.json").write_text("{}")
    (tmp_path / build.LIST).write_text("configMapGenerator: []\n")
    assert [build.LIST, "base/dashboards/old.json", build.RULE, build.ALERTMANAGER] == build.drift(tmp_path)
    assert 1 == build.main(["--check", "--directory", str(tmp_path)])
    assert 0 == build.main(["--directory", str(tmp_path)])
    assert [] == build.drift(tmp_path)


def test_the_rules_are_those_of_the_rules_file() -> None:
    """To the last word, whatever Kubernetes wraps around them."""
    rule = named(DEPLOY / "base", "PrometheusRule", "syncwatch")
    assert yaml.safe_load(RULES.read_text(encoding="utf-8")) == rule["spec"]


def test_every_dashboard_is_a_config_map() -> None:
    """Each with its JSON unchanged, found by Grafana's sidecar, and small enough for the API server."""
    source = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in (RULES.parents[1] / "json").glob("*.json")}
    boards = [one for one in objects(DEPLOY / "base") if "grafana_dashboard" in one["metadata"].get("labels", {})]
    assert source == {name: json.loads(text) for one in boards for name, text in one["data"].items()}
    for one in boards:
        assert ("ConfigMap", "syncwatch", "1") == (one["kind"], one["metadata"]["namespace"], one["metadata"]["labels"]["grafana_dashboard"])
        assert "syncwatch" == one["metadata"]["annotations"]["grafana_folder"]
        assert sum(len(text.encode()) for text in one["data"].values()) < MIB


@pytest.mark.parametrize("folder", ["examples/sidecar", "examples/sidecar-pre-1.29", "examples/cluster"])
def test_the_monitor_finds_the_pod(folder: str) -> None:
    """In whatever namespace, by label, through a port of that name on the pod."""
    monitor = named(DEPLOY / "base", "PodMonitor", "syncwatch")["spec"]
    (expression,) = monitor["selector"]["matchExpressions"]
    assert {"key": "syncwatch", "operator": "Exists"} == expression
    assert {"any": True} == monitor["namespaceSelector"]
    template = pod(DEPLOY / folder, name="syncwatch" if folder.endswith("cluster") else "agent")
    assert "syncwatch" in template["metadata"]["labels"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert [{"name": endpoint["port"], "containerPort": 10119}] == syncwatch(template)["ports"]


SHAPES = [("examples/sidecar", "agent"), ("examples/sidecar-pre-1.29", "agent"), ("examples/cluster", "syncwatch")]


@pytest.mark.parametrize(("folder", "name"), SHAPES)
def test_it_may_do_as_little_as_possible(folder: str, name: str) -> None:
    """No root, nothing to write to but the state, no capability, no token of the cluster, bounded memory."""
    template = pod(DEPLOY / folder, name=name)
    container, spec = syncwatch(template), template["spec"]
    assert {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    } == container["securityContext"]  # fmt: skip
    assert {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}} == container["resources"]
    volumes = {one["name"]: one for one in spec["volumes"]}
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    assert "emptyDir" in volumes[mounts["/var/lib/syncwatch"]["name"]]
    assert ["/var/lib/syncwatch"] == [path for path, one in mounts.items() if not one.get("readOnly")]
    if name == "syncwatch":
        assert False is spec["automountServiceAccountToken"]


@pytest.mark.parametrize(("folder", "name"), SHAPES)
def test_probes_ask_for_liveness_only(folder: str, name: str) -> None:
    """Startup and liveness at /healthz with the kubelet's second; no readinessProbe, which would count for the whole pod."""
    container = syncwatch(pod(DEPLOY / folder, name=name))
    ask = {"path": "/healthz", "port": "syncwatch"}
    assert {"httpGet": ask, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 60} == container["startupProbe"]
    assert {"httpGet": ask, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3} == container["livenessProbe"]
    assert "readinessProbe" not in container


@pytest.mark.parametrize(("folder", "name"), SHAPES)
def test_what_it_is_given_is_a_configuration(folder: str, name: str) -> None:
    """The ConfigMap that the pod mounts is there, its text is a valid configuration without a canary, and every file that it names is mounted."""
    template = pod(DEPLOY / folder, name=name)
    container, volumes = syncwatch(template), {one["name"]: one for one in template["spec"]["volumes"]}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
    text = named(DEPLOY / folder, "ConfigMap", mounts["/etc/syncwatch"]["configMap"]["name"])["data"]["syncwatch.yaml"]
    beside = name != "syncwatch"  # an application, which would have to wait for what is missing here
    assert ["run", *(["--wait-for-config"] if beside else []), "--config", "/etc/syncwatch/syncwatch.yaml"] == container["args"]
    assert [beside, beside] == [one.get("optional", False) for one in (mounts["/etc/syncwatch"]["configMap"], mounts["/run/secrets/syncwatch"]["secret"])]
    config = parse(text, "syncwatch.yaml", {})
    assert "/var/lib/syncwatch/state" == str(config.state_dir), "below the mount: a folder that is its own to close"
    (connection,) = config.connections
    assert isinstance(connection, RelaycastConnection)
    assert str(connection.token_file).startswith("/run/secrets/syncwatch/")
    assert not connection.canary.enabled
    assert "syncwatch-tokens" == mounts["/run/secrets/syncwatch"]["secret"]["secretName"]


def test_the_image_is_this_version() -> None:
    """In every file that names it."""
    files = ["base/standalone.yaml", "component/sidecar.yaml", "component-pre-1.29/container.yaml", "compose/compose.yaml"]
    for file in files:
        assert f"image: syncwatch:{__version__}\n" in (DEPLOY / file).read_text(encoding="utf-8"), file
    for example in ("sidecar", "sidecar-pre-1.29", "cluster"):
        name = "syncwatch" if example == "cluster" else "agent"
        assert f"registry.example/syncwatch:{__version__}" == syncwatch(pod(EXAMPLES / example, name=name))["image"]


def test_the_base_does_nothing_until_it_is_told_what_to_watch() -> None:
    """No replicas; the example says what and sets one; two at once would be one client twice."""
    base, cluster = (named(one, "Deployment", "syncwatch")["spec"] for one in (DEPLOY / "base", EXAMPLES / "cluster"))
    assert (0, 1) == (base["replicas"], cluster["replicas"])
    assert {"type": "Recreate"} == base["strategy"]


# --- the component in an application's own kustomization ---------------------------------------------------------------------------------------


JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: agent}
spec:
  template:
    metadata: {labels: {app: agent}}
    spec:
      restartPolicy: Never
      containers: [{name: agent, image: "agent:1"}]
"""


def test_a_job_gets_what_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    """The native sidecar; before 1.29 none, because an ordinary container beside it would never end."""
    folder = overlay(tmp_path / "app", "component", resources=JOB)
    accepted(tmp_path, objects(folder), VARIANTS["component"])
    template = pod(folder, "Job")
    assert [("syncwatch", "Always")] == [(one["name"], one["restartPolicy"]) for one in template["spec"]["initContainers"]]
    assert "syncwatch" in template["metadata"]["labels"]
    (older,) = objects(overlay(tmp_path / "older", "component-pre-1.29", resources=JOB))
    assert yaml.safe_load(JOB) == older


def test_syncwatch_comes_before_everything_of_the_application() -> None:
    """A native sidecar, first among the initContainers; the application's own containers are untouched."""
    spec = pod(EXAMPLES / "sidecar")["spec"]
    assert ["syncwatch", "migrate"] == [one["name"] for one in spec["initContainers"]]
    assert ["Always", None] == [one.get("restartPolicy") for one in spec["initContainers"]]
    (plain,) = yaml.safe_load_all((EXAMPLES / "sidecar/agent.yaml").read_text(encoding="utf-8"))
    assert plain["spec"]["template"]["spec"]["containers"] == spec["containers"]
    assert 50 == spec["terminationGracePeriodSeconds"], "30 for the application, 20 to flush"


def test_before_1_29_it_is_kept_while_the_application_stops() -> None:
    """An ordinary container, started first, whose preStop hook delays its end; the flush still fits."""
    spec = pod(EXAMPLES / "sidecar-pre-1.29")["spec"]
    assert ["syncwatch", "agent"] == [one["name"] for one in spec["containers"]]
    assert ["migrate"] == [one["name"] for one in spec["initContainers"]]
    container = spec["containers"][0]
    assert "restartPolicy" not in container
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert "sleep" == command[0]
    assert int(command[1]) + 20 <= spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(("kind", "more"), [("StatefulSet", "serviceName: agent"), ("DaemonSet", "minReadySeconds: 0"), ("Deployment", "replicas: 2")])
def test_every_kind_of_workload_gets_it(tmp_path: Path, kind: str, more: str) -> None:
    """And an application that needs longer to stop says so after the component."""
    (quoted,) = re.findall(r"> ```yaml\n((?:> .*\n)+?)> ```", DOCS.read_text(encoding="utf-8"))
    (patch,) = yaml.safe_load(quoted.replace("> ", ""))["patches"]
    patch["target"]["kind"] = kind
    text = STATEFUL.format(kind=kind, more=more)
    spec = pod(overlay(tmp_path / "app", "component", resources=text), kind)["spec"]
    assert ["syncwatch"] == [one["name"] for one in spec["initContainers"]]
    assert 50 == spec["terminationGracePeriodSeconds"], "what docs/kubernetes.md warns of"
    patched = pod(overlay(tmp_path / "patched", "component", resources=text, patches=[patch]), kind)["spec"]
    assert 320 == patched["terminationGracePeriodSeconds"]


VARIANTS = {"component": ("1.29", "1.37"), "component-pre-1.29": ("1.25", "1.28")}
"""Each with the versions of Kubernetes that it is meant for."""
READINESS = {"component": "readiness", "component-pre-1.29": "readiness-pre-1.29"}


@pytest.mark.parametrize("ready", [False, True], ids=["live", "ready"])
@pytest.mark.parametrize("component", VARIANTS)
def test_a_readiness_probe_is_where_it_was_asked_for_and_nowhere_else(tmp_path: Path, component: str, ready: bool) -> None:
    """Either variant, with and without: Kubernetes accepts it, every container has an image, and only syncwatch, only if asked, has the probe."""
    folder = overlay(tmp_path / "app", component, *([READINESS[component]] if ready else []))
    accepted(tmp_path, objects(folder), VARIANTS[component])
    spec = pod(folder)["spec"]
    containers = [*spec["initContainers"], *spec["containers"]]
    assert ["agent", "migrate", "syncwatch"] == sorted(one["name"] for one in containers)
    assert [] == [one["name"] for one in containers if not one.get("image")]
    probe = {"httpGet": {"path": "/readyz", "port": "syncwatch"}, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
    assert ([("syncwatch", probe)] if ready else []) == [(one["name"], one["readinessProbe"]) for one in containers if "readinessProbe" in one]
    assert "livenessProbe" in syncwatch(pod(folder))


@pytest.mark.parametrize(
    "components",
    [
        ("component", "readiness-pre-1.29"), ("component-pre-1.29", "readiness"),
        ("readiness", "component"), ("readiness-pre-1.29", "component-pre-1.29"), ("readiness",), ("readiness-pre-1.29",),
    ],
    ids=" then ".join,
)  # fmt: skip
def test_readiness_without_its_component_renders_nothing(tmp_path: Path, components: tuple[str, ...]) -> None:
    """The other variant's, the wrong order, or alone: an error that names the folder, not a pod with a container that has no image."""
    folder = overlay(tmp_path / "app", *components)
    done = subprocess.run([require("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    (readiness,) = [one for one in components if one.startswith("readiness")]
    assert (1, "") == (done.returncode, done.stdout)
    assert f"/{readiness}'" in done.stderr


def test_readiness_warns() -> None:
    """The files say what it does to all pods at once."""
    for folder in READINESS.values():
        assert "WARNING: the readiness of a sidecar counts for the whole pod." in (DEPLOY / folder / "kustomization.yaml").read_text(encoding="utf-8")


def test_an_applications_own_volumes_and_labels_stay(tmp_path: Path) -> None:
    """What the component adds is added, and replaces nothing."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / "sidecar/agent.yaml").read_text(encoding="utf-8")))
    spec = documents[0]["spec"]["template"]["spec"]
    spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    spec["securityContext"] = {"fsGroup": 1000}
    template = pod(overlay(tmp_path / "app", "component", resources=yaml.safe_dump_all(documents)))
    assert {"app": "agent", "syncwatch": "sidecar"} == template["metadata"]["labels"]
    assert {"data", "syncwatch-config", "syncwatch-tokens", "syncwatch-state"} == {one["name"] for one in template["spec"]["volumes"]}
    assert {"fsGroup": 1000} == template["spec"]["securityContext"]


def test_a_watcher_gets_the_applications_volume(tmp_path: Path) -> None:
    """By the patch that docs/kubernetes.md shows: one more mount beside syncwatch's own."""
    (shown,) = [block for block in re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE) if "/srv/project" in block]
    documents: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / "sidecar/agent.yaml").read_text(encoding="utf-8")))
    documents[0]["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    template = pod(overlay(tmp_path / "app", "component", resources=yaml.safe_dump_all(documents), **yaml.safe_load(shown)))
    mounts = {one["mountPath"]: one["name"] for one in syncwatch(template)["volumeMounts"]}
    assert "data" == mounts["/srv/project"]
    assert {"/srv/project", "/etc/syncwatch", "/run/secrets/syncwatch", "/var/lib/syncwatch"} == set(mounts)
    assert ["syncwatch", "migrate"] == [one["name"] for one in template["spec"]["initContainers"]]


def test_a_protected_sidecar_is_probed_and_scraped(tmp_path: Path) -> None:
    """By the two patches that docs/kubernetes.md shows: the kubelet asks at a port of its own, Prometheus comes with certificate and password."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (beside,), (monitoring,) = ([yaml.safe_load(block) for block in blocks if word in block] for word in ("syncwatch-web", "basicAuth"))
    folder = overlay(tmp_path / "app", "component", **beside)
    container = syncwatch(pod(folder))
    assert {"syncwatch": 10119, "sync-probes": 10121} == {one["name"]: one["containerPort"] for one in container["ports"]}
    for probe in ("startupProbe", "livenessProbe"):
        assert {"path": "/healthz", "port": "sync-probes"} == container[probe]["httpGet"]
    assert "/run/secrets/syncwatch-web" in {one["mountPath"] for one in container["volumeMounts"]}
    accepted(tmp_path, objects(folder), VARIANTS["component"])
    (patch,) = monitoring["patches"]
    (endpoint,) = named(overlay(tmp_path / "monitor", resources=rendered(DEPLOY / "base"), patches=[patch]), "PodMonitor", "syncwatch")["spec"]["podMetricsEndpoints"]
    assert ("https", "15s") == (endpoint["scheme"], endpoint["interval"])
    monitor = copy.deepcopy(named(DEPLOY / "base", "PodMonitor", "syncwatch"))
    monitor["spec"]["podMetricsEndpoints"] = [endpoint]
    misspelt = copy.deepcopy(monitor)
    misspelt["spec"]["podMetricsEndpoints"][0]["basicAuth"]["user"] = misspelt["spec"]["podMetricsEndpoints"][0]["basicAuth"].pop("username")
    good, bad = wrong([monitor, misspelt])
    assert ([], 1) == (good, len(bad))


def test_two_applications_of_one_namespace_have_names_of_their_own(tmp_path: Path) -> None:
    """By the patch that docs/kubernetes.md shows: the same volumes, from another ConfigMap and another Secret."""
    (shown,) = [block for block in re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE) if "agent-syncwatch" in block]
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "syncwatch.yaml").write_text("connections: []\n")
    folder = overlay(tmp_path / "app", "component", generatorOptions={"disableNameSuffixHash": True}, **yaml.safe_load(shown))
    assert "ConfigMap" == named(folder, "ConfigMap", "agent-syncwatch")["kind"]
    volumes = {one["name"]: one for one in pod(folder)["spec"]["volumes"]}
    assert {"name": "agent-syncwatch", "optional": True} == volumes["syncwatch-config"]["configMap"]
    assert {"secretName": "agent-syncwatch-tokens", "optional": True} == volumes["syncwatch-tokens"]["secret"]
    assert {"syncwatch-config", "syncwatch-tokens", "syncwatch-state"} == set(volumes)
    accepted(tmp_path, objects(folder), VARIANTS["component"])


def test_what_the_readme_shows_renders_as_it_stands(tmp_path: Path) -> None:
    """With the component from here instead of the repository: Kubernetes accepts it, the image can be pulled, the ConfigMap is the one that the pod looks for, and the
    Secret's files are where the text says."""
    (shown,) = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "components:" in block]
    (configuration,) = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "\nconnections:" in block]
    del shown["components"], shown["resources"]
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "syncwatch.yaml").write_text(configuration)
    folder = overlay(tmp_path / "app", "component", **shown)
    accepted(tmp_path, objects(folder), VARIANTS["component"])
    container, template = syncwatch(pod(folder)), pod(folder)
    assert f"registry.example/syncwatch:{__version__}" == container["image"]
    volumes = {one["name"]: one for one in template["spec"]["volumes"]}
    assert volumes["syncwatch-config"]["configMap"]["name"] == named(folder, "ConfigMap", "syncwatch-config")["metadata"]["name"]
    (mounted,) = [one["mountPath"] for one in container["volumeMounts"] if one["name"] == "syncwatch-tokens"]
    assert f"`{mounted}/cast-token`" in README
    assert volumes["syncwatch-tokens"]["secret"]["secretName"] in README


def test_what_is_exported_renders_the_same(tmp_path: Path) -> None:
    """`syncwatch export k8s` writes folders that stand on their own."""
    export("k8s", tmp_path)
    for folder in ("base", "examples/sidecar", "examples/sidecar-pre-1.29", "examples/cluster"):
        assert rendered(DEPLOY / folder) == rendered(tmp_path / folder)


def test_the_page_about_it_names_what_is_there() -> None:
    """Folders and files of docs/kubernetes.md, and the numbers that it gives."""
    text = DOCS.read_text(encoding="utf-8")
    paths = set(re.findall(r"\bdeploy/[\w./-]*[\w-]", text))
    assert len(paths) > 7
    assert [] == [path for path in paths if not (DEPLOY.parent / path).exists()]
    folders = {path.parent for path in DEPLOY.rglob("kustomization.yaml")}
    assert [] == [folder.name for folder in folders if folder.name not in text], "a folder that nobody is told of"
    assert "`terminationGracePeriodSeconds` to 50" in text
