"""The faults by their verbs: `with relay.faults.dropping(seq=7):`.

Each verb holds one record of `kinds` for the length of the block; what it means, and its fields, stand there. `**scope`
is `agent=` and `times=`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

from syncwatch.relay import kinds
from syncwatch.relay.injector import Active, Injector

S = TypeVar("S", bound=kinds.FaultSpec)
Held = AbstractContextManager[Active[S]]


class Faults(Injector):
    """An injector with a verb for each fault that lasts."""

    def refusing(
        self, status: int = 503, *, retry_after_s: float | None = None, message: str = "", **scope: Any
    ) -> Held[kinds.Refuse]:
        """Refuse upgrades."""
        return self.hold(kinds.Refuse(status=status, retry_after_s=retry_after_s, message=message, **scope))

    def hanging(self, **scope: Any) -> Held[kinds.Hang]:
        """Never answer upgrades."""
        return self.hold(kinds.Hang(**scope))

    def accepting_only(self, **scope: Any) -> Held[kinds.AcceptOnly]:
        """Accept upgrades, then say nothing."""
        return self.hold(kinds.AcceptOnly(**scope))

    def outage(
        self, mode: Literal["refuse", "close"] = "refuse", *, status: int = 503, **scope: Any
    ) -> Held[kinds.Outage]:
        """Drop the sockets and let nobody back in."""
        return self.hold(kinds.Outage(mode=mode, status=status, **scope))

    def token_expired(self, agent: str) -> Held[kinds.TokenExpiry]:
        """A stream's token is no longer known."""
        return self.hold(kinds.TokenExpiry(agent=agent))

    def keys_down(self, **scope: Any) -> Held[kinds.KeysDown]:
        """The key server does not answer."""
        return self.hold(kinds.KeysDown(**scope))

    def dropping(self, *, seq: int | None = None, frames: int | None = None, **scope: Any) -> Held[kinds.Drop]:
        """Flush and end the stream."""
        return self.hold(kinds.Drop(seq=seq, frames=frames, **scope))

    def resetting(self, *, seq: int | None = None, frames: int | None = None, **scope: Any) -> Held[kinds.Reset]:
        """End with RST."""
        return self.hold(kinds.Reset(seq=seq, frames=frames, **scope))

    def closing(
        self, code: int = 1001, reason: str = "", *, seq: int | None = None, frames: int | None = None, **scope: Any
    ) -> Held[kinds.Close]:
        """Close with a code."""
        return self.hold(kinds.Close(code=code, reason=reason, seq=seq, frames=frames, **scope))

    def freezing(
        self, direction: Literal["to_client", "from_client", "both"] = "both", **scope: Any
    ) -> Held[kinds.Freeze]:
        """Stop writing, reading or both."""
        return self.hold(kinds.Freeze(direction=direction, **scope))

    def delaying(self, delay_s: float, *, jitter_s: float = 0.0, **scope: Any) -> Held[kinds.Delay]:
        """Hold every frame back."""
        return self.hold(kinds.Delay(delay_s=delay_s, jitter_s=jitter_s, **scope))

    def skipping(self, **select: Any) -> Held[kinds.Skip]:
        """Leave out live frames."""
        return self.hold(kinds.Skip(**select))

    def duplicating(self, **select: Any) -> Held[kinds.Duplicate]:
        """Send live frames twice."""
        return self.hold(kinds.Duplicate(**select))

    def reordering(self, **select: Any) -> Held[kinds.Reorder]:
        """Swap live frames."""
        return self.hold(kinds.Reorder(**select))

    def stalling(self, *, answer_resyncs: bool = True, **scope: Any) -> Held[kinds.Stall]:
        """Stop pushing."""
        return self.hold(kinds.Stall(answer_resyncs=answer_resyncs, **scope))

    def withholding_pong(
        self, level: Literal["application", "websocket", "both"] = "both", **scope: Any
    ) -> Held[kinds.NoPong]:
        """Do not answer pings."""
        return self.hold(kinds.NoPong(level=level, **scope))

    def delaying_pong(self, delay_s: float, **scope: Any) -> Held[kinds.SlowPong]:
        """Answer pings late."""
        return self.hold(kinds.SlowPong(delay_s=delay_s, **scope))

    def echoing_wrongly(self, offset: int = 1, **scope: Any) -> Held[kinds.WrongEcho]:
        """Echo heartbeats with other numbers."""
        return self.hold(kinds.WrongEcho(offset=offset, **scope))

    def knowing_another_host(self, **scope: Any) -> Held[kinds.WrongKey]:
        """Close on every host's handshake."""
        return self.hold(kinds.WrongKey(**scope))

    def skipping_nonce(self, **scope: Any) -> Held[kinds.SkipNonce]:
        """Leave out a nonce."""
        return self.hold(kinds.SkipNonce(**scope))

    def cutting_replay(
        self,
        after: int,
        then: Literal["ack", "no_ack", "drop"] = "ack",
        *,
        claim: Literal["all", "sent"] = "all",
        **scope: Any,
    ) -> Held[kinds.CutReplay]:
        """Stop replays early."""
        return self.hold(kinds.CutReplay(after=after, then=then, claim=claim, **scope))

    def withholding_ack(self, **scope: Any) -> Held[kinds.NoAck]:
        """Do not acknowledge."""
        return self.hold(kinds.NoAck(**scope))

    def acking_early(self, **scope: Any) -> Held[kinds.EarlyAck]:
        """Acknowledge before the replay."""
        return self.hold(kinds.EarlyAck(**scope))

    def acking_wrongly(self, fields: dict[str, Any], **scope: Any) -> Held[kinds.WrongAck]:
        """Acknowledge something else."""
        return self.hold(kinds.WrongAck(fields=fields, **scope))

    def log_failing(self, **scope: Any) -> Held[kinds.LogFailing]:
        """Let workspaces' event logs fail."""
        return self.hold(kinds.LogFailing(**scope))

    def slow_database(self, delay_s: float, **scope: Any) -> Held[kinds.SlowDatabase]:
        """Wait before the database's part of a replay."""
        return self.hold(kinds.SlowDatabase(delay_s=delay_s, **scope))

    def database_failing(self, *, upgrades: bool = False) -> Held[kinds.DatabaseFailing]:
        """Let the database fail."""
        return self.hold(kinds.DatabaseFailing(upgrades=upgrades))

    def clock_off(self, offset_s: float) -> Held[kinds.ClockOffset]:
        """Set the server's clock off."""
        return self.hold(kinds.ClockOffset(offset_s=offset_s))

    def rate_limiting(self, *, retry_after_s: float | None = 1.0, **scope: Any) -> Held[kinds.RateLimit]:
        """Answer HTTP with 429."""
        return self.hold(kinds.RateLimit(retry_after_s=retry_after_s, **scope))

    def refusing_http(
        self,
        status: int = 503,
        *,
        route: kinds.Route | None = None,
        retry_after_s: float | None = None,
        code: str = "",
        message: str = "",
        **scope: Any,
    ) -> Held[kinds.RefuseHttp]:
        """Refuse HTTP requests, of one route or all."""
        told: dict[str, Any] = {"retry_after_s": retry_after_s, "code": code, "message": message}
        return self.hold(kinds.RefuseHttp(status=status, route=route, **told, **scope))

    def refusing_feed(self, status: int = 503, **rest: Any) -> Held[kinds.RefuseHttp]:
        """Refuse the feed, and nothing else."""
        return self.refusing_http(status, route="feed", **rest)

    def hanging_http(self, *, route: kinds.Route | None = None, **scope: Any) -> Held[kinds.HangHttp]:
        """Never answer HTTP requests, of one route or all."""
        return self.hold(kinds.HangHttp(route=route, **scope))

    def hanging_feed(self, **scope: Any) -> Held[kinds.HangHttp]:
        """Never answer the feed."""
        return self.hanging_http(route="feed", **scope)

    def garbling_http(
        self, body: str = "not json", *, route: kinds.Route | None = None, **scope: Any
    ) -> Held[kinds.GarbleHttp]:
        """Answer HTTP requests with something else, of one route or all."""
        return self.hold(kinds.GarbleHttp(body=body, route=route, **scope))

    def http_trouble(self, *, delay_s: float = 0.0, lose_answer: bool = False, **scope: Any) -> Held[kinds.HttpTrouble]:
        """Answer HTTP late or never."""
        return self.hold(kinds.HttpTrouble(delay_s=delay_s, lose_answer=lose_answer, **scope))
