"""The /status document as text for a person at a terminal.

What belongs here: words, columns, colours. The input is the JSON document alone, because it arrives over HTTP. Texts that a server had
a say in are shown with everything unprintable escaped: a close reason must not move anybody's cursor.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from syncwatch.exposition import document as doc

LABEL_COLUMNS = 14
NARROWEST = 40
TRANSITIONS = 5

_SIGNS = {"healthy": "●", "degraded": "◐", "down": "○", None: "·"}
_COLOURS = {"healthy": "\x1b[32m", "degraded": "\x1b[33m", "down": "\x1b[31m", None: "\x1b[2m"}
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_WORDS = {"open": "connected", "failed": "down", "reconnecting": "down", "connecting": "down"}


def render(status: Mapping[str, Any], colour: bool = False, width: int = 80) -> str:
    """The document as lines of at most `width` columns (40 or more), ending with a line feed.

    Raises: ValueError if it is no status document.
    """
    try:
        typed = msgspec.convert(status, doc.Status)
    except msgspec.ValidationError as error:
        raise ValueError(f"this is no status document: {error}") from None
    page = _Page(colour, max(width, NARROWEST))
    for connection in typed.connections:
        _connection(page, connection)
    for service in typed.services:
        _service(page, service)
    if not typed.connections and not typed.services:
        page.head(None, "no connections are configured", "")
        page.blank()
    _gate(page, typed.gate)
    _sidecar(page, typed)
    return page.text()


class _Page:
    """Lines under construction: a head with a sign, then labelled facts with a hanging indent."""

    def __init__(self, colour: bool, width: int) -> None:
        self._colour, self._width = colour, width
        self._lines: list[str] = []

    def text(self) -> str:
        return "".join(line.rstrip() + "\n" for line in self._lines)

    def blank(self) -> None:
        self._lines.append("")

    def head(self, health: str | None, words: str, aside: str) -> None:
        """A sign and what it means; `aside` at the right edge, if there is room for it."""
        first, *rest = self._wrapped(f"{_SIGNS.get(health, '?')} {words}", "  ")
        room = self._width - len(first) - len(aside)
        painted = self._paint(_COLOURS.get(health, "") + _BOLD, first)
        self._lines.append(painted + " " * room + self._paint(_DIM, aside) if aside and room >= 2 else painted)
        self._lines += [self._paint(_COLOURS.get(health, "") + _BOLD, line) for line in rest]

    def fact(self, label: str, words: str, paint: str = "") -> None:
        """A label and a text beside it."""
        start = f"  {label}".ljust(LABEL_COLUMNS)
        if not start.endswith(" "):
            start += "  "
        for number, line in enumerate(self._wrapped(start + words, " " * LABEL_COLUMNS)):
            cut = len(start) if number == 0 else LABEL_COLUMNS
            self._lines.append(self._paint(_DIM, line[:cut]) + self._paint(paint, line[cut:]))

    def _wrapped(self, words: str, indent: str) -> list[str]:
        return textwrap.wrap(
            words, self._width, subsequent_indent=indent, replace_whitespace=False, drop_whitespace=True
        ) or [""]

    def _paint(self, paint: str, words: str) -> str:
        return f"{paint}{words}{_PLAIN}" if self._colour and paint and words.strip() else words


def _connection(page: _Page, c: doc.Connection) -> None:
    page.head(c.health, f"{c.name} {_standing(c)}", f"{c.protocol} {c.dialect} · {c.continuity}")
    for reason in c.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", _COLOURS.get(c.health, ""))
    if c.attempts.last_failure is not None:
        page.fact("last failure", printable(c.attempts.last_failure))
    if c.report is None:
        page.fact("upstream", c.upstream or "unknown")
    else:
        for words in _report(c.report):
            page.fact("file", words)
    page.fact("uptime", _uptime(c))
    if c.attempts.total is not None:
        page.fact("attempts", _attempts(c.attempts))
    page.fact("heartbeats", _heartbeats(c.heartbeats))
    page.fact("", _beats_when(c.heartbeats))
    page.fact("traffic", _traffic(c.traffic))
    page.fact("last event", _ago(c.traffic.last_event))
    page.fact("unverified", "unknown" if c.verification.unverified_s is None else span(c.verification.unverified_s))
    if c.ledger is not None:
        for label, words in _ledger(c.ledger):
            page.fact(label, words)
    if c.canary is not None:
        page.fact("canaries", _canary(c.canary))
    page.fact("lifetime", _lifetime(c.lifetime))
    for label, due in (("token", c.expiry.token), ("certificate", c.expiry.certificate)):
        if due is not None:
            page.fact(label, f"expired {span(-due.in_s)} ago" if due.in_s < 0 else f"expires in {span(due.in_s)}")
    for number, one in enumerate(c.transitions[:TRANSITIONS]):
        page.fact(
            "" if number else "transitions",
            f"{stamp(one.at.time)}  {one.from_state} → {one.to_state}: {printable(one.reason)}",
        )
    page.blank()


def _standing(c: doc.Connection) -> str:
    """The word behind the sign."""
    stay = "" if c.state_since is None else f" for {span(c.state_since.age_s)}"
    if c.reasons and c.health != "healthy":
        grave = c.reasons[0]
        return f"{c.health or c.state}: {grave.reason} for {span(grave.since.age_s)}"
    return f"{_WORDS.get(c.state, c.state)}{stay}"


def _report(report: doc.Report) -> Iterator[str]:
    yield printable(report.path)
    if report.read is not None:
        pid = "" if report.pid is None else f"; process {report.pid} is {report.process}"
        yield f"read {_ago(report.read)}, written {_ago(report.written)}{pid}"
    yield from map(printable, report.remarks)


def _uptime(c: doc.Connection) -> str:
    if c.established is None:
        since = "no connection now"
    else:
        since = f"{span(c.established.age_s)}, since {stamp(c.established.time)} UTC"
    return f"{since}; {counted(c.reconnects, 'reconnect')}"


def _attempts(attempts: doc.Attempts) -> str:
    words = number(attempts.total or 0)
    failures = ", ".join(f"{reason} {number(count)}" for reason, count in attempts.failures.items() if count)
    if failures:
        words += f", {number(sum(attempts.failures.values()))} of them failed ({failures})"
    if attempts.next is not None:
        words += f"; next in {span(attempts.next.in_s)}"
    return words


def _heartbeats(beats: doc.Heartbeats) -> str:
    known = {"acknowledged": beats.acknowledged, "missed": beats.missed}
    parts = [f"{number(beats.sent)} sent", *(f"{number(count)} {word}" for word, count in known.items() if count is not None)]
    if beats.outstanding:
        parts.append(f"{number(beats.outstanding)} outstanding")
    return ", ".join(parts)


def _beats_when(beats: doc.Heartbeats) -> str:
    trip = "unknown" if beats.last_rtt_s is None else span(beats.last_rtt_s)
    return f"sent {_ago(beats.last_sent)}, acknowledged {_ago(beats.last_acknowledged)}, round trip {trip}"


def _traffic(traffic: doc.Traffic) -> str:
    received, sent = sum(traffic.frames_received.values()), sum(traffic.frames_sent.values())
    volume = ["" if count is None else f", {size(count)}" for count in (traffic.received_bytes, traffic.sent_bytes)]
    words = f"{number(received)} frames{volume[0]} received; {number(sent)} frames{volume[1]} sent"
    odd = sum(traffic.anomalies.values())
    return words + (f"; {counted(odd, 'anomaly', 'anomalies')}" if odd else "")


def _ledger(ledger: doc.Ledger) -> Iterator[tuple[str, str]]:
    origins = ", ".join(f"{number(count)} {origin}" for origin, count in ledger.events_by_origin.items() if count)
    undecided = f", {number(ledger.undecided)} undecided" if ledger.undecided else ""
    yield (
        "events",
        f"{number(ledger.events)}{f' ({origins}{undecided})' if origins else undecided}; {counted(ledger.duplicates, 'duplicate')}",
    )
    cursor = "none yet" if ledger.cursor is None else str(ledger.cursor)
    yield (
        "position",
        f"epoch {ledger.epoch}, cursor {cursor}; {counted(ledger.resets, 'reset')} of the server's counter",
    )
    yield (
        "missed",
        (
            f"{number(ledger.missed)} = {number(ledger.recovered)} recovered + {number(ledger.lost)} lost"
            f" + {number(ledger.unaccounted)} unaccounted + {number(ledger.missing)} missing"
        ),
    )
    if ledger.audits is not None and ledger.audit_events is not None:
        results = ", ".join(f"{number(count)} {result}" for result, count in ledger.audits.items())
        verdicts = ", ".join(f"{number(count)} {verdict}" for verdict, count in ledger.audit_events.items() if count)
        yield "audits", f"{results}{f'; events: {verdicts}' if verdicts else ''}"
    if ledger.last_loss is not None:
        yield "last loss", _ago(ledger.last_loss)
    resyncs = ", ".join(
        f"{number(count)} {claim}/{verdict}"
        for claim, verdicts in ledger.resyncs.items()
        for verdict, count in verdicts.items()
        if count
    )
    yield "resyncs", resyncs or "none yet"


def _canary(canary: doc.Canary) -> str:
    trip = "" if canary.mean_round_trip_s is None else f"; mean round trip {span(canary.mean_round_trip_s)}"
    logged = "" if canary.logged is None else f", {number(canary.logged)} in the log"
    return f"{number(canary.sent)} sent, {number(canary.received)} received{logged}, {number(canary.lost)} lost, {number(canary.failed)} refused{trip}"


def _lifetime(lifetime: doc.Lifetime) -> str:
    if lifetime.events is None:
        return f"{counted(lifetime.reconnects, 'reconnect')} since {stamp(lifetime.since.time)} UTC"
    return (
        f"{number(lifetime.lost or 0)} lost, {number(lifetime.unaccounted or 0)} unaccounted, {number(lifetime.missed or 0)} missed,"
        f" {counted(lifetime.events, 'event')}, {counted(lifetime.reconnects, 'reconnect')} since {stamp(lifetime.since.time)} UTC"
    )


def _service(page: _Page, v: doc.Service) -> None:
    stay = "" if v.state_since is None else f" for {span(v.state_since.age_s)}"
    words = "was not asked yet" if v.state == "unknown" else f"{v.state}{stay}"
    if v.health == "down" and v.reasons:  # its task is stuck: what it said last is old
        words = f"down: {v.reasons[0].reason} for {span(v.reasons[0].since.age_s)}"
    page.head(v.health, f"{v.name} {words}", f"service · {v.upstream}")
    for reason in v.reasons:
        page.fact(reason.reason, f"for {span(reason.since.age_s)}: {reason.advice}", _COLOURS.get(v.health, ""))
    if v.last_failure is not None:
        page.fact("error", printable(v.last_failure))
    page.fact("checked", f"{_ago(v.last_probe)}, last healthy {_ago(v.last_healthy)}")
    page.fact("probes", _probes(v.probes))
    page.blank()


def _probes(probes: doc.Probes) -> str:
    words = number(probes.total)
    failures = ", ".join(f"{reason} {number(count)}" for reason, count in probes.failures.items() if count)
    if failures:
        words += f", {number(sum(probes.failures.values()))} of them failed ({failures})"
    if probes.mean_s is not None:
        words += f"; mean {span(probes.mean_s)}"
    return words + (f"; next in {span(max(0.0, probes.next.in_s))}" if probes.next is not None else "")


def _gate(page: _Page, gate: doc.Gate) -> None:
    for label, verdict in (("read", gate.read), ("write", gate.write)):
        words = "open" if verdict.open else f"closed: {printable(verdict.detail)}"
        page.fact(f"gate {label}", words, "" if verdict.open else _COLOURS["down"])


def _sidecar(page: _Page, status: doc.Status) -> None:
    own = status.sidecar
    late = [one for one in own.tasks if one.overdue_s > 0 or one.wedged]
    tasks = ", ".join(f"{one.task} {'wedged' if one.wedged else 'overdue'} for {span(one.overdue_s)}" for one in late)
    parts = [
        f"syncwatch {own.version} on {own.instance}, up {span(own.started.age_s)}",
        tasks or f"{counted(len(own.tasks), 'task')} in time",
        f"loop lag {span(own.event_loop_lag_s)}",
    ]
    if own.state_file is None:
        parts.append("no state directory")
    elif own.state_file.write_failures:
        parts.append(
            counted(own.state_file.write_failures, "failed write of the state file", "failed writes of the state file")
        )
    if own.gate_file is not None and own.gate_file.failures:
        parts.append(counted(own.gate_file.failures, "failure", "failures") + " of the gate file to follow the gate")
    if not own.config.last_reload_successful:
        parts.append("; ".join(("the last reload failed: the configuration of before still runs", *own.config.errors[:1])))
    if own.suspended:
        parts.append("was suspended a moment ago")
    page.fact("sidecar", "; ".join(parts), _COLOURS["down"] if late else "")
    for hook in status.hooks:
        if hook.last_failure is not None:
            left = f"{number(hook.waiting)} waiting, {number(hook.dropped)} dropped"
            page.fact("hook", f"{hook.name} is not taken: {hook.last_failure}; {left}", _COLOURS["degraded"])


def _ago(moment: doc.Instant | None) -> str:
    return "never" if moment is None else f"{span(moment.age_s)} ago"


def span(duration_s: float) -> str:
    """A duration as people say it, in at most two units."""
    if duration_s < 0.0995:
        return f"{duration_s * 1000:.3g} ms"
    if duration_s < 9.95:
        return f"{duration_s:.1f} s"
    left = round(duration_s)
    for unit, size_s, smaller, smaller_s in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if left >= size_s:
            return f"{left // size_s} {unit} {left % size_s // smaller_s} {smaller}"
    return f"{left} s"


def stamp(time: str) -> str:
    """An RFC 3339 time in UTC, to the second, without its zone."""
    return printable(time[:19].replace("T", " "))


def size(count: int) -> str:
    """Bytes in units of a thousand."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def number(count: int) -> str:
    """A count with its thousands apart."""
    return f"{count:,}"


def counted(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def printable(text: str) -> str:
    """The text with everything escaped that a terminal could obey."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
