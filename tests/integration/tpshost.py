"""A process that keeps the state file of a TPS host as the real one does: in place, in two writes, not atomically; told what to do on standard input.

Words, a line each: `freeze` (the branch answers no more), `thaw`, `lose` (the connection ends: nothing is written), `connect` (a new one), `half` (stop in the
middle of a write), `whole`, `loose` (modes), `mail` (a message that is no answer). SIGINT takes the file away, SIGTERM and SIGKILL leave it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def stamp() -> str:
    """Now, as JavaScript writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Host:
    """The loop of `office connect`, without a network."""

    def __init__(self, path: Path, branch: str, interval_s: float) -> None:
        self.path, self.branch, self.interval_s = path, branch, interval_s
        self.turns, self.frozen, self.half, self.alive = 0, False, False, False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state: dict[str, Any] = {}

    def connect(self) -> None:
        """A fresh state, the first heartbeat at once."""
        now = stamp()
        self.state = {
            "branch": self.branch, "connectedAt": now, "lastHeartbeatSent": now, "lastHeartbeatAck": None, "reconnectCount": self.turns,
            "bytesSent": 0, "bytesReceived": 0, "messagesSent": 0, "messagesReceived": 0, "pid": os.getpid(),
        }  # fmt: skip
        self.alive = True
        self.write()
        self.beat()

    def beat(self) -> None:
        """A heartbeat, and the echo unless the branch is frozen."""
        self.state["lastHeartbeatSent"] = stamp()
        self.state["messagesSent"] += 1
        self.write()
        if not self.frozen:
            self.hear()

    def hear(self) -> None:
        """Anything arrives."""
        self.state["lastHeartbeatAck"] = stamp()
        self.state["messagesReceived"] += 1
        self.write()

    def write(self) -> None:
        """In place: emptied first, then written in two parts."""
        text = json.dumps(self.state, indent=2).encode()
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(file, text[: len(text) // 2])
        if not self.half:
            os.write(file, text[len(text) // 2 :])
        os.close(file)

    def told(self, word: str) -> None:
        """Do as told."""
        match word:
            case "freeze" | "thaw":
                self.frozen = word == "freeze"
            case "lose":
                self.alive = False
            case "connect":
                self.turns += 1
                self.connect()
            case "half" | "whole":
                self.half = word == "half"
                self.write()
            case "loose":
                self.path.chmod(0o644)
            case "mail":
                self.hear()
        print(word, flush=True)

    def run(self) -> None:
        """Until the end of standard input."""
        self.connect()
        print("connected", flush=True)
        waiting = selectors.DefaultSelector()
        waiting.register(sys.stdin, selectors.EVENT_READ)
        due_s = time.monotonic() + self.interval_s
        while True:
            if waiting.select(max(0.0, due_s - time.monotonic())):
                word = sys.stdin.readline()
                if not word:
                    return
                self.told(word.strip())
            if time.monotonic() >= due_s:
                due_s += self.interval_s
                if self.alive and not self.half:
                    self.beat()


def main() -> None:
    """PATH BRANCH INTERVAL_S."""
    host = Host(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        host.run()
    except KeyboardInterrupt:
        host.path.unlink()


if __name__ == "__main__":
    main()
