"""Any operations on both trees, with comparisons and kills in between, against a model that knows contents instead of times."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncwatch.core.effects import Compare
from syncwatch.core.mirror_rules import Side
from syncwatch.runtime.files import KilledError
from syncwatch.runtime.mirroring import Pair, PairSettings

PATHS = ("a", "b", "d/a", "d/e/b", "weird \n\udcff", ".git/config", "locked/x")
CLASHING = ("a", "a/x", "a/x/y", "b", "d/a", ".git", ".git/r", ".git/r/x", "locked", "locked/r", "locked/r/x")
READ_ONLY = "locked/"
SIDES = st.sampled_from(Side)
CALM = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class Trees:
    """Two real directories, and people who work in them. Every content is written once, so that it can be told where it went.

    `required`: contents that nobody has overwritten or deleted: they must be somewhere.
    """

    def __init__(self, folder: Path) -> None:
        self.roots = {side: folder / side for side in Side}
        self.required: set[bytes] = set()
        self.written = 0
        for root in self.roots.values():
            root.mkdir()

    def write(self, side: Side, path: str) -> None:
        """A new content of always the same length, in place or by replacing."""
        self.written += 1
        data = b"%06d" % self.written
        place = self.roots[side] / path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            before = self._at(place)
            if self.written % 3:
                if before is None:
                    place.write_bytes(data)
                else:
                    with open(place, "r+b") as file:
                        file.write(data)
            else:
                new = place.with_name("new~")
                new.write_bytes(data)
                os.replace(new, place)
        except OSError:
            place.with_name("new~").unlink(missing_ok=True) if place.parent.is_dir() else None
            return  # a file stands where a directory is needed, or the other way round: nobody wrote anything
        self.required.discard(before or b"")
        self.required.add(data)

    def touch(self, side: Side, path: str) -> None:
        """Another time and other permissions; the same contents."""
        place = self.roots[side] / path
        if self._at(place) is not None:
            os.utime(place)
            place.chmod(0o600)

    def delete(self, side: Side, path: str) -> None:
        """One file, if it is there."""
        place = self.roots[side] / path
        before = self._at(place)
        if before is not None:
            place.unlink()
            self.required.discard(before)

    @staticmethod
    def _at(place: Path) -> bytes | None:
        try:
            return place.read_bytes()
        except OSError:
            return None

    def contents(self, side: Side) -> dict[str, bytes]:
        """Every file of one tree."""
        root = self.roots[side]
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return {path: data for path, data in found.items() if not path.startswith(".syncwatch/")}

    def everywhere(self) -> set[bytes]:
        """Every content that can still be read, also under a name that only the next comparison will make visible."""
        return {data for side in Side for data in self.contents(side).values()}


@contextmanager
def trees() -> Iterator[Trees]:
    """A pair of roots that goes away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mirror-"))
    try:
        yield Trees(folder)
    finally:
        shutil.rmtree(folder)


def pair(both: Trees, step: Callable[[str], None] = lambda _: None) -> Pair:
    """A mirror in mode sync with nothing remembered."""
    mount, project = (str(both.roots[side]) for side in Side)
    return Pair(PairSettings("m", mount, project, acts=True, read_only=(READ_ONLY,), hold_s=0.0), step=step)


def flush(one: Pair) -> None:
    """As a flush does: everything is compared until nothing differs."""
    for _ in range(12):
        report = one.compare(Compare(0))
        if report.clean:
            return
    raise AssertionError(f"it does not settle: {report}")


class Model:
    """What the rules say, by contents: `agreed` is what both sides had when they were last in step."""

    def __init__(self) -> None:
        self.agreed: dict[str, bytes] = {}
        self.losers: Counter[bytes] = Counter()

    def flush(self, mount: dict[str, bytes], project: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Both trees after a flush, without the files in which losers are kept."""
        new = {Side.MOUNT: dict(mount), Side.PROJECT: dict(project)}
        for path in {*mount, *project, *self.agreed}:
            ours, theirs, before = mount.get(path), project.get(path), self.agreed.get(path)
            result = self._one(path, ours, theirs, before)
            for side in Side:
                data = result[0] if side is Side.MOUNT else result[1]
                if data is None:
                    new[side].pop(path, None)
                else:
                    new[side][path] = data
            if result[0] is not None and result[0] == result[1]:
                self.agreed[path] = result[0]
            else:
                self.agreed.pop(path, None)
        return new[Side.MOUNT], new[Side.PROJECT]

    def _one(self, path: str, ours: bytes | None, theirs: bytes | None, before: bytes | None) -> tuple[bytes | None, bytes | None]:
        if ours == theirs:
            return ours, theirs
        if path.startswith((".git/", READ_ONLY)):  # the project wins
            if theirs is None and before is None:
                return ours, None
            if ours is not None and ours != before:
                self.losers[ours] += 1
            return theirs, theirs
        if ours != before and (theirs == before or theirs is None or ours is not None):
            if theirs is not None and theirs != before and ours is not None:
                self.losers[theirs] += 1
            return ours, ours
        return theirs, theirs


OPERATIONS = st.one_of(
    st.tuples(st.just("write"), SIDES, st.sampled_from(PATHS)),
    st.tuples(st.just("delete"), SIDES, st.sampled_from(PATHS)),
    st.tuples(st.just("touch"), SIDES, st.sampled_from(PATHS)),
    st.tuples(st.just("flush"), st.none(), st.none()),
)


@CALM
@given(st.lists(OPERATIONS, max_size=25))
def test_a_flush_makes_the_trees_what_the_rules_say(operations: list[tuple[str, Side, str]]) -> None:
    """Whoever wrote on one side is on both; of two the mount's is, or the project's where it rules; what was deleted is gone; every loser is kept, once."""
    with trees() as both:
        one, model = pair(both), Model()
        for what, side, path in [*operations, ("flush", Side.MOUNT, "")]:
            if what == "flush":
                plain = [
                    {path: data for path, data in both.contents(side).items() if ".conflict-" not in path} for side in Side
                ]
                expected = model.flush(*plain)
                flush(one)
                for side, wanted in zip(Side, expected, strict=True):
                    got = both.contents(side)
                    assert wanted == {path: data for path, data in got.items() if ".conflict-" not in path}
                kept = Counter({data for side in Side for path, data in both.contents(side).items() if ".conflict-" in path})
                assert model.losers == kept
            else:
                getattr(both, what)(side, path)


MEDDLING = st.one_of(
    st.tuples(st.just("write"), SIDES, st.sampled_from(CLASHING)),
    st.tuples(st.just("delete"), SIDES, st.sampled_from(CLASHING)),
    st.tuples(st.just("touch"), SIDES, st.sampled_from(CLASHING)),
    st.tuples(st.just("look"), SIDES, st.sampled_from(CLASHING)),
    st.tuples(st.just("flush"), SIDES, st.just("")),
    st.tuples(st.just("kill"), SIDES, st.just("")),
)


@CALM
@given(
    st.lists(MEDDLING, max_size=20),
    st.dictionaries(st.integers(0, 60), st.tuples(st.sampled_from(["write", "delete", "touch", "kill"]), SIDES, st.sampled_from(CLASHING)), max_size=8),
)
def test_whatever_happens_in_the_middle_nothing_is_lost(
    operations: list[tuple[str, Side, str]], meddling: dict[int, tuple[str, Side, str]]
) -> None:
    """Somebody writes or deletes between any two steps of a comparison, or it is killed there: what nobody overwrote or deleted can be read afterwards,
    and a flush that is left in peace makes both trees the same, but for what may not flow out of the mount."""
    steps = 0

    with trees() as both:

        def step(_: str) -> None:
            nonlocal steps
            steps += 1
            what, side, path = meddling.pop(steps - 1, ("", Side.MOUNT, ""))
            if what == "kill":
                raise KilledError
            if what:
                getattr(both, what)(side, path)

        one = pair(both, step)
        for what, side, path in operations:
            if what in ("write", "delete", "touch"):
                getattr(both, what)(side, path)
                continue
            try:
                if what == "kill":
                    one = pair(both, step)
                else:
                    one.compare(Compare(0, (path,) if what == "look" else None))
            except KilledError:
                one = pair(both, step)
            assert both.required <= both.everywhere()
        meddling.clear()
        flush(one)
        assert both.required <= both.everywhere()
        mount, project = both.contents(Side.MOUNT), both.contents(Side.PROJECT)
        assert project == {path: data for path, data in mount.items() if path in project or not path.startswith((".git/", READ_ONLY))}
        assert not [path for path in both.contents(Side.MOUNT) if ".syncwatch-" in path]
