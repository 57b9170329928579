"""Callbacks are called in order, one at a time, with what they ask for; nothing that they do reaches anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncwatch.core.effects import Notice, Notify
from syncwatch.runtime.callbacks import Callbacks
from tests import virtualtime


def gap(first: int) -> Notify:
    """A gap of one number."""
    return Notify(Notice.GAP, 1_800_000_000.0, {"connection": "cast", "cause": "live", "first": first, "last": first, "missing": 1})


async def turns(count: int = 5) -> None:
    """Let the tasks run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_callback_gets_what_it_names_and_nothing_else() -> None:
    """By name; `at` is aware and UTC; `**` gets everything; a default of its own stays."""
    callbacks, seen = Callbacks(), list[Any]()

    def some(first: int, at: datetime, mine: str = "x") -> None:
        seen.append((first, at, mine))

    async def everything(**values: object) -> None:
        seen.append(values)

    def nothing() -> None:
        seen.append("called")

    for callback in (some, everything, nothing):
        callbacks.add(Notice.GAP, callback)
    callbacks.offer(gap(7))
    assert [] == seen, "never from inside the machine's own step"
    await turns()
    at = datetime.fromtimestamp(1_800_000_000.0, UTC)
    assert (7, at, "x") == seen[0]
    assert {"connection": "cast", "cause": "live", "first": 7, "last": 7, "missing": 1, "at": at} == seen[1]
    assert "called" == seen[2]
    assert (0, UTC) == (callbacks.errors, at.tzinfo)


def test_a_callback_that_wants_what_there_is_not_is_refused_at_once() -> None:
    """When it is registered, with the names there are; not hours later."""

    def wrong(firsst: int) -> None:
        raise AssertionError(firsst)

    def positional(first: int, /) -> None:
        raise AssertionError(first)

    for callback in (wrong, positional):
        with pytest.raises(TypeError, match="a callback may take any of connection, cause, first, last, missing, at, by name"):
            Callbacks().add(Notice.GAP, callback)


async def test_other_occasions_are_not_told() -> None:
    """Neither those of another registration nor notices that are no occasion."""
    callbacks, seen = Callbacks(), list[int]()
    callbacks.add(Notice.RECOVERED, lambda: seen.append(1))
    callbacks.offer(gap(1))
    callbacks.offer(Notify(Notice.STATE, 1.0, {}))
    await turns()
    assert [] == seen


async def test_an_exception_is_logged_counted_and_ends_nothing() -> None:
    """Of a function, of a coroutine, and a cancellation from inside; the next occasion and the other callbacks come all the same."""
    callbacks, seen = Callbacks(), list[int]()

    def raises(first: int) -> None:
        raise ValueError(first)

    async def raises_later() -> None:
        await asyncio.sleep(0)
        raise OSError("mine")

    async def cancels() -> None:
        raise asyncio.CancelledError

    for callback in (raises, raises_later, cancels, lambda first: seen.append(first)):
        callbacks.add(Notice.GAP, callback)
    with capture_logs() as logs:
        callbacks.offer(gap(1))
        callbacks.offer(gap(2))
        await turns(10)
    assert ([1, 2], 6) == (seen, callbacks.errors)
    assert 6 == len(logs)
    assert {"a callback raised", "a callback was cancelled from inside"} == {one["event"] for one in logs}
    assert all("gap" == one["occasion"] and "callback" in one for one in logs)


def run_slow(queue: int, play: Callable[[Callbacks, list[int]], Any]) -> None:
    """A coroutine that takes ten virtual seconds for each occasion."""

    async def main(_loop: virtualtime.VirtualTimeLoop) -> None:
        callbacks, seen = Callbacks(queue), list[int]()

        async def slow(first: int) -> None:
            await asyncio.sleep(10.0)
            seen.append(first)

        callbacks.add(Notice.GAP, slow)
        await play(callbacks, seen)

    virtualtime.run(main)


def test_a_slow_one_is_called_one_at_a_time_and_in_order() -> None:
    """Offering returns at once; what happened meanwhile waits."""

    async def play(callbacks: Callbacks, seen: list[int]) -> None:
        for number in range(3):
            callbacks.offer(gap(number))
        await asyncio.sleep(25.0)
        assert [0, 1] == seen
        await asyncio.sleep(10.0)
        assert [0, 1, 2] == seen

    run_slow(8, play)


def test_one_that_is_too_slow_loses_the_oldest() -> None:
    """Its memory is bounded, the newest are the ones that matter, and the log says so once."""

    async def play(callbacks: Callbacks, seen: list[int]) -> None:
        callbacks.offer(gap(0))
        await asyncio.sleep(1.0)
        with capture_logs() as logs:
            for number in range(1, 8):
                callbacks.offer(gap(number))
        assert ["a callback is too slow: the oldest occasions are left out"] == [one["event"] for one in logs]
        await asyncio.sleep(60.0)
        assert [0, 5, 6, 7] == seen

    run_slow(3, play)


def test_the_end_waits_a_little_and_no_longer() -> None:
    """What is quick is still told; what is slow is cut off and said; nothing is counted as its error."""

    async def play(callbacks: Callbacks, seen: list[int]) -> None:
        quick: list[int] = []
        callbacks.add(Notice.GAP, lambda first: quick.append(first))
        callbacks.offer(gap(1))
        began_s = asyncio.get_running_loop().time()
        with capture_logs() as logs:
            await callbacks.close(0.3)
        assert asyncio.get_running_loop().time() - began_s <= 0.6
        assert ([1], [], 0) == (quick, seen, callbacks.errors)
        assert ["callbacks were cut off at the end"] == [one["event"] for one in logs]

    run_slow(3, play)


async def test_a_callback_may_be_what_ends_it() -> None:
    """Stopping from inside a callback does not wait for itself."""
    callbacks, ended = Callbacks(), asyncio.Event()

    async def stop() -> None:
        await callbacks.close()
        ended.set()

    callbacks.add(Notice.GAP, stop)
    callbacks.offer(gap(1))
    async with asyncio.timeout(5.0):
        await ended.wait()
