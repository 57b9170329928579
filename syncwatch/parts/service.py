"""A service: its probes and who makes them."""

from __future__ import annotations

from syncwatch import settings
from syncwatch.config import Service as ServiceBlock
from syncwatch.core.effects import Notify
from syncwatch.core.resume import ServiceRecord
from syncwatch.core.service import Service
from syncwatch.parts.surroundings import Surroundings
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.http import Poller
from syncwatch.runtime.supervisor import Supervisor
from syncwatch.runtime.tokens import TokenFiles


class Asked:
    """One service with everything that serves it."""

    def __init__(self, around: Surroundings, block: ServiceBlock, record: ServiceRecord | None = None) -> None:
        self.service = Service(block.name, settings.service_settings(block), around.entropy, settings.upstream(block.url), record)
        self.driver = Driver(f"service/{block.name}", self.service, around.clock)
        self.poller = Poller(self.driver, self.service, TokenFiles({}), around.client)
        self.driver.on(Notify, around.notify)

    def configure(self, block: ServiceBlock) -> None:
        """Ask as `block` says from now on."""
        self.driver.call(self.service.configure, settings.service_settings(block))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, and ask."""
        supervisor.watch(self.driver)
        self.driver.call(self.service.start)

    def end(self, supervisor: Supervisor) -> None:
        """Ask no more; nobody looks after it any more."""
        self.driver.call(self.service.stop)
        self.driver.close()
        supervisor.unwatch(self.driver)

    async def gone(self) -> None:
        """When its call is."""
        await self.poller.close()
