"""The work of one mirror: compares two trees in a thread and does what the rules say.

What belongs here: the order of the steps, and the memory of how the trees agreed. Which step is right is decided by `core.mirror_rules`, how it is done safely by `runtime.files`.
One comparison runs at a time, so the memory has one owner.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Callable, Iterable

import msgspec

from syncwatch.core.effects import Compare
from syncwatch.core.ignores import BadPatternError, parents
from syncwatch.core.mirror import LEFT_KEPT, Report
from syncwatch.core.mirror_rules import (
    MARKER,
    OWN_FOLDER,
    REMEMBER,
    SMALL_TREE,
    Decision,
    Deletions,
    Digests,
    Entry,
    Kind,
    Known,
    Listing,
    Rules,
    Side,
    Verdict,
    judge,
    shown,
    survey,
)
from syncwatch.runtime.clock import SYSTEM, Clock
from syncwatch.runtime.files import BlockedError, CancelledError, ChangedError, Tree, _now_stamp
from syncwatch.runtime.mounts import mount_table

ROUNDS = 4
"""A path that changes under our hands is looked at so often in one comparison."""
NOWHERE = (-1, -1)
EMPTIED = 10_000
"""So many directories without any file of ours are remembered; of more, the ones that were emptied first stay where they are when the other side's goes."""
PROVEN_FILES, PROVEN_BYTES = 200, 1 << 24
"""So much of what is only believed to be equal is read with each comparison of everything; a larger file is never."""
VANISHED_S = 1.0
"""So long after the patterns of a project were first seen to be gone it is believed: whoever saves a file may empty or remove it first."""
NAMED = 20
"""So many errors and conflicts are told by name; all are counted."""


class PairSettings(msgspec.Struct, frozen=True):
    """The two roots and the rules between them. `acts`: copy and delete; otherwise nothing is ever written."""

    name: str
    mount: str
    project: str
    acts: bool = False
    ignore: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    keep_conflicts: bool = True
    hold_s: float = 10.0


class Marker(msgspec.Struct):
    """Our own marker in one root: whether it was ever there; since when it is missing with so many files, and no more."""

    seen: bool = False
    missed_s: float = math.inf
    missing: int = 0


class Pair:
    """Both trees of a mirror and what is remembered about them. `compare` blocks."""

    def __init__(self, settings: PairSettings, clock: Clock = SYSTEM, step: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self.known: dict[str, Known] = {}
        self.rules = Rules(settings.ignore, settings.read_only)
        self.cancelled = False
        self.progress = 0
        self._clock = clock
        self._step = step
        self._deletions = Deletions(settings.hold_s)
        self._identities: dict[Side, tuple[int, int]] = {}
        self._mount_marker_seen = False
        self._own: dict[Side, Marker] = {side: Marker() for side in Side}
        self._agent_files: dict[str, str | None] = {}  # as they were read last, if they could be
        self._vanished: dict[str, float] = {}
        self._held = False
        self._guarded = False  # the mount's copies of read-only files cannot be written, as far as was seen
        self.bad_patterns: dict[str, str] = {}
        self.unread_patterns: dict[str, str] = {}
        self._tidied = False
        self.emptied: dict[str, dict[Side, tuple[int, int]]] = {}  # directories that both sides have, in which a file was deleted, and which ones they are
        self._believed: list[str] = []  # paths that agreed at sight, and that nobody has read
        self._mount_table = b""
        self._mounted: dict[Side, dict[str, tuple[bytes, bytes]]] = {side: {} for side in Side}
        self._sizes: dict[Side, int] = dict.fromkeys(Side, 0)

    def cancel(self) -> None:
        """End the comparison that runs, soon. From any thread."""
        self.cancelled = True

    def configure(self, hold_s: float) -> None:
        """How long most of a tree waits for a second look before it is deleted."""
        self.settings = msgspec.structs.replace(self.settings, hold_s=hold_s)
        self._deletions.hold_s = hold_s

    def _asked(self) -> bool:
        self.progress += 1
        return self.cancelled

    def compare(self, job: Compare) -> Report:
        """One comparison. Raises: CancelledError."""
        gone: dict[Side, str] = {}
        trees: dict[Side, Tree] = {}
        try:
            for side, path in ((Side.MOUNT, self.settings.mount), (Side.PROJECT, self.settings.project)):
                try:
                    trees[side] = Tree(path, self.rules, self._step)
                    trees[side].cancelled = self._asked
                except OSError as error:
                    gone[side] = f"{path} is not there: {(error.strerror or str(error)).lower()}"
            if not gone and (trees[Side.MOUNT].holds(trees[Side.PROJECT]) or trees[Side.PROJECT].holds(trees[Side.MOUNT])):
                why = f"{self.settings.project} and the mount {self.settings.mount} are the same tree or one inside the other"
                gone = dict.fromkeys(Side, why)
            if gone:
                for side in gone:
                    self._identities[side] = NOWHERE  # whatever comes back is another one, even if it gets the same number
                return Report(full=job.paths is None, gone=gone)
            return self._compare(job, trees)
        finally:
            for tree in trees.values():
                os.close(tree.fd)

    def _compare(self, job: Compare, trees: dict[Side, Tree]) -> Report:
        replaced = tuple(side for side in Side if self._identities.get(side, trees[side].identity) != trees[side].identity)
        if replaced:
            self._forget(replaced)
        self._identities = {side: trees[side].identity for side in Side}
        full = job.paths is None or bool(replaced)
        if full or self._held or self._vanished or not self._agent_names.isdisjoint(job.paths or ()):
            full = self._read_agent_files(trees[Side.PROJECT]) or full
            if self._held:
                why = "; ".join(f"{name} {why}" for name, why in self.unread_patterns.items())
                return Report(full=full, held=why, replaced=replaced, errors=self.unread_patterns, error_count=len(self.unread_patterns))
            for tree in trees.values():
                tree.rules = self.rules
        self._see_markers(trees)
        work = _Work(self, trees, full)
        work.again += self._vanished  # looked at again soon, and again, until it is believed
        work.run(None if full else tuple(path for path in job.paths or () if path and not self.rules.ours(path)))
        self._tidied = self._tidied and not any(tree.left_behind for tree in trees.values())
        gone = {side: f"{tree.path} is not there any more" for side, tree in trees.items() if not tree.still_there()}
        return work.report(full, replaced, gone)

    def _forget(self, replaced: tuple[Side, ...]) -> None:
        """Another root is another tree: what was agreed with the old one means nothing."""
        self.known.clear()
        self.emptied.clear()
        self._believed.clear()
        self._deletions = Deletions(self.settings.hold_s)
        self._tidied = self._guarded = False
        if Side.PROJECT in replaced:
            self._agent_files.clear()
            self._vanished.clear()
        for side in replaced:
            self._own[side] = Marker()

    def see_mounts(self, trees: dict[Side, Tree]) -> None:
        """Ask this after the trees were looked at: below a directory that something was mounted over meanwhile, or unmounted from, everything is another tree, as with a root."""
        table = mount_table()
        if table == self._mount_table:
            return
        self._mount_table = table
        for side, tree in trees.items():
            before, self._mounted[side] = self._mounted[side], tree.mounted(table)
            now = self._mounted[side]
            for folder in {path for path in (*before, *now) if before.get(path) != now.get(path)}:
                start = f"{folder}/"
                self.known = {path: one for path, one in self.known.items() if not path.startswith(start)}
                self.emptied = {path: one for path, one in self.emptied.items() if path != folder and not path.startswith(start)}

    # ------------------------------------------------------------------ rules in the project

    @property
    def _agent_names(self) -> frozenset[str]:
        own = f".{self.settings.name}"
        return frozenset((".agentignore", f"{own}.agentignore", ".agentreadonly", f"{own}.agentreadonly"))

    def _read_agent_files(self, project: Tree) -> bool:
        """Patterns that the project itself keeps for its agents, as a local mirror of Relayfile reads them; whether other ones hold than before.

        Where one cannot be read, what it said last holds. If it never said anything, nobody knows what it forbids, and the mirror is held.
        """
        texts: dict[str, str | None] = {}
        self.unread_patterns, self._held = {}, False
        for name in sorted(self._agent_names):
            try:
                texts[name] = self._unless_just_gone(name, project.small_text(name))
            except (OSError, BlockedError) as error:
                why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
                texts[name] = before = self._agent_files.get(name)
                self._held = self._held or before is None
                until = "nothing is mirrored until it can" if before is None else "what it said last holds"
                self.unread_patterns[name] = f"cannot be read: {why}; {until}"
        if self._held or texts == self._agent_files:
            return False
        self._agent_files = texts
        self.bad_patterns = {}
        ignore, read_only = list(self.settings.ignore), list(self.settings.read_only)
        for name, text in texts.items():
            (ignore if name.endswith("ignore") else read_only).extend(self._patterns(name, text or ""))
        self.rules = Rules(ignore, read_only)
        self._guarded = False
        covers = self.rules.ours
        self.known = {path: one for path, one in self.known.items() if not covers(path)}
        return True

    def _unless_just_gone(self, name: str, text: str | None) -> str | None:
        before, now = self._agent_files.get(name), self._clock.monotonic()
        if not before or not before.strip() or (text and text.strip()):
            self._vanished.pop(name, None)
        elif now - self._vanished.setdefault(name, now) < VANISHED_S:
            return before
        else:
            del self._vanished[name]
        return text

    def _patterns(self, name: str, text: str) -> list[str]:
        good = []
        for line in text.splitlines():
            try:
                Rules((line,))
            except BadPatternError as error:
                self.bad_patterns[name] = str(error)
            else:
                good.append(line)
        return good

    # ------------------------------------------------------------------ markers

    @property
    def own_marker(self) -> str:
        """The name of our own marker in a root's `.syncwatch`."""
        return f"mirror-{self.settings.name}"

    def _see_markers(self, trees: dict[Side, Tree]) -> None:
        self._mount_marker_seen = self._mount_marker_seen or _has(trees[Side.MOUNT], MARKER)
        if not self.settings.acts:
            return
        words = "syncwatch knows this directory again by this file: while it is missing, nothing that is missing here is deleted elsewhere.\n"
        for side, tree in trees.items():
            own = self._own[side]
            if not own.seen:
                own.seen = tree.write_own(self.own_marker, words)

    def distrust(self, trees: dict[Side, Tree], side: Side, missing: int, known: int, full: bool) -> str | None:
        """Why what is missing in this root may not have been deleted by anybody; None: it is to be believed.

        `missing`: so many files of the `known`, or, when it is not `full`, at least so many.
        """
        tree = trees[side]
        if not tree.still_there():
            return f"the {side} is not there any more"
        if side is Side.MOUNT and self._mount_marker_seen and not _has(tree, MARKER):
            return f"the mount has lost its marker {MARKER}"
        own = self._own[side]
        if own.seen and not _has(tree, f"{OWN_FOLDER}/{self.own_marker}"):
            if full and self._cleaned_away(own, missing, known) and tree.write_own(self.own_marker, "written again\n"):
                own.missed_s, own.missing = math.inf, 0
                return None
            return f"the {side} has lost its marker {OWN_FOLDER}/{self.own_marker}"
        if not own.seen and known > SMALL_TREE and 2 * missing > known:
            return f"the {side} has no marker {OWN_FOLDER}/{self.own_marker}"
        return None

    def _cleaned_away(self, own: Marker, missing: int, known: int) -> bool:
        """Whether our marker went by itself, as `git clean` takes it, and not with the tree: most of what is known is still there, and nothing more went for long enough."""
        now = self._clock.monotonic()
        if missing > own.missing or own.missed_s == math.inf:
            own.missed_s, own.missing = now, missing
            return False
        return 2 * missing <= known and now - own.missed_s >= self.settings.hold_s


class _Work:
    """One comparison under way."""

    def __init__(self, pair: Pair, trees: dict[Side, Tree], full: bool) -> None:
        self.pair = pair
        self.trees = trees
        self.full = full
        self.mount, self.project = trees[Side.MOUNT], trees[Side.PROJECT]
        self.acts = pair.settings.acts
        self.left: dict[str, str] = {}
        self.errors: dict[str, str] = {}
        self.again: list[str] = []
        self.copied = dict.fromkeys(Side, 0)
        self.deleted = dict.fromkeys(Side, 0)
        self.conflicts: list[str] = []
        self.refused = 0
        self.refusal = ""
        self.changed: list[str] = []
        self.held: set[str] = set()  # whose deletion was refused

    def run(self, paths: tuple[str, ...] | None) -> None:
        """Rounds until nothing changes under our hands."""
        self._prune_again(paths)
        self._round(paths)
        for _ in range(ROUNDS - 1):
            if not self.changed:
                break
            again, self.changed = tuple(dict.fromkeys(self.changed)), []
            for path in again:
                self.left.pop(path, None)
            self._round(again)
        for path in self.changed:
            self.left[path] = "it keeps changing"

    def report(self, full: bool, replaced: tuple[Side, ...], gone: dict[Side, str]) -> Report:
        """What came of it."""
        errors = {**self.errors, **self.pair.bad_patterns, **self.pair.unread_patterns} if full else self.errors
        left = {**self.left, **self.errors}
        return Report(
            full=full,
            gone=gone,
            replaced=replaced,
            left=dict(list(left.items())[:LEFT_KEPT]),
            left_count=len(left),
            again=tuple(dict.fromkeys(self.again)),
            copied=dict(self.copied),
            deleted=dict(self.deleted),
            errors={shown(path): why for path, why in list(errors.items())[:NAMED]},
            error_count=len(errors),
            conflicts=tuple(shown(one) for one in self.conflicts[:NAMED]),
            conflict_count=len(self.conflicts),
            refused=self.refused,
            refusal=self.refusal,
            files=dict(self.pair._sizes),
        )

    # ------------------------------------------------------------------ one round

    def _round(self, paths: tuple[str, ...] | None) -> None:
        pair = self.pair
        if paths is None:
            mount, project = self.mount.walk(), self.project.walk()
            pair._sizes = {Side.MOUNT: len(mount.files), Side.PROJECT: len(project.files)}
            if self.acts and not pair._tidied:
                self._tidy(mount, project)
            scope = None
        else:
            mount, project = self.mount.look(list(paths)), self.project.look(list(paths))
            scope = self._scope(paths, mount, project)
        if self.acts:
            pair.see_mounts(self.trees)
        found = survey(mount, project, pair.known, None if scope is None else [path for path in scope if path in pair.known])
        self.left.update(found.skipped)
        for listing in (mount, project):
            for path, why in listing.unread.items():
                self.errors[path or "."] = f"cannot be read: {why.lower()}"
        taken_ns = min(mount.taken_ns, project.taken_ns)
        actions = self._decided(found.undecided, mount, project, taken_ns)
        if paths is None:
            actions += self._proven(mount, project, taken_ns)
        pair._believed += found.primed
        if self.acts and pair.rules.read_only:
            actions += self._guard([*found.primed, *found.undecided] if pair._guarded or paths is not None else list(mount.files), mount)
            pair._guarded = pair._guarded or paths is None
        self._act(actions, mount, project, taken_ns)

    def _guard(self, paths: Iterable[str], mount: Listing) -> list[tuple[str, Decision]]:
        """Take the right to write from the mount's read-only files that agree; those that must be copied for it are returned."""
        known, rules = self.pair.known, self.pair.rules
        copies: list[tuple[str, Decision]] = []
        for path in paths:
            entry, before = mount.files.get(path), known.get(path)
            if entry is None or before is None or before.mount != entry or not entry.mode & 0o222 or rules.kind(path) is not Kind.READ_ONLY:
                continue
            known[path] = msgspec.structs.replace(before, racy=True)  # looked at again unless it is done
            self._try(path, "made read-only", lambda path=path, entry=entry, before=before: self._guard_one(path, entry, before, copies))  # type: ignore[misc]
        return copies

    def _guard_one(self, path: str, entry: Entry, before: Known, copies: list[tuple[str, Decision]]) -> None:
        try:
            done = self.mount.make_read_only(path, entry)
        except PermissionError:  # somebody else's file
            done = None
        if done is None:
            copies.append((path, Decision(Verdict.COPY, Side.MOUNT)))
        else:
            self.pair.known[path] = msgspec.structs.replace(before, mount=done)

    def _scope(self, paths: Iterable[str], mount: Listing, project: Listing) -> list[str]:
        """The known paths that a look at `paths` has seen, there or not."""
        known, wanted = self.pair.known, set(paths)
        scope = [path for path in wanted if path in known]
        folders = {path for path in wanted if path not in known or path in mount.directories or path in project.directories}
        if folders:
            if len(folders) == 1:
                start = f"{next(iter(folders))}/"
                scope += [path for path in known if path.startswith(start)]
            else:
                scope += [path for path in known if any(above in folders for above in parents(path))]
        return scope

    def _decided(self, undecided: Iterable[str], mount: Listing, project: Listing, taken_ns: int) -> list[tuple[str, Decision]]:
        """What is to be done; what agrees is remembered or forgotten on the way."""
        known, rules = self.pair.known, self.pair.rules
        actions = []
        for path in undecided:
            ours, theirs, before = mount.files.get(path), project.files.get(path), known.get(path)
            kind = rules.kind(path)
            decision = judge(ours, theirs, before, kind)
            if decision.verdict is Verdict.READ:
                digests = self._digests(path, ours, theirs)
                if digests is None:
                    continue
                decision = judge(ours, theirs, before, kind, digests)
                if not self.acts and ours is not None and theirs is not None and digests[0] == digests[1]:
                    decision = REMEMBER  # whose permissions are right is nobody's question here
                if decision.verdict is Verdict.REMEMBER:
                    assert ours is not None
                    assert theirs is not None
                    racy = ours.racy(taken_ns) or theirs.racy(taken_ns)
                    known[path] = Known(ours, theirs, digests[0], racy)
                    continue
            if decision.verdict is Verdict.FORGET:
                del known[path]
                if self.acts:
                    self._prune(path, remember_only=True)
            elif decision.verdict is not Verdict.SETTLED:
                actions.append((path, decision))
        return actions

    def _proven(self, mount: Listing, project: Listing, taken_ns: int) -> list[tuple[str, Decision]]:
        """Read some of what agreed at sight in an earlier comparison: trees that were unpacked from archives may give the same time to everything. What differs is returned."""
        known, believed, actions = self.pair.known, self.pair._believed, []
        files, left = PROVEN_FILES, PROVEN_BYTES
        while believed and files > 0 and left > 0:
            path = believed.pop()
            ours, theirs, before = mount.files.get(path), project.files.get(path), known.get(path)
            if ours is None or theirs is None or before is None or before.digest is not None or (before.mount, before.project) != (ours, theirs):
                continue
            if ours.size > left:
                if ours.size <= PROVEN_BYTES:
                    believed.append(path)
                    break
                continue
            files, left = files - 1, left - ours.size
            try:
                digests = self.mount.digest(path, ours), self.project.digest(path, theirs)
            except (OSError, ChangedError, BlockedError):
                continue  # who changes it will be seen, and who may not read it has believed it so far
            if digests[0] == digests[1]:
                known[path] = Known(ours, theirs, digests[0], ours.racy(taken_ns) or theirs.racy(taken_ns))
                continue
            if self.acts:
                del known[path]
            else:
                known[path] = Known(ours, theirs, racy=True)  # so that it is read again instead of believed again
            actions.append((path, judge(ours, theirs, None, self.pair.rules.kind(path), digests)))
        return actions

    def _digests(self, path: str, ours: Entry | None, theirs: Entry | None) -> Digests | None:
        """Of both contents; None when they cannot be had now."""
        self.pair.progress += 1
        try:
            return (
                None if ours is None else self.mount.digest(path, ours),
                None if theirs is None else self.project.digest(path, theirs),
            )
        except ChangedError:
            self.changed.append(path)
        except BlockedError as error:
            self.left[path] = str(error)
        except OSError as error:
            self.errors[path] = _sentence("read", error)
        return None

    # ------------------------------------------------------------------ acting

    def _act(self, actions: list[tuple[str, Decision]], mount: Listing, project: Listing, taken_ns: int) -> None:
        listings = {Side.MOUNT: mount, Side.PROJECT: project}
        if not self.acts:
            for path, decision in actions:
                self.left[path] = _difference(decision, mount.files.get(path), project.files.get(path))
            return
        for side in Side:
            wanted = [path for path, decision in actions if decision.verdict is Verdict.DELETE and decision.target is side]
            if wanted:
                self._delete(side, wanted, listings)
            elif self.full:
                self.pair._deletions.rule(self.pair._clock.monotonic(), side, (), self.pair._sizes[side], None, self.full)
        for path, decision in actions:
            if decision.verdict in (Verdict.COPY, Verdict.CONFLICT):
                self._copy(path, decision, listings, taken_ns)
            elif decision.verdict is Verdict.DISCARD:
                self._discard(path, decision, listings)

    def _delete(self, side: Side, wanted: list[str], listings: dict[Side, Listing]) -> None:
        pair = self.pair
        tree = max(len(pair.known), len(listings[side].files) if self.full else 0)
        trusted = pair.distrust(self.trees, side.other, len(wanted), tree, self.full)
        ruling = pair._deletions.rule(pair._clock.monotonic(), side, wanted, tree, trusted, self.full)
        if not ruling.allowed:
            self.refused += ruling.refused
            self.refusal = ruling.why
            self.held.update(wanted)
            self.left.update(dict.fromkeys(wanted, f"not deleted from the {side}: {ruling.why}"))
            return
        target, source = self.trees[side], self.trees[side.other]
        before = self.deleted[side]
        for path in sorted(wanted, reverse=True):
            if not self._try(path, "deleted", lambda path=path: self._delete_one(side, path, target, source, listings)):  # type: ignore[misc]
                continue
            self.deleted[side] += 1
            pair.known.pop(path, None)
            self._prune(path)
        if ruling.counts:
            pair._deletions.done(pair._clock.monotonic(), side, self.deleted[side] - before)

    def _prune(self, path: str, remember_only: bool = False) -> None:
        """The directories above a file that is gone from both sides: what one side has not any more goes from the other if nothing is in it, and what both have is kept in mind.

        `remember_only`: nobody has seen the file in the directories that are there, so they may be new ones.
        """
        above = path.rpartition("/")[0]
        with contextlib.suppress(OSError, ChangedError, BlockedError):
            while above:
                found = {side: here for side in Side if (here := self.trees[side].directory(above)) is not None}
                if len(found) == len(Side):
                    emptied = self.pair.emptied
                    emptied[above] = found
                    if len(emptied) > EMPTIED:
                        del emptied[next(iter(emptied))]
                    return
                if remember_only:
                    return
                for side in found:
                    self.trees[side].remove_directory(above)
                above = above.rpartition("/")[0]

    def _prune_again(self, paths: tuple[str, ...] | None) -> None:
        """Directories that had their last files deleted earlier, if they lie at the paths or below them: is one side's gone meanwhile?"""
        wanted = None if paths is None else set(paths)
        for folder, before in list(self.pair.emptied.items()):
            if wanted is None or not wanted.isdisjoint((folder, *parents(folder))):
                self._gone_meanwhile(folder, before)

    def _gone_meanwhile(self, folder: str, before: dict[Side, tuple[int, int]]) -> None:
        emptied = self.pair.emptied
        try:
            found = {side: here for side in Side if (here := self.trees[side].directory(folder)) is not None}
            if any(here != before[side] for side, here in found.items()):
                del emptied[folder]  # somebody has made another one
                return
            if len(found) == len(Side):
                return
            for side in found:
                if self.pair.distrust(self.trees, side.other, 1, len(self.pair.known), full=False) is not None:
                    return
                self.trees[side].remove_directory(folder, before[side])
        except (ChangedError, BlockedError):
            return  # looked at again with the next comparison of everything
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                del emptied[folder]  # something is in it that was not deleted
            return
        del emptied[folder]
        self._prune(f"{folder}/")

    def _delete_one(self, side: Side, path: str, target: Tree, source: Tree, listings: dict[Side, Listing]) -> None:
        if source.has_file(path) or not source.still_there():
            raise ChangedError  # it came back, or everything went away
        known = self.pair.known[path]
        there = listings[side].files[path]
        target.remove(path, there, None, known.proof(side, there))

    def _discard(self, path: str, decision: Decision, listings: dict[Side, Listing]) -> None:
        side = decision.target
        stamp = _now_stamp() if self.pair.settings.keep_conflicts else None
        kept: list[str | None] = []
        if self._try(path, "deleted", lambda: kept.append(self.trees[side].remove(path, listings[side].files[path], stamp))):
            self.deleted[side] += 1
            self.pair.known.pop(path, None)
            self._kept(path, kept[0])

    def _copy(self, path: str, decision: Decision, listings: dict[Side, Listing], taken_ns: int) -> None:
        side = decision.target
        target, source = self.trees[side], self.trees[side.other]
        there, known = listings[side].files.get(path), self.pair.known.get(path)
        conflict = decision.verdict is Verdict.CONFLICT
        stamp = _now_stamp() if conflict and self.pair.settings.keep_conflicts else None
        was = None if known is None or there is None or conflict else known.proof(side, there)
        rules = self.pair.rules
        done = []
        wins = self._wins(path, side, listings)
        if there is None and path in listings[side].directories and not wins and (side is Side.PROJECT or self._needed(path, listings[side])):
            self.left[path] = f"a directory of the {side} stands there"
            return
        copied_it = self._try(
            path,
            "copied",
            lambda: done.append(
                target.copy_from(source, path, there, lambda mode: rules.mode(path, side, mode), stamp, wins, was)
            ),
        )
        for place, kept in target.moved_aside:
            self.conflicts.append(kept)
            self.changed += (place, kept)
        target.moved_aside.clear()
        if not copied_it:
            return
        copied = done[0]
        self.copied[side] += 1
        mount, project = (copied.target, copied.source) if side is Side.MOUNT else (copied.source, copied.target)
        racy = not copied.settled or not copied.untouched or mount.racy(taken_ns) or project.racy(taken_ns)
        self.pair.known[path] = Known(mount, project, copied.digest, racy)
        if not copied.settled:
            self.again.append(path)
        if conflict or copied.aside is not None:
            self._kept(path, copied.aside)

    def _wins(self, path: str, side: Side, listings: dict[Side, Listing]) -> bool:
        """Whether a file that is to be copied to this side moves beside what stands there: a directory in its place, or a file in the place of one of its directories.

        The mount does so, but never with what flows into the mount only: there the project does.
        """
        kind = self.pair.rules.kind
        one_way = kind(path) is not Kind.BOTH or any(kind(above) is not Kind.BOTH for above in parents(path))
        below = []
        if path in listings[side].directories:
            start = path + "/"
            below = [one for one in listings[side].files if one.startswith(start)]
        if side is Side.PROJECT:
            return not one_way and all(kind(one) is Kind.BOTH for one in below)
        if not self.held.isdisjoint((*parents(path), *below)):
            return False  # nobody changed it: it is only not deleted yet
        return one_way or (bool(below) and all(kind(one) is not Kind.BOTH for one in below))

    def _needed(self, path: str, listing: Listing) -> bool:
        start = path + "/"
        return any(one.startswith(start) for one in listing.files)

    def _kept(self, path: str, aside: str | None) -> None:
        """A conflict was decided; what was kept beside is a file like any other from now on."""
        above = path.rpartition("/")[0]
        if aside is None:
            self.conflicts.append(path)
            return
        kept = f"{above}/{aside}" if above else aside
        self.conflicts.append(kept)
        self.changed.append(kept)

    def _try(self, path: str, done: str, work: Callable[[], object]) -> bool:
        """Do one thing to one path; whatever goes wrong there, the others go on."""
        if self.pair.cancelled:
            raise CancelledError
        self.pair.progress += 1
        try:
            work()
        except ChangedError:
            self.changed.append(path)
        except BlockedError as error:
            self.errors[path] = f"cannot be {done}: {error}"
        except FileNotFoundError:
            self.changed.append(path)
        except OSError as error:
            self.errors[path] = _sentence(done, error)
        else:
            self.errors.pop(path, None)
            return True
        return False

    def _tidy(self, mount: Listing, project: Listing) -> None:
        """What an earlier process left unfinished, or a disk that failed in the wrong moment; once, or until it is done."""
        self.pair._tidied = True
        for tree, listing in ((self.mount, mount), (self.project, project)):
            for path in listing.strays:
                try:
                    kept = tree.recover(path, _now_stamp())
                except OSError as error:
                    self.errors[path] = _sentence("given a name that can be seen", error)
                    self.pair._tidied = False
                    continue
                except (ChangedError, BlockedError):
                    continue
                if kept is not None:
                    self._kept(path, kept)


def _has(tree: Tree, path: str) -> bool:
    try:
        return tree.has(path)
    except (OSError, BlockedError):
        return False


def _difference(decision: Decision, mount: Entry | None, project: Entry | None) -> str:
    if mount is None:
        return "only in the project"
    if project is None:
        return "only in the mount"
    return "changed on both sides" if decision.verdict is Verdict.CONFLICT else f"newer in the {decision.target.other}"


def _sentence(what: str, error: OSError) -> str:
    words = (error.strerror or str(error)).lower()
    if error.errno == errno.ENAMETOOLONG:
        words = "its name is too long there"
    return f"cannot be {what}: {words}"
