"""The branch behind its channels: its keys, the one host it knows, its outbox, and which channel is active (wire: tps §2, §3, §6, §8)."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from syncwatch.relay.clock import ServerClock
from syncwatch.relay.faults import Faults
from syncwatch.relay.ledger import Ledger
from syncwatch.relay.logfacts import Published
from syncwatch.relay.tps import frames
from syncwatch.relay.tps.frames import Heard
from syncwatch.relay.tps.identity import IdentityDirectory

if TYPE_CHECKING:
    from syncwatch.relay.tps.channel import Channel

HANDSHAKE_S = 10.0
MAX_CONTENT = 1024 * 1024
"""Of a mail. From about 65,000 bytes on it fits into no frame that anybody can open (wire: tps §5.3), and is sent all the same."""


class Branch:
    """One branch. Until a host has joined, whoever knows its key is let in and may join."""

    def __init__(
        self, seed: bytes, ledger: Ledger, clock: ServerClock, faults: Faults, name: str = "b1", kept: IdentityDirectory | None = None
    ) -> None:
        self.name = name
        self._kept = kept
        self.ledger = ledger
        self.clock = clock
        self.faults = faults
        self.handshake_s = HANDSHAKE_S
        """How long a channel may take to its first message."""
        self.static = hashlib.sha512(seed).digest()[:32]
        """The private key; X25519 itself clamps it."""
        self.key = X25519PrivateKey.from_private_bytes(self.static).public_key().public_bytes_raw()
        """The public key that hosts dial."""
        self.signing_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
        self.pinned: bytes | None = None if kept is None else kept.pinned
        """The host that alone is let in."""
        self.active: Channel | None = None
        self.outbox: deque[dict[str, Any]] = deque()
        """Mail that waits for a host."""
        self.inbox: list[dict[str, Any]] = []
        """Mail that a host brought."""
        self.responses: list[dict[str, Any]] = []
        """What hosts answered to `ask`."""

    def token(self, host: str, port: int, transport: str = "ws") -> str:
        """What the branch prints to be joined."""
        keys = f"pubkey={_text(self.key)}&sigpubkey={_text(self.signing_key)}"
        fingerprint = hashlib.sha256(self.signing_key).hexdigest()
        return f"tps://join?host={quote(host, safe='')}&port={port}&transport={transport}&{keys}&fp=sha256:{fingerprint}"

    def pin(self, host_key: bytes) -> None:
        """Know this host from now on, without a join."""
        self.pinned = host_key

    # What its owner does

    def mail(self, content: str, to: str = "host", sender: str = "agent") -> str:
        """Put mail into the outbox, which an active channel takes at once; its id is returned. What is too large for a frame is lost, and the channel with it.

        Raises:
            ValueError: not even the real branch would read it.
        """
        if len(content.encode()) > MAX_CONTENT:
            raise ValueError(f"mail of more than {MAX_CONTENT} bytes")
        told = {"id": str(uuid4()), "from": sender, "to": to, "content": content, "timestamp": self.clock.iso_ms()}
        self.outbox.append(told)
        self.ledger.add(
            Published,
            protocol="tps",
            epoch=0,
            workspace=self.name,
            number=None,
            id=told["id"],
            kind="mail",
            path=to,
            provider="",
            correlation_id="",
            timestamp=told["timestamp"],
        )
        if self.active is not None:
            self._drain(self.active, 0)
        return told["id"]

    def ask(self, path: str, service: str = "flair", method: str = "GET") -> str | None:
        """Ask the host's service for something; the request's id is returned, None if no channel is active."""
        if self.active is None:
            return None
        ident = str(uuid4())
        told = {"reqId": ident, "service": service, "method": method, "path": path, "headers": {}}
        self.active.tell(frames.HTTP_REQUEST, 0, told, ident)
        return ident

    # What its channels tell it

    def connected(self, channel: Channel) -> None:
        """A handshake is complete: the newest channel is the active one, and the older stays open."""
        self.active = channel

    def left(self, channel: Channel) -> None:
        """A channel is gone."""
        if self.active is channel:
            self.active = None

    def heard(self, channel: Channel, heard: Heard) -> None:
        """A message on a channel; it makes that channel the active one, at the cost of the one that was."""
        if self.active is not channel:
            if self.active is not None:
                self.active.close(1000, "done")
            self.active = channel
        body = heard.body
        if heard.kind == frames.HEARTBEAT:
            channel.echo(heard.seq)
            self._drain(channel, heard.seq + 1)
        elif heard.kind == frames.MAIL_DELIVER and isinstance(body, dict) and frames.is_mail(body):
            self.inbox.append(body)
            channel.tell(frames.MAIL_ACK, heard.seq, {"id": body["id"], "accepted": True}, body["id"])
            self._drain(channel, heard.seq + 1)
        elif heard.kind == frames.JOIN_COMPLETE and isinstance(body, dict):
            self._join(body)
        elif heard.kind == frames.HTTP_RESPONSE and isinstance(body, dict):
            self.responses.append(body)

    def _join(self, body: dict[str, Any]) -> None:
        """Pin the key that the body claims, as the real branch does, if it is the one of the fingerprint."""
        try:
            key = base64.urlsafe_b64decode(str(body.get("hostPubkey")) + "==")
        except ValueError:
            return
        told = str(body.get("hostFingerprint")).removeprefix("sha256:")
        if self.pinned is None and hashlib.sha256(key).hexdigest() == told:
            self.pinned = key
            if self._kept is not None:
                self._kept.pin(key, str(body.get("hostId")), self.clock.iso_ms())

    def _drain(self, channel: Channel, seq: int) -> None:
        """Send what waits. It is not kept: whoever ignores it has lost it."""
        while self.outbox and channel.open:
            told = self.outbox.popleft()
            channel.mail(seq, told)


def _text(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()
