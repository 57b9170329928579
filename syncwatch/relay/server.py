"""The relay as a whole: its parts put together, its listener, its start and its end.

    async with Relay.start() as relay:
        workspace = relay.workspace("demo")
        token = relay.agent(workspace, "alice")
        relay.post("alice", "general", "hi")

Calls in process do what the HTTP interface does, without HTTP. The relay prints nothing and reads no configuration.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import quote, urlencode

from aiohttp import web

from syncwatch.relay import api, control, doors, effects, kinds, ws
from syncwatch.relay.call import failure
from syncwatch.relay.clock import ServerClock
from syncwatch.relay.directory import ApiError, Directory
from syncwatch.relay.faults import Faults
from syncwatch.relay.framing import TEXT
from syncwatch.relay.inprocess import InProcess
from syncwatch.relay.ledger import DEFAULT_CAP, Ledger
from syncwatch.relay.listener import Listener
from syncwatch.relay.observer import api as observer_api
from syncwatch.relay.observer.log import EventLog
from syncwatch.relay.observer.tokens import Observers
from syncwatch.relay.outbound import Outbound
from syncwatch.relay.posting import Posting
from syncwatch.relay.relayfile import api as files_api
from syncwatch.relay.relayfile.kept import Kept
from syncwatch.relay.relayfile.service import Files
from syncwatch.relay.script import Script
from syncwatch.relay.state import Hub
from syncwatch.relay.store import DatabaseError, Store
from syncwatch.relay.tps import door as branch_door
from syncwatch.relay.tps.branch import Branch
from syncwatch.relay.tps.identity import IdentityDirectory
from syncwatch.relay.tps.tcp import TcpDoor

Generation = Literal["ring", "observer"]
"""Which Relaycast server it is: `ring` lets agents in at `/v1/ws`, `observer` observers alone (wire: relaycast §0)."""

SWEEP_S = 60.0
STOP_S = 0.25
"""How long the end of the relay waits for clients to read what is left for them."""
MAX_BODY = 256 * 1024 * 1024
"""Message text has no maximum on the real server; something has to bound a request."""


class Relay(InProcess):
    """A running server. Made by `start` or `serve`."""

    def __init__(
        self,
        *,
        database: str,
        clock: Callable[[], float],
        ledger_cap: int,
        workspace_stream: bool,
        control_api: bool,
        seed: int,
        generation: Generation,
        branch_seed: bytes | None,
        branch_identity: IdentityDirectory | None,
    ) -> None:
        self.clock = ServerClock(clock)
        self.ledger = Ledger(clock, ledger_cap)
        self.faults = Faults(self.ledger, seed)
        self.hub = Hub(self.ledger, self.clock)
        self.store = Store(database, lambda: self.faults.find(kinds.DatabaseFailing) is not None)
        self.directory = Directory(self.store, self.hub, self.clock)
        self.posting = Posting(self.directory)
        self.generation = generation
        self.observers = Observers(self.directory)
        self.events = EventLog(self.store, self.ledger, self.clock, self.faults)
        """The workspaces' durable logs, written in the generation `observer`."""
        if generation == "observer":
            self.hub.observe = self.events.publish
        self.workspace_stream = workspace_stream
        """Whether workspace keys may open a socket."""
        self.files = Files(self.ledger, self.clock, self.faults, Kept(self.store) if self.store.durable else None)
        """The Relayfile side."""
        kept = branch_identity
        self.branch = Branch(branch_seed or (os.urandom(32) if kept is None else kept.seed), self.ledger, self.clock, self.faults, kept=kept)
        """The TPS side: one branch."""
        self.connections: dict[int, Outbound] = {}
        self.in_flight: set[tuple[str, str]] = set()
        """Idempotency keys whose first request is not answered yet."""
        self.stopping = False
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._scripts: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY)
        app.on_response_prepare.append(self._dress)
        app.router.add_get("/v1/ws", self._websocket)
        api.add_routes(app, self)
        if generation == "observer":
            observer_api.add_routes(app, self)
        if control_api:
            control.add_routes(app, self)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        self._listener = Listener()
        self._branch_listener: Listener | None = None
        self.faults.on_begin = lambda fault: effects.begun(self, fault)
        self.faults.on_change = lambda: effects.changed(self)

    @classmethod
    @asynccontextmanager
    async def start(cls, host: str = "127.0.0.1", port: int = 0, **options: Any) -> AsyncIterator[Relay]:
        """A relay for the length of a block; options are those of `serve`."""
        relay = await serve(host, port, **options)
        try:
            yield relay
        finally:
            await relay.stop()

    # Addresses and pictures

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        host, port = self._listener.host, self._listener.port
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._listener.port

    def ws_url(self, token: str) -> str:
        """Where a client with this token connects."""
        return f"{self.url.replace('http', 'ws', 1)}/v1/ws?token={token}&origin_client=test&origin_version=0"

    def files_ws_url(
        self, workspace: str, token: str, *, cursor: str = "", from_now: bool = False, paths: Iterable[str] = ()
    ) -> str:
        """Where a Relayfile client connects, with what it asks for."""
        asked = [("token", token), ("cursor", cursor), ("from", "now" if from_now else "")]
        told = urlencode([*((name, text) for name, text in asked if text), *(("path", path) for path in paths)])
        return f"{self.url.replace('http', 'ws', 1)}/v1/workspaces/{quote(workspace)}/fs/ws?{told}"

    @property
    def branch_url(self) -> str:
        """Where a TPS host connects."""
        return f"{self.url.replace('http', 'ws', 1)}{branch_door.PATH}"

    def summary(self) -> dict[str, Any]:
        """Totals per agent and per Relayfile workspace, to be shown beside what a client counted."""
        agents = []
        for agent in self.hub.agents():
            tally = self.ledger.tally(agent.label)
            agents.append(
                {
                    "agent": agent.label,
                    "epoch": self.hub.epoch,
                    "counter": agent.counter,
                    "ring": len(agent.ring),
                    "sockets": len(agent.sinks),
                    "pushed": tally.pushed,
                    "sent": {"live": tally.live, "ring": tally.ring, "store": tally.store},
                }
            )
        return {
            "epoch": self.hub.epoch,
            "connections": len(self.connections),
            "facts": self.ledger.last,
            "forgotten": self.ledger.forgotten,
            "clock_offset_s": self.clock.offset_s,
            "listening": self.listening,
            "agents": agents,
            "workspaces": self.files.summary(),
        }

    # In process: what happens to connections

    def connections_of(self, agent: str | None, protocol: kinds.ProtocolName | None = None) -> list[Outbound]:
        """The open connections of a stream (None: all), of a protocol (None: any)."""
        return [
            connection
            for connection in list(self.connections.values())
            if connection.open and agent in (None, connection.label) and protocol in (None, connection.protocol)
        ]

    def inject(self, agent: str, payload: bytes | str, opcode: int = TEXT) -> int:
        """Send a raw frame to an agent's sockets, as it is; returns to how many."""
        found = self.connections_of(agent)
        for connection in found:
            connection.inject(payload.encode() if isinstance(payload, str) else payload, opcode)
        return len(found)

    def drop(self, agent: str | None = None) -> None:
        """Drop sockets: flushed, without a close frame."""
        self.faults.begin(kinds.Drop(agent=agent))

    def reset(self, agent: str | None = None) -> None:
        """Reset sockets with RST."""
        self.faults.begin(kinds.Reset(agent=agent))

    def oversize(self, agent: str, size_bytes: int) -> None:
        """Push an event of this size to an agent, with a number of its own."""
        self.faults.begin(kinds.Oversize(agent=agent, size_bytes=size_bytes))

    def close_sockets(self, agent: str | None, code: int, reason: str = "") -> None:
        """Close sockets with a code."""
        for connection in self.connections_of(agent):
            connection.close(code, reason)

    def restart(self, down_s: float = 0.0, *, durable: bool = False) -> None:
        """Forget counters, rings and presence; drop all sockets; with `down_s`, refuse every connection for that long.

        Relayfile's log is forgotten too, unless it is `durable`.
        """
        self.hub.restart()
        self.events.restart()
        self.files.restart(durable=durable)
        for connection in self.connections_of(None):
            connection.drop()
        if down_s > 0 and self.listening:
            for listener in self._listeners():
                listener.close()
                self._spawn(listener.come_back(down_s), self._tasks)

    @property
    def listening(self) -> bool:
        """False while a restart keeps the listener down."""
        return self._listener.up.is_set()

    async def up(self) -> None:
        """Wait until the listener is there again."""
        await self._listener.up.wait()

    # Scripts

    def play(self, script: Script) -> asyncio.Task[None]:
        """Play a script of faults; ended by `end_scripts`, or with the relay."""
        return self._spawn(self._play(script), self._scripts)

    def end_scripts(self) -> None:
        """Stop playing; faults that a script began and that have a `for_s` still end in time."""
        for task in self._scripts:
            task.cancel()

    async def _play(self, script: Script) -> None:
        start_s = asyncio.get_running_loop().time()
        for cue in script.cues():
            await asyncio.sleep(start_s + cue.at_s - asyncio.get_running_loop().time())
            self.faults.begin(cue.fault, cue.for_s)

    # Life

    async def open(self, host: str, port: int) -> None:
        """Start listening. Port 0 takes a free one.

        Raises:
            OSError: the address cannot be had; nothing is left open then.
        """
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the application is not set up")
        try:
            await self._listener.open(server, host, port)
        except OSError:
            await self.stop()
            raise
        self._sweep()

    async def open_branch_tcp(self, port: int = 0) -> int:
        """Let TPS hosts in over TCP as well; the port is returned.

        Raises:
            OSError: the address cannot be had.
        """
        listener = Listener()
        await listener.open(lambda: TcpDoor(self), self._listener.host, port)
        self._branch_listener = listener
        return listener.port

    async def stop(self) -> None:
        """Stop everything; returns when nothing is left running. A second call does nothing."""
        if self.stopping:
            return
        self.stopping = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for listener in self._listeners():
            listener.close()
        for task in (*self._tasks, *self._scripts):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._scripts, return_exceptions=True)
        self.faults.end_all()
        connections = list(self.connections.values())
        for connection in connections:
            connection.stop()
        for _ in range(25):
            if any(connection.unflushed for connection in connections):
                await asyncio.sleep(STOP_S / 25)
        for connection in connections:
            connection.abort()
        await self._runner.cleanup()
        self.store.close()

    def take_in(self, transport: asyncio.Transport, make: Callable[[int, asyncio.Transport], doors.C]) -> doors.C:
        """Take a socket in after its handshake."""
        self._count += 1
        connection = make(self._count, transport)
        self.connections[connection.id] = connection
        return connection

    def disconnect(self, connection: Outbound) -> None:
        """Forget a socket that is gone."""
        self.connections.pop(connection.id, None)

    def _listeners(self) -> list[Listener]:
        return [self._listener] if self._branch_listener is None else [self._listener, self._branch_listener]

    def _sweep(self) -> None:
        self.hub.sweep()
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _spawn(self, work: Any, group: set[asyncio.Task[None]]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        group.add(task)
        task.add_done_callback(group.discard)
        return task

    # Requests

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if "upgrade" not in request.headers:
            return failure(404, "not_found", "Not found")
        return await ws.upgrade(self, request)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """What is the same for every request."""
        if not self.listening:
            return doors.cut_off(request)  # a kept-alive connection does not outlive its server
        if files_api.owns(request.path):
            return await files_api.answer(self, request)
        if request.path == branch_door.PATH:
            return await branch_door.answer(self, request)
        if "upgrade" in request.headers and request.path != "/v1/ws":
            return ws.refuse(self, 426, "any other path")
        try:
            answer: web.StreamResponse = await handler(request)
        except ApiError as refusal:
            return failure(refusal.status, refusal.code, refusal.message)
        except DatabaseError as problem:
            return failure(500, "internal_error", str(problem))
        except web.HTTPException as problem:
            if problem.status < 400:
                raise
            return failure(problem.status, "not_found" if problem.status == 404 else "invalid_request", problem.reason)
        return answer

    async def _dress(self, request: web.Request, response: web.StreamResponse) -> None:
        """The real server names no software, and its date is its own clock's."""
        response.headers.pop("Server", None)
        if response.status == 101 or ("upgrade" in request.headers and not files_api.owns(request.path)):
            response.headers.pop("Date", None)
            response.headers.pop("Content-Type", None)
        else:
            response.headers["Date"] = self.clock.http_date()


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    database: str = ":memory:",
    clock: Callable[[], float] = time.time,
    ledger_cap: int = DEFAULT_CAP,
    workspace_stream: bool = False,
    control_api: bool = True,
    seed: int = 0,
    generation: Generation = "ring",
    branch_seed: bytes | None = None,
    branch_identity: IdentityDirectory | None = None,
) -> Relay:
    """Start a relay; the caller stops it with `await relay.stop()`.

    `clock` gives true wall seconds; `database` is a path (then Relayfile is durable too) or `:memory:`; `ledger_cap` is how many facts are kept; `seed`
    is for faults that draw; `branch_seed` makes the keys of the TPS branch (None: new ones); `branch_identity` is a directory that keeps them, and the host
    that has joined.

    Raises:
        OSError: the address cannot be had.
        sqlite3.OperationalError: the database cannot be opened.
    """
    relay = Relay(
        database=database,
        clock=clock,
        ledger_cap=ledger_cap,
        workspace_stream=workspace_stream,
        control_api=control_api,
        seed=seed,
        generation=generation,
        branch_seed=branch_seed,
        branch_identity=branch_identity,
    )
    await relay.open(host, port)
    return relay
