"""Digests of arguments: what a replay compares with the record.

Equal arguments have equal digests in every process: dicts and sets are sorted, and what
has no form of its own enters by the name of its type, never by address.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

import msgspec

from resonate.values.classes import dataclass_values, is_dataclass, is_pydantic

DEPTH: Final = 50
"""Levels that count in the slow form; below, and in cycles, only types do."""


def digest(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """16 hex digits for the arguments of a call; "" for none."""
    if not args and not kwargs:
        return ""
    try:
        text = _encode((args, kwargs))
    except Exception:  # mixed keys, cycles, or text that is no Unicode: the slow form takes anything
        text = json.dumps(_canonical((args, dict(kwargs)), ()), separators=(",", ":")).encode()
    return blake2b(text, digest_size=8).hexdigest()


def _named(value: Any) -> Any:
    """What stands for a value that JSON has no form for."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return f"<{value.__module__}.{value.__qualname__}>"
    if isinstance(value, MethodType):
        return ["<method>", value.__func__, value.__self__]
    if isinstance(value, BaseException):
        return [_type_name(value), list(value.args)]
    if is_pydantic(type(value)):
        return value.__dict__
    if isinstance(value, complex):
        return repr(value)
    return _type_name(value)


_encode: Final = msgspec.json.Encoder(order="deterministic", enc_hook=_named).encode


def _canonical(value: Any, above: tuple[int, ...]) -> Any:
    """`value` as JSON with everything sorted; `above` are the ids of what holds it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if len(above) > DEPTH or id(value) in above:
        return _type_name(value)
    above = (*above, id(value))
    if isinstance(value, list | tuple):
        return [_canonical(item, above) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_canonical(item, above) for item in value), key=_text)
    if isinstance(value, dict):
        pairs = [[_canonical(key, above), _canonical(item, above)] for key, item in value.items()]
        return sorted(pairs, key=_text)
    if is_dataclass(type(value)):
        return _canonical(_fields(value), above)
    named = _plain(value)
    return named if isinstance(named, str) else _canonical(named, above)


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value, enc_hook=_named)
    except Exception:  # what is inside of it has no form: its type stands for it
        return _type_name(value)


def _fields(value: Any) -> dict[str, Any]:
    try:
        return dataclass_values(value)
    except Exception:  # a field without value
        return {"<type>": _type_name(value)}


def _text(canonical: Any) -> str:
    return json.dumps(canonical)


def _type_name(value: Any) -> str:
    cls = type(value)
    return f"<{cls.__module__}.{cls.__qualname__}>"


__all__ = ["digest"]
