"""The import law, the purity of the core, and the public names: held by reading the source."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from syncwatch.core.recovery import Line
from syncwatch.core.session import Session

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "syncwatch"

LAW: dict[str, set[str]] = {
    "core": set(),
    "protocols": {"core"},
    "runtime": {"core"},
    "exposition": {"core"},
    "relay": set(),  # a mistake shared with the codec or the ledgers would prove itself
    "config": {"core"},
    "logs": set(),
    "settings": {"core", "config", "protocols", "runtime"},
    "parts": {"core", "config", "protocols", "runtime", "settings"},
    "reload": {"config", "runtime"},
    "app": {"core", "config", "protocols", "runtime", "exposition", "settings", "logs", "reload", "parts"},
    "demo": {"core", "config", "relay", "app"},
    "waiting": {"app", "config", "core", "exposition", "parts", "reload"},
    "running": {"app", "config", "logs", "parts", "waiting"},
    "joining": {"core", "protocols", "runtime"},
    "export": set(),  # other people's files
    "alertrules": {"queries"},
    "queries": {"core", "exposition", "patterns"},
    "patterns": set(),
    "asking": {"config"},
    "screen": set(),
    "cli": {"alertrules", "asking", "export", "app", "config", "relay", "demo", "joining", "logs", "running", "screen"},
    "watch": {"core", "config", "runtime", "exposition", "logs", "app"},
    "version": set(),
    "__init__": {"config", "exposition", "watch"},  # the public names
    "__main__": {"cli", "running"},
}
"""Which room may import which; every room may import itself and the version."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("relay", "protocols.tps.noise"): "held by vectors and an independent implementation: a mistake could not prove itself",
    ("relay", "protocols.tps.records"): "held by the bytes of the real codec",
    ("cli", "exposition.status"): "prints what /status says in the words that the exposition already has",
    ("cli", "protocols.tps.keys"): "reads the token that somebody typed",
    ("cli", "runtime.seedfile"): "makes or finds the identity that somebody named",
    ("asking", "runtime.statusreader"): "knows what a status file is worth",
    ("running", "runtime.statefile"): "names the one exception that says that another process holds the state directory",
}
"""From a room to a module that the law forbids it, with the reason."""

IMPURE = {
    "asyncio", "time", "random", "os", "logging", "socket", "structlog", "secrets", "threading", "subprocess", "io", "pathlib",
    "sys", "select", "selectors", "signal", "tempfile", "shutil", "ssl", "http", "multiprocessing", "concurrent", "contextvars",
    "aiohttp", "uvloop", "warnings", "atexit", "gc", "inspect", "importlib", "builtins",
}  # fmt: skip
"""Clocks, chance, the operating system, the network, logs, other threads: nothing for a pure machine."""

LIBRARIES: dict[tuple[str, str], str] = {
    ("core.ignores", "pathspec"): "patterns as gitignore has them: a pure function with more corners than anybody should write again",
    ("protocols.tps", "cryptography"): "X25519, Ed25519 and ChaCha20-Poly1305: pure functions that the standard library lacks and nobody should write",
}
"""From a package of pure modules to a library that it may use beside msgspec, with the reason."""

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")
}
"""Every module of the package by its name below `syncwatch`."""


def room(module: str) -> str:
    """The room of a module: its first word."""
    return module.partition(".")[0]


def imported(path: Path, for_types_too: bool = True) -> set[str]:
    """Everything that a file imports, anywhere in it, as full dotted names; a name that is a module of ours is that module."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    passed_over = set() if for_types_too else {id(inner) for guard in guards for inner in ast.walk(guard)}
    for node in ast.walk(tree):
        if id(node) in passed_over:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full.removeprefix("syncwatch.") in MODULES else base)
    return found


def own(path: Path, for_types_too: bool = True) -> set[str]:
    """The modules of ours among them."""
    all_names = imported(path, for_types_too)
    names = {name.removeprefix("syncwatch").removeprefix(".") for name in all_names if room(name) == "syncwatch"}
    return {name or "__init__" for name in names}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_one_way(module: str) -> None:
    """Each room imports what the law allows it; an exception is written down with its reason."""
    here = room(module)
    assert here in LAW, f"{here} is a new room: say in the law what it may import"
    for target in own(MODULES[module]):
        allowed = room(target) in LAW[here] | {here, "version"} or (here, target) in EXCEPTIONS
        assert allowed, f"{module} imports {target}"


def test_every_exception_is_used() -> None:
    """An exception that nobody needs any more is none."""
    used = {(room(module), target) for module, path in MODULES.items() for target in own(path)}
    assert EXCEPTIONS.keys() <= used


def test_there_are_no_circles() -> None:
    """Also inside a room, and also not by imports inside functions; only an annotation may look back at who owns it."""
    graph = {module: own(path, for_types_too=False) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for target in graph.get(module, ()):
            walk(target, (*trail, module))
        done.add(module)

    for module in graph:
        walk(module, ())


def test_runtime_and_exposition_never_meet() -> None:
    """The app hands the one what the other needs."""
    rooms = {module: {room(target) for target in own(path)} for module, path in MODULES.items()}
    assert not [module for module, targets in rooms.items() if {room(module), *targets} >= {"runtime", "exposition"} and room(module) not in ("app", "cli", "watch", "running")]


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room(module) in ("core", "protocols")))
def test_core_and_protocols_are_pure(module: str) -> None:
    """Time, chance and settings are arguments: no clock, no entropy, no I/O, no log, no library but msgspec and those with a reason."""
    names = {name.partition(".")[0] for name in imported(MODULES[module])}
    assert not names & IMPURE
    allowed = {library for package, library in LIBRARIES if f"{module}.".startswith(f"{package}.")}
    for name in names - {"syncwatch", "msgspec"} - allowed:
        assert "site-packages" not in (getattr(importlib.import_module(name), "__file__", None) or "")
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in {"now", "utcnow", "today", "uuid4", "uuid1"}, f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec", "__import__"}, f"line {node.lineno}"


@pytest.mark.parametrize("module", sorted(module for module in MODULES if room(module) == "core"))
def test_nothing_in_the_core_knows_a_protocol(module: str) -> None:
    """What differs between protocols is data: no name of one appears in a string or a name of the core (prose may cite its rules)."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        words = [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose else []
        words += [getattr(node, "id", ""), getattr(node, "attr", "")]
        assert not [word for word in words for name in ("relaycast", "relayfile", "tps") if name in str(word).lower().split("_")]


def test_every_module_opens_with_its_law() -> None:
    """A docstring that says what belongs there."""
    assert not [module for module, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]


PUBLIC: dict[str, set[str]] = {
    "core.wire": {
        "MAX_NUMBER", "Numbering", "Settle", "FrameKind", "Traits", "Request", "Event", "Ack", "Pong", "Ready", "Reply", "Control",
        "Deposit", "Invalid", "Said", "Page", "Wire", "Protocol", "FeedProtocol",
    },
    "core.effects": {
        "Field", "Dial", "Send", "Close", "Poll", "Store", "Hold", "Notice", "Notify", "Effect", "Effects", "Handshake", "Answer", "Refused",
        "Compare", "FlushEnded", "Subscribe", "Unsubscribe", "Touch", "CheckRoot",
    },
    "core.states": {
        "State", "ESTABLISHED", "TRANSITIONS", "EDGES", "AttemptFailure", "FlushResult", "ProbeFailure", "Disconnect", "CLOSE_CODES", "Anomaly", "Origin", "Claim",
        "Verdict", "Verification", "AuditResult", "AuditVerdict", "GapCause", "Direction", "diagram",
        "WatchMode", "FileChange", "WatchTrouble", "SentinelResult",
    },
    "core.health": {
        "Reason", "INCIDENTS", "GRAVITY", "Component", "Health", "Condition", "Held", "HealthSnapshot", "Check", "ADVICE",
    },
    "core.snapshot": {
        "Moment", "Transition", "TimelineSnapshot", "HeartbeatSnapshot", "ContinuitySnapshot", "CanarySnapshot", "LifetimeSnapshot",
        "ConnectionSnapshot", "ReportSnapshot", "ServiceLifetimeSnapshot", "ServiceSnapshot", "WatcherSnapshot",
        "Difference", "MirrorSnapshot", "HookSnapshot", "TaskSnapshot", "SidecarSnapshot",
        "Snapshot",
    },
    "core.hook": {
        "CONTENT_TYPE", "RETRIED", "MAX_RETRY_AFTER_S", "SLACK_S", "HookSettings", "Entropy", "CloudEvent", "cloud_event", "Delivery", "Hook",
    },
    "core.service": {
        "SEARCHED_BYTES", "START_SPREAD_S", "SPREAD", "SLACK_S", "NOT_ANSWERED", "ServiceSettings", "Entropy", "Verdict", "HEALTHY", "Service",
    },
    "core.mirror": {
        "LEFT_KEPT", "BATCH", "LONGEST_DEBOUNCE", "RETRY_S", "GONE_RETRY_S", "FLUSH_RETRY_S", "FLUSH_RETRY_MAX_S", "SHOWN", "Report", "MirrorSettings", "Mirror",
    },
    "core.mirror_rules": {
        "PRIMED_NS", "SAME_TIME_NS", "RACY_NS", "SMALL_TREE", "WINDOW_S", "MARKER", "OWN_FOLDER", "TEMPORARY", "UNFINISHED", "ONLY_IN_MOUNT", "Side", "Entry", "Known", "Listing",
        "Kind", "Rules", "Verdict", "Decision", "SETTLED", "REMEMBER", "FORGET", "READ", "Digests", "judge", "Survey", "survey", "Ruling", "Deletions", "beside", "shown",
    },
    "core.watch": {
        "CHECK_S", "ANSWER_S", "SUBSCRIBE_S", "RETRY_MIN_S", "RETRY_MAX_S", "BLIND_RETRY_S", "STABLE_S", "DEAF_AFTER", "SCAN_S", "WatchSettings",
        "Root", "Survey", "Watch",
    },
    "core.occasions": {"FIELDS", "Value", "told"},
    "core.resume": {
        "IDENTITIES_KEPT", "PRESSING_NUMBERS", "Totals", "FeedPoint", "ResumePoint", "ServiceRecord", "totals_only", "capture", "pressing", "restore",
    },
    "core.monitor": {"SIDECAR", "DOWN", "UNDAMPED", "LOOK_S", "HealthSettings", "Watched", "Damped", "Monitor"},
    "core.ledger": {"Settled", "Ledger"},
    "core.recovery": {"SessionSettings", "Entropy", "Line", "Pace", "Recovery"},
    "core.resync": {"PATIENCE", "UNANSWERED_LIMIT", "Round", "Resync"},
    "core.session": {
        "ANOMALY_NOTICE_S", "CONNECTION_REASONS", "STREAM_REASONS", "CLOSED_UNREADY", "POLITE", "LEFT_WIRES", "Session",
    },
    "core.reported": {
        "KEEP_S", "FAILED_AFTER_S", "LATE_S", "REUSE_SLACK_S", "AHEAD_S", "CONNECTIONS_KNOWN", "ANOMALY_NOTICE_S", "OTHERS", "Process", "Advice", "Picture",
        "Sighting", "Look", "ReportedSettings", "Shown", "Key", "Reported",
    },
    "core.rivals": {"CUTS", "Rivals"},
    "core.keeping": {
        "HOLD_COUNT", "HOLD_BYTES", "MOST_COUNT", "MOST_BYTES", "STALL_S", "RETRY_MIN_S", "RETRY_MAX_S", "Waiting", "Keeping",
    },
    "core.unnumbered": {"Arrivals", "Unnumbered"},
    "protocols.relaycast": {
        "SNOWFLAKE_EPOCH_MS", "PAGE_LIMIT", "snowflake_time_s", "content_key", "RingWire", "Relaycast",
    },
}  # fmt: skip
"""What other rooms may use; a change here is a change of the contract between the rooms."""


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_these(module: str) -> None:
    """Nothing became public by accident, nothing that others use went away."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    assert PUBLIC[module] == {name for name in names if not name.startswith("_")}


def test_the_inputs_and_outputs_of_a_session_are_these() -> None:
    """What the shell, the monitor and the app may call: inputs that return effects, and outputs that change nothing."""
    inputs = {
        "wall", "start", "credentials", "configure", "equip", "opened", "received", "failed", "closed", "polled", "stored", "tick", "stop",
    }  # fmt: skip
    outputs = {
        "state", "component", "active", "settled_once", "unstored", "possible_reasons", "interval_s", "reasons", "resume_point", "snapshot",
    }  # fmt: skip
    recovery = {name for name in vars(Line) if not name.startswith("_")}  # what only its own recovery may ask
    assert inputs | outputs | recovery == {name for name in vars(Session) if not name.startswith("_")}
    for name in inputs:
        parameters = list(inspect.signature(getattr(Session, name)).parameters)
        assert ["self", "now"] == parameters[:2], name
        assert "Effects" == inspect.signature(getattr(Session, name)).return_annotation, name
