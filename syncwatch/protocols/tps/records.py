"""msgpackr's records: MessagePack in which an object is a list of keys, said once in a message, and then its values.

Facts: wire/tps §5.4. What belongs here: bytes to values and back. What must not: what the values mean. In Python an object is a `dict`, JavaScript's
`undefined` is `msgspec.UNSET`, and a plain MessagePack map, which is no object to the other side, is a `Plain`.

Whatever the bytes: no recursion below `MAX_DEPTH`, no allocation that the bytes present do not pay for, no error but `RecordError`.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from msgspec import UNSET

from syncwatch.core.wire import MAX_NUMBER

MAX_DEPTH = 32

_FIRST_ID, _IDS = 0x40, 64
_UNDEFINED = b"\xd4\x00\x00"
_U16, _U32, _F64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">d")
_NUMBERS = {token: struct.Struct(f">{code}") for token, code in zip(range(0xCA, 0xD4), "fdBHIQbhiq", strict=True)}
_SIZES = {token: struct.Struct(f">{'BHI'[place]}") for token, place in (
    (0xC4, 0), (0xC5, 1), (0xC6, 2), (0xD9, 0), (0xDA, 1), (0xDB, 2), (0xDC, 1), (0xDD, 2), (0xDE, 1), (0xDF, 2),
)}  # fmt: skip


class RecordError(ValueError):
    """Bytes that are no value of this format, or a value that it cannot carry."""


class Plain(NamedTuple):
    """A plain MessagePack map; its keys may be anything."""

    pairs: tuple[tuple[object, object], ...]


def encode(value: object) -> bytes:
    """A value as the other side writes it. Raises: RecordError."""
    return _Writer().message(value)


def decode(data: bytes) -> object:
    """The one value that the bytes are. Raises: RecordError."""
    return _Reader(data).message()


class _Writer:
    def __init__(self) -> None:
        self._out = bytearray()
        self._ids: dict[tuple[str, ...], int] = {}
        self._defined = 0

    def message(self, value: object) -> bytes:
        self._value(value, MAX_DEPTH)
        return bytes(self._out)

    def _value(self, value: object, depth: int) -> None:
        out = self._out
        if not depth:
            raise RecordError("nested too deeply")
        if value is UNSET:
            out += _UNDEFINED
        elif value is None:
            out.append(0xC0)
        elif isinstance(value, bool):
            out.append(0xC3 if value else 0xC2)
        elif isinstance(value, int):
            self._integer(value)
        elif isinstance(value, float):
            out += b"\xcb" + _F64.pack(value)
        elif isinstance(value, str):
            self._text(value)
        elif isinstance(value, bytes):
            self._head(len(value), (0xC4, 0xC5, 0xC6))
            out += value
        elif isinstance(value, dict):
            self._record(value, depth)
        elif isinstance(value, (list, tuple)) and not isinstance(value, Plain):
            self._head(len(value), (None, 0xDC, 0xDD), 0x90, 16)
            for item in value:
                self._value(item, depth - 1)
        else:
            raise RecordError(f"{type(value).__name__} has no form")

    def _integer(self, value: int) -> None:
        if abs(value) > MAX_NUMBER:
            raise RecordError("an integer that JavaScript cannot count")
        if -0x20 <= value < 0x40:  # 0x40 to 0x7f are the ids of records
            self._out.append(value & 0xFF)
        elif value > 0:
            tokens = ((0xFF, 0xCC), (0xFFFF, 0xCD), (0xFFFF_FFFF, 0xCE))
            token = next((token for most, token in tokens if value <= most), 0xCB)
            self._out += bytes([token]) + _NUMBERS[token].pack(value)
        else:
            tokens = ((-0x80, 0xD0), (-0x8000, 0xD1), (-0x8000_0000, 0xD2))
            token = next((token for least, token in tokens if value >= least), 0xCB)
            self._out += bytes([token]) + _NUMBERS[token].pack(value)

    def _text(self, value: str) -> None:
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise RecordError("text that is no Unicode") from None
        self._head(len(data), (0xD9, 0xDA, 0xDB), 0xA0, 32)
        self._out += data

    def _head(self, size: int, tokens: tuple[int | None, int, int], short: int = 0, below: int = 0) -> None:
        if size < below:
            self._out.append(short | size)
            return
        token = tokens[0] if size < 0x100 and tokens[0] is not None else tokens[1] if size < 0x1_0000 else tokens[2]
        if size > 0xFFFF_FFFF:
            raise RecordError("too long")
        self._out += bytes([token]) + _SIZES[token].pack(size)

    def _record(self, value: dict[object, object], depth: int) -> None:
        names = tuple(name for name in value if isinstance(name, str))
        if len(names) != len(value):
            raise RecordError("a key that is no text")
        known = self._ids.get(names)
        if known is None:
            known = _FIRST_ID + self._defined % _IDS
            self._ids = {keys: ident for keys, ident in self._ids.items() if ident != known}
            self._ids[names] = known
            self._defined += 1
            self._out += bytes((0xD4, 0x72, known))
            self._head(len(names), (None, 0xDC, 0xDD), 0x90, 16)
            for name in names:
                self._text(name)
        else:
            self._out.append(known)
        for item in value.values():
            self._value(item, depth - 1)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._keys: dict[int, tuple[str, ...]] = {}

    def message(self) -> object:
        value = self._value(MAX_DEPTH)
        if self._at != len(self._data):
            raise RecordError("something behind the value")
        return value

    def _value(self, depth: int) -> object:
        if not depth:
            raise RecordError("nested too deeply")
        token = self._take(1)[0]
        if token < 0x80:
            keys = self._keys.get(token)  # an id that was not said is an integer, as the other side has it
            return token if keys is None else self._values(keys, depth)
        if token >= 0xE0:
            return token - 0x100
        if token < 0xC0:
            if token >= 0xA0:
                return self._text(token & 0x1F)
            return self._array(token & 0x0F, depth) if token >= 0x90 else self._map(token & 0x0F, depth)
        if token in _NUMBERS:
            return self._number(_NUMBERS[token])
        if token in _SIZES:
            form = _SIZES[token]
            size: int = form.unpack(self._take(form.size))[0]
            return self._sized(token, size, depth)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token == 0xD4:
            return self._extension(depth)
        raise RecordError(f"a value of kind {token:#x}")

    def _sized(self, token: int, size: int, depth: int) -> object:
        if token <= 0xC6:
            return self._take(size)
        if token <= 0xDB:
            return self._text(size)
        return self._array(size, depth) if token <= 0xDD else self._map(size, depth)

    def _extension(self, depth: int) -> object:
        kind, ident = self._take(2)
        if kind == 0:
            return UNSET
        if kind != 0x72:
            raise RecordError(f"an extension of kind {kind:#x}")
        names = self._value(depth - 1)
        if not isinstance(names, list):
            raise RecordError("a record without a list of keys")
        keys = tuple(name for name in names if isinstance(name, str))
        if len(set(keys)) != len(names):
            raise RecordError("keys that are no texts, or twice the same")
        self._keys[_FIRST_ID | ident % _IDS] = keys
        return self._values(keys, depth)

    def _values(self, keys: tuple[str, ...], depth: int) -> dict[str, object]:
        self._need(len(keys))
        return {key: self._value(depth - 1) for key in keys}

    def _array(self, size: int, depth: int) -> list[object]:
        self._need(size)
        return [self._value(depth - 1) for _ in range(size)]

    def _map(self, size: int, depth: int) -> Plain:
        self._need(2 * size)
        return Plain(tuple((self._value(depth - 1), self._value(depth - 1)) for _ in range(size)))

    def _text(self, size: int) -> str:
        return self._take(size).decode(errors="replace")  # as the other side reads: better odd letters than a lost mail

    def _number(self, form: struct.Struct) -> int | float:
        number: int | float = form.unpack(self._take(form.size))[0]
        if isinstance(number, float) and math.isfinite(number) and number.is_integer() and abs(number) <= MAX_NUMBER:
            return int(number)  # JavaScript has one kind of number
        return number

    def _take(self, size: int) -> bytes:
        self._need(size)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def _need(self, size: int) -> None:
        if size > len(self._data) - self._at:
            raise RecordError("ends too early")


_CONSTANTS: dict[int, object] = {0xC0: None, 0xC2: False, 0xC3: True}
