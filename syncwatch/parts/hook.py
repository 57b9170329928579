"""A webhook: what waits to be told, and who calls."""

from __future__ import annotations

from syncwatch import settings
from syncwatch.config import Hook as HookBlock
from syncwatch.core.effects import Notify
from syncwatch.core.hook import Hook
from syncwatch.parts.surroundings import Surroundings
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.hooks import HookCaller


class Hooked:
    """One webhook with everything that serves it."""

    def __init__(self, around: Surroundings, block: HookBlock) -> None:
        self.hook = Hook(block.name, settings.hook_settings(block), around.entropy)
        self.driver = Driver(f"hook/{block.name}", self.hook, around.clock)
        self.caller = HookCaller(self.driver, self.hook, around.client, block.secret_file)
        self.driver.on(Notify, around.notify)

    async def finish(self) -> None:
        """Try what waits once more, then let go."""
        await self.caller.finish()
        self.driver.close()
