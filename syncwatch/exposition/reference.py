"""The reference page of the metrics, made from the registry (`python -m syncwatch.exposition.reference` prints it): what every label value means.

What belongs here: words for readers. A sidecar does not import it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import msgspec

from syncwatch.core.health import ADVICE, Health
from syncwatch.core.histogram import FAST_S, SLOW_S
from syncwatch.core.states import (
    TRANSITIONS,
    Anomaly,
    AttemptFailure,
    AuditResult,
    AuditVerdict,
    Claim,
    Direction,
    Disconnect,
    FileChange,
    FlushResult,
    GapCause,
    Origin,
    ProbeFailure,
    SentinelResult,
    State,
    Verdict,
    Verification,
    WatchMode,
    WatchTrouble,
)
from syncwatch.core.wire import FrameKind
from syncwatch.exposition.registry import (
    BY_STATE,
    COMPONENTS,
    DEFINITIONS,
    NEVER,
    REASONS,
    SERIES_OF_CANARY,
    SERIES_OF_CONNECTION,
    SERIES_OF_HEALTH,
    SERIES_OF_MIRROR,
    SERIES_OF_SERVICE,
    SERIES_OF_SIDECAR,
    SERIES_OF_WATCHER,
    Section,
)


class Words(msgspec.Struct, frozen=True):
    """What the values of a label mean, for the reference."""

    title: str
    metrics: tuple[str, ...]
    meaning: Mapping[str, str]


GLOSSARY: tuple[Words, ...] = (
    Words("`state`, `from_state`, `to_state`", (*BY_STATE, "syncwatch_connection_transitions_total"), {
        State.IDLE: "configured, not started",
        State.CONNECTING: "the first handshake is under way",
        State.RESYNCING: "connected; what was missed has been asked for and is not settled yet",
        State.OPEN: "connected and caught up",
        State.POLLING: "no WebSocket; the HTTP feed carries on",
        State.RECONNECTING: "waiting for the next attempt, or in it",
        State.FAILED: "too many failures, or credentials refused; still retried, every minute and when the token changes",
        State.CLOSED: "stopped on purpose",
    }),
    Words("`reason` of a failed attempt", ("syncwatch_connection_attempt_failures_total",), {
        AttemptFailure.DNS: "the host name was not found",
        AttemptFailure.REFUSED: "nobody listens on that port",
        AttemptFailure.UNREACHABLE: "no way to the host: no route, network down, not permitted",
        AttemptFailure.TLS: "the TLS handshake or the certificate check failed",
        AttemptFailure.TIMEOUT: "the handshake took too long",
        AttemptFailure.UNAUTHORIZED: "HTTP 401: the token was refused; or its file cannot be used, and then nobody was asked",
        AttemptFailure.FORBIDDEN: "HTTP 403: the token may not do this",
        AttemptFailure.RATE_LIMITED: "HTTP 429: too many clients or attempts",
        AttemptFailure.REJECTED: "any other HTTP answer than the upgrade",
        AttemptFailure.PROTOCOL: "the connection broke during the handshake, or what answered does not speak WebSocket or this protocol",
    }),
    Words("`reason` of a disconnect", ("syncwatch_connection_disconnects_total",), {
        Disconnect.PEER_CLOSED: "the server closed it in good order",
        Disconnect.PEER_ERROR: "the server closed it with an error code",
        Disconnect.NETWORK: "it broke without a close frame",
        Disconnect.HEARTBEAT_TIMEOUT: "half-open: nothing arrives any more, answers to pings included",
        Disconnect.SEND_TIMEOUT: "half-open: frames arrive, but what we send does not get through",
        Disconnect.OVERFLOW: "the server asked us to come back later (1013): overloaded, or we read too slowly",
        Disconnect.RESYNC_TIMEOUT: "a resync brought nothing for too long",
        Disconnect.SUPERSEDED: "another client took our place",
        Disconnect.PROTOCOL_ERROR: "what arrived breaks the rules, so that nothing after it can be trusted",
        Disconnect.LOCAL: "we closed it ourselves",
    }),
    Words("`code`", ("syncwatch_connection_close_codes_total",), {
        "1000": "normal", "1001": "going away", "1006": "no close frame", "1008": "policy violation", "1011": "server error",
        "1012": "restart", "1013": "try again later", "other": "any other code",
    }),
    Words("`phase` of a handshake", ("syncwatch_connection_last_handshake_seconds",), {
        "dns": "name lookup", "tcp": "TCP connect", "tls": "TLS handshake", "upgrade": "the WebSocket upgrade",
        "protocol": "the protocol's own handshake, if it has one",
    }),
    Words("`kind` of a frame", ("syncwatch_frames_received_total", "syncwatch_frames_sent_total"), {
        FrameKind.EVENT: "data", FrameKind.CONTROL: "acknowledgements, subscriptions and the like",
        FrameKind.HEARTBEAT: "pings and their answers", FrameKind.RESYNC: "requests for the missed part, tip checks included",
        FrameKind.INVALID: "not understood",
        FrameKind.UNKNOWN: "of any kind: whoever counted them did not tell them apart",
    }),
    Words("`kind` of an anomaly", ("syncwatch_protocol_anomalies_total",), {
        Anomaly.MALFORMED: "a frame that is not understood",
        Anomaly.OVERSIZED: "a frame above the configured limit",
        Anomaly.BAD_SEQUENCE: "an event whose number is no positive whole number",
        Anomaly.IMPLAUSIBLE_JUMP: "a number so far ahead that the server was asked first",
        Anomaly.ACK_EARLY: "an acknowledgement before all of its replay had come",
        Anomaly.ACK_MISSING: "no acknowledgement",
        Anomaly.ACK_UNSOLICITED: "an acknowledgement that nobody asked for, or of something else",
        Anomaly.REPLAY_SHORT: "fewer replayed frames than the acknowledgement claims",
    }),
    Words("`result` of a tip check", ("syncwatch_verifications_total",), {
        Verification.VERIFIED: "nothing newer than what had arrived",
        Verification.BEHIND: "the server had newer events that it had not delivered",
        Verification.FAILED: "no answer",
    }),
    Words("`direction` of a half-open connection", ("syncwatch_half_open_total",), {
        Direction.RECEIVE: "nothing arrives any more",
        Direction.SEND: "frames arrive, but our pings are never answered",
    }),
    Words("`origin` of an event", ("syncwatch_events_received_total",), {
        Origin.LIVE: "pushed as it happened", Origin.RING: "replayed from the server's buffer",
        Origin.STORE: "replayed from the server's database", Origin.POLL: "read from the HTTP feed while polling",
        Origin.AUDIT: "found by comparing with the HTTP feed",
    }),
    Words("`cause` of a gap", ("syncwatch_sequence_gaps_total",), {
        GapCause.LIVE: "a jump on the open connection", GapCause.RECONNECT: "numbers missed while there was none",
    }),
    Words("`claim` of the server about a replay", ("syncwatch_resyncs_total",), {
        Claim.COMPLETE: "nothing is missing", Claim.GAP: "its buffer did not reach back far enough", Claim.NONE: "no answer",
    }),
    Words("`verdict` of the ledger on it", ("syncwatch_resyncs_total",), {
        Verdict.VERIFIED: "true: everything is accounted for, losses included",
        Verdict.CONTRADICTED: "false: the numbers say otherwise",
        Verdict.UNVERIFIABLE: "cannot be known",
    }),
    Words("`result` of an audit", ("syncwatch_audits_total",), {
        AuditResult.CLEAN: "the log has nothing that had not arrived",
        AuditResult.REPAIRED: "events had not arrived; they were taken from the log",
        AuditResult.FAILED: "the log could not be read",
    }),
    Words("`verdict` of an audit about an event", ("syncwatch_audit_events_total",), {
        AuditVerdict.LATE: "the log had it first, but the WebSocket brought it within the grace",
        AuditVerdict.MISSED: "the WebSocket did not bring it; recovered from the log",
        AuditVerdict.INVENTED: "the WebSocket brought it, and the log does not have it",
    }),
    Words("`mode` of a watcher", ("syncwatch_watcher_info",), {
        WatchMode.ACTIVE: "the file system tells, and a sentinel proves it",
        WatchMode.PASSIVE: "the file system tells, and nothing is written to prove it",
        WatchMode.POLLING: "the tree is read again and again, because the file system would not tell of every change",
    }),
    Words("`change` of a path", ("syncwatch_watcher_events_total",), {
        FileChange.ADDED: "made, or moved here",
        FileChange.MODIFIED: "its content or its attributes",
        FileChange.DELETED: "deleted, or moved away; a directory with all that was in it",
    }),
    Words("`result` of a sentinel", ("syncwatch_watcher_sentinels_total",), {
        SentinelResult.SEEN: "its event came in time",
        SentinelResult.MISSED: "it was written, and its event did not come in time",
    }),
    Words("`reason` of a watch that is made again", ("syncwatch_watcher_restarts_total",), {
        WatchTrouble.MISSED: "a sentinel was missed",
        WatchTrouble.ERROR: "permissions, a file system that does not answer, or any other error",
        WatchTrouble.ROOT_GONE: "nothing is at the root's path",
        WatchTrouble.ROOT_REPLACED: "another directory or another file system is at the root's path",
        WatchTrouble.OVERFLOW: "more events came at once than the kernel keeps",
        WatchTrouble.LIMITS: "no inotify watch or no inotify instance was left",
    }),
    Words("`direction` and `operation` of a mirror's file", ("syncwatch_mirror_files_total",), {
        "to_mount": "in the mount", "to_project": "in the project", "copied": "the other tree's file was put there", "deleted": "it was deleted there",
    }),
    Words("`result` of a flush", ("syncwatch_mirror_flushes_total",), {
        FlushResult.COMPLETE: "everything that was written before it was asked for is on the other side",
        FlushResult.TIMEOUT: "something still differed when the time was over",
        FlushResult.ERROR: "a root was not there at the end, or the mirror was stopped",
    }),
    Words("`reason` of a failed probe", ("syncwatch_service_probe_failures_total",), {
        ProbeFailure.REFUSED: "no HTTP answer, at once: nobody listens, no way there, hung up, or what answers does not speak HTTP",
        ProbeFailure.DNS: "the host name was not found",
        ProbeFailure.TLS: "the TLS handshake or the certificate check failed",
        ProbeFailure.TIMEOUT: "no answer in time",
        ProbeFailure.STATUS: "an answer with another status than expected; by default 400 or above",
        ProbeFailure.BODY: "the status was right, and `expect_body` was not found",
    }),
    Words("`result` of a webhook delivery", ("syncwatch_hook_deliveries_total",), {
        "delivered": "the receiver took it (2xx)",
        "retried": "an attempt that failed and is followed by another one",
        "dropped": "given up: refused, attempts used up, the queue full, or the process ended first",
    }),
    Words("`ledger`", ("syncwatch_ledger_forgotten_total",), {
        "identities": "events remembered to recognise further copies", "ranges": "numbers known to be missing",
        "hashes": "contents remembered by number, to recognise a restarted counter",
    }),
)  # fmt: skip


_PREAMBLE = """\
<!-- Generated by `python -m syncwatch.exposition.reference`; a test fails when this page and the code differ. -->

# Metrics

Everything that syncwatch exports on `/metrics`, in text 0.0.4 and OpenMetrics 1.0.0.

- **Counters** start at 0 with the process. Totals over restarts are in `/status`.
- **What can happen stands at 0** from the first scrape. **What cannot be known is absent**, never an invented 0.
- **Timestamps** are Unix times, stamped once, when it happened. **Ages** are computed while the scrape is answered.
- **Label values** are names from your configuration or the fixed words below; nothing the server sends becomes one.
- Each metric about a connection has the label `connection`, its name in the configuration; each about a watcher `watcher`, each about a mirror `mirror`, each about a service `target_service`.
- A histogram `x` is exported as `x_bucket` (with the label `le`), `x_sum` and `x_count`.
- **Cost**: a connection has at most {connection} series, {canary} more with a canary and {health} for its health; a watcher at most {watcher}, a mirror at most {mirror}, a service at most {service};
  the rest of a sidecar has at most {sidecar}.
- `/metrics?name[]=x` (repeatable) answers with the metrics of those names alone.
"""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _section_table(section: Section) -> list[str]:
    rows = [f"\n## {section.value}\n"]
    if section is Section.PROCESS:
        rows.append("Read from `/proc` by prometheus-client; absent where there is none (macOS).\n")
    rows += ["| metric | type | further labels | meaning | absent |", "|---|---|---|---|---|"]
    for one in DEFINITIONS:
        if one.section is section:
            labels = ", ".join(f"`{label}`" for label in one.further)
            rows.append(
                f"| `{one.name}` | {one.kind.value} | {labels} | {_escaped(one.help)} | {_escaped(one.absent)} |"
            )
    return rows


def _words(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _glossary() -> list[str]:
    rows = ["\n## Label values"]
    for group in GLOSSARY:
        rows += [f"\n### {group.title}\n", f"In {_words(group.metrics)}.\n", "| value | meaning |", "|---|---|"]
        rows += [f"| `{word}` | {meaning} |" for word, meaning in group.meaning.items()]
    rows += ["\n### Possible transitions\n", "| from | to |", "|---|---|"]
    rows += [f"| `{state}` | {_words(row) or 'none'} |" for state, row in TRANSITIONS.items()]
    rows += ["\n### `component`, `name`, `health`\n"]
    rows.append(f"`component` is {_words(COMPONENTS)}; `name` is the configured name, `syncwatch` for the sidecar.")
    rows.append(f"`health` is {_words(Health)}.")
    rows += ["\n### `reason` of `syncwatch_degraded` and `syncwatch_degradations_total`\n"]
    rows += ["Gravest first.\n", "| reason | what it means and what to do |", "|---|---|"]
    rows += [f"| `{reason}` | {ADVICE[reason]} |" for reason in REASONS]
    return [*rows, "\nWhere a connection is only read about (TPS in mode `passive`), the status, hooks and callbacks say what to look at there instead."]


def _protocol_table() -> list[str]:
    rows = [
        "\n## Which protocol reports what\n",
        "A connection reports all of the sections above (Canary only when one is configured), except:\n",
        "| protocol | dialect | metrics | never | because |",
        "|---|---|---|---|---|",
    ]
    for (protocol, dialect), rules in NEVER.items():
        rows += [
            f"| {protocol} | {dialect} | {_words(one.metrics)} | {_words(one.values) or 'absent'} | {one.why} |" for one in rules
        ]
    return rows


def _bucket_lines() -> list[str]:
    rows = ["\n## Buckets\n", "Upper bounds in seconds; `+Inf` follows.\n"]
    for buckets in (FAST_S, SLOW_S):
        names = _words(one.name for one in DEFINITIONS if one.buckets == buckets)
        rows.append(f"- {' '.join(f'{bound:g}' for bound in buckets)}: {names}")
    return rows


def reference() -> str:
    """The reference page, Markdown."""
    lines = [line for section in Section for line in _section_table(section)]
    preamble = _PREAMBLE.rstrip().format(
        connection=SERIES_OF_CONNECTION,
        canary=SERIES_OF_CANARY,
        health=SERIES_OF_HEALTH,
        watcher=SERIES_OF_WATCHER,
        mirror=SERIES_OF_MIRROR,
        service=SERIES_OF_SERVICE,
        sidecar=SERIES_OF_SIDECAR,
    )
    return "\n".join([preamble, *lines, *_glossary(), *_protocol_table(), *_bucket_lines()]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
