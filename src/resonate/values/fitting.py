"""Values brought into the shape an annotation asks for.

msgspec does the work; pydantic models and complex numbers come in by a hook. An annotation
that msgspec cannot read (a union of two dataclasses, say) asks for nothing.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Final

import msgspec

from resonate.errors import DecodeError
from resonate.values.classes import is_pydantic
from resonate.values.payload import loads

_KEPT: Final = 1024
"""Decoders kept; annotations made at run time must not pile up."""

_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any] | None]] = {}
_NATIVE: Final = frozenset((str, int, float, bool, type(None), list, dict, Any, object))
_INFINITE: Final = {"__INF__": float("inf"), "__NEG_INF__": float("-inf")}


class Mismatch(Exception):
    """The value does not fit the annotation."""


def parse(raw: bytes, annotation: Any, what: str) -> Any:
    """The value of a JSON text, as the annotation has it.

    Raises:
        Mismatch: it does not fit.
        DecodeError: no JSON.
    """
    decoder = _decoder(annotation)
    if decoder is None:
        return loads(raw, what)
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if annotation is float and (text := loads(raw, what)) in ("__INF__", "__NEG_INF__"):
            return _INFINITE[text]
        raise Mismatch(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return fit(loads(raw, what), annotation)


def fit(value: Any, annotation: Any) -> Any:
    """A value that has its Python types already, as the annotation has it.

    Raises:
        Mismatch: it does not fit.
    """
    try:
        return msgspec.convert(value, annotation, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise Mismatch(str(error)) from error
    except (TypeError, ValueError, RecursionError):
        return value  # msgspec cannot read the annotation


def read(raw: bytes, annotation: Any, what: str) -> Any:
    """`parse` for data whose writer left no types: wrong hints for JSON types are no reason to fail.

    Raises:
        DecodeError: no JSON, or it does not fit a class that the annotation names.
    """
    try:
        return parse(raw, annotation, what)
    except Mismatch as error:
        if is_native(annotation):
            return loads(raw, what)
        raise DecodeError(f"{what or 'data'} does not fit {shown(annotation)}: {error}") from error


def is_native(annotation: Any) -> bool:
    """Whether the annotation names JSON types only, so that there is nothing to build."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_native(typing.get_args(annotation)[0])
    if origin in (list, dict, typing.Union, types.UnionType):
        return all(is_native(part) for part in typing.get_args(annotation))
    return annotation in _NATIVE


def shown(annotation: Any) -> str:
    """An annotation as text."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation)


def _decoder(annotation: Any) -> msgspec.json.Decoder[Any] | None:
    try:
        return _DECODERS[annotation]
    except KeyError:
        if len(_DECODERS) >= _KEPT:
            _DECODERS.clear()
        made = _DECODERS[annotation] = _make(annotation)
        return made
    except TypeError:  # an annotation that cannot be hashed
        return _make(annotation)


def _make(annotation: Any) -> msgspec.json.Decoder[Any] | None:
    try:
        return msgspec.json.Decoder(annotation, dec_hook=_hook)
    except (TypeError, ValueError, RecursionError):
        return None


def _hook(wanted: Any, value: Any) -> Any:
    """Build what msgspec does not know; raising ValueError makes it a mismatch."""
    if isinstance(wanted, type):
        if isinstance(value, wanted):
            return value
        if is_pydantic(wanted):
            return wanted.model_validate(value)  # type: ignore[attr-defined]
        if wanted is complex and isinstance(value, str | int | float):
            return complex(value)
    raise ValueError(f"cannot be built as {shown(wanted)}")
