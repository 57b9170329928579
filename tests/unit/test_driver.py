"""The driver and the supervisor, on virtual time: every moment is exact and nothing sleeps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncwatch.core.effects import Close, Effects, Send
from syncwatch.core.snapshot import TaskSnapshot
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.driver import LIMIT_S, Driver
from syncwatch.runtime.supervisor import BEAT_S, GRACE_S, OVERDUE_S, Supervisor
from tests import virtualtime
from tests.virtualtime import VirtualTimeLoop

Scenario = Callable[[VirtualTimeLoop], Awaitable[None]]


def on_virtual_time(scenario: Scenario) -> Callable[[], None]:
    """Make a synchronous test of a scenario that wants the loop."""

    def test() -> None:
        async def main(loop: VirtualTimeLoop) -> None:
            await scenario(loop)

        virtualtime.run(main)

    test.__name__ = scenario.__name__
    test.__doc__ = scenario.__doc__
    return test


class Metronome:
    """A machine that beats every `interval_s` and emits one Send per beat."""

    def __init__(self, interval_s: float = 1.0, deadline: float = 1.0) -> None:
        self.interval_s = interval_s
        self.deadline = deadline
        self.beats: list[float] = []

    def tick(self, now: float) -> Effects:
        self.beats.append(now)
        self.deadline += self.interval_s
        return (Send(1, f"beat {len(self.beats)}"),)

    def postpone(self, now: float, seconds: float) -> Effects:
        self.deadline = now + seconds
        return ()

    def say(self, now: float, *words: str) -> Effects:
        return [Send(1, word) for word in words]

    def stop(self, now: float) -> Effects:
        self.deadline = math.inf
        return (Close(1, 1000, "done"),)

    def break_down(self, now: float) -> Effects:
        raise ZeroDivisionError("a bug of ours")


class Calendar(Metronome):
    """A machine that wants to know the wall time."""

    def __init__(self) -> None:
        super().__init__(deadline=math.inf)
        self.offsets: list[float] = []

    def wall(self, now: float, offset_s: float) -> Effects:
        self.offsets.append(offset_s)
        return ()


def driven(loop: VirtualTimeLoop, machine: Metronome) -> tuple[Driver, list[Any]]:
    """A driver whose performers only write down."""
    performed: list[Any] = []
    driver = Driver("metronome", machine, loop.clock())
    driver.on(Send, lambda effect: performed.append(effect.data))
    driver.on(Close, lambda effect: performed.append(effect.code))
    return driver, performed


@on_virtual_time
async def test_ticks_at_each_deadline(loop: VirtualTimeLoop) -> None:
    """A machine is ticked at its deadlines, exactly, and what it asks for is performed."""
    machine = Metronome()
    driver, performed = driven(loop, machine)
    driver.call(machine.postpone, 1.0)
    await asyncio.sleep(3.5)
    assert [1.0, 2.0, 3.0] == machine.beats
    assert ["beat 1", "beat 2", "beat 3"] == performed
    assert 0.0 == driver.overdue_s(loop.time())
    driver.close()


@on_virtual_time
async def test_effects_keep_their_order(loop: VirtualTimeLoop) -> None:
    """An input given from inside a performer waits until all effects of the running one are performed."""
    machine = Metronome(deadline=math.inf)
    driver, performed = driven(loop, machine)

    def perform(effect: Send) -> None:
        performed.append(effect.data)
        if effect.data == "first":
            driver.call(machine.say, "answer")

    driver.on(Send, perform)
    driver.call(machine.say, "first", "second", "third")
    assert ["first", "second", "third", "answer"] == performed


@on_virtual_time
async def test_an_earlier_deadline_is_armed_at_once_and_a_later_one_is_not(loop: VirtualTimeLoop) -> None:
    """Postponing costs no timer; the old wake-up only arranges the next one and does not tick."""
    machine = Metronome(interval_s=100.0)
    driver, _ = driven(loop, machine)
    driver.call(machine.postpone, 10.0)
    assert 10.0 == driver.armed_s
    driver.call(machine.postpone, 50.0)
    assert 10.0 == driver.armed_s
    driver.call(machine.postpone, 2.0)
    assert 2.0 == driver.armed_s
    driver.call(machine.postpone, 60.0)
    await asyncio.sleep(5.0)
    assert [] == machine.beats
    assert 60.0 == driver.armed_s
    await asyncio.sleep(56.0)
    assert [60.0] == machine.beats
    driver.close()


@on_virtual_time
async def test_no_deadline_arms_nothing(loop: VirtualTimeLoop) -> None:
    """A machine that wants nothing gets no wake-up, and a stopped one gets no more."""
    machine = Metronome()
    driver, performed = driven(loop, machine)
    driver.call(machine.postpone, 1.0)
    driver.call(machine.stop)
    await asyncio.sleep(10.0)
    assert [] == machine.beats
    assert [1000] == performed
    assert math.inf == driver.armed_s


@on_virtual_time
async def test_a_timer_that_fires_early_does_not_tick_early(loop: VirtualTimeLoop) -> None:
    """uvloop's timers may fire a millisecond early: the machine is never ticked before its deadline by the clock that it knows."""
    slow = Clock(lambda: loop.time() * 0.999, lambda: 0.0)
    machine = Metronome(interval_s=10.0, deadline=10.0)
    driver = Driver("metronome", machine, slow)
    driver.on(Send, lambda effect: None)
    driver.call(machine.postpone, 10.0)
    await asyncio.sleep(10.005)
    assert [] == machine.beats
    await asyncio.sleep(0.02)
    assert 1 == len(machine.beats)
    assert 10.0 <= machine.beats[0] < 10.003
    driver.close()


@on_virtual_time
async def test_a_deadline_that_stays_in_the_past_does_not_spin(loop: VirtualTimeLoop) -> None:
    """A machine that forgets to move its deadline is ticked each millisecond at most, and found overdue."""
    machine = Metronome(interval_s=0.0, deadline=1.0)
    driver, _ = driven(loop, machine)
    driver.restart()
    await asyncio.sleep(1.1)
    assert 90 <= len(machine.beats) <= 102
    assert 0.09 < driver.overdue_s(loop.time()) < 0.11
    driver.close()


@on_virtual_time
async def test_progress_is_stamped_only_by_work(loop: VirtualTimeLoop) -> None:
    """The stamp is the time of the last input whose effects were performed; reading a snapshot moves nothing."""
    machine = Metronome(deadline=math.inf)
    driver, _ = driven(loop, machine)
    assert 0.0 == driver.progress_s
    await asyncio.sleep(3.0)
    driver.snapshot(loop.time())
    driver.wedged(loop.time())
    assert 0.0 == driver.progress_s
    driver.call(machine.say, "word")
    assert 3.0 == driver.progress_s
    await asyncio.sleep(1.0)
    with capture_logs():
        driver.call(machine.break_down)
    assert 3.0 == driver.progress_s


@on_virtual_time
async def test_wedged_means_overdue_beyond_the_limit(loop: VirtualTimeLoop) -> None:
    """The limit is 30 s, or three intervals where they are longer; overdue counts from the machine's own deadline."""
    quick, slow = Metronome(interval_s=1.0, deadline=5.0), Metronome(interval_s=20.0, deadline=5.0)
    drivers = [driven(loop, machine)[0] for machine in (quick, slow)]  # never armed: nothing is called
    assert [0.0, 0.0] == [driver.overdue_s(5.0) for driver in drivers]
    assert [LIMIT_S, LIMIT_S] == [driver.overdue_s(35.0) for driver in drivers]
    assert [False, False] == [driver.wedged(35.0) for driver in drivers]
    assert [True, False] == [driver.wedged(35.1) for driver in drivers]
    assert [True, False] == [driver.wedged(65.0) for driver in drivers]
    assert [True, True] == [driver.wedged(65.1) for driver in drivers]
    assert TaskSnapshot("metronome", 60.0, True) == drivers[0].snapshot(65.0)


@on_virtual_time
async def test_an_exception_of_a_machine_is_told_and_makes_it_wedged(loop: VirtualTimeLoop) -> None:
    """Our own bug: logged with its traceback, the machine wedged at once and never called again, the loop alive."""
    machine = Metronome()
    driver, performed = driven(loop, machine)
    driver.call(machine.postpone, 1.0)
    with capture_logs() as logs:
        driver.call(machine.break_down)
    assert [("error", "metronome", True)] == [(entry["log_level"], entry["task"], entry["exc_info"]) for entry in logs]
    assert driver.wedged(loop.time())
    driver.call(machine.say, "word")
    driver.restart()
    await asyncio.sleep(5.0)
    assert [] == machine.beats
    assert [] == performed
    assert driver.snapshot(loop.time()).wedged


@on_virtual_time
async def test_an_effect_that_nobody_performs_is_our_bug(loop: VirtualTimeLoop) -> None:
    """A missing performer does not swallow the effect: the machine is wedged."""
    machine = Metronome(deadline=math.inf)
    driver = Driver("deaf", machine, loop.clock())
    with capture_logs() as logs:
        driver.call(machine.say, "word")
    assert driver.wedged(loop.time())
    assert 1 == len(logs)


@on_virtual_time
async def test_inputs_that_wait_behind_a_crash_are_dropped(loop: VirtualTimeLoop) -> None:
    """What a performer handed in while the machine was about to break is not given to the broken machine."""
    machine = Metronome(deadline=math.inf)
    driver, performed = driven(loop, machine)

    def perform(effect: Send) -> None:
        driver.call(machine.say, "after")
        raise ZeroDivisionError

    driver.on(Send, perform)
    with capture_logs():
        driver.call(machine.say, "word")
    assert [] == performed
    assert driver.wedged(loop.time())


@on_virtual_time
async def test_a_closed_driver_is_silent(loop: VirtualTimeLoop) -> None:
    """After close() there are no ticks, no inputs, and no lateness."""
    machine = Metronome()
    driver, performed = driven(loop, machine)
    driver.call(machine.postpone, 1.0)
    driver.close()
    driver.call(machine.say, "word")
    driver.restart()
    await asyncio.sleep(100.0)
    assert [] == machine.beats
    assert [] == performed
    assert 0.0 == driver.overdue_s(loop.time())


@on_virtual_time
async def test_the_supervisor_restarts_what_is_overdue(loop: VirtualTimeLoop) -> None:
    """A lost timer is found within the grace and a beat, told once, and cured; what stands beside the machine is revived with it."""
    machine = Metronome(interval_s=100.0, deadline=2.0)
    driver, _ = driven(loop, machine)  # never armed: as if its timer were lost
    revived: list[float] = []
    driver.on_restart.append(lambda: revived.append(loop.time()))
    supervisor = Supervisor(loop.clock())
    supervisor.watch(driver)
    with capture_logs() as logs:
        supervisor.start()
        await asyncio.sleep(12.0)
    assert [2.0 + OVERDUE_S + BEAT_S] == pytest.approx(revived)
    assert 1 == len(machine.beats)
    assert machine.beats[0] == pytest.approx(8.0, abs=0.01)
    assert 1 == driver.restarts
    assert ["metronome"] == [entry["task"] for entry in logs]
    assert not driver.wedged(loop.time())
    supervisor.close()
    driver.close()


@on_virtual_time
async def test_what_cannot_be_restarted_becomes_wedged(loop: VirtualTimeLoop) -> None:
    """A machine whose ticks do not help stays overdue: told once, wedged when the limit has passed, never before."""
    machine = Metronome(interval_s=0.0, deadline=2.0)
    driver, _ = driven(loop, machine)
    supervisor = Supervisor(loop.clock())
    supervisor.watch(driver)
    with capture_logs() as logs:
        supervisor.start()
        await asyncio.sleep(31.9)
        assert [False, False] == [task.wedged for task in supervisor.tasks(loop.time())]
        await asyncio.sleep(0.2)
    assert [("supervisor", False), ("metronome", True)] == [(t.task, t.wedged) for t in supervisor.tasks(loop.time())]
    assert 1 == len(logs)
    supervisor.close()
    driver.close()


@on_virtual_time
async def test_the_supervisor_tells_the_wall_time_each_second(loop: VirtualTimeLoop) -> None:
    """Each beat hands the present offset to the machines that want it, clock steps included; beats of others run too."""
    step_s = 0.0
    clock = Clock(loop.time, lambda: virtualtime.WALL_S + step_s + loop.time())
    machine = Calendar()
    driver = Driver("walled", machine, clock)
    supervisor = Supervisor(clock)
    supervisor.watch(driver)
    supervisor.watch(Driver("plain", Metronome(deadline=math.inf), clock))
    seconds: list[float] = []
    supervisor.each_second(seconds.append)
    supervisor.start()
    await asyncio.sleep(1.5)
    step_s = -3600.0
    await asyncio.sleep(1.0)
    assert [virtualtime.WALL_S, virtualtime.WALL_S, virtualtime.WALL_S - 3600.0] == machine.offsets
    assert [0.0, 1.0, 2.0] == pytest.approx(seconds)
    supervisor.not_each_second(seconds.append)
    supervisor.unwatch(driver)
    await asyncio.sleep(2.0)
    assert 3 == len(machine.offsets)
    assert 3 == len(seconds)
    assert ["supervisor", "plain"] == [task.task for task in supervisor.tasks(loop.time())]
    supervisor.close()


@on_virtual_time
async def test_loop_lag_is_the_highest_of_the_last_minute(loop: VirtualTimeLoop) -> None:
    """A blocked loop delays the beat by so much; the number stays for 60 s and is then forgotten."""
    supervisor = Supervisor(loop.clock())
    supervisor.start()
    await asyncio.sleep(5.5)
    assert supervisor.lag_s(loop.time()) == pytest.approx(0.0, abs=1e-6)
    loop.advance(2.5)  # somebody blocks until 8.0; the beat was due at 6.0
    await asyncio.sleep(1.0)
    assert supervisor.lag_s(loop.time()) == pytest.approx(2.0)
    loop.advance(1.5)
    await asyncio.sleep(40.0)
    assert supervisor.lag_s(loop.time()) == pytest.approx(2.0)
    await asyncio.sleep(17.0)
    assert supervisor.lag_s(67.9) == pytest.approx(2.0)
    assert supervisor.lag_s(68.1) < 1.6
    assert not supervisor.suspended(loop.time())
    supervisor.close()


@on_virtual_time
async def test_a_suspension_withholds_judgement_for_30_s(loop: VirtualTimeLoop) -> None:
    """More than 10 s between two beats is a suspension; 10 s or less is not."""
    supervisor = Supervisor(loop.clock())
    supervisor.start()
    await asyncio.sleep(1.5)
    loop.advance(8.0)
    with capture_logs() as logs:
        await asyncio.sleep(0.1)
        assert not supervisor.suspended(loop.time())
        await asyncio.sleep(1.0)
        loop.advance(600.0)
        await asyncio.sleep(0.1)
    woken = loop.time()
    assert supervisor.suspended(woken)
    assert supervisor.suspended(woken + GRACE_S - 0.2)
    assert not supervisor.suspended(woken + GRACE_S)
    assert ["the process was suspended"] == [entry["event"] for entry in logs]
    supervisor.close()


@on_virtual_time
async def test_a_beat_that_raises_wedges_the_supervisor_itself(loop: VirtualTimeLoop) -> None:
    """The watcher is watched: it is the first of its own tasks."""
    supervisor = Supervisor(loop.clock())

    def beat(now: float) -> None:
        raise ZeroDivisionError

    supervisor.each_second(beat)
    with capture_logs():
        supervisor.start()
    assert [("supervisor", True)] == [(task.task, task.wedged) for task in supervisor.tasks(loop.time())]


def test_a_virtual_loop_that_nothing_can_wake_says_so() -> None:
    """The test tool itself: a wait without end is an error, not a hang."""

    async def main(loop: VirtualTimeLoop) -> None:
        await loop.create_future()

    with pytest.raises(virtualtime.StuckError):
        virtualtime.run(main)

