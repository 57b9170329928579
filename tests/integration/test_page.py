"""The status page in a real Chromium: what it shows and how soon, who can use it, and what cannot get into it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dashboards.links import REASONS_URL
from syncwatch.core.effects import Notice, Notify
from syncwatch.core.health import Check, Component, Health, Reason
from syncwatch.core.snapshot import ReportSnapshot, Snapshot, Transition
from syncwatch.core.states import State
from syncwatch.core.wire import Numbering
from syncwatch.exposition import status
from syncwatch.exposition.events import Broadcast
from syncwatch.exposition.http import Controls, local_app
from syncwatch.relay.kinds import Outage
from tests.integration.chromium import Page, browser, page
from tests.integration.sidecar import WATCHER, rig, until
from tests.unit.scenes import unconfigured
from tests.unit.snapshots import (
    NOW_S,
    WALL_S,
    connection,
    continuity,
    fresh_connection,
    health,
    held,
    mirror,
    moment,
    service,
    snapshot,
    timeline,
)

MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>&amp;\u202egnp"
"""What a peer may try: an element that acts, a script, an entity, and a character that turns the direction of writing."""

TROUBLE = snapshot(
    connections=(
        connection(token_expiry_wall_s=WALL_S - 90.0, next_attempt_now_s=NOW_S + 4.0),
        fresh_connection(name="files", upstream="https://api.relayfile.dev"),
    ),
    mirrors=(mirror(),),
    services=(service(),),
    health=health(
        held(Reason.BEHIND),
        held(Reason.EVENTS_LOST, 100.0),
        held(Reason.SERVICE_UNHEALTHY, 30.0, Component.SERVICE, "flair"),
        names=("cast", "files"),
    ),
)


@pytest.fixture(scope="module")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One browser for all of these tests."""
    with browser(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def tab(devtools: str) -> AsyncIterator[Page]:
    """A page in it, 1280 pixels wide."""
    async with page(devtools) as made:
        await made.size(1280)
        yield made


def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: SYNCWATCH_SCREENSHOTS, for those who want to look at them."""
    folder = Path(os.environ.get("SYNCWATCH_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def serving(
    taken: Snapshot | Callable[[], Snapshot], broadcast: Broadcast | None = None, token: str | None = None, asked: Callable[[], object] = lambda: None
) -> AsyncIterator[str]:
    """The local listener over one snapshot, or over what is there at the time; yields its URL. `asked` is called whenever somebody wants the snapshot."""
    read = None if token is None else lambda: token

    def look() -> Snapshot:
        asked()
        return taken if isinstance(taken, Snapshot) else taken()

    app = local_app(look, Controls(), broadcast or Broadcast(), read)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


# --- live: a real sidecar beside a relay ----------------------------------------------------------------------------------------------------


async def test_a_dropped_connection_is_shown_within_a_second(tmp_path: Path, tab: Page) -> None:
    """From the change of state (the stamp that the sidecar made) to the words on the page (the browser's clock, read when they appear): below a second in each
    of three drops."""
    folder, delays_s = pictures(tmp_path), []
    async with rig(tmp_path) as it, it.sidecar() as sidecar:
        it.post(20)
        await sidecar.caught_up(it.relay)
        await tab.open(f"{sidecar.local}/")
        await tab.until("document.querySelector('#stream').innerText === 'live'")
        await tab.until("document.querySelector('#health').innerText.includes('healthy')")
        healthy = await tab.screenshot(folder / "page-healthy.png")
        assert "read open" == await tab.text("#read")
        for number in range(3):
            outage = it.relay.faults.begin(Outage(status=503))
            await tab.run(SEEING)
            it.relay.drop(WATCHER)
            seen_ms = await tab.until("window.seenAt")
            (fell,) = [one for one in (await sidecar.cast())["transitions"][:1] if one["to_state"] == "reconnecting"]
            delays_s.append(seen_ms / 1000 - msgspec.convert(fell["at"]["time"], datetime).timestamp())
            if number == 0:
                await tab.shows("the server refused with HTTP 503")
                await tab.until("document.querySelector('#connection-cast dt').innerText === 'next attempt'")
                assert "read closed: cast: reconnecting" == await tab.text("#read")
                assert (await tab.run("document.title")).startswith("○ down · syncwatch ")
                fault = await tab.screenshot(folder / "page-fault.png")
            it.relay.faults.end(outage)
            await tab.until("document.querySelector('#health').innerText.includes('healthy')")
        assert [] == [error for error in tab.errors if "503" not in error]
    assert max(delays_s) < 1.0, delays_s
    assert [True, True] == [one.startswith(b"\x89PNG") and len(one) > 20_000 for one in (healthy, fault)]
    assert healthy != fault


async def test_a_sidecar_without_a_configuration_says_what_is_wrong(tab: Page) -> None:
    """Down, both sides of the gate closed, the mistake on the page, and no word of a configuration that goes on."""
    async with serving(unconfigured()) as url:
        await tab.open(url)
        await tab.shows("without a usable configuration: nothing is watched")
        await tab.until("document.querySelector('#health').innerText.includes('down')")
        why = "no usable configuration: syncwatch.yaml:3: listen: wrong (and 1 more)"
        assert f"read closed: {why}" == await tab.text("#read")
        assert why in await tab.text("#checks")
        assert "is refused" not in await tab.text("#sidecar")
        assert [] == tab.errors


SEEING = """
window.seenAt = 0;
window.watching?.disconnect();
window.watching = new MutationObserver(() => {
  if (!window.seenAt && document.querySelector('#connection-cast .pill').innerText.includes('reconnecting')) window.seenAt = Date.now();
});
window.watching.observe(document.body, { subtree: true, childList: true, characterData: true });
"""
"""Remembers when the page first shows that the connection is gone."""


async def test_it_recovers_by_itself_when_the_sidecar_restarts(tmp_path: Path, tab: Page) -> None:
    """While nobody answers it says so and since when, that the gate counts as closed, and what was known as something that was: no pill claims anything,
    no time goes on, for nobody knows whether a connection is still there. Then everything is as before, the notices those of the new process."""
    async with rig(tmp_path) as it:
        async with it.sidecar() as sidecar:
            url = f"{sidecar.local}/"
            await tab.open(url)
            await tab.until("document.querySelector('#health').innerText.includes('healthy')")
            await tab.until("document.querySelectorAll('#notices li').length > 0")
            await sidecar.end(signal.SIGTERM)
        await tab.shows("The sidecar does not answer. What is shown is how it was at ")
        assert ["? unknown", "read closed: no answer", "write closed: no answer"] == [
            await tab.text(where) for where in ("#health", "#read", "#write")
        ]
        assert "? syncwatch" == await tab.run("document.title")
        await tab.until("said.textContent.startsWith('The sidecar does not answer.')")
        since = await tab.run("latest.time")
        assert f"no answer since {since[11:19]} UTC" == await tab.text("#stream")
        assert f"how it was at {since[11:19]} UTC." in await tab.text("#trouble")
        pills = await tab.run("[...document.querySelectorAll('main .pill')].map(x => [x.className, x.innerText])")
        assert {"pill idle"} == {how for how, _ in pills}
        assert [True] * 5 == [words.startswith("? was") for _, words in pills], pills
        assert pills[0][1].startswith("? was healthy, open for ")
        assert "? was: 2 passed" == pills[-1][1], "the gate's"
        await tab.until("(window.still = document.querySelector('main').innerText).includes('connected for')")
        await asyncio.sleep(1.2)  # several ticks
        assert await tab.run("window.still === document.querySelector('main').innerText"), "what nobody knows does not go on"
        await tab.screenshot(pictures(tmp_path) / "page-gone.png")
        it.config["local_listen"] = urlsplit(url).netloc
        async with it.sidecar(opened=False):
            await tab.until("document.querySelector('#health').innerText.includes('healthy')")
            assert await tab.run("document.querySelector('#trouble').hidden")
            await tab.until("document.querySelector('#stream').innerText === 'live'")
            await tab.until("said.textContent.startsWith('syncwatch is')")
            await tab.until("document.querySelector('#notices').textContent.includes('resumed')")
            assert not await tab.run("document.querySelector('#notices').textContent.includes('to state closed')"), "the earlier one's are gone"


# --- what the page is made of: the local listener over a snapshot -------------------------------------------------------------------------


async def test_everything_that_status_has_is_on_the_page(tab: Page) -> None:
    """Each value of the document's connections, services, webhooks and checks has its place, also in parts that this page knows nothing about."""
    async with serving(TROUBLE) as url:
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        assert ["cast", "files"] == await tab.run("[...document.querySelectorAll('#kinds section:first-child h3')].map(x => x.innerText)")
        assert ["/livez", "/healthz", "/readyz", "/gate"] == await tab.run("[...document.querySelectorAll('#checks h3')].map(x => x.innerText)")
        reasons = await tab.text("#troubles")
        for held_ in status.document(TROUBLE)["reasons"]:
            assert held_["advice"] in reasons
        await tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        await tab.until("document.querySelectorAll('#connection-cast .fine h4').length > 8")
        shown = await tab.text("#connection-cast")
        cast = status.document(TROUBLE)["connections"][0]
        wanted = {label for key, part in cast.items() if key not in ELSEWHERE for label in labels(key, part)}
        assert len(wanted) > 60
        assert set() == {label for label in wanted if label not in shown.splitlines()}
        assert ["degraded", "healthy", "down", "degraded", "healthy"] == await tab.run("[...document.querySelectorAll('#connection-cast .strip span')].map(x => x.className)")
        widths = await tab.run("[...document.querySelectorAll('#connection-cast .strip span')].map(x => x.getBoundingClientRect().width)")
        assert 1 == widths.index(max(widths)), "the longest stay is the widest"
        for words in ("607 missed: 500 recovered, 3 lost, 100 unaccounted, 4 still missing.", "resyncing → open: settled", "refused 3, timeout 1"):
            assert words in shown
        assert "14, 3 failed" in await tab.text("#service-flair")
        mirrored = (await tab.text("#mirror-agent")).splitlines()
        wanted = {label for key, part in status.document(TROUBLE)["mirrors"][0].items() if key not in ELSEWHERE | {"last_error", "refusal"} for label in labels(key, part)}
        assert len(wanted) > 15
        assert set() == wanted - set(mirrored)
        assert {"Last failure: src/big.bin cannot be copied: no space left on device", "mount 1,204, project 1,203", "/mnt/agent"} <= set(mirrored)
        assert "dropped" in await tab.text("#hook-ui")
    assert [] == tab.errors


ELSEWHERE = {"name", "health", "state", "state_since", "reasons", "transitions", "protocol", "dialect", "continuity", "upstream"}
"""What stands in a card's head and in its list of changes."""


def labels(key: str, part: Any) -> set[str]:
    """The labels under which a part of the document is shown."""
    moment_or_counts = isinstance(part, dict) and ("time" in part or all(isinstance(one, int | float) for one in part.values()))
    if isinstance(part, dict) and not moment_or_counts:
        return {label for inner, one in part.items() if inner not in ELSEWHERE | {"last_failure"} for label in labels(inner, one)}
    return {key.removesuffix("_s").removesuffix("_bytes").replace("_", " ")}


async def test_the_strip_of_states_is_filled_from_the_first_moment_on(tab: Page) -> None:
    """A connection that is a tenth of a second old: its only stay is all of the strip."""
    young = timeline(state=State.CONNECTING, recent=(Transition(moment(0.1), State.IDLE, State.CONNECTING, "start"),))
    async with serving(snapshot(connections=(fresh_connection(timeline=young),))) as url:
        await tab.open(url)
        await tab.until("document.querySelectorAll('#connection-cast .strip span').length === 1")
        strip, stay = await tab.run("['.strip', '.strip span'].map(x => document.querySelector(`#connection-cast ${x}`).getBoundingClientRect().width)")
        assert strip == stay > 0


async def test_every_reason_leads_to_its_runbook(tab: Page) -> None:
    """Whatever holds has a link to the section about it, the one that the dashboards lead to, for eyes and for screen readers; nothing is asked of that place."""
    sections = set(re.findall(r"^## (\w+)$", (Path(__file__).parents[2] / "docs/runbooks/reasons.md").read_text(), re.MULTILINE))
    async with serving(snapshot(health=health(*(held(reason) for reason in Reason)))) as url:
        await tab.open(url)
        await tab.until(f"document.querySelectorAll('#troubles li').length === {len(Reason)}")
        links = await tab.run("[...document.querySelectorAll('#troubles p:last-child a')].map(x => [x.href, x.ariaLabel, x.innerText])")
        assert [[f"{REASONS_URL}#{reason}", f"runbook of {reason.replace('_', ' ')}", "runbook"] for reason in Reason] == links
        assert {url.partition("#")[2] for url, _, _ in links} <= sections
    assert {urlsplit(url).netloc} == {urlsplit(one).netloc for one in tab.requested if not one.startswith("data:")}


async def test_an_incident_that_goes_on_is_not_taken_for_its_last_occurrence(tab: Page) -> None:
    """Events were lost 100 s ago, and again 7 s ago: the reason says when that began, the card's gaps when it last happened."""
    again = connection(continuity=continuity(last_loss=moment(7.0)))
    async with serving(snapshot(connections=(again,), health=health(held(Reason.EVENTS_LOST, 100.0)))) as url:
        await tab.open(url)
        await tab.shows("The last loss was 7.")
        for where in ("#troubles", "#connection-cast .reasons"):
            assert re.search(r"events lost, first 1 min 4\d s ago", await tab.text(where)), where


async def test_an_attempt_that_is_under_way_is_called_so(tab: Page) -> None:
    """A server that accepts and says nothing: while an attempt runs, the next one is not said to be planned for no time at all."""
    trying = fresh_connection(name="trying", timeline=timeline(state=State.CONNECTING), attempting=True)
    async with serving(snapshot(connections=(trying, fresh_connection(name="resting")))) as url:
        await tab.open(url)
        await tab.shows("Connections")
        shown = await tab.run("['trying', 'resting'].map(x => document.querySelector(`#connection-${x} dl div`).innerText.split(/\\n+/))")
        assert [["next attempt", "under way"], ["next attempt", "none planned"]] == shown


async def test_what_was_never_proven_is_not_called_verified_a_while_ago(tab: Page) -> None:
    """Unverified since the start, because there was never a connection: the card says never."""
    never = fresh_connection(name="never", started=moment(40.0), verified_now_s=NOW_S - 40.0)
    async with serving(snapshot(connections=(connection(), never))) as url:
        await tab.open(url)
        await tab.shows("Connections")
        for name, words in (("cast", r"unverified\s+4\d s\n"), ("never", r"unverified\s+never verified, for 4\d s\n")):
            assert re.search(words, await tab.text(f"#connection-{name}")), name


async def test_a_connection_that_another_process_has(tab: Page) -> None:
    """Its file, its process, what is odd; what the file cannot tell is not known, and nothing is shown as 0 that nobody counts."""
    told = ReportSnapshot("/b1.json", moment(0.5), moment(20.0), 4711, "reused", None, ("the file is older than its process",))
    branch = fresh_connection(name="b1", protocol="tps", dialect="passive", numbering=Numbering.NONE, upstream="", report=told, continuity=None)
    async with serving(snapshot(connections=(branch,), health=health(names=("b1",)))) as url:
        await tab.open(url)
        await tab.shows("tps · passive · none")
        await tab.run("document.querySelector('#connection-b1 details').open = true")
        await tab.until("document.querySelectorAll('#connection-b1 .fine h4').length > 4")
        facts = await tab.run(
            "Object.fromEntries([...document.querySelectorAll('#connection-b1 dt')].map(x => [x.innerText, x.nextSibling.innerText]))"
        )
        expected = {"told by": "/b1.json", "its process": "reused, pid 4711", "reconnects it counts": "not known", "odd": "the file is older than its process"}
        assert expected == {label: facts[label] for label in expected}
        assert {"not known"} == {facts[label] for label in ("disconnects", "close codes", "failures", "missed", "acknowledged")}
        assert not await tab.run("document.querySelector('#connection-b1').innerText.includes('Gaps')")
    assert [] == tab.errors


async def test_what_comes_later_is_shown_as_well(tab: Page) -> None:
    """Watchers, mirrors and kinds of things that nobody thought of yet: named, with their state, reasons, values and changes."""
    document = status.document(TROUBLE)
    reason = {"component": "watcher", "name": "project", "reason": "watcher_dead", "incident": False, "since": {"time": "2026-11-20T13:05:40.000Z", "age_s": 60.0}, "advice": "restart it"}
    watcher = {
        "name": "project", "health": "down", "state": "dead", "state_since": {"time": "2026-11-20T13:05:40.000Z", "age_s": 60.0}, "reasons": [reason],
        "path": "/srv/project", "last_event": {"time": "2026-11-20T13:05:40.000Z", "age_s": 61.0}, "restarts": {"overflow": 2, "root_gone": 0},
        "transitions": [{"at": {"time": "2026-11-20T13:05:40.000Z", "age_s": 60.0}, "from_state": "alive", "to_state": "dead", "reason": "root gone"}],
        "sentinel": {"seen": 12, "mean_s": 0.25},
    }  # fmt: skip
    mirror = {
        "name": "agent", "health": "degraded", "state": "differing", "mode": "observe", "pending": 2, "oldest_pending_s": 61.0, "waiting_bytes": 12,
        "differing": 1, "differences": [{"path": "a/b.txt", "why": "only on the mount", "since": {"time": "2026-11-20T13:05:40.000Z", "age_s": 60.0}}],
        "moved": {"to_project": {"write": 3, "delete": 0}, "to_mount": {"write": 0, "delete": 0}}, "refusal": "both trees are empty", "files": {"mount": 4, "project": 5},
    }  # fmt: skip
    document |= {"watchers": [watcher], "mirrors": [mirror], "oracles": [{"name": "delphi", "moods": 3}]}

    async def changed(_request: web.Request) -> web.Response:
        return web.json_response(document)

    app = local_app(lambda: TROUBLE, Controls(), Broadcast())
    app.router._resources = [one for one in app.router._resources if one.canonical != "/status"]
    app.router._resource_index.pop("/status")
    app.router.add_get("/status", changed)
    async with TestServer(app) as server:
        await tab.open(str(server.make_url("/")))
        await tab.shows("delphi")
        await tab.run("document.querySelector('#watcher-project details').open = true")
        await tab.shows("sentinel")
        shown = (await tab.text("#watcher-project")).splitlines()
        assert {"project", "watcher dead for 1 min", "/srv/project", "overflow 2", "alive → dead: root gone", "seen 12, mean 0.3 s"} <= set(shown), shown
        assert "○ down, dead for 1 min" in shown
        folded = (await tab.text("#mirror-agent")).splitlines()
        assert {"both trees are empty", "oldest pending", "observe"} <= set(folded)
        assert "1 min" in folded[folded.index("oldest pending") + 1]
        await tab.run("document.querySelector('#mirror-agent details').open = true")
        await tab.shows("moved")
        unfolded = set((await tab.text("#mirror-agent")).splitlines())
        assert {"12 bytes", "a/b.txt, only on the mount, since 2026-11-20 13:05:40", "write 3", "mount 4, project 5"} <= unfolded, unfolded
        assert ["Connections", "Watchers", "Mirrors", "Services", "Hooks", "Oracles"] == await tab.run("[...document.querySelectorAll('#kinds h2')].map(x => x.textContent)")


async def test_ages_tick_and_a_selection_survives(tab: Page) -> None:
    """What is shown grows older between two answers; the nodes stay, so that focus, selection and unfolded details do too."""
    async with serving(TROUBLE) as url:
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        await tab.run("window.kept = document.querySelector('#connection-cast dd'); window.seen = new Set(); void 0")
        await tab.run("document.querySelector('#connection-cast details').open = true")
        await tab.run("new MutationObserver(() => seen.add(kept.innerText)).observe(kept, { childList: true, characterData: true, subtree: true })")
        await tab.until("window.seen.size >= 2")
        assert await tab.run("kept.isConnected && document.querySelector('#connection-cast details').open")


async def test_names_from_peers_are_text(tab: Page) -> None:
    """In every place that a peer's or a configuration's words can reach: no element of theirs, no script, nothing that turns the text around it."""
    hostile = Broadcast()
    hostile.publish(Notify(Notice.STATE, WALL_S, {"connection": MARKUP, "reason": MARKUP}))
    cast = connection(
        name=MARKUP, upstream=MARKUP, last_failure=MARKUP, close_codes={MARKUP: 1},
        timeline=timeline(recent=(Transition(moment(5.0), State.OPEN, State.RECONNECTING, MARKUP),)),
    )  # fmt: skip
    taken = snapshot(
        connections=(cast,), services=(service(name=MARKUP, last_failure=MARKUP),),
        health=health(held(Reason.RECONNECTING, name=MARKUP), names=(MARKUP,), checks={"livez": (Check(MARKUP, False, MARKUP),)}),
    )  # fmt: skip
    async with serving(taken, hostile) as url:
        await tab.open(url)
        await tab.shows("<img src=x")
        await tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        await tab.until("document.querySelector('#notices').innerText.includes('<img')")
        shown = await tab.text()
        assert 10 <= shown.count("<script>document.title='owned'</script>&amp;"), shown
        assert 0 == await tab.run("document.querySelectorAll('img, script:not(body > script:last-of-type), iframe, [onerror]').length")
        assert "owned" not in await tab.run("document.title")
        await tab.run("document.querySelector('#troubles a').click()")
        assert "H3" == await tab.run("document.querySelector(':target').querySelector('h3').tagName"), "the link leads to its card"
    assert [] == tab.errors
    assert {urlsplit(url).netloc} == {urlsplit(one).netloc for one in tab.requested if not one.startswith("data:")}, "nothing from elsewhere"


async def test_the_policy_stops_what_the_page_would_never_do(tab: Page) -> None:
    """Even if markup got in: no script, no style, no image, no request to another place, no markup made from text."""
    async with serving(TROUBLE) as url:
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        await tab.run("window.stopped = []; addEventListener('securitypolicyviolation', e => stopped.push(e.effectiveDirective)); void 0")
        for attempt in (
            "document.body.innerHTML = '<b>x</b>'",
            "document.createElement('div').setAttribute('onclick', 'document.title = 1')",
            "document.createElement('script').text = 'document.title = 1'",
        ):
            assert "TypeError" == await tab.run(f"(() => {{ try {{ {attempt}; }} catch (e) {{ return e.name; }} }})()"), attempt
        await tab.run("{ const s = document.createElement('img'); s.src = '/status'; document.body.append(s); }")
        await tab.run("{ const s = document.createElement('style'); s.textContent = 'body { color: red }'; document.body.append(s); }")
        await tab.run("fetch('http://127.0.0.2:1/').catch(() => 0)")
        await tab.until("stopped.includes('connect-src')")
        assert {"require-trusted-types-for", "img-src", "style-src-elem", "connect-src"} == set(await tab.run("stopped"))


async def test_it_asks_for_the_token_and_keeps_it_to_itself(tab: Page) -> None:
    """A listener with a token: the door, a wrong one, the right one; the stream carries it too, and no address ever does."""
    hello = Broadcast()
    hello.publish(Notify(Notice.STATE, WALL_S, {"connection": "cast"}))
    async with serving(TROUBLE, hello, token="let-me-in") as url:
        await tab.open(url)
        await tab.until("document.querySelector('#door')?.hidden === false && document.activeElement.id === 'token'")
        for given, answer in (("wrong", "This is not the token."), ("let-me-in", "What is wrong, gravest first")):
            await tab.call("Input.insertText", text=given)
            await tab.press("Enter")
            await tab.shows(answer)
            await tab.run("document.querySelector('#token').focus()")
        assert await tab.run("door.hidden && document.querySelector('#token').value === ''")
        await tab.until("document.querySelectorAll('#notices li').length === 1")
    assert not [one for one in tab.requested if "let-me-in" in one]


# --- for everybody ---------------------------------------------------------------------------------------------------------------------------


async def test_on_a_phone_nothing_is_cut_off(tmp_path: Path, tab: Page) -> None:
    """360 pixels: no sideways scrolling, with everything unfolded, long names and all; what is pressed is large enough for a finger."""
    taken = snapshot(connections=(connection(name="a-very-long-name-of-a-connection-without-any-space-in-it-at-all", upstream="https://" + "x" * 200),))
    for number, shown in enumerate((TROUBLE, taken)):
        async with serving(shown) as url:
            await tab.size(360, 740, mobile=True)
            await tab.open(url)
            await tab.shows("Checks")
            await tab.until("document.querySelectorAll('article').length > 3")
            await tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            await tab.until("document.querySelectorAll('.fine h4').length > 8")
            assert 360 == await tab.run("Math.max(document.documentElement.scrollWidth, innerWidth)")
            assert [] == await tab.run("[...document.querySelectorAll('body *')].filter(one => one.getBoundingClientRect().right > 361).map(one => one.outerHTML.slice(0, 80))")
            assert 24 <= await tab.run("Math.min(...[...document.querySelectorAll('summary')].filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().height))")
            await tab.screenshot(pictures(tmp_path) / f"page-phone-{number}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everything_can_be_read(tmp_path: Path, tab: Page, scheme: str) -> None:
    """The contrast of every text against what is behind it is at least 4.5 to 1 (WCAG 2.2, 1.4.3), light and dark; the colours differ."""
    async with serving(TROUBLE) as url:
        await tab.scheme(scheme)
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        await tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        await tab.until("document.querySelectorAll('.fine h4').length > 8")
        measured = await tab.run(CONTRASTS)
        assert len(measured) > 150
        assert [] == [one for one in measured if one["ratio"] < 4.5]
        assert ("light" == scheme) == (await tab.run("luminance(getComputedStyle(document.body).backgroundColor) > 0.5"))
        await tab.screenshot(pictures(tmp_path) / f"page-{scheme}.png")


CONTRASTS = """
window.luminance = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
(() => {
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('script, style, .unseen, .skip')) continue;
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))].sort((x, y) => y - x);
    found.push({ text: walker.currentNode.data.slice(0, 40), ratio: (a + 0.05) / (b + 0.05) });
  }
  return found;
})()
"""
"""The contrast ratio of each visible text, by the definition of WCAG."""


async def test_it_can_be_used_with_the_keyboard(tab: Page) -> None:
    """Tab goes to everything that can be used, in the order in which it stands there, and shows where it is; Enter skips, follows, unfolds."""
    async with serving(TROUBLE) as url:
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        visited = []
        for _ in range(20):
            await tab.press("Tab")
            where = await tab.run(
                "[document.activeElement.tagName, document.activeElement.innerText, getComputedStyle(document.activeElement).outlineStyle]"
            )
            if where[0] == "BODY":
                break
            visited.append(where)
        assert {"solid"} == {outline for _, _, outline in visited}
        texts = [text for _, text, _ in visited]
        assert ["Skip to the connections", "cast", "runbook", "cast", "runbook", "flair", "runbook", "Everything that was counted"] == texts[:8]
        assert "/status as JSON" == texts[-1]
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        await tab.press("Tab")
        await tab.press("Enter")
        assert "all" == await tab.run("document.activeElement.id"), "past the header"
        await tab.run("document.querySelector('#connection-cast summary').focus()")
        await tab.press("Enter")
        await tab.until("document.querySelector('#connection-cast details').open")
        assert "SUMMARY" == await tab.run("document.activeElement.tagName"), "and stays where it was"


async def test_a_screen_reader_finds_its_way(tab: Page) -> None:
    """Landmarks, headings without gaps, cards with names, one polite live region that hears of changes and never of a tick."""
    async with serving(TROUBLE) as url:
        await tab.open(url)
        await tab.shows("What is wrong, gravest first")
        tree = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        roles: dict[str, list[str]] = {}
        for node in tree:
            if not node["ignored"]:
                roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        assert {"banner", "main", "contentinfo", "status"} <= set(roles)
        assert 1 == len(roles["main"])
        sections = ["What is wrong, gravest first", "Connections", "Mirrors", "Services", "Hooks", "Checks", "What happened lately (UTC)"]
        assert sections == await tab.run("[...document.querySelectorAll('h2')].filter(x => x.checkVisibility()).map(x => x.innerText)")
        assert sorted(sections) == sorted(roles["region"])
        assert {"cast", "files", "agent", "flair", "ui"} <= set(roles["article"])
        levels = await tab.run("[...document.querySelectorAll('h1, h2, h3, h4')].filter(x => x.checkVisibility()).map(x => +x.tagName[1])")
        assert 1 == levels[0]
        assert [] == [(a, b) for a, b in itertools.pairwise(levels) if b > a + 1]
        assert "polite" == await tab.run("said.ariaLive")
        assert "syncwatch is degraded" == await tab.run("said.textContent")
        assert 0 == await tab.run("document.querySelectorAll('[aria-live] dd, [aria-live] .pill, [role=alert]').length")
        await tab.run("window.heard = []; new MutationObserver(() => heard.push(said.textContent)).observe(said, { childList: true, characterData: true, subtree: true }); void 0")
        before = await tab.text("#connection-cast dl")
        await tab.until(f"document.querySelector('#connection-cast dl').innerText !== {json.dumps(before)}")
        assert [] == await tab.run("heard"), "ages tick in silence"
        assert "en" == await tab.run("document.documentElement.lang")


HEARING = """
window.heard = [];
new MutationObserver(() => heard.push([Date.now(), said.textContent])).observe(said, { childList: true, characterData: true, subtree: true });
"""
"""Remembers what a screen reader is given to say, and when."""


def agents(state: State, *reasons: Reason) -> Snapshot:
    """A connection and a service of one name; events were lost on the connection a while ago."""
    holding = health(*(held(reason, name="agent") for reason in (*reasons, Reason.EVENTS_LOST)), names=("agent",))
    holding = msgspec.structs.replace(holding, health={**holding.health, (Component.SERVICE, "agent"): Health.HEALTHY})
    return snapshot(connections=(connection(name="agent", timeline=timeline(state=state)),), services=(service(name="agent", healthy=True),), health=holding)


async def test_a_screen_reader_hears_of_changes_of_state_in_its_own_time(tab: Page) -> None:
    """A connection is told although a service has the same name; incidents that are held are not told again and again; between two sentences there are five
    seconds, whatever happens, and what is said then is what is so."""
    now, events = agents(State.OPEN), Broadcast()
    async with serving(lambda: now, events) as url:
        await tab.open(url)
        await tab.until("said.textContent === 'syncwatch is degraded'")
        await tab.run(HEARING)
        for flip in range(7):
            now = agents(State.RECONNECTING, Reason.RECONNECTING) if flip % 2 == 0 else agents(State.OPEN, *[Reason.CLAIM_CONTRADICTED] * (flip % 4 > 1))
            events.publish(Notify(Notice.STATE, WALL_S, {"connection": "agent"}))
            await asyncio.sleep(0.4)
        await tab.until("heard.length === 1")
        assert "syncwatch is down; connection agent is down, reconnecting" == (await tab.run("heard"))[0][1]
        now = agents(State.OPEN, Reason.BEHIND)
        await tab.until("heard.length === 2")
        (first, _), (second, words) = await tab.run("heard")
        assert "syncwatch is degraded; connection agent is degraded, open: behind" == words
        assert second - first > 4_900, "milliseconds"


@asynccontextmanager
async def in_the_background(devtools: str, tab: Page, url: str) -> AsyncIterator[None]:
    """The page is open and live, and a person looks at another one."""
    await tab.call("Emulation.setFocusEmulationEnabled", enabled=False)
    await tab.call("Page.bringToFront")
    await tab.open(url)
    await tab.until("document.querySelector('#stream').innerText === 'live'")
    async with page(devtools) as other:
        await other.call("Page.bringToFront")
        await tab.until("document.hidden")
        yield


async def test_a_page_in_the_background_has_a_true_title_and_asks_for_little(devtools: str, tab: Page) -> None:
    """While nothing happens it leaves /status alone; what happens is in its title in a few seconds, also that nobody answers any more. In front again it is
    up to date at once."""
    now, events, questions = snapshot(), Broadcast(), itertools.count()
    async with serving(lambda: now, events, asked=lambda: next(questions)) as url:
        async with in_the_background(devtools, tab, url):
            assert (await tab.run("document.title")).startswith("● healthy")
            quiet = False
            for _ in range(3):  # what was on its way when it was hidden may still come
                before = next(questions)
                await asyncio.sleep(2.5)  # longer than it would wait between two questions
                quiet = quiet or before + 1 == next(questions)
                if quiet:
                    break
            assert quiet
            now = agents(State.RECONNECTING, Reason.RECONNECTING)
            events.publish(Notify(Notice.STATE, WALL_S, {"connection": "agent"}))
            await tab.until("document.title.startsWith('○ down')")
            now = snapshot()
            events.publish(Notify(Notice.STATE, WALL_S, {"connection": "agent"}))
        await tab.call("Page.bringToFront")
        await tab.until("document.title.startsWith('● healthy')")
        await tab.run("document.addEventListener('freeze', () => { window.asleep = document.title; })")
        await tab.call("Page.setWebLifecycleState", state="frozen")
        await tab.call("Page.setWebLifecycleState", state="active")
        await tab.until("window.asleep === 'syncwatch, stopped by the browser'")
        await tab.until("document.title.startsWith('● healthy')")


async def test_a_page_in_the_background_notices_that_nobody_answers(devtools: str, tab: Page) -> None:
    """Its title claims nothing any more."""
    async with AsyncExitStack() as sidecar:
        url = await sidecar.enter_async_context(serving(snapshot()))
        async with in_the_background(devtools, tab, url):
            assert (await tab.run("document.title")).startswith("● healthy")
            await sidecar.aclose()
            await tab.until("document.title === '? syncwatch'")


async def test_any_number_of_windows_share_one_stream(devtools: str) -> None:
    """More of them than the connections that a browser allows to one server: all are live over one stream, all show what happened before and what happens;
    when the window that has the stream is closed, another one takes over."""
    now, events = snapshot(), Broadcast()
    events.publish(Notify(Notice.STATE, WALL_S, {"connection": "first"}))
    async with serving(lambda: now, events) as url, AsyncExitStack() as stack:
        windows = []
        for _ in range(WINDOWS):
            own = await stack.enter_async_context(AsyncExitStack())
            windows.append((own, await own.enter_async_context(page(devtools))))
        await asyncio.gather(*(each.open(url) for _, each in windows))

        async def all_show(script: str) -> None:
            await asyncio.gather(*(each.until(f"document.querySelector('#trouble').hidden && {script}") for _, each in windows))

        async def holding() -> list[bool]:
            return [await each.run("streaming !== null") for _, each in windows]

        await all_show("document.querySelector('#stream').innerText === 'live'")
        await all_show("document.querySelector('#notices').textContent.includes('first')")
        await until(holding, lambda found: 1 == sum(found))
        now = agents(State.RECONNECTING, Reason.RECONNECTING)
        events.publish(Notify(Notice.STATE, WALL_S, {"connection": "second"}))
        await all_show("document.title.startsWith('○ down')")
        await all_show("document.querySelectorAll('#notices li').length === 2")
        closing, _ = windows.pop((await holding()).index(True))
        await closing.aclose()
        await until(holding, lambda found: 1 == sum(found))
        await all_show("document.querySelector('#stream').innerText === 'live'")
        events.publish(Notify(Notice.STATE, WALL_S, {"connection": "third"}))
        await all_show("document.querySelectorAll('#notices li').length === 3")
        assert [] == [each.errors for _, each in windows if each.errors]


async def test_the_windows_of_two_sidecars_behind_one_origin_are_strangers(devtools: str) -> None:
    """A proxy that has one at /a/ and one at /b/: each page has its own sidecar's stream and shows its notices alone."""
    both, events = web.Application(), {"a": Broadcast(), "b": Broadcast()}
    for name, broadcast in events.items():
        both.add_subapp(f"/{name}/", local_app(snapshot, Controls(), broadcast, None))
    async with TestServer(both) as server, page(devtools) as first, page(devtools) as second:
        pages = {"a": first, "b": second}
        for name, each in pages.items():
            await each.open(str(server.make_url(f"/{name}/")))
            await each.until("document.querySelector('#stream').innerText === 'live'")
        for name, each in pages.items():
            await each.until("streaming !== null")
            events[name].publish(Notify(Notice.STATE, WALL_S, {"connection": f"only-{name}"}))
        for name, each in pages.items():
            await each.until(f"document.querySelector('#notices').textContent.includes('only-{name}')")
        for name, each in pages.items():
            assert 1 == await each.run("document.querySelectorAll('#notices li').length"), name


WINDOWS = 8
"""A browser allows six connections to one server."""
