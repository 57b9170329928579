"""The relay's own interface at `/_relay/`: read the ledger, read the totals, begin and end faults. The real server has none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from syncwatch.relay import kinds
from syncwatch.relay.injector import Active
from syncwatch.relay.script import ScriptError, load

if TYPE_CHECKING:
    from syncwatch.relay.server import Relay

PAGE = 1000
MAX_PAGE = 20_000


class Lasting(msgspec.Struct):
    """How long a fault that is begun over HTTP shall hold."""

    for_s: kinds.Seconds | None = None


def add_routes(app: web.Application, relay: Relay) -> None:
    """Put the interface into an application."""
    control = Control(relay)
    app.router.add_get("/_relay/ledger", control.ledger)
    app.router.add_get("/_relay/summary", control.summary)
    app.router.add_get("/_relay/faults", control.list_faults)
    app.router.add_post("/_relay/faults", control.begin_fault)
    app.router.add_delete("/_relay/faults", control.end_faults)
    app.router.add_delete("/_relay/faults/{id:[0-9]+}", control.end_fault)
    app.router.add_post("/_relay/script", control.play)


class Control:
    """The handlers."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def ledger(self, request: web.Request) -> web.Response:
        """Facts after a place (`?after=`), oldest first, at most `?limit=` of them; `next` is where to go on."""
        try:
            after = int(request.query.get("after", "0"))
            limit = min(max(int(request.query.get("limit", PAGE)), 1), MAX_PAGE)
        except ValueError:
            return _json(400, {"error": "after and limit are whole numbers"})
        ledger = self._relay.ledger
        facts = ledger.after(max(after, 0), limit)
        told = {
            "facts": facts,
            "next": facts[-1].at if facts else max(after, 0),
            "last": ledger.last,
            "forgotten": ledger.forgotten,
        }
        return _json(200, told)

    async def summary(self, request: web.Request) -> web.Response:
        """Totals per agent."""
        return _json(200, self._relay.summary())

    async def list_faults(self, request: web.Request) -> web.Response:
        """Faults that hold, and the last ones that held."""
        faults = self._relay.faults
        return _json(
            200,
            {
                "active": [_told(fault) for fault in faults.active.values()],
                "ended": [_told(fault) for fault in faults.ended],
            },
        )

    async def begin_fault(self, request: web.Request) -> web.Response:
        """Begin a fault: `{"fault":"refuse","status":503,"for_s":5}`."""
        raw = await request.read()
        try:
            for_s = msgspec.json.decode(raw, type=Lasting).for_s
            fields = {
                name: value for name, value in msgspec.json.decode(raw, type=dict[str, Any]).items() if name != "for_s"
            }
            spec = msgspec.convert(fields, kinds.AnyFault)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            return _json(400, {"error": str(problem)})
        return _json(201, _told(self._relay.faults.begin(spec, None if kinds.is_momentary(spec) else for_s)))

    async def end_fault(self, request: web.Request) -> web.Response:
        """End one fault."""
        fault = self._relay.faults.active.get(int(request.match_info["id"]))
        if fault is None:
            return _json(404, {"error": "no such fault holds"})
        self._relay.faults.end(fault)
        return _json(200, _told(fault))

    async def end_faults(self, request: web.Request) -> web.Response:
        """End all faults and scripts."""
        self._relay.end_scripts()
        self._relay.faults.end_all()
        return _json(200, {"active": []})

    async def play(self, request: web.Request) -> web.Response:
        """Start a YAML script of faults."""
        try:
            script = load((await request.read()).decode(), "body")
        except (ScriptError, UnicodeDecodeError) as problem:
            return _json(400, {"error": str(problem)})
        self._relay.play(script)
        return _json(202, {"steps": len(script.steps)})


def _told(fault: Active[Any]) -> dict[str, Any]:
    spec = msgspec.to_builtins(fault.spec)
    return {"id": fault.id, **spec, "fired": fault.fired, "over": fault.over}


def _json(status: int, told: Any) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(told), content_type="application/json")
