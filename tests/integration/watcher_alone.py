"""Troubles that need a namespace of their own, so that nobody else's limits and mounts are touched: `python -m tests.integration.watcher_alone TROUBLE DIRECTORY`.

What belongs here: one function for each; it fails by raising. They are run below `unshare`.
"""

# ruff: noqa: ASYNC221, ASYNC240  the files are the test, and nothing else runs on this loop

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from syncwatch.core.states import WatchMode
from tests.integration.watcher_parts import FAST, held, watching


def limit(name: str, value: int) -> None:
    """A limit of this user namespace."""
    Path("/proc/sys/user", name).write_text(str(value))


async def watches(root: Path) -> None:
    """Directories for which no inotify watch is left: blind, named as limits, alive again when there are enough."""
    for number in range(5):
        (root / f"d{number}").mkdir()
    limit("max_inotify_watches", 4)
    async with watching(root, wait=False) as watched:
        await watched.until(lambda: watched.notices, "said nothing")
        assert ("blind", "limits") == watched.notices[0], watched.notices
        assert not watched.watch.up
        seen = watched.watch.snapshot()
        assert "fs.inotify.max_user_watches" in (seen.detail or ""), seen
        assert (4, 4) == (held()[1], seen.directories)
        limit("max_inotify_watches", 1000)
        await watched.up()
        assert {"limits": 1} == watched.restarts
        (root / "d4" / "file").write_text("x")
        await watched.until(lambda: "d4/file" in watched.paths)
        # The same while it runs: a directory that is made and cannot be watched.
        limit("max_inotify_watches", 7)
        (root / "new").mkdir()
        await watched.until(lambda: ("blind", "limits") == watched.notices[-1], "a new directory was not watched, and nothing was said")
        limit("max_inotify_watches", 1000)
        await watched.healed("limits", 2)


async def instances(root: Path) -> None:
    """No inotify instance is left: dead, named as limits, alive as soon as there is one."""
    limit("max_inotify_instances", 0)
    async with watching(root, wait=False) as watched:
        await watched.until(lambda: watched.notices, "said nothing")
        assert [("dead", "limits")] == watched.notices
        assert "fs.inotify.max_user_instances" in (watched.watch.snapshot().detail or "")
        limit("max_inotify_instances", 10)
        await watched.healed("limits")
        await watched.notices_changes()


async def permissions(root: Path) -> None:
    """A directory that may not be read any more: blind while that lasts, whether it was there before or is new."""
    inner, made = root / os.fsdecode(b"no\xfftext"), root / "made"
    inner.mkdir()
    async with watching(root) as watched:
        inner.chmod(0)
        await watched.until(lambda: ("blind", "error") == watched.notices[-1], "permissions were lost and nothing was said")
        assert "no\\xfftext: permission denied" in (watched.watch.snapshot().detail or ""), "as it can be shown"
        assert msgspec.json.encode(watched.watch.snapshot())
        inner.chmod(0o755)
        await watched.up()
        made.mkdir(0)
        await watched.until(lambda: ("blind", "error") == watched.notices[-1], "a directory without permissions was not noticed")
        made.chmod(0o755)
        await watched.up()
        (made / "file").write_text("x")
        await watched.until(lambda: "made/file" in watched.paths)
        root.chmod(0o555)
        (root / ".syncwatch").chmod(0o555)
        (root / ".syncwatch" / "tester").chmod(0o444)
        await watched.until(lambda: ("blind", None) == watched.notices[-1], "the sentinel cannot be written and nothing was said")
        (root / ".syncwatch" / "tester").chmod(0o644)
        root.chmod(0o755)
        (root / ".syncwatch").chmod(0o755)
        await watched.up()


async def unwritable(root: Path) -> None:
    """A root where we may not write from the start: passive, and nothing is written."""
    root.chmod(0o555)
    async with watching(root) as watched:
        assert WatchMode.PASSIVE is watched.watch.mode
        assert "permission denied" in (watched.watch.snapshot().detail or "")
        assert [] == os.listdir(root)


async def mounts(root: Path) -> None:
    """Something is mounted over the root, changed to read-only, and unmounted: each time it is another file system, and watched again."""
    (root / "below").write_text("x")
    (root.parent / "elsewhere").mkdir()
    async with watching(root) as watched:
        mount("-t", "tmpfs", "tmpfs", str(root))
        await watched.healed("root_replaced")
        await watched.notices_changes("above")
        mount("-o", "remount,ro", str(root))
        await watched.until(lambda: ("blind", None) == watched.notices[-1], "the root is read-only now and nothing was said")
        assert "read-only file system" in (watched.watch.snapshot().detail or "")
        mount("-o", "remount,rw", str(root))
        await watched.up()
        subprocess.run(["umount", "--lazy", str(root)], check=True)
        await watched.healed("root_replaced", 2)
        await watched.notices_changes("below-again")
    inner = root / "inner dir"
    inner.mkdir()
    async with watching(root, msgspec.structs.replace(FAST, check_s=60.0)) as watched:
        mount("-t", "tmpfs", "tmpfs", str(inner))
        await watched.healed("root_replaced")
        (inner / "above").write_text("x")
        await watched.until(lambda: "inner dir/above" in watched.paths, "a mount below the root was not noticed")
        subprocess.run(["umount", "--lazy", str(inner)], check=True)
        await watched.until(lambda: watched.rescans == 3 and watched.watch.up, "an unmount below the root was not noticed")
        (inner / "below").write_text("x")
        await watched.until(lambda: "inner dir/below" in watched.paths)
        mount("-t", "tmpfs", "tmpfs", str(root.parent / "elsewhere"))
        assert await watched.watcher.caught_up(10.0)
        assert 3 == watched.rescans, "a mount elsewhere is none of our business"
    mount("-t", "tmpfs", "tmpfs", str(root))
    mount("-o", "remount,ro", str(root))
    async with watching(root) as watched:
        assert WatchMode.PASSIVE is watched.watch.mode, "read-only from the start"
    async with watching(root, msgspec.structs.replace(FAST, interval_s=None)) as watched:
        mount("-t", "tmpfs", "tmpfs", str(root))
        await watched.healed("root_replaced")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


TROUBLES = {work.__name__: work for work in (watches, instances, permissions, unwritable, mounts)}

if __name__ == "__main__":
    asyncio.run(TROUBLES[sys.argv[1]](Path(sys.argv[2])))
    print("done")
