"""What others are told of each occasion: closed sets of names, whatever a notice holds."""

from __future__ import annotations

import pytest

from syncwatch.core.effects import Notice, Notify
from syncwatch.core.occasions import FIELDS, told


def test_the_occasions_are_these_four() -> None:
    """The words of the configuration's `hooks[].events`."""
    assert ["degraded", "recovered", "resynced", "gap"] == [str(notice) for notice in FIELDS]


def test_only_the_public_names_are_told_and_all_of_them() -> None:
    """What a notice lacks is null, what it has beside them is left out."""
    notify = Notify(Notice.GAP, 1.0, {"connection": "cast", "cause": "live", "first": 3, "last": 4, "other": 1})
    assert {"connection": "cast", "cause": "live", "first": 3, "last": 4, "missing": None} == told(notify)


def test_reasons_are_a_list() -> None:
    """Gravest first, as the monitor tells them."""
    fields = {"component": "connection", "name": "cast", "reason": "failed", "reasons": "failed,behind", "advice": "a"}
    assert {**fields, "reasons": ["failed", "behind"]} == told(Notify(Notice.DEGRADED, 1.0, fields))


def test_any_other_notice_is_misuse() -> None:
    """It raises."""
    with pytest.raises(KeyError):
        told(Notify(Notice.STATE, 1.0, {}))
