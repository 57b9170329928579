"""TPS in the mode `host`: the encrypted connection of a host to its one branch, as words for the session.

Facts: wire/tps §4 to §8. What belongs here: the order of handshake and frames in one attempt, and what each frame means to a session. What must
not: keeping mail (the word `Deposit` asks for it), timers, clocks. Heartbeats are numbered by their tokens, which the branch echoes.

Frames are encrypted when they are emitted, so they must be sent in that order, all of them, or the connection be dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import msgspec

from syncwatch.core.wire import (
    Control,
    Deposit,
    Event,
    Invalid,
    Numbering,
    Pong,
    Ready,
    Reply,
    Request,
    Said,
    Settle,
    Traits,
)
from syncwatch.protocols.iso import iso_time_s
from syncwatch.protocols.tps.frames import (
    Body,
    Frame,
    FrameError,
    Heartbeat,
    HttpRequest,
    HttpResponse,
    JoinComplete,
    MailDeliver,
    Type,
    body_of,
    packed,
    unpack,
)
from syncwatch.protocols.tps.keys import Identity, fingerprint, key_text
from syncwatch.protocols.tps.noise import KEY_SIZE, Initiator, NoiseError, Transport

NO_TIME = "1970-01-01T00:00:00.000Z"
"""The time in frames that we send. A frame must have one and nobody reads a host's; a codec has no clock to make one up from."""


class TpsWire:
    """One attempt: the handshake, then frames. The keys and counters in it are good for one socket."""

    __slots__ = ("_branch", "_handshake", "_identity", "_over", "_transport")

    def __init__(self, identity: Identity, branch_key: bytes, branch: str, ephemeral: bytes) -> None:
        self._handshake = Initiator(identity.static, branch_key, ephemeral)
        self._identity = identity
        self._branch = branch
        self._transport: Transport | None = None
        self._over = False

    def opened(self) -> Sequence[Said]:
        """The first handshake message; nothing else may go until it is answered. A branch's key that is no key is fatal at once."""
        try:
            return (Reply(self._handshake.write(self._branch.encode()), kind=None),)
        except NoiseError as problem:
            self._over = True
            return (Invalid(str(problem), fatal=True),)

    def ping(self, token: int) -> bytes:
        """A heartbeat with this number. A branch also takes it as leave to send its mail. Raises: RuntimeError before Ready."""
        return self._sealed(Heartbeat(), token)

    def join(self, host_id: str) -> bytes:
        """Who we are, for a branch that waits for a host: the key of our identity is the only one that it lets in from then on (§3). It does not answer.

        Raises: RuntimeError before Ready.
        """
        key = self._identity.encryption_key
        return self._sealed(JoinComplete(key_text(key), fingerprint(key), host_id), 0)

    def resync(self, after: int, since_s: float | None) -> bytes:
        """Never asked: a branch keeps no log. Raises: NotImplementedError."""
        raise NotImplementedError

    def feed(self, data: bytes, binary: bool = False) -> Sequence[Said]:
        """One message in, words out. Never raises. What cannot be believed is fatal, and so is all behind it."""
        if self._over:
            return (Invalid("a message behind the end", fatal=True),)
        try:
            if not binary:
                raise NoiseError("a text frame")
            if self._transport is None:
                _, self._transport = self._handshake.read(data)
                return (Ready(),)
            frame = unpack(self._transport.decrypt(data))
        except (NoiseError, FrameError) as problem:
            self._over = True
            return (Invalid(str(problem), fatal=True),)
        try:
            return self._heard(frame)
        except FrameError as problem:  # the frame was whole, its content is not: the other side goes on too
            return (Invalid(str(problem)),)

    def _heard(self, frame: Frame) -> Sequence[Said]:
        if frame.type == Type.HEARTBEAT:
            return (Pong(frame.seq, iso_time_s(frame.ts)),)
        if frame.type == Type.MAIL_DELIVER:
            mail = body_of(frame, MailDeliver)
            event = Event(mail.id.lower(), True, time_s=iso_time_s(mail.timestamp))
            return (Deposit(event, f"{event.key}.json", msgspec.json.encode(mail)),)
        if frame.type == Type.HTTP_REQUEST:  # we offer no services, and the branch's caller should not wait to learn it
            asked = body_of(frame, HttpRequest)
            answer = HttpResponse(asked.id, 404, {"content-type": "text/plain"}, "no such service")
            return (Control(), Reply(self._sealed(answer, frame.seq)))
        return (Control(),)

    def _sealed(self, body: Body, seq: int) -> bytes:
        if self._transport is None:
            raise RuntimeError("the handshake is not complete")
        return self._transport.encrypt(packed(body, seq, NO_TIME))


class Tps:
    """A branch, and the host that we are to it. `url` is where its WebSocket is; configuration without state.

    Only for a branch of its own: a branch has one host, and of two connections with one key each cuts the other's (§8).
    """

    name = "tps"
    dialect = "host"
    traits = Traits(
        numbering=Numbering.NONE,
        settle=Settle.NONE,
        feed=False,
        keeps=True,  # mail that was pushed is forgotten by the branch
        patience=10,  # a branch that hangs keeps its sockets and answers everything when it goes on (§7)
        echo_optional=True,  # §6: there were none before a certain version
        rival_s=40.0,  # §8: the next heartbeat of the other host cuts us, and the host program sends one every 30 s
        resumes=False,
    )
    page_limit: int | None = None

    def __init__(self, url: str, identity: Identity, branch_key: bytes, branch: str) -> None:
        """Raises: ValueError for a key of another size than 32 bytes."""
        if len(branch_key) != KEY_SIZE:
            raise ValueError(f"a key has {KEY_SIZE} bytes, this one has {len(branch_key)}")
        parts = urlsplit(url)
        self._url = urlunsplit(parts._replace(scheme={"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)))
        self._identity = identity
        self._branch_key = branch_key
        self._branch = branch

    def dial(self, after: int | None = None) -> Request:
        """The upgrade: no token, no header; who we are is in the handshake."""
        return Request(self._url)

    def wire(self, entropy: int) -> TpsWire:
        """Fresh state for one attempt. `entropy`: 256 bits from the operating system's source, never used again."""
        ephemeral = (entropy % (1 << 256)).to_bytes(KEY_SIZE, "big")
        return TpsWire(self._identity, self._branch_key, self._branch, ephemeral)
