"""What runs until a signal comes: the loop, the signals, and the sidecar from its configuration to its exit code.

Law: nothing is imported here that a sidecar does not need while it runs. What a process imports it keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import linecache
import mimetypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from syncwatch.config import Config
    from syncwatch.config.whereabouts import Doors

USAGE = 2


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is installed; everything also runs on asyncio's own loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.contextmanager
def sparing_aiohttp() -> Iterator[None]:
    """Import aiohttp inside this, and it takes 3 MiB less, depending on the machine.

    The compiled form of `frozenlist` alone brings the C++ library into the process, for lists of a few callbacks. And aiohttp fills two TLS contexts with
    all certificates of SSL_CERT_FILE as soon as it is imported, used or not; ours are made in runtime/tls.py when a connection needs one. Its file responses, which nobody here asks for, learn every
    media type of the machine's lists by heart.
    """
    mimetypes.knownfiles = []
    wanted = {"FROZENLIST_NO_EXTENSIONS": "1", "SSL_CERT_FILE": os.devnull}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def sidecar(path: str | None, wait: bool = False) -> NoReturn:
    """`syncwatch run`, whose configuration is at `path` or where SYNCWATCH_CONFIG says. `wait`: while none can be used it waits for one, instead of ending with 2."""
    from syncwatch import logs
    from syncwatch.config import Config, ConfigError, ConfigFile, awaited_files, config_path

    try:
        file = ConfigFile(config_path(path, os.environ), dict(os.environ))
    except ConfigError as error:
        _fail(str(error))
    wait = wait and not file.told_once()  # there will never be another one
    loaded: Config | ConfigError
    where: Config | Doors
    text = None
    try:
        text = file.text()
        loaded = where = file.startable(text)
    except ConfigError as error:
        if not wait:
            _fail(str(error))
        from syncwatch.config.whereabouts import doors

        loaded, where = error, doors(text, str(file.path), file.environ)
    del text
    logs.configure(where.log.level, where.log.format)

    with sparing_aiohttp():
        from syncwatch.app import App
        from syncwatch.parts.surroundings import NotUsable
    linecache.clearcache()  # attrs keeps the source of every method that it makes up, for tracebacks
    import structlog

    from syncwatch.runtime.statefile import StateInUse

    async def started(config: Config) -> App:
        """Raises: ConfigError."""
        for one in awaited_files(config):
            structlog.get_logger("syncwatch").warning("a file cannot be read yet: what uses it waits for it, everything else runs", mistake=str(one))
        app = App(config, file=file)
        assert app.reload is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.reload.hangup)
        try:
            await app.start()
        except NotUsable as error:
            raise ConfigError([config.source.mistake(error.key, error.text)]) from error
        except StateInUse as error:
            raise ConfigError([config.source.mistake("state_dir", str(error))]) from error
        return app

    async def begun(stop: asyncio.Event) -> App | None:
        """The one that runs, at last; None: it was to stop before. Raises: ConfigError, unless it is to wait."""
        found, said, tried = loaded, where, False
        while True:
            if isinstance(found, Config):
                try:
                    return await started(found)
                except ConfigError as error:
                    if not wait:
                        raise
                    said = found
                    found, tried = error, True
            from syncwatch.waiting import Waiting

            mistakes: Sequence[str] = str(found).splitlines()
            while not isinstance(found, Config):
                waiting = Waiting(file, said, mistakes, tried)
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, waiting.reload.hangup)
                came = await waiting.until(stop)
                if came is None:
                    return None
                if isinstance(came, Config):
                    found = came
                else:
                    said, mistakes = came
            logs.adjust(found.log.level, found.log.format)

    async def work() -> int:
        stop = stop_event()
        app = await begun(stop)
        if app is None:
            return 0
        gc.collect()
        gc.freeze()  # what the start has made stays: full collections that walked it again were a tenth of what a frame costs
        await stop.wait()
        await app.stop()
        return 0

    try:
        code = run(work())
    except ConfigError as error:
        _fail(str(error))
    except NotUsable as error:  # nobody could be told that it waits
        _fail(str(error))
    raise SystemExit(code)


def _fail(lines: str) -> NoReturn:
    print(lines, file=sys.stderr)
    raise SystemExit(USAGE)
