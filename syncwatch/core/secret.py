"""A type for secrets: what holds one shows nothing, so that no log, traceback or format string can leak it."""

from __future__ import annotations

import hmac
from typing import NoReturn

HIDDEN = "Secret(***)"


class Secret:
    """Text that does not show in a log, a traceback, a format string or a pickle; `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself: for a request, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        """Compares in constant time."""
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def secret_in(content: bytes) -> Secret:
    """The secret in a file's content, without the white space (and byte order mark) around it.

    Raises: ValueError with a sentence that shows nothing of the content.
    """
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None  # the error's own text holds the bytes
    if not text:
        raise ValueError("is empty")
    if any(letter.isspace() or not letter.isprintable() for letter in text):
        raise ValueError("holds more than one word")
    return Secret(text)
