"""What the tests of the runtime talk to: servers that say exactly the bytes they are told to, and a session that writes everything down."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import math
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from syncwatch.core.effects import Answer, Dial, Effect, Effects, Handshake, Refused
from syncwatch.core.states import AttemptFailure, Disconnect
from syncwatch.core.wire import Request
from syncwatch.runtime.connection import Connection
from syncwatch.runtime.dialing import DIRECT, Endpoint
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.tokens import TokenFiles
from tests.requires import require

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
TOKEN = "at_live_+/0123456789=abc&def"  # a token in which every encoding shows

Handler = Callable[["Peer"], Awaitable[None]]


class Recorder:
    """A session that only writes down what it is told. `answers` maps an input's name to the effects that it emits."""

    interval_s = 1.0

    def __init__(self) -> None:
        self.deadline = math.inf
        self.told: list[tuple[Any, ...]] = []
        self.frames: list[bytes] = []
        self.answers: dict[str, Callable[[], Sequence[Effect]]] = {}
        self._news = asyncio.Event()

    def _tell(self, *what: Any) -> Effects:
        self.told.append(what)
        self._news.set()
        return list(self.answers.get(what[0], tuple)())

    def tick(self, now: float) -> Effects:
        return self._tell("tick")

    def opened(self, now: float, attempt: int, handshake: Handshake) -> Effects:
        return self._tell("opened", attempt, handshake)

    def received(self, now: float, attempt: int, data: bytes, binary: bool = False) -> Effects:
        self.frames.append(data)
        self._news.set()
        if "received" in self.answers:
            return list(self.answers["received"]())
        return ()

    def failed(
        self, now: float, attempt: int, reason: AttemptFailure, detail: str = "", retry_after_s: float | None = None
    ) -> Effects:
        return self._tell("failed", attempt, reason, detail, retry_after_s)

    def closed(
        self, now: float, attempt: int, reason: Disconnect, code: int | None = None, detail: str = "", oversized: bool = False
    ) -> Effects:
        return self._tell("closed", attempt, reason, code, detail, oversized)

    def polled(self, now: float, poll_id: int, answer: Answer | Refused) -> Effects:
        return self._tell("polled", poll_id, answer)

    def credentials(self, now: float, expiry_wall_s: float | None) -> Effects:
        return self._tell("credentials", expiry_wall_s)

    def ask(self, now: float, *effects: Effect) -> Effects:
        """An input that emits what the test wants done."""
        return effects

    def names(self) -> list[str]:
        """What was told, in order, without the details."""
        return [what[0] for what in self.told]

    async def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Wait until `condition` holds; it is looked at after each input."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def hear(self, name: str, count: int = 1) -> tuple[Any, ...]:
        """Wait for the `count`-th input of that name and return it."""
        await self.until(lambda: self.names().count(name) >= count)
        return [what for what in self.told if what[0] == name][count - 1]


class Rig:
    """A recorder, its driver and its connection."""

    def __init__(
        self, token_file: Path | None = None, endpoint: Endpoint = DIRECT, send_timeout_s: float = 10.0, leftovers: bool = False
    ) -> None:
        self.session = Recorder()
        self.driver = Driver("connection/test", self.session)
        files = TokenFiles({} if token_file is None else {"connection": token_file})
        self.connection = Connection(self.driver, self.session, files, endpoint, send_timeout_s, leftovers)

    def do(self, *effects: Effect) -> None:
        """Have effects performed, as if the session had emitted them."""
        self.driver.call(self.session.ask, *effects)

    def dial(self, port: int, attempt: int = 1, timeout_s: float = 5.0, scheme: str = "ws", **request: Any) -> None:
        """Dial the loopback."""
        request = {"url": f"{scheme}://127.0.0.1:{port}/v1/ws?origin_client=syncwatch", "token_query": "token", **request}
        self.do(Dial(attempt, Request(**request), timeout_s))


@contextlib.asynccontextmanager
async def rig(
    token_file: Path | None = None, endpoint: Endpoint = DIRECT, send_timeout_s: float = 10.0, leftovers: bool = False
) -> AsyncIterator[Rig]:
    """A rig that is taken down at the end."""
    made = Rig(token_file, endpoint, send_timeout_s, leftovers)
    try:
        yield made
    finally:
        await made.connection.shutdown()
        made.driver.close()


class Peer:
    """The server's end of one connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""

    async def request(self) -> bytes:
        """Read the request up to its empty line."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        return self.head

    @property
    def target(self) -> str:
        """The request's target."""
        return self.head.split(b" ")[1].decode()

    def header(self, name: bytes) -> bytes:
        """A header of the request."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower():
                return value.strip()
        return b""

    def say(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)

    async def upgrade(self, *headers: str) -> None:
        """Read the request and accept it."""
        await self.request()
        self.accept(*headers)

    def accept(self, *headers: str) -> None:
        """Answer 101."""
        key = hashlib.sha1(self.header(b"Sec-WebSocket-Key") + GUID).digest()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {base64.b64encode(key).decode()}", *headers]
        self.say(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame of the client: opcode and unmasked payload."""
        first, second = await self.reader.readexactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        return first & 0xF, bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))

    async def stay(self) -> None:
        """Be a polite server until the client ends the connection: answer its close frame, ignore the rest."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    self.say(frame(CLOSE, payload[:2]))

    async def end(self) -> bytes:
        """Everything until the client's end of the connection."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def reset(self) -> None:
        """End with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def frame(opcode: int, payload: bytes = b"", first: int = 0x80) -> bytes:
    """A server's frame. `first` holds FIN and the reserved bits."""
    if len(payload) < 126:
        return bytes([first | opcode, len(payload)]) + payload
    if len(payload) < 65_536:
        return bytes([first | opcode, 126]) + struct.pack("!H", len(payload)) + payload
    return bytes([first | opcode, 127]) + struct.pack("!Q", len(payload)) + payload


def close_frame(code: int, text: str = "") -> bytes:
    """A server's close frame."""
    return frame(CLOSE, struct.pack("!H", code) + text.encode())


async def eventually(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until something outside our inputs has happened."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  what is waited for belongs to the kernel or to a server
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    """A server on the loopback, by default on an ephemeral port; what a handler raises fails the test."""
    errors: list[Exception] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client went away: tests look at that from its side
        except asyncio.CancelledError:
            pass  # the test is over; streams of Python 3.11 complain about a cancelled handler
        except Exception as error:
            errors.append(error)
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks))
        await server.wait_closed()
    if errors:
        raise errors[0]


class Certificates:
    """An authority and two servers' certificates, made by openssl in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._openssl = require("openssl")
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test authority")
        for name, names, days in (("server", "IP:127.0.0.1,DNS:cast.example", "20"), ("client", "DNS:client", "20")):
            self._run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
            (directory / f"{name}.ext").write_text(f"subjectAltName={names}\n")
            signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", f"{name}.ext"]
            self._run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
        self._run("req", "-x509", *key, "-keyout", "other.key", "-out", "other.pem", "-days", "30", "-subj", "/CN=stranger")

    def path(self, name: str) -> Path:
        """A file of ours."""
        return self.directory / name

    def server(self, ask_client: bool = False) -> ssl.SSLContext:
        """A server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        if ask_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context

    def expiry_s(self) -> float:
        """`notAfter` of the server's certificate, as openssl prints it."""
        line = self._run("x509", "-in", "server.pem", "-noout", "-enddate").decode().strip()
        return float(ssl.cert_time_to_seconds(line.partition("=")[2]))

    def _run(self, *arguments: str) -> bytes:
        done = subprocess.run([self._openssl, *arguments], cwd=self.directory, capture_output=True, check=True, timeout=30)
        return done.stdout
