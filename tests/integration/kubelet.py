"""The kubelet's side of a probe (kubernetes.io, Configure Liveness, Readiness and Startup Probes): a new connection each time, no
credentials, its own User-Agent, 200 to 399 is success, and so many failures in a row are a restart."""

from __future__ import annotations

import asyncio
from typing import Any


class Prober:
    """One httpGet probe as a manifest has it, of a server at `host` and `port`. `restarts`: how often the container would have been restarted."""

    def __init__(self, probe: dict[str, Any], host: str, port: int) -> None:
        self.probe, self.host, self.port = probe, host, port
        self.probes = self.failures = self.restarts = 0

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await asyncio.sleep(self.probe["periodSeconds"])
            self.probes += 1
            self.failures = 0 if await self.ask() else self.failures + 1
            if self.failures == self.probe["failureThreshold"]:
                self.restarts, self.failures = self.restarts + 1, 0

    async def ask(self) -> bool:
        """One probe: whether it succeeded within its time."""
        head = f"GET {self.probe['httpGet']['path']} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
        try:
            async with asyncio.timeout(self.probe["timeoutSeconds"]):
                reader, writer = await asyncio.open_connection(self.host, self.port)
                try:
                    writer.write(f"{head}User-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode())
                    return 200 <= int((await reader.readline()).split()[1]) < 400
                finally:
                    writer.close()
        except (OSError, TimeoutError, IndexError, ValueError):
            return False
