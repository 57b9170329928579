"""The monitor: raw verdicts at once, damped words to others, time in each health."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from syncwatch.core.effects import Effects, Notice, Notify
from syncwatch.core.health import (
    ADVICE,
    GRAVITY,
    INCIDENTS,
    Check,
    Component,
    Condition,
    Health,
    HealthSnapshot,
    Reason,
)
from syncwatch.core.monitor import DOWN, LOOK_S, SIDECAR, HealthSettings, Monitor
from syncwatch.core.snapshot import TaskSnapshot

WALL_S = 1_780_000_000.0
EVERYTHING = tuple(Reason)


class Patient:
    """A watched machine whose conditions a test sets."""

    def __init__(self, name: str = "cast", component: Component = Component.CONNECTION, active: bool = True) -> None:
        self.name = name
        self.component = component
        self.active = active
        self.settled_once = True
        self.possible_reasons: Sequence[Reason] = EVERYTHING
        self.conditions: dict[Reason, float] = {}
        self.advice: dict[Reason, str] = {}

    def reasons(self, now: float) -> Sequence[Condition]:
        """As set."""
        return [Condition(reason, since_s, self.advice.get(reason, "")) for reason, since_s in self.conditions.items()]


class Ward:
    """A monitor with its patients, looked at each second."""

    def __init__(self, *patients: Patient, **settings: object) -> None:
        self.patients = patients or (Patient(),)
        self.monitor = Monitor(HealthSettings(**settings), self.patients)  # type: ignore[arg-type]  # the struct's own fields
        self.monitor.wall(0.0, WALL_S)
        self.now = 0.0
        self.told: list[Notify] = []
        self.gates: list[Notify] = []
        self.take(self.monitor.start(0.0))

    @property
    def one(self) -> Patient:
        """The first."""
        return self.patients[0]

    def take(self, effects: Effects) -> None:
        """Record."""
        for effect in effects:
            assert isinstance(effect, Notify)
            (self.gates if effect.notice is Notice.GATE else self.told).append(effect)

    def wait(self, seconds: float) -> None:
        """Look one second after the last look, and so on."""
        end = self.now + seconds
        while (due := self.monitor.deadline - LOOK_S + 1.0) <= end:
            self.now = due
            self.take(self.monitor.look(self.now))
        self.now = end

    def look(self) -> HealthSnapshot:
        """Look now, then picture."""
        self.take(self.monitor.look(self.now))
        return self.monitor.snapshot(self.now)

    def failed(self, probe: str) -> dict[str, str]:
        """The checks that fail now, with their details."""
        return {check.name: check.detail for check in self.look().checks[probe] if not check.ok}

    def words(self) -> list[tuple[Notice, object]]:
        """What was told: the notice and its gravest reason, or how long it took."""
        return [(item.notice, item.fields.get("reason", item.fields.get("after_s"))) for item in self.told]


KEY = (Component.CONNECTION, "cast")


class TestDamping:
    def test_a_condition_is_told_after_five_seconds_and_taken_back_after_ten(self) -> None:
        """Counted once; the recovery says how long it was told."""
        ward = Ward()
        ward.wait(1.0)
        ward.one.conditions = {Reason.RECONNECTING: 1.0}
        ward.look()
        ward.wait(4.9)
        assert [] == ward.words()
        ward.wait(1.1)
        assert [(Notice.DEGRADED, Reason.RECONNECTING)] == ward.words()
        ward.one.conditions = {}
        ward.look()
        ward.wait(9.9)
        assert 1 == len(ward.words())
        ward.wait(1.1)
        assert (Notice.RECOVERED, 11.0) == ward.words()[-1]
        assert 1 == ward.look().degradations[(*KEY, Reason.RECONNECTING)]

    def test_a_blip_is_never_told(self) -> None:
        """Shorter than the damping: no word, no count, no series at 1."""
        ward = Ward()
        for _ in range(5):
            ward.one.conditions = {Reason.RECONNECTING: ward.now}
            ward.look()
            ward.wait(4.0)
            ward.one.conditions = {}
            ward.look()
            ward.wait(20.0)
        assert ([], 0) == (ward.words(), sum(ward.look().degradations.values()))

    def test_a_short_recovery_is_no_recovery(self) -> None:
        """Flapping faster than ten seconds is one degradation."""
        ward = Ward()
        for _ in range(5):
            ward.one.conditions = {Reason.RECONNECTING: ward.now}
            ward.look()
            ward.wait(6.0)
            ward.one.conditions = {}
            ward.look()
            ward.wait(6.0)
        assert ([(Notice.DEGRADED, Reason.RECONNECTING)], 1) == (
            ward.words(), ward.look().degradations[(*KEY, Reason.RECONNECTING)],
        )  # fmt: skip

    @pytest.mark.parametrize("reason", [Reason.POLLING, Reason.UNAUTHORIZED, Reason.FORBIDDEN, Reason.WATCHER_DEAD, *INCIDENTS])
    def test_some_are_never_delayed(self, reason: Reason) -> None:
        """Waiting would hide them, or they are held long enough by themselves."""
        ward = Ward()
        ward.one.conditions = {reason: 0.0}
        ward.look()
        assert [(Notice.DEGRADED, reason)] == ward.words()

    def test_the_gravest_reason_leads_and_all_are_named_with_advice(self) -> None:
        """A further reason is told when its own damping is over."""
        ward = Ward()
        ward.one.conditions = {Reason.GAP_OPEN: 0.0}
        ward.wait(6.0)
        ward.one.conditions[Reason.BEHIND] = 6.0
        ward.look()
        ward.wait(6.0)
        first, second = ward.told
        assert (Reason.GAP_OPEN, "gap_open") == (first.fields["reason"], first.fields["reasons"])
        assert (Reason.BEHIND, "behind,gap_open", ADVICE[Reason.BEHIND]) == (
            second.fields["reason"], second.fields["reasons"], second.fields["advice"],
        )  # fmt: skip
        assert ("connection", "cast", WALL_S + 11.0) == (second.fields["component"], second.fields["name"], second.at_s)

    def test_a_machine_that_knows_better_what_to_do_is_heard(self) -> None:
        """Its own words are held and told, the general ones where it has none; they are told again for a reason that is over and still damped."""
        ward = Ward()
        ward.one.advice = {Reason.RECONNECTING: "look at the file"}
        ward.one.conditions = {Reason.RECONNECTING: 0.0, Reason.STALE: 0.0}
        ward.wait(6.0)
        assert ["look at the file", ADVICE[Reason.STALE]] == [held.advice for held in ward.monitor.snapshot(ward.now).held]
        ward.one.conditions = {Reason.BEHIND: 6.0}
        ward.wait(6.0)
        assert ["look at the file"] * 2 == [notice.fields["advice"] for notice in ward.told]
        assert ["reconnecting,stale", "reconnecting,behind,stale"] == [notice.fields["reasons"] for notice in ward.told]

    def test_raw_conditions_answer_at_once(self) -> None:
        """Gate and readyz do not wait for the damping, neither in nor out."""
        ward = Ward(gate_read=frozenset({Reason.BEHIND}), ready_fail_on={Reason.BEHIND: 0.0})
        ward.one.conditions = {Reason.BEHIND: 0.0}
        assert ({"read": "cast: behind"}, {"connection/cast"}) == (ward.failed("gate"), set(ward.failed("readyz")))
        ward.one.conditions = {}
        assert ({}, {}) == (ward.failed("gate"), ward.failed("readyz"))

    def test_owners_are_told_in_a_fixed_order(self) -> None:
        """So that a seed replays, whatever the process's hash seed."""
        names = ["zeta", "alpha", "mid", "beta", "omega", "gamma"]
        ward = Ward(*[Patient(name) for name in names])
        for patient in ward.patients:
            patient.conditions = {Reason.UNAUTHORIZED: 0.0}
        ward.look()
        assert sorted(names) == [item.fields["name"] for item in ward.told]


class TestTime:
    def test_time_belongs_to_the_health_that_was_found(self) -> None:
        """healthy, degraded, down; the running stay is included while a scrape is answered."""
        ward = Ward()
        ward.wait(10.0)
        ward.one.conditions = {Reason.BEHIND: 10.0}
        ward.look()
        ward.wait(5.0)
        ward.one.conditions = {Reason.RECONNECTING: 15.0, Reason.BEHIND: 10.0}
        ward.look()
        ward.wait(2.5)
        seconds = ward.monitor.snapshot(17.5).seconds
        assert (10.0, 5.0, 2.5) == tuple(seconds[(*KEY, health)] for health in Health)
        assert 17.5 == sum(seconds[Component.SIDECAR, SIDECAR, health] for health in Health)

    @pytest.mark.parametrize("reason", Reason)
    def test_down_is_where_no_data_can_move(self, reason: Reason) -> None:
        """Everything else is degraded."""
        ward = Ward()
        ward.one.conditions = {reason: 0.0}
        assert (Health.DOWN if reason in DOWN else Health.DEGRADED) is ward.look().health[KEY]
        assert {Reason.RECONNECTING, Reason.FAILED, Reason.WATCHER_DEAD, Reason.TASK_STALLED} == DOWN

    def test_idle_and_closed_are_not_counted(self) -> None:
        """Their time belongs to nobody."""
        ward = Ward(Patient(active=False))
        ward.wait(10.0)
        picture = ward.look()
        assert 0.0 == sum(picture.seconds[(*KEY, health)] for health in Health)
        assert KEY not in picture.health
        ward.one.active = True
        ward.look()
        ward.wait(3.0)
        assert 3.0 == ward.look().seconds[(*KEY, Health.HEALTHY)]

    def test_a_clock_that_goes_back_counts_nothing(self) -> None:
        """Counters never fall."""
        ward = Ward()
        ward.wait(10.0)
        ward.monitor.look(5.0)
        assert 10.0 == ward.monitor.snapshot(5.0).seconds[(*KEY, Health.HEALTHY)]


class TestProbes:
    def test_readyz_waits_for_the_first_sync_and_for_the_grace_of_each_reason(self) -> None:
        """A reason fails it when it has held for longer than its grace, and only if it is named."""
        ward = Ward(ready_fail_on={Reason.RECONNECTING: 60.0, Reason.UNAUTHORIZED: 0.0})
        ward.one.settled_once = False
        assert {"first-sync/cast": "the first sync is not done"} == ward.failed("readyz")
        ward.one.settled_once = True
        ward.one.conditions = {Reason.RECONNECTING: 0.0, Reason.BEHIND: 0.0}
        ward.wait(59.0)
        assert {} == ward.failed("readyz")
        ward.wait(1.0)
        assert {"connection/cast": "reconnecting for 60 s"} == ward.failed("readyz")

    def test_the_first_sync_may_be_left_out(self) -> None:
        """Then nothing of it is asked."""
        ward = Ward(wait_for_first_sync=False)
        ward.one.settled_once = False
        assert {} == ward.failed("readyz")
        assert ["connection/cast"] == [check.name for check in ward.look().checks["readyz"]]

    def test_the_gate_is_told_at_each_change_at_once(self) -> None:
        """Each side by itself, raw, whatever the damping; nothing while nothing changes."""
        ward = Ward(gate_read=frozenset({Reason.BEHIND}), gate_write=frozenset({Reason.FAILED}))
        assert [{"purpose": side, "open": True, "detail": ""} for side in ("read", "write")] == [one.fields for one in ward.gates]
        ward.wait(3.0)
        ward.one.conditions = {Reason.BEHIND: 3.0}
        ward.look()
        ward.wait(3.0)
        ward.one.conditions = {}
        ward.look()
        told = [(one.at_s - WALL_S, one.fields["purpose"], one.fields["open"], one.fields["detail"]) for one in ward.gates[2:]]
        assert [(3.0, "read", False, "cast: behind"), (6.0, "read", True, "")] == told

    def test_what_is_not_watched_is_not_trusted(self) -> None:
        """Before the start and after the stop both sides are closed."""
        ward = Ward(Patient(active=False))
        assert {"read": "cast: not watched", "write": "cast: not watched"} == ward.failed("gate")
        ward.one.active = True
        assert {} == ward.failed("gate")

    def test_without_a_configuration_nothing_is_trusted_and_nothing_is_restarted(self) -> None:
        """Nobody is ready, both sides of the gate say why, the sidecar is down, which is counted nowhere; no restart would help."""
        ward = Ward(unconfigured="f.yaml: wrong")
        ward.monitor.configure(0.0, ward.monitor.settings, ())
        assert {"configuration": "f.yaml: wrong"} == ward.failed("readyz")
        assert {"read": "f.yaml: wrong", "write": "f.yaml: wrong"} == ward.failed("gate")
        assert ({}, {}) == (ward.failed("livez"), ward.failed("healthz"))
        assert {(Component.SIDECAR, SIDECAR): Health.DOWN} == ward.look().health
        ward.wait(3.0)
        assert {0.0} == set(ward.monitor.snapshot(ward.now + 1.0).seconds.values()), "it spends no error budget"

    def test_a_service_closes_the_gate_only_where_that_was_asked_for(self) -> None:
        """Then also while it is not known yet; it is never part of readyz by default, and degrades only."""
        flair = Patient("flair", Component.SERVICE, active=False)
        flair.possible_reasons = (Reason.SERVICE_UNHEALTHY,)
        ward = Ward(Patient(), flair, gate_write=frozenset({Reason.SERVICE_UNHEALTHY}), ready_fail_on={Reason.FAILED: 0.0})
        assert {"write": "flair: not watched"} == ward.failed("gate")
        flair.active = True
        assert {} == ward.failed("gate")
        flair.conditions = {Reason.SERVICE_UNHEALTHY: 0.0}
        assert {"write": "flair: service_unhealthy"} == ward.failed("gate")
        assert {} == ward.failed("readyz")
        assert Health.DEGRADED is ward.look().health[Component.SERVICE, "flair"]

    def test_the_gate_has_two_questions(self) -> None:
        """May I trust what I read, may I write: each with its own reasons, and every owner named."""
        ward = Ward(Patient("a"), Patient("b"), gate_read=frozenset({Reason.BEHIND}), gate_write=frozenset({Reason.FAILED}))
        ward.patients[1].conditions = {Reason.BEHIND: 0.0}
        assert {"read": "b: behind"} == ward.failed("gate")
        ward.patients[0].conditions = {Reason.FAILED: 0.0, Reason.BEHIND: 0.0}
        assert {"read": "a: behind, b: behind", "write": "a: failed"} == ward.failed("gate")

    def test_no_connection_reason_ever_fails_livez_or_healthz(self) -> None:
        """An upstream outage is no reason to restart."""
        ward = Ward()
        ward.one.conditions = dict.fromkeys(Reason, -7200.0)
        assert ({}, {}) == (ward.failed("livez"), ward.failed("healthz"))

    def test_healthz_may_add_watchers_and_mirrors_with_a_grace(self) -> None:
        """Nothing else, whatever the configuration says."""
        fail_on = {Reason.WATCHER_DEAD: 900.0, Reason.RECONNECTING: 0.0}
        ward = Ward(Patient(), Patient("files", Component.WATCHER), healthz_fail_on=fail_on)
        ward.one.conditions = {Reason.RECONNECTING: 0.0}
        ward.patients[1].conditions = {Reason.WATCHER_DEAD: 0.0}
        ward.wait(899.0)
        assert {} == ward.failed("healthz")
        ward.wait(1.0)
        assert {"watcher/files": "watcher_dead for 900 s"} == ward.failed("healthz")
        assert {} == ward.failed("livez")

    def test_a_wedged_task_fails_livez_and_healthz(self) -> None:
        """And is a reason of the sidecar, since it was first seen."""
        ward = Ward()
        ward.monitor.tasks([TaskSnapshot("cast", 0.0, False), TaskSnapshot("files", 45.4, True)], suspended=False)
        ward.wait(3.0)
        assert {"task/files": "45 s past its deadline"} == ward.failed("livez") == ward.failed("healthz")
        held = ward.look().held[0]
        assert (Component.SIDECAR, SIDECAR, Reason.TASK_STALLED, 1.0) == (held.component, held.name, held.reason, held.since_s)
        ward.monitor.tasks([TaskSnapshot("files", 0.0, False)], suspended=False)
        assert ({}, ()) == (ward.failed("livez"), ward.look().held)

    def test_after_a_suspension_judgement_is_withheld(self) -> None:
        """The machine slept; nobody is wedged yet."""
        ward = Ward()
        ward.monitor.tasks([TaskSnapshot("files", 7000.0, True)], suspended=True)
        assert ({}, ()) == (ward.failed("livez"), ward.look().held)

    def test_a_check_has_a_name_for_every_task_from_the_beginning(self) -> None:
        """So that single checks can be asked for."""
        ward = Ward()
        ward.monitor.tasks([TaskSnapshot("cast", 0.0, False)], suspended=False)
        assert (Check("ping", True), Check("task/cast", True)) == ward.look().checks["livez"]


class TestSnapshot:
    def test_every_pair_that_can_ever_hold_exists_from_the_beginning(self) -> None:
        """At 0; what cannot hold is absent."""
        patient = Patient()
        patient.possible_reasons = (Reason.FAILED, Reason.BEHIND)
        picture = Ward(patient).look()
        assert {
            (*KEY, Reason.FAILED): False,
            (*KEY, Reason.BEHIND): False,
            (*KEY, Reason.TASK_STALLED): False,
            (Component.SIDECAR, SIDECAR, Reason.TASK_STALLED): False,
        } == picture.degraded
        assert picture.degraded.keys() == picture.degradations.keys()

    def test_a_wedged_connection_is_trusted_by_nobody(self) -> None:
        """What it said last may be that all is well: gate and readyz fail for it all the same, and its time counts as down."""
        ward = Ward(Patient("cast"), Patient("other"))
        ward.monitor.tasks([TaskSnapshot("connection/cast", 100.0, True), TaskSnapshot("connection/other", 0.0, False)], False)
        assert {"read", "write"} == set(ward.failed("gate"))
        assert {"connection/cast"} == set(ward.failed("readyz"))
        picture = ward.look()
        assert Health.DOWN is picture.health[KEY]
        assert Health.HEALTHY is picture.health[Component.CONNECTION, "other"]
        ward.monitor.tasks([TaskSnapshot("connection/cast", 100.0, True)], True)
        assert {} == ward.failed("gate"), "after a suspension judgement is withheld"

    def test_held_is_raw_and_gravest_first(self) -> None:
        """Over all owners, each with its own since."""
        ward = Ward(Patient("a"), Patient("b"))
        ward.patients[0].conditions = {Reason.EVENTS_LOST: 3.0, Reason.BEHIND: 2.0}
        ward.patients[1].conditions = {Reason.FAILED: 1.0, Reason.BEHIND: 4.0}
        held = ward.look().held
        assert [("b", Reason.FAILED), ("a", Reason.BEHIND), ("b", Reason.BEHIND), ("a", Reason.EVENTS_LOST)] == [
            (item.name, item.reason) for item in held
        ]
        assert [1.0, 2.0, 4.0, 3.0] == [item.since_s for item in held]

    def test_it_looks_by_itself_when_nobody_asks(self) -> None:
        """Its own deadline; none before the start."""
        assert math.inf == Monitor(HealthSettings(), ()).deadline
        ward = Ward()
        assert LOOK_S == ward.monitor.deadline
        ward.take(ward.monitor.look(0.5))
        assert (0.5 + LOOK_S, LOOK_S) == (ward.monitor.deadline, ward.monitor.interval_s)


class TestConfigure:
    def configure(self, ward: Ward, *patients: Patient, **settings: object) -> None:
        """Now."""
        ward.take(ward.monitor.configure(ward.now, HealthSettings(**settings), patients))  # type: ignore[arg-type]  # the struct's own fields

    def test_who_stays_keeps_damping_counts_and_time(self) -> None:
        """A reason on its way in goes on from where it was, under the new settings; others come and go beside it."""
        stays, goes, comes = Patient("stays"), Patient("goes"), Patient("comes")
        ward = Ward(stays, goes)
        stays.conditions = {Reason.UNAUTHORIZED: 0.0, Reason.BEHIND: 0.0}
        ward.look()
        ward.wait(4.5)
        self.configure(ward, comes, stays)
        ward.wait(0.4)
        key = (Component.CONNECTION, "stays")
        assert (1, 0) == (ward.look().degradations[*key, Reason.UNAUTHORIZED], ward.look().degradations[*key, Reason.BEHIND])
        ward.wait(1.1)
        picture = ward.look()
        assert 1 == picture.degradations[*key, Reason.BEHIND], "five seconds in all"
        assert 6.0 == picture.seconds[*key, Health.DEGRADED]
        assert 1.5 == picture.seconds[Component.CONNECTION, "comes", Health.HEALTHY]
        assert 6.0 == sum(picture.seconds[Component.SIDECAR, SIDECAR, health] for health in Health)
        for known in (picture.degraded, picture.degradations, picture.seconds, picture.health):
            assert not [owner for owner in known if owner[1] == "goes"], "its series have gone"
        assert ["stays", "stays"] == [item.fields["name"] for item in ward.told]

    def test_the_same_name_again_is_another_machine(self) -> None:
        """Re-aimed: what was counted belongs to the other one, and who was told of it hears the end."""
        old, new = Patient(), Patient()
        ward = Ward(old)
        old.conditions = {Reason.UNAUTHORIZED: 0.0}
        ward.look()
        ward.wait(3.0)
        self.configure(ward, new)
        picture = ward.look()
        assert 0 == picture.degradations[*KEY, Reason.UNAUTHORIZED]
        assert 0.0 == sum(picture.seconds[*KEY, health] for health in Health)
        assert [(Notice.DEGRADED, Reason.UNAUTHORIZED), (Notice.RECOVERED, 3.0)] == ward.words()
        assert "the configuration changed" == ward.told[-1].fields["detail"]
        new.conditions = {Reason.UNAUTHORIZED: 3.0}
        ward.look()
        assert (Notice.DEGRADED, None) == (ward.told[-1].notice, ward.told[-1].fields.get("detail"))

    def test_nobody_waits_for_the_recovery_of_what_has_gone(self) -> None:
        """A connection that was removed, and a reason that cannot hold any more."""
        patient, other = Patient(), Patient("other")
        ward = Ward(patient, other)
        patient.conditions = other.conditions = {Reason.STALE: 0.0, Reason.BEHIND: 0.0}
        ward.look()
        ward.wait(6.0)
        patient.conditions = {Reason.BEHIND: 0.0}
        patient.possible_reasons = (Reason.BEHIND,)
        self.configure(ward, patient)
        assert [("cast", "degraded", "behind"), ("other", "recovered", None)] == [
            (item.fields["name"], str(item.notice), item.fields.get("reasons")) for item in ward.told[-2:]
        ]
        assert (*KEY, Reason.STALE) not in ward.look().degraded
        self.configure(ward)
        assert (Notice.RECOVERED, 1.0) == ward.words()[-1], "told a second ago"
        assert {(Component.SIDECAR, SIDECAR)} == set(ward.look().health)

    def test_new_settings_answer_at_once(self) -> None:
        """Which reasons close the gate, and for how long one may last."""
        ward = Ward()
        ward.one.conditions = {Reason.BEHIND: 0.0}
        assert {} == ward.failed("gate")
        self.configure(ward, ward.one, gate_read=frozenset({Reason.BEHIND}), ready_fail_on={Reason.BEHIND: 0.0}, degraded_after_s=0.0)
        assert ({"read": "cast: behind"}, {"connection/cast"}) == (ward.failed("gate"), set(ward.failed("readyz")))
        assert [(Notice.DEGRADED, Reason.BEHIND)] == ward.words()
        ward.wait(1.0)
        assert 1.0 + LOOK_S == ward.monitor.deadline


def test_every_reason_has_a_rank_and_advice() -> None:
    """Conditions before incidents, in the order of gravity; each says what to do."""
    assert set(Reason) == set(ADVICE) == set(GRAVITY)
    assert list(range(len(Reason))) == [GRAVITY[reason] for reason in Reason]
    assert max(GRAVITY[reason] for reason in set(Reason) - INCIDENTS) < min(GRAVITY[reason] for reason in INCIDENTS)
