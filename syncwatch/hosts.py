"""What is read of a host on this machine: its connection to a branch, and the services that it offers. Loaded only where that is configured.

What belongs here: wiring, as in the app, which uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from syncwatch import settings
from syncwatch.config import TpsPassiveConnection
from syncwatch.core.effects import Notify
from syncwatch.core.reported import Reported
from syncwatch.core.resume import ResumePoint
from syncwatch.protocols.tps import hostfile
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.driver import Driver
from syncwatch.runtime.reportfile import ReportFile
from syncwatch.runtime.supervisor import Supervisor


class Told:
    """One connection that a host has and tells of in a file, with everything that reads it."""

    store = None
    """Nothing comes on it that would have to be kept."""

    def __init__(self, clock: Clock, notify: Callable[[Notify], None], connection: TpsPassiveConnection, resume: ResumePoint | None) -> None:
        path = connection.state_path / f"{connection.branch}.json"
        self.session = Reported(connection.name, hostfile.Passive(), str(path), settings.reported_settings(connection), resume)
        self.driver = Driver(f"connection/{connection.name}", self.session, clock)
        self.driver.on(Notify, notify)
        self.file = ReportFile(self.driver, self.session, path, partial(hostfile.picture, branch=connection.branch))

    def configure(self, connection: TpsPassiveConnection) -> None:
        """Go on as `connection` says."""
        self.driver.call(self.session.configure, settings.reported_settings(connection))

    def begin(self, supervisor: Supervisor) -> None:
        """Be looked after, and read."""
        supervisor.watch(self.driver)
        supervisor.each_second(self.file.beat)
        self.driver.call(self.session.start)
        self.file.beat(self.driver.clock.monotonic())

    def end(self, supervisor: Supervisor) -> None:
        """Read no more; nobody looks after it any more."""
        self.driver.call(self.session.stop)
        self.driver.close()
        supervisor.unwatch(self.driver)
        supervisor.not_each_second(self.file.beat)

    async def gone(self) -> None:
        """At once: what is being read is not waited for."""
