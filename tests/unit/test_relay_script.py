"""Scripts of faults: timelines by seed, and every mistake with its sentence."""

from __future__ import annotations

from itertools import islice

import pytest

from syncwatch.relay import kinds
from syncwatch.relay.script import ScriptError, load

GOOD = """\
seed: 7
repeat_every_s: 30
steps:
  - {at_s: 20, fault: restart}
  - at_s: [2, 4]
    for_s: [1, 3]
    fault: refuse
    status: 429
    retry_after_s: 2
  - {at_s: 5, fault: drop, agent: alice}
"""


def test_a_timeline_is_drawn_from_its_seed() -> None:
    """In the order in which the faults begin, the same for the same seed, another in the next round and for another seed."""
    script = load(GOOD, "good.yaml")
    first = list(islice(script.cues(), 6))
    assert [kinds.Refuse(status=429, retry_after_s=2), kinds.Drop(agent="alice"), kinds.Restart()] == [
        cue.fault for cue in first[:3]
    ]
    assert first == list(islice(script.cues(), 6))
    assert 2 <= first[0].at_s <= 4
    assert first[0].for_s is not None
    assert 1 <= first[0].for_s <= 3
    assert (50.0, 35.0) == (first[5].at_s, first[4].at_s)
    assert 30 + first[0].at_s != first[3].at_s
    assert first[0].at_s != next(load(GOOD.replace("seed: 7", "seed: 8"), "x").cues()).at_s


def test_faults_of_every_protocol_can_be_played() -> None:
    """With the protocol, the route and the stream they are about."""
    text = """\
steps:
  - {at_s: 0, for_s: 1, fault: refuse, protocol: relayfile, status: 403}
  - {at_s: 1, for_s: 1, fault: refuse_http, route: feed, status: 429, retry_after_s: 2, agent: docs}
  - {at_s: 2, for_s: 1, fault: hang_http, route: feed}
  - {at_s: 3, for_s: 1, fault: keys_down}
  - {at_s: 4, for_s: 1, fault: log_failing}
  - {at_s: 5, fault: restart, durable: true}
"""
    expected = [
        kinds.Refuse(status=403, protocol="relayfile"),
        kinds.RefuseHttp(route="feed", status=429, retry_after_s=2, agent="docs"),
        kinds.HangHttp(route="feed"),
        kinds.KeysDown(),
        kinds.LogFailing(),
        kinds.Restart(durable=True),
    ]
    assert expected == [cue.fault for cue in load(text, "x").cues()]


def test_a_script_without_repetition_ends() -> None:
    """One round."""
    assert 1 == len(list(load("steps: [{at_s: 1, fault: hang}]", "x").cues()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "s.yaml:1: not YAML: expected the node content, but found '<stream end>'"),
        ("", "s.yaml:1: Expected `object`, got `null`"),
        ("steps: []", "s.yaml:1: steps: Expected `array` of length >= 1"),
        ("seeds: 1\nsteps:\n- {at_s: 1, fault: hang}", "s.yaml:1: seeds: Object contains unknown field `seeds`"),
        ("steps:\n  - at_s: 1\n    fault: explode", "s.yaml:3: steps[0].fault: Invalid value 'explode'"),
        ("steps:\n  - {at_s: 1}", "s.yaml:2: steps[0]: Object missing required field `fault`"),
        (
            "steps:\n  - {at_s: 1, fault: hang}\n  - {fault: hang}",
            "s.yaml:3: steps[1]: Object missing required field `at_s`",
        ),
        (
            "steps:\n  - at_s: -1\n    fault: hang",
            "s.yaml:2: steps[0].at_s: Expected seconds from 0 to 86400, or a range [from, to] of them, got -1.0",
        ),
        (
            "steps:\n  - at_s: [3, 2]\n    fault: hang",
            "s.yaml:2: steps[0].at_s: Expected seconds from 0 to 86400, or a range [from, to] of them, got [3.0, 2.0]",
        ),
        ("steps:\n  - at_s: soon\n    fault: hang", "s.yaml:2: steps[0].at_s: Expected `float | array`, got `str`"),
        ("steps:\n  - fault: refuse\n    at_s: 1\n    status: 200", "s.yaml:4: steps[0].status: Expected `int` >= 400"),
        (
            "steps:\n  - fault: refuse\n    at_s: 1\n    colour: red",
            "s.yaml:4: steps[0].colour: Object contains unknown field `colour`",
        ),
        (
            "steps:\n  - fault: drop\n    at_s: 1\n    for_s: 3",
            "s.yaml:4: steps[0].for_s: the fault `drop` happens at once and takes no for_s",
        ),
        (
            "repeat_every_s: 5\nsteps:\n- {at_s: 6, fault: hang}",
            "s.yaml:1: repeat_every_s: Expected at least 6, the last step's at_s",
        ),
        ("repeat_every_s: 0\nsteps:\n- {at_s: 0, fault: hang}", "s.yaml:1: repeat_every_s: Expected `float` > 0.0"),
    ],
)
def test_mistakes_are_named_with_line_and_path(text: str, message: str) -> None:
    """Source, line, path, and what was expected."""
    with pytest.raises(ScriptError) as caught:
        load(text, "s.yaml")
    assert message == str(caught.value)
