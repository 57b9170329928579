"""A sidecar without a configuration that it can use: it keeps nobody from starting, says what is wrong wherever it is asked, and waits.

What belongs here: what is told meanwhile, and noticing that the file is good. It is the app with nothing to watch, on the addresses that the file says, as far as
it says any, or else the default ones. Who ends here has not run yet: the one that runs is made of the configuration that was found.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from syncwatch.app import AddressInUse, App
from syncwatch.config import Address, Config, ConfigFile, Plan
from syncwatch.config.whereabouts import Doors, doors
from syncwatch.core.monitor import HealthSettings
from syncwatch.core.resume import ResumePoint, ServiceRecord
from syncwatch.exposition import web
from syncwatch.exposition.http import Refusal
from syncwatch.parts.surroundings import NotUsable
from syncwatch.reload import Reload

if TYPE_CHECKING:
    from syncwatch.parts.web import WebFile

LOOK_S = 5.0
"""So often the file is looked at: nothing is watched meanwhile, so nobody wants to wait for `auto_reload`."""
RETRY_S = 30.0
"""So often when the file is right and something else is not to be had: each try closes the listeners for a moment."""

ELSEWHERE = Config().listen
"""Where probes are answered when the address in the file cannot be listened on, which may be the mistake."""

log = structlog.get_logger("syncwatch")


BEHIND = "the configuration cannot be used; it names a local_token_file: ask again with that token"


class Guarded(NamedTuple):
    """What is wrong with a file, and the doors that it asks for."""

    where: Doors
    mistakes: tuple[str, ...]


class Awaiting(Reload):
    """The file until it can be used for a start; nothing was loaded before."""

    REFUSED = "the configuration cannot be used, syncwatch waits for another one"

    def __init__(self, file: ConfigFile, mistakes: Sequence[str], waiting: Config, found: Callable[[Config], None], changed: Callable[[], None], guarded: Callable[[Guarded], None]) -> None:
        """`changed`: there are other mistakes now; `guarded`: and nobody may be told of them without a token that was not asked for so far."""
        super().__init__(file, lambda: waiting, self._take)
        self._found, self._changed, self._guarded = found, changed, guarded
        self._said: str | None = None
        self._token_file = waiting.local_token_file
        self.success_wall_s = None
        self._refused(tuple(mistakes), only_news=False)

    async def _take(self, config: Config, _plan: Plan) -> None:
        self._found(config)

    def _config(self, text: str) -> Config:
        self._said = text
        return self._file.startable(text)

    def _plan(self, _running: Config, _config: Config) -> Plan:
        return Plan()

    def _say(self, _what: Plan) -> None:
        log.info("the configuration can be used: starting with it")

    def _refused(self, errors: tuple[str, ...], only_news: bool) -> Sequence[str]:
        where = doors(self._said, str(self._file.path), self._file.environ)
        if where.local_token_file not in (None, self._token_file):
            self._guarded(Guarded(where, errors))
            return (BEHIND,)
        super()._refused(errors, only_news)
        self._changed()
        return errors


class Waiting(App):
    """Serves from `until` on, at `where`. `mistakes`: why there is no configuration, a line each; not none. `tried`: the file is right, and something else was not to be had."""

    reload: Awaiting

    def __init__(self, file: ConfigFile, where: Doors | Config, mistakes: Sequence[str], tried: bool = False) -> None:
        keys = {key: getattr(where, key) for key in ("listen", "local_listen", "local_token_file", "probes_listen", "web_config", "gate_file")}
        super().__init__(Config(**keys, auto_reload_s=RETRY_S if tried else LOOK_S))
        self._usable: asyncio.Future[Config | Guarded] = asyncio.get_running_loop().create_future()
        self.reload = Awaiting(file, mistakes, self.config, self._found, self._told_otherwise, self._found)

    async def until(self, stop: asyncio.Event) -> Config | Guarded | None:
        """Wait for a configuration and close; None when `stop` was set before. With a file that is as wrong and names a token now, it is to be waited behind that one. Raises: AddressInUse, when the probes cannot be answered."""
        await self.start()
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait((stopping, self._usable), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await self.stop()
        return None if stop.is_set() else self._usable.result()

    def _found(self, config: Config | Guarded) -> None:
        if not self._usable.done():
            self._usable.set_result(config)

    def _told_otherwise(self) -> None:
        """Gate and probes say what is wrong now."""
        if self._health is not None and self._monitor is not None:
            self._health.call(self._monitor.configure, self._health_settings(), ())

    def _health_settings(self) -> HealthSettings:
        first, *more = self.reload.errors
        return HealthSettings(unconfigured=f"no usable configuration: {first}" + (f" (and {len(more)} more)" if more else ""))

    def _load_state(self) -> tuple[dict[str, ResumePoint], dict[str, ServiceRecord]]:
        """What is kept is left alone: it belongs to the one that will run."""
        self.instance = self._own_name("")
        return {}, {}

    async def _protection(self) -> tuple[WebFile | None, Refusal | None]:
        """Where `web_config` is what cannot be used, the probes are answered without TLS, and nobody gets anything else from `listen`."""
        try:
            return await super()._protection()
        except NotUsable as error:
            log.warning("waiting without what web_config asks for: listen answers nothing but probes", detail=error.text)
            return None, _closed

    async def _open(self, name: str, app: web.Application, address: Address, tls: ssl.SSLContext | None = None) -> None:
        """What the probes ask must be answered, somewhere; whoever asks the other one finds out that nobody is there, which means closed."""
        try:
            await super()._open(name, app, address, tls)
        except AddressInUse as error:
            if name != "listen":
                log.warning("waiting without a local listener" if name == "local_listen" else f"waiting without {name}", detail=error.text)
                return
            if address == ELSEWHERE:
                raise
            log.warning("waiting at the default address", detail=error.text)
            await super()._open(name, app, ELSEWHERE, tls)


async def _closed(_request: web.Request) -> web.Response:
    return web.Response(status=503, text="closed: web_config, which says who may ask here, cannot be used\n")
