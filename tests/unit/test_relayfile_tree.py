"""Rules for changing files (wire: relayfile §5)."""

from __future__ import annotations

import pytest

from syncwatch.relay.relayfile.tokens import Refusal
from syncwatch.relay.relayfile.tree import Content, File, Tree, decoded, path_of, provider_of, revision_of


def tree() -> Tree:
    """One file, `/a`, at `rev_1`."""
    made = Tree()
    made.files["/a"] = File("/a", "rev_1", "", "", "x" * 500, "", "a", "", {})
    return made


@pytest.mark.parametrize(
    ("path", "if_match", "status"),
    [
        ("/a", None, 412),
        ("/a", " ", 412),
        ("/a", "*", None),
        ("/a", "rev_1", None),
        ("/a", 'W/"rev_1"', None),
        ("/a", "rev_2", 409),
        ("/a", "0", 409),
        ("/b", "0", None),
        ("/b", "*", None),
        ("/b", "rev_1", 404),
    ],
)
def test_preconditions(path: str, if_match: str | None, status: int | None) -> None:
    """`0` creates, `*` does either, a revision only replaces itself."""
    if status is None:
        tree().check(path, if_match)
        return
    with pytest.raises(Refusal) as caught:
        tree().check(path, if_match)
    assert status == caught.value.status


def test_a_conflict_shows_both_sides() -> None:
    """The beginning of what is there now."""
    with pytest.raises(Refusal) as caught:
        tree().check("/a", "rev_9")
    assert {
        "expectedRevision": "rev_9",
        "currentRevision": "rev_1",
        "currentContentPreview": "x" * 200,
    } == caught.value.more


def test_names() -> None:
    """Paths are tidied, providers are first segments, revisions lose their quotes."""
    assert ["/a/b", "/a", "/a"] == [path_of(text) for text in ("a//b/", "/a", " /a ")]
    assert ("docs", "") == (provider_of("/Docs/a"), provider_of("/"))
    assert "rev_1" == revision_of(' "rev_1" ')
    for wrong in ("", "/", "/a/../b"):
        with pytest.raises(Refusal):
            path_of(wrong)


def test_content_is_decoded_by_its_encoding() -> None:
    """Text as UTF-8, base64 strictly, nothing else."""
    assert (b"\xc3\xa9", b"\x00\x01") == (decoded(Content("é")), decoded(Content("AAE=", encoding="Base64")))
    for wrong in (Content("x", encoding="base64"), Content("x", encoding="rot13")):
        with pytest.raises(Refusal) as caught:
            decoded(wrong)
        assert 400 == caught.value.status
