"""The faults that exist, as data: what each is called, what it can be told, what it means.

Each fault is a typed record, so that HTTP requests, YAML scripts and Python calls are checked by one definition. What a
fault does is elsewhere: connections, replays and the HTTP interface ask the injector whether one holds.

Common fields: `agent` limits a fault to one stream by its label in the ledger (an agent's name; an observer token's; for
Relayfile the workspace; for TPS the branch), `protocol` to one protocol; None means all. `times` ends a fault after it has fired that often,
None means never. Durations are seconds (`_s`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Status = Annotated[int, Meta(ge=400, le=599)]
Times = Annotated[int, Meta(ge=1)] | None
Number = Annotated[int, Meta(ge=1)]
ProtocolName = Literal["relaycast", "relayfile", "tps"]
Route = Literal["feed", "file", "bulk", "sync", "ops", "ingest", "admin", "health", "api"]
"""Kinds of HTTP requests: `feed` is Relayfile's `fs/events` and an observer's backfill, `api` is what has no name of its own."""


class FaultSpec(msgspec.Struct, tag_field="fault", frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fault. `times` counts firings."""

    agent: str | None = None
    protocol: ProtocolName | None = None
    times: Times = None


# Upgrades


class Refuse(FaultSpec, tag="refuse", frozen=True, kw_only=True):
    """Answer upgrades with a status: Relaycast's bare, Relayfile's with its JSON body, in which `message` is told."""

    status: Status = 503
    retry_after_s: Seconds | None = None
    message: Annotated[str, Meta(max_length=200)] = ""


class Hang(FaultSpec, tag="hang", frozen=True, kw_only=True):
    """Accept the connection and the upgrade request, never answer; hanging ones are cut off when the fault ends."""


class AcceptOnly(FaultSpec, tag="accept_only", frozen=True, kw_only=True):
    """Complete the handshake, then send nothing on that connection, ever."""


class Outage(FaultSpec, tag="outage", frozen=True, kw_only=True):
    """Drop the sockets and let nobody back in, while HTTP goes on accepting messages.

    `mode` `refuse` answers upgrades with `status`; `close` closes them without an answer.
    """

    mode: Literal["refuse", "close"] = "refuse"
    status: Status = 503
    retry_after_s: Seconds | None = None


class TokenExpiry(FaultSpec, tag="token_expiry", frozen=True, kw_only=True):
    """The stream's token is no longer known: upgrades and HTTP get 401; open sockets stay open."""


class KeysDown(FaultSpec, tag="keys_down", frozen=True, kw_only=True):
    """Relayfile's key server does not answer and no key is remembered: 503 for every token; open sockets stay open."""


# Ends of connections: at once without a condition, else when a connection has just sent the frame numbered `seq`, or
# its `frames`th from now on


class Drop(FaultSpec, tag="drop", frozen=True, kw_only=True):
    """Flush, then end the stream without a close frame: what the ledger calls sent has been sent."""

    times: Times = 1
    seq: Number | None = None
    frames: Number | None = None


class Reset(FaultSpec, tag="reset", frozen=True, kw_only=True):
    """End with RST: the tail of what was sent may or may not have arrived."""

    times: Times = 1
    seq: Number | None = None
    frames: Number | None = None


class Close(FaultSpec, tag="close", frozen=True, kw_only=True):
    """Close with a code and a reason."""

    times: Times = 1
    seq: Number | None = None
    frames: Number | None = None
    code: Annotated[int, Meta(ge=1000, le=4999)] = 1001
    reason: Annotated[str, Meta(max_length=120)] = ""


# Open connections


class Freeze(FaultSpec, tag="freeze", frozen=True, kw_only=True):
    """Half-open: `to_client` stops writing (frames queue in order, flushed at the thaw), `from_client` stops reading."""

    direction: Literal["to_client", "from_client", "both"] = "both"


class Delay(FaultSpec, tag="delay", frozen=True, kw_only=True):
    """Hold every frame back for `delay_s`, plus up to `jitter_s` more; order is kept."""

    delay_s: Seconds
    jitter_s: Seconds = 0.0


class LiveFault(FaultSpec, frozen=True, kw_only=True):
    """Picks live frames: the one numbered `seq`, or of a `kind`, or each `every`th; all conditions together."""

    seq: Number | None = None
    kind: str | None = None
    every: Number | None = None


class Skip(LiveFault, tag="skip", frozen=True, kw_only=True):
    """Do not send a live frame; the ring has it."""


class Duplicate(LiveFault, tag="duplicate", frozen=True, kw_only=True):
    """Send a live frame twice."""


class Reorder(LiveFault, tag="reorder", frozen=True, kw_only=True):
    """Send a live frame after the next live one."""


class Stall(FaultSpec, tag="stall", frozen=True, kw_only=True):
    """Stop pushing: live frames are swallowed while the ring fills. Pings are answered, resyncs only if `answer_resyncs`."""

    answer_resyncs: bool = True


class NoPong(FaultSpec, tag="no_pong", frozen=True, kw_only=True):
    """Do not answer pings. `level`: application frames, WebSocket frames, or both."""

    level: Literal["application", "websocket", "both"] = "both"


class SlowPong(FaultSpec, tag="slow_pong", frozen=True, kw_only=True):
    """Answer application pings late."""

    delay_s: Seconds


class WrongEcho(FaultSpec, tag="wrong_echo", frozen=True, kw_only=True):
    """A branch answers a heartbeat with another number, `offset` away."""

    offset: Annotated[int, Meta(ge=-1000, le=1000)] = 1


class WrongKey(FaultSpec, tag="wrong_key", frozen=True, kw_only=True):
    """A branch knows another host: it closes with 1008 after the first handshake message."""


class SkipNonce(FaultSpec, tag="skip_nonce", frozen=True, kw_only=True):
    """A branch leaves out a nonce before its next frame, which nobody can open then."""

    times: Times = 1


# Replays


class CutReplay(FaultSpec, tag="cut_replay", frozen=True, kw_only=True):
    """Stop a replay after `after` frames; `then` acknowledge (claiming all, or only what was `sent`), say nothing, or drop.

    Relayfile's catch-up has no acknowledgement: it just ends early, or the stream is dropped.
    """

    after: Annotated[int, Meta(ge=0)]
    then: Literal["ack", "no_ack", "drop"] = "ack"
    claim: Literal["all", "sent"] = "all"


class NoAck(FaultSpec, tag="no_ack", frozen=True, kw_only=True):
    """Replay, but do not acknowledge."""


class EarlyAck(FaultSpec, tag="early_ack", frozen=True, kw_only=True):
    """Acknowledge before the replayed frames."""


class WrongAck(FaultSpec, tag="wrong_ack", frozen=True, kw_only=True):
    """Acknowledge with other `fields` (null removes one)."""

    fields: dict[str, Any]


class LogFailing(FaultSpec, tag="log_failing", frozen=True, kw_only=True):
    """A workspace's event log cannot be written: observers' frames carry no `seq`, and no backfill has them."""


class SlowDatabase(FaultSpec, tag="slow_database", frozen=True, kw_only=True):
    """Wait between the ring's part of a replay and the database's: live events slip in between."""

    delay_s: Seconds


class DatabaseFailing(FaultSpec, tag="database_failing", frozen=True, kw_only=True):
    """Replays yield no rows and say nothing; HTTP answers 500; upgrades too, if `upgrades`. Relayfile closes with 1011."""

    upgrades: bool = False


# Frames of its own


class Inject(FaultSpec, tag="inject", frozen=True, kw_only=True):
    """Send one raw frame to the agents' sockets: `text`, or bytes as `hex`. Nothing is numbered or remembered.

    `sealed`: a TPS branch encrypts it first, so that it is opened and found to be what it is; whatever speaks no TPS gets nothing.
    """

    text: str | None = None
    hex: Annotated[str, Meta(pattern="^([0-9a-fA-F]{2})*$")] | None = None
    opcode: Literal["text", "binary"] = "text"
    sealed: bool = False


class Oversize(FaultSpec, tag="oversize", frozen=True, kw_only=True):
    """Push one event of `size_bytes` with a number of its own: it stays in the ring or log and comes again with every replay."""

    size_bytes: Annotated[int, Meta(ge=100, le=256 * 1024 * 1024)] = 20 * 1024 * 1024


class Mail(FaultSpec, tag="mail", frozen=True, kw_only=True):
    """The TPS branch has mail for its host: at once where a channel is active, else with the next heartbeat. No fault, but a script can tell it.

    From about 65,000 bytes of `content` on it is one: nobody can open the frame.
    """

    content: Annotated[str, Meta(max_length=100_000)] = "hello"
    to: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] = "host"


class Ask(FaultSpec, tag="ask", frozen=True, kw_only=True):
    """The TPS branch wants something of a service of its host's, if a channel is active. No fault, but a script can tell it."""

    path: Annotated[str, Meta(min_length=1, max_length=1000)] = "/"
    service: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")] = "flair"


# The server as a whole


class Restart(FaultSpec, tag="restart", frozen=True, kw_only=True):
    """Clear counters, rings and presence, drop all sockets without a close frame, stay away for `down_s`.

    Relayfile's log is gone and its counters begin at 1, unless its backend is `durable`.
    """

    down_s: Seconds = 0.0
    durable: bool = False


class ClockOffset(FaultSpec, tag="clock_offset", frozen=True, kw_only=True):
    """Set the server's clock off by `offset_s`, either way."""

    offset_s: Annotated[float, Meta(ge=-1e9, le=1e9)]


class RateLimit(FaultSpec, tag="rate_limit", frozen=True, kw_only=True):
    """Answer HTTP requests with 429, with `Retry-After` unless that is None; Relayfile's upgrades too, always without."""

    retry_after_s: Seconds | None = 1.0
    limit: Number = 30_000
    route: Route | None = None


class RefuseHttp(FaultSpec, tag="refuse_http", frozen=True, kw_only=True):
    """Answer HTTP requests (of one `route`, or all) with a status instead of doing them; upgrades go on.

    `code` is the error's, such as `queue_full`; without one it follows from the status.
    """

    route: Route | None = None
    status: Status = 503
    retry_after_s: Seconds | None = None
    code: Annotated[str, Meta(max_length=60)] = ""
    message: Annotated[str, Meta(max_length=200)] = ""


class HangHttp(FaultSpec, tag="hang_http", frozen=True, kw_only=True):
    """Accept HTTP requests (of one `route`, or all), never answer; hanging ones are cut off when the fault ends."""

    route: Route | None = None


class GarbleHttp(FaultSpec, tag="garble_http", frozen=True, kw_only=True):
    """HTTP requests (of one `route`, or all) are done, and answered with 200 and a `body` that is something else."""

    route: Route | None = None
    body: Annotated[str, Meta(max_length=1_000_000)] = "not json"


class HttpTrouble(FaultSpec, tag="http_trouble", frozen=True, kw_only=True):
    """The request is done, then its answer is late by `delay_s`, or (`lose_answer`) never comes: the connection is closed instead."""

    delay_s: Seconds = 0.0
    lose_answer: bool = False
    route: Route | None = None


HttpFault = RateLimit | RefuseHttp | HangHttp | GarbleHttp | HttpTrouble
"""Faults of HTTP requests: they can be about one route."""

AnyFault = (
    Refuse
    | Hang
    | AcceptOnly
    | Outage
    | TokenExpiry
    | KeysDown
    | Drop
    | Reset
    | Close
    | Freeze
    | Delay
    | Skip
    | Duplicate
    | Reorder
    | Stall
    | NoPong
    | SlowPong
    | WrongEcho
    | WrongKey
    | SkipNonce
    | CutReplay
    | NoAck
    | EarlyAck
    | WrongAck
    | LogFailing
    | SlowDatabase
    | DatabaseFailing
    | Inject
    | Oversize
    | Mail
    | Ask
    | Restart
    | ClockOffset
    | RateLimit
    | RefuseHttp
    | HangHttp
    | GarbleHttp
    | HttpTrouble
)


def name_of(fault: FaultSpec) -> str:
    """A fault's name in scripts, over HTTP and in the ledger."""
    return str(fault.__struct_config__.tag)


def is_momentary(fault: FaultSpec) -> bool:
    """Whether a fault happens at once and is over: it has no `for_s`."""
    if isinstance(fault, Drop | Reset | Close):
        return fault.seq is None and fault.frames is None
    return isinstance(fault, Inject | Oversize | Mail | Ask | Restart)
