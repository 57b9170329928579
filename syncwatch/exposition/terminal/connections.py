"""The block of one connection.

What belongs here: which of the document's facts an operator sees, and in which words. Without `verbose` it is what decides whether the
connection can be trusted, and what to do; while it is not healthy, also how it came to that.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncwatch.exposition import document as doc
from syncwatch.exposition.terminal.page import Page
from syncwatch.exposition.terminal.words import ago, counted, day, each, minute, number, size, span, stamp

TRANSITIONS = 5
SOON_S = 7 * 86_400.0
"""What runs out within this time is worth a line."""
UNNUMBERED = "none"
Fact = tuple[str, str, bool]
"""Label, words, and whether it may stand beside the one before it."""
_PROCESS = {"alive": "is there", "dead": "is gone", "reused": "is another one by now", "elsewhere": "cannot be seen from here", "unknown": "is not known"}
_WORDS = {"open": "connected", "resyncing": "connected, resyncing"}


def connections(page: Page, status: doc.Status) -> None:
    """One block for each."""
    for one in status.connections:
        connection(page, one)
        page.blank()


def connection(page: Page, c: doc.Connection) -> None:
    """What is known of it."""
    page.head(c.health, f"{c.name} {_standing(page, c)}", f"{c.protocol} {c.dialect} · {'unnumbered' if c.continuity == UNNUMBERED else c.continuity}")
    for reason in c.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", c.health)
    if c.attempts.last_failure is not None:
        page.fact("failure", c.attempts.last_failure)
    for label, words, beside in (*_life(c), *_beats(page, c), *_traffic(page, c), *_ledger(page, c), *_expiry(page, c.expiry)):
        page.fact(label, words, beside=beside)
    if page.verbose or (c.health != "healthy" and page.current):
        for place, one in enumerate(c.transitions[:TRANSITIONS]):
            page.fact("" if place else "transitions", f"{one.at.time[:19].replace('T', ' ')}  {one.from_state} → {one.to_state}: {one.reason}")


def _standing(page: Page, c: doc.Connection) -> str:
    """The word behind the sign."""
    word = _WORDS.get(c.state, c.state)
    if not page.current:
        return f"stale: was {word}"
    if c.reasons and c.health != "healthy":
        grave, more = c.reasons[0], len(c.reasons) - 1
        return f"{c.health or c.state}: {grave.reason} for {span(grave.since.age_s)}" + (f", and {more} more" if more else "")
    return word if c.health in ("healthy", None) else c.health or word


def _life(c: doc.Connection) -> Iterator[Fact]:
    if c.report is None:
        yield "upstream", c.upstream or "unknown", False
    else:
        yield from _report(c.report)
    if c.established is not None:
        yield "uptime", f"{span(c.established.age_s)}, since {stamp(c.established.time)}", False
    else:
        tried = f"; {counted(c.attempts.consecutive_failures, 'attempt')} failed in a row" if c.attempts.consecutive_failures else ""
        due = "" if c.attempts.next is None else f"; next attempt in {span(max(0.0, c.attempts.next.in_s))}"
        due = "; an attempt is under way" if c.attempts.under_way else due
        yield "uptime", f"no connection now{tried}{due}", False
    theirs = "" if c.report is None or c.report.reconnects is None else f", {number(c.report.reconnects)} by its own count"
    yield "reconnects", f"{number(c.reconnects)}{theirs}; {number(c.lifetime.reconnects)} since {day(c.lifetime.since.time)}", True


def _report(report: doc.Report) -> Iterator[Fact]:
    """Of a connection that another process has: its file, and what is known of that process."""
    yield "file", report.path, False
    if report.read is not None:
        pid = "" if report.pid is None else f"; process {report.pid} {_PROCESS.get(report.process, report.process)}"
        yield "", f"written {ago(report.written)}, read {ago(report.read)}{pid}", False
    for remark in report.remarks:
        yield "", remark, False


def _beats(page: Page, c: doc.Connection) -> Iterator[Fact]:
    beats = c.heartbeats
    if beats.acknowledged is None:  # whoever sends them does not tell which answer belongs to which
        heard = "" if beats.last_acknowledged is None else f", last answer {ago(beats.last_acknowledged)}"
        yield "heartbeat", f"sent {ago(beats.last_sent)}{heard}", False
    else:
        trip = "unknown" if beats.last_rtt_s is None else span(beats.last_rtt_s)
        yield "heartbeat", f"sent {ago(beats.last_sent)}, acknowledged {ago(beats.last_acknowledged)}, round trip {trip}", False
    if page.verbose or beats.missed:
        counts = {"sent": beats.sent, "acknowledged": beats.acknowledged, "missed": beats.missed, "late": beats.late, "outstanding": beats.outstanding or None}
        yield "heartbeats", ", ".join(f"{number(count)} {word}" for word, count in counts.items() if count is not None), False
    unverified_s, never = c.verification.unverified_s, c.verification.ever is False
    if unverified_s is not None or c.continuity != UNNUMBERED:
        yield "verified", "unknown" if unverified_s is None else f"never, for {span(unverified_s)}" if never else f"{span(unverified_s)} ago", True


def _traffic(page: Page, c: doc.Connection) -> Iterator[Fact]:
    traffic = c.traffic
    sent, received = sum(traffic.frames_sent.values()), sum(traffic.frames_received.values())
    up, down = ("" if volume is None else f", {size(volume)}" for volume in (traffic.sent_bytes, traffic.received_bytes))
    yield "messages", f"↑ {number(sent)} sent{up}; ↓ {number(received)} received{down}", False
    if c.report is None:
        yield "last event", ago(traffic.last_event), True
    else:
        yield "last one", ago(traffic.last_frame), True
    if any(traffic.anomalies.values()):
        yield "anomalies", each(traffic.anomalies), False
    if page.verbose and c.attempts.total is not None:
        failures = each(c.attempts.failures)
        yield "attempts", number(c.attempts.total) + (f", {number(sum(c.attempts.failures.values()))} of them failed ({failures})" if failures else ""), False


def _ledger(page: Page, c: doc.Connection) -> Iterator[Fact]:
    ledger, lifetime = c.ledger, c.lifetime
    if ledger is not None and c.continuity == UNNUMBERED:
        yield "events", f"{number(ledger.events)}; its server numbers nothing, so nobody can know what is missing", False
        yield "lifetime", f"{counted(lifetime.events or 0, 'event')} since {minute(lifetime.since.time)}", False
    elif ledger is not None:
        undecided = f", {number(ledger.undecided or 0)} undecided" if ledger.undecided else ""
        yield "events", f"{number(ledger.events)}{undecided}; {number(ledger.missing or 0)} missing, {number(ledger.lost or 0)} lost, {number(ledger.unaccounted or 0)} unaccounted", False
        if ledger.last_loss is not None:
            yield "last loss", ago(ledger.last_loss), True
        gone = f"{number(lifetime.lost or 0)} lost, {number(lifetime.unaccounted or 0)} unaccounted"
        yield "lifetime", f"{counted(lifetime.events or 0, 'event')}; {gone} since {minute(lifetime.since.time)}", False
    if ledger is not None and page.verbose and c.continuity != UNNUMBERED:
        for label, words in _accounts(ledger):
            yield label, words, False
    if c.canary is not None:
        yield "canaries", _canary(c.canary), False


def _accounts(ledger: doc.Ledger) -> Iterator[tuple[str, str]]:
    yield "origins", f"{each(ledger.events_by_origin) or 'none yet'}; {counted(ledger.duplicates, 'duplicate')}, {number(ledger.out_of_order or 0)} out of order"
    cursor = "none yet" if ledger.cursor is None else str(ledger.cursor)
    yield "position", f"epoch {ledger.epoch}, cursor {cursor}; {counted(ledger.resets or 0, 'reset')} of the server's counter"
    fates = f"{number(ledger.recovered or 0)} recovered + {number(ledger.lost or 0)} lost + {number(ledger.unaccounted or 0)} unaccounted + {number(ledger.missing or 0)} missing"
    yield "missed", f"{number(ledger.missed or 0)} = {fates}"
    if ledger.audits is not None and ledger.audit_events is not None:
        verdicts = each(ledger.audit_events)
        yield "audits", ", ".join(f"{word} {number(count)}" for word, count in ledger.audits.items()) + (f"; events: {verdicts}" if verdicts else "")
    resyncs = {f"{claim}/{verdict}": count for claim, verdicts in ledger.resyncs.items() for verdict, count in verdicts.items()}
    yield "resyncs", each(resyncs) or "none yet"


def _canary(canary: doc.Canary) -> str:
    trip = "" if canary.mean_round_trip_s is None else f"; mean round trip {span(canary.mean_round_trip_s)}"
    logged = "" if canary.logged is None else f", {number(canary.logged)} in the log"
    return f"{number(canary.sent)} sent, {number(canary.received)} received{logged}, {number(canary.lost)} lost, {number(canary.failed)} refused{trip}"


def _expiry(page: Page, expiry: doc.Expiry) -> Iterator[Fact]:
    for label, due in (("token", expiry.token), ("certificate", expiry.certificate)):
        if due is not None and (page.verbose or due.in_s < SOON_S):
            yield label, f"expired {span(-due.in_s)} ago" if due.in_s < 0 else f"expires in {span(due.in_s)}", False
