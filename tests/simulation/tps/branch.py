"""A branch as the wire document has it (§4, §6, §8, §12), on simulated time, with the trouble that it can make.

What belongs here: what a branch does with its host's messages and its own mail. It decides nothing about the network.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable

import msgspec

from syncwatch.protocols.tps.frames import Frame, Heartbeat, HttpRequest, MailDeliver, Type, pack, packed, unpack
from syncwatch.protocols.tps.keys import Identity
from syncwatch.protocols.tps.noise import Cipher, NoiseError, Responder, Transport
from tests.simulation.harness.network import Peer, Timeline
from tests.simulation.tps.facts import What
from tests.simulation.tps.network import Link

HANDSHAKE_S = 10.0
RIVAL_BEAT_S = 30.0
RIVAL_BACK_S = 4.0
TS = "2026-11-25T12:00:00.000Z"
UNKNOWN_TYPE = 0x77


class Faults(msgspec.Struct):
    """What is wrong with the branch at present."""

    no_echo: bool = False  # of an older version
    delay_s: float = 0.0  # before each echo
    forget: float = 0.0  # chance that an echo is left out
    twice: float = 0.0  # chance that it comes twice
    wrong: float = 0.0  # chance that it has another number
    stranger: bool = False  # it has another host's key pinned
    silent: bool = False  # no answer to a handshake
    spoiled: bool = False  # an answer that cannot be believed
    broken: bool = False  # closes handshakes with 1011
    skip: float = 0.0  # chance that a message leaves a nonce out
    junk: float = 0.0  # chance that a frame with the wrong content comes before a mail
    chatter: float = 0.0  # chance that something else comes before a mail
    again: float = 0.0  # chance that a mail is sent once more
    watching: bool = True  # whether mail is pushed at once, or waits for a heartbeat


class Channel:
    """One connection as the branch sees it."""

    def __init__(self, link: Link, identity: Identity, ephemeral: bytes) -> None:
        self.link = link
        self.responder = Responder(identity.static, ephemeral)
        self.transport: Transport | None = None
        self.spoiled = False  # a nonce was left out
        self.peek: Cipher | None = None  # opens what the host sends, in the order in which it does: for the facts


class Branch(Peer[Link]):
    """One branch with its outbox."""

    def __init__(self, timeline: Timeline, rng: random.Random, identity: Identity, host_key: bytes) -> None:
        self.faults = Faults()
        self.frozen = False
        self.outbox: deque[MailDeliver] = deque()
        self.written = 0  # mails that were ever put into it
        self.taken_by_rival = 0
        self.channels: dict[int, Channel] = {}
        self._timeline = timeline
        self._rng = rng
        self._identity = identity
        self._host_key = host_key
        self._active: Channel | None = None
        self._rival_active = False
        self._rival = 0  # 0: there is none; else which of its connections
        self._rivals = 0
        self._waiting: list[Callable[[], None]] = []  # what came while it was frozen
        self._sent: list[MailDeliver] = []

    # -- what the network says -----------------------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        """A socket was accepted."""
        channel = self.channels[link.connection] = Channel(link, self._identity, self._rng.randbytes(32))
        self._timeline.after(HANDSHAKE_S, lambda: self._overdue(channel))

    def hear(self, link: Link, data: bytes) -> None:
        """A message arrived."""
        self._do(lambda: self._heard(self.channels[link.connection], data))

    def detach(self, link: Link) -> None:
        """The socket is gone."""
        if self._active is not None and self._active.link is link:
            self._active = None

    def _do(self, work: Callable[[], None]) -> None:
        if self.frozen:
            self._waiting.append(work)
        else:
            work()

    def thaw(self) -> None:
        """Everything that came meanwhile, in a burst."""
        self.frozen = False
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()

    # -- the host's messages -------------------------------------------------------------------------------------------

    def _overdue(self, channel: Channel) -> None:
        if channel.transport is None and not channel.link.branch_gone and not self.frozen:
            channel.link.close("peer_error", 1011)

    def _heard(self, channel: Channel, data: bytes) -> None:
        if channel.link.branch_gone:
            return
        if channel.transport is None:
            self._shake(channel, data)
            return
        try:
            frame = unpack(channel.transport.decrypt(data))
        except (NoiseError, ValueError):
            channel.link.close("peer_error", 1008)
            return
        self._switch(channel)
        if frame.type == Type.HEARTBEAT:
            self._echo(channel, frame.seq)
            self._drain()

    def _shake(self, channel: Channel, data: bytes) -> None:
        faults = self.faults
        if faults.silent:
            return
        _, remote = channel.responder.read(data)
        if faults.stranger or remote != self._host_key:
            channel.link.close("peer_error", 1008)
        elif faults.broken:
            channel.link.close("peer_error", 1011)
        elif faults.spoiled:
            channel.link.write(self._rng.randbytes(48), What.FATAL)
        else:
            message, channel.transport = channel.responder.write()
            channel.peek = copy.copy(channel.transport.receiving)
            self._active, self._rival_active = channel, False  # without closing the one before
            channel.link.write(message, What.READY)

    def _switch(self, channel: Channel) -> None:
        """A message on a channel that is not the active one closes the active one."""
        if self._active is channel:
            return
        if self._active is not None:
            self._active.link.close("peer_closed", 1000)
        if self._rival_active:
            self._cut_rival()
        self._active = channel

    def _echo(self, channel: Channel, number: int) -> None:
        faults, rng = self.faults, self._rng
        if faults.no_echo or rng.random() < faults.forget:
            return
        told = number + 1000 if rng.random() < faults.wrong else number
        times = 2 if rng.random() < faults.twice else 1

        def echo() -> None:
            for _ in range(times):
                self._write(channel, packed(Heartbeat(), told, TS), What.ECHO, str(told))

        if faults.delay_s:
            self._timeline.after(faults.delay_s, lambda: self._do(echo))
        else:
            echo()

    # -- mail ----------------------------------------------------------------------------------------------------------

    def mail(self, size: int) -> None:
        """Somebody writes one."""
        self.written += 1
        text = f"{self._rng.getrandbits(128):032x}"
        key = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
        self.outbox.append(MailDeliver(key.upper() if self._rng.random() < 0.2 else key, "branch", "host", "x" * size, TS))
        if self.faults.watching:
            self._do(self._drain)

    def _drain(self) -> None:
        if self._rival_active:
            self.taken_by_rival += len(self.outbox)
            self.outbox.clear()
        channel = self._active
        while channel is not None and self.outbox:
            mail = self.outbox.popleft()  # moved to `sent`: whether it arrives or not, it is not sent again
            self._sent.append(mail)
            self._push(channel, mail)
            if self._rng.random() < self.faults.again:
                self._push(channel, self._rng.choice(self._sent[-20:]))

    def _push(self, channel: Channel, mail: MailDeliver) -> None:
        faults, rng = self.faults, self._rng
        if rng.random() < faults.junk:
            self._write(channel, pack(Frame(Type.MAIL_DELIVER, 0, TS, {"id": "none"})), What.JUNK)
        if rng.random() < faults.chatter:
            if rng.random() < 0.5:
                self._write(channel, pack(Frame(UNKNOWN_TYPE, 0, TS, {"a": 1})), What.CONTROL)
            else:
                self._write(channel, packed(HttpRequest(mail.id, "GET", "/", {}), 3, TS), What.REQUEST)
        self._write(channel, packed(mail, 0, TS), What.MAIL, mail.id.lower())

    def _write(self, channel: Channel, frame: bytes, what: What, key: str = "") -> None:
        if channel.link.branch_gone or channel.transport is None:
            return
        if self._rng.random() < self.faults.skip:
            channel.transport.sending.nonce += 1
            channel.spoiled = True
        if channel.spoiled:  # nobody can open anything behind it
            what, key = What.FATAL, ""
        channel.link.write(channel.transport.encrypt(frame), what, key)

    # -- another host with the same key --------------------------------------------------------------------------------

    def rival(self, on: bool) -> None:
        """It comes, or goes for good."""
        if not on:
            self._rival, self._rival_active = 0, False
        elif not self._rival:
            self._rivals += 1
            self._rival = self._rivals
            self._active, self._rival_active = None, True  # without closing the one before
            self._rival_beat(self._rival)

    def _rival_beat(self, which: int) -> None:
        if which != self._rival:
            return

        def beat() -> None:
            if which != self._rival:
                return
            if self._active is not None:
                self._active.link.close("peer_closed", 1000)
                self._active = None
            self._rival_active = True
            self._drain()

        self._do(beat)
        self._timeline.after(RIVAL_BEAT_S, lambda: self._rival_beat(which))

    def _cut_rival(self) -> None:
        which, self._rival_active, self._rival = self._rival, False, -1
        self._timeline.after(RIVAL_BACK_S, lambda: self._rival_back(which))

    def _rival_back(self, which: int) -> None:
        if self._rival == -1:
            self._rival = 0
            self.rival(on=True)
