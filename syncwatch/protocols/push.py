"""The wire of a server that pushes, answers a ping that carries nothing, and whose log is read over HTTP: what such dialects share.

What belongs here: first words, the ping, and which messages are looked at. What a frame says is each dialect's own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from syncwatch.core.wire import Invalid, Ready, Said

F = TypeVar("F")

INVALID = (Invalid("no event"),)


class PushWire(Generic[F]):
    """One attempt; it has no state. `decode` makes a frame of JSON and raises msgspec's errors."""

    __slots__ = ()

    decode: ClassVar[Any]

    def opened(self) -> Sequence[Said]:
        """Nothing to say and nothing to wait for."""
        return (Ready(),)

    def ping(self, token: int) -> str:
        """The application's ping; it carries nothing, so pongs answer in order."""
        return '{"type":"ping"}'

    def resync(self, after: int, since_s: float | None) -> str:
        """Never asked on the socket. Raises: NotImplementedError."""
        raise NotImplementedError

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """One message in, words out. Never raises."""
        if binary:
            return (Invalid("binary frame"),)
        try:
            if not data.isascii():
                data.decode()  # skipped fields are not looked at: an invalid one must not pass for an event
            frame: F = type(self).decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return INVALID
        return self.says(frame, data)

    def says(self, frame: F, data: bytes) -> Sequence[Said]:
        """What a well-formed frame means; `data` is the whole of it."""
        raise NotImplementedError
