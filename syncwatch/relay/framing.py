"""Server frames as bytes (RFC 6455 §5.2), and how many of them have left the buffer.

Written by hand because frames have to be handed to the transport synchronously, malformed ones too, and because
"flushed" is counted in frames.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque

TEXT, BINARY, CLOSE, PONG = 0x1, 0x2, 0x8, 0xA


class FrameWriter:
    """Writes frames to a transport. `frames` counts the data frames."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.frames = 0
        self._transport = transport
        self._cork: list[bytes] | None = None
        self._written = 0
        self._marks: deque[int] = deque()

    def write(self, opcode: int, payload: bytes, *, counts: bool = False) -> bool:
        """Hand over one frame; False if the transport is closed. `counts` makes it a data frame."""
        if self._transport.is_closing():
            return False
        size = len(payload)
        head = self._head(opcode, size)
        self._written += len(head) + size
        if self._cork is None:
            self._transport.write(head + payload)
        else:
            self._cork += (head, payload)
        if counts:
            self.frames += 1
            self._marks.append(self._written)
            if self.frames % 256 == 0:
                self._forget()
        return True

    def cork(self) -> None:
        """Collect frames from now on."""
        if self._cork is None:
            self._cork = []

    def uncork(self) -> None:
        """Hand over what was collected, in one piece."""
        cork, self._cork = self._cork, None
        if cork and not self._transport.is_closing():
            self._transport.write(b"".join(cork))

    def buffered(self) -> int:
        """Bytes that wait for the client to read."""
        return self._transport.get_write_buffer_size()

    def flushed(self) -> int:
        """Data frames that have left the buffer completely."""
        self._forget()
        return self.frames - len(self._marks)

    def _head(self, opcode: int, size: int) -> bytes:
        if size < 126:
            return bytes((0x80 | opcode, size))
        if size < 65_536:
            return struct.pack("!BBH", 0x80 | opcode, 126, size)
        return struct.pack("!BBQ", 0x80 | opcode, 127, size)

    def _forget(self) -> None:
        out = self._written - self.buffered() - sum(map(len, self._cork or ()))
        while self._marks and self._marks[0] <= out:
            self._marks.popleft()
