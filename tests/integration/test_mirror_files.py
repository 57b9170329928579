"""What a comparison does on real files: copies, deletions, conflicts, and everything that can be wrong with a file, a directory or a disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncwatch.core.mirror_rules import MARKER, Entry, Side
from syncwatch.runtime import mirroring, renaming
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.files import CancelledError, KilledError, Tree
from tests.integration.mirror_parts import NOBODY, OLD_NS, Scene, apart, old

TO_BOTH = pytest.mark.parametrize("source", Side)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """In mode sync."""
    return Scene(tmp_path)


# ------------------------------------------------------------------ copying


@TO_BOTH
def test_a_copy_keeps_contents_mode_and_mtime(scene: Scene, source: Side) -> None:
    """Also those of the directories that are made for it; it is counted by its direction."""
    place = old(scene.root(source) / "a/b/tool.sh", b"#!/bin/sh\n")
    place.chmod(0o750)
    place.parent.chmod(0o710)
    report = scene.compare()
    copy = scene.root(source.other) / "a/b/tool.sh"
    assert (b"#!/bin/sh\n", 0o750, OLD_NS) == (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode), copy.stat().st_mtime_ns)
    assert 0o710 == stat.S_IMODE(copy.parent.stat().st_mode)
    assert (1, 0, True) == (report.copied[source.other], report.copied[source], report.clean)
    assert 0 == scene.compare().moved


def test_a_copy_never_takes_over_the_right_to_become_somebody_else(scene: Scene) -> None:
    """Set-user-id bits stay where they are, and are no difference."""
    old(scene.project / "tool").chmod(0o4755)
    scene.compare()
    assert 0o755 == stat.S_IMODE((scene.mount / "tool").stat().st_mode)
    assert (0, True) == (scene.compare().moved, scene.compare().clean)


def test_a_reader_sees_the_old_file_or_the_new_one_whole(scene: Scene) -> None:
    """The name changes hands in one step: whoever has the old file open goes on reading it, and no name of ours is left."""
    old(scene.project / "a", b"1" * 100_000)
    scene.compare()
    with (scene.mount / "a").open("rb") as reader:
        old(scene.project / "a", b"2" * 200_000)
        scene.compare()
        assert b"1" * 100_000 == reader.read()
    assert ["a"] == sorted(name for name in os.listdir(scene.mount) if name != ".syncwatch")
    assert b"2" * 200_000 == (scene.mount / "a").read_bytes()


def test_a_copy_is_on_disk_before_it_replaces_anything(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its contents: after a power cut what it replaced is not gone for nothing. A new file replaces nothing, and waits for no disk."""
    old(scene.project / "a", b"before")
    scene.compare()
    old(scene.mount / "a", b"1" * 3_000_000)
    old(scene.mount / "new")
    sync, seen = os.fsync, []

    def watched(file: int) -> None:
        seen.append((os.fstat(file).st_size, (scene.project / "a").read_bytes()))
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)
    assert scene.compare().clean
    assert [(3_000_000, b"before")] == seen
    assert b"1" * 3_000_000 == (scene.project / "a").read_bytes()


def test_permissions_that_are_changed_later_follow(scene: Scene) -> None:
    """A chmod on one side is carried over; how permissions differed from the beginning is nobody's fault and stays."""
    old(scene.mount / "a").chmod(0o600)
    old(scene.project / "a").chmod(0o644)
    assert (0, True) == (scene.compare().moved, scene.compare().clean)
    (scene.project / "a").chmod(0o755)
    scene.compare()
    assert 0o755 == stat.S_IMODE((scene.mount / "a").stat().st_mode)


def test_a_touch_moves_nothing(scene: Scene) -> None:
    """Another time alone is no other file."""
    old(scene.mount / "a")
    scene.compare()
    os.utime(scene.mount / "a")
    report = scene.compare()
    assert (0, True) == (report.moved, report.clean)


def test_the_same_size_in_the_same_instant_is_found(scene: Scene) -> None:
    """A file that is written again before the clock of the file system ticked looks the same; its contents are compared as long as that can be."""
    for number in range(60):
        (scene.mount / "a").write_bytes(b"%04d" % number)
        (scene.mount / "a").write_bytes(b"%04d" % (number + 1000))
        assert scene.compare().clean
        assert b"%04d" % (number + 1000) == (scene.project / "a").read_bytes()


def test_contents_of_the_same_size_and_time_are_found_different_by_their_ctime(scene: Scene) -> None:
    """Whoever sets the time back after writing deceives the mtime, not us."""
    old(scene.mount / "a", b"one")
    scene.compare()
    old(scene.mount / "a", b"two")
    scene.compare()
    assert b"two" == (scene.project / "a").read_bytes()


def test_a_file_that_changes_while_it_is_copied_is_copied_again(scene: Scene) -> None:
    """What arrives is one state of it, not two halves."""
    (scene.mount / "a").write_bytes(b"x" * 3_000_000)
    tries = 0

    def step(what: str) -> None:
        nonlocal tries
        if what == "write":
            tries += 1
            if tries == 1:
                (scene.mount / "a").write_bytes(b"y" * 3_000_001)

    scene.on_step = step
    report = scene.compare()
    assert (2, True, ()) == (tries, report.clean, report.again)
    assert b"y" * 3_000_001 == (scene.project / "a").read_bytes()


def test_a_file_that_never_holds_still_arrives_and_is_looked_at_again(scene: Scene) -> None:
    """A log that is always written to: what was finished before is there, and the report asks for another look."""
    place = scene.mount / "log"
    place.write_bytes(b"first\n")

    def step(what: str) -> None:
        if what == "write":
            size = place.stat().st_size
            with place.open("ab") as file:
                file.write(b"more\n")
            os.utime(place, ns=(OLD_NS + size, OLD_NS + size))

    scene.on_step = step
    report = scene.compare()
    assert (("log",), True) == (report.again, report.clean)
    assert (scene.project / "log").read_bytes().startswith(b"first\n")
    scene.on_step = lambda _: None
    assert scene.compare("log").clean
    assert place.read_bytes() == (scene.project / "log").read_bytes()


# ------------------------------------------------------------------ conflicts, deletions


def test_both_changed_the_mount_wins_and_the_loser_is_kept_beside(scene: Scene) -> None:
    """On both sides, under a name with the time; it is a file like any other from then on."""
    old(scene.mount / "d/a")
    scene.compare()
    (scene.mount / "d/a").write_bytes(b"mount's")
    (scene.project / "d/a").write_bytes(b"project's")
    report = scene.compare()
    (kept,) = report.conflicts
    assert 1 == report.conflict_count
    assert kept.startswith("d/a.conflict-2")
    expected = {"d/a": b"mount's", kept: b"project's"}
    assert expected == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@TO_BOTH
@pytest.mark.parametrize("how", ["touch", "chmod"])
def test_who_only_touched_a_file_does_not_win_over_who_wrote_it(tmp_path: Path, source: Side, how: str) -> None:
    """The contents that agreed are known: old ones never replace new ones, also where no loser is kept. A deletion is none of an old file that was touched."""
    scene = Scene(tmp_path, keep_conflicts=False)
    here, there = scene.root(source), scene.root(source.other)
    for name in ("a", "gone"):
        old(here / name, b"old")
    scene.compare()
    for name in ("a", "gone"):
        os.utime(here / name) if how == "touch" else (here / name).chmod(0o600)
    (there / "a").write_bytes(b"newer")
    (there / "gone").unlink()
    report = scene.compare()
    assert (True, 0) == (report.clean, report.conflict_count)
    assert {"a": b"newer"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_a_chmod_of_what_was_only_believed_to_be_equal(scene: Scene) -> None:
    """Nobody has read it: whoever wrote wins, and the other one's is kept."""
    for side in Side:
        old(scene.root(side) / "a", side.encode()[:5])
    scene.compare()
    (scene.mount / "a").chmod(0o600)
    (scene.project / "a").write_bytes(b"newer")
    (kept,) = scene.compare().conflicts
    assert {"a": b"newer", kept: b"mount"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_what_only_looked_equal_is_found_different_before_anything_is_lost(scene: Scene) -> None:
    """Archives may give the same time to everything: another file of the same size and time is read with a later comparison, and kept beside the one that wins."""
    for side in Side:
        old(scene.root(side) / "version", b"1.2.3" if side is Side.MOUNT else b"1.2.4")
        old(scene.root(side) / "same", b"same")
    assert (0, True) == ((first := scene.compare()).moved, first.clean), "believed"
    (kept,) = scene.compare().conflicts
    expected = {"version": b"1.2.3", kept: b"1.2.4", "same": b"same"}
    assert expected == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)
    assert 0 == scene.compare().conflict_count


def test_observing_finds_what_only_looked_equal(tmp_path: Path) -> None:
    """And goes on saying so. What cannot be read, or is too large, is believed."""
    scene = Scene(tmp_path, acts=False)
    for side in Side:
        old(scene.root(side) / "version", side.encode()[:5])
        with old(scene.root(side) / "large").open("r+b") as file:
            file.truncate(mirroring.PROVEN_BYTES + 1)
        os.utime(scene.root(side) / "large", ns=(OLD_NS, OLD_NS))
    assert scene.compare().clean
    for _ in range(2):
        assert {"version": "changed on both sides"} == scene.compare().left


def test_little_is_read_with_each_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many files, or so many bytes, until all were read once; then nothing is read any more."""
    scene = Scene(tmp_path, acts=False)
    monkeypatch.setattr(mirroring, "PROVEN_FILES", 3)
    monkeypatch.setattr(mirroring, "PROVEN_BYTES", 1000)
    for side in Side:
        for number in range(5):
            old(scene.root(side) / f"f{number}")
        for number in range(3):
            old(scene.root(side) / f"large{number}", b"x" * 600)
    digest, read = Tree.digest, []

    def counted(self: Tree, path: str, expected: Entry) -> bytes:
        read.append(path)
        return digest(self, path, expected)

    monkeypatch.setattr(Tree, "digest", counted)
    counts = []
    for _ in range(7):
        read.clear()
        assert scene.compare().clean
        counts.append(len(read) // 2)
    assert (0, 8, 0) == (counts[0], sum(counts), counts[-1])
    assert max(counts) <= 3
    assert 3 <= len([count for count in counts if count])


def test_a_loser_is_not_kept_where_nobody_wants_it(tmp_path: Path) -> None:
    """With keep_conflicts off it is overwritten, and counted all the same."""
    scene = Scene(tmp_path, keep_conflicts=False)
    (scene.mount / "a").write_bytes(b"mount's")
    (scene.project / "a").write_bytes(b"project")
    assert 1 == scene.compare().conflict_count
    assert {"a": b"mount's"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@TO_BOTH
def test_a_deletion_is_mirrored_with_the_directories_that_are_empty_then(scene: Scene, source: Side) -> None:
    """If they are gone on the other side as well."""
    for name in ("a/b/c", "a/d", "e/f"):
        old(scene.mount / name)
    scene.compare()
    shutil.rmtree(scene.root(source) / "a/b")
    (scene.root(source) / "e/f").unlink()
    report = scene.compare("a/b", "e/f")
    other = scene.root(source.other)
    assert (2, True) == (report.deleted[source.other], report.clean)
    assert ["a", "a/d", "e"] == sorted(str(path.relative_to(other)) for path in other.rglob("*") if ".syncwatch" not in str(path))


@TO_BOTH
def test_deleted_here_and_changed_there_is_made_again(scene: Scene, source: Side) -> None:
    """Who wrote is right, not who deleted."""
    old(scene.mount / "a")
    scene.compare()
    scene.root(source).joinpath("a").unlink()
    scene.root(source.other).joinpath("a").write_bytes(b"newer")
    scene.compare()
    assert {"a": b"newer"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_a_read_only_path_flows_into_the_mount_only(tmp_path: Path) -> None:
    """Its copy cannot be written; a change or a deletion in the mount is undone, and what was written there is kept beside."""
    scene = Scene(tmp_path, read_only=("docs/",))
    old(scene.project / "docs/a", b"right")
    scene.compare()
    copy = scene.mount / "docs/a"
    assert 0o444 == stat.S_IMODE(copy.stat().st_mode)
    copy.chmod(0o644)
    copy.write_bytes(b"wrong")
    (kept,) = scene.compare().conflicts
    assert {"docs/a": b"right"} == scene.files(Side.PROJECT)
    assert {"docs/a": b"right", kept: b"wrong"} == scene.files(Side.MOUNT)
    copy.unlink()
    assert scene.compare().clean
    assert b"right" == copy.read_bytes()


def test_read_only_files_that_agree_already_cannot_be_written_either(tmp_path: Path) -> None:
    """Those that were equal at first, those that become read-only by the project's own word, and one that was made writable again without being written."""
    scene = Scene(tmp_path, read_only=("docs/",))
    for side in Side:
        for name in ("docs/a", "src/b", "free"):
            old(scene.root(side) / name, b"same").chmod(0o664)
    (scene.mount / "docs/young").write_bytes(b"young")
    (scene.project / "docs/young").write_bytes(b"young")

    def modes() -> list[int]:
        return [stat.S_IMODE((scene.mount / name).stat().st_mode) for name in ("docs/a", "docs/young", "src/b", "free")]

    report = scene.compare()
    assert (True, 0, [0o444, 0o444, 0o664, 0o664]) == (report.clean, report.moved, modes())
    (scene.project / ".agentreadonly").write_text("src/")
    (scene.mount / "docs/a").chmod(0o644)
    assert scene.compare("docs/a", ".agentreadonly").clean
    assert [0o444, 0o444, 0o444, 0o664] == modes()
    assert (True, 0) == ((report := scene.compare()).clean, report.moved)
    assert 0o664 == stat.S_IMODE((scene.project / "docs/a").stat().st_mode), "the project's is nobody's to change"


def test_a_read_only_file_with_other_names_gets_a_copy(tmp_path: Path) -> None:
    """Permissions belong to all names of a file, also those outside the roots: none of them changes."""
    scene = Scene(tmp_path, read_only=("a", "b"))
    outside = old(tmp_path / "outside")
    old(scene.project / "a")
    old(scene.project / "b")
    os.link(outside, scene.mount / "a")
    os.link(scene.project / "b", scene.mount / "b")
    before = outside.stat().st_mode
    assert scene.compare().clean
    assert [before, before] == [outside.stat().st_mode, (scene.project / "b").stat().st_mode]
    assert [0o444] * 2 == [stat.S_IMODE((scene.mount / name).stat().st_mode) for name in "ab"]


def test_a_read_only_file_whose_permissions_cannot_be_changed_is_tried_again(tmp_path: Path) -> None:
    """Named as an error, and done when it is possible."""
    scene = Scene(tmp_path, read_only=("a",))
    for side in Side:
        old(scene.root(side) / "a")

    def fail(what: str) -> None:
        if what == "attributes":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    scene.on_step = fail
    for report in (scene.compare(), scene.compare("a")):
        assert {"a": "cannot be made read-only: input/output error"} == report.errors
    scene.on_step = lambda _: None
    assert scene.compare("a").clean
    assert 0o444 == stat.S_IMODE((scene.mount / "a").stat().st_mode)


def test_observing_takes_no_permissions(tmp_path: Path) -> None:
    """Who observes writes nothing, and no chmod either."""
    scene = Scene(tmp_path, acts=False, read_only=("a",))
    for side in Side:
        old(scene.root(side) / "a").chmod(0o664)
    assert scene.compare().clean
    assert 0o664 == stat.S_IMODE((scene.mount / "a").stat().st_mode)


def test_git_never_flows_back(scene: Scene) -> None:
    """Below `.git`, where it is not left out, the project wins."""
    old(scene.project / ".git/HEAD", b"main")
    scene.compare()
    (scene.mount / ".git/HEAD").write_bytes(b"other")
    old(scene.mount / ".git/new")
    scene.compare()
    assert b"main" == (scene.project / ".git/HEAD").read_bytes() == (scene.mount / ".git/HEAD").read_bytes()
    assert not (scene.project / ".git/new").exists()


def test_what_is_ignored_stays_where_it_is(tmp_path: Path) -> None:
    """By the configuration, by the project's .agentignore, and what belongs to the mount alone."""
    scene = Scene(tmp_path, ignore=("node_modules", "*.log"))
    (scene.project / ".agentignore").write_text("secret/\n!\n")
    for name in ("node_modules/x", "a.log", "secret/x", "kept"):
        old(scene.project / name)
    old(scene.mount / "_MOUNT_README.md")
    report = scene.compare()
    assert {".agentignore", "kept"} == set(scene.files(Side.MOUNT)) - {"_MOUNT_README.md"}
    assert not (scene.project / "_MOUNT_README.md").exists()
    assert {".agentignore": "'!' is no pattern as gitignore has them"} == report.errors


def _too_large(place: Path) -> None:
    place.write_text("secret/\n" + "#" * 65_536)


def _a_link(place: Path) -> None:
    place.symlink_to("elsewhere")


UNREADABLE = pytest.mark.parametrize(
    ("spoil", "why"),
    [(_too_large, "it is larger than 65536 bytes"), (Path.mkdir, "it is no regular file"), (os.mkfifo, "it is no regular file"), (_a_link, "it is no regular file")],
    ids=["too large", "a directory", "a pipe", "a link"],
)
NAMES = pytest.mark.parametrize("name", [".agentignore", ".m.agentreadonly"])


@NAMES
@UNREADABLE
def test_patterns_that_were_never_read_hold_the_mirror(scene: Scene, name: str, spoil: Callable[[Path], None], why: str) -> None:
    """Nobody knows what they forbid: nothing is copied, deleted or replaced, it is said which file and why, and all goes on when it can be read."""
    old(scene.mount / "secret/there", b"mount's")
    old(scene.project / "secret/there", b"project's")
    old(scene.project / "new")
    spoil(scene.project / name)
    before = scene.files(Side.MOUNT), scene.files(Side.PROJECT)
    for report in (scene.compare(), scene.compare("new")):
        words = f"cannot be read: {why}; nothing is mirrored until it can"
        assert ({name: words}, f"{name} {words}") == (report.errors, report.held)
        assert (0, False) == (report.moved, report.clean)
    assert before == (scene.files(Side.MOUNT), scene.files(Side.PROJECT))
    shutil.rmtree(scene.project / name) if (scene.project / name).is_dir() else (scene.project / name).unlink()
    (scene.project / name).write_text("secret/\n")
    report = scene.compare("new")
    assert (True, "") == (report.clean, report.held)
    ignoring = name.endswith("ignore")
    assert {"new", "secret/there", name} == {path for path in scene.files(Side.MOUNT) if ".conflict-" not in path}
    assert (b"mount's" if ignoring else b"project's") == (scene.mount / "secret/there").read_bytes()
    assert b"project's" == (scene.project / "secret/there").read_bytes()


@UNREADABLE
def test_patterns_that_cannot_be_read_any_more_hold_on(scene: Scene, spoil: Callable[[Path], None], why: str) -> None:
    """What they said last is what holds; it is said that they cannot be read."""
    (scene.project / ".agentignore").write_text("secret/\n")
    assert scene.compare().clean
    (scene.project / ".agentignore").unlink()
    spoil(scene.project / ".agentignore")
    old(scene.project / "secret/x")
    old(scene.project / "new")
    report = scene.compare()
    assert f"cannot be read: {why}; what it said last holds" == report.errors[".agentignore"]
    assert (scene.mount / "new").exists()
    assert not (scene.mount / "secret").exists()


def test_patterns_that_appear_and_cannot_be_read(scene: Scene) -> None:
    """Where there were none before nobody knows what they say either; where they are taken away, they hold no more."""
    assert scene.compare().clean
    _too_large(scene.project / ".agentignore")
    old(scene.project / "secret/x")
    assert scene.compare(".agentignore", "secret/x").held
    assert not (scene.mount / "secret").exists()
    (scene.project / ".agentignore").unlink()
    assert scene.compare().clean
    assert (scene.mount / "secret/x").exists()


@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_patterns_that_are_gone_for_a_moment_hold_on(scene: Scene, how: str) -> None:
    """An editor that saves them empties or removes them first; what is still gone a second later is gone."""
    place = scene.project / ".agentignore"
    place.write_text("secret/\n")
    old(scene.project / "secret/x")
    now_s = 100.0
    scene.pair._clock = Clock(monotonic=lambda: now_s)
    assert scene.compare().clean
    for there in (False, True, False):
        if there:
            place.write_text("secret/\nother/\n")
        elif how == "emptied":
            place.write_text("")
        else:
            place.unlink()
        for report in (scene.compare(".agentignore", "secret"), scene.compare(), scene.compare("secret/x")):
            assert (() if there else (".agentignore",)) == report.again
        assert not (scene.mount / "secret").exists()
        now_s += 0.5
    now_s += 0.6
    assert () == scene.compare(".agentignore").again
    assert (scene.mount / "secret/x").exists()


def test_patterns_count_from_their_change_on(scene: Scene) -> None:
    """Not only from the next comparison of everything."""
    assert scene.compare().clean
    (scene.project / ".agentignore").write_text("secret/\n")
    old(scene.project / "secret/x")
    assert scene.compare(".agentignore", "secret/x").clean
    assert {".agentignore"} == set(scene.files(Side.MOUNT))


@pytest.mark.parametrize("pattern", ["secret/", "/secret/", "s*t/", "secret"])
@pytest.mark.parametrize("given", ["ignore", ".agentignore"])
def test_a_directory_that_is_ignored_is_not_looked_into(tmp_path: Path, given: str, pattern: str) -> None:
    """Nor where an event names the directory itself, or one above it."""
    scene = Scene(tmp_path, ignore=(pattern,) if given == "ignore" else ())
    if given == ".agentignore":
        (scene.project / ".agentignore").write_text(pattern)
    assert scene.compare().clean
    old(scene.project / "secret/x/y")
    old(scene.project / "secret/z")
    for paths in (("secret",), ("secret/x",), ("secret/z",)):
        assert (True, 0) == ((report := scene.compare(*paths)).clean, report.moved)
    assert not (scene.mount / "secret").exists()


PATTERNS_AS_NOBODY = """
    import json, os, sys
    from pathlib import Path
    from syncwatch.core.mirror_rules import Side
    from tests.integration.mirror_parts import NOBODY, Scene
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    scene = Scene(Path(sys.argv[1]))
    held = scene.compare().held
    (scene.project / ".agentignore").chmod(0o600)
    print(json.dumps([held, scene.compare().clean, sorted(scene.files(Side.MOUNT))]))
"""


def test_patterns_that_may_not_be_read() -> None:
    """Permission denied is no permission to mirror what they leave out."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-"))
    try:
        for name in ("project/secret/x", "project/a", "mount/b"):
            old(folder / name)
        old(folder / "project/.agentignore", b"secret/").chmod(0)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        told = apart(PATTERNS_AS_NOBODY, str(folder))
        assert [".agentignore cannot be read: permission denied; nothing is mirrored until it can", True, [".agentignore", "a", "b"]] == told
    finally:
        shutil.rmtree(folder)


def test_a_file_where_the_other_side_has_a_directory(scene: Scene) -> None:
    """The mount wins: the directory is kept beside, whole."""
    old(scene.mount / "a", b"file")
    old(scene.project / "a/b", b"inside")
    reports = [scene.compare(), scene.compare()]
    assert reports[-1].clean
    ((kept,),) = [one.conflicts for one in reports if one.conflicts]
    assert {"a": b"file", f"{kept}/b": b"inside"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_a_directory_in_the_mount_where_the_project_has_a_file(scene: Scene) -> None:
    """The mount wins here too: the file is kept beside, told as a conflict, and on both sides at once."""
    old(scene.project / "d/a", b"file")
    old(scene.mount / "d/a/b", b"inside")
    report = scene.compare()
    (kept,) = report.conflicts
    assert (True, 1) == (report.clean, report.conflict_count)
    assert kept.startswith("d/a.conflict-")
    assert {"d/a/b": b"inside", kept: b"file"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@pytest.mark.parametrize("path", [".git/refs/heads/feature", "locked/feature"])
@pytest.mark.parametrize("known", [False, True])
def test_where_the_project_wins_a_file_of_the_mount_makes_way_for_a_directory(tmp_path: Path, path: str, known: bool) -> None:
    """A branch `feature` made or changed in the mount, and `feature/x` in the project: the mount's is kept beside, and nothing waits any more."""
    scene = Scene(tmp_path, read_only=("locked/",))
    old(scene.project / (path if known else f"{path}2"), b"first")
    scene.compare()
    (scene.mount / path).unlink(missing_ok=True)
    (scene.mount / path).write_bytes(b"agent's")
    (scene.project / path).unlink(missing_ok=True)
    old(scene.project / path / "x", b"project's")
    reports = [scene.compare() for _ in range(3)]
    assert (True, {}) == (reports[-1].clean, reports[-1].left)
    (kept,) = [one for report in reports for one in report.conflicts]
    assert kept.startswith(f"{path}.conflict-")
    assert b"agent's" == scene.files(Side.MOUNT)[kept]
    assert b"project's" == scene.files(Side.MOUNT)[f"{path}/x"] == scene.files(Side.PROJECT)[f"{path}/x"]
    assert kept not in scene.files(Side.PROJECT)


@pytest.mark.parametrize("path", [".git/refs/heads/feature", "locked/feature"])
def test_where_the_project_wins_a_directory_of_the_mount_makes_way_for_a_file(tmp_path: Path, path: str) -> None:
    """The other way round: the directory is kept beside, whole."""
    scene = Scene(tmp_path, read_only=("locked/",))
    old(scene.mount / path / "x", b"agent's")
    scene.compare()
    old(scene.project / path, b"project's")
    reports = [scene.compare() for _ in range(3)]
    assert (True, {}) == (reports[-1].clean, reports[-1].left)
    (kept,) = [one for report in reports for one in report.conflicts]
    assert {path: b"project's", f"{kept}/x": b"agent's"} == scene.files(Side.MOUNT)
    assert {path: b"project's"} == scene.files(Side.PROJECT)


@pytest.mark.parametrize("name", [".git", "locked"])
def test_a_file_in_place_of_a_directory_that_flows_into_the_mount_only(tmp_path: Path, name: str) -> None:
    """Whoever replaces all of it in the mount has changed nothing in the project, and finds the file beside."""
    scene = Scene(tmp_path, read_only=("locked/",))
    for one in "abc":
        old(scene.project / name / one)
    scene.compare()
    shutil.rmtree(scene.mount / name)
    (scene.mount / name).write_bytes(b"agent's")
    reports = [scene.compare() for _ in range(3)]
    assert (True, {}) == (reports[-1].clean, reports[-1].left)
    (kept,) = [one for report in reports for one in report.conflicts]
    wanted = {f"{name}/{one}": b"old" for one in "abc"} | {kept: b"agent's"}
    assert wanted == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@pytest.mark.parametrize("name", [".git", "locked"])
def test_a_directory_of_the_mount_in_which_nothing_may_flow_back(tmp_path: Path, name: str) -> None:
    """Where the project has a file of that name (as a worktree has `.git`), it is not waited for files that never come: the directory is kept beside."""
    scene = Scene(tmp_path, read_only=("locked/",))
    old(scene.mount / name / "x", b"agent's")
    old(scene.project / name, b"project's")
    reports = [scene.compare() for _ in range(3)]
    assert (True, {}) == (reports[-1].clean, reports[-1].left)
    (kept,) = [one for report in reports for one in report.conflicts]
    assert {name: b"project's", f"{kept}/x": b"agent's"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


# ------------------------------------------------------------------ deletions that are none


def storm(scene: Scene, files: int = 30) -> None:
    """A tree that is in step, and most of whose project is gone then."""
    for number in range(files):
        old(scene.mount / f"f{number}")
    scene.compare()
    for number in range(files - 5):
        (scene.project / f"f{number}").unlink()


def test_most_of_a_tree_is_not_deleted_at_once(tmp_path: Path) -> None:
    """Refused and counted once; a second full look after the hold, with a living marker, lets it happen."""
    scene = Scene(tmp_path, hold_s=0.05)
    storm(scene)
    paths = [f"f{number}" for number in range(25)]
    assert (25, 0) == ((one := scene.compare(*paths)).refused, one.moved), "seen by events"
    one = scene.compare()
    assert (0, 0, "25 of 30 files would be deleted at once") == (one.refused, one.moved, one.refusal)
    assert 0 == scene.compare(*paths).moved, "only everything can show it a second time"
    time.sleep(0.06)
    one = scene.compare()
    assert (25, True) == (one.deleted[Side.MOUNT], one.clean)
    (scene.project / "f29").unlink()
    assert 1 == scene.compare("f29").deleted[Side.MOUNT], "what follows is measured against what is left"


def test_most_of_a_tree_is_never_deleted_without_a_marker(tmp_path: Path) -> None:
    """The root may be an empty directory where something should be mounted; whoever makes the marker again means it."""
    scene = Scene(tmp_path, hold_s=0.0)
    storm(scene)
    shutil.rmtree(scene.project / ".syncwatch")
    for _ in range(4):
        report = scene.compare()
        assert (0, "the project has lost its marker .syncwatch/mirror-m") == (report.moved, report.refusal)
    (scene.project / ".syncwatch").mkdir()
    (scene.project / ".syncwatch/mirror-m").touch()
    assert 25 == scene.compare().deleted[Side.MOUNT]


def test_a_marker_that_was_cleaned_away_is_made_again(tmp_path: Path) -> None:
    """`git clean` takes it; a deletion waits for one more full look then, after the hold."""
    scene = Scene(tmp_path, hold_s=0.05)
    for number in range(10):
        old(scene.mount / f"f{number}")
    scene.compare()
    shutil.rmtree(scene.project / ".syncwatch")
    (scene.project / "f1").unlink()
    assert (1, 0) == ((one := scene.compare()).refused, one.moved)
    time.sleep(0.06)
    assert 0 == scene.compare("f1").moved, "only everything can show what is still there"
    assert 1 == scene.compare().deleted[Side.MOUNT]
    assert (scene.project / ".syncwatch/mirror-m").exists()


@pytest.mark.parametrize("files", [20, 30])
def test_a_marker_that_goes_with_the_tree_stays_away(tmp_path: Path, files: int) -> None:
    """`rm -rf` takes the marker first and the files then, for as long as it needs; however small the portions are in which that is seen, nothing is deleted."""
    scene = Scene(tmp_path, hold_s=0.0)
    names = [f"f{number:02}" for number in range(files)]
    for name in names:
        old(scene.mount / name)
    scene.compare()
    shutil.rmtree(scene.mount / ".syncwatch")
    for number in range(0, files, 2):
        for name in names[number : number + 2]:
            (scene.mount / name).unlink()
        assert 0 == scene.compare(*names[number : number + 2]).moved
        assert 0 == scene.compare().moved
    for _ in range(3):
        assert (0, "the mount has lost its marker .syncwatch/mirror-m") == ((one := scene.compare()).moved, one.refusal)
    assert set(names) == scene.files(Side.PROJECT).keys()


def test_the_marker_of_a_mount_that_another_program_made_is_not_ours_to_make(scene: Scene) -> None:
    """While it is missing, nothing that is missing in the mount is deleted."""
    (scene.mount / MARKER).touch()
    old(scene.mount / "a")
    scene.compare()
    (scene.mount / MARKER).unlink()
    (scene.mount / "a").unlink()
    for _ in range(3):
        assert (0, f"the mount has lost its marker {MARKER}") == ((one := scene.compare()).moved, one.refusal)
    (scene.mount / MARKER).touch()
    assert 1 == scene.compare().deleted[Side.PROJECT]


@TO_BOTH
def test_a_root_that_is_gone_or_another_one_deletes_nothing(scene: Scene, source: Side) -> None:
    """Gone: nothing is done at all. Another directory in its place: what was agreed with the old one is forgotten, and the files come back."""
    old(scene.mount / "a")
    scene.compare()
    shutil.rmtree(scene.root(source))
    report = scene.compare()
    assert ([source], 0) == (list(report.gone), report.moved)
    assert str(scene.root(source)) in report.gone[source]
    scene.root(source).mkdir()
    report = scene.compare("a")
    assert ((source,), 1, True) == (report.replaced, report.moved, report.full)
    assert {"a": b"old"} == scene.files(source)


def test_a_root_that_was_made_anew_unseen_deletes_nothing(scene: Scene) -> None:
    """It may even have the number of the old one: its marker is missing with all that was in it, and that is not believed until somebody makes one."""
    for name in "abc":
        old(scene.mount / name)
    scene.compare()
    shutil.rmtree(scene.project)
    scene.project.mkdir()
    for _ in range(3):
        scene.compare()
    assert {"a", "b", "c"} == set(scene.files(Side.MOUNT))


def test_a_root_that_goes_away_in_the_middle_deletes_nothing(scene: Scene, tmp_path: Path) -> None:
    """What is missing is looked for once more, in a root that is still there, before anything is deleted."""
    for name in "abc":
        old(scene.mount / name)
    scene.compare()
    (scene.project / "a").unlink()
    (scene.project / "b").unlink()

    def move(what: str) -> None:
        if what == "take" and scene.project.exists():
            scene.project.rename(tmp_path / "elsewhere")

    scene.on_step = move
    report = scene.compare()
    assert report.gone
    assert 2 <= len(scene.files(Side.MOUNT)), "at most the one that was under way"


# ------------------------------------------------------------------ never outside


def test_links_are_not_followed(scene: Scene, tmp_path: Path) -> None:
    """Neither to a file nor to a directory, on neither side; what they stand in the way of is named, and nothing outside changes."""
    outside = tmp_path / "outside"
    old(outside / "x", b"private")
    old(outside / "taken", b"private")
    (scene.project / "file").symlink_to(outside / "x")
    (scene.project / "dir").symlink_to(outside)
    (scene.mount / "self").symlink_to(".")
    old(scene.mount / "file", b"mine")
    old(scene.mount / "dir/taken", b"mine")
    report = scene.compare()
    assert {"dir/taken", "file"} == set(report.left)
    assert 0 == report.moved
    assert {"x": b"private", "taken": b"private"} == {path.name: path.read_bytes() for path in outside.iterdir()}
    assert (scene.project / "file").is_symlink()


@pytest.mark.parametrize("mount", ["project", "project/sub", "project/sub/deep", "."])
def test_roots_that_a_link_makes_one_tree_are_left_alone(tmp_path: Path, mount: str) -> None:
    """The configuration cannot see that; copying one into the other would never end."""
    real = tmp_path / "real"
    old(real / "project/a")
    (real / "project/sub/deep").mkdir(parents=True)
    (tmp_path / "mount").symlink_to(real / mount)
    (tmp_path / "project").symlink_to(real / "project")
    scene = Scene(tmp_path)
    report = scene.compare()
    assert not report.clean
    assert {f"{scene.project} and the mount {scene.mount} are the same tree or one inside the other"} == set(report.gone.values())
    assert [] == scene.steps
    assert {"a"} == set(scene.files(Side.PROJECT))
    (tmp_path / "mount").unlink()
    (tmp_path / "mount").mkdir()
    assert 1 == scene.compare().copied[Side.MOUNT]


def test_a_file_that_becomes_a_link_is_not_taken_for_deleted(scene: Scene) -> None:
    """The other side keeps its file."""
    old(scene.mount / "a")
    old(scene.mount / "d/b")
    scene.compare()
    (scene.project / "a").unlink()
    (scene.project / "a").symlink_to("/nowhere")
    shutil.rmtree(scene.project / "d")
    (scene.project / "d").symlink_to("/nowhere")
    assert 0 == scene.compare().moved + scene.compare("a", "d", "d/b").moved
    assert {"a", "d/b"} == set(scene.files(Side.MOUNT))


@pytest.mark.parametrize("when", ["mkdir", "create", "write", "attributes", "swap", "publish", "unlink", "take"])
def test_a_directory_that_becomes_a_link_under_our_hands_leads_nowhere(scene: Scene, tmp_path: Path, when: str) -> None:
    """Whenever it is swapped, nothing is written, replaced or deleted where the link leads to."""
    outside = tmp_path / "outside"
    for name in ("changed", "deleted", "new/x"):
        old(outside / name, b"private")
    for name in ("d/changed", "d/deleted"):
        old(scene.mount / name)
    scene.compare()
    (scene.mount / "d/changed").write_bytes(b"newer")
    (scene.mount / "d/deleted").unlink()
    old(scene.mount / "d/new/x", b"new")

    def swap(what: str) -> None:
        if what == when and not (scene.project / "d").is_symlink():
            (scene.project / "d").rename(tmp_path / "moved")
            (scene.project / "d").symlink_to(outside)

    scene.on_step = swap
    scene.compare()
    assert (scene.project / "d").is_symlink(), "the step was reached"
    seen = {str(path.relative_to(outside)): path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    assert {"changed": b"private", "deleted": b"private", "new/x": b"private"} == seen


def test_pipes_sockets_and_devices_are_passed_over(scene: Scene) -> None:
    """Nobody waits at a pipe, and none of them is copied."""
    os.mkfifo(scene.mount / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(scene.mount / "s"))
    with contextlib.suppress(PermissionError):
        os.mknod(scene.mount / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    old(scene.mount / "a")
    report = scene.compare()
    assert (True, 1) == (report.clean, report.moved)
    assert {"a": b"old"} == scene.files(Side.PROJECT)


def test_a_pipe_in_the_place_of_a_file_that_is_about_to_be_copied(scene: Scene) -> None:
    """It is not waited for."""
    old(scene.mount / "a")
    old(scene.mount / "b")

    def swap(what: str) -> None:
        if what == "create" and not stat.S_ISFIFO((scene.mount / "b").stat().st_mode):
            (scene.mount / "b").unlink()
            os.mkfifo(scene.mount / "b")

    scene.on_step = swap
    scene.compare()
    assert {"a"} == set(scene.files(Side.PROJECT))


# ------------------------------------------------------------------ bad input


def test_any_name_that_a_file_can_have(scene: Scene) -> None:
    """Line feeds, bytes that are no text, blanks, the longest name; in what is told they are escaped."""
    names = [b"line\nfeed", b"\xff\xfe no text", b" ", b"-rf", b"x" * 255, "\u202eüñ".encode()]
    for name in names:
        with open(os.fsencode(scene.mount) + b"/" + name, "wb") as file:
            file.write(name)
    assert scene.compare().clean
    there = {name for name in os.listdir(os.fsencode(scene.project)) if name != b".syncwatch"}
    assert set(names) == there
    for name in names[:2]:
        with open(os.fsencode(scene.project) + b"/" + name, "ab") as file:
            file.write(b"!")
        with open(os.fsencode(scene.mount) + b"/" + name, "ab") as file:
            file.write(b"?")
    report = scene.compare()
    assert 2 == report.conflict_count
    assert all(one.isprintable() and one.encode() for one in report.conflicts)


def test_a_loser_with_the_longest_name_is_kept_too(scene: Scene) -> None:
    """Its name is cut."""
    name = "ü" * 127
    (scene.mount / name).write_bytes(b"mount's")
    (scene.project / name).write_bytes(b"project's")
    (kept,) = scene.compare().conflicts
    assert {name: b"mount's", kept: b"project's"} == scene.files(Side.MOUNT)
    assert 255 >= len(kept.encode())


AS_NOBODY = """
    import json, os, sys
    from pathlib import Path
    from tests.integration.mirror_parts import NOBODY, Scene
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    scene = Scene(Path(sys.argv[1]))
    told = []
    for _ in range(2):
        report = scene.compare()
        told.append([dict(report.errors), sorted(report.left), report.moved, report.error_count])
    print(json.dumps([told, sorted(map(str, (p.relative_to(scene.project) for p in scene.project.rglob("*") if p.is_file() and ".syncwatch" not in str(p))))]))
"""


def test_one_file_that_may_not_be_read_stops_no_other() -> None:
    """The others are copied; the one is counted each time, and named. The same for a directory, below which nothing is taken for deleted."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-"))
    try:
        for name in ("a", "locked", "z", "dir/inside"):
            old(folder / "mount" / name)
        old(folder / "project" / "dir/inside")
        (folder / "mount/locked").chmod(0)
        (folder / "mount/dir").chmod(0)
        if os.geteuid() == 0:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        told, there = apart(AS_NOBODY, str(folder))
        errors = {"locked": "cannot be copied: permission denied", "dir": "cannot be read: permission denied"}
        assert [[errors, ["dir", "dir/inside", "locked"], moved, 2] for moved in (2, 0)] == told
        assert ["a", "dir/inside", "z"] == there
    finally:
        (folder / "mount/dir").chmod(0o700)
        shutil.rmtree(folder)


SMALL_DISK = """
    import json, subprocess, sys
    from pathlib import Path
    from tests.integration.mirror_parts import Scene
    folder = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder / "project"], check=True)
    scene = Scene(folder)
    (scene.project / "old").write_bytes(b"1" * 50_000)
    (scene.mount / "a").write_bytes(b"a")
    scene.compare()
    (scene.mount / "old").write_bytes(b"2" * 400_000)
    (scene.mount / "z").write_bytes(b"z")
    full = scene.compare()
    told = [dict(full.errors), (scene.project / "old").read_bytes() == b"1" * 50_000, (scene.project / "z").exists()]
    left = sorted(p.name for p in scene.project.iterdir())
    (scene.mount / "old").write_bytes(b"3" * 100_000)
    told += [left, scene.compare().clean, (scene.project / "old").read_bytes() == b"3" * 100_000]
    subprocess.run(["mount", "-o", "remount,ro", folder / "project"], check=True)
    (scene.mount / "new").write_bytes(b"n")
    (scene.mount / "a").unlink()
    told += [dict(scene.compare().errors), (scene.project / "a").exists()]
    print(json.dumps(told))
"""


def test_a_full_disk_and_one_that_can_only_be_read(tmp_path: Path) -> None:
    """What was there stays as it was, nothing half is left, smaller files still go through, and it goes on by itself when there is room."""
    (tmp_path / "project").mkdir()
    told = apart(SMALL_DISK, str(tmp_path), own_mounts=True)
    assert [{"old": "cannot be copied: no space left on device"}, True, True] == told[:3]
    assert [[".syncwatch", "a", "old", "z"], True, True] == told[3:6]
    read_only = "read-only file system"
    assert [{"a": f"cannot be deleted: {read_only}", "new": f"cannot be copied: {read_only}"}, True] == told[6:]


MOUNTED_BELOW = """
    import json, subprocess, sys
    from pathlib import Path
    from syncwatch.core.mirror_rules import Side
    from tests.integration.mirror_parts import Scene, old
    folder, how = Path(sys.argv[1]), sys.argv[2]
    scene = Scene(folder)
    place, outside = scene.project / "d a", folder / "outside"
    place.mkdir()
    outside.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs"] if how == "tmpfs" else ["mount", "--bind", outside]
    subprocess.run([*mount, place], check=True)
    for name in ("d a/x", "d a/e/y", "z"):
        old(scene.mount / name)
    told = [scene.compare().clean, (place / "e/y").exists()]
    subprocess.run(["umount", place], check=True)
    (scene.project / "z").unlink()
    told += [scene.compare("d a", "z").clean, scene.compare().clean, sorted(scene.files(Side.MOUNT)), sorted(scene.files(Side.PROJECT))]
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    told += [scene.compare().clean, sorted(scene.files(Side.MOUNT)), sorted(scene.files(Side.PROJECT))]
    print(json.dumps(told))
"""


@pytest.mark.parametrize("how", ["tmpfs", "bind"])
def test_what_is_unmounted_below_a_root_is_not_taken_for_deleted(tmp_path: Path, how: str) -> None:
    """Nor what is hidden when something is mounted over it. What the other side has comes into the directory that is there now; real deletions elsewhere go on."""
    both = ["d a/e/y", "d a/x"]
    assert [True, True, True, True, both, both, True, both, both] == apart(MOUNTED_BELOW, str(tmp_path), how, own_mounts=True)


@pytest.mark.parametrize("step", ["create", "write", "attributes", "sync", "publish", "swap"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_an_error_at_any_step_leaves_everything_as_it_was(scene: Scene, step: str, there: bool) -> None:
    """The errors of this test are raised at the seam between us and the system: an input or output error of a dying disk cannot be had otherwise."""
    if there:
        old(scene.project / "a", b"before")
        scene.compare()
    (scene.mount / "a").write_bytes(b"after")

    def fail(what: str) -> None:
        if what == step:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    scene.on_step = fail
    report = scene.compare()
    if not there and step in ("swap", "sync"):
        assert report.clean, "a new file replaces nothing"
        return
    assert {"a": "cannot be copied: input/output error"} == report.errors
    assert ({"a": b"before"} if there else {}) == scene.files(Side.PROJECT)
    scene.on_step = lambda _: None
    assert scene.compare().clean


# ------------------------------------------------------------------ what an earlier process left


def test_what_a_killed_process_left_is_removed_or_made_visible(scene: Scene) -> None:
    """An unfinished copy goes; what may be the only copy of something gets a name that can be seen."""
    old(scene.mount / "d/a", b"1" * 10)
    old(scene.project / "d/a", b"2" * 20)
    for step in ("write", "aside"):

        def kill(what: str, step: str = step) -> None:
            if what == step:
                raise KilledError

        scene.on_step = kill
        with pytest.raises(KilledError):
            scene.compare()
        scene = _restarted(scene)
    scene.compare()
    kept = {path: data for path, data in scene.files(Side.PROJECT).items() if path != "d/a"}
    assert [b"2" * 20] == list(kept.values())
    assert all("recovered" in path and ".conflict-" in path for path in kept)
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_what_only_looks_like_ours_is_left_alone(scene: Scene) -> None:
    """Somebody's own file whose name begins like our temporary ones: neither removed nor mirrored."""
    names = (".syncwatch-agent.yaml", ".syncwatch-notes.part", ".syncwatch-0123456789abcdef.part.bak", ".syncwatch-0123456789abcdef")
    for side in Side:
        for name in names:
            old(scene.root(side) / name, side.encode())
    report = scene.compare()
    assert (True, 0, 0) == (report.clean, report.moved, report.conflict_count)
    for side in Side:
        assert dict.fromkeys(names, side.encode()) == scene.files(side)


@pytest.mark.parametrize("step", [2, 3, 4], ids=["new one not there yet", "new one there twice", "new one there"])
def test_a_kill_in_the_middle_of_an_exchange_in_three_steps(scene: Scene, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """On a file system that cannot exchange two names at once; the loser of a conflict is there afterwards."""
    old(scene.mount / "a", b"mount")
    old(scene.project / "a", b"project's")
    monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
    calls = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **more: object) -> None:
            nonlocal calls
            calls += scene.steps[-1] == "publish"
            if calls == step:
                raise KilledError
            real(*arguments, **more)

        return call

    with monkeypatch.context() as patched:
        for name in ("rename", "link", "unlink"):
            patched.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(KilledError):
            scene.compare()
    scene = _restarted(scene)
    scene.compare()
    scene.compare()
    assert b"project's" in scene.files(Side.PROJECT).values()
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
@pytest.mark.parametrize("how", ["new", "taken"])
def test_a_name_that_somebody_takes_at_the_same_time(scene: Scene, monkeypatch: pytest.MonkeyPatch, how: str, links: bool) -> None:
    """On a file system that cannot refuse to replace while renaming, two names of one file do it; where there are none, looking first is what is left."""
    monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    old(scene.mount / "a", b"mount")
    if how == "taken":
        old(scene.project / "a", b"mount")
        scene.compare()
        (scene.mount / "a").unlink()
        assert scene.compare().clean
        assert not (scene.project / "a").exists()
        return
    if links:
        real = os.link

        def meddle(*names: str, **more: int) -> None:
            monkeypatch.setattr(os, "link", real)
            (scene.project / "a").write_bytes(b"somebody's")
            real(*names, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "link", meddle)
    scene.compare()
    scene.compare()
    assert ({b"mount", b"somebody's"} if links else {b"mount"}) == set(scene.files(Side.PROJECT).values())
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def _no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_that_somebody_makes_in_the_middle_of_three_steps_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that was taken away for it is kept beside."""
    old(scene.mount / "a", b"mount")
    old(scene.project / "a", b"project's")
    monkeypatch.setattr(renaming, "_renameat2", lambda *_: False)
    real = os.rename

    def rename(one: str, other: str, **more: int) -> None:
        real(one, other, **more)
        if one == "a":
            monkeypatch.setattr(os, "rename", real)
            (scene.project / "a").write_bytes(b"somebody's")

    monkeypatch.setattr(os, "rename", rename)
    scene.compare()
    scene.compare()
    assert {b"mount", b"project's", b"somebody's"} == set(scene.files(Side.PROJECT).values())
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def _restarted(scene: Scene) -> Scene:
    return Scene(scene.mount.parent)


def test_a_comparison_that_nobody_wants_any_more_ends(scene: Scene) -> None:
    """In the middle of the work, with nothing half in the tree."""
    for number in range(50):
        old(scene.mount / f"f{number}")
    scene.on_step = lambda what: scene.pair.cancel() if what == "publish" else None
    with pytest.raises(CancelledError):
        scene.compare()
    assert 1 == len(scene.files(Side.PROJECT))


# ------------------------------------------------------------------ observe


def test_observing_writes_nothing_ever(tmp_path: Path) -> None:
    """It tells what differs and how, and finds that contents agree although times do not."""
    scene = Scene(tmp_path, acts=False)
    old(scene.mount / "here")
    old(scene.project / "there")
    old(scene.mount / "both", b"1")
    old(scene.project / "both", b"22")
    (scene.mount / "same").write_bytes(b"same")
    old(scene.project / "same", b"same").chmod(0o600)
    before = sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    report = scene.compare()
    expected = {"here": "only in the mount", "there": "only in the project", "both": "changed on both sides"}
    assert (expected, 3, 0) == (report.left, report.left_count, report.moved)
    assert [] == scene.steps
    assert before == sorted((str(path), path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))


def test_a_hundred_thousand_files_are_compared(tmp_path: Path) -> None:
    """Both trees are looked through, every difference is counted, and the ones that are told by name are bounded."""
    (tmp_path / "mount").mkdir()
    for folder in range(200):
        place = tmp_path / "mount" / f"d{folder}"
        place.mkdir()
        for number in range(500):
            os.close(os.open(f"{place}/{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    scene = Scene(tmp_path, acts=False)
    report = scene.compare()
    assert (100_000, 10_000) == (report.left_count, len(report.left))
    assert 100_000 == report.files[Side.MOUNT]


def test_a_directory_that_is_deleted_after_its_files_is_deleted_too(scene: Scene) -> None:
    """As `rm -r` does it; one that was empty from the beginning is nobody's business."""
    old(scene.mount / "a/b/c")
    scene.compare()
    (scene.project / "mine").mkdir()
    (scene.mount / "a/b/c").unlink()
    assert 1 == scene.compare("a/b/c").deleted[Side.PROJECT]
    assert (scene.project / "a/b").is_dir()
    shutil.rmtree(scene.mount / "a")
    scene.compare("a")
    assert ["mine"] == sorted(path.name for path in scene.project.iterdir() if path.name != ".syncwatch")


@TO_BOTH
def test_a_directory_that_is_deleted_long_after_its_files(scene: Scene, source: Side) -> None:
    """However much later, on whichever side, and also where both deleted the last file: what both had and one has not any more goes, if nothing is in it."""
    here, there = scene.root(source), scene.root(source.other)
    for name in ("a/b/c", "both/x", "mine/x"):
        old(scene.mount / name)
    scene.compare()
    for place in (here / "a/b/c", here / "mine/x", *(root / "both/x" for root in (here, there))):
        place.unlink()
    assert scene.compare("a/b/c", "both/x", "mine/x").clean
    scene.pair._clock = Clock(monotonic=lambda: time.monotonic() + 3600.0)
    old(there / "mine/.syncwatch-notes", b"not mirrored")
    for name in ("a/b", "a", "both", "mine"):
        (here / name).rmdir()
    assert scene.compare("a/b", "a", "both", "mine").clean
    assert ["mine"] == sorted(path.name for path in there.iterdir() if path.name != ".syncwatch")
    assert {} == scene.pair.emptied


@TO_BOTH
def test_an_empty_directory_that_somebody_has_just_made_stays(scene: Scene, source: Side) -> None:
    """One of the same name was emptied and deleted before; whoever made a new one is about to use it."""
    here, there = scene.root(source), scene.root(source.other)
    old(here / "a/b")
    scene.compare()
    (here / "a/b").unlink()
    scene.compare("a/b")
    (there / "a").rename(there / "before")  # so that the new one cannot get the same inode
    (there / "a").mkdir()
    (here / "a").rmdir()
    scene.compare("a")
    scene.compare()
    assert (there / "a").is_dir()
    old(there / "a/new")
    assert scene.compare("a/new").clean
    assert (here / "a/new").exists()


@TO_BOTH
def test_an_empty_directory_that_is_new_on_one_side_stays(scene: Scene, source: Side) -> None:
    """Both had deleted the whole of the old one; nobody has seen a file of ours in this one."""
    old(scene.mount / "a/b")
    scene.compare()
    for root in (scene.mount, scene.project):
        shutil.rmtree(root / "a")
    (scene.root(source) / "a").mkdir()
    assert scene.compare("a", "a/b").clean
    assert scene.compare().clean
    assert (scene.root(source) / "a").is_dir()


def test_directories_of_a_root_that_was_replaced_stay(scene: Scene) -> None:
    """Another root says nothing about what was emptied in the old one; nor does one that has lost its marker."""
    old(scene.mount / "a/b")
    old(scene.mount / "kept")
    scene.compare()
    (scene.mount / "a/b").unlink()
    scene.compare("a/b")
    shutil.rmtree(scene.mount / ".syncwatch")
    (scene.mount / "a").rmdir()
    scene.compare("a")
    assert (scene.project / "a").is_dir()
    scene.mount.rename(scene.mount.with_name("elsewhere"))
    scene.mount.mkdir()
    assert scene.compare().replaced
    assert (scene.project / "a").is_dir()


# ------------------------------------------------------------------ between two steps


@TO_BOTH
def test_a_write_right_after_a_copy_was_published_is_no_agreement(scene: Scene, source: Side) -> None:
    """Whoever writes into the new file before it is looked at has changed it, whatever time it says: the next comparison brings it over, or keeps it."""
    here, there = scene.root(source), scene.root(source.other)
    old(here / "a")
    scene.compare()
    old(here / "a", b"newer")

    def write(what: str) -> None:
        if what == "unlink" and (there / "a").read_bytes() == b"newer":
            old(there / "a", b"somebody's")

    scene.on_step = write
    scene.compare()
    scene.on_step = lambda _: None
    scene.compare()
    assert b"somebody's" in scene.files(Side.MOUNT).values()
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@pytest.mark.parametrize("step", ["aside", "put back"])
def test_a_loser_that_could_not_be_given_its_name_gets_it_later(scene: Scene, step: str) -> None:
    """Without a restart: a directory that had no room for one more name, or a disk that failed in that moment, hides nothing for long."""
    old(scene.mount / "a", b"mount's")
    old(scene.project / "a", b"project's")
    failed = False

    def fail(what: str) -> None:
        nonlocal failed
        if what == "unlink" or what == step:
            failed = failed or what == step
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patched:
        if step == "put back":
            patched.setattr(Tree, "_came", lambda *_: False)
        scene.on_step = fail
        assert scene.compare().errors
    assert failed
    scene.on_step = lambda _: None
    scene.compare()
    scene.compare()
    assert {b"mount's", b"project's"} <= set(scene.files(Side.PROJECT).values())
    assert not [name for name in os.listdir(scene.project) if name.startswith(".syncwatch-")]
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


@pytest.mark.parametrize("what", ["copied", "deleted"])
def test_a_file_whose_contents_cannot_be_proven_is_put_back(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It was taken away to be replaced or deleted, and then the disk does not let it be read: it stays, under its name."""
    (scene.mount / "a").write_bytes(b"young")
    scene.compare()
    if what == "copied":
        old(scene.mount / "a", b"newer")
    else:
        (scene.mount / "a").unlink()

    def unreadable(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(Tree, "_came", unreadable)
        assert {"a": f"cannot be {what}: input/output error"} == scene.compare().errors
    assert {"a": b"young"} == scene.files(Side.PROJECT)
    assert scene.compare().clean
    assert scene.files(Side.MOUNT) == scene.files(Side.PROJECT)


def test_a_file_that_was_taken_and_could_not_be_deleted_comes_back(scene: Scene) -> None:
    """A deletion that fails at its last step leaves the file where it was."""
    old(scene.mount / "a")
    old(scene.mount / "b")
    scene.compare()
    (scene.project / "a").unlink()

    def fail(what: str) -> None:
        if what == "unlink":
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    scene.on_step = fail
    assert {"a": "cannot be deleted: input/output error"} == scene.compare().errors
    assert {"a": b"old", "b": b"old"} == scene.files(Side.MOUNT)
    scene.on_step = lambda _: None
    assert scene.compare().clean
    assert {"b": b"old"} == scene.files(Side.MOUNT) == scene.files(Side.PROJECT)
