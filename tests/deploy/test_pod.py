"""The rendered example as a pod that runs: syncwatch is there before the application, whatever its upstream does, and goes after it.

The kubelet is a model of a few lines, after Kubernetes' documentation of native sidecars: initContainers in their order, one with restartPolicy
Always is gone past once its startupProbe passed; at the end first the containers, then the sidecars. What runs in it are real processes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.deploy.parts import DEPLOY, named, pod
from tests.integration.sidecar import PROGRAM, environment, until

SIDECAR = DEPLOY / "examples/sidecar"
ASKING = """
import json, signal, sys, time, urllib.error, urllib.request
def gate():
    try:
        with urllib.request.urlopen({gate!r}, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return "nobody there"
def stop(*_):
    time.sleep(0.5)
    print(json.dumps(["at its end", gate()]), flush=True)
    sys.exit(0)
if {serves}:
    signal.signal(signal.SIGTERM, stop)
print(json.dumps(["at its start", gate()]), flush=True)
while {serves}:
    time.sleep(0.05)
"""
"""The application: asks the gate when it starts, and once more half a second after it was told to stop."""


class Kubelet:
    """Starts and stops the containers of one pod; `story` is what happened, in order."""

    def __init__(self, spec: dict[str, Any], folder: Path, http: aiohttp.ClientSession) -> None:
        self.story: list[str] = []
        self.spec, self._folder, self._http = spec, folder, http
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._local = ""

    async def start(self) -> None:
        """Until every container was started."""
        for container in self.spec["initContainers"]:
            process = await self._run(container)
            if container.get("restartPolicy") == "Always":
                await self._started_up(container)
            else:
                assert 0 == await process.wait()
                self.story.append(f"{container['name']} ended")
        for container in self.spec["containers"]:
            await self._run(container)

    async def stop(self) -> None:
        """SIGTERM for the containers; for the sidecars when those have ended; all within the grace period."""
        sidecars = [one["name"] for one in reversed(self.spec["initContainers"]) if one["name"] in self._running]
        async with asyncio.timeout(self.spec["terminationGracePeriodSeconds"]):
            for names in ([one["name"] for one in self.spec["containers"]], *([one] for one in sidecars)):
                for name in names:
                    self._running[name].send_signal(signal.SIGTERM)
                for name in names:
                    self.story.append(f"{name} ended with {await self._running.pop(name).wait()}")

    def said(self, name: str) -> list[Any]:
        """What a container of the application printed."""
        return [json.loads(line) for line in (self._folder / name).read_text().splitlines()]

    async def _run(self, container: dict[str, Any]) -> asyncio.subprocess.Process:
        name = container["name"]
        if name == "syncwatch":
            command = [PROGRAM, *(one.replace("/etc/syncwatch", str(self._folder)) for one in container["args"])]
        else:
            command = [sys.executable, "-c", ASKING.format(gate=f"{self._local}/gate", serves=name == "agent")]
        with (self._folder / name).open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment(), stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out
            )
        self._running[name] = process
        self.story.append(f"{name} started")
        if container.get("restartPolicy") != "Always" and container in self.spec["initContainers"]:
            del self._running[name]
        return process

    async def _started_up(self, container: dict[str, Any]) -> None:
        """The startupProbe, as often as it says and no more."""
        probe = container["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            listening = [line for line in (self._folder / "syncwatch").read_text().splitlines() if '"listening"' in line]
            if listening:
                addresses = json.loads(listening[0])
                self._local = f"http://{addresses['local_listen']}"
                async with self._http.get(f"http://{addresses['listen']}{probe['httpGet']['path']}") as answer:
                    if 200 <= answer.status < 400:
                        self.story.append("syncwatch passed its startupProbe")
                        return
            await asyncio.sleep(probe["periodSeconds"])
        raise AssertionError("the startupProbe never passed: no container of the application would start")

    async def end(self) -> None:
        """Whatever is left."""
        for process in self._running.values():
            process.kill()
            await process.wait()


@asynccontextmanager
async def kubelet(folder: Path, **spoilt: Any) -> AsyncIterator[Kubelet]:
    """A pod as the example has it, with its ConfigMap (and what is `spoilt` in it) and its Secret in place; the upstream refuses every connection."""
    text = named(SIDECAR, "ConfigMap", "syncwatch-config")["data"]["syncwatch.yaml"]
    for path in ("/run/secrets/syncwatch", "/var/lib/syncwatch"):
        text = text.replace(path, f"{folder}{path}")
        (folder / path.strip("/")).mkdir(parents=True)
    (folder / "run/secrets/syncwatch/cast-token").write_text("at_live_" + "1" * 32)
    config = yaml.safe_load(text) | {"listen": "127.0.0.1:0", "local_listen": "127.0.0.1:0", "log": {"format": "json"}} | spoilt
    config["connections"][0]["url"] = "http://127.0.0.1:9"
    (folder / "syncwatch.yaml").write_text(yaml.safe_dump(config))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
        made = Kubelet(pod(SIDECAR)["spec"], folder, http)
        try:
            yield made
        finally:
            await made.end()


async def test_it_is_there_before_the_application_and_goes_after_it(tmp_path: Path) -> None:
    """With an upstream that is down the pod starts all the same, at once; the application finds the gate answering, first and last."""
    async with kubelet(tmp_path) as it:
        began_s = time.monotonic()
        await it.start()
        took_s = time.monotonic() - began_s

        async def told() -> list[Any]:
            return it.said("agent")

        await until(told, bool)
        await it.stop()
    assert [
        "syncwatch started", "syncwatch passed its startupProbe", "migrate started", "migrate ended", "agent started",
        "agent ended with 0", "syncwatch ended with 0",
    ] == it.story  # fmt: skip
    assert [["at its start", 503]] == it.said("migrate")
    assert [["at its start", 503], ["at its end", 503]] == it.said("agent"), "closed, and said by somebody"
    assert took_s < 30.0


async def test_a_wrong_configuration_keeps_no_application_from_starting(tmp_path: Path) -> None:
    """The pod starts and stops in the same order; the application finds the gate closed, and what is wrong stands in the log."""
    async with kubelet(tmp_path, nonsense=1) as it:
        await it.start()

        async def told() -> list[Any]:
            return it.said("agent")

        await until(told, bool)
        await it.stop()
        logged = [line["mistake"] for line in it.said("syncwatch") if "mistake" in line]
    assert [
        "syncwatch started", "syncwatch passed its startupProbe", "migrate started", "migrate ended", "agent started",
        "agent ended with 0", "syncwatch ended with 0",
    ] == it.story  # fmt: skip
    assert [["at its start", 503], ["at its end", 503]] == it.said("agent")
    assert [True] == ["nonsense: unknown key" in line for line in logged]
