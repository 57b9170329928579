"""What a part finds around it, and the way in which it says that it cannot be made."""

from __future__ import annotations

import random
from typing import Protocol

from syncwatch.core.effects import Notify
from syncwatch.runtime.clock import Clock
from syncwatch.runtime.http import HttpClient


class Surroundings(Protocol):
    """What the app gives to all of its parts."""

    clock: Clock
    entropy: random.Random
    client: HttpClient
    instance: str

    def notify(self, effect: Notify) -> None:
        """Tell everybody who listens."""
        ...


class NotUsable(Exception):  # noqa: N818  a sentence for people
    """Something that is configured cannot be had. `key` is where it was configured, `text` the sentence."""

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        self.text = text
        super().__init__(f"{key}: {text}")
