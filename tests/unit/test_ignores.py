"""Patterns as gitignore has them, against git itself where there is one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from syncwatch.core.ignores import BadPatternError, Ignores, fault, parents
from tests.requires import require

CASES = (
    ((".git", "node_modules"), ("node_modules/x", "a/node_modules/b/c", "a/node_modules", "node_modules2", "a/x")),
    (("*.log", "!kept.log"), ("a.log", "d/b.log", "kept.log", "d/kept.log", "a.txt")),
    (("/build", "docs/**/x.txt", "tmp/"), ("build/a", "a/build", "docs/x.txt", "docs/a/b/x.txt", "tmp/a", "a/tmp/b", "a/tmp2")),
    (("a/*", "!a/b"), ("a/b", "a/c", "b")),
    (("[ab]?", r"\#x", "caf\u00e9"), ("ab", "bb", "abc", "#x", "caf\u00e9", "d/caf\u00e9")),
    (("data/", "!data/x"), ("data/x", "data/y", "e/data/z")),
)


@pytest.mark.parametrize(("patterns", "paths"), CASES)
def test_a_path_is_left_out_as_git_leaves_it_out(tmp_path: Path, patterns: tuple[str, ...], paths: tuple[str, ...]) -> None:
    """git is asked about the same patterns and the same files."""
    git = require("git")
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": "/usr/bin:/bin"}
    subprocess.run([git, "init", "-q", tmp_path], check=True, env=quiet)
    (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    asked = subprocess.run([git, "-C", tmp_path, "check-ignore", "-z", "--stdin"], input="\0".join(paths).encode(), capture_output=True, env=quiet)
    left_out = {one.decode() for one in asked.stdout.split(b"\0") if one}
    ignores = Ignores(patterns)
    assert left_out == {path for path in paths if ignores.covers(path)}


def test_plain_names_need_no_library() -> None:
    """They are sets; only anything else makes the whole language necessary."""
    assert Ignores((".git", "tmp/")).simple
    assert not Ignores((".git", "*.log")).simple
    assert (frozenset({".git"}), frozenset({"tmp"})) == (Ignores((".git", "tmp/")).names, Ignores((".git", "tmp/")).directory_names)


def test_a_pattern_that_means_nothing_is_refused_by_a_sentence() -> None:
    """At the place where it is written."""
    assert "'!' is no pattern as gitignore has them" == fault("!")
    assert (None, None, None) == (fault("a/**"), fault(".git"), fault("# a remark"))
    with pytest.raises(BadPatternError):
        Ignores(("good", "bad\\"))


def test_an_empty_list_leaves_out_nothing() -> None:
    """And says so without being asked about each path."""
    assert not Ignores(())
    assert not Ignores(()).covers("a/b")


def test_the_directories_above_a_path() -> None:
    """From the outermost inwards."""
    assert ["a", "a/b"] == list(parents("a/b/c"))
    assert [] == list(parents("a"))
