"""The system's table of mounts (proc(5), mountinfo), for those who look after trees of files. Elsewhere than on Linux it is empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MOUNTS = "/proc/self/mountinfo"
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of the table: its number and its parent's, `device` as major:minor, which directory of it, where it is mounted, and the file system's kind."""

    number: bytes
    parent: bytes
    device: bytes
    part: bytes
    point: bytes
    kind: bytes


def mount_table(path: str = MOUNTS) -> bytes:
    """The table as it is; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def mounts(table: bytes) -> Iterator[Mount]:
    """Line by line; paths without their escapes."""
    for line in table.splitlines():
        fields = line.split(b" ")
        if len(fields) > 6 and b"-" in fields[6:-1]:
            number, parent, device, part, point, *_ = fields
            yield Mount(number, parent, device, part, _OCTAL.sub(_byte, point), fields[fields.index(b"-", 6) + 1])


def _byte(octal: re.Match[bytes]) -> bytes:
    return bytes((int(octal[1], 8) & 0xFF,))
