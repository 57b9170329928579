"""What Python costs at least: aiohttp, msgspec and a simple dedupe. Usage: python -m tests.benchmarks.floor URL TOKEN uvloop|asyncio

It knows no numbers, no replay, no clock and no peer that misbehaves. SIGTERM: the counts on standard output, and the end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable

import aiohttp
import msgspec
import uvloop

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
REMEMBERED = 4096


class Frame(msgspec.Struct):
    """What the dedupe needs."""

    type: str
    id: str = ""


async def main(url: str, token: str) -> None:
    """Count events until the end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    reading = asyncio.create_task(read(url, token))
    await stop.wait()
    reading.cancel()
    await asyncio.wait([reading])


async def read(url: str, token: str) -> None:
    """The loop that is measured."""
    decode = msgspec.json.Decoder(Frame).decode
    seen: OrderedDict[str, None] = OrderedDict()
    events = duplicates = 0
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.ws_connect(f"{url}/v1/ws", params={"token": token}) as ws:
                    async for message in ws:
                        frame = decode(message.data)
                        if frame.type in ("pong", "resync_ack"):
                            continue
                        if frame.id:
                            if frame.id in seen:
                                duplicates += 1
                                continue
                            seen[frame.id] = None
                            if len(seen) > REMEMBERED:
                                seen.popitem(last=False)
                        events += 1
    finally:
        print(json.dumps({"events": events, "duplicates": duplicates}), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=LOOPS[sys.argv[3]]) as runner:
        runner.run(main(sys.argv[1], sys.argv[2]))
