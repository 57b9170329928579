"""The rules of a mirror, each on its own: what becomes of a path, what is left alone, which deletions are refused."""

from __future__ import annotations

import pytest

from syncwatch.core.mirror_rules import (
    FORGET,
    PRIMED_NS,
    RACY_NS,
    READ,
    REMEMBER,
    SETTLED,
    Decision,
    Deletions,
    Digests,
    Entry,
    Kind,
    Known,
    Listing,
    Rules,
    Ruling,
    Side,
    Verdict,
    beside,
    judge,
    shown,
    survey,
)

NOW_NS = 2_000_000_000 * 10**9
BEFORE = Entry(10, 5, 5, 1, 0o644)
THERE = Entry(10, 5, 6, 2, 0o644)
NEWER = Entry(12, 9, 9, 1, 0o644)
OTHER = Entry(13, 9, 9, 2, 0o644)
AGREED = Known(BEFORE, THERE)
TO_MOUNT, TO_PROJECT = Decision(Verdict.COPY, Side.MOUNT), Decision(Verdict.COPY, Side.PROJECT)
MOUNT_WINS, PROJECT_WINS = Decision(Verdict.CONFLICT, Side.PROJECT), Decision(Verdict.CONFLICT, Side.MOUNT)
FROM_MOUNT, FROM_PROJECT = Decision(Verdict.DELETE, Side.MOUNT), Decision(Verdict.DELETE, Side.PROJECT)
DISCARD = Decision(Verdict.DISCARD, Side.MOUNT)

TABLE = (
    # mount, project, known, and what becomes of it in both directions, and where the project rules
    (None, None, None, SETTLED, SETTLED),
    (None, None, AGREED, FORGET, FORGET),
    (BEFORE, THERE, AGREED, SETTLED, SETTLED),
    (BEFORE, THERE, None, READ, READ),
    (NEWER, THERE, None, MOUNT_WINS, PROJECT_WINS),
    (NEWER, None, None, TO_PROJECT, SETTLED),
    (None, NEWER, None, TO_MOUNT, TO_MOUNT),
    (NEWER, THERE, AGREED, TO_PROJECT, PROJECT_WINS),
    (BEFORE, OTHER, AGREED, TO_MOUNT, TO_MOUNT),
    (NEWER, OTHER, AGREED, MOUNT_WINS, PROJECT_WINS),
    (None, THERE, AGREED, FROM_PROJECT, TO_MOUNT),
    (None, OTHER, AGREED, TO_MOUNT, TO_MOUNT),
    (BEFORE, None, AGREED, FROM_MOUNT, FROM_MOUNT),
    (NEWER, None, AGREED, TO_PROJECT, DISCARD),
)


@pytest.mark.parametrize(("mount", "project", "known", "both", "one_way"), TABLE)
def test_what_becomes_of_a_path(mount: Entry | None, project: Entry | None, known: Known | None, both: Decision, one_way: Decision) -> None:
    """Whoever changed is copied, the mount wins, a deletion goes with what nobody changed; where the project rules, nothing flows back."""
    assert both == judge(mount, project, known, Kind.BOTH)
    assert one_way == judge(mount, project, known, Kind.READ_ONLY)
    assert one_way == judge(mount, project, known, Kind.NO_BACK)


SAME: Digests = (b"x", b"x")
RACY = Known(BEFORE, THERE, b"x", racy=True)


@pytest.mark.parametrize(
    ("mount", "project", "digests", "expected"),
    [
        (BEFORE, THERE, SAME, REMEMBER),
        (BEFORE, THERE, (b"y", b"x"), TO_PROJECT),
        (BEFORE, THERE, (b"x", b"y"), TO_MOUNT),
        (BEFORE, THERE, (b"y", b"z"), MOUNT_WINS),
        (BEFORE, None, (b"x", None), FROM_MOUNT),
        (BEFORE, None, (b"y", None), TO_PROJECT),
        (None, THERE, (None, b"x"), FROM_PROJECT),
        (NEWER, THERE, (b"y", b"y2"), MOUNT_WINS),
    ],
)
def test_while_times_prove_nothing_contents_do(mount: Entry | None, project: Entry | None, digests: Digests, expected: Decision) -> None:
    """A pair that was remembered too soon after a write is read, on every side that is there."""
    assert READ == judge(mount, project, RACY, Kind.BOTH)
    assert expected == judge(mount, project, RACY, Kind.BOTH, digests)


TOUCHED = Entry(10, 8, 8, 1, 0o600)
CHMODDED = Entry(10, 5, 9, 1, 0o600)
READ_BEFORE = Known(BEFORE, THERE, b"x")


@pytest.mark.parametrize(
    ("mount", "project", "digests", "expected"),
    [
        (TOUCHED, OTHER, (b"x", b"y"), TO_MOUNT),
        (NEWER, TOUCHED, (b"y", b"x"), TO_PROJECT),
        (NEWER, OTHER, (b"y", b"z"), MOUNT_WINS),
        (TOUCHED, None, (b"x", None), FROM_MOUNT),
        (TOUCHED, None, (b"y", None), TO_PROJECT),
        (None, TOUCHED, (None, b"x"), FROM_PROJECT),
    ],
)
def test_where_both_seem_changed_contents_decide(mount: Entry | None, project: Entry | None, digests: Digests, expected: Decision) -> None:
    """Another time or other permissions alone win over nothing, wherever the contents that agreed were ever read."""
    assert READ == judge(mount, project, READ_BEFORE, Kind.BOTH)
    assert expected == judge(mount, project, READ_BEFORE, Kind.BOTH, digests)


def test_where_the_contents_were_never_read_a_chmod_does_not_win() -> None:
    """Whoever wrote does, and the other one is kept: somebody may have set the time back. A touch may be a write."""
    assert PROJECT_WINS == judge(CHMODDED, OTHER, AGREED, Kind.BOTH)
    assert MOUNT_WINS == judge(TOUCHED, OTHER, AGREED, Kind.BOTH)
    assert TO_PROJECT == judge(NEWER, THERE, AGREED, Kind.BOTH)


def test_what_proves_that_nobody_wrote() -> None:
    """The entry alone, unless it was racy or is another one."""
    assert None is READ_BEFORE.proof(Side.MOUNT, BEFORE)
    assert b"x" == READ_BEFORE.proof(Side.MOUNT, TOUCHED)
    assert b"x" == RACY.proof(Side.PROJECT, THERE)


def test_equal_contents_are_no_conflict() -> None:
    """Whoever wrote; different sizes need no reading."""
    changed = Entry(10, 7, 7, 1, 0o644), Entry(10, 8, 8, 2, 0o644)
    assert READ == judge(*changed, AGREED, Kind.BOTH)
    assert REMEMBER == judge(*changed, AGREED, Kind.BOTH, SAME)
    assert MOUNT_WINS == judge(*changed, AGREED, Kind.BOTH, (b"x", b"y"))


@pytest.mark.parametrize(
    ("mount", "project", "known", "kind", "expected"),
    [
        (0o755, 0o644, 0o644, Kind.BOTH, TO_PROJECT),
        (0o644, 0o755, 0o644, Kind.BOTH, TO_MOUNT),
        (0o600, 0o755, 0o644, Kind.BOTH, TO_PROJECT),
        (0o755, 0o755, 0o644, Kind.BOTH, REMEMBER),
        (0o755, 0o644, 0o644, Kind.NO_BACK, REMEMBER),
        (0o644, 0o755, 0o644, Kind.NO_BACK, TO_MOUNT),
        (0o444, 0o755, 0o644, Kind.READ_ONLY, REMEMBER),
        (0o600, 0o644, None, Kind.BOTH, REMEMBER),
    ],
)
def test_permissions_follow_whoever_changed_them(mount: int, project: int, known: int | None, kind: Kind, expected: Decision) -> None:
    """The mount's, if both did; never from the beginning, and never back where nothing flows back."""
    before = None if known is None else Known(Entry(10, 1, 1, 1, known), Entry(10, 1, 1, 2, known))
    assert expected == judge(Entry(10, 2, 2, 1, mount), Entry(10, 2, 2, 2, project), before, kind, SAME)


# ------------------------------------------------------------------ listings


def listing(*paths: str, **more: object) -> Listing:
    """Files that nobody wrote for long."""
    return Listing(NOW_NS, dict.fromkeys(paths, BEFORE), **more)  # type: ignore[arg-type]  # the struct's own fields


def test_what_is_old_and_looks_equal_is_believed_once() -> None:
    """Size and time within two milliseconds, older than five seconds, and nothing remembered; anything else is to be decided."""
    mount, project, known = listing(), listing(), dict[str, Known]()
    young = Entry(10, NOW_NS - PRIMED_NS, 5, 1, 0o644)
    for name, ours, theirs in (
        ("same", BEFORE, THERE),
        ("near", BEFORE, Entry(10, 2_000_005, 5, 2, 0o600)),
        ("far", BEFORE, Entry(10, 2_000_006, 5, 2, 0o644)),
        ("size", BEFORE, Entry(11, 5, 5, 2, 0o644)),
        ("young", young, young),
        ("known", BEFORE, THERE),
    ):
        mount.files[name], project.files[name] = ours, theirs
    known["known"] = Known(NEWER, THERE)
    found = survey(mount, project, known)
    assert (["far", "known", "size", "young"], ["same", "near"]) == (found.undecided, found.primed)
    assert {"same", "near", "known"} == set(known)


def test_what_is_settled_is_passed_over_and_what_is_gone_is_not() -> None:
    """Only the known paths of the scope can be missing in it."""
    known = {path: Known(BEFORE, BEFORE) for path in ("here", "gone", "elsewhere")}
    known["racy"] = Known(BEFORE, BEFORE, b"x", racy=True)
    found = survey(listing("here", "racy", "new"), listing("here", "racy"), known, scope=["here", "gone", "racy"])
    assert ["gone", "new", "racy"] == found.undecided
    assert "elsewhere" in survey(listing(), listing(), known).undecided


def test_nothing_is_decided_about_what_could_not_be_seen() -> None:
    """Below a directory that cannot be read, or a link, or at something that is no file: differing only if there is something to tell."""
    mount = listing("a/x", "b/x", "c", "sure", "known/x")
    known = {"known/x": Known(BEFORE, BEFORE), "b/y": Known(BEFORE, BEFORE)}
    project = listing(unread={"a": "Permission denied", "known": "Permission denied"}, specials={"b", "c"})
    found = survey(mount, project, known)
    assert ["sure"] == found.undecided
    assert {"a/x", "b/x", "c"} == set(found.skipped)
    assert "its directory cannot be read: Permission denied" == found.skipped["a/x"]
    assert [] == survey(mount, listing(unread={"": "Stale file handle"}), known).undecided


def test_a_fresh_write_is_racy_until_the_coarsest_clock_has_ticked() -> None:
    """Both times have to be near: a file with a time of its own choice shows the next write by that."""
    now_ns = NOW_NS
    assert Entry(1, now_ns - RACY_NS + 1, now_ns - RACY_NS + 1, 1, 0).racy(now_ns)
    assert not Entry(1, now_ns - RACY_NS, now_ns - RACY_NS, 1, 0).racy(now_ns)
    assert not Entry(1, 5, now_ns, 1, 0).racy(now_ns)
    assert Entry(1, now_ns + 3 * RACY_NS, now_ns + 3 * RACY_NS, 1, 0).racy(now_ns), "written while a long comparison ran"
    assert not Entry(1, now_ns + 3 * RACY_NS, now_ns - RACY_NS, 1, 0).racy(now_ns), "only its time lies in the future"


def test_what_is_ours_or_left_out_is_no_business_of_the_mirror() -> None:
    """Wherever it stands; what belongs to the mount stands in its root."""
    rules = Rules((".venv", "*.tmp"), ("docs/",))
    ours = [".syncwatch/x", "a/.syncwatch/b", "a/.syncwatch-00.part", "_MOUNT_README.md", ".relayfile-local-mount", ".venv/x", "a/b.tmp"]
    assert ours == [path for path in [*ours, "a/_MOUNT_README.md", "a/b", "docs/a", ".git/x"] if rules.ours(path)]
    kinds = {path: rules.kind(path) for path in ("docs/a", ".git/x", "a/docs", "a/.git/x")}
    assert {"docs/a": Kind.READ_ONLY, ".git/x": Kind.NO_BACK, "a/docs": Kind.BOTH, "a/.git/x": Kind.BOTH} == kinds
    assert Kind.BOTH is Rules((".git",)).kind(".git/x")
    assert (0o555, 0o755) == (rules.mode("docs/a", Side.MOUNT, 0o755), rules.mode("docs/a", Side.PROJECT, 0o755))


# ------------------------------------------------------------------ deletions


def names(count: int) -> list[str]:
    """So many paths."""
    return [f"f{number}" for number in range(count)]


def test_half_of_a_tree_may_go_more_may_not() -> None:
    """Of a tree of over 20 files; a smaller one may go whole."""
    guard = Deletions(hold_s=10.0)
    assert Ruling() == guard.rule(0.0, Side.MOUNT, names(20), 20, None, True)
    assert Ruling() == guard.rule(0.0, Side.MOUNT, names(11), 22, None, True)
    assert (False, 12) == ((ruling := guard.rule(0.0, Side.MOUNT, names(12), 22, None, True)).allowed, ruling.refused)
    assert "12 of 22 files would be deleted at once" == ruling.why


def test_a_storm_passes_at_the_second_full_look_after_the_hold() -> None:
    """Looks at single paths neither begin the hold nor end it; a root without its marker never passes; each path is counted once."""
    guard = Deletions(hold_s=10.0)

    def rule(now: float, full: bool = True, trusted: str | None = None, count: int = 30) -> tuple[bool, int]:
        ruling = guard.rule(now, Side.PROJECT, names(count), 40, trusted, full)
        return ruling.allowed, ruling.refused

    assert [(False, 30), (False, 0)] == [rule(0.0, full=False), rule(20.0)]
    assert [(False, 0), (False, 1)] == [rule(29.9), rule(30.0, full=False, count=31)]
    assert (False, 0) == rule(31.0, trusted="no marker")
    assert (True, 0) == rule(31.0)
    assert (False, 30) == rule(31.1), "the next one begins again"


def test_a_storm_that_is_over_is_forgotten() -> None:
    """The hold begins anew when most of the tree is gone another time."""
    guard = Deletions(hold_s=10.0)
    assert not guard.rule(0.0, Side.MOUNT, names(30), 40, None, True).allowed
    assert guard.rule(5.0, Side.MOUNT, [], 40, None, True).allowed
    assert not guard.rule(11.0, Side.MOUNT, names(30), 40, None, True).allowed


def test_a_storm_in_small_portions_is_one() -> None:
    """What was deleted within a minute counts with it; what was meant does not."""
    guard = Deletions(hold_s=10.0)
    left = 100
    for now in range(10):
        ruling = guard.rule(float(now), Side.MOUNT, names(10), left, None, False)
        if not ruling.allowed:
            break
        guard.done(float(now), Side.MOUNT, 10)
        left -= 10
    assert 50 == left
    assert guard.rule(70.0, Side.MOUNT, names(10), left, None, False).allowed, "a minute later"


def test_without_a_marker_not_even_one_file_is_deleted() -> None:
    """The reason is told."""
    guard = Deletions(hold_s=10.0)
    assert Ruling(False, refused=1, why="it lost its marker") == guard.rule(0.0, Side.MOUNT, ["a"], 100, "it lost its marker", True)
    assert Ruling() == guard.rule(0.0, Side.MOUNT, [], 100, "it lost its marker", True)


# ------------------------------------------------------------------ names


def test_a_name_beside_is_free_and_not_too_long() -> None:
    """The ending is never cut, and no letter is cut in half."""
    assert "a.txt.conflict-T" == next(beside("a.txt", "T"))
    assert "a.txt.conflict-T-2" == next(beside("a.txt", "T", {"a.txt.conflict-T"}))
    long = next(beside("ü" * 127, "T"))
    assert ("ü" * 122 + ".conflict-T", 255) == (long, len(long.encode()))


def test_a_path_is_shown_on_one_line() -> None:
    """Whatever bytes it has."""
    assert "a b/ü" == shown("a b/ü")
    assert "a\\nb\\udcff\\x1b\\u202e" == shown("a\nb\udcff\x1b\u202e")
