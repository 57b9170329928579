"""What two trees and the memory of how they agreed mean: what is to be copied, deleted, kept beside, refused.

Law: pure. A listing is a value, contents are told by their digests when they are asked for, and nothing is decided about a path whose directory could not be read.
A path is absent only when its directory was seen without it. Times of files are nanoseconds since 1970, as the file system tells them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from syncwatch.core.ignores import Ignores, parents

PRIMED_NS = 5_000_000_000
"""Equal size and time are believed when there is no memory of a path, if nobody wrote for this long."""
SAME_TIME_NS = 2_000_000
RACY_NS = 2_000_000_000
"""A file that was written less than this before it was looked at may be written again without its times showing it; the coarsest clock of a file system ticks so slowly."""

SMALL_TREE = 20
WINDOW_S = 60.0

MARKER = ".relayfile-local-mount"
"""Stands in the root of a mount that a local mirror of Relayfile has made."""
OWN_FOLDER = ".syncwatch"
"""What syncwatch itself writes into a tree, for no eyes but its own."""
TEMPORARY = ".syncwatch-"
"""How the names of unfinished copies begin; other files whose names begin so are passed over, and are nobody's to remove."""
PART, SWAP = ".part", ".swap"
"""How the names of our temporary files end: an unfinished copy, and what may be the only copy of somebody's contents for a moment."""
UNFINISHED = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{16}}(?:-{re.escape(SWAP)}|{re.escape(SWAP)}|{re.escape(PART)})")
"""The whole name of a temporary file of ours: nobody else gives one such a name."""
ONLY_IN_MOUNT = frozenset({"_MOUNT_README.md", MARKER})


class Side(enum.StrEnum):
    """One of the two trees."""

    MOUNT = "mount"
    PROJECT = "project"

    @property
    def other(self) -> Side:
        """The other tree."""
        return Side.PROJECT if self is Side.MOUNT else Side.MOUNT


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A regular file as `stat` tells it; `mode` are its nine permission bits. Equal entries of one path: nobody wrote, as far as times can show it."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    def racy(self, taken_ns: int) -> bool:
        """Whether a write after the look at `taken_ns` could leave the entry as it is."""
        return min(self.ctime_ns, self.mtime_ns) > taken_ns - RACY_NS  # also in the future: the look may have taken long, or the file system has a clock of its own


class Known(msgspec.Struct, frozen=True, gc=False):
    """Two entries whose contents agreed, and the digest of the contents if they were read. `racy`: somebody may have written since without the entries showing it."""

    mount: Entry
    project: Entry
    digest: bytes | None = None
    racy: bool = False

    def proof(self, side: Side, entry: Entry) -> bytes | None:
        """What the contents on this side must be if the entry alone does not show that nobody wrote."""
        return self.digest if self.racy or entry != (self.mount if side is Side.MOUNT else self.project) else None


class Listing(msgspec.Struct):
    """What was seen in one tree (or below some of its paths): regular files, directories, things that are neither, and directories that could not be read, with why.

    `taken_ns`: wall time before the first look. `strays` are unfinished copies of an earlier process.
    """

    taken_ns: int
    files: dict[str, Entry] = {}
    directories: set[str] = set()
    specials: set[str] = set()
    unread: dict[str, str] = {}
    strays: list[str] = []

    def unknown(self, path: str) -> str | None:
        """Why it cannot be told whether there is a file at `path` that the listing has not; None when it can."""
        if path in self.specials:
            return "there is something that is no regular file"
        if not self.specials and not self.unread:
            return None
        for above in ("", *parents(path)):
            if above in self.unread:
                return f"its directory cannot be read: {self.unread[above]}"
            if above in self.specials:
                return "a directory above it is a link, or no directory"
        return None


class Kind(enum.Enum):
    """Which way a path may flow."""

    BOTH = enum.auto()
    READ_ONLY = enum.auto()
    """The project wins, and the copy in the mount cannot be written."""
    NO_BACK = enum.auto()
    """The project wins."""


class Rules:
    """What is left out, and what only flows into the mount. `read_only` are patterns; below `.git`, if it is not left out, nothing flows back."""

    def __init__(self, ignore: Iterable[str] = (), read_only: Iterable[str] = ()) -> None:
        self.ignores = Ignores(ignore)
        self.read_only = Ignores(read_only)
        self._git = ".git" not in self.ignores.names

    def kind(self, path: str) -> Kind:
        """Which way this path may flow."""
        if self.read_only and self.read_only.covers(path):
            return Kind.READ_ONLY
        return Kind.NO_BACK if self._git and path.startswith(".git/") else Kind.BOTH

    def mode(self, path: str, side: Side, mode: int) -> int:
        """The permissions that a copy on `side` gets."""
        return mode & 0o555 if side is Side.MOUNT and self.kind(path) is Kind.READ_ONLY else mode

    def one_way(self) -> bool:
        """Whether some path may flow one way only."""
        return self._git or bool(self.read_only)

    def ours(self, path: str) -> bool:
        """Whether a path is no business of the mirror: left out, or written by syncwatch itself."""
        names = path.split("/")
        if path in ONLY_IN_MOUNT or OWN_FOLDER in names or names[-1].startswith(TEMPORARY):
            return True
        return self.ignores.covers(path)


class Verdict(enum.Enum):
    """What is to be done about one path."""

    SETTLED = enum.auto()
    """Nothing: the two sides agree, or are allowed to differ here."""
    REMEMBER = enum.auto()
    """They agree, and this is how."""
    FORGET = enum.auto()
    """It is gone from both."""
    READ = enum.auto()
    """Only the contents can tell: ask again with their digests."""
    COPY = enum.auto()
    """To `Decision.target`, whose file (if any) was not changed."""
    CONFLICT = enum.auto()
    """To `Decision.target`, whose own changed file loses and is kept beside."""
    DELETE = enum.auto()
    """From `Decision.target`."""
    DISCARD = enum.auto()
    """From `Decision.target`, where it was changed, which is not allowed there: kept beside."""
    BLOCKED = enum.auto()
    """Cannot be done as the other side is now; `Decision.why`."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A verdict, which side it acts on, and why nothing can be done."""

    verdict: Verdict
    target: Side = Side.MOUNT
    why: str = ""


SETTLED = Decision(Verdict.SETTLED)
REMEMBER = Decision(Verdict.REMEMBER)
FORGET = Decision(Verdict.FORGET)
READ = Decision(Verdict.READ)
Digests = tuple[bytes | None, bytes | None]
"""Of the contents in the mount and in the project; None where there is no file."""


def judge(mount: Entry | None, project: Entry | None, known: Known | None, kind: Kind, digests: Digests | None = None) -> Decision:
    """What becomes of one path that was looked for on both sides; never READ once the digests are given."""
    if mount is None and project is None:
        return SETTLED if known is None else FORGET
    if known is not None and known.racy and digests is None:
        return READ
    mount_changed = _changed(mount, known, None if known is None else known.mount, digests, 0)
    project_changed = _changed(project, known, None if known is None else known.project, digests, 1)
    if digests is None and known is not None and known.digest is not None and mount_changed and project_changed:
        return READ  # times and permissions alone are no change that could win over another one
    if mount is not None and project is not None:
        return _both(mount, project, known, kind, digests, mount_changed, project_changed)
    if project is None:
        if known is None:
            return Decision(Verdict.COPY, Side.PROJECT) if kind is Kind.BOTH else SETTLED
        if not mount_changed:
            return Decision(Verdict.DELETE, Side.MOUNT)
        return Decision(Verdict.COPY, Side.PROJECT) if kind is Kind.BOTH else Decision(Verdict.DISCARD, Side.MOUNT)
    if known is None or project_changed or kind is not Kind.BOTH:
        return Decision(Verdict.COPY, Side.MOUNT)
    return Decision(Verdict.DELETE, Side.PROJECT)


def _changed(entry: Entry | None, known: Known | None, before: Entry | None, digests: Digests | None, index: int) -> bool:
    """Whether the contents may be other ones than those that agreed."""
    if known is None or entry is None or before is None:
        return True
    if digests is not None and known.digest is not None:
        return digests[index] != known.digest
    return entry != before


def _both(
    mount: Entry, project: Entry, known: Known | None, kind: Kind, digests: Digests | None, mount_changed: bool, project_changed: bool
) -> Decision:
    if digests is None and not mount_changed and not project_changed:
        return SETTLED
    if mount.size == project.size:
        if digests is None:
            return READ
        if digests[0] == digests[1]:
            return _same_contents(mount, project, known, kind)
    if kind is not Kind.BOTH:
        return Decision(Verdict.CONFLICT if mount_changed else Verdict.COPY, Side.MOUNT)
    if known is not None and mount_changed and project_changed and _only_permissions(mount, known.mount) and not _only_permissions(project, known.project):
        return Decision(Verdict.CONFLICT, Side.MOUNT)
    if mount_changed == project_changed:  # both, or neither shows it: then nobody knows who is newer
        return Decision(Verdict.CONFLICT, Side.PROJECT)
    return Decision(Verdict.COPY, Side.PROJECT if mount_changed else Side.MOUNT)


def _only_permissions(entry: Entry, before: Entry) -> bool:
    """Whether a chmod is all that can be seen. Who writes and sets the time back is not seen, so this decides who wins, and not that nothing is kept."""
    return entry.mode != before.mode and (entry.size, entry.mtime_ns, entry.inode) == (before.size, before.mtime_ns, before.inode)


def _same_contents(mount: Entry, project: Entry, known: Known | None, kind: Kind) -> Decision:
    """Permissions follow whoever changed them; how they differed from the beginning is left as it is."""
    if known is None or kind is Kind.READ_ONLY:
        return REMEMBER
    if project.mode != known.project.mode and project.mode != mount.mode and (kind is not Kind.BOTH or mount.mode == known.mount.mode):
        return Decision(Verdict.COPY, Side.MOUNT)
    if mount.mode != known.mount.mode and mount.mode != project.mode and kind is Kind.BOTH:
        return Decision(Verdict.COPY, Side.PROJECT)
    return REMEMBER


class Survey(msgspec.Struct):
    """The paths of two listings about which something is to be decided; all others agree, `primed` for the first time. `skipped`: nothing can be said about them, and why."""

    undecided: list[str] = []
    primed: list[str] = []
    skipped: dict[str, str] = {}


def survey(mount: Listing, project: Listing, known: dict[str, Known], scope: Iterable[str] | None = None) -> Survey:
    """Compare two listings with what is known, which learns the pairs that agree at sight.

    `scope`: the known paths that the listings are about; None: all of them.
    """
    found = Survey()
    undecided, projects = found.undecided, project.files
    old_ns = min(mount.taken_ns, project.taken_ns) - PRIMED_NS
    look, here = known.get, projects.get
    for path, entry in mount.files.items():
        other, before = here(path), look(path)
        if other is not None:
            if before is None:
                gap_ns = entry.mtime_ns - other.mtime_ns
                if entry.size == other.size and -SAME_TIME_NS <= gap_ns <= SAME_TIME_NS and entry.mtime_ns < old_ns:
                    known[path] = Known(entry, other)
                    found.primed.append(path)
                    continue
            elif not before.racy and before.mount == entry and before.project == other:
                continue
        undecided.append(path)
    undecided += projects.keys() - mount.files.keys()
    gone = (known.keys() if scope is None else set(scope)) - mount.files.keys() - projects.keys()
    undecided += gone
    if mount.specials or project.specials or mount.unread or project.unread:
        _skip(found, mount, project, known)
    undecided.sort()
    return found


def _skip(found: Survey, mount: Listing, project: Listing, known: Mapping[str, Known]) -> None:
    """Take out what cannot be judged because one side could not be seen; it is differing only if the other side has something to tell."""
    sure = []
    for path in found.undecided:
        ours, theirs = mount.files.get(path), project.files.get(path)
        why = (mount.unknown(path) if ours is None else None) or (project.unknown(path) if theirs is None else None)
        if why is None:
            sure.append(path)
            continue
        before = known.get(path)
        seen, agreed = (ours, before and before.mount) if ours is not None else (theirs, before and before.project)
        if seen is not None and (agreed is None or agreed != seen):
            found.skipped[path] = why
    found.undecided[:] = sure


class Ruling(msgspec.Struct, frozen=True):
    """Whether deletions may be performed; `refused`: how many of them are refused for the first time; why not. `counts`: tell `done` how many were performed."""

    allowed: bool = True
    counts: bool = True
    refused: int = 0
    why: str = ""


class Deletions:
    """Guards each tree against deletions that are none: those of a root that lost its marker, and most of a tree at once.

    `hold_s`: how long after the first refusal a full comparison that still sees most of a tree gone may let it happen.
    """

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self._done: dict[Side, list[tuple[float, int]]] = {side: [] for side in Side}
        self._held_since_s: dict[Side, float | None] = dict.fromkeys(Side)
        self._refused: dict[Side, set[str]] = {side: set() for side in Side}

    def rule(self, now: float, target: Side, wanted: Iterable[str], tree: int, trusted: str | None, full: bool) -> Ruling:
        """Whether these may be deleted from `target`, a tree of so many files.

        `trusted`: None when the root that they are missing from is itself, otherwise why that is not sure. `full`: both trees were seen whole.
        """
        paths = set(wanted)
        self._done[target] = [(at_s, count) for at_s, count in self._done[target] if now - at_s < WINDOW_S]
        gone = sum(count for _, count in self._done[target])
        if full:
            self._refused[target] &= paths
        storm = tree + gone > SMALL_TREE and 2 * (len(paths) + gone) > tree + gone
        if not paths or not storm:
            if full:
                self._held_since_s[target] = None
            if trusted is not None and paths:
                return self._refuse(target, paths, trusted)
            return Ruling()
        since_s = self._held_since_s[target]
        if full and since_s is None:
            self._held_since_s[target] = now
        if trusted is not None:
            return self._refuse(target, paths, trusted)
        if full and since_s is not None and now - since_s >= self.hold_s:
            self._held_since_s[target] = None
            self._refused[target] -= paths
            self._done[target].clear()  # it was meant: what follows is measured against what is left
            return Ruling(counts=False)
        return self._refuse(target, paths, f"{len(paths)} of {tree} files would be deleted at once")

    def done(self, now: float, target: Side, count: int) -> None:
        """So many were deleted."""
        if count:
            self._done[target].append((now, count))

    def _refuse(self, target: Side, paths: set[str], why: str) -> Ruling:
        fresh = len(paths - self._refused[target])
        self._refused[target] |= paths
        return Ruling(False, refused=fresh, why=why)


def beside(name: str, stamp: str, taken: Iterable[str] = ()) -> Iterator[str]:
    """Names under which the loser of a conflict may be kept, the nicest first; at most 255 bytes each, as file systems want it."""
    for number in range(1, 1000):
        ending = f".conflict-{stamp}" + ("" if number == 1 else f"-{number}")
        stem = name
        while len(stem.encode("utf-8", "surrogateescape")) > 255 - len(ending):
            stem = stem[:-1]
        if stem + ending not in taken:
            yield stem + ending


def shown(path: str) -> str:
    """A path as text that can be printed on one line: what is no text is escaped."""
    return "".join(letter if letter.isprintable() and not 0xD800 <= ord(letter) < 0xE000 else letter.encode("unicode_escape").decode() for letter in path)
