"""Watchers in a running sidecar: what its metrics, its probes, its gate, `/status` and `syncwatch status` say of a root that goes away and comes back, and what a reload does."""



from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from syncwatch import Watch
from tests.integration.sidecar import Document, Sidecar, command, holds, running, until
from tests.integration.test_reload import reloaded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
SENTINEL = {"interval": "300ms", "timeout": "5s"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client."""
    async with aiohttp.ClientSession() as session:
        yield session


def document(folder: Path, *watchers: Document, **more: Any) -> Document:
    """A sidecar that watches files and nothing else."""
    return {
        "listen": "127.0.0.1:0",
        "local_listen": "127.0.0.1:0",
        "instance": "tester",
        "log": {"level": "debug", "format": "json"},
        "health": {"degraded_after": "200ms", "recovered_after": "200ms"},
        "watchers": list(watchers),
    } | more


async def project(sidecar: Sidecar, condition: Callable[[Document], object]) -> Document:
    """Wait until the first watcher in `/status` is as wanted; returns it."""

    async def look() -> Document:
        watcher: Document = (await sidecar.status())["watchers"][0]
        return watcher

    return await until(look, condition)


async def test_a_root_that_goes_and_comes_is_told_everywhere(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """Alive, dead, alive again: metrics, gate, readiness, `/healthz` where it was configured, status for people; and nothing is left at the end."""
    root = tmp_path / "root"
    root.mkdir()
    health = {"degraded_after": "200ms", "recovered_after": "200ms", "healthz": {"fail_on": {"watcher_dead": "0s"}}}
    config = document(tmp_path, {"name": "project", "path": str(root), "sentinel": SENTINEL}, health=health)
    async with running(tmp_path, config, http) as sidecar:
        assert str(root / ".syncwatch" / "tester") == (await sidecar.said("a sentinel is switched on: it writes"))["target"]
        await project(sidecar, lambda one: one["up"] and one["sentinels"]["seen"] >= 2)
        assert {"tester", ".gitignore"} == set(os.listdir(root / ".syncwatch"))
        (root / "d").mkdir()
        (root / "d" / "file").write_text("x")
        seen = await project(sidecar, lambda one: one["changes"]["added"] >= 2)
        assert ("alive", "active", "healthy", 0) == (seen["state"], seen["mode"], seen["health"], seen["changes"]["deleted"])
        assert [200, 200, 200] == [(await sidecar.gate("write"))[0], (await sidecar.probe("/readyz"))[0], (await sidecar.probe("/healthz"))[0]]
        scrape = await sidecar.scrape()
        assert 1 == scrape.value("syncwatch_watcher_up", watcher="project")
        assert 1 == scrape.value("syncwatch_watcher_info", watcher="project", mode="active")
        assert 3 == scrape.value("syncwatch_inotify_watches")
        assert 1 == scrape.value("syncwatch_inotify_instances")
        assert 2 == scrape.value("syncwatch_watcher_events_total", watcher="project", change="added")

        shutil.rmtree(root)
        dead = await project(sidecar, lambda one: one["state"] == "dead")
        assert ("down", ["watcher_dead"]) == (dead["health"], [one["reason"] for one in dead["reasons"]])
        assert f"{root}: no such file or directory" == dead["detail"]
        code, gate = await sidecar.gate("write")
        assert 503 == code, gate
        assert [200, 503, 503, 200] == [
            (await sidecar.gate("read"))[0], (await sidecar.probe("/readyz"))[0], (await sidecar.probe("/healthz"))[0], (await sidecar.probe("/livez"))[0],
        ]  # fmt: skip
        scrape = await sidecar.scrape()
        assert (0, 1) == (scrape.value("syncwatch_watcher_up"), scrape.value("syncwatch_watcher_restarts_total", reason="root_gone"))
        assert 1 == scrape.value("syncwatch_degraded", component="watcher", name="project", reason="watcher_dead")
        said = await command("status", "--url", sidecar.local)
        assert 2 == said.code, said.out
        assert "watcher_dead" in said.out
        assert "no such file or directory" in said.out

        root.mkdir()
        await project(sidecar, lambda one: one["up"])
        await sidecar.said("recovered")
        assert [200, 200, 200] == [(await sidecar.gate("write"))[0], (await sidecar.probe("/readyz"))[0], (await sidecar.probe("/healthz"))[0]]
        assert "project is alive" in (await command("status", "--url", sidecar.local)).out
        code, took_s = await sidecar.end()
        assert 0 == code
        assert [] == os.listdir(root), f"the sentinel went with it, after {took_s:.1f} s"


async def test_a_missing_path_is_no_mistake(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """The sidecar starts, says that the root is gone, and finds it when it is made; passive, it writes nothing there."""
    root = tmp_path / "later"
    async with running(tmp_path, document(tmp_path, {"name": "project", "path": str(root)}), http) as sidecar:
        gone = await project(sidecar, lambda one: one["state"] == "dead")
        assert (1, None) == (gone["restarts"]["root_gone"], gone["sentinels"])
        root.mkdir()
        found = await project(sidecar, lambda one: one["up"])
        assert ("passive", 1) == (found["mode"], found["restarts"]["root_gone"])
        assert [] == os.listdir(root)
        assert [] == (await sidecar.scrape()).all("syncwatch_watcher_sentinels_total")


async def test_watchers_can_be_changed_while_it_runs(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """A sentinel that is taken away goes, counters go on; another one is added, one is removed with everything that it held."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    first = {"name": "project", "path": str(one), "sentinel": SENTINEL}
    async with running(tmp_path, document(tmp_path, first), http) as sidecar:
        (one / "file").write_text("x")
        await project(sidecar, lambda it: it["up"] and it["sentinels"]["seen"])
        (one / "other").write_text("x")
        before = await project(sidecar, lambda it: it["changes"]["added"])
        (tmp_path / "syncwatch.yaml").write_text(json.dumps(document(tmp_path, {"name": "project", "path": str(one)}, {"name": "new", "path": str(two)})))
        await reloaded(sidecar)
        after = await project(sidecar, lambda it: it["mode"] == "passive" and it["up"])
        assert before["changes"] == after["changes"]
        await holds(lambda: sorted(os.listdir(one)) == ["file", "other"])
        await until(sidecar.status, lambda it: it["watchers"][1]["up"])
        assert 2 == (await sidecar.scrape()).value("syncwatch_inotify_instances")
        (tmp_path / "syncwatch.yaml").write_text(json.dumps(document(tmp_path, {"name": "new", "path": str(two)})))
        await reloaded(sidecar)
        scrape = await sidecar.scrape()
        assert (1, 1) == (scrape.value("syncwatch_inotify_instances"), scrape.value("syncwatch_inotify_watches"))
        assert [] == scrape.all("syncwatch_watcher_up", watcher="project")


async def test_a_program_can_watch_files(tmp_path: Path) -> None:
    """The library has the same component: a root that is missing is told, and that it was made as well."""
    root = tmp_path / "root"
    told: list[tuple[object, object]] = []
    watch = Watch({"watchers": [{"name": "project", "path": str(root)}], "health": {"recovered_after": "100ms"}})
    watch.on_degraded(lambda name, reason: told.append((name, reason)))
    watch.on_recovered(lambda name: told.append((name, None)))
    async with watch:
        await holds(lambda: told == [("project", "watcher_dead")])
        root.mkdir()
        await holds(lambda: told[1:] == [("project", None)])
