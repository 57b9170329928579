"""The ledger is exact: whatever faults a stream meets, the client got what the facts say it was given, frame for frame."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import aiohttp
import msgspec
import pytest

from syncwatch.relay import kinds
from syncwatch.relay.ledger import Closed, Opened
from syncwatch.relay.logfacts import Delivered, Dialled, Page, Published
from tests.integration.relay_parts import eventually
from tests.integration.relayfile_parts import WORKSPACE, FileWorld, file_world, number


class Recorder:
    """A client that writes down what it gets, connects again with the last id it saw, and polls now and then."""

    def __init__(self, w: FileWorld) -> None:
        self.w = w
        self.sockets: list[list[str]] = []
        self.pages: list[list[int]] = []
        self.cursor = ""
        self.last = False

    async def run(self) -> None:
        """Until the end of the last connection."""
        while not self.last:
            # The base's port may be closed for a while, the upgrade refused, the socket reset.
            with contextlib.suppress(aiohttp.ClientError):
                await self._connection()
            await asyncio.sleep(0.01)

    async def _connection(self) -> None:
        query = {"cursor": self.cursor} if self.cursor else {"frm": "now"}
        async with self.w.stream(**query) as stream:
            got: list[str] = []
            self.sockets.append(got)
            while (message := await stream.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                event = msgspec.json.decode(message.data)
                if "eventId" in event:
                    got.append(event["eventId"])
                    self.cursor = event["eventId"]

    async def poll(self) -> None:
        """One page."""
        with contextlib.suppress(aiohttp.ClientError):
            reply = await self.w.call("GET", f"fs/events?cursor={self.cursor}&limit=50")
            if reply.status == 200:
                self.pages.append([number(event) for event in reply.body["events"]])


def trouble(w: FileWorld, draw: random.Random) -> Callable[[], object]:
    """Something that happens: events, or a fault that leaves nothing in doubt."""
    begin = w.relay.faults.begin
    ahead = w.files.log.events + draw.randint(1, 8)
    brief_s = draw.uniform(0.01, 0.05)
    return draw.choice(
        [
            *[lambda: w.write(draw.randint(1, 30))] * 8,
            lambda: w.write(draw.randint(1, 3), "other"),
            lambda: w.files.push(WORKSPACE, "sync.error", provider="acme"),
            lambda: begin(kinds.Drop(seq=ahead), 0.2),
            lambda: begin(kinds.Close(code=draw.choice([1001, 1013, 4001]), frames=draw.randint(1, 9)), 0.2),
            lambda: begin(kinds.Skip(seq=ahead), 0.2),
            lambda: begin(kinds.Duplicate(every=3, times=2), 0.2),
            lambda: begin(kinds.Reorder(seq=ahead), brief_s),
            lambda: begin(kinds.Freeze(direction="to_client"), brief_s),
            lambda: begin(kinds.Delay(delay_s=0.005, jitter_s=0.01), brief_s),
            lambda: begin(kinds.CutReplay(after=2, then=draw.choice(["ack", "drop"])), brief_s),
            lambda: begin(kinds.SlowDatabase(delay_s=0.02), brief_s),
            lambda: begin(kinds.Refuse(status=503), brief_s),
            lambda: begin(kinds.RefuseHttp(route="feed"), brief_s),
            lambda: w.relay.restart(durable=draw.random() < 0.5),
        ]
    )


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_delivered_is_what_arrived(seed: int) -> None:
    """Per connection in order, per page, and every published number once per epoch."""
    draw = random.Random(seed)
    async with file_world(seed=seed) as w:
        recorder = Recorder(w)
        running = asyncio.create_task(recorder.run())
        for _ in range(120):
            trouble(w, draw)()
            await asyncio.sleep(draw.choice([0, 0, 0.002, 0.01]))
            if draw.random() < 0.2:
                await recorder.poll()
        w.relay.faults.end_all()
        await asyncio.sleep(0.1)
        w.write(1)
        recorder.last = True
        while not running.done():
            w.relay.drop()
            await asyncio.sleep(0.02)
        await eventually(lambda: len(w.relay.ledger.of(Closed)) == len(w.relay.ledger.of(Opened)))
        ledger = w.relay.ledger
        given: dict[int, list[str]] = {fact.connection: [] for fact in ledger.of(Opened)}
        for fact in ledger.of(Delivered):
            given[fact.connection].append(fact.id)
        assert len(given) >= 3
        assert list(given.values()) == recorder.sockets
        assert [list(fact.numbers) for fact in ledger.of(Page)] == recorder.pages
        published = [(fact.epoch, fact.number) for fact in ledger.of(Published)]
        assert len(published) == len(set(published))
        assert {fact.connection for fact in ledger.of(Dialled)} == set(given)
