"""`syncwatch tps join`: become the host of a branch, once, and say what to configure.

What belongs here: the order of the steps, and what their ends mean in words. The handshake and the frames are the codec's, the sockets the runtime's.
"""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import msgspec
import yaml
from aiohttp import WSMsgType

from syncwatch.core.states import Disconnect
from syncwatch.core.wire import Invalid, Ready, Reply
from syncwatch.protocols.tps.codec import Tps, TpsWire
from syncwatch.protocols.tps.keys import Identity, Token, key_text
from syncwatch.runtime.clock import SYSTEM
from syncwatch.runtime.dialing import DIRECT, dial
from syncwatch.runtime.failures import FOREIGN, NORMAL_CLOSURE, Ending, attempt_failure, peer_close
from syncwatch.runtime.lane import Item, Message
from syncwatch.runtime.stream import CLOSE_GRACE_S, Stream, WebSocketStream
from syncwatch.runtime.tcp import TcpStream, dial_tcp
from syncwatch.runtime.tls import TlsContexts

TIMEOUT_S = 10.0
"""From the first name lookup to the end of the handshake, as the branch has it too."""
REJECTED, HANDSHAKE_FAILED = 1008, 1011

_ANOTHER_HOST = "it has a host already, and this is not its key; a branch has one host, and takes another one only after `tps branch init`"


class JoinError(Exception):
    """The branch was not joined; `str()` says why. `reached`: the branch was there, and did not want us."""

    def __init__(self, text: str, reached: bool) -> None:
        super().__init__(text)
        self.reached = reached


class _Join:
    """What is said on the one socket."""

    def __init__(self, stream: Stream, wire: TpsWire, host_id: str) -> None:
        self.stream = stream
        self.said = False
        """Whether the branch was told."""
        self._wire = wire
        self._host_id = host_id

    def begin(self) -> None:
        for word in self._wire.opened():
            if isinstance(word, Reply):
                self.stream.send(word.data)

    def deliver(self, batch: list[Item]) -> Ending | None:
        """One wake-up's messages."""
        for item in batch:
            message: Message = (WSMsgType.TEXT, item, None) if isinstance(item, bytes) else item
            kind, data, extra = message
            if kind is WSMsgType.CLOSE:
                return peer_close(data, extra)
            if kind is WSMsgType.PING:
                self.stream.pong(bytes(data))
            elif kind in (WSMsgType.TEXT, WSMsgType.BINARY) and not self.said:
                for word in self._wire.feed(data, kind is WSMsgType.BINARY):
                    if isinstance(word, Invalid):
                        return Ending(Disconnect.PROTOCOL_ERROR, None, word.reason)
                    if isinstance(word, Ready):
                        self._say()
        return None

    def _say(self) -> None:
        self.said = True
        self.stream.send(self._wire.join(self._host_id))
        self.stream.leave(NORMAL_CLOSURE, "done")
        asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self.stream.abort)


async def join(token: Token, identity: Identity, host_id: str, name: str, timeout_s: float = TIMEOUT_S) -> None:
    """Dial the branch of a token, prove who it is, tell it who we are, and leave. There is no answer: that it did not refuse is all that can be known.

    Raises: JoinError.
    """
    protocol = Tps(token.url, identity, token.encryption_key, name)
    until_s = asyncio.get_running_loop().time() + timeout_s
    stream = await _dialled(protocol, timeout_s)
    talk = _Join(stream, protocol.wire(secrets.randbits(256)), host_id)
    ending: Ending | None = None
    try:
        talk.begin()
        async with asyncio.timeout_at(until_s) as limit:
            ending = await stream.read(talk.deliver)
    except TimeoutError:
        if not limit.expired():
            raise
    finally:
        await stream.discard()
    if talk.said:
        if ending is not None and ending.code in (REJECTED, HANDSHAKE_FAILED):
            raise JoinError(f"the branch did not take it: {ending.detail}", reached=True)
        return
    if ending is None:
        raise JoinError(f"no answer to the handshake within {timeout_s:g} s", reached=False)
    raise JoinError(_why_not(token, ending), reached=True)


async def _dialled(protocol: Tps, timeout_s: float) -> Stream:
    request = protocol.dial()
    try:
        if request.url.startswith("tcp:"):
            return TcpStream(await dial_tcp(request, timeout_s, SYSTEM), DIRECT.max_frame_bytes)
        return WebSocketStream(await dial(request, None, DIRECT, TlsContexts(DIRECT.tls), timeout_s, SYSTEM))
    except FOREIGN as error:
        raise JoinError(attempt_failure(error, SYSTEM.wall()).detail, reached=False) from None


def _why_not(token: Token, ending: Ending) -> str:
    """What an end before the branch's answer means."""
    if ending.code == REJECTED:
        return f"the branch refused this host: {_ANOTHER_HOST}"
    if ending.code == HANDSHAKE_FAILED:
        return "the branch could not read the handshake: the token's pubkey is not its key, so the token is not of this branch or no longer valid"
    if token.transport == "tcp" and ending.reason is Disconnect.PEER_CLOSED:
        return f"the branch closed the connection before it answered: over TCP it does not say why. Perhaps {_ANOTHER_HOST}"
    return f"the handshake failed: {ending.detail}"


class Block(msgspec.Struct, frozen=True):
    """What is to be configured."""

    name: str
    token: Token
    identity_file: Path
    mail_dir: Path
    state_dir: Path

    def __str__(self) -> str:
        """A configuration with this one connection, in YAML."""
        keys = {
            "name": self.name,
            "protocol": "tps",
            "mode": "host",
            "url": self.token.url,
            "branch": self.name,
            "dedicated": True,
            "identity_file": str(self.identity_file),
            "peer_key": key_text(self.token.encryption_key),
            "mail_dir": str(self.mail_dir),
        }
        text: str = yaml.safe_dump({"state_dir": str(self.state_dir), "connections": [keys]}, sort_keys=False, allow_unicode=True, width=1000)
        text = text.replace("\nconnections:", "  # totals, and which mail has come, outlive a restart; for one process only\nconnections:", 1)
        return text.replace("dedicated: true\n", "dedicated: true  # this branch belongs to syncwatch alone; its mail comes here\n")
