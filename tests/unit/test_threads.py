"""Work that may hang: handed over, given up, and never waited for at the end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
import weakref

import pytest

from syncwatch.runtime.threads import IDLE_NAME, IDLE_THREADS, ThreadResolver, _idle, in_thread
from tests.integration.runtime_parts import eventually


async def test_results_and_errors_come_back() -> None:
    """As if the work had been awaited; it runs in another thread."""
    assert threading.get_ident() != await in_thread(threading.get_ident, "test")
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, "test")


async def test_giving_up_waiting_leaves_the_thread_alone() -> None:
    """A cancelled future takes no late result, and nobody complains about it."""
    release = threading.Event()
    future = in_thread(lambda: release.wait(5.0), "test")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.01)
    release.set()
    await asyncio.sleep(0.05)
    assert future.cancelled()


async def test_a_thread_is_used_again_and_nobody_waits_behind_one_that_hangs() -> None:
    """One after the other needs one thread; what hangs keeps its own; when a crowd is done, few of its threads stay."""
    await in_thread(int, "test")
    await eventually(lambda: _idle)
    idents = set()
    for _ in range(5):
        idents.add(await in_thread(threading.get_ident, "test"))
        await asyncio.sleep(0.005)
    assert len(idents) <= IDLE_THREADS
    release = threading.Event()
    hanging = [in_thread(lambda: release.wait(5.0), "test") for _ in range(10)]
    assert threading.get_ident() != await asyncio.wait_for(in_thread(threading.get_ident, "test"), 5.0)
    release.set()
    assert [True] * 10 == await asyncio.gather(*hanging)
    await eventually(lambda: sum(thread.name == IDLE_NAME for thread in threading.enumerate()) <= IDLE_THREADS + 1)


async def test_a_thread_that_waits_holds_nothing() -> None:
    """What a piece of work knew (a token, perhaps) goes with it."""

    class Known:
        """Something to hold."""

    known = Known()
    gone = weakref.ref(known)
    await in_thread(lambda known=known: None, "test")  # type: ignore[misc]
    del known
    await eventually(lambda: gone() is None)


def test_hanging_work_holds_no_exit() -> None:
    """The loop ends and the interpreter goes although the work never will."""
    code = (
        "import asyncio, time\n"
        "from syncwatch.runtime.threads import in_thread\n"
        "async def main():\n"
        "    in_thread(lambda: time.sleep(60), 'test')\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    assert time.monotonic() - began < 20.0


async def test_the_resolver_resolves() -> None:
    """Every address of a name, in the form that aiohttp wants, the scope of a link-local one included."""
    found = await ThreadResolver().resolve("localhost", 8787, socket.AF_INET)
    assert [("localhost", "127.0.0.1", 8787, socket.AF_INET)] == [(r["hostname"], r["host"], r["port"], r["family"]) for r in found]


async def test_scoped_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """fe80:: without its interface leads nowhere."""
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 80, 0, 3)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 80, 0, 3)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 80, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    found = await ThreadResolver().resolve("h", 80, socket.AF_UNSPEC)
    assert ["fe80::1%3", "fe80::1%eth0", "2001:db8::1", "192.0.2.1"] == [r["host"] for r in found]
