"""Encoders: values to text and back, for `options(encoder=...)`.

An encoder has `encode(obj)` and `decode(obj)`, each the other's inverse. The one handed to
`options` must end in text: `encode(value) -> str | None`, where None stores no data, and it
must take exceptions too. Both sides of a promise need the same one: `r.options(encoder=E)`
where it is called, where the function is registered, and where it is read by `get`. Compose them with
`CombinedEncoder`, for instance to compress or to encrypt what JSON gave:

    class Zlib:
        def encode(self, obj: str | None) -> str | None:
            return None if obj is None else b64encode(zlib.compress(obj.encode())).decode()
        def decode(self, obj: str | None) -> str | None:
            return None if obj is None else zlib.decompress(b64decode(obj)).decode()

    r.options(encoder=CombinedEncoder(JsonEncoder(), Zlib()))
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from resonate.errors import DecodeError, EncodeError, NotSupported

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")


@runtime_checkable
class Encoder(Protocol[T, U]):
    """Turns a T into a U and back."""

    def encode(self, obj: T, /) -> U:
        """`obj` in its other form."""

    def decode(self, obj: U, /) -> T:
        """What `encode` was given."""


class NoopEncoder:
    """Keeps nothing: everything becomes None, both ways."""

    def encode(self, obj: Any) -> None:
        """None."""

    def decode(self, obj: Any) -> None:
        """None."""


class JsonEncoder:
    """JSON text. An exception becomes `{"__error__": text}` and is read back as `Exception(text)`."""

    def encode(self, obj: Any) -> str | None:
        """The JSON text of `obj`; None for None.

        Raises:
            EncodeError: JSON has no form for something inside.
        """
        if obj is None:
            return None
        try:
            return json.dumps(obj, default=_error_as_json)
        except (ValueError, RecursionError) as error:
            raise EncodeError("value", type(obj).__name__, f"JsonEncoder: {error}") from error

    def decode(self, obj: str | None) -> Any:
        """The value of a JSON text.

        Raises:
            DecodeError: no JSON.
        """
        if obj is None:
            return None
        try:
            return json.loads(obj, object_hook=_error_from_json)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"JsonEncoder: not JSON: {error}") from error


class JsonPickleEncoder:
    """jsonpickle text: keeps nearly every Python class. Reading it runs code that the text names,
    so use it only where whoever can write to the store is trusted. Needs the package jsonpickle."""

    def encode(self, obj: Any) -> str | None:
        """The jsonpickle text of `obj`; None for None."""
        return None if obj is None else str(_jsonpickle().encode(obj, unpicklable=True))

    def decode(self, obj: str | None) -> Any:
        """The value of a jsonpickle text."""
        return None if obj is None else _jsonpickle().decode(obj)


class Base64Encoder:
    """Text as base64 text; None stays None."""

    def encode(self, obj: str | None) -> str | None:
        """The base64 of the text in UTF-8."""
        return None if obj is None else base64.b64encode(obj.encode()).decode("ascii")

    def decode(self, obj: str | None) -> str | None:
        """The text again.

        Raises:
            DecodeError: no base64, or no UTF-8 in it.
        """
        if obj is None:
            return None
        try:
            return base64.b64decode(obj, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise DecodeError(f"Base64Encoder: not base64 of UTF-8 text: {error}") from error


class CombinedEncoder(Generic[T, U, V]):
    """First one encoder, then another: `right.encode(left.encode(obj))`."""

    def __init__(self, left: Encoder[T, U], right: Encoder[U, V]) -> None:
        self._left = left
        self._right = right

    def encode(self, obj: T) -> V:
        """`obj` through both."""
        return self._right.encode(self._left.encode(obj))

    def decode(self, obj: V) -> T:
        """Back through both, the other way round."""
        return self._left.decode(self._right.decode(obj))


class HeaderEncoder(Generic[T, U]):
    """What another encoder gives, as the entry of a dict: `{key: ...}`.

    Args:
        key: the entry's key.
        encoder: makes the entry's value.
    """

    def __init__(self, key: str, encoder: Encoder[T, U]) -> None:
        self._key = key
        self._encoder = encoder

    def encode(self, obj: T) -> dict[str, U] | None:
        """The dict; None if the other encoder keeps nothing."""
        value = self._encoder.encode(obj)
        return None if value is None else {self._key: value}

    def decode(self, obj: dict[str, U] | None) -> T | None:
        """The value of the entry; None without it."""
        return self._encoder.decode(obj[self._key]) if obj and self._key in obj else None


class PairEncoder(Generic[T, U, V]):
    """Two forms side by side; reading takes the first one that holds something."""

    def __init__(self, left: Encoder[T, U], right: Encoder[T, V]) -> None:
        self._left = left
        self._right = right

    def encode(self, obj: T) -> tuple[U, V]:
        """Both forms."""
        return self._left.encode(obj), self._right.encode(obj)

    def decode(self, obj: tuple[U, V]) -> T | None:
        """The value of the left form, or if that holds none of the right one."""
        left, right = obj
        value = self._left.decode(left) if left is not None else None
        if value is None and right is not None:
            return self._right.decode(right)
        return value


def _error_as_json(obj: Any) -> Any:
    if isinstance(obj, BaseException):
        return {"__error__": str(obj)}
    raise EncodeError("value", type(obj).__name__, "JsonEncoder has no form for it")


def _error_from_json(obj: dict[str, Any]) -> Any:
    return Exception(obj["__error__"]) if obj.keys() == {"__error__"} else obj


def _jsonpickle() -> Any:
    try:
        import jsonpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise NotSupported("JsonPickleEncoder needs the package jsonpickle: pip install jsonpickle") from error
    return jsonpickle


__all__ = [
    "Base64Encoder",
    "CombinedEncoder",
    "Encoder",
    "HeaderEncoder",
    "JsonEncoder",
    "JsonPickleEncoder",
    "NoopEncoder",
    "PairEncoder",
]
