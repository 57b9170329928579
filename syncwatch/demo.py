"""The demo: an embedded relay, a sidecar that watches it, a few talking agents, and a repeating script of trouble.

After each trouble it says in plain words what was done, what the relay's ledger of facts holds, and what syncwatch counted. The two columns
are computed apart: the left one from the relay's facts alone, the right one from the sidecar's snapshots. A row that differs is marked and, with
`cycles`, makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from syncwatch.app import AddressInUse, App
from syncwatch.config import Address, Config, parse
from syncwatch.core.health import ADVICE, Reason
from syncwatch.core.snapshot import ConnectionSnapshot
from syncwatch.core.states import AttemptFailure, Disconnect, Origin, State, Verification
from syncwatch.relay.ledger import Fact, Opened, Pushed, Sent
from syncwatch.relay.server import serve

AGENT = "syncwatch"
RELAY_HOST = "127.0.0.1"
SETTLE_S = 30.0
MISSED_MESSAGES = 300  # each is two events for the watched agent: delivery.accepted and message.created

CONFIG = """
listen: {listen}
local_listen: {local_listen}
state_dir: {state_dir}
connections:
  - name: cast
    protocol: relaycast
    url: {url}
    token_file: {token_file}
    heartbeat: {{interval: 2s, timeout: 2s}}
    reconnect: {{min: 250ms, max: 2s, stable_after: 3s}}
    resync: {{spread: 500ms}}
    verify: {{interval: 5s, grace: 1s}}
health: {{degraded_after: 1s, recovered_after: 2s, incident_hold: 20s}}
"""


class Counts(msgspec.Struct, frozen=True):
    """What either side says about the events of the watched agent."""

    live: int
    ring: int
    store: int
    recovered: int
    gone: int
    replayed: int
    resets: int
    connections: int

    def minus(self, other: Counts) -> Counts:
        """The difference, field by field."""
        return Counts(*(a - b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)))


ROWS = {
    "live": "events that arrived live",
    "ring": "events brought by the server's buffer",
    "store": "events brought by its database",
    "recovered": "numbers missed and recovered",
    "gone": "numbers that never came",
    "replayed": "replayed frames, repeats included",
    "resets": "counter restarts",
    "connections": "connections opened",
}


class Truth:
    """The left column: folds the relay's facts about one agent. It knows nothing of the sidecar."""

    def __init__(self) -> None:
        self._live = self._ring = self._store = self._recovered = self._replayed = self._opened = 0
        self._keys: set[str] = set()
        self._numbers: set[tuple[int, int]] = set()
        self._pushed: set[tuple[int, int]] = set()
        self._epochs: set[int] = set()
        self._first: tuple[int, int] | None = None
        self._tips: dict[int, list[int]] = {}

    def fold(self, facts: list[Fact]) -> None:
        """Take in new facts, in order."""
        for fact in facts:
            if isinstance(fact, Sent) and fact.agent == AGENT:
                self._sent(fact)
            elif isinstance(fact, Pushed) and fact.agent == AGENT:
                self._epochs.add(fact.epoch)
                self._pushed.add((fact.epoch, fact.number))
            elif isinstance(fact, Opened) and fact.agent == AGENT:
                self._opened += 1

    def _sent(self, fact: Sent) -> None:
        first = fact.key not in self._keys
        self._keys.add(fact.key)
        self._live += first and fact.origin == "live"
        self._ring += first and fact.origin == "ring"
        self._store += first and fact.origin == "store"
        self._replayed += fact.origin != "live"
        if fact.number is None:
            return
        place = (fact.epoch, fact.number)
        if self._first is None:
            self._first = place
        self._recovered += fact.origin == "ring" and place not in self._numbers
        self._numbers.add(place)

    def counts(self) -> Counts:
        """What happened so far."""
        gone = sum(place > self._first and place not in self._numbers for place in self._pushed) if self._first else 0
        return Counts(
            live=self._live,
            ring=self._ring,
            store=self._store,
            recovered=self._recovered,
            gone=gone,
            replayed=self._replayed,
            resets=max(0, len(self._epochs) - 1),
            connections=self._opened,
        )


def counted(connection: ConnectionSnapshot) -> Counts:
    """The right column: what the sidecar exports."""
    ledger = connection.continuity
    assert ledger is not None  # the dialect numbers its events
    return Counts(
        live=ledger.events_received[Origin.LIVE],
        ring=ledger.events_received[Origin.RING],
        store=ledger.events_received[Origin.STORE],
        recovered=ledger.recovered,
        gone=ledger.lost + ledger.unaccounted,
        replayed=ledger.replayed,
        resets=ledger.resets,
        connections=connection.handshake.cumulative[-1],
    )


class Unfinished(Exception):  # noqa: N818  a sentence for people
    """Something that the story waits for did not happen in time."""


class Demo:
    """One run of the demo."""

    def __init__(self, say: Callable[[str], None], cycles: int | None, relay_port: int, listen: str, local_listen: str) -> None:
        self._say = say
        self._cycles = cycles
        self._relay_port = relay_port
        self._listen = listen
        self._local_listen = local_listen
        self._truth = Truth()
        self._folded = 0
        self._quiet = False
        self._differences = 0

    async def run(self, stop: asyncio.Event) -> int:
        """Run until `stop` or for the asked cycles; returns the exit code.

        Raises: ConfigError for an address that is none, AddressInUse for one that cannot be had, Unfinished.
        """
        with tempfile.TemporaryDirectory(prefix="syncwatch-demo-") as folder:
            try:
                self._relay = await serve(RELAY_HOST, self._relay_port)
            except OSError as error:
                raise AddressInUse("relay_port", Address(RELAY_HOST, self._relay_port), error) from error
            try:
                return await self._watched(Path(folder), stop)
            finally:
                await self._relay.stop()

    async def _watched(self, folder: Path, stop: asyncio.Event) -> int:
        """The sidecar beside the running relay."""
        workspace = self._relay.workspace("demo")
        token_file = folder / "token"
        token_file.write_text(self._relay.agent(workspace, AGENT))
        for name in ("alice", "bob"):
            self._relay.agent(workspace, name)
        self._app = App(self._config(folder, token_file))
        await self._app.start()
        try:
            return await self._until(stop)
        finally:
            await self._app.stop()

    def _config(self, folder: Path, token_file: Path) -> Config:
        text = CONFIG.format(
            listen=self._listen,
            local_listen=self._local_listen,
            state_dir=folder / "state",
            url=self._relay.url,
            token_file=token_file,
        )
        return parse(text, "demo", {})

    async def _until(self, stop: asyncio.Event) -> int:
        """The story, ended early by `stop`."""
        story = asyncio.create_task(self._story())
        talk = asyncio.create_task(self._talk())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({story, talk, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (story, talk, stopped):
                task.cancel()
            results = await asyncio.gather(story, talk, stopped, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        self._say("\nThe demo is over: the connection was closed with 1000, the relay is stopped.")
        return 1 if self._cycles is not None and self._differences else 0

    # ------------------------------------------------------------------ the story

    async def _story(self) -> None:
        self._welcome()
        await self._wait("connected", lambda c: c.timeline.state is State.OPEN and c.heartbeat.acknowledged > 0)
        before = await self._still()
        self._say(f"\nConnected in {self._connection.last_handshake_s.get('upgrade', 0.0) * 1000:.0f} ms; alice and bob talk.")
        steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            ("A drop: the TCP connection ends without a close frame, and five messages are missed.", self._drop),
            (f"An outage: upgrades are refused with 503 while {2 * MISSED_MESSAGES} events are missed; the buffer holds 500.", self._outage),
            ("Half-open: the connection stands and nothing passes in either direction.", self._half_open),
            ("A restart: the server's counters begin again at 1, its messages survive in the database.", self._restart),
            ("A silent server: pings are answered, nothing is pushed any more.", self._silent),
        )
        cycle = 0
        while self._cycles is None or cycle < self._cycles:
            cycle += 1
            for title, trouble in steps:
                await asyncio.sleep(1.5)
                self._say(f"\n— {title}")
                await trouble()
                before = await self._compare(before)

    def _welcome(self) -> None:
        public, local = self._app.addresses["listen"], self._app.addresses["local_listen"]
        self._say(
            "syncwatch demo: an embedded relay, a sidecar that watches it, and a little trouble. Ctrl-C ends it.\n"
            f"  status page   http://{local}/\n"
            f"  status        syncwatch status --url http://{local}\n"
            f"  gate          http://{local}/gate\n"
            f"  metrics       http://{public}/metrics\n"
            f"  probes        http://{public}/healthz?verbose  http://{public}/readyz?verbose\n"
            f"  relay's facts {self._relay.url}/_relay/summary  {self._relay.url}/_relay/ledger"
        )

    async def _talk(self) -> None:
        """alice and bob, about two messages a second."""
        number = 0
        while True:
            await asyncio.sleep(0.5)
            if not self._quiet:
                number += 1
                self._relay.post("alice" if number % 2 else "bob", "general", f"message {number}")

    async def _drop(self) -> None:
        with self._hushed():
            self._relay.drop(AGENT)
            self._post(5)
        await self._wait("dropped", lambda c: c.timeline.state is not State.OPEN)

    async def _outage(self) -> None:
        refused = self._connection.attempt_failures[AttemptFailure.REJECTED]
        with self._hushed(), self._relay.faults.outage(status=503):
            self._post(MISSED_MESSAGES)
            await self._wait("refused", lambda c: c.attempt_failures[AttemptFailure.REJECTED] > refused)
            self._tell_health()
        self._say("  Rows of the database carry no numbers: as many numbers as rows may be them and count as unaccounted, the rest is lost.")

    async def _half_open(self) -> None:
        lost = self._connection.disconnects[Disconnect.HEARTBEAT_TIMEOUT]
        began = self._app.clock.monotonic()
        with self._relay.faults.freezing("both", agent=AGENT):
            await self._wait("found half-open", lambda c: c.disconnects[Disconnect.HEARTBEAT_TIMEOUT] > lost)
            self._relay.reset(AGENT)  # the dead path ends for the server too: what waited for it was never sent
        took_s = self._app.clock.monotonic() - began
        self._say(f"  Found after {took_s:.1f} s: pings go out every 2 s and must be answered within 2 s.")
        self._tell_health()

    async def _restart(self) -> None:
        resets = self._ledger_resets()
        self._relay.restart(down_s=0.5)
        await self._wait("restarted", lambda c: c.continuity is not None and c.continuity.resets > resets)
        self._say("  Nothing on the wire announces it; the first number that is another event proves it.")

    async def _silent(self) -> None:
        seen = self._connection.verifications[Verification.BEHIND]
        with self._relay.faults.stalling(agent=AGENT):
            await self._wait("found behind", lambda c: c.verifications[Verification.BEHIND] > seen)
            heartbeat = self._connection.heartbeat
            self._say(f"  All the while pings were answered ({heartbeat.acknowledged} of {heartbeat.sent}); only asking for the newest number told.")
            self._tell_health()
        await self._wait("caught up", lambda c: Reason.BEHIND not in self._reasons())

    # ------------------------------------------------------------------ telling

    @property
    def _connection(self) -> ConnectionSnapshot:
        return self._app.snapshot().connections[0]

    def _reasons(self) -> list[Reason]:
        return [held.reason for held in self._app.snapshot().health.held if held.name == "cast"]

    def _ledger_resets(self) -> int:
        ledger = self._connection.continuity
        return 0 if ledger is None else ledger.resets

    def _tell_health(self) -> None:
        snapshot = self._app.snapshot()
        gate = {check.name: "open" if check.ok else "closed" for check in snapshot.health.checks["gate"]}
        live = "200" if all(check.ok for check in snapshot.health.checks["livez"]) else "503"
        reasons = self._reasons()
        self._say(f"  Meanwhile: state {snapshot.connections[0].timeline.state}, reasons {', '.join(reasons) or 'none'}; gate {gate['read']}; /healthz {live}.")
        if reasons:
            self._say(f"  Advice: {ADVICE[reasons[0]]}.")

    async def _compare(self, before: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
        """Wait until all is still, then both columns side by side."""
        after = await self._still()
        truth, ours = after[0].minus(before[0]), after[1].minus(before[1])
        self._say(f"  {'':40}{'relay':>8}{'syncwatch':>11}")
        for field, words in ROWS.items():
            left, right = getattr(truth, field), getattr(ours, field)
            if left or right:
                mark = "" if left == right else "  ← differs"
                self._differences += left != right
                self._say(f"  {words:40}{left:>8}{right:>11}{mark}")
        return after

    async def _still(self) -> tuple[Counts, Counts]:
        """Stop the talk, wait until the sidecar has everything, read both sides at one moment."""
        with self._hushed():
            await self._wait("caught up", self._has_everything)
            facts = self._relay.ledger.after(self._folded)
            self._truth.fold(facts)
            self._folded = self._relay.ledger.last
            return self._truth.counts(), counted(self._connection)

    def _has_everything(self, connection: ConnectionSnapshot) -> bool:
        ledger = connection.continuity
        caught_up = ledger is not None and ledger.cursor == self._relay.find(AGENT).counter and not ledger.undecided
        return caught_up and connection.timeline.state is State.OPEN

    async def _wait(self, what: str, done: Callable[[ConnectionSnapshot], bool]) -> None:
        """Wait for something to be seen by the sidecar. Raises: Unfinished when it never is."""
        for _ in range(int(SETTLE_S / 0.05)):
            if done(self._connection):
                return
            await asyncio.sleep(0.05)
        raise Unfinished(f"the sidecar did not become {what} within {SETTLE_S:g} s: {self._connection.last_failure}")

    def _post(self, messages: int) -> None:
        for number in range(messages):
            self._relay.post("alice", "general", f"while you were away {number}")

    @contextmanager
    def _hushed(self) -> Iterator[None]:
        """alice and bob are silent."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before
