"""The machine of health: reads every watched machine's raw conditions, damps them, keeps the time in each health, and passes the verdicts.

Law: raw conditions answer probes, gate and status at once; damping delays only what is told to others (callbacks, hooks, `syncwatch_degraded`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol as Interface

import msgspec

from syncwatch.core.effects import Effect, Effects, Field, Notice, Notify
from syncwatch.core.health import (
    GRAVITY,
    INCIDENTS,
    Check,
    Component,
    Condition,
    Health,
    HealthSnapshot,
    Held,
    Reason,
)
from syncwatch.core.snapshot import TaskSnapshot

SIDECAR = "syncwatch"
DOWN = frozenset({Reason.RECONNECTING, Reason.FAILED, Reason.WATCHER_DEAD, Reason.TASK_STALLED})
UNDAMPED = INCIDENTS | {Reason.POLLING, Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.WATCHER_DEAD}
"""Told at once: waiting would hide them, or they are held for long by themselves."""

LOOK_S = 2.0
"""At the latest. Whoever supervises the tasks asks for a look each second, and one wake-up then serves both."""


class HealthSettings(msgspec.Struct, frozen=True):
    """What fails which probe, and for how long it must hold; seconds."""

    degraded_after_s: float = 5.0
    recovered_after_s: float = 10.0
    wait_for_first_sync: bool = True
    ready_fail_on: Mapping[Reason, float] = {}
    healthz_fail_on: Mapping[Reason, float] = {}
    gate_read: frozenset[Reason] = frozenset()
    gate_write: frozenset[Reason] = frozenset()
    unconfigured: str = ""
    """Not empty: what is to be watched is not known, and why. Nobody is ready then, both sides of the gate are closed, and the sidecar is down;
    its time counts nowhere, as before a start: a mistake in a file is a warning of its own, and spends nobody's error budget."""


class Watched(Interface):
    """A machine whose health is watched."""

    name: str

    @property
    def component(self) -> Component: ...
    @property
    def active(self) -> bool:
        """Started and not stopped: its time counts."""
        ...

    @property
    def settled_once(self) -> bool:
        """Its first sync is done."""
        ...

    @property
    def possible_reasons(self) -> Sequence[Reason]:
        """Every reason that it can ever report."""
        ...

    def reasons(self, now: float) -> Sequence[Condition]: ...


class Damped:
    """One reason of one component, on its way in or out."""

    __slots__ = ("absent_since_s", "advice", "count", "present_since_s", "told")

    def __init__(self) -> None:
        self.present_since_s: float | None = None
        self.absent_since_s: float | None = None
        self.told = False
        self.count = 0
        self.advice = ""
        """What was last said to do about it."""

    def see(self, now: float, present: bool, after_s: float, until_s: float) -> None:
        """One look; `after_s` and `until_s` are the damping in each direction."""
        if present:
            self.absent_since_s = None
            if self.present_since_s is None:
                self.present_since_s = now
            if not self.told and now - self.present_since_s >= after_s:
                self.told = True
                self.count += 1
            return
        self.present_since_s = None
        if self.absent_since_s is None:
            self.absent_since_s = now
        if self.told and now - self.absent_since_s >= until_s:
            self.told = False


class Monitor:
    """Looks whenever it is asked to: each second, and when something changed; by itself when nobody asks."""

    interval_s = LOOK_S

    def __init__(self, settings: HealthSettings, watched: Sequence[Watched]) -> None:
        self.settings = settings
        self.deadline = math.inf
        self._watched: tuple[Watched, ...] = ()
        self._tasks: tuple[TaskSnapshot, ...] = ()
        self._suspended = False
        self._stalled_since_s: float | None = None
        self._offset_s = 0.0
        self._damped: dict[tuple[Component, str, Reason], Damped] = {}
        self._seconds: dict[tuple[Component, str, Health], float] = {}
        self._health: dict[tuple[Component, str], Health] = {}
        self._degraded_since_s: dict[tuple[Component, str], float] = {}
        self._held: tuple[Held, ...] = ()
        self._calm = False  # the last look found nothing and nothing is told: another one that finds nothing changes nothing
        self._looked_s: float | None = None
        self._gates: dict[str, bool] = {}
        self._watch(watched)

    def _watch(self, watched: Sequence[Watched]) -> None:
        """Look after these from now on; what was counted for those of them that were there before is kept."""
        stay = {(item.component, item.name) for item in watched if any(item is other for other in self._watched)}
        stay.add((Component.SIDECAR, SIDECAR))
        self._watched, self._calm = tuple(watched), False
        pairs = [(item.component, item.name, reason) for item in watched for reason in item.possible_reasons]
        owners = [*((item.component, item.name) for item in watched), (Component.SIDECAR, SIDECAR)]
        pairs += [(*owner, Reason.TASK_STALLED) for owner in owners]
        kept = {key: damped for key, damped in self._damped.items() if key[:2] in stay}
        self._damped = {key: kept.get(key) or Damped() for key in pairs}
        seconds = {key: spent_s for key, spent_s in self._seconds.items() if key[:2] in stay}
        self._seconds = {(*owner, health): seconds.get((*owner, health), 0.0) for owner in owners for health in Health}
        self._health = {owner: health for owner, health in self._health.items() if owner in stay}

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        self._offset_s = offset_s
        return ()

    def start(self, now: float) -> Effects:
        """Begin to look."""
        return self.look(now)

    def tasks(self, tasks: Iterable[TaskSnapshot], suspended: bool) -> None:
        """How the drivers do; part of what the next look sees."""
        self._tasks, self._suspended = tuple(tasks), suspended

    def configure(self, now: float, settings: HealthSettings, watched: Sequence[Watched]) -> Effects:
        """New settings, and another set of machines. Those that stay, the very same ones, keep their damping, counts and times.

        Whoever was told that something is degraded is told when it is not looked after any more: nobody waits for ever for a recovery.
        """
        self._count_time(now)
        before = self._told_by_owner()
        self.settings = settings
        self._watch(watched)
        return [*self._tell(now, before, detail="the configuration changed"), *self.look(now)]

    def tick(self, now: float) -> Effects:
        """Nobody has asked for a while."""
        return self.look(now)

    def look(self, now: float) -> Effects:
        """See every watched machine now."""
        self.deadline = now + LOOK_S
        held = list(self._raw(now))
        if len(held) > 1:
            held.sort(key=lambda item: (GRAVITY[item.reason], item.component, item.name))
        self._held = tuple(held)
        self._count_time(now)
        return [*self._damp(now), *self._tell_gates(now)]

    def _raw(self, now: float) -> Iterable[Held]:
        for item in self._watched:
            for condition in item.reasons(now):
                yield Held(item.component, item.name, condition.reason, condition.since_s, condition.advice)
        yield from self._stalled(now)

    def _stalled(self, now: float) -> Iterable[Held]:
        """A wedged task is the sidecar's trouble, and its connection's as well: whatever that one said last is not to be trusted."""
        wedged = set() if self._suspended else {task.task for task in self._tasks if task.wedged}
        if not wedged:
            self._stalled_since_s = None
            return
        if self._stalled_since_s is None:
            self._stalled_since_s = now
        yield Held(Component.SIDECAR, SIDECAR, Reason.TASK_STALLED, self._stalled_since_s)
        for item in self._watched:
            if f"{item.component}/{item.name}" in wedged:
                yield Held(item.component, item.name, Reason.TASK_STALLED, self._stalled_since_s)

    def _count_time(self, now: float) -> None:
        """The time since the last look belongs to the health that was found then."""
        if self._looked_s is not None and not self.settings.unconfigured:
            passed_s = max(0.0, now - self._looked_s)
            for owner, health in self._health.items():
                self._seconds[(*owner, health)] += passed_s
        self._looked_s = now
        worst: dict[tuple[Component, str], Health] = {
            (item.component, item.name): Health.HEALTHY for item in self._watched if item.active
        }
        worst[Component.SIDECAR, SIDECAR] = Health.DOWN if self.settings.unconfigured else Health.HEALTHY
        for held in self._held:
            owner = (held.component, held.name)
            if held.reason in DOWN:
                worst[owner] = Health.DOWN
            elif worst.get(owner) is Health.HEALTHY:
                worst[owner] = Health.DEGRADED
        self._health = worst

    def _damp(self, now: float) -> Effects:
        if not self._held and self._calm:
            return ()
        present = {(held.component, held.name, held.reason): held.advice for held in self._held}
        before = self._told_by_owner()
        for key, damped in self._damped.items():
            undamped = key[2] in UNDAMPED
            after_s = 0.0 if undamped else self.settings.degraded_after_s
            damped.see(now, key in present, after_s, self.settings.recovered_after_s)
            damped.advice = present.get(key, damped.advice)
        self._calm = not present and not any(damped.told for damped in self._damped.values())
        return self._tell(now, before)

    def _tell(self, now: float, before: Mapping[tuple[Component, str], tuple[Reason, ...]], **more: Field) -> list[Effect]:
        """What is told now and was not, or the other way round."""
        after = self._told_by_owner()
        effects: list[Effect] = []
        for owner in sorted(before.keys() | after.keys()):  # a fixed order, so that a seed replays
            old, new = before.get(owner, ()), after.get(owner, ())
            if new and new != old:
                self._degraded_since_s.setdefault(owner, now)
                effects.append(self._notify(now, Notice.DEGRADED, owner, new, **more))
            elif old and not new:
                since_s = self._degraded_since_s.pop(owner, now)
                fields: dict[str, Field] = {"component": owner[0], "name": owner[1], "after_s": now - since_s, **more}
                effects.append(Notify(Notice.RECOVERED, now + self._offset_s, fields))
        return effects

    def _told_by_owner(self) -> dict[tuple[Component, str], tuple[Reason, ...]]:
        told: dict[tuple[Component, str], tuple[Reason, ...]] = {}
        for (component, name, reason), damped in self._damped.items():
            if damped.told:
                told[component, name] = (*told.get((component, name), ()), reason)
        return {owner: tuple(sorted(reasons, key=GRAVITY.__getitem__)) for owner, reasons in told.items()}

    def _notify(
        self, now: float, notice: Notice, owner: tuple[Component, str], reasons: tuple[Reason, ...], **more: Field
    ) -> Notify:
        fields: dict[str, Field] = {
            "component": owner[0],
            "name": owner[1],
            "reason": reasons[0],
            "reasons": ",".join(reasons),
            "advice": self._damped[*owner, reasons[0]].advice,
            **more,
        }
        return Notify(notice, now + self._offset_s, fields)

    def _tell_gates(self, now: float) -> Iterable[Effect]:
        """Each side of the gate, when it opens or closes: raw, as /gate answers."""
        for check in self._both_gates():
            if self._gates.get(check.name) is not check.ok:
                self._gates[check.name] = check.ok
                fields: dict[str, Field] = {"purpose": check.name, "open": check.ok, "detail": check.detail}
                yield Notify(Notice.GATE, now + self._offset_s, fields)

    # ------------------------------------------------------------------ verdicts

    def snapshot(self, now: float) -> HealthSnapshot:
        """An immutable picture as of the last look; times run on to `now`."""
        running_s = 0.0 if self._looked_s is None or self.settings.unconfigured else max(0.0, now - self._looked_s)
        seconds = dict(self._seconds)
        for owner, health in self._health.items():
            seconds[(*owner, health)] += running_s
        return HealthSnapshot(
            degraded={key: damped.told for key, damped in self._damped.items()},
            degradations={key: damped.count for key, damped in self._damped.items()},
            seconds=seconds,
            held=self._held,
            health=dict(self._health),
            checks={
                "livez": self._live(),
                "healthz": (*self._live(), *self._files_healthy(now)),
                "readyz": self._ready(now),
                "gate": self._both_gates(),
            },
        )

    def _live(self) -> tuple[Check, ...]:
        """A restart would help: a machine's deadline passed and it could not be restarted."""
        checks = [Check("ping", True)]
        for task in self._tasks:
            ok = not task.wedged or self._suspended
            checks.append(Check(f"task/{task.task}", ok, "" if ok else f"{task.overdue_s:.0f} s past its deadline"))
        return tuple(checks)

    def _files_healthy(self, now: float) -> tuple[Check, ...]:
        names = [item for item in self._watched if item.component in (Component.WATCHER, Component.MIRROR)]
        return tuple(self._holding(now, item, self.settings.healthz_fail_on) for item in names)

    def _ready(self, now: float) -> tuple[Check, ...]:
        why = self.settings.unconfigured
        checks = [Check("configuration", False, why)] if why else []
        for item in self._watched:
            if self.settings.wait_for_first_sync and item.component is Component.CONNECTION:
                ok = item.settled_once
                checks.append(Check(f"first-sync/{item.name}", ok, "" if ok else "the first sync is not done"))
            checks.append(self._holding(now, item, self.settings.ready_fail_on))
        return tuple(checks)

    def _holding(self, now: float, item: Watched, fail_on: Mapping[Reason, float]) -> Check:
        """Whether a reason has held for longer than its grace."""
        grave = [
            f"{held.reason} for {now - held.since_s:.0f} s"
            for held in self._held
            if (held.component, held.name) == (item.component, item.name)
            and (held.reason is Reason.TASK_STALLED or now - held.since_s >= fail_on.get(held.reason, math.inf))
        ]
        return Check(f"{item.component}/{item.name}", not grave, ", ".join(grave))

    def _both_gates(self) -> tuple[Check, Check]:
        return self._gate("read", self.settings.gate_read), self._gate("write", self.settings.gate_write)

    @staticmethod
    def _unseen(item: Watched, closing: frozenset[Reason]) -> bool:
        """Whether nothing is known of it that the gate depends on; on anything but connections it depends only for reasons that they can have."""
        return not item.active and (item.component is Component.CONNECTION or not closing.isdisjoint(item.possible_reasons))

    def _gate(self, purpose: str, closing: frozenset[Reason]) -> Check:
        closing |= {Reason.TASK_STALLED}  # what is not watched any more cannot be trusted
        shut = [self.settings.unconfigured] if self.settings.unconfigured else []
        shut += [f"{held.name}: {held.reason}" for held in self._held if held.reason in closing]
        shut += [f"{item.name}: not watched" for item in self._watched if self._unseen(item, closing)]  # nor what is not watched yet
        return Check(purpose, not shut, ", ".join(shut))
