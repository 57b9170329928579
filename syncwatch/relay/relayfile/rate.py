"""The rate limit of the real server: so many requests per window, workspace and subject; off unless switched on (wire: relayfile §1). Pure."""

from __future__ import annotations


class RateLimiter:
    """Counts requests in windows that begin with a first request."""

    def __init__(self, most: int, window_s: float) -> None:
        self.most = most
        self.window_s = window_s
        self._windows: dict[tuple[str, str], tuple[int, float]] = {}

    def allows(self, workspace: str, subject: str, now_s: float) -> bool:
        """Count a request; False if it is one too many."""
        count, ends_s = self._windows.get((workspace, subject), (0, 0.0))
        if now_s >= ends_s:
            count, ends_s = 0, now_s + self.window_s
        self._windows[workspace, subject] = (count + 1, ends_s)
        return count < self.most
