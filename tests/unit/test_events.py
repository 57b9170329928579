"""Notices reach every listener in order, exactly once, and no listener can keep anybody waiting."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from syncwatch.core.effects import Notice, Notify
from syncwatch.exposition.events import Broadcast, Entry, Subscription, TooManyListenersError, dropped, told
from tests.unit.snapshots import WALL_S


def notify(number: int, kind: Notice = Notice.VERIFICATION) -> Notify:
    """A notice that says its number."""
    return Notify(kind, WALL_S, {"connection": "cast", "n": number})


def publish(broadcast: Broadcast, *numbers: int) -> None:
    """Tell these."""
    for number in numbers:
        broadcast.publish(notify(number))


async def read(subscription: Subscription) -> list[int]:
    """Numbers that wait now."""
    return [entry.number for entry in await subscription.entries(0.0) or []]


async def test_history_first_then_live() -> None:
    """No gap and no repetition between what was and what comes."""
    broadcast = Broadcast()
    publish(broadcast, 1, 2)
    listener = broadcast.subscribe()
    publish(broadcast, 3)
    assert [1, 2, 3] == await read(listener)
    assert [] == await read(listener)
    publish(broadcast, 4)
    assert [4] == await read(listener)
    assert [notify(n) for n in (1, 2, 3, 4)] == list(broadcast.recent())


async def test_a_listener_is_woken() -> None:
    """It waits for the next notice, not for a timer."""
    broadcast = Broadcast()
    listener = broadcast.subscribe()
    waiting = asyncio.create_task(listener.entries(30.0))
    await asyncio.sleep(0)
    publish(broadcast, 1)
    assert [Entry(1, notify(1))] == await asyncio.wait_for(waiting, 1.0)


async def test_old_news_wakes_nobody() -> None:
    """After everything was handed out, a listener really waits."""
    broadcast = Broadcast()
    listener = broadcast.subscribe()
    publish(broadcast, 1)
    assert [1] == await read(listener)
    waiting = asyncio.create_task(listener.entries(30.0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    listener.close()
    assert await waiting is None


async def test_the_history_is_bounded() -> None:
    """The newest stay."""
    broadcast = Broadcast(history=3)
    publish(broadcast, *range(1, 11))
    assert [8, 9, 10] == await read(broadcast.subscribe())


async def test_the_last_transitions_come_first_however_much_else_was_told() -> None:
    """A newcomer learns how it came to be as it is; what it is told stays in order and comes once."""
    broadcast = Broadcast(history=3, transitions=2)
    for number in (1, 2, 4):
        broadcast.publish(notify(number, Notice.STATE))
        publish(broadcast, number)
    publish(broadcast, *range(7, 10))
    assert [3, 5, 7, 8, 9] == await read(broadcast.subscribe())
    broadcast.publish(notify(10, Notice.STATE))
    assert [5, 8, 9, 10] == await read(broadcast.subscribe())


async def test_a_returning_listener_learns_of_the_transitions_that_it_missed() -> None:
    """And how many other notices are gone."""
    broadcast = Broadcast(history=3, run="aa", transitions=2)
    publish(broadcast, 1, 2)
    broadcast.publish(notify(3, Notice.STATE))
    publish(broadcast, *range(4, 11))
    before, after = broadcast.subscribe("aa-1"), broadcast.subscribe("aa-3")
    assert ([3, 8, 9, 10], 5) == (await read(before), before.gone)
    assert ([8, 9, 10], 4) == (await read(after), after.gone)


async def test_a_returning_listener_goes_on_where_it_was() -> None:
    """Only what it has not seen; what the buffer has lost is counted exactly."""
    broadcast = Broadcast(history=3, run="aa")
    publish(broadcast, *range(1, 11))
    within, just, lost, newest = (broadcast.subscribe(f"aa-{last}") for last in (9, 7, 2, 10))
    assert ([10], 0) == (await read(within), within.gone)
    assert ([8, 9, 10], 0) == (await read(just), just.gone)
    assert ([8, 9, 10], 5) == (await read(lost), lost.gone)
    assert ([], 0) == (await read(newest), newest.gone)


@pytest.mark.parametrize(
    "foreign", [None, "", "2", "bb-9", "aa-", "aa-x", "aa--1", "aa-11", "aa-²", "aa-" + "9" * 30, "aa-0"]
)
async def test_an_id_of_nowhere_gets_the_whole_history(foreign: str | None) -> None:
    """The numbers of an earlier process, or nonsense, must not skip anything."""
    broadcast = Broadcast(history=3, run="aa")
    publish(broadcast, *range(1, 11))
    listener = broadcast.subscribe(foreign)
    assert ([8, 9, 10], 0) == (await read(listener), listener.gone)


async def test_two_processes_have_different_runs() -> None:
    """So that ids of one are not taken for ids of the other."""
    assert Broadcast().run != Broadcast().run


async def test_a_slow_listener_is_dropped_and_disturbs_nobody() -> None:
    """It gets what was queued and the end; the others get everything."""
    broadcast = Broadcast(history=100, queue=3)
    publish(broadcast, 1, 2)
    slow = broadcast.subscribe()
    quick = broadcast.subscribe()
    seen: list[int] = []
    for number in range(3, 9):
        publish(broadcast, number)
        seen += await read(quick)
    assert list(range(1, 9)) == seen
    assert not quick.overflowed
    assert slow.overflowed
    assert [1, 2, 3, 4, 5] == await read(slow)
    assert await slow.entries(30.0) is None


async def test_an_ended_subscription_hands_out_the_rest() -> None:
    """Nothing that was queued is swallowed by the end."""
    broadcast = Broadcast()
    listener = broadcast.subscribe()
    publish(broadcast, 1)
    listener.end()
    assert [1] == await read(listener)
    assert await listener.entries(30.0) is None
    assert not listener.overflowed


async def test_places_are_limited_and_given_back() -> None:
    """One too many is refused; a closed one makes room, a dropped one as well."""
    broadcast = Broadcast(queue=1, listeners=1)
    first = broadcast.subscribe()
    with pytest.raises(TooManyListenersError):
        broadcast.subscribe()
    first.close()
    second = broadcast.subscribe()
    publish(broadcast, 1, 2)
    assert second.overflowed
    broadcast.subscribe()


def test_a_notice_is_three_lines_whatever_it_holds() -> None:
    """A line break inside a field cannot end the event; enums are their words."""
    entry = Entry(
        7, Notify(Notice.DISCONNECTED, WALL_S, {"connection": "cast", "detail": "a\n\ndata: b", "code": None})
    )
    lines = told(Broadcast(run="aa"), entry).decode().split("\n")
    assert ["id: aa-7", "event: disconnected"] == lines[:2]
    assert ["", ""] == lines[3:]
    expected = {
        "notice": "disconnected",
        "time": "2026-11-20T13:06:40.000Z",
        "fields": {"connection": "cast", "detail": "a\n\ndata: b", "code": None},
    }
    assert expected == msgspec.json.decode(lines[2].removeprefix("data: "))


def test_a_drop_says_why_and_how_many() -> None:
    """Null where the number cannot be known."""
    assert b'event: dropped\ndata: {"reason":"slow","count":null}\n\n' == dropped("slow", None)
