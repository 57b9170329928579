"""A codec that does as the real one: what a deliberate mistake starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from syncwatch.core.wire import Protocol, Request, Said, Traits, Wire

AnyProtocol = TypeVar("AnyProtocol", bound=Protocol)


class SameWire:
    """A wire that hears and says what the real one does."""

    def __init__(self, real: Wire) -> None:
        self._real = real

    def opened(self) -> Sequence[Said]:
        """What the real one expects first."""
        return self._real.opened()

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """What the real one hears."""
        return self._real.feed(data, binary)

    def ping(self, token: int) -> str | bytes:
        """The real one's heartbeat."""
        return self._real.ping(token)

    def resync(self, after: int, since_s: float | None) -> str | bytes:
        """The real one's question."""
        return self._real.resync(after, since_s)


class SameProtocol(Generic[AnyProtocol]):
    """A protocol that is as the real one."""

    def __init__(self, real: AnyProtocol) -> None:
        self._real = real
        self.name = real.name
        self.dialect = real.dialect
        self.traits: Traits = real.traits
        self.page_limit = real.page_limit

    def dial(self, after: int | None = None) -> Request:
        """The real one's handshake."""
        return self._real.dial(after)

    def wire(self, entropy: int) -> Wire:
        """The real one's wire."""
        return self._real.wire(entropy)
