"""A tree that is read again and again, where the file system would not tell of every change: other machines write to it, or nothing tells at all.

What belongs here: which file systems these are, and what differs between two readings.
"""

from __future__ import annotations

import os
import select
import time

from syncwatch.core.ignores import Ignores
from syncwatch.core.states import FileChange
from syncwatch.core.watch import Root, Survey
from syncwatch.runtime.inotify import Batch, Sink, Worker, fault_of, is_own, root_of
from syncwatch.runtime.mounts import MOUNTS, mount_table, mounts

REMOTE = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gfs2", "ocfs2", "gpfs", "virtiofs", "vboxsf", "prl_fs", "vmhgfs", "fuse", "beegfs",
    "orangefs", "coda", "proc", "sysfs", "cgroup", "cgroup2",
})  # fmt: skip
"""Types of file systems whose content changes without this kernel: what others write gives no event here. With `fuse` also everything named `fuse.…`."""

Known = dict[str, tuple[int, int, int, int]]
"""What a reading remembers of each path: inode, size, and the times of content and of everything else."""


def why_polled(path: str, table: str = MOUNTS) -> str | None:
    """Why events alone would not do for `path`, as a sentence; None where they do, and where nobody can tell. Raises: OSError when there is nothing at `path`."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    real = os.fsencode(os.path.realpath(path)) + b"/"
    above = [mount for mount in mounts(mount_table(table)) if mount.device == wanted and real.startswith(mount.point.rstrip(b"/") + b"/")]
    if not above:
        return None
    kind = max(above, key=lambda mount: len(mount.point)).kind.decode(errors="replace")
    if kind in REMOTE or kind.startswith("fuse."):
        return f"the file system is {kind}, which does not tell what others change"
    return None


class Readings(Worker):
    """Reads the tree, pauses for `poll_s`, reads it again. `why`: the sentence for people."""

    def __init__(self, path: str, ignores: Ignores, sentinel_name: str, sink: Sink, poll_s: float, why: str) -> None:
        super().__init__(path, ignores, sentinel_name, sink)
        self.poll_s = poll_s
        self.why = why
        self._root: Root | None = None
        self._known: Known = {}
        self._survey = Survey()
        self._uprooted = False

    def _work(self) -> None:
        self._root = root_of(self.path)
        self._known, self._survey = self._reading()
        self.sink.subscribed(self._root, self._survey, self.why)
        poll = select.poll()
        poll.register(self._wake_r, select.POLLIN)
        more, due_s = True, time.monotonic() + self.poll_s
        while more:
            asked = poll.poll(max(0.0, due_s - time.monotonic()) * 1000.0)
            if asked:
                more = self._errands()
            else:
                self._drained()
                due_s = time.monotonic() + self.poll_s

    def _drained(self) -> bool:
        """Read the tree once more, and tell what differs."""
        try:
            replaced = root_of(self.path) != self._root
        except OSError:
            replaced = True
        if replaced:
            if not self._uprooted:
                self._uprooted = True
                self.sink.uprooted()
            return False
        known, survey = self._reading()
        batch = differences(self._known, known)
        self._known = known
        if batch:
            self.sink.changed(batch)
        if survey != self._survey:
            self._survey = survey
            self.sink.surveyed(survey)
        self.sink.scanned()
        return not survey.unseen

    def _reading(self) -> tuple[Known, Survey]:
        known: Known = {}
        unseen: list[tuple[str, OSError]] = []
        waiting, folders = [""], 0
        while waiting:
            folder = waiting.pop()
            full = os.path.join(self.path, folder) if folder else self.path
            try:
                with os.scandir(full) as entries:
                    folders += 1
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        is_directory = entry.is_dir(follow_symlinks=False)
                        if is_own(path) or (self.ignores.directory(path) if is_directory else self.ignores.file(path)):
                            continue
                        if is_directory:
                            waiting.append(path)
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        known[path] = (found.st_ino, 0, 0, 0) if is_directory else (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            except (FileNotFoundError, NotADirectoryError) as error:
                if not folder:
                    raise
                del error
            except OSError as error:
                if not folder:
                    raise
                unseen.append((full, error))
        if not unseen:
            return known, Survey(folders)
        trouble, detail = fault_of(unseen[0][1], unseen[0][0])
        return known, Survey(folders, len(unseen), trouble, detail)


def differences(before: Known, after: Known) -> Batch:
    """What happened between two readings."""
    batch: Batch = dict.fromkeys(before.keys() - after.keys(), FileChange.DELETED)
    for path, state in after.items():
        known = before.get(path)
        if known is None:
            batch[path] = FileChange.ADDED
        elif known != state:
            batch[path] = FileChange.MODIFIED
    return batch
