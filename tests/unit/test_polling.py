"""Which file systems are polled, and what differs between two readings of a tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncwatch.core.states import FileChange
from syncwatch.runtime.polling import differences, why_polled


def mounts(file: Path, kind: str, point: str, device: int) -> str:
    """A table of mounts in which `point` has a file system of this kind."""
    number = f"{os.major(device)}:{os.minor(device)}"
    file.write_text(
        f"22 1 0:99 / / rw,relatime shared:1 - ext4 /dev/root rw\n36 22 {number} / {point} rw,noatime shared:2 master:1 - {kind} server:/export rw\n"
    )
    return str(file)


@pytest.mark.parametrize(
    ("kind", "polled"),
    [("nfs4", True), ("cifs", True), ("9p", True), ("fuse.sshfs", True), ("virtiofs", True), ("ext4", False), ("overlay", False), ("tmpfs", False), ("fuseblk", False)],
)
def test_file_systems_that_others_write_to_are_polled(tmp_path: Path, kind: str, polled: bool) -> None:
    """The sentinel could not tell: we write it here, so its event comes, and everybody else's change does not."""
    root = tmp_path / "with space"
    root.mkdir()
    table = mounts(tmp_path / "mounts", kind, str(tmp_path.resolve()).replace(" ", "\\040"), root.stat().st_dev)
    expected = f"the file system is {kind}, which does not tell what others change" if polled else None
    assert expected == why_polled(str(root), table)


def test_the_kernels_escapes_are_those_of_bytes(tmp_path: Path) -> None:
    """A mount point with a space, a backslash and letters beyond ASCII: only spaces, tabs, newlines and backslashes are escaped, byte by byte."""
    root = tmp_path / "für\\alle hier"
    root.mkdir()
    table = mounts(tmp_path / "mounts", "nfs4", str(root.resolve()).replace("\\", "\\134").replace(" ", "\\040"), root.stat().st_dev)
    assert "the file system is nfs4, which does not tell what others change" == why_polled(str(root), table)


def test_where_nothing_is_known_of_mounts_events_are_trusted(tmp_path: Path) -> None:
    """The sentinel finds out; a path that is not there is the caller's to handle."""
    assert why_polled(str(tmp_path), str(tmp_path / "none")) is None
    with pytest.raises(FileNotFoundError):
        why_polled(str(tmp_path / "none"))


def test_two_readings_are_compared_by_path() -> None:
    """Added, modified (size, times or another file under the same name), deleted; what is equal is not told."""
    before = {"same": (1, 2, 3, 4), "grown": (2, 2, 3, 4), "replaced": (3, 2, 3, 4), "gone": (4, 2, 3, 4)}
    after = {"same": (1, 2, 3, 4), "grown": (2, 9, 3, 4), "replaced": (5, 2, 3, 4), "new": (6, 2, 3, 4)}
    expected = {"grown": FileChange.MODIFIED, "replaced": FileChange.MODIFIED, "gone": FileChange.DELETED, "new": FileChange.ADDED}
    assert expected == differences(before, after)
