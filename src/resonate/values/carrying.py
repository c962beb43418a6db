"""Values to payloads and back, with the annotation of the function they belong to.

`carry` is the hot path of every step: values whose replay is provably the same object are
handed through without being read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from resonate.encoders import Encoder
from resonate.errors import DecodeError, EncodeError
from resonate.values.fitting import Mismatch, fit, parse, read
from resonate.values.payload import HEADER, Payload, decode_with, dumps, encode_json, encode_with, loads, pack, unpack
from resonate.values.typetree import UNBOUNDED, is_plain, join, split

_SCALARS: Final = frozenset((int, str, bool, float))
_BOOLS: Final = {True: pack(b"true"), False: pack(b"false")}
_PLAIN: Final = {HEADER: "null"}
"""The header of plain values that do not fit the annotation: they are read as they are."""


def encode(value: Any, what: str, encoder: Encoder[Any, str | None] | None = None) -> Payload:
    """The payload of a value: `(data, headers)`; None is no data.

    Args:
        value: any value.
        what: what it is, for messages; its first word begins the path, "result of f" for example.
        encoder: the user's own, instead of our form.

    Raises:
        EncodeError: something inside of it cannot be carried.
    """
    if encoder is not None:
        return encode_with(encoder, value, what)
    if value is None:
        return None, None
    if is_plain(value):
        return pack(dumps(value, what)), None
    plain, node = split(value, what)
    return pack(dumps(plain, what)), header(node, what)


def decode(
    data: str | None,
    headers: Mapping[str, str] | None,
    annotation: Any = Any,
    what: str = "",
    encoder: Encoder[Any, str | None] | None = None,
) -> Any:
    """The value of a payload: by the annotation, else by our header, else plain JSON.

    Args:
        data, headers: the payload.
        annotation: the type wanted.
        what: what it is, for messages.
        encoder: the one it was written with.

    Raises:
        DecodeError: no base64 or JSON, a class that is not imported here, or data without
            our header that does not fit a class the annotation names.
    """
    if encoder is not None:
        return decode_with(encoder, data, what)
    if not data:
        return None
    raw = unpack(data, what)
    tree = headers.get(HEADER) if headers else None
    if tree is None:
        return loads(raw, what) if annotation is Any else read(raw, annotation, what)
    value = join(loads(raw, what), loads(tree.encode(errors="replace"), f"type header of {what}"), len(raw) + len(tree))
    return value if annotation is Any else _fitted(value, annotation)


def carry(
    value: Any, annotation: Any, what: str, encoder: Encoder[Any, str | None] | None = None
) -> tuple[str | None, dict[str, str] | None, Any]:
    """The payload of a value, and the value as a replay will see it: `(data, headers, seen)`.

    Args:
        value: any value.
        annotation: what the function says it returns; a value that does not fit it is
            carried by its own types.
        what: what it is, for messages.
        encoder: the user's own, instead of our form.

    Raises:
        EncodeError: something inside of it cannot be carried.
    """
    if encoder is not None:
        data, headers = encode_with(encoder, value, what)
        return data, headers, decode_with(encoder, data, what)
    if value is None:
        return None, None, None
    kind = type(value)
    if kind in _SCALARS and (annotation is Any or annotation is kind):
        if kind is bool:
            return _BOOLS[value], None, value
        if kind is not float or isfinite(value):
            try:
                return pack(encode_json(value)), None, value
            except (UnicodeEncodeError, ValueError):
                pass  # a text or number that needs the long way
    if not is_plain(value):
        return _carry_typed(value, annotation, what)
    raw = dumps(value, what)
    if annotation is Any:
        return pack(raw), None, loads(raw, what)
    try:
        return pack(raw), None, parse(raw, annotation, what)
    except Mismatch:
        return pack(raw), dict(_PLAIN), _fitted(loads(raw, what), annotation)


def header(node: Any, what: str) -> dict[str, str] | None:
    """The headers of a type tree."""
    return None if node is None else {HEADER: dumps(node, what).decode()}


def _carry_typed(value: Any, annotation: Any, what: str) -> tuple[str | None, dict[str, str] | None, Any]:
    try:
        plain, node = split(value, what)
    except EncodeError:
        carried = _carry_by_annotation(value, annotation, what)
        if carried is None:
            raise
        return carried
    raw = dumps(plain, what)
    try:
        seen = join(loads(raw, what), node, UNBOUNDED)  # the caller's own value, with its own tree
    except DecodeError as error:
        raise EncodeError(what.partition(" ")[0], type(value).__name__, f"{what}: {error}") from error
    return pack(raw), header(node, what), seen if annotation is Any else _fitted(seen, annotation)


def _carry_by_annotation(value: Any, annotation: Any, what: str) -> tuple[str, None, Any] | None:
    """A class that cannot be found by its name may still be named by the annotation."""
    if annotation is Any:
        return None
    try:
        raw = encode_json(value)
        seen = parse(raw, annotation, what)
    except (Mismatch, DecodeError, TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return (pack(raw), None, seen) if type(seen) is type(value) and seen == value else None


def _fitted(value: Any, annotation: Any) -> Any:
    try:
        return fit(value, annotation)
    except Mismatch:
        return value
