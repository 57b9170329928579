"""The table in docs/relay.md of what each of the relay's faults can be told, from the records that check it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import inspect

from syncwatch.relay import kinds

COMMON = {field.encode_name: field for field in msgspec.structs.fields(kinds.FaultSpec)}
"""What every fault can be told is said once, in prose."""


def table() -> str:
    """A row for each fault that can be told more than all of them, in their order."""
    rows = ["| fault | fields |", "|---|---|"]
    for kind in kinds.AnyFault.__args__:
        fields = "; ".join(_fields(kind))
        rows.append(f"| `{kind.__struct_config__.tag}` | {fields or 'no others'} |")
    return "\n".join(rows)


def _fields(kind: type[kinds.FaultSpec]) -> Iterator[str]:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    for field in sorted(found.fields, key=lambda field: field.encode_name in COMMON):
        common = COMMON.get(field.encode_name)
        if common is not None and common.default == field.default:
            continue
        unsaid = not field.required and field.default is None
        default = "" if field.required else " (none)" if unsaid else f" ({_literal(field.default)})"
        yield f"`{field.encode_name}` {_values(field.type, unsaid)}{default}"


def _values(kind: inspect.Type, unsaid: bool = False) -> str:
    """What may stand there, in words. `unsaid`: nothing may, which is said as the default."""
    match kind:
        case inspect.UnionType(types=types):
            return " or ".join(_values(one) for one in types if not (unsaid and isinstance(one, inspect.NoneType)))
        case inspect.LiteralType(values=values):
            return ", ".join(_literal(value) for value in values)
        case inspect.IntType(ge=low, le=high) | inspect.FloatType(ge=low, le=high):
            whole = "whole number" if isinstance(kind, inspect.IntType) else "number"
            return whole if low is None else f"{low:.0f} to {high:.0f}" if high is not None else f"{low:.0f} or more"
        case inspect.StrType(pattern=str(pattern)):
            return f"text like `{pattern}`"
        case inspect.StrType(max_length=int(most)):
            return f"text, at most {most} characters"
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "`true` or `false`"
        case inspect.DictType():
            return "object"
        case inspect.NoneType():
            return "`null`"
    raise TypeError(f"no words for {kind}")


def _literal(value: object) -> str:
    """As it is written in JSON and YAML."""
    if isinstance(value, str) and value:
        return f"`{value}`"
    plain = int(value) if isinstance(value, float) and value.is_integer() else value
    return f"`{msgspec.json.encode(plain).decode()}`"
