"""The text of `syncwatch status`: to the letter over every kind of connection, within its width whatever a server sent, and nothing that a terminal could obey."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest

from syncwatch.core.health import Component, Health, Reason
from syncwatch.core.snapshot import HookSnapshot, Transition
from syncwatch.core.states import State
from syncwatch.exposition import status
from syncwatch.exposition.terminal import SECTIONS, words
from tests.unit.scenes import FOLDER, SCENES, WIDTHS, Scene, document, file_of, shown, source
from tests.unit.snapshots import (
    connection,
    continuity,
    fresh_connection,
    health,
    heartbeat,
    held,
    moment,
    service,
    sidecar,
    snapshot,
    timeline,
)

EVIL = "bye\x1b[2J\r\n\u202egone\x9b31m"
SHOWN = r"bye\x1b[2J\r\n\u202egone\x9b31m"


def text(taken: Any, width: int = 80, colour: bool = False, verbose: bool = False, **changes: Any) -> str:
    """What `syncwatch status` prints of a picture; `changes` are about the file that it comes from."""
    return shown(Scene(taken, verbose, source(**changes) if changes else None), width, colour)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCENES)
def test_the_screens(name: str, width: int) -> None:
    """To the letter. What was changed on purpose: `python -m tests.unit.scenes`, and look at the difference."""
    assert file_of(name, width).read_text(encoding="utf-8") == shown(SCENES[name](), width)


def test_every_screen_has_its_scene() -> None:
    """None is left over."""
    assert {file_of(name, width) for name in SCENES for width in WIDTHS} == set(FOLDER.glob("*.txt"))


def test_a_wide_terminal_is_used() -> None:
    """At 120 columns a connection takes fewer lines than at 80, and nothing takes more."""
    for name in SCENES:
        narrow, wide = (shown(SCENES[name](), width).count("\n") for width in WIDTHS)
        assert wide < narrow or (wide == narrow and not SCENES[name]().picture.connections), name


def width_of(line: str) -> int:
    """Columns, as most terminals count them; an oracle that knows nothing of `words.columns`."""
    total = 0
    for letter in line:
        if unicodedata.combining(letter) or letter == "\N{VARIATION SELECTOR-16}":
            continue
        total += 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1
    return total


FULL_OF_IT = {
    "long": "x" * 300,
    "wide": "接続が切れました。" * 30,
    "emoji": "\N{COLLISION SYMBOL}\N{CROSS MARK} " * 80,
    "marks": "e\N{COMBINING ACUTE ACCENT}" * 200,
    "evil": EVIL * 20,
}


@pytest.mark.parametrize("width", [0, 40, 61, 80, 110, 120, 200])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("word", FULL_OF_IT)
def test_every_line_fits(width: int, colour: bool, word: str) -> None:
    """At any width from 40 up, whatever the server sent; colours take no room and are closed on each line; no line is wider than 120."""
    long = FULL_OF_IT[word]
    noisy = timeline(recent=(Transition(moment(1.0), State.OPEN, State.RECONNECTING, long),))
    big = continuity(missed=10**15, lost=10**15, cursor=2**53 - 1)
    one = connection(name=long[:50], timeline=noisy, last_failure=long, continuity=big, upstream=f"https://{long[:80]}:443")
    taken = snapshot(
        connections=(one,),
        services=(service(name=long[:50], last_failure=long),),
        hooks=(HookSnapshot(long, 1, 1, 1, 1, long),),
        sidecar=sidecar(config_last_reload_successful=False, config_errors=(long,), instance=long),
        health=health(held(Reason.BEHIND, name=long[:50]), names=(long[:50],)),
    )
    lines = text(taken, width, colour, verbose=True, current=False, detail=long).splitlines()
    bare = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert max(map(width_of, bare)) <= min(max(width, 40), 120)
    assert bare == text(taken, width, verbose=True, current=False, detail=long).splitlines()
    last_codes = {codes[-1] for codes in (re.findall(r"\x1b\[(\d+)m", line) for line in lines) if codes}
    assert ({"0"} if colour else set()) == last_codes


def test_colours_only_when_asked() -> None:
    """Without, not one escape; with, the sign has its colour."""
    taken = snapshot(health=health(held(Reason.BEHIND)))
    assert "\x1b" not in text(taken)
    assert text(taken, colour=True).startswith("\x1b[33m\x1b[1m◐ cast degraded")
    assert text(snapshot(), colour=True).startswith("\x1b[32m\x1b[1m● cast connected")


def test_a_server_cannot_write_to_the_terminal() -> None:
    """Control characters in what it sent are shown, not obeyed."""
    noisy = timeline(recent=(Transition(moment(1.0), State.OPEN, State.RECONNECTING, EVIL),))
    told = text(snapshot(connections=(connection(timeline=noisy, last_failure=EVIL),), services=(service(last_failure=EVIL),)), 120, verbose=True)
    assert 3 == told.count(SHOWN)
    assert set(told) & {"\x1b", "\r", "\u202e", "\x9b"} == set()


def test_neither_can_a_document_from_somebody_else() -> None:
    """What answers may be no sidecar at all: every text is escaped, half a letter too."""
    found = document(snapshot(services=(service(),)), source(unreachable=EVIL, at=EVIL))
    spoilt = _spoilt(found)
    told = status.render(spoilt, True, 120, True)
    assert set() == set(re.sub(r"\x1b\[\d+m", "", told)) & {"\x1b", "\r", "\u202e", "\x9b", "\ud800"}
    told.encode()


def _spoilt(value: Any, key: str = "") -> Any:
    """The document with something evil in each of its texts, but for those that decide what it is."""
    if isinstance(value, dict):
        return {name: _spoilt(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_spoilt(inner, key) for inner in value]
    return f"{value}{EVIL}\ud800" if isinstance(value, str) and key not in ("kind", "state", "health") else value


def test_an_idle_connection_is_neither_good_nor_bad() -> None:
    """Its sign says nothing."""
    assert text(snapshot(connections=(fresh_connection(),), health=health(names=(), health={}))).startswith("· cast idle ")


def test_nothing_configured_is_said() -> None:
    """An empty answer would look like a fault."""
    assert text(snapshot(connections=())).startswith("· no connections are configured\n")


def test_what_is_not_so_any_more_has_no_good_sign() -> None:
    """A sidecar that is gone says nothing about now, however well all was then; the gate is closed."""
    told = text(snapshot(services=(service(healthy=True),)), current=False, detail="the sidecar is not running")
    assert {"◌"} == {line[0] for line in told.splitlines() if line[:1].strip()}
    assert "gate        closed: what is not watched cannot be trusted" in told


def test_what_runs_out_soon_is_told() -> None:
    """A certificate in two months is no news; in six days it is."""
    far, near = (text(snapshot(connections=(connection(certificate_expiry_wall_s=1_795_180_000.0 + 86_400.0 * days),))) for days in (60, 6))
    assert ("certificate" in far, "certificate expires in 6 d 0 h" in near) == (False, True)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (0.0, "0 ms"), (0.0004, "0.4 ms"), (0.0123, "12.3 ms"), (0.09949, "99.5 ms"), (0.0996, "0.1 s"), (9.94, "9.9 s"), (9.96, "10 s"),
        (59.6, "1 min 0 s"), (61.0, "1 min 1 s"), (3599.4, "59 min 59 s"), (3599.6, "1 h 0 min"), (90_000.0, "1 d 1 h"), (864_000.0, "10 d 0 h"),
    ],
)  # fmt: skip
def test_spans(duration_s: float, expected: str) -> None:
    """At most two units, and never 60 of one."""
    assert expected == words.span(duration_s)


@pytest.mark.parametrize(
    ("given", "columns"),
    [("", 0), ("abc", 3), ("é", 1), ("e\N{COMBINING ACUTE ACCENT}", 1), ("日本", 4), ("\N{COLLISION SYMBOL}", 2), ("→", 1), ("●", 1)],
)
def test_columns(given: str, columns: int) -> None:
    """Wide letters take two, marks none."""
    assert columns == words.columns(given)


@pytest.mark.parametrize(
    ("given", "width", "first", "others", "expected"),
    [
        ("", 10, 0, 0, [""]),
        ("one two three", 8, 0, 0, ["one two", "three"]),
        ("one two three", 8, 4, 2, ["one", "two", "three"]),
        ("next in 10 s", 10, 0, 0, ["next in", "10 s"]),
        ("held for 1 min 0 s now", 14, 0, 0, ["held for", "1 min 0 s now"]),
        ("abcdefgh", 4, 0, 1, ["abcd", "efg", "h"]),
        ("日本語です", 5, 0, 0, ["日本", "語で", "す"]),
        ("a  b", 10, 0, 0, ["a  b"]),
    ],
)
def test_wrapping(given: str, width: int, first: int, others: int, expected: list[str]) -> None:
    """Between words, within a word only where it is too long, never between a number and its unit, never through a wide letter."""
    assert expected == words.wrapped(given, width, first, others)


def test_heartbeats_that_never_were() -> None:
    """No invented round trip."""
    assert "round trip unknown" in text(snapshot(connections=(connection(heartbeat=heartbeat(last_rtt_s=None)),)))


def test_hooks_and_gate_files_in_trouble_are_named() -> None:
    """Only then: who reads the page has to do something."""
    assert "hook" not in text(snapshot())
    told = file_of("sidecar_in_trouble", 80).read_text(encoding="utf-8")
    assert "  hook        ui is not taken: HTTP 503; 1 waiting, 2 dropped\n" in told
    assert "pager" not in told


def test_a_service_whose_task_is_stuck() -> None:
    """What it said last is old: neither healthy nor unhealthy."""
    stuck = held(Reason.TASK_STALLED, component=Component.SERVICE, name="flair")
    taken = snapshot(services=(service(healthy=True, last_failure=None),), health=health(stuck, health={(Component.SERVICE, "flair"): Health.DOWN}))
    assert "○ flair down: task_stalled for 1 min 0 s" in text(taken)


def test_a_section_is_all_that_a_component_needs() -> None:
    """Each is a function of the page and the document, in a module of its name."""
    assert ["connections", "services", "sidecar"] == [section.__name__ for section in SECTIONS if section.__name__ in ("connections", "services", "sidecar")]
    assert "sidecar" == SECTIONS[-1].__name__, "what everything depends on stands last"
