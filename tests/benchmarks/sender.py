"""A Relaycast server that costs little: it writes frames made beforehand, at full speed, at a pace, or as a replay.

What belongs here: what a client's side of a measurement needs from a server (the upgrade, pongs, resync, a mark that tells when everything was
read). It runs in a process of its own (`python -m tests.benchmarks.sender`), told by lines of JSON on standard input, so that its work
is in nobody's figures; the half-open measurement uses `Server` directly.

The mark is a WebSocket ping after the last frame: clients answer pings in order, so its pong says that all frames before it were handled.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import hashlib
import json
import queue
import socket
import sys
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.benchmarks.frames import Stream, websocket_frame

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
RING = 500
CHUNK = 256  # frames under one lock: an answer to a ping waits for no more
PATIENCE_S = 60.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Silence(enum.Enum):
    """What a dead peer leaves unanswered."""

    PONGS = "deaf"
    EVERYTHING = "silent"


class Peer:
    """One client's socket. Its reader thread answers pings and resync requests; whoever sends takes `lock` first."""

    def __init__(self, name: str, sock: socket.socket, server: Server) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.pongs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.resyncs: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.pinged = threading.Event()
        self.closed = threading.Event()
        self.last_ping_s = 0.0
        self.closed_s = 0.0
        self.silence: Silence | None = None
        self._sock = sock
        self._server = server
        self._file = sock.makefile("rb")

    def read_all(self) -> None:
        """Read until the end; the reader thread's body."""
        try:
            with contextlib.suppress(OSError):
                while (message := self._read_one()) is not None:
                    self._take(*message)
        finally:
            self._end()
            self._sock.close()

    def write(self, data: bytes | memoryview) -> None:
        """Write whole frames; `lock` is held."""
        self._sock.sendall(data)

    def send(self, data: bytes) -> None:
        """Write whole frames."""
        with self.lock:
            self.write(data)

    def send_text(self, text: str) -> None:
        """Write one text frame."""
        self.send(websocket_frame(text.encode()))

    def drop(self) -> None:
        """End the connection without a close frame."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self.closed.wait(PATIENCE_S)

    def _read_one(self) -> tuple[int, bytes] | None:
        head = self._file.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(self._file.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self._file.read(8), "big")
        mask = self._file.read(4)
        data = bytes(byte ^ mask[i & 3] for i, byte in enumerate(self._file.read(size)))
        return head[0] & 0x0F, data

    def _take(self, opcode: int, data: bytes) -> None:
        if opcode == PONG:
            self.pongs.put(data)
        elif opcode == CLOSE:
            self._end()
            self.send(websocket_frame(data, CLOSE))
        elif opcode == TEXT:
            message = json.loads(data)
            if message["type"] == "ping":
                self.last_ping_s = time.monotonic()
                self.pinged.set()
                if self.silence is None:
                    self.send_text('{"type":"pong"}')
            elif message["type"] == "resync" and self.silence is not Silence.EVERYTHING:
                self._server.resync(self, message["last_seen_seq"])

    def _end(self) -> None:
        if not self.closed.is_set():
            self.closed_s = time.monotonic()
            self.closed.set()


class Server:
    """Listens on a port of its own on 127.0.0.1. A client is known by its token; `position` is the newest number it was sent."""

    def __init__(self, stream: Stream) -> None:
        self.position: dict[str, int] = {}
        self._stream = stream
        self._peers: dict[str, Peer] = {}
        self._replays: dict[str, int] = {}  # a client whose next resync brings so many numbers
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def peer(self, name: str) -> Peer:
        """The open socket of a client, waiting for it. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._peers and not self._peers[name].closed.is_set(), PATIENCE_S):
                raise TimeoutError(f"{name} did not connect")
            return self._peers[name]

    def settle(self, name: str) -> None:
        """Wait until a client has asked for the newest number: what syncwatch does two seconds after its first connection."""
        self.peer(name).resyncs.get(timeout=PATIENCE_S)

    def live(self, name: str, count: int, rate: float) -> float:
        """Send the next `count` frames, `rate` a second (0: as fast as they go); returns the seconds until all were handled."""
        peer, first = self.peer(name), self.position[name] + 1
        start_s = time.monotonic()
        size = CHUNK if rate == 0 else 1
        for low in range(first, first + count, size):
            if rate:
                time.sleep(max(0.0, start_s + (low - first) / rate - time.monotonic()))
            high = min(low + size, first + count) - 1
            with peer.lock:
                peer.write(self._stream.part(low, high))
                self.position[name] = high
        self._mark(peer)
        return time.monotonic() - start_s

    def live_now(self, name: str) -> None:
        """Send the next frame, if there is still a socket to take it."""
        with contextlib.suppress(OSError):
            peer, number = self.peer(name), self.position[name] + 1
            with peer.lock:
                peer.write(self._stream.part(number, number))
                self.position[name] = number

    def replay(self, name: str, count: int) -> float:
        """Drop a client and answer the resync of its next connection with `count` numbers that it missed."""
        start_s = time.monotonic()
        self._replays[name] = count
        self.peer(name).drop()
        peer = self.peer(name)
        peer.resyncs.get(timeout=PATIENCE_S)
        self._mark(peer)
        return time.monotonic() - start_s

    def resync(self, peer: Peer, after: int) -> None:
        """Answer as §5 says, from the ring or, once after `replay`, from a ring that is long enough."""
        extra = self._replays.pop(peer.name, None)
        with peer.lock:
            self.position[peer.name] = current = self.position[peer.name] + (extra or 0)
            oldest = 1 if extra is not None else max(1, current - RING + 1)
            first = max(after + 1, oldest)
            replayed = max(0, current - first + 1)
            for low in range(first, current + 1, CHUNK):
                peer.write(self._stream.part(low, min(low + CHUNK - 1, current)))
            ack = {"type": "resync_ack", "last_seen_seq": after, "current_seq": current, "replayed": replayed,
                   "gap_detected": after < oldest - 1}  # fmt: skip
            peer.write(websocket_frame(json.dumps(ack).encode()))
        peer.resyncs.put(after)

    def _mark(self, peer: Peer) -> None:
        peer.send(websocket_frame(b"mark", PING))
        if peer.pongs.get(timeout=PATIENCE_S) != b"mark":
            raise ValueError("a pong that answers no mark")

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = [b""]
        head = sock.makefile("rb", buffering=0)  # unbuffered: what follows the head is the reader's
        while (line := head.readline().rstrip(b"\r\n")) or lines == [b""]:
            lines.append(line)
        headers = {key.strip().lower(): value.strip() for key, _, value in (row.decode().partition(":") for row in lines[2:])}
        name = parse_qs(urlsplit(lines[1].split()[1].decode()).query)["token"][0]
        accept = base64.b64encode(hashlib.sha1(f"{headers['sec-websocket-key']}{GUID}".encode()).digest()).decode()
        sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        peer = Peer(name, sock, self)
        with self._changed:
            self._peers[name] = peer
            self.position.setdefault(name, 0)
            self._changed.notify_all()
        peer.read_all()


def main() -> None:
    """Obey lines of JSON: {"do": "settle"|"live"|"replay"|"peer", "name": …}; a line with the result answers each."""
    server = Server(Stream(sys.argv[1], int(sys.argv[2])))
    print(json.dumps({"port": server.port}), flush=True)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        seconds: float | None = None
        match order.pop("do"):
            case "peer":
                server.peer(**order)
            case "settle":
                server.settle(**order)
            case "live":
                seconds = server.live(**order)
            case "replay":
                seconds = server.replay(**order)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
