"""What a reader may believe of a status file: what it says, how old that is, and whether its writer lives.

What belongs here: the reader's side. A sidecar never needs it; who asks about one does.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path

import msgspec

from syncwatch.runtime.statusfile import FILE, SCHEMA, Writer, Written, process, uptime, writer

OVERDUE = 3
"""So many intervals without a word, and what the file says is not believed any more."""
MAX_BYTES = 64 * 2**20


class Unusable(Exception):  # noqa: N818  a sentence for people
    """There is no status file, or nothing can be learned from it."""


class Reading(msgspec.Struct, frozen=True):
    """What a status file says, and whether that is still so: `detail` is the sentence that says why not."""

    path: Path
    status: dict[str, object]
    age_s: float
    current: bool
    detail: str | None


class Life(StrEnum):
    """Whether the process that wrote is still there."""

    RUNNING = "running"
    STOPPED = "stopped"  # by a signal or a debugger: there, and doing nothing
    GONE = "gone"
    UNKNOWN = "unknown"  # of another container or machine, or the system does not tell


def read(directory: Path, wall_s: float) -> Reading:
    """The status file of a state directory, at that wall time. Blocks. Raises: Unusable."""
    path = directory / FILE
    written = _decoded(path)
    here = writer()
    same_boot = here.boot is not None and here.boot == written.writer.boot
    age_s = max(0.0, uptime() - written.uptime_s if same_boot else wall_s - written.time_s)
    detail = _doubt(written, age_s, life(written.writer, here))
    try:
        status = msgspec.json.decode(written.status, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable(f"{path} is no status file: {error}") from None
    return Reading(path, status, age_s, detail is None, detail)


def _decoded(path: Path) -> Written:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        missing = path if path.parent.is_dir() else path.parent
        raise Unusable(f"{missing} does not exist: no sidecar with this state_dir has written there") from None
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise Unusable(f"{path} cannot be read: {why}" + (" (only the user that the sidecar runs as may)" if isinstance(error, PermissionError) else "")) from None
    if not content:
        raise Unusable(f"{path} is empty: the machine crashed while it was written, or it is no status file")
    if len(content) > MAX_BYTES:
        raise Unusable(f"{path} is no status file: larger than {MAX_BYTES} bytes")
    try:
        schema = msgspec.json.decode(content, type=_Schema).schema
        if schema != SCHEMA:
            raise Unusable(f"{path} was written by another version of syncwatch: schema {schema}, this one reads {SCHEMA}")
        return msgspec.json.decode(content, type=Written)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unusable(f"{path} is no status file, or is damaged: {error}") from None


class _Schema(msgspec.Struct, frozen=True):
    schema: int


def _doubt(written: Written, age_s: float, alive: Life) -> str | None:
    """Why what it says is no longer so, as a sentence; None: it is."""
    last, pid = f"{written.time[:19].replace('T', ' ')} UTC", written.writer.pid
    if written.ended:
        return f"the sidecar is not running: it was stopped at {last}"
    if alive is Life.GONE:
        return f"the sidecar is not running, last seen {last}: it did not end in an orderly way"
    if alive is Life.STOPPED:
        return f"the sidecar (process {pid}) is stopped, by a signal or a debugger; last seen {last}"
    if age_s <= OVERDUE * written.every_s:
        return None
    if alive is Life.RUNNING:
        return f"the sidecar (process {pid}) is there and has said nothing since {last}: it is stuck"
    return f"the sidecar is not running, or stuck, or not on this machine; last seen {last}"


def life(who: Writer, here: Writer) -> Life:
    """Whether that process runs, as seen from this one."""
    if who.boot != here.boot or who.namespace != here.namespace:
        return Life.UNKNOWN
    if who.pid <= 0:
        return Life.GONE  # to the system it would mean a group
    try:
        os.kill(who.pid, 0)
    except (ProcessLookupError, OverflowError):
        return Life.GONE
    except PermissionError:
        pass  # somebody else's: it is there
    if who.started is None:
        return Life.UNKNOWN
    found = process(who.pid)
    if found is None:
        return Life.UNKNOWN  # there, and hidden from us
    state, started = found
    if started != who.started or state in "ZX":
        return Life.GONE
    return Life.STOPPED if state in "Tt" else Life.RUNNING
