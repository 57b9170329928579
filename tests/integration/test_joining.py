"""`syncwatch tps join` against the embedded branch: the real command, both transports, and every way in which it does not work out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncwatch.config import TpsHostConnection, parse
from syncwatch.joining import JoinError, join
from syncwatch.protocols.tps.keys import Identity, Token, key_text, token_from_text
from syncwatch.relay import Relay
from syncwatch.relay.ledger import Closed, Received
from syncwatch.relay.logfacts import Greeted
from tests.integration.relay_parts import eventually
from tests.integration.runtime_parts import Peer, serving
from tests.integration.sidecar import Done, command

HOST = Identity(b"\x01" * 32)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A branch that waits for a host."""
    async with Relay.start() as made:
        yield made


def token_of(relay: Relay) -> Token:
    """What the branch prints."""
    return token_from_text(relay.branch.token("127.0.0.1", relay.port))


async def run(home: Path, *arguments: str | Path) -> Done:
    """The command, at home there."""
    return await command("tps", "join", *arguments, HOME=str(home))


async def test_joining_for_real(relay: Relay, tmp_path: Path) -> None:
    """The identity is made, the branch pins it, and what is printed is a configuration; again, it is the same identity and no trouble."""
    text = relay.branch.token("127.0.0.1", relay.port)
    done = await run(tmp_path, text)
    assert (0, "joined: ") == (done.code, done.err.splitlines()[-1][:8]), done.err
    seed = tmp_path / ".syncwatch" / "tps" / "host.seed"
    identity = Identity(seed.read_bytes())
    assert (0o600, 0o700) == (stat.S_IMODE(seed.stat().st_mode), stat.S_IMODE(seed.parent.stat().st_mode))
    await eventually(lambda: identity.encryption_key == relay.branch.pinned)
    printed = parse(done.out, "printed", {})
    assert tmp_path / ".syncwatch" / "state" / "branch" == printed.state_dir
    (block,) = printed.connections
    assert isinstance(block, TpsHostConnection)
    assert ("branch", "branch", True, seed, key_text(relay.branch.key), tmp_path / ".syncwatch" / "mail" / "branch") == (
        block.name, block.branch, block.dedicated, block.identity_file, block.peer_key, block.mail_dir,
    )  # fmt: skip
    assert relay.branch_url == block.url
    await eventually(lambda: relay.ledger.of(Closed))
    assert [(1000, "done", "client")] == [(fact.code, fact.reason, fact.by) for fact in relay.ledger.of(Closed)]
    assert ["join_complete"] == [fact.kind for fact in relay.ledger.of(Received)]
    assert [True] == [fact.accepted for fact in relay.ledger.of(Greeted)]
    again = await run(tmp_path, text)
    assert (0, done.out) == (again.code, again.out)
    assert "as it was" in again.err
    assert seed.read_bytes().hex() not in done.err + done.out


async def test_options(relay: Relay, tmp_path: Path) -> None:
    """Where the identity and the mail go, what the branch and the host are called; and TCP."""
    port = await relay.open_branch_tcp()
    text = relay.branch.token("127.0.0.1", port, "tcp")
    done = await run(tmp_path, text, "--identity-file", tmp_path / "keys" / "me", "--mail-dir", tmp_path / "in box", "--state-dir", tmp_path / "a #1", "--name", "b1", "--host-id", "canary.1")
    assert 0 == done.code, done.err
    printed = parse(done.out, "printed", {})
    (block,) = printed.connections
    assert isinstance(block, TpsHostConnection)
    assert ("b1", "b1", f"tcp://127.0.0.1:{port}", tmp_path / "in box", tmp_path / "a #1") == (block.name, block.branch, block.url, block.mail_dir, printed.state_dir)
    key = Identity((tmp_path / "keys" / "me").read_bytes()).encryption_key
    await eventually(lambda: key == relay.branch.pinned)
    assert ["b1"] == [fact.name for fact in relay.ledger.of(Greeted)]
    assert f"its host is now canary.1 {hashlib.sha256(key).hexdigest()}" in done.err


async def test_a_branch_that_has_a_host(relay: Relay, tmp_path: Path) -> None:
    """Exit code 1 and why, over either transport; nothing to configure is printed."""
    relay.branch.pin(b"x" * 32)
    port = await relay.open_branch_tcp()
    for text in (relay.branch.token("127.0.0.1", relay.port), relay.branch.token("127.0.0.1", port, "tcp")):
        done = await run(tmp_path, text)
        assert (1, "") == (done.code, done.out)
        assert "it has a host already, and this is not its key" in done.err.splitlines()[-1]
    assert b"x" * 32 == relay.branch.pinned


async def test_mistakes(tmp_path: Path) -> None:
    """One line each, exit code 2, and nothing is made."""
    good = "tps://join?host=h&port=1&pubkey={0}&sigpubkey={0}&fp=sha256:{1}".format(key_text(HOST.signing_key), hashlib.sha256(HOST.signing_key).hexdigest())
    (tmp_path / "short").write_bytes(b"x")
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("nonsense",), "the token does not begin with tps://join?"),
        (("tps://join?host=h",), "the token lacks port"),
        ((good.replace("port=1", "port=70000"),), "the token's port is no port"),
        ((good.replace("fp=sha256:", "fp=sha256:0"),), "the token's fp is not the fingerprint of its sigpubkey"),
        ((good + "&transport=udp",), "the token's transport is neither ws nor tcp"),
        ((good, "--name", "a b"), '--name: "a b" is not allowed; a name is 1 to 63 letters'),
        ((good, "--name", "a.b"), '--name: "a.b" is not allowed; a branch is 1 to 64 letters'),
        ((good, "--host-id", "a b"), '--host-id: "a b" is not allowed; a host\'s name is'),
        ((good, "--identity-file", ""), "--identity-file: must not be empty"),
        ((good, "--identity-file", tmp_path / "short"), f"--identity-file: {tmp_path}/short: holds 1 bytes, and a seed has 32"),
        ((good, "--mail-dir", "~/.syncwatch/state/branch"), "--state-dir: is where the mail will be kept as well"),
        ((good, "--mail-dir", "~other/mail"), '--mail-dir: "~other/mail": only your own home directory'),
    ]
    for arguments, expected in cases:
        done = await run(tmp_path, *arguments)
        assert (2, "") == (done.code, done.out), (arguments, done.err)
        (line,) = done.err.splitlines()
        assert line.startswith(f"syncwatch tps join: {expected}"), line
    assert ["short"] == os.listdir(tmp_path)


async def test_nobody_there(relay: Relay, tmp_path: Path) -> None:
    """Exit code 3."""
    text = relay.branch.token("127.0.0.1", relay.port)
    await relay.stop()
    done = await run(tmp_path, text)
    assert 3 == done.code
    assert done.err.splitlines()[-1].endswith("connection refused (ECONNREFUSED)")


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_silence(relay: Relay, transport: str) -> None:
    """A branch that takes the connection and says nothing is given up in time."""
    token = token_of(relay)
    if transport == "tcp":
        token = token_from_text(relay.branch.token("127.0.0.1", await relay.open_branch_tcp(), "tcp"))
    with relay.faults.accepting_only(protocol="tps"), pytest.raises(JoinError) as told:
        await join(token, HOST, "me", "b1", 0.3)
    assert ("no answer to the handshake within 0.3 s", False) == (str(told.value), told.value.reached)
    if transport == "ws":
        with relay.faults.hanging(protocol="tps"), pytest.raises(JoinError) as told:
            await join(token, HOST, "me", "b1", 0.3)
        assert ("not finished within 0.3 s: it stood at upgrade", False) == (str(told.value), told.value.reached)
    assert relay.branch.pinned is None


async def test_another_branch_s_token(relay: Relay) -> None:
    """The key in the token is not the listener's: it cannot read us, and learns nothing."""
    other = Identity(b"\x02" * 32)
    wrong = token_from_text(str(Token("127.0.0.1", relay.port, other.encryption_key, other.signing_key)))
    with pytest.raises(JoinError) as told:
        await join(wrong, HOST, "me", "b1", 5.0)
    assert "the branch could not read the handshake" in str(told.value)
    assert relay.branch.pinned is None


async def test_something_else_listens(relay: Relay) -> None:
    """A web server, and noise over TCP: said, not waited for."""

    async def chat(peer: Peer) -> None:
        peer.say(b"SSH-2.0-OpenSSH\r\n")
        await peer.end()

    async with serving(chat) as port:
        for token in (Token("127.0.0.1", port, HOST.encryption_key, HOST.signing_key, "tcp"), Token("127.0.0.1", port, HOST.encryption_key, HOST.signing_key)):
            with pytest.raises(JoinError) as told:
                await join(token, HOST, "me", "b1", 5.0)
            assert ("the handshake failed: the peer sent a first message of 21331 bytes: no answer to a handshake is so long" if token.transport == "tcp"
                    else "the server's answer is not HTTP") in str(told.value)  # fmt: skip


async def test_a_branch_that_stops_as_soon_as_it_has_its_host(relay: Relay) -> None:
    """`branch init` ends with the join: that nobody answers our close is no failure."""
    token = token_of(relay)
    with relay.faults.freezing("to_client", protocol="tps"):
        joining = asyncio.create_task(join(token, HOST, "me", "b1", 5.0))
        await asyncio.sleep(0)
        await eventually(lambda: relay.connections)
    await joining
    await eventually(lambda: HOST.encryption_key == relay.branch.pinned)
