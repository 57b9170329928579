"""One socket of a host: the handshake, then frames that are sealed in the moment they are written, so that nonces have the order of the wire."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, ClassVar

from syncwatch.protocols.tps.noise import MAX_PLAINTEXT, TAG_SIZE, NoiseError, Responder, Transport
from syncwatch.relay import kinds
from syncwatch.relay.events import Frame
from syncwatch.relay.framing import BINARY
from syncwatch.relay.ledger import Injected, Pong, Received
from syncwatch.relay.logfacts import Delivered, Greeted
from syncwatch.relay.outbound import Outbound
from syncwatch.relay.tps import frames
from syncwatch.relay.tps.branch import Branch


class Channel(Outbound):
    """A connection from its first byte to its end."""

    protocol: ClassVar[kinds.ProtocolName] = "tps"

    def __init__(self, ident: int, transport: asyncio.Transport, branch: Branch) -> None:
        self._branch = branch
        self._handshake: Responder | None = Responder(branch.static, os.urandom(32))
        self._sealing: Transport | None = None
        super().__init__(ident, transport, branch.name, branch.ledger, branch.faults)

    # In

    @property
    def greeting(self) -> bool:
        """Whether the first message is still awaited."""
        return self._handshake is not None

    def begin(self) -> None:
        """Wait for the first message, but not for long."""
        self.later(self._branch.handshake_s, self._late)

    def _late(self) -> None:
        if self._handshake is not None:
            self.close(1011, "handshake failed")

    def heed(self, data: str | bytes) -> None:
        """A message of the client's."""
        if self._silent:
            return
        if not isinstance(data, bytes):
            self.close(1008, "rejected")
        elif self._handshake is not None:
            self._greeted(self._handshake, data)
        elif self._sealing is not None:
            self._heard(self._sealing, data)

    def _greeted(self, handshake: Responder, data: bytes) -> None:
        self._handshake = None
        try:
            payload, key = handshake.read(data)
        except NoiseError:
            self._ledger.add(Greeted, connection=self.id, name="", key="", accepted=False)
            self.close(1011, "handshake failed")
            return
        pinned = self._branch.pinned
        foreign = self.faults.take(kinds.WrongKey, self.label, "tps") is not None
        accepted = not foreign and pinned in (None, key)
        name = payload.decode(errors="replace")[:64]
        self._ledger.add(Greeted, connection=self.id, name=name, key=key.hex(), accepted=accepted)
        if not accepted:
            self.close(1008, "rejected")
            return
        answer, self._sealing = handshake.write()
        self._out(partial(self._write_answer, answer))
        self._branch.connected(self)

    def _heard(self, sealing: Transport, data: bytes) -> None:
        try:
            heard = frames.understood(sealing.decrypt(data))
        except NoiseError:
            heard = None
        self._ledger.add(Received, connection=self.id, kind="invalid" if heard is None else heard.name)
        if heard is None:
            self.close(1008, "rejected")
        else:
            self._branch.heard(self, heard)

    # Out

    def echo(self, seq: int) -> None:
        """Answer a heartbeat with its own number, unless a fault wants otherwise."""
        if self._no_pong("application"):
            return
        wrong = self.faults.take(kinds.WrongEcho, self.label, "tps")
        write = partial(self._out, partial(self._write_echo, seq if wrong is None else max(0, seq + wrong.offset)))
        slow = self.faults.take(kinds.SlowPong, self.label, "tps")
        if slow is None:
            write()
        else:
            self.later(slow.delay_s, write)

    def mail(self, seq: int, told: dict[str, Any]) -> None:
        """A mail of the outbox."""
        self.live(Frame(0, "mail", told["id"], frames.frame(frames.MAIL_DELIVER, seq, self._branch.clock.iso_ms(), told)))

    def tell(self, kind: int, seq: int, told: dict[str, Any], key: str) -> None:
        """Any other frame."""
        self.event(Frame(0, frames.NAMES[kind], key, frames.frame(kind, seq, self._branch.clock.iso_ms(), told)), "live")

    def inject_sealed(self, plaintext: bytes) -> None:
        """What is inside a frame, valid or not; nothing before the handshake is complete."""
        self._out(partial(self._write_injected_sealed, plaintext))

    def _write_injected_sealed(self, plaintext: bytes) -> None:
        if self._write_sealed(plaintext):
            head = plaintext[:200].decode(errors="replace")
            self._ledger.add(Injected, connection=self.id, position=self.position, opcode=BINARY, size=len(plaintext), head=head)
            self._sent(None)

    def _write_answer(self, answer: bytes) -> None:
        self._write_data(BINARY, answer)

    def _write_event(self, number: int | None, kind: str, key: str, payload: bytes, origin: str) -> None:
        if self._write_sealed(payload):
            self._record(None, kind, key, origin)
            self._sent(None)

    def _write_echo(self, seq: int) -> None:
        if self._write_sealed(frames.frame(frames.HEARTBEAT, seq, self._branch.clock.iso_ms(), {})):
            self._ledger.add(Pong, connection=self.id, position=self.position)
            self._sent(None)

    def _write_sealed(self, payload: bytes) -> bool:
        if self._sealing is None or not self.open:
            return False
        sending = self._sealing.sending
        if self.faults.take(kinds.SkipNonce, self.label, "tps") is not None:
            sending.nonce += 1
        if len(payload) <= MAX_PLAINTEXT:
            return self._write_data(BINARY, sending.encrypt(payload))
        # The real branch seals it, and the other side looks no further than its size: nobody ever opens what is in it.
        sending.nonce += 1
        return self._write_data(BINARY, payload + bytes(TAG_SIZE))

    def _record(self, number: int | None, kind: str, key: str, origin: str) -> None:
        self._ledger.add(
            Delivered,
            connection=self.id,
            position=self.position,
            protocol="tps",
            label=self.label,
            epoch=0,
            number=number,
            id=key,
            kind=kind,
            origin=origin,
        )

    def _pong(self) -> bytes:
        raise NotImplementedError  # heartbeats are echoed, with their numbers

    def _detach(self) -> None:
        self._branch.left(self)
