"""Where the relay listens, and how it stays away for a while without losing its port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """A listening address that can be closed and opened again."""

    def __init__(self) -> None:
        self.host = ""
        self.port = 0
        self.up = asyncio.Event()
        """Set while connections are accepted."""
        self._factory: ProtocolFactory | None = None
        self._server: asyncio.AbstractServer | None = None

    async def open(self, factory: ProtocolFactory, host: str, port: int) -> None:
        """Listen. Port 0 takes a free one.

        Raises:
            OSError: the address cannot be had.
        """
        self._factory = factory
        self.host = host
        await self._listen(await self._bind(port))

    def close(self) -> None:
        """Accept no more connections; those that exist stay. A second call does nothing."""
        self.up.clear()
        if self._server is not None:
            self._server.close()
            self._server = None

    async def come_back(self, down_s: float) -> None:
        """Listen again in `down_s` seconds.

        Until then the port is held by a socket that is bound but does not listen: connections are refused, and nobody
        else gets the port, least of all a client's own outgoing socket (which would then be connected to itself).
        """
        loop = asyncio.get_running_loop()
        back_s = loop.time() + down_s
        bound = None
        while bound is None:
            try:
                bound = await self._bind(self.port)
            except OSError:
                await asyncio.sleep(0.01)  # the event loop has not let go of the old listener yet
        try:
            await asyncio.sleep(back_s - loop.time())
        except asyncio.CancelledError:
            bound.close()
            raise
        await self._listen(bound)

    async def _bind(self, port: int) -> socket.socket:
        found = await asyncio.get_running_loop().getaddrinfo(
            self.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound

    async def _listen(self, bound: socket.socket) -> None:
        self.port = bound.getsockname()[1]
        if self._factory is None:
            raise RuntimeError("open the listener first")
        self._server = await asyncio.get_running_loop().create_server(self._factory, sock=bound, backlog=512)
        self.up.set()
