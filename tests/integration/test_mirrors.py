"""Mirrors in a sidecar and in a program: what a flush promises over HTTP, from a script, in Python and at the end; what is told meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from syncwatch import Watch
from syncwatch.core.health import Component, Reason
from tests.integration.sidecar import PROMPTLY_S, Asked, Document, Sidecar, command, holds, running, until
from tests.integration.test_reload import reloaded
from tests.loops import on_both_loops

SLOW = {"healthy": "1h", "degraded": "1h"}
"""Nothing is found by looking again and again."""
OFTEN = {"healthy": "200ms", "degraded": "200ms"}


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """A mount and a project, empty."""
    made = tmp_path / "mount", tmp_path / "project"
    for root in made:
        root.mkdir()
    return made


def block(roots: tuple[Path, Path], **more: Any) -> Document:
    """One mirror, in mode sync."""
    return {"name": "agent", "mode": "sync", "mount": str(roots[0]), "project": str(roots[1]), **more}


@asynccontextmanager
async def sidecar(folder: Path, *mirrors: Document, **more: Any) -> AsyncIterator[Sidecar]:
    """A sidecar with these mirrors and nothing else, after their first comparison."""
    config = {"listen": "127.0.0.1:0", "local_listen": "127.0.0.1:0", "log": {"format": "json"}, "mirrors": list(mirrors), **more}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http, running(folder, config, http) as made:
        await until(made.status, lambda document: all(settled(one) for one in document["mirrors"]))
        yield made


def settled(mirror: Document) -> bool:
    """Compared once, and once more since the watches are proven."""
    return bool(mirror["last_reconcile"]) and mirror["watchers_healthy"] and mirror["comparing_for_s"] is None


async def agent(asked: Asked) -> Document:
    """The first mirror in /status."""
    mirror: Document = (await asked.status())["mirrors"][0]
    return mirror


def files(root: Path) -> dict[str, bytes]:
    """What people have in a tree, which may change while it is looked at."""
    while True:
        try:
            found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        except FileNotFoundError:
            continue
        return {path: data for path, data in found.items() if not path.startswith(".syncwatch/")}


async def flushed(asked: Asked, timeout_s: float = 20.0) -> tuple[int, Document]:
    """POST /flush."""
    async with asked.http.post(f"{asked.local}/flush?timeout_s={timeout_s}") as answer:
        return answer.status, json.loads(await answer.text())


# ------------------------------------------------------------------ in a program


async def test_write_and_flush_a_thousand_times_leaves_no_file_behind(roots: tuple[Path, Path]) -> None:
    """Each write is on the other side when its flush is complete, whichever side it was on; the numbers add up to what was written."""
    mount, project = roots
    async with Watch({"mirrors": [block(roots, reconcile=SLOW)]}) as watch:
        mirror = watch.mirror("agent")
        moved = 0
        for number in range(1000):
            here, there = roots if number % 3 else (project, mount)
            name = f"d{number % 7}/f{number % 200}"
            (here / name).parent.mkdir(exist_ok=True)
            new = here.parent / "new"  # comes whole: a file that is seen while it is empty travels twice
            new.write_bytes(b"%04d" % number)
            new.rename(here / name)
            flushed = await mirror.flush(20)
            assert (True, 0) == (flushed.complete, flushed.pending)
            assert b"%04d" % number == (there / name).read_bytes()
            moved += flushed.files
        (seen,) = watch._machinery.snapshot().mirrors
    assert 1000 == sum(seen.moved.values())
    assert 0 == seen.conflicts
    assert moved <= 1000, "what an event brought over before its flush was asked for is not the flush's"
    assert files(mount) == files(project)


@on_both_loops(40)
async def test_a_change_travels_by_itself(roots: tuple[Path, Path]) -> None:
    """Without any flush and long before the next comparison: a file, a directory with files made at once, a deletion, in both directions."""
    mount, project = roots
    async with Watch({"mirrors": [block(roots, reconcile=SLOW)]}) as watch:
        await holds(watch.mirror("agent").watchers_healthy)
        for here, there in ((mount, project), (project, mount)):
            (here / "a").write_bytes(b"a")
            os.makedirs(here / "deep/er", exist_ok=True)
            (here / "deep/er/b").write_bytes(b"b")
            (here / "weird \n").write_bytes(b"w")
            await holds(lambda there=there: {"a", "deep/er/b", "weird \n"} <= files(there).keys())  # type: ignore[misc]
            shutil.rmtree(here / "deep")
            (here / "a").unlink()
            (here / "weird \n").unlink()
            await holds(lambda there=there: not files(there) and not (there / "deep").exists())  # type: ignore[misc]


async def test_observing_waits_until_somebody_else_has_done_it(roots: tuple[Path, Path]) -> None:
    """Nothing is written; complete when both trees agree, and not before."""
    mount, project = roots
    (mount / "a").write_bytes(b"a")
    async with Watch({"mirrors": [block(roots, mode="observe", flush_timeout="100ms", reconcile=SLOW)]}) as watch:
        mirror = watch.mirror("agent")
        flushed = await mirror.flush(0.3)
        assert (False, 0, 1) == (flushed.complete, flushed.files, flushed.pending)
        waiting = asyncio.create_task(mirror.flush(20))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        (project / "a").write_bytes(b"a")
        assert (True, 0) == ((done := await waiting).complete, done.files)
    assert {"mount", "project", "mount/a", "project/a"} == {str(path.relative_to(mount.parent)) for path in mount.parent.rglob("*")}


async def test_a_mirror_that_is_not_there(roots: tuple[Path, Path]) -> None:
    """By another name, and after the end."""
    async with Watch({"mirrors": [block(roots)]}) as watch:
        with pytest.raises(KeyError):
            watch.mirror("other")
        mirror = watch.mirror("agent")
    with pytest.raises(RuntimeError, match="stopped"):
        await mirror.flush()


async def test_what_was_written_before_the_end_is_brought_over(roots: tuple[Path, Path]) -> None:
    """Leaving the Watch flushes."""
    async with Watch({"mirrors": [block(roots, debounce="1h", reconcile=SLOW)]}) as watch:
        await holds(lambda: watch._machinery.snapshot().mirrors[0].last_reconcile)
        (roots[0] / "last").write_bytes(b"x")
    assert {"last": b"x"} == files(roots[1])


async def test_a_root_that_is_gone_is_down_and_comes_back(roots: tuple[Path, Path]) -> None:
    """Nothing is deleted; what is there goes back when it returns; the gate for writing is closed meanwhile, the one for reading is not."""
    mount, project = roots
    (mount / "a").write_bytes(b"a")
    async with Watch({"mirrors": [block(roots, reconcile=OFTEN)]}) as watch:
        await holds(lambda: files(project))
        shutil.rmtree(mount)
        owner = Component.MIRROR, "agent"
        await holds(lambda: Reason.MIRROR_STUCK in {held.reason for held in watch._machinery.snapshot().health.held})
        health = watch._machinery.snapshot().health
        assert ("down", True) == (health.health[owner], Reason.WATCHER_DEAD in {held.reason for held in health.held})
        gates = {check.name: check.ok for check in health.checks["gate"]}
        assert {"read": True, "write": False} == gates
        assert {"a": b"a"} == files(project)
        mount.mkdir()
        await holds(lambda: {"a": b"a"} == files(mount))
        await holds(lambda: all(check.ok for check in watch._machinery.snapshot().health.checks["gate"]))


# ------------------------------------------------------------------ in a sidecar


async def test_flush_over_http_and_from_a_script(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """200 and exit code 0 when all is there; 503 and 1, with how much is left, when something is in the way; 3 when nobody answers; 501 without a mirror."""
    mount, project = roots
    async with sidecar(tmp_path, block(roots, reconcile=SLOW, debounce="1h")) as made:
        (mount / "a").write_bytes(b"a")
        assert (200, {"complete": True, "files": 1, "pending": 0}) == await flushed(made)
        (mount / "b").write_bytes(b"b")
        done = await command("flush", "--url", made.local, "--wait", "20s")
        assert (0, "complete: 1 file moved\n", "") == done
        assert {"a": b"a", "b": b"b"} == files(project)
        (mount / "c").write_bytes(b"c")
        (project / "c").mkdir()
        os.mkfifo(project / "c/pipe")
        (project / "x").symlink_to(".")
        (mount / "x").write_bytes(b"x")
        assert (503, {"complete": False, "files": 1, "pending": 1}) == await flushed(made, 0.5), "the directory is kept beside, the link is in the way"
        done = await command("flush", "--url", made.local, "--wait", "300ms")
        assert (1, "not complete: 1 file pending, 0 files moved\n") == done[:2]
        mirror = await agent(made)
        assert [("x", "there is something that is no regular file")] == [(one["path"], one["why"]) for one in mirror["differences"]]
        scrape = await made.scrape()
        assert 2 == scrape.value("syncwatch_mirror_flushes_total", mirror="agent", result="complete")
        assert 2 == scrape.value("syncwatch_mirror_flushes_total", mirror="agent", result="timeout")
        assert 1 == scrape.value("syncwatch_mirror_differing_paths", mirror="agent")
        (project / "x").unlink()
        assert 200 == (await flushed(made))[0]
        local = made.local
    done = await command("flush", "--url", local)
    assert 3 == done.code
    assert "cannot be asked" in done.err
    assert (2, "--wait: \"soon\" is not a duration; write 15s, 250ms, 5m or 1h\n") == ((bad := await command("flush", "--wait", "soon")).code, bad.err)


async def test_the_end_flushes_and_is_as_fast_as_it_can(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """SIGTERM: what was written is on the other side, within `flush_timeout` and two seconds, also when something is in the way."""
    mount, project = roots
    async with sidecar(tmp_path, block(roots, reconcile=SLOW, debounce="1h", flush_timeout="1s")) as made:
        for number in range(300):
            (mount / f"f{number}").write_bytes(b"%d" % number)
        assert 0 == (await made.end())[0]
        assert files(mount) == files(project)
        assert 300 == len(files(project))
        (line,) = made.log("mirrors were flushed before the end")
        assert (True, 300, 0) == (line["complete"], line["files"], line["pending"])
    (project / "x").symlink_to(".")
    async with sidecar(tmp_path, block(roots, reconcile=SLOW, debounce="1h", flush_timeout="1s")) as made:
        (mount / "x").write_bytes(b"x")
        code, took_s = await made.end()
        assert 0 == code
        assert took_s < 1.0 + PROMPTLY_S
        (line,) = made.log("mirrors were flushed before the end")
        assert (False, 1) == (line["complete"], line["pending"])


async def test_a_killed_sidecar_loses_nothing(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """SIGKILL at any moment, again and again, while both sides are written: what was written last on either side is somewhere, and the next flush brings the trees together."""
    mount, project = roots
    last: dict[Path, bytes] = {}
    for life in range(5):
        async with sidecar(tmp_path, block(roots)) as made:
            for number in range(60):
                place = roots[number % 2] / f"{number % 2}/f{number % 10}"
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(b"%d %d" % (life, number) * 5000)
                last[place] = place.read_bytes()
                if number % 10 == 9:
                    await asyncio.sleep(0.02)
            made.process.send_signal(signal.SIGKILL)
            await made.process.wait()
    async with sidecar(tmp_path, block(roots)) as made:
        assert 200 == (await flushed(made))[0]
    there = files(mount)
    assert there == files(project)
    assert set(last.values()) <= set(there.values())
    assert not [path for path in there if ".syncwatch-" in path]


async def test_what_is_told(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """That it acts, at the start; what goes wrong with a path, by its name, once; the terminal shows it; nothing of it is a label."""
    mount, project = roots
    async with sidecar(tmp_path, block(roots, reconcile=OFTEN)) as made:
        said = await made.said("a mirror is in mode sync: it copies and deletes")
        assert (str(mount), str(project)) == (said["mount"], said["project"])
        name = os.fsdecode(b"\xff weird\n")
        (mount / name).write_bytes(b"1")
        (project / name).write_bytes(b"2")
        trouble = await made.said("mirror_trouble")
        assert ("agent", "conflict", "warning") == (trouble["mirror"], trouble["result"], trouble["level"])
        assert trouble["path"].startswith("\\udcff weird\\n.conflict-")
        (project / "x").symlink_to(".")
        (mount / "x").write_bytes(b"x")
        await until(lambda: agent(made), lambda mirror: mirror["differing"] == 1)
        document = await made.status()
        shown = await command("status", "--url", made.local)
        assert "agent has 1 differing path" in shown.out
        assert "weird" not in (await made.scrape()).text
        assert ["sync", str(mount), str(project)] == [document["mirrors"][0][key] for key in ("mode", "mount", "project")]


async def test_a_mirror_that_is_stuck_closes_the_gate_for_writing(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """After `reconcile.degraded`; healthz fails where it was configured to; all is well again when the way is free."""
    mount, project = roots
    (mount / "x").write_bytes(b"x")
    (project / "x").symlink_to(".")
    health = {"degraded_after": "0s", "recovered_after": "0s", "healthz": {"fail_on": {"mirror_stuck": "0s"}}}
    async with sidecar(tmp_path, block(roots, reconcile=OFTEN), health=health) as made:
        code, _ = await until(lambda: made.gate("write"), lambda seen: "mirror_stuck" in seen[1]["detail"])
        assert 503 == code
        assert 503 == (await made.probe("/healthz"))[0]
        assert 200 == (await made.probe("/livez"))[0]
        scrape = await until(made.scrape, lambda scrape: scrape.value("syncwatch_degraded", name="agent", reason="mirror_stuck") == 1)
        assert scrape.value("syncwatch_mirror_oldest_pending_age_seconds", mirror="agent") > 0.2
        (project / "x").unlink()
        await until(lambda: made.gate("write"), lambda seen: seen[0] == 200)
        assert 200 == (await made.probe("/healthz"))[0]


async def test_a_mirror_whose_patterns_cannot_be_read_is_held(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """Stuck at once, with the file and the error; nothing is copied, the gate for writing is closed, a flush says no; all is well when the file can be read."""
    mount, project = roots
    async with sidecar(tmp_path, block(roots, reconcile=SLOW)) as made:
        (project / ".agentignore").write_bytes(b"#" * 65_537)
        (project / "secret").write_bytes(b"s")
        status, flush = await flushed(made, 0.3)
        assert (503, False) == (status, flush["complete"])
        assert ".agentignore cannot be read: it is larger than 65536 bytes; nothing is mirrored until it can" == (await agent(made))["last_error"]
        code, told = await made.gate("write")
        assert (503, True) == (code, "mirror_stuck" in told["detail"])
        assert {} == files(mount)
        new = tmp_path / "new"
        new.write_bytes(b"secret\n")
        new.rename(project / ".agentignore")
        assert (200, True) == ((again := await flushed(made))[0], again[1]["complete"])
        assert {".agentignore"} == files(mount).keys()


async def test_mirrors_change_while_the_sidecar_runs(tmp_path: Path, roots: tuple[Path, Path]) -> None:
    """Other times go on with what is known, another mode is another mirror; one that is taken away stops; 501 when none is left."""
    mount, project = roots
    (mount / "a").write_bytes(b"a")
    service = {"name": "s", "url": "http://127.0.0.1:9/"}
    observing = block(roots, mode="observe", reconcile=SLOW, flush_timeout="100ms")
    config: Document = {"mirrors": [observing], "services": [service]}
    async with sidecar(tmp_path, observing, services=[service]) as made:
        assert 1 == (await agent(made))["differing"]
        file = tmp_path / "syncwatch.yaml"
        config = json.loads(json.dumps(config)) | {"listen": "127.0.0.1:0", "local_listen": "127.0.0.1:0", "log": {"format": "json"}}
        config["mirrors"][0] |= {"reconcile": OFTEN}
        file.write_text(json.dumps(config))
        await reloaded(made)
        before = (await agent(made))["last_reconcile"]["time"]
        await until(lambda: agent(made), lambda mirror: mirror["last_reconcile"]["time"] != before)
        config["mirrors"][0] |= {"mode": "sync"}
        file.write_text(json.dumps(config))
        await reloaded(made)
        await holds(lambda: {"a": b"a"} == files(project))
        config["mirrors"] = []
        file.write_text(json.dumps(config))
        await reloaded(made)
        assert [] == (await made.status())["mirrors"]
        async with made.http.post(f"{made.local}/flush") as answer:
            assert 501 == answer.status


async def test_a_scrape_waits_for_no_disk(roots: tuple[Path, Path]) -> None:
    """The loop goes on while a comparison of many files runs."""
    mount, _ = roots
    for number in range(5000):
        (mount / f"f{number}").write_bytes(b"")
    async with Watch({"mirrors": [block(roots, mode="observe", flush_timeout="10ms")]}) as watch:
        longest_s, waiting = 0.0, asyncio.create_task(watch.mirror("agent").flush(5))
        await asyncio.sleep(0)
        while watch._machinery.snapshot().mirrors[0].last_reconcile is None:
            began_s = time.monotonic()
            await asyncio.sleep(0.001)
            longest_s = max(longest_s, time.monotonic() - began_s)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    assert longest_s < 1.0
