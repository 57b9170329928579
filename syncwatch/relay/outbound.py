"""One WebSocket as the server writes to it, whatever it speaks: frames in order, held back or not, and every way to end.

Frames are written to the transport directly, so that "sent" is exact: what the ledger calls sent has been handed to the
transport at that moment, in that order, and nothing was written that the ledger does not know. Reading, and the
handshake, are the doors'. What a protocol adds stands in its subclass.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

from syncwatch.relay import kinds
from syncwatch.relay.events import Frame
from syncwatch.relay.framing import CLOSE, PONG, TEXT, FrameWriter
from syncwatch.relay.injector import END_KINDS, Active, Injector, selects
from syncwatch.relay.ledger import Closed, Injected, Ledger, Pong

LINGER_S = 1.0
"""How long a dropped client may take to read the rest and go, before its socket is aborted."""
CLOSE_S = 2.0
"""How long a client may take to answer a close frame."""
MAX_BUFFER = 512 * 1024 * 1024
"""A client that lets this much pile up is reset: the relay must not eat the machine."""


class Outbound(ABC):
    """One socket. `label` names whose stream it is, in faults and in facts."""

    protocol: ClassVar[kinds.ProtocolName] = "relaycast"
    """What it speaks: faults may be about one protocol only."""
    writer: ClassVar[type[FrameWriter]] = FrameWriter
    """How its frames become bytes."""

    def __init__(self, ident: int, transport: asyncio.Transport, label: str, ledger: Ledger, faults: Injector) -> None:
        self.id = ident
        self.label = label
        self.faults = faults
        self.open = True
        """Whether anything more may be written."""
        self.readable = asyncio.Event()
        """Cleared while a fault keeps the server from reading."""
        self.readable.set()
        self._ledger = ledger
        self._transport = transport
        self._writer = self.writer(transport)
        self._loop = asyncio.get_running_loop()
        self._silent = faults.take(kinds.AcceptOnly, label, self.protocol) is not None
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._queueing = False
        self._frozen = False
        self._delay: kinds.Delay | None = None
        self._swapped: list[Frame] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._client_close: tuple[int | None, str] | None = None
        self._end: dict[str, Any] | None = None
        self._noted = False
        self.refresh()

    # What a protocol says of itself

    @abstractmethod
    def _record(self, number: int | None, kind: str, key: str, origin: str) -> None:
        """Write down that an event frame was handed over, at `self.position`."""

    @abstractmethod
    def _pong(self) -> bytes:
        """The answer to an application ping."""

    @abstractmethod
    def _detach(self) -> None:
        """Take the socket out of delivery; a second call does nothing."""

    # What the delivery rules say

    def live(self, frame: Frame) -> None:
        """An event, as it happens."""
        if self.faults.live_watch:
            self._live_watched(frame)
        else:
            self.event(frame, "live")

    def event(self, frame: Frame, origin: str) -> None:
        """An event as pushed; `origin` says where it comes from."""
        if self._queueing:
            self._out(partial(self._write_event, frame.number, frame.kind, frame.key, frame.payload, origin))
        else:
            self._write_event(frame.number, frame.kind, frame.key, frame.payload, origin)

    def ping(self) -> None:
        """Answer an application ping."""
        if self._no_pong("application"):
            return
        slow = self.faults.take(kinds.SlowPong, self.label, self.protocol)
        if slow is None:
            self._out(self._write_pong)
        else:
            self.later(slow.delay_s, partial(self._out, self._write_pong))

    def websocket_ping(self, data: bytes) -> None:
        """Answer a WebSocket ping."""
        if not self._no_pong("websocket"):
            self._out(partial(self._write_control, PONG, data))

    def inject(self, payload: bytes, opcode: int = TEXT) -> None:
        """A raw frame, valid or not."""
        self._out(partial(self._write_injected, payload, opcode))

    @contextmanager
    def corked(self) -> Iterator[None]:
        """Hand the frames of a burst to the transport in one piece."""
        self._writer.cork()
        try:
            yield
        finally:
            self._writer.uncork()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call while the connection is open, in `delay_s` seconds."""

        def due() -> None:
            self._timers.discard(handle)
            if self.open:
                call()

        handle = self._loop.call_later(delay_s, due)
        self._timers.add(handle)

    # Ends

    def drop(self) -> None:
        """Flush, then end the stream without a close frame: all that was sent arrives, if the client reads it."""
        if self._leave("dropped", "relay"):
            # A plain close with unread input would make the kernel send RST, and RST destroys what the client has not
            # read yet.
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
            self._linger(self._loop.time() + LINGER_S)

    def reset(self, reason: str = "") -> None:
        """End with RST."""
        if self._leave("reset", "relay", None, reason):
            self._note_closed()
            # The option belongs to the socket, not to the descriptor: a duplicate reaches it under any event loop.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor())) as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def close(self, code: int, reason: str) -> None:
        """Close with a code; the client has 2 s to answer. Frames that are held back go first."""
        if self._silent:
            self.drop()
        elif self.open:
            self._detach()
            self._out(partial(self._close_now, code, reason))

    def closed_by_client(self, code: int | None, reason: str) -> None:
        """The client sent a close frame: answer it, unless it answers ours. A frozen server answers late or not at all."""
        if self.open:
            self._client_close = (code, reason)
            self._detach()
            self._out(partial(self._answer_close, code, reason))
        else:
            self._note_closed()
            self._transport.close()

    def closed_by_reader(self, code: int) -> None:
        """The reader found the client's frames malformed and sent a close frame itself."""
        self._leave("closed", "relay", code, "protocol error")
        self._note_closed()

    def lost(self) -> None:
        """The socket is gone and will not come back: note it, leave nothing behind."""
        if self._client_close is None:
            self._leave("lost", "client")
        else:
            self._leave("closed", "client", *self._client_close)
        self._note_closed()
        for timer in self._timers:
            timer.cancel()

    def stop(self) -> None:
        """The relay stops: say so, and go as soon as all is flushed."""
        self.close(1001, "")
        if self.open:  # frozen: nothing can be said
            self._leave("dropped", "relay")
        self._transport.close()

    @property
    def position(self) -> int:
        """How many data frames were handed over."""
        return self._writer.frames

    @property
    def unflushed(self) -> bool:
        """Whether something still waits for the client to read."""
        return self._writer.buffered() > 0

    def abort(self) -> None:
        """Let the socket go at once."""
        self._note_closed()
        # A transport that has finished has no loop to abort with.
        if not self._transport.is_closing() or self._writer.buffered():
            self._transport.abort()

    def end_by(self, spec: kinds.FaultSpec) -> None:
        """End as a fault says."""
        if isinstance(spec, kinds.Drop):
            self.drop()
        elif isinstance(spec, kinds.Reset):
            self.reset()
        elif isinstance(spec, kinds.Close):
            self.close(spec.code, spec.reason)

    @property
    def gone(self) -> bool:
        """Whether the socket is closed or closing for good."""
        return self._transport.is_closing()

    # Faults that hold frames back

    def refresh(self) -> None:
        """Look again which faults hold; what no longer has to wait goes out, in order."""
        if not self.open:
            return
        freeze = {fault.spec.direction for fault in self.faults.all_of(kinds.Freeze, self.label, self.protocol)}
        self._frozen = bool(freeze & {"to_client", "both"})
        delay = self.faults.find(kinds.Delay, self.label, self.protocol)
        if self._delay is not None and delay is None:
            self._queue = deque((0.0, call) for _, call in self._queue)
        self._delay = delay.spec if delay else None
        self._read(not freeze & {"from_client", "both"})
        if self._swapped and self.faults.find(kinds.Reorder, self.label, self.protocol) is None:
            self._unswap()
        self._pump()

    def _read(self, reading: bool) -> None:
        if reading == self.readable.is_set() or self._transport.is_closing():
            return
        if reading:
            self.readable.set()
            self._transport.resume_reading()
        else:
            self.readable.clear()
            self._transport.pause_reading()

    def _out(self, call: Callable[[], None]) -> None:
        """Write now, or when it is this frame's turn."""
        if not self._queueing:
            call()
            return
        if self._silent or not self.open:
            return
        due_s = 0.0
        if self._delay is not None:
            due_s = self._loop.time() + self._delay.delay_s + self.faults.random.random() * self._delay.jitter_s
            if self._queue:
                due_s = max(due_s, self._queue[-1][0])
        self._queue.append((due_s, call))
        if len(self._queue) == 1:
            self._pump()

    def _pump(self) -> None:
        while self._queue and not self._frozen:
            due_s, call = self._queue[0]
            wait_s = due_s - self._loop.time()
            if wait_s > 0:
                self.later(wait_s, self._pump)
                break
            self._queue.popleft()
            call()
        self._queueing = self._silent or self._frozen or self._delay is not None or bool(self._queue)

    def _live_watched(self, frame: Frame) -> None:
        stall = self.faults.find(kinds.Stall, self.label, self.protocol)
        if stall is not None:
            self.faults.fire(stall, quietly=True)
        elif self._picked(kinds.Skip, frame):
            pass
        elif self._picked(kinds.Reorder, frame):
            self._swapped.append(frame)
        else:
            self.event(frame, "live")
            if self._picked(kinds.Duplicate, frame):
                self.event(frame, "live")
            self._unswap()

    def _picked(self, kind: type[kinds.LiveFault], frame: Frame) -> bool:
        for fault in self.faults.all_of(kind, self.label, self.protocol):
            if selects(fault, frame.number, frame.kind):
                self.faults.fire(fault)
                return True
        return False

    def _unswap(self) -> None:
        swapped, self._swapped = self._swapped, []
        for frame in swapped:
            self.event(frame, "live")

    def _no_pong(self, level: str) -> bool:
        fault = self.faults.find(kinds.NoPong, self.label, self.protocol)
        if fault is None or fault.spec.level not in (level, "both"):
            return False
        self.faults.fire(fault)
        return True

    # Writing

    def _write(self, opcode: int, payload: bytes) -> bool:
        """Hand one frame to the transport; False if there is nothing to hand it to any more."""
        return self.open and self._writer.write(opcode, payload)

    def _write_control(self, opcode: int, payload: bytes) -> None:
        self._write(opcode, payload)

    def _write_data(self, opcode: int, payload: bytes) -> bool:
        """The same for a data frame, which has a position."""
        return self.open and self._writer.write(opcode, payload, counts=True)

    def _write_event(self, number: int | None, kind: str, key: str, payload: bytes, origin: str) -> None:
        if self._write_data(TEXT, payload):
            self._record(number, kind, key, origin)
            self._sent(number)

    def _write_pong(self) -> None:
        if self._write_data(TEXT, self._pong()):
            self._ledger.add(Pong, connection=self.id, position=self._writer.frames)
            self._sent(None)

    def _write_injected(self, payload: bytes, opcode: int) -> None:
        if self._write_data(opcode, payload):
            head = payload[:200].decode(errors="replace")
            self._ledger.add(
                Injected, connection=self.id, position=self._writer.frames, opcode=opcode, size=len(payload), head=head
            )
            self._sent(None)

    def _sent(self, number: int | None) -> None:
        """A frame is out: is a fault waiting for it? Does the client read at all?"""
        if self._writer.frames % 256 == 0 and self._writer.buffered() > MAX_BUFFER:
            self.reset("the client does not read")
        if not self.faults.sent_watch:
            return
        for kind in END_KINDS:
            for fault in self.faults.all_of(kind, self.label, self.protocol):
                if self.open and self._hit(fault, number):
                    self.faults.fire(fault)
                    self.end_by(fault.spec)

    def _hit(self, fault: Active[Any], number: int | None) -> bool:
        spec = fault.spec
        base = fault.bases.setdefault(self.id, self._writer.frames - 1)
        if spec.seq is not None and spec.seq != number:
            return False
        if spec.frames is not None and spec.frames != self._writer.frames - base:
            return False
        return spec.seq is not None or spec.frames is not None

    # Closing

    def _close_now(self, code: int, reason: str) -> None:
        self._write(CLOSE, struct.pack("!H", code) + reason.encode())
        if self._leave("closed", "relay", code, reason):
            self._timers.add(self._loop.call_later(CLOSE_S, self.abort))

    def _answer_close(self, code: int | None, reason: str) -> None:
        self._write(CLOSE, b"" if code is None else struct.pack("!H", code))
        self._leave("closed", "client", code, reason)
        self._linger(self._loop.time() + LINGER_S, close=True)

    def _linger(self, until_s: float, *, close: bool = False) -> None:
        """Note the end as soon as all is flushed; then wait for the client to go (or `close`)."""
        if not self._writer.buffered() or self._transport.is_closing():
            self._note_closed()
            if close:
                self._transport.close()
        if self._transport.is_closing():
            return
        if self._loop.time() >= until_s:
            self.abort()
        else:
            self._timers.add(self._loop.call_later(0.01, partial(self._linger, until_s, close=close)))

    def _leave(self, how: str, by: str, code: int | None = None, reason: str = "") -> bool:
        """Write nothing more; False if that was so already."""
        if not self.open:
            return False
        self._writer.uncork()
        self.open = False
        self._end = {"how": how, "by": by, "code": code, "reason": reason}
        self._queue.clear()
        self._swapped.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._detach()
        self._read(True)
        self.readable.set()
        return True

    def _descriptor(self) -> int:
        plain: socket.socket = self._transport.get_extra_info("socket")
        return plain.fileno()

    def _note_closed(self) -> None:
        """Record the end, once."""
        if self._noted or self._end is None:
            return
        self._noted = True
        frames, flushed = self._writer.frames, self._writer.flushed()
        self._ledger.add(Closed, connection=self.id, agent=self.label, frames=frames, flushed=flushed, **self._end)
