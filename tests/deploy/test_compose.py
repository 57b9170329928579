"""The Compose file: the specification accepts it, each part accepts its configuration, what is mounted is there, and the stack comes to an open
connection when its commands are run (without containers)."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.deploy.parts import DEPLOY, wrong
from tests.integration.sidecar import PROGRAM, Asked, environment, running
from tests.requires import require

COMPOSE = DEPLOY / "compose"
TEXT = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
STACK: dict[str, Any] = yaml.safe_load(TEXT)
(TROUBLE,) = re.findall(r"-d '(\{.*\})'", TEXT)


def mounts(service: str) -> dict[str, Path]:
    """Where in a service's container which file of this repository stands."""
    volumes = [one.split(":") for one in STACK["services"][service]["volumes"]]
    return {inside: (COMPOSE / outside).resolve() for outside, inside, *_ in volumes if outside.startswith(".")}


def test_the_specification_accepts_it() -> None:
    """And finds a misspelt key. (The schema is older than the key `name`.)"""
    stack = {key: part for key, part in STACK.items() if key != "name"}
    misspelt = stack | {"services": {"relay": {**stack["services"]["relay"], "portz": []}}}
    good, bad = wrong([stack, misspelt])
    assert [] == good
    assert [] != bad


def test_what_is_mounted_is_there() -> None:
    """Files, folders and secrets; a missing one would be made an empty folder by the engine."""
    services = [name for name, one in STACK["services"].items() if any(volume.startswith(".") for volume in one.get("volumes", []))]
    assert ["syncwatch", "prometheus", "alertmanager", "grafana"] == services
    assert [] == [path for name in services for path in mounts(name).values() if not path.exists()]
    assert [] == [one for one in STACK["secrets"].values() if not (COMPOSE / one["file"]).is_file()]


def test_it_is_published_on_this_machine_alone() -> None:
    """Nobody else can reach any of it; syncwatch and the relay have nothing that they do not need."""
    ports = [port for one in STACK["services"].values() for port in one["ports"]]
    assert 6 == len(ports)
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]
    for name in ("relay", "syncwatch"):
        service = STACK["services"][name]
        assert (True, ["ALL"], ["no-new-privileges:true"]) == tuple(service[key] for key in ("read_only", "cap_drop", "security_opt"))


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    """With the rules where the container has them; it scrapes syncwatch under a job that the alerts look for, and tells Alertmanager."""
    inside = mounts("prometheus")
    text = inside["/etc/prometheus/prometheus.yml"].read_text(encoding="utf-8")
    assert "/etc/prometheus/syncwatch.rules.yaml" in inside
    file = tmp_path / "prometheus.yml"
    file.write_text(text.replace("/etc/prometheus/syncwatch.rules.yaml", str(inside["/etc/prometheus/syncwatch.rules.yaml"])))
    done = subprocess.run([require("promtool"), "check", "config", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout
    config = yaml.safe_load(text)
    (job,) = config["scrape_configs"]
    assert ("syncwatch", ["syncwatch:10119"]) == (job["job_name"], job["static_configs"][0]["targets"])
    assert ["alertmanager:9093"] == config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]


def test_alertmanager_accepts_its_configuration() -> None:
    """With every inhibition that ships."""
    file = mounts("alertmanager")["/etc/alertmanager/alertmanager.yml"]
    done = subprocess.run([require("amtool"), "check-config", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    shipped = yaml.safe_load((DEPLOY.parent / "dashboards/rules/alertmanager.yaml").read_text(encoding="utf-8"))["inhibit_rules"]
    assert shipped == yaml.safe_load(file.read_text(encoding="utf-8"))["inhibit_rules"]
    assert f" - {len(shipped)} inhibit rules" in done.stdout


def test_grafana_finds_its_data_and_its_dashboards() -> None:
    """A data source, and a provider whose folder is the one that is mounted."""
    inside = mounts("grafana")
    (source,) = yaml.safe_load((inside["/etc/grafana/provisioning/datasources"] / "prometheus.yaml").read_text(encoding="utf-8"))["datasources"]
    assert ("prometheus", "http://prometheus:9090", True) == (source["type"], source["url"], source["isDefault"])
    (provider,) = yaml.safe_load((inside["/etc/grafana/provisioning/dashboards"] / "syncwatch.yaml").read_text(encoding="utf-8"))["providers"]
    home = Path(STACK["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (inside[provider["options"]["path"]] / home.name).is_file()


async def test_the_stack_comes_to_an_open_connection(tmp_path: Path) -> None:
    """The relay with the Compose file's own command, syncwatch with its own configuration: open and verified; the page wants the token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    relay_token, page_token = (COMPOSE / STACK["secrets"][name]["file"] for name in ("files-token", "page-token"))
    command = [
        {"0.0.0.0:8787": f"127.0.0.1:{port}", "/run/secrets/files-token": str(relay_token)}.get(word, word)
        for word in STACK["services"]["relay"]["command"]
    ]
    text = mounts("syncwatch")["/etc/syncwatch/syncwatch.yaml"].read_text(encoding="utf-8")
    for inside, outside in {
        "http://relay:8787": f"http://127.0.0.1:{port}", "/run/secrets/files-token": str(relay_token), "/run/secrets/page-token": str(page_token),
        "/var/lib/syncwatch": str(tmp_path / "state"), "0.0.0.0:10119": "127.0.0.1:0", "0.0.0.0:10120": "127.0.0.1:0",
    }.items():  # fmt: skip
        assert inside in text
        text = text.replace(inside, outside)
    config = yaml.safe_load(text) | {"log": {"format": "json", "level": "info"}}
    relay = await asyncio.create_subprocess_exec(PROGRAM, *command, env=environment(), stdout=asyncio.subprocess.PIPE)
    try:
        assert relay.stdout is not None
        assert b"relay listening" in await asyncio.wait_for(relay.stdout.readline(), 20.0)
        bearer = {"Authorization": f"Bearer {page_token.read_text(encoding='utf-8').strip()}"}
        async with aiohttp.ClientSession(headers=bearer) as http, running(tmp_path, config, http) as sidecar:
            await sidecar.until(lambda files: files["state"] == "open" and files["verification"]["results"]["verified"])
            async with aiohttp.ClientSession() as nobody:
                assert 401 == (await Asked(sidecar.public, sidecar.local, nobody).get(f"{sidecar.local}/status"))[0]
                async with nobody.post(f"http://127.0.0.1:{port}/_relay/faults", data=TROUBLE) as answer:
                    assert 201 == answer.status, "the trouble that the file proposes is one"
            await sidecar.until(lambda files: files["state"] in ("reconnecting", "polling"))
    finally:
        relay.terminate()
        await relay.wait()
