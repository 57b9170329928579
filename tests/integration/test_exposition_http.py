"""Both listeners over real requests: bodies to the byte, guards, streams. What the words mean is proven by the modules' own tests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from dashboards.links import REASONS_URL
from syncwatch.core import monitor
from syncwatch.core.effects import Notice, Notify
from syncwatch.core.health import Check, Health, Reason
from syncwatch.core.snapshot import ReportSnapshot, Snapshot
from syncwatch.core.states import State
from syncwatch.exposition import events, gate, status
from syncwatch.exposition.events import Broadcast
from syncwatch.exposition.http import Controls, Flushed, local_app, public_app
from syncwatch.exposition.metrics import build_registry
from syncwatch.exposition.negotiation import render
from tests.unit.snapshots import WALL_S, connection, health, held, service, snapshot

Client = TestClient[web.Request, web.Application]

CHECKS = {
    "livez": (Check("tasks", True),),
    "healthz": (Check("tasks", True),),
    "readyz": (Check("first_sync", True), Check("connection/cast", False, "reconnecting for 61 s at 10.1.2.3")),
    "gate": (Check("read", False, "reconnecting"), Check("write", True)),
}
TROUBLE = snapshot(health=health(held(Reason.RECONNECTING), checks=CHECKS))


def rendering(taken: Snapshot) -> Callable[[str | None, str | None, Sequence[str]], tuple[bytes, Mapping[str, str]]]:
    """The real renderer over one snapshot."""
    registry = build_registry(lambda: taken)
    return lambda accept, encodings, names: render(registry, accept, encodings, names)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Client]:
    """The app on an ephemeral port of 127.0.0.1."""
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        yield client


@asynccontextmanager
async def public(taken: Snapshot = TROUBLE) -> AsyncIterator[Client]:
    """The listener that is open to everybody."""
    async with serving(public_app(lambda: taken, rendering(taken))) as client:
        yield client


@asynccontextmanager
async def local(
    taken: Snapshot = TROUBLE,
    controls: Controls | None = None,
    broadcast: Broadcast | None = None,
    token: Callable[[], str | None] | None = None,
    hosts: Sequence[str] = (),
    keep_alive_s: float = 15.0,
    write_s: float = 10.0,
) -> AsyncIterator[Client]:
    """The listener that tells everything."""
    app = local_app(
        lambda: taken,
        controls or Controls(),
        broadcast or Broadcast(),
        token,
        hosts,
        keep_alive_s=keep_alive_s,
        write_s=write_s,
    )
    async with serving(app) as client:
        yield client


async def said(response: ClientResponse) -> tuple[int, str]:
    """Status and body."""
    return response.status, await response.text()


# --- listen ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/livez", (200, "ok")),
        ("/healthz", (200, "ok")),
        ("/-/healthy", (200, "ok")),
        ("/livez?verbose", (200, "[+]tasks ok\nlivez check passed\n")),
        ("/healthz?verbose=1", (200, "[+]tasks ok\nhealthz check passed\n")),
        ("/readyz", (503, "[+]first_sync ok\n[-]connection/cast failed: reason withheld\nreadyz check failed\n")),
        ("/-/ready", (503, "[+]first_sync ok\n[-]connection/cast failed: reason withheld\nreadyz check failed\n")),
        ("/readyz?exclude=connection/cast", (200, "ok")),
        ("/readyz?verbose&exclude=connection/cast&exclude=first_sync",
         (200, "[+]first_sync excluded: ok\n[+]connection/cast excluded: ok\nreadyz check passed\n")),
        ("/livez?verbose&exclude=nobody",
         (200, '[+]tasks ok\nwarn: some health checks cannot be excluded: no matches for "nobody"\nlivez check passed\n')),
        ("/readyz/first_sync", (200, "ok")),
        ("/readyz/connection/cast", (503, "[-]connection/cast failed: reason withheld\n")),
        ("/readyz/connection%2Fcast", (503, "[-]connection/cast failed: reason withheld\n")),
        ("/readyz/connection", (404, "there is no such check: /readyz?verbose lists them\n")),
        ("/livez/connection/cast", (404, "there is no such check: /livez?verbose lists them\n")),
    ],
)  # fmt: skip
async def test_probes_to_the_byte(path: str, expected: tuple[int, str]) -> None:
    """As the Kubernetes API server writes them; what failed is named, why is not."""
    async with public() as client:
        response = await client.get(path)
        assert expected == await said(response)
        assert "text/plain; charset=utf-8" == response.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/healthz/tasks", "/nothing"])
async def test_every_public_answer_is_fresh_and_sniffed_by_nobody(path: str) -> None:
    """Also the refusals; and the server does not tell what it is made of."""
    async with public() as client:
        response = await client.get(path)
        wanted = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "syncwatch"}
        assert wanted == {name: response.headers.get(name) for name in wanted}


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/livez/tasks", "/readyz", "/-/healthy"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_public_listener_only_reads(path: str, method: str) -> None:
    """405 with Allow for whatever could change something."""
    async with public() as client:
        response = await client.request(method, path)
        assert (405, "GET,HEAD") == (response.status, response.headers["Allow"])


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/readyz/connection/cast", "/"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """Same status, same headers."""
    async with public() as client:
        full, head = await client.get(path), await client.head(path)
        assert full.status == head.status
        assert b"" == await head.read()
        assert full.headers["Content-Type"] == head.headers["Content-Type"]
        if path != "/metrics":  # the process's own numbers change between the two
            assert len(await full.read()) == int(head.headers["Content-Length"])


@pytest.mark.parametrize("path", ["/status", "/gate", "/events", "/flush", "/-/reload", "/%2e%2e/status"])
async def test_details_are_not_public(path: str) -> None:
    """What belongs to the local listener does not exist here."""
    async with public() as client:
        assert 404 == (await client.get(path)).status
        assert 404 == (await client.post(path)).status


async def test_no_detail_leaks_through_any_public_answer() -> None:
    """Neither the reason of a failure nor the instance's name."""
    async with public() as client:
        for path in ("/", "/livez?verbose", "/readyz?verbose", "/readyz/connection/cast", "/-/ready", "/nothing"):
            text = await (await client.get(path)).text()
            assert [] == [word for word in ("10.1.2.3", "61 s", "box-1f2e") if word in text], path


async def test_metrics_are_what_the_renderer_says() -> None:
    """Formats by Accept, sent in one header or several; gzip when offered; a filter by name."""
    async with public() as client:
        plain = await client.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert "text/plain; version=0.0.4; charset=utf-8" == plain.headers["Content-Type"]
        assert "Accept, Accept-Encoding" == plain.headers["Vary"]
        assert "Content-Encoding" not in plain.headers
        assert 'syncwatch_connection_up{connection="cast"} 1.0' in (await plain.text()).splitlines()
        wanted = [("Accept", "text/plain;q=0.5"), ("Accept", "application/openmetrics-text;version=1.0.0")]
        opened = await client.get("/metrics", headers=[*wanted, ("Accept-Encoding", "identity")])
        assert (await opened.text()).endswith("# EOF\n")
        zipped = await client.get("/metrics", headers={"Accept-Encoding": "gzip"})
        assert "gzip" == zipped.headers["Content-Encoding"]
        assert (await zipped.read()).startswith(b"\x1f\x8b")
        query = "name[]=syncwatch_connection_up&name%5B%5D=syncwatch_frames_sent_total"
        named = await client.get(f"/metrics?{query}", headers={"Accept-Encoding": "identity"})
        families = re.findall(r"^# TYPE (\w+)", await named.text(), re.MULTILINE)
        assert ["syncwatch_connection_up", "syncwatch_frames_sent_total"] == families


async def test_the_landing_page_leads_on() -> None:
    """Links to what is here, a policy that lets nothing else in."""
    async with public() as client:
        response = await client.get("/")
        page = await response.text()
        assert "text/html; charset=utf-8" == response.headers["Content-Type"]
        for link in re.findall(r'<a href="([^"]+)"', page):
            assert (await client.get("/" + link)).status in (200, 503), link
        assert "script-src 'none'" in response.headers["Content-Security-Policy"]


# --- local_listen: guards ------------------------------------------------------------------------------------------------------------

LOCAL_PATHS = [
    ("GET", "/"),
    ("GET", "/status"),
    ("GET", "/gate"),
    ("GET", "/events"),
    ("POST", "/-/reload"),
    ("POST", "/flush"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), LOCAL_PATHS)
async def test_a_rebound_name_gets_nothing(method: str, path: str) -> None:
    """A stranger's page whose name was made to point at 127.0.0.1 arrives with that name as Host."""
    async with local() as client:
        response = await client.request(method, path, headers={"Host": "evil.example:10120"})
        assert 421 == response.status
        assert (await response.text()).startswith("refused: ")


@pytest.mark.parametrize(("method", "path"), LOCAL_PATHS)
async def test_a_foreign_page_gets_nothing(method: str, path: str) -> None:
    """A page that asks us directly is known by its Origin, even one of another port of this machine."""
    async with local() as client:
        for origin in ("https://evil.example", "http://localhost:3000", "null"):
            assert 403 == (await client.request(method, path, headers={"Origin": origin})).status


async def test_no_answer_allows_another_origin() -> None:
    """Not by CORS, not by embedding; not even in a refusal."""
    async with local() as client:
        for origin in ({}, {"Origin": "https://evil.example"}):
            headers = (await client.get("/status", headers=origin)).headers
            assert [] == [name for name in headers if name.lower().startswith("access-control-")]
            assert ("same-origin", "DENY") == (headers["Cross-Origin-Resource-Policy"], headers["X-Frame-Options"])
            assert ("no-store", "nosniff") == (headers["Cache-Control"], headers["X-Content-Type-Options"])


async def test_own_names_and_own_origin_are_served() -> None:
    """Loopback names, a forwarded port, the bound address; the page's own requests."""
    async with local(hosts=["Sidecar.test:10120"]) as client:
        for host in ("localhost", "127.0.0.1:8080", "[::1]:10120", "sidecar.test:10120"):
            assert 200 == (await client.get("/status", headers={"Host": host})).status
            assert 200 == (await client.get("/status", headers={"Host": host, "Origin": f"http://{host}"})).status
        assert 421 == (await client.get("/status", headers={"Host": "sidecar.test:10121"})).status


async def raw(client: Client, request: bytes) -> bytes:
    """The first line of the answer to a request written by hand."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 5.0)
    writer.close()
    await writer.wait_closed()
    return line


async def test_a_request_without_one_clear_host_is_refused() -> None:
    """No Host at all, an empty one, or two."""
    async with local() as client:
        assert b" 421 " in await raw(client, b"GET /status HTTP/1.0\r\n\r\n")
        assert b" 421 " in await raw(client, b"GET /status HTTP/1.1\r\nHost:\r\n\r\n")
        two = await raw(client, b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 421 " in two or b" 400 " in two
        assert b" 421 " in await raw(client, b"GET http://localhost/status HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert b" 200 " in await raw(client, b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def test_with_a_token_nobody_is_served_without_it() -> None:
    """Refused with the challenge; served with it; a new token counts at once."""
    current = ["first"]
    async with local(token=lambda: current[0]) as client:
        for method, path in LOCAL_PATHS[1:]:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic first"}):
                response = await client.request(method, path, headers=headers)
                assert (401, 'Bearer realm="syncwatch"') == (response.status, response.headers["WWW-Authenticate"])
        assert 200 == (await client.get("/status", headers={"Authorization": "Bearer first"})).status
        current[0] = "second"
        assert 401 == (await client.get("/status", headers={"Authorization": "Bearer first"})).status
        assert 200 == (await client.get("/status", headers={"Authorization": "Bearer second"})).status


async def test_the_page_without_data_needs_the_token_only_from_afar() -> None:
    """Under a loopback name it is served and asks for the token itself."""
    async with local(token=lambda: "s3cret", hosts=["0.0.0.0:10120"]) as client:
        assert 200 == (await client.get("/")).status
        assert 401 == (await client.get("/", headers={"Host": "10.1.2.3:10120"})).status
        far = {"Host": "10.1.2.3:10120", "Authorization": "Bearer s3cret"}
        assert 200 == (await client.get("/", headers=far)).status
        assert 421 == (await client.get("/", headers={**far, "Host": "evil.example"})).status


def vanished() -> str | None:
    """A token file that is gone."""
    raise FileNotFoundError("/run/secrets/local-token")


@pytest.mark.parametrize("unreadable", [vanished, lambda: None, lambda: ""])
async def test_an_unreadable_token_closes_the_door(unreadable: Callable[[], str | None]) -> None:
    """503 whatever is sent, also an empty token; said once in the log, without token or path."""
    with capture_logs() as logs:
        async with local(token=unreadable) as client:
            for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer secret-guess"}):
                response = await client.get("/status", headers=headers)
                assert (503, "closed: the token that this listener wants cannot be read here\n") == await said(response)
    assert ["the local listener refuses everybody: its token file cannot be read"] == [one["event"] for one in logs]
    assert "secret" not in repr(logs)


async def test_a_token_that_comes_back_opens_the_door() -> None:
    """Said in the log once each way, however often somebody asks."""
    current: list[str | None] = [None]
    with capture_logs() as logs:
        async with local(token=lambda: current[0]) as client:
            for token, code in ((None, 503), (None, 503), ("s3cret", 200), ("s3cret", 200), (None, 503)):
                current[0] = token
                assert code == (await client.get("/status", headers={"Authorization": "Bearer s3cret"})).status
    assert ["error", "info", "error"] == [one["log_level"] for one in logs]


# --- local_listen: what it tells -------------------------------------------------------------------------------------------------------


async def test_status_is_the_document() -> None:
    """Byte for byte what status.document() says, as JSON; its text can be made from it."""
    async with local() as client:
        response = await client.get("/status")
        assert "application/json" == response.headers["Content-Type"]
        told = await response.json()
        assert status.document(TROUBLE) == told
        assert list(status.document(TROUBLE)["connections"][0]) == list(told["connections"][0])
        assert "down: reconnecting" in status.render(told, False, 80)
        assert b"" == await (await client.head("/status")).read()


@pytest.mark.parametrize(
    ("path", "code", "purpose"),
    [("/gate", 503, "read"), ("/gate?for=read", 503, "read"), ("/gate?for=write", 200, "write")],
)
async def test_the_gate_in_both_directions(path: str, code: int, purpose: str) -> None:
    """Open is 200, closed is 503; the answer is the same document in both cases."""
    async with local() as client:
        response = await client.get(path)
        assert code == response.status
        assert (
            msgspec.json.decode(msgspec.json.encode(gate.answer(TROUBLE, gate.Purpose(purpose))))
            == await response.json()
        )
        assert code == (await client.head(path)).status


@pytest.mark.parametrize(
    "query", ["for=reading", "for=", "for=READ", "for=read&for=write", "fro=write", "for=write&connection=cast"]
)
async def test_a_question_that_is_not_understood_is_refused(query: str) -> None:
    """Neither open nor closed."""
    async with local() as client:
        assert (400, "ask /gate?for=read or /gate?for=write, and nothing else\n") == await said(
            await client.get(f"/gate?{query}")
        )


async def test_what_is_not_offered_is_said() -> None:
    """501 and a sentence; and asking by GET is no way at all."""
    async with local() as client:
        reload, flush = await client.post("/-/reload"), await client.post("/flush")
        assert (501, "there is nothing to reload: no configuration file runs here\n") == await said(reload)
        assert (501, "there is nothing to flush: no mirror runs here\n") == await said(flush)
        for path in ("/-/reload", "/flush"):
            response = await client.get(path)
            assert (405, "POST") == (response.status, response.headers["Allow"])


async def test_what_is_offered_is_asked() -> None:
    """The controls decide; their answer becomes the status."""
    mistakes: list[str] = []
    waits: list[float] = []

    async def reload() -> Sequence[str]:
        return mistakes

    async def flush(timeout_s: float) -> Flushed:
        waits.append(timeout_s)
        return Flushed(complete=timeout_s > 1, files=3, pending=0 if timeout_s > 1 else 2)

    async with local(controls=Controls(reload, flush)) as client:
        response = await client.post("/-/reload")
        assert (200, {"reloaded": True, "errors": []}) == (response.status, await response.json())
        mistakes.append("syncwatch.yaml:3: connections[0].url: not a URL")
        response = await client.post("/-/reload")
        assert (422, {"reloaded": False, "errors": mistakes}) == (response.status, await response.json())
        done, pending = await client.post("/flush"), await client.post("/flush?timeout_s=0.5")
        assert (200, {"complete": True, "files": 3, "pending": 0}) == (done.status, await done.json())
        assert (503, {"complete": False, "files": 3, "pending": 2}) == (pending.status, await pending.json())
        for wrong in ("0", "-1", "nan", "inf", "x", "", "601", "1&timeout_s=2"):
            assert 400 == (await client.post(f"/flush?timeout_s={wrong}")).status, wrong
        assert [20.0, 0.5] == waits


# --- local_listen: /events ---------------------------------------------------------------------------------------------------------------


def notify(number: int, padding: str = "") -> Notify:
    """A notice that says its number."""
    return Notify(Notice.STATE, WALL_S, {"connection": "cast", "n": number, "padding": padding})


async def blocks(response: ClientResponse, count: int) -> list[str]:
    """The next blocks of a stream."""
    found = []
    for _ in range(count):
        block = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 5.0)
        found.append(block.decode().removesuffix("\n\n"))
    return found


def event(run: str, number: int) -> str:
    """The block of `notify(number)`."""
    data = f'{{"notice":"state","time":"2026-11-20T13:06:40.000Z","fields":{{"connection":"cast","n":{number},"padding":""}}}}'
    return f"id: {run}-{number}\nevent: state\ndata: {data}"


async def test_events_replay_then_go_live() -> None:
    """History, then each as it happens, to the byte."""
    broadcast = Broadcast(run="aa")
    broadcast.publish(notify(1))
    broadcast.publish(notify(2))
    async with local(broadcast=broadcast) as client, client.get("/events") as response:
        assert "text/event-stream; charset=utf-8" == response.headers["Content-Type"]
        assert "no-store" == response.headers["Cache-Control"]
        assert ["retry: 2000", event("aa", 1), event("aa", 2)] == await blocks(response, 3)
        broadcast.publish(notify(3))
        assert [event("aa", 3)] == await blocks(response, 1)


async def test_events_go_on_behind_the_last_id() -> None:
    """What was seen is not repeated; what the buffer has lost is said."""
    broadcast = Broadcast(history=2, run="aa", transitions=0)
    for number in range(1, 7):
        broadcast.publish(notify(number))
    async with local(broadcast=broadcast) as client:
        async with client.get("/events", headers={"Last-Event-ID": "aa-5"}) as response:
            assert ["retry: 2000", event("aa", 6)] == await blocks(response, 2)
        async with client.get("/events", headers={"Last-Event-ID": "aa-1"}) as response:
            gap = 'event: dropped\ndata: {"reason":"they are no longer in the buffer","count":3}'
            assert ["retry: 2000", gap, event("aa", 5), event("aa", 6)] == await blocks(response, 4)
        async with client.get("/events", headers={"Last-Event-ID": "zz-5"}) as response:
            assert ["retry: 2000", event("aa", 5), event("aa", 6)] == await blocks(response, 3)


async def test_a_stream_has_no_head() -> None:
    """HEAD would have to wait for an end that does not come."""
    async with local() as client:
        response = await client.head("/events")
        assert (405, "GET") == (response.status, response.headers["Allow"])


async def test_a_silent_stream_is_kept_alive() -> None:
    """By comments, which no client shows to anybody."""
    async with local(keep_alive_s=0.02) as client, client.get("/events") as response:
        assert ["retry: 2000", ": keep-alive", ": keep-alive"] == await blocks(response, 3)


async def test_a_slow_listener_is_told_and_loses_its_place() -> None:
    """It gets what was queued, the word, and the end; its id leads it back to what it did not get."""
    broadcast = Broadcast(queue=3, run="aa")
    async with local(broadcast=broadcast) as client:
        async with client.get("/events") as slow:
            assert ["retry: 2000"] == await blocks(slow, 1)
            for number in range(1, 6):  # at one blow: the stream gets no chance to write in between
                broadcast.publish(notify(number))
            end = 'event: dropped\ndata: {"reason":"this listener was too slow: reconnect to go on","count":null}'
            assert [event("aa", 1), event("aa", 2), event("aa", 3), end] == await blocks(slow, 4)
            assert b"" == await asyncio.wait_for(slow.content.read(), 5.0)
        async with client.get("/events", headers={"Last-Event-ID": "aa-3"}) as again:
            assert ["retry: 2000", event("aa", 4), event("aa", 5)] == await blocks(again, 3)


async def test_a_listener_that_takes_nothing_is_cut_off() -> None:
    """Its full socket keeps a place for `write_s` and no longer; publishing never waits for it."""
    broadcast = Broadcast(history=1, queue=4000, listeners=1)
    async with local(broadcast=broadcast, write_s=0.2) as client:
        reader, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
        writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"retry: 2000"), 5.0)
        padding = "x" * 64_000
        for number in range(400):  # 25 MB: more than the sockets of both ends hold
            broadcast.publish(notify(number, padding))
        with pytest.raises(events.TooManyListenersError):
            broadcast.subscribe()

        async def free() -> None:
            while True:
                try:
                    return broadcast.subscribe().close()
                except events.TooManyListenersError:
                    await asyncio.sleep(0.02)

        await asyncio.wait_for(free(), 5.0)
        writer.transport.abort()
        writer.close()


async def test_places_are_limited_and_given_back() -> None:
    """One too many is refused; one that left makes room."""
    broadcast = Broadcast(listeners=1)
    async with local(broadcast=broadcast, keep_alive_s=0.02) as client:
        async with client.get("/events") as first:
            assert ["retry: 2000"] == await blocks(first, 1)
            refused = await client.get("/events")
            assert (503, "too many listeners: try again later\n") == await said(refused)
            assert "5" == refused.headers["Retry-After"]
            first.close()
        for _ in range(100):
            response = await client.get("/events")
            if response.status == 200:
                break
            await asyncio.sleep(0.02)
        assert 200 == response.status
        response.close()


async def test_streams_end_with_the_listener() -> None:
    """A stop does not wait for those who listen."""
    server = TestServer(local_app(lambda: TROUBLE, Controls(), Broadcast()))
    async with TestClient(server) as client:
        response = await client.get("/events")
        assert ["retry: 2000"] == await blocks(response, 1)
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        await asyncio.wait_for(server.close(), 5.0)
        assert loop.time() - before_s < 1.0
        assert b"" == await asyncio.wait_for(response.content.read(), 5.0)


# --- local_listen: the page ----------------------------------------------------------------------------------------------------------------


async def test_the_page_is_whole_and_runs_only_its_own_code() -> None:
    """The policy names the hashes of exactly its style and script, nothing is loaded from elsewhere, data never becomes markup."""
    async with local() as client:
        response = await client.get("/")
        page = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert "text/html; charset=utf-8" == response.headers["Content-Type"]
    for element in ("style", "script"):
        (inside,) = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    markup = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", 'style="')
    assets = ("http://", "https://", "src=", "@import", "url(")
    led_to = f'const REASONS_URL = "{REASONS_URL}";'  # where a click leads; the policy loads nothing from there
    assert led_to in page
    assert [] == [word for word in markup + assets if word in page.replace(led_to, "")]
    assert [] == re.findall(r"<[^>]*\son\w+=", page)
    assert "<noscript>" in page
    assert 'href="status"' in page


async def test_the_page_reads_only_keys_that_exist() -> None:
    """A key of the document that goes away would show as nothing at all."""
    async with local() as client:
        page = await (await client.get("/")).text()
    whole = status.document(snapshot(connections=(connection(report=ReportSnapshot("/b1.json")),), services=(service(),), health=health(held(Reason.BEHIND))))
    cast, flair = whole["connections"][0], whole["services"][0]
    roots = {
        "status": [whole],
        "c": [cast, flair],
        "k": [cast["ledger"]],
        "own": [whole["sidecar"]],
        "r": whole["reasons"],
        "v": [whole["gate"]["read"]],
    }
    chains = set(re.findall(r"(?<![\w.\"-])(status|c|k|own|r|v)\.([a-z_]+(?:\.[a-z_]+)*)", page))
    assert len(chains) > 30
    assert set() == {f"{root}.{path}" for root, path in chains if not any(reaches(one, path) for one in roots[root])}


async def test_the_page_knows_the_words_of_the_core() -> None:
    """What is as grave as down, and the states that have a colour, are those that the core has."""
    async with local() as client:
        page = await (await client.get("/")).text()
    (down,) = re.findall(r"const DOWN = (\[.*?\]);", page)
    assert set(monitor.DOWN) == set(json.loads(down))
    (colours,) = re.findall(r"const COLOURS = \{ (.*?) \};", page)
    coloured = dict(re.findall(r'(\w+): "(\w+)"', colours))
    assert set(State) - {State.IDLE, State.CLOSED} <= coloured.keys()
    assert set(Health) >= set(coloured.values())


def reaches(found: object, path: str) -> bool:
    """Whether the keys of a path lead on from one to the next, until a value that is no object."""
    for key in path.split("."):
        if not isinstance(found, dict):
            return True
        if key not in found:
            return False
        found = found[key]
    return True
