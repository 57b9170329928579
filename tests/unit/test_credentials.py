"""HTTP Basic, header by header, with a comparison that counts its calls. The same with bcrypt, over real requests: tests/integration/test_web_config.py."""

from __future__ import annotations

import asyncio
import base64

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from syncwatch.exposition.credentials import MOST_WAITING, REMEMBERED, BasicAuth, credentials

USERS = {"prometheus": "hash of right", "grafana": "hash of other"}


def basic(user: str, password: str) -> str:
    """The header's value."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Asked:
    """Requests with these headers; `compared` are the comparisons that were made."""

    def __init__(self, users: dict[str, str] | None = None) -> None:
        self.users = USERS if users is None else users
        self.compared: list[tuple[bytes, str]] = []
        self.auth = BasicAuth(lambda: self.users, self.compare)

    async def compare(self, password: bytes, hashed: str) -> bool:
        """As bcrypt would."""
        self.compared.append((password, hashed))
        await asyncio.sleep(0)
        return hashed == f"hash of {password.decode()}"

    async def status(self, *headers: str) -> int:
        """200 for a request that is let through."""
        request = make_mocked_request("GET", "/metrics", CIMultiDict([("Authorization", one) for one in headers]))
        refusal = await self.auth.refusal(request)
        return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("header", "given"),
    [
        ("Basic cDpx", ("p", b"q")),
        ("basic  cDpx ", ("p", b"q")),
        (basic("p", ""), ("p", b"")),
        (basic("p", "with:colon"), ("p", b"with:colon")),
        (basic("é", "ü"), ("é", "ü".encode())),
        *((header, None) for header in ("", "Basic", "Basic ", "Bearer cDpx", "Basic cDp", "Basic c-px", "Basic é", "Basic cA==", "Basic /zpx", "Basic " + "QTpB" * 300)),
    ],
)  # fmt: skip
def test_a_header_says_who_or_nothing(header: str, given: tuple[str, bytes] | None) -> None:
    """The name ends at the first colon; what is no base64, has no colon, no UTF-8 or no end says nothing."""
    assert given == credentials(header)


async def test_who_is_let_through() -> None:
    """The right password of that user; nobody without a header, with a broken one, with two, with another's password, under another name."""
    asked = Asked()
    assert 200 == await asked.status(basic("prometheus", "right"))
    for headers in ((), ("Basic x",), (basic("prometheus", "right"),) * 2, (basic("prometheus", "other"),), (basic("nobody", "right"),), (basic("", "right"),)):
        assert 401 == await asked.status(*headers), headers
    assert 200 == await Asked({}).status()


async def test_an_unknown_user_takes_as_long_as_a_known_one() -> None:
    """One comparison each, with the hash of somebody, the same one for the same name; and not even the password that has that hash opens."""
    asked = Asked()
    names = ("nobody", "someone", "anybody", "who", "me", "you")
    for name in names:
        assert [401, 401] == [await asked.status(basic(name, password)) for password in ("right", "other")]
    compared = [asked.compared[at : at + 2] for at in range(0, len(asked.compared), 2)]
    assert [[b"right", b"other"]] * len(names) == [[password for password, _ in pair] for pair in compared]
    assert [1] * len(names) == [len({hashed for _, hashed in pair}) for pair in compared]
    assert {hashed for _, hashed in asked.compared} <= set(USERS.values())


async def test_a_verdict_is_remembered_until_the_hash_changes() -> None:
    """Also for those who ask at the same time, and however often others guess; what is remembered is bounded."""
    asked = Asked({"p": "hash of right"})
    right = basic("p", "right")
    assert [200] * 5 == list(await asyncio.gather(*(asked.status(right) for _ in range(5))))
    for guess in range(3 * REMEMBERED):
        assert 401 == await asked.status(basic("p", f"guess {guess}"))
    assert 1 + 3 * REMEMBERED == len(asked.compared)
    assert 200 == await asked.status(right)
    assert 401 == await asked.status(basic("p", f"guess {3 * REMEMBERED - 1}"))
    assert 1 + 3 * REMEMBERED == len(asked.compared)
    asked.users = {"p": "hash of new"}
    assert [401, 200] == [await asked.status(right), await asked.status(basic("p", "new"))]
    asked.users = {"q": "hash of new"}
    assert 401 == await asked.status(basic("p", "new"))


async def test_guesses_wait_in_a_queue_that_ends_and_nobody_known_waits() -> None:
    """One comparison at a time; who finds too many waiting is told to come again, who is remembered is let through past them."""
    asked = Asked()
    assert 200 == await asked.status(basic("prometheus", "right"))
    go_on, running = asyncio.Event(), 0

    async def compare(_password: bytes, _hashed: str) -> bool:
        nonlocal running
        running += 1
        assert 1 == running
        await go_on.wait()
        running -= 1
        return False

    asked.auth._compare = compare
    guesses = [asyncio.create_task(asked.status(basic("p", str(guess)))) for guess in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert 503 == await asked.status(basic("p", "one more"))
    assert 200 == await asked.status(basic("prometheus", "right"))
    go_on.set()
    assert [401] * MOST_WAITING == await asyncio.gather(*guesses)
    assert 401 == await asked.status(basic("p", "one more"))
