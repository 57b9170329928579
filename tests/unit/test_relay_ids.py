"""Names: event ids against published vectors, snowflakes under every clock, tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from syncwatch.relay.ids import EPOCH_MS, Snowflakes, event_id, new_token, snowflake_s, token_hash, token_kind


def test_event_ids_match_the_vectors() -> None:
    """The three vectors of the wire document (§3.2): ASCII, digits, characters inside and outside the basic plane."""
    assert "35215909-2d76-596a-88b9-0846befce511" == event_id("m_1")
    assert "107b7647-005d-5e97-bfad-81d9da5584eb" == event_id("1234567890123456789")
    assert "a5c64e3d-fe68-506d-97ef-7acbc63cf041" == event_id("é☃😀")


def test_event_ids_ignore_surrounding_space_and_have_a_word_for_nothing() -> None:
    """Ids are trimmed; an empty one uses the part `empty-event`."""
    assert event_id("m_1") == event_id("  m_1\n")
    assert event_id("empty-event") == event_id("   ")


@given(st.text())
def test_event_ids_are_version_5_uuids(text: str) -> None:
    """Version nibble 5 and variant 10, whatever the text."""
    made = event_id(text)
    assert [8, 4, 4, 4, 12] == [len(part) for part in made.split("-")]
    assert "5" == made[14]
    assert made[19] in "89ab"


def test_snowflakes_carry_the_server_time() -> None:
    """`(ms - 2025-01-01) << 22 | worker << 12 | seq`, so the time comes back out."""
    made = Snowflakes(lambda: 1_800_000_000.123, worker=5)
    first, second = made.next(), made.next()
    assert (1_800_000_000_123 - EPOCH_MS) << 22 | 5 << 12 == first
    assert first + 1 == second
    assert 1_800_000_000.123 == snowflake_s(first)


def test_snowflakes_never_go_back() -> None:
    """A server clock that steps back keeps the old high time: ids stay monotonic while wall time is lower."""
    now = [1_800_000_000.0]
    made = Snowflakes(lambda: now[0])
    before = made.next()
    now[0] -= 600
    after = [made.next() for _ in range(5000)]
    assert sorted(after) == after
    assert before < after[0]
    assert 1_800_000_000.0 == snowflake_s(after[0])
    assert 1_800_000_000.001 == snowflake_s(after[-1])
    now[0] += 700
    assert 1_800_000_100.0 == snowflake_s(made.next())


def test_snowflakes_go_on_above_what_a_database_holds() -> None:
    """A process that finds an id in its database stays above it, even with a clock behind it."""
    last = Snowflakes(lambda: 1_800_000_000.0).next()
    assert last < Snowflakes(lambda: 1_700_000_000.0, last=last).next()


def test_tokens_are_told_by_their_form() -> None:
    """A prefix and 32 hex digits; anything else is ill-formed."""
    assert "at" == token_kind(new_token("at"))
    assert "rk" == token_kind(new_token("rk"))
    assert "ot" == token_kind(new_token("ot"))
    for wrong in (
        "",
        "at_live_",
        "at_live_" + "g" * 32,
        "at_live_" + "a" * 31,
        "nt_live_" + "a" * 32,
        new_token("at") + "a",
    ):
        assert token_kind(wrong) is None
    assert 64 == len(token_hash("x"))
