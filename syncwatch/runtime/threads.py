"""Work that may hang (name lookups, fsync on a dead disk) runs in daemon threads, so that nothing waits for it: no frame, no scrape, no exit.

The event loop's own executor is joined at exit, and a hanging lookup would hold the process for as long as the system's resolver likes.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

T = TypeVar("T")

ADDRESS_FLAGS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


IDLE_THREADS = 2
IDLE_NAME = "syncwatch-idle"
_idle: list[queue.SimpleQueue[Callable[[], None]]] = []


def in_thread(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run `work` in a daemon thread; the future has its result or its exception. Cancelling the future only stops the waiting.

    Nobody waits behind work that hangs: a thread has one piece of work at a time, and is called after it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # a T whenever there is no error
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        threading.current_thread().name = f"syncwatch-{name}"
        try:
            result = work()
        except Exception as raised:  # handed over as it is: the awaiting code decides
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    _hand_over(run)
    return future


def _hand_over(run: Callable[[], None]) -> None:
    """To a thread that has nothing to do, or to a new one: a new thread costs ten times what a small piece of work does."""
    try:
        _idle.pop().put(run)
    except IndexError:
        threading.Thread(target=_work, args=(run,), daemon=True).start()


def _work(run: Callable[[], None]) -> None:
    """The life of a thread: work, and wait for more unless enough others do."""
    inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    while True:
        run()
        del run  # with everything that it holds
        threading.current_thread().name = IDLE_NAME
        if len(_idle) >= IDLE_THREADS:
            return
        _idle.append(inbox)
        run = inbox.get()


class ThreadResolver(AbstractResolver):
    """The system's resolver, for aiohttp."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of `host`. Raises: OSError (socket.gaierror) when there is none."""
        found = await in_thread(
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG), "resolver"
        )
        return [
            ResolveResult(
                hostname=host, host=_address(family, address), port=port, family=family, proto=proto, flags=ADDRESS_FLAGS
            )
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _address(family: int, address: tuple[object, ...]) -> str:
    host = str(address[0])
    scoped = family == socket.AF_INET6 and len(address) > 3 and address[3]
    return f"{host}%{address[3]}" if scoped and "%" not in host else host  # a link-local address means nothing without its scope
