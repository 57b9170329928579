"""One service that is asked over HTTP now and then: when it is asked, what its answer means, since when it is well or not.

Law: one probe at a time, and every probe ends: probes = healthy ones + failures. Before the first one ended nothing is known, and nothing is claimed.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol as Interface

import msgspec

from syncwatch.core.effects import Answer, Effect, Effects, Notice, Notify, Poll, Refused
from syncwatch.core.health import Component, Condition, Reason
from syncwatch.core.histogram import FAST_S, Histogram
from syncwatch.core.resume import ServiceRecord
from syncwatch.core.snapshot import Moment, ServiceLifetimeSnapshot, ServiceSnapshot
from syncwatch.core.states import AttemptFailure, ProbeFailure
from syncwatch.core.wire import Request

SEARCHED_BYTES = 16_384
"""So much of a body is searched. An expression that begins with `.*` takes the square of this: 0.2 s here, and minutes for a mebibyte."""
START_SPREAD_S = 5.0  # the first probe comes within so long, or within a tenth of the interval if that is less
SPREAD = 0.1  # every pause is up to so much of itself shorter or longer, by chance
SLACK_S = 5.0  # the shell answers within twice the timeout; after this much more it is not waited for

NOT_ANSWERED: Mapping[str, ProbeFailure] = {
    AttemptFailure.DNS: ProbeFailure.DNS,
    AttemptFailure.TLS: ProbeFailure.TLS,
    AttemptFailure.TIMEOUT: ProbeFailure.TIMEOUT,
}
"""Why there was no answer. Any other way not to get one (nobody listens, no route, hung up, no HTTP) is `refused`."""


class ServiceSettings(msgspec.Struct, frozen=True):
    """How one service is asked, and what it has to answer; seconds. `expect_status`: None is any below 400."""

    url: str
    interval_s: float = 300.0
    retry_interval_s: float = 30.0
    timeout_s: float = 5.0
    expect_status: int | None = None
    expect_body: re.Pattern[str] | None = None

    @property
    def expected(self) -> tuple[int | None, re.Pattern[str] | None]:
        """What a healthy answer is."""
        return self.expect_status, self.expect_body


class Entropy(Interface):
    """Randomness as an argument; random.Random fits."""

    def random(self) -> float: ...


class Verdict(msgspec.Struct, frozen=True):
    """What a probe found: a failure with a sentence about it, or neither."""

    failure: ProbeFailure | None = None
    detail: str | None = None


HEALTHY = Verdict()


class Service:
    """The machine of one service. `upstream`: scheme, host and port of its URL, for showing. `record`: what an earlier process has kept, if it is about this one."""

    component = Component.SERVICE
    possible_reasons: Sequence[Reason] = (Reason.SERVICE_UNHEALTHY,)

    def __init__(self, name: str, settings: ServiceSettings, entropy: Entropy, upstream: str = "", record: ServiceRecord | None = None) -> None:
        self.name = name
        self.upstream = upstream
        self.settings = settings
        self.probes = 0
        self.failures = dict.fromkeys(ProbeFailure, 0)
        self.duration = Histogram(FAST_S)
        self.verdict: Verdict | None = None  # of the last probe; None before the first one ended
        self._entropy = entropy
        self._offset_s = 0.0
        self._of = hashlib.sha256(settings.url.encode()).hexdigest()[:16]  # not the URL itself: it may hold what must not be written down
        self._before = record if record is not None and record.of == self._of and record.plausible() else None
        self._counts_since_wall_s: float | None = None if self._before is None else self._before.since_wall_s
        self._running = False
        self._since: Moment | None = None  # of being well, or of not being
        self._last_probe: Moment | None = None
        self._last_healthy: Moment | None = None
        self._poll_id = 0
        self._sent_s: float | None = None  # of the last probe that was begun
        self._give_up_s: float | None = None  # of the one under way
        self._next_s = math.inf

    # ------------------------------------------------------------------ schedule

    @property
    def interval_s(self) -> float:
        """The longest regular distance between two deadlines: what liveness measures against."""
        longest_s = max(self.settings.interval_s, self.settings.retry_interval_s)
        return max(longest_s * (1.0 + SPREAD), 2.0 * self.settings.timeout_s + SLACK_S)

    @property
    def deadline(self) -> float:
        """When the next probe is due, or the one under way is given up."""
        return self._next_s if self._give_up_s is None else self._give_up_s

    def wall(self, now: float, offset_s: float) -> Effects:
        """The wall clock is `now + offset_s`."""
        self._offset_s = offset_s
        if self._counts_since_wall_s is None:
            self._counts_since_wall_s = now + offset_s
        kept_s = None if self._before is None else self._before.last_healthy_wall_s
        if self._last_healthy is None and kept_s is not None:
            self._last_healthy = Moment(now - max(0.0, now + offset_s - kept_s), kept_s)
        return ()

    def record(self) -> ServiceRecord | None:
        """What the next process should know. None before the clock was known."""
        since_s = self._counts_since_wall_s
        if since_s is None:
            return None
        before, healthy = self._before or ServiceRecord(self._of, since_s), self._last_healthy
        return ServiceRecord(
            of=self._of,
            since_wall_s=since_s,
            probes=before.probes + self.probes,
            failures=before.failures + sum(self.failures.values()),
            last_healthy_wall_s=None if healthy is None else healthy.wall_s,
        )

    def start(self, now: float) -> Effects:
        """Begin to ask: soon, but not at once, so that a fleet that is started together does not ask in the same second."""
        self._running = True
        self._next_s = now + self._entropy.random() * min(START_SPREAD_S, SPREAD * self.settings.interval_s)
        return ()

    def configure(self, now: float, settings: ServiceSettings) -> Effects:
        """New settings for the same URL; counters and times go on. Other expectations are asked about at once: the last verdict was about the old ones."""
        asked_anew = settings.expected != self.settings.expected
        self.settings = settings
        if not self._running:
            return ()
        if asked_anew:
            self._give_up_s = None  # a probe under way is not waited for: perhaps it does not even read the body
            return self.start(now)
        if self._give_up_s is None and self._sent_s is not None:
            self._plan(now)
        return ()

    def stop(self, now: float) -> Effects:
        """Ask no more; an answer that still comes is ignored."""
        self._running, self._give_up_s, self._next_s = False, None, math.inf
        return ()

    def tick(self, now: float) -> Effects:
        """The deadline has come: ask, or give up an answer that will not come."""
        if self._give_up_s is not None:
            return self._end(now, Refused(AttemptFailure.TIMEOUT, "the call never ended")) if now >= self._give_up_s else ()
        if now < self._next_s:
            return ()
        timeout_s = self.settings.timeout_s
        self._poll_id += 1
        self._sent_s, self._give_up_s = now, now + 2.0 * timeout_s + SLACK_S
        enough_bytes = 0 if self.settings.expect_body is None else SEARCHED_BYTES
        return (Poll(self._poll_id, Request(self.settings.url), timeout_s, enough_bytes),)

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> Effects:
        """The answer to a probe; one that is not waited for any more is ignored."""
        if self._give_up_s is None or poll_id != self._poll_id:
            return ()
        return self._end(now, answer)

    def _plan(self, now: float) -> None:
        """The next probe, counted from the beginning of the last one."""
        assert self._sent_s is not None
        pause_s = self.settings.interval_s if self.verdict == HEALTHY else self.settings.retry_interval_s
        self._next_s = max(now, self._sent_s + pause_s * (1.0 - SPREAD + 2.0 * SPREAD * self._entropy.random()))

    # ------------------------------------------------------------------ verdict

    def _end(self, now: float, answer: Answer | Refused) -> Effects:
        assert self._sent_s is not None
        before, verdict = self.verdict, self._judged(answer)
        at = Moment(now, now + self._offset_s)
        self._give_up_s, self.verdict, self._last_probe = None, verdict, at
        self.probes += 1
        self.duration.observe(now - self._sent_s)
        if verdict.failure is None:
            self._last_healthy = at
        else:
            self.failures[verdict.failure] += 1
        if before is None or (before == HEALTHY) != (verdict == HEALTHY):
            self._since = at
        self._plan(now)
        return () if before is not None and before.failure is verdict.failure else self._told(at, verdict)

    def _told(self, at: Moment, verdict: Verdict) -> list[Effect]:
        """The first verdict, and every other one."""
        result = "healthy" if verdict.failure is None else "unhealthy"
        return [
            Notify(
                Notice.SERVICE,
                at.wall_s,
                {"service": self.name, "result": result, "reason": verdict.failure, "detail": verdict.detail},
            )
        ]

    def _judged(self, answer: Answer | Refused) -> Verdict:
        if isinstance(answer, Refused):
            return Verdict(NOT_ANSWERED.get(answer.reason, ProbeFailure.REFUSED), answer.detail or answer.reason)
        expected = self.settings.expect_status
        if expected is None and answer.status >= 400:
            return Verdict(ProbeFailure.STATUS, f"HTTP {answer.status}")
        if expected is not None and answer.status != expected:
            return Verdict(ProbeFailure.STATUS, f"HTTP {answer.status}, not {expected}")
        pattern = self.settings.expect_body
        if pattern is not None and not pattern.search(answer.body[:SEARCHED_BYTES].decode(errors="replace")):
            where = f"the first {SEARCHED_BYTES} bytes of the body" if len(answer.body) >= SEARCHED_BYTES else "the body"
            return Verdict(ProbeFailure.BODY, f"HTTP {answer.status}, and expect_body is not found in {where}")
        return HEALTHY

    # ------------------------------------------------------------------ outputs

    @property
    def active(self) -> bool:
        """Asked and known: before the first verdict there is no health whose time could count."""
        return self._running and self.verdict is not None

    @property
    def settled_once(self) -> bool:
        """It was asked."""
        return self.verdict is not None

    def reasons(self, now: float) -> Sequence[Condition]:
        """Unhealthy since the first probe that said so."""
        if not self.active or self.verdict == HEALTHY or self._since is None:
            return ()
        return (Condition(Reason.SERVICE_UNHEALTHY, self._since.now_s),)

    def snapshot(self) -> ServiceSnapshot:
        """An immutable picture."""
        verdict, kept = self.verdict, self.record()
        return ServiceSnapshot(
            name=self.name,
            upstream=self.upstream,
            healthy=None if verdict is None else verdict.failure is None,
            since=self._since,
            probes=self.probes,
            failures=dict(self.failures),
            duration=self.duration.snapshot(),
            last_probe=self._last_probe,
            last_healthy=self._last_healthy,
            last_failure=None if verdict is None else verdict.detail,
            next_probe_now_s=self._next_s if self._give_up_s is None and self._next_s != math.inf else None,
            lifetime=None if kept is None else ServiceLifetimeSnapshot(kept.since_wall_s, kept.probes, kept.failures),
        )
