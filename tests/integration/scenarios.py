"""Which fault must set off which alerts: the table, and the faults themselves.

What belongs here: one line of the table for each fault. An alert that a fault sets off and that is not in its line makes the tests fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.integration.sidecar import WATCHER, until
from tests.integration.stage import BURNS, CONFIG, GONE, KILLED, MAIN, WORKSPACE, Notification, Plan, Stage, stage

Fault = Callable[[Stage], Awaitable[None]]


class Alert(NamedTuple):
    """An alert by its title, with labels that it has at least."""

    title: str
    labels: Mapping[str, str]

    def is_(self, seen: Notification) -> bool:
        """Whether this is it."""
        return self.title == seen.title and self.labels.items() <= seen.labels.items()


class Scenario(NamedTuple):
    """A fault in words, what does it, and the alerts it must set off; no others."""

    fault: str
    begin: Fault
    alerts: tuple[Alert, ...]


def of(connection: str, *titles: str) -> tuple[Alert, ...]:
    """Alerts about a connection of the main sidecar."""
    return tuple(Alert(f"Syncwatch{title}", {"instance": MAIN, "connection": connection}) for title in titles)


async def absent(s: Stage) -> None:
    """The only sidecar of a job leaves Prometheus' targets."""
    s.targets(without=GONE)


async def target_down(s: Stage) -> None:
    """Killed."""
    s.sidecars[KILLED].process.kill()


async def upstream_down(s: Stage) -> None:
    """Sockets are dropped and nobody is let in."""
    s.keep(s.relays["up"].faults.outage())


async def connection_down(s: Stage) -> None:
    """The same for a server that one connection uses."""
    s.keep(s.relays["down"].faults.outage())


async def stream_unverified(s: Stage) -> None:
    """Pings are answered, and nothing else."""
    s.keep(s.relays["unverified"].faults.stalling(answer_resyncs=False))
    _post(s, "unverified", 3)


async def refused(s: Stage) -> None:
    """The token is no longer known; the next handshake meets 401."""
    s.keep(s.relays["refused"].faults.token_expired(WATCHER))
    s.relays["refused"].drop(WATCHER)


async def expired(s: Stage) -> None:
    """The certificate that the server showed ends while the socket lives."""
    await asyncio.sleep(max(0.0, s.expiry_s - time.monotonic()))


async def polling(s: Stage) -> None:
    """WebSockets are refused, the log is not."""
    s.keep(s.relays["polling"].faults.outage(protocol="relayfile"))


async def flapping(s: Stage) -> None:
    """The server lets in and drops, again and again."""

    async def drop() -> None:
        s.relays["flapping"].drop(WATCHER)
        await asyncio.sleep(s.plan.flap_s)

    s.go_on(drop)


async def lost(s: Stage) -> None:
    """More is missed than the server's buffer and database hold."""
    with s.relays["lost"].faults.outage():
        await _seen(s, "lost", lambda cast: cast["state"] == "reconnecting")
        _post(s, "lost", 300)


async def contradicted(s: Stage) -> None:
    """A replay is acknowledged as complete, and a part of it was not sent; then the server begins to count anew."""
    with s.relays["contradicted"].faults.cutting_replay(4, claim="all", times=1):
        s.relays["contradicted"].drop(WATCHER)
        _post(s, "contradicted", 5)
        await _seen(s, "contradicted", lambda cast: cast["ledger"]["resyncs"]["complete"]["contradicted"] == 1)
    s.relays["contradicted"].restart()


async def canary(s: Stage) -> None:
    """The API refuses writes."""
    s.keep(s.relays["canary"].faults.refusing_http(500))


async def service_down(s: Stage) -> None:
    """A service answers 500; how long the next probe takes is part of it."""
    s.sick.add("service")


async def watcher_dead(s: Stage) -> None:
    """The directory is deleted, after a change in it was noticed."""
    (s.folder / MAIN / "watched" / "file").write_text("text")
    await until(s.sidecars[MAIN].status, lambda seen: seen["watchers"][0]["last_event"])
    shutil.rmtree(s.folder / MAIN / "watched")


async def mirror_stuck(s: Stage) -> None:
    """One side of a mirror is deleted, after everything was brought over."""
    async with s.http.post(f"{s.sidecars[MAIN].local}/flush") as answer:
        assert answer.status == 200, await answer.text()
    shutil.rmtree(s.folder / MAIN / "mount")


async def config(s: Stage) -> None:
    """A changed configuration with a mistake in it."""
    file = s.folder / CONFIG / "syncwatch.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"services": [{"name": "config", "url": "nowhere"}]}))
    async with s.http.post(f"{s.sidecars[CONFIG].local}/-/reload") as answer:
        assert answer.status == 422, await answer.text()


async def burning(_: Stage) -> None:
    """One of so many services was unhealthy from the start."""


async def blips(s: Stage) -> None:
    """Each passes and is made good: a frozen socket, unanswered pings, frames twice, out of order, left out, not to be understood, a burst, a restart."""
    relay, files = s.relays["blip"], s.relays["blip-files"]
    with relay.faults.freezing():
        await _seen(s, "blip", lambda cast: cast["state"] != "open")
    await _seen(s, "blip", lambda cast: cast["state"] == "open")
    with relay.faults.withholding_pong():
        async with asyncio.timeout(60):
            while not (await _cast(s, "blip"))["heartbeats"]["half_open"]["send"]:
                _post(s, "blip", 1)
                await asyncio.sleep(0.1)
    await _seen(s, "blip", lambda cast: cast["state"] == "open")
    with relay.faults.duplicating(times=2), relay.faults.reordering(times=1):
        _post(s, "blip", 5)
        await asyncio.sleep(0.2)
    relay.inject(WATCHER, "not json")
    for _ in range(45):
        _post(s, "blip", 50)
        await asyncio.sleep(0.02)
    with files.faults.skipping(times=1):
        files.files.write(WORKSPACE, "/second.md", "text")
    files.files.write(WORKSPACE, "/third.md", "text")


def _post(s: Stage, name: str, messages: int) -> None:
    for number in range(messages):
        s.relays[name].post("alice", "general", f"message {number}")


async def _cast(s: Stage, name: str) -> Mapping[str, Any]:
    status = await s.sidecars[MAIN].status()
    return next(one for one in status["connections"] if one["name"] == name)


async def _seen(s: Stage, name: str, condition: Callable[[Mapping[str, Any]], object]) -> None:
    await until(lambda: _cast(s, name), condition, 90)


SCENARIOS = {
    "absent": Scenario("the only sidecar of a job is no target any more", absent, (Alert("SyncwatchAbsent", {}),)),
    "target_down": Scenario("a sidecar is killed", target_down, (Alert("SyncwatchTargetDown", {"instance": KILLED}),)),
    "upstream_down": Scenario("a server with three connections lets nobody in", upstream_down, (Alert("SyncwatchUpstreamDown", {}),)),
    "connection_down": Scenario("a server with one connection lets nobody in", connection_down, of("down", "ConnectionDown", "StreamUnverified")),
    "stream_unverified": Scenario(
        "a server answers pings and nothing else", stream_unverified, (*of("unverified", "StreamUnverified"), *of("unverified2", "StreamUnverified"))
    ),
    "credentials_refused": Scenario("a token is refused", refused, of("refused", "CredentialsRefused")),
    "credentials_expired": Scenario("the server's certificate expires on an open socket", expired, of("expired", "CredentialsExpired")),
    "polling": Scenario("WebSockets are refused, the log can be read", polling, of("polling", "PollingTooLong")),
    "flapping": Scenario("a server drops its connection again and again", flapping, of("flapping", "Flapping")),
    "events_lost": Scenario("an outage outlasts the server's buffer", lost, of("lost", "EventsLost")),
    "claim_contradicted": Scenario("a replay is claimed to be complete and is not", contradicted, of("contradicted", "ClaimContradicted", "EventsLost")),
    "canary_failing": Scenario("the API refuses writes", canary, of("canary", "CanaryFailing")),
    "service_down": Scenario(
        "a service answers 500", service_down, (Alert("SyncwatchServiceDown", {"instance": MAIN, "target_service": "service"}),)
    ),
    "watcher_dead": Scenario("a watched directory is deleted", watcher_dead, (Alert("SyncwatchWatcherDead", {"instance": MAIN, "name": "watched"}),)),
    "mirror_stuck": Scenario("one side of a mirror is deleted", mirror_stuck, (Alert("SyncwatchMirrorStuck", {"instance": MAIN, "name": "pair"}),)),
    "config": Scenario("a changed configuration has a mistake", config, (Alert("SyncwatchConfigOrState", {"instance": CONFIG}),)),
    **{
        f"burn_{window}": Scenario(
            f"one of {count} services is unhealthy from the start",
            burning,
            (
                Alert(f"SyncwatchErrorBudgetBurn {window}", {"job": f"burn-{window}", "component": "service"}),
                Alert("SyncwatchServiceDown", {"job": f"burn-{window}", "target_service": f"sick-{window}"}),
            ),
        )
        for window, count in BURNS.items()
    },
    "blips": Scenario("troubles that pass and are made good", blips, ()),
}  # fmt: skip
"""Every fault. The sidecar `quiet` meets none."""

class Played(NamedTuple):
    """What came of it: all notifications, when each fault began (monotonic), and the series that each query found."""

    began: Mapping[str, float]
    notifications: tuple[Notification, ...]
    before: tuple[Notification, ...]  # what came before the faults, without what was wrong from the start
    grouped: tuple[tuple[Notification, ...], ...]  # the same as the shipped grouping makes notifications of it
    found: Mapping[str, int]

    def first(self, alert: Alert) -> Notification | None:
        """When it first came."""
        return next((one for one in self.notifications if one.status == "firing" and alert.is_(one)), None)

    def after_s(self, scenario: str, alert: Alert) -> float | None:
        """How long after the fault it came."""
        came = self.first(alert)
        return None if came is None else came.at_s - self.began[scenario]


async def play(plan: Plan, folder: Path, queries: Mapping[str, bool], only: set[str] | None = None) -> Played:
    """Play all scenarios side by side. `queries`: expressions to be asked at the end, and whether once (True) or over the whole time."""
    chosen = {name: one for name, one in SCENARIOS.items() if only is None or name in only}
    began_wall_s = time.time()
    async with stage(plan, folder) as s:
        at_start_s = time.monotonic()
        await asyncio.sleep(plan.history_s)
        known = [alert for name in chosen if name.startswith("burn") for alert in chosen[name].alerts]
        before = tuple(one for one in s.notifications if not any(alert.is_(one) for alert in known))
        began: dict[str, float] = {}

        async def one(name: str, scenario: Scenario) -> None:
            began[name] = at_start_s if scenario.begin is burning else time.monotonic()
            await scenario.begin(s)
            if name == "credentials_expired":
                began[name] = max(began[name], s.expiry_s)

        async with asyncio.TaskGroup() as group:
            for name, scenario in chosen.items():
                group.create_task(one(name, scenario))
        wanted = [alert for scenario in chosen.values() for alert in scenario.alerts]

        async def missing() -> list[str]:
            return [alert.title for alert in wanted if not any(one.status == "firing" and alert.is_(one) for one in s.notifications)]

        with contextlib.suppress(AssertionError):  # what did not come is the record's to say
            await until(missing, lambda left: not left, plan.patience_s)
        await asyncio.sleep(plan.settling_s)  # what is too much comes late
        found = {} if not queries else await _ask(s, queries, began_wall_s)
        return Played(began, tuple(s.notifications), before, tuple(s.grouped), found)


async def _ask(s: Stage, queries: Mapping[str, bool], since_s: float) -> dict[str, int]:
    end_s = time.time()
    found: dict[str, int] = {}
    for expression, once in queries.items():
        if once:
            answer = await s.ask("query", query=expression, time=str(end_s))
        else:
            answer = await s.ask("query_range", query=expression, start=str(since_s), end=str(end_s), step="1")
        found[expression] = len(answer["result"])
    return found

