"""A connection of our own: session, sockets, credentials, and the store of what a server sends once."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from syncwatch import settings
from syncwatch.core.effects import Notify
from syncwatch.core.resume import ResumePoint
from syncwatch.core.session import Session
from syncwatch.parts.surroundings import NotUsable, Surroundings
from syncwatch.runtime.connection import Connection
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import Poller
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.tokens import TokenFiles

if TYPE_CHECKING:
    from syncwatch.runtime.filestore import FileStore

STORE_TIMEOUT_S = 10.0
"""So long may it take at the end until what came last is safe: the only thing for which the end is not a matter of two seconds, since nobody would send it again."""

log = structlog.get_logger("syncwatch")


class Watched:
    """One connection with everything that serves it."""

    def __init__(self, around: Surroundings, connection: settings.Runnable, incident_hold_s: float, resume: ResumePoint | None) -> None:
        """Raises: NotUsable."""
        self._seed = _seed_of(connection)
        codec = settings.protocol(connection, self._seed)
        self.session = Session(
            connection.name,
            codec,
            settings.session_settings(connection, incident_hold_s),
            around.entropy,
            settings.upstream(connection.url),
            resume,
            settings.canary(connection, codec),
        )
        tokens, endpoint = TokenFiles(settings.token_files(connection)), settings.endpoint(connection)
        self.driver = Driver(f"connection/{connection.name}", self.session, around.clock)
        self.store = _store_of(connection, self.driver, self.session)
        self.connection = Connection(self.driver, self.session, tokens, endpoint, leftovers=self.store is not None)
        self.poller = Poller(self.driver, self.session, tokens, around.client, endpoint)
        self.driver.on(Notify, around.notify)
        self._say_what_acts(connection)

    def configure(self, connection: settings.Runnable, incident_hold_s: float) -> None:
        """Go on as `connection` says: the session at once, credentials and endpoint from the next request on."""
        if self.session.canary is None and settings.canary_target(connection) is not None:
            self._say_what_acts(connection)
        codec, endpoint = settings.protocol(connection, self._seed), settings.endpoint(connection)
        self.connection.tokens.configure(settings.token_files(connection))
        if endpoint != self.connection.endpoint:
            self.connection.endpoint = self.poller.endpoint = endpoint
        self.driver.call(self.session.configure, settings.session_settings(connection, incident_hold_s))
        self.driver.call(self.session.equip, codec, settings.canary(connection, codec))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, and connect."""
        supervisor.watch(self.driver)
        supervisor.each_second(self._beat)
        self.driver.call(self.session.start)

    def end(self, supervisor: Supervisor) -> None:
        """Close with 1000; nobody looks after it any more."""
        self.driver.call(self.session.stop)
        if self.store is None:
            self.driver.close()
        supervisor.unwatch(self.driver)
        supervisor.not_each_second(self._beat)

    async def gone(self) -> None:
        """When its sockets are, within a second and a half, and what came on them is safe, if the disk allows it."""
        await asyncio.gather(self.connection.shutdown(), self.poller.close())
        if self.store is not None:  # until here it has listened: to what was on its way, and to the store's answers
            await self.store.finish(STORE_TIMEOUT_S)
            self.driver.close()

    def _beat(self, now: float) -> None:
        """Once a second: is there another token? It may be what a connection in trouble waits for."""
        self.connection.watch.beat(now, calm=not self.session.reasons(now))

    def _say_what_acts(self, connection: settings.Runnable) -> None:
        acts = settings.acts(connection)
        if acts is not None:
            log.info(acts[0], connection=connection.name, **acts[1])


def _seed_of(connection: settings.Runnable) -> bytes | None:
    """What the identity file holds, where there is one; modes that let others in are repaired. Raises: NotUsable."""
    path = settings.seed_file(connection)
    if path is None:
        return None
    from syncwatch.runtime.seedfile import SeedFileError, load

    try:
        seed = load(path)
    except SeedFileError as error:
        raise NotUsable("identity_file", str(error)) from None
    for remark in seed.remarks:
        log.warning("the permissions of the identity file", connection=connection.name, detail=remark)
    return seed.secret


def _store_of(connection: settings.Runnable, driver: Driver, session: Session) -> FileStore | None:
    """Where events are kept that the server sends once, where it does that. Raises: NotUsable."""
    directory = settings.mail_dir(connection)
    if directory is None:
        return None
    from syncwatch.runtime.filestore import FileStore

    store = FileStore(driver, session, directory)
    try:
        store.prepare()
    except OSError as error:
        raise NotUsable("mail_dir", f"{directory}: {os.strerror(error.errno).lower() if error.errno else error}") from None
    return store
