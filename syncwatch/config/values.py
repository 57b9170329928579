"""What a single value may say: durations, sizes, whole numbers, names, paths, expressions. Text in, a typed value out.

Law: pure functions of their text (and, where said, of the environment handed in). They touch no file.
A text that says nothing we understand raises `WrongValueError` with the sentence for the user.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from syncwatch.config.endpoints import TOKEN
from syncwatch.config.mistakes import WrongValueError, shown

# --- known words ----------------------------------------------------------------------------------------------------------------


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The known word that `text` was probably meant to be."""
    import difflib  # for mistakes only

    words = list(known)
    found = difflib.get_close_matches(text, words, n=1) or difflib.get_close_matches(text.lower(), words, n=1)
    return found[0] if found else None


def one_of(text: str, known: Iterable[str], complaint: str = "is not known here") -> str:
    """`text`, if it is a known word."""
    words = list(known)
    if text in words:
        return text
    guess = nearest(text, words)
    hint = f"did you mean {guess}? " if guess else ""
    raise WrongValueError(f"{shown(text)} {complaint}; {hint}known: {', '.join(words)}")


# --- numbers with units --------------------------------------------------------------------------------------------------------

_UNIT_MS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_NUMBER = r"[0-9]{1,12}"
_COMBINED = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m)?(?:({_NUMBER})s)?(?:({_NUMBER})ms)?")
_DECIMAL = re.compile(rf"({_NUMBER}\.[0-9]{{1,12}})(ms|s|m|h)")
_BARE = re.compile(rf"{_NUMBER}(?:\.[0-9]{{1,12}})?")
LONGEST_S = 366 * 86400.0
"""The longest duration: a leap year. Longer ones are taken for a slip of the unit."""


def duration_s(text: str) -> float:
    """Seconds of `250ms`, `15s`, `5m`, `1h`, `1m30s` (falling units) or `1.5s` (one unit)."""
    value = _duration_s(text)
    if value is None:
        example = f"{text}s" if _BARE.fullmatch(text) else "15s"
        raise WrongValueError(f"{shown(text)} is not a duration; write {example}, 250ms, 5m or 1h")
    if value > LONGEST_S:
        raise WrongValueError(f"{shown(text)} is longer than a year")
    return value


def _duration_s(text: str) -> float | None:
    if text and (combined := _COMBINED.fullmatch(text)):
        parts = zip(combined.groups(), _UNIT_MS.values(), strict=True)
        return sum(int(number) * unit for number, unit in parts if number) / 1000
    if decimal := _DECIMAL.fullmatch(text):
        return float(decimal[1]) * _UNIT_MS[decimal[2]] / 1000
    return None


def duration_text(seconds: float) -> str:
    """The shortest text for a duration of whole milliseconds: `duration_s` of it is `seconds` again."""
    left_ms, text = round(seconds * 1000), ""
    for unit, size_ms in _UNIT_MS.items():
        count, left_ms = divmod(left_ms, size_ms)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def duration_between(shortest_s: float = 0.0, *, or_more: bool = False) -> Callable[[str], float]:
    """A duration above `shortest_s`, or, with `or_more`, at least as long."""

    def parse(text: str) -> float:
        value = duration_s(text)
        if value < shortest_s or (value == shortest_s and not or_more):
            bound = "at least" if or_more else "longer than"
            raise WrongValueError(f"{text} is too short; it must be {bound} {duration_text(shortest_s)}")
        return value

    return parse


_UNIT_BYTES = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1}
_SIZE = re.compile(rf"({_NUMBER})({'|'.join(_UNIT_BYTES)})")


def size_bytes(text: str) -> int:
    """Bytes of `16MiB`, `64KiB`, `1GiB`, `512B`, `500kB`, `20MB`, `1GB`."""
    if found := _SIZE.fullmatch(text):
        return int(found[1]) * _UNIT_BYTES[found[2]]
    example = f"{text}B" if re.fullmatch(_NUMBER, text) else "16MiB"
    raise WrongValueError(f"{shown(text)} is not a size; write {example}, 64KiB, 1GiB, or with kB, MB, GB, B")


def size_text(size: int) -> str:
    """The text with the largest binary unit that fits exactly: `size_bytes` of it is `size` again."""
    unit = next((u for u in ("GiB", "MiB", "KiB") if size and size % _UNIT_BYTES[u] == 0), "B")
    return f"{size // _UNIT_BYTES[unit]}{unit}"


def size_of_at_least(smallest: int) -> Callable[[str], int]:
    """A size of `smallest` bytes or more."""

    def parse(text: str) -> int:
        value = size_bytes(text)
        if value < smallest:
            raise WrongValueError(f"{text} is too small; it must be at least {size_text(smallest)}")
        return value

    return parse


_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,15})")


def whole(smallest: int, largest: int) -> Callable[[str], int]:
    """A whole number between the two, both included."""

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise WrongValueError(f"expected a whole number, found {shown(text)}")
        if not smallest <= int(text) <= largest:
            raise WrongValueError(f"{text} is out of range; it must be {smallest} to {largest}")
        return int(text)

    return parse


# --- text --------------------------------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text that is not empty and has no line breaks or control characters."""
    if not text.strip():
        raise WrongValueError("must not be empty")
    if not text.isprintable():
        raise WrongValueError(f"{shown(text)} holds a line break or a character that cannot be printed")
    return text


def ignored(text: str) -> str:
    """A pattern as gitignore has them."""
    from syncwatch.core.ignores import fault  # patterns are few, and what compares them is large

    wrong = fault(plain(text))
    if wrong is not None:
        raise WrongValueError(wrong)
    return text


def pattern(regex: str, rule: str) -> Callable[[str], str]:
    """Text that `regex` matches whole; `rule` says so in words."""
    compiled = re.compile(regex)

    def parse(text: str) -> str:
        if not compiled.fullmatch(text) or not text.isprintable():
            raise WrongValueError(f"{shown(text)} is not allowed; {rule}")
        return text

    return parse


name = pattern(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    "a name is 1 to 63 letters, digits, dots, hyphens and underscores, and begins and ends with a letter or digit",
)
instance = pattern(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "an instance is 1 to 128 letters, digits, dots, hyphens and underscores, and begins with a letter or digit",
)
channel = pattern(
    r"[a-z0-9][a-z0-9-]*",
    "a channel is lower-case letters, digits and hyphens, does not begin with a hyphen, and has no #",
)
workspace = pattern(r"[^\s/?#%]{1,128}", "a workspace is an identifier such as ws_demo, without spaces and / ? # %")
branch = pattern(r"[A-Za-z0-9_-]{1,64}", "a branch is 1 to 64 letters, digits, hyphens and underscores")
host_id = pattern(r"[A-Za-z0-9._-]{1,64}", "a host's name is 1 to 64 letters, digits, dots, hyphens and underscores")
absolute = pattern(r"/.*", "a path in a workspace begins with /, such as /docs/notes.md")


def expression(text: str) -> str:
    """A regular expression, as Python's `re` reads it."""
    plain(text)
    try:
        compiled(text)
    except re.error as error:
        raise WrongValueError(
            f"{shown(text)} is not a regular expression: {error.msg} at position {error.pos}"
        ) from error
    except (OverflowError, RecursionError) as error:
        raise WrongValueError(f"{shown(text)} is not a usable regular expression: too large") from error
    return text


def compiled(expression: str) -> re.Pattern[str]:
    """The expression, ready to be searched for. Raises: what `re.compile` raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # doubtful syntax still compiles; a warning must not become a crash
        return re.compile(expression)


def public_key(text: str) -> str:
    """32 bytes in base64url without padding."""
    if re.fullmatch(r"[A-Za-z0-9_-]{43}", text) and len(base64.urlsafe_b64decode(text + "=")) == 32:
        return text
    raise WrongValueError("not an X25519 public key; write its 32 bytes as 43 characters of base64url")


def in_home(text: str, environ: Mapping[str, str]) -> str:
    """`~` and `~/…` replaced by the home directory."""
    if not text.startswith("~"):
        return text
    if text != "~" and not text.startswith("~/"):
        raise WrongValueError(f"{shown(text)}: only your own home directory, ~/, is understood")
    home = environ.get("HOME")
    if not home:
        raise WrongValueError("~ stands for the home directory, and HOME is not set")
    return home + text[1:]


def path(text: str) -> Path:
    """A path; a relative one is relative to the working directory."""
    return Path(plain(text))


def token_path(text: str) -> Path:
    """The path of a file that holds a token."""
    if TOKEN.match(text):
        raise WrongValueError(
            "looks like a token itself; secrets are never written here: put it into a file and name the file"
        )
    return path(text)
