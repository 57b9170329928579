"""How long to wait before the next attempt: doubling with jitter, honouring what the server asked for."""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Doubles from `min_s` to `max_s`; `jitter` spreads each delay uniformly over 0.5 to 1.5 of itself."""

    min_s: float = 0.25
    max_s: float = 30.0
    jitter: bool = True

    def delay_s(self, failures: int, chance: float) -> float:
        """Delay before the attempt that follows `failures` (1 or more) failed ones; `chance` is uniform in [0, 1)."""
        exponent = min(max(failures, 1) - 1, 62)  # 2**62 x min_s is beyond any max_s; larger powers only cost time
        base = min(self.min_s * 2.0**exponent, self.max_s)
        return base * (0.5 + chance) if self.jitter else base
