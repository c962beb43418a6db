"""The outermost layers of a payload: base64, UTF-8 and JSON text.

`pack` and `unpack` are for any text, `dumps` and `loads` for JSON values. Both directions
are exact: what JSON text cannot say is refused, never replaced.
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Any, Final

import msgspec

from resonate.encoders import Encoder
from resonate.errors import DecodeError, EncodeError

HEADER: Final = "resonate:py"
"""The header that holds the type tree."""

_ENCODED: Final = (
    "Perhaps an encoder has written it that this client was not given: r.options(encoder=...), on a worker where it "
    "registers the function"
)

Payload = tuple[str | None, dict[str, str] | None]

encode_json: Final = msgspec.json.Encoder().encode
_decode_json: Final = msgspec.json.Decoder().decode


def pack(raw: bytes) -> str:
    """The base64 text of `raw`."""
    return b2a_base64(raw, newline=False).decode("ascii")


def unpack(data: str, what: str) -> bytes:
    """The bytes of a base64 text.

    Raises:
        DecodeError: no standard base64.
    """
    try:
        return a2b_base64(data, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise DecodeError(f"{what or 'data'} is not base64: {error}") from error


def dumps(plain: Any, what: str) -> bytes:
    """The JSON text of a value that consists of exact JSON types.

    Raises:
        EncodeError: text that Unicode does not allow, or a number of thousands of digits.
    """
    try:
        return encode_json(plain)
    except (UnicodeEncodeError, ValueError, RecursionError):
        return _dumps_slowly(plain, what)


def loads(raw: bytes, what: str) -> Any:
    """The value of a JSON text.

    Raises:
        DecodeError: no JSON, or nested too deep.
    """
    try:
        return _decode_json(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        pass  # what other writers allow themselves (lone surrogates, NaN), the module json reads
    except RecursionError as error:
        raise DecodeError(f"{what or 'data'} is nested too deep to be read") from error
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"{what or 'data'} is not JSON: {error}. {_ENCODED}") from error


def encode_with(encoder: Encoder[Any, str | None], value: Any, what: str) -> Payload:
    """The payload of a value as the user's encoder writes it: base64 of its text, no header.

    Raises:
        EncodeError: the encoder gave something other than text or None.
    """
    text: object = encoder.encode(value)
    if text is None:
        return None, None
    if not isinstance(text, str):
        name = type(encoder).__name__
        raise EncodeError(name, type(text).__name__, f"{what}: {name}.encode must give `str | None`")
    try:
        return pack(text.encode()), None
    except UnicodeEncodeError as error:
        raise EncodeError(type(encoder).__name__, "str", f"{what}: {error}") from error


def decode_with(encoder: Encoder[Any, str | None], data: str | None, what: str) -> Any:
    """The value of a payload as the user's encoder reads it.

    Raises:
        DecodeError: no base64 of text, or whatever the encoder raised.
    """
    try:
        return encoder.decode(None if data is None else unpack(data, what).decode())
    except DecodeError:
        raise
    except Exception as error:
        name = type(encoder).__name__
        raise DecodeError(f"{what or 'data'} cannot be read by {name}: {type(error).__name__}: {error}") from error


def _dumps_slowly(plain: Any, what: str) -> bytes:
    try:
        text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
        faithful = json.loads(text) == plain  # two lone surrogates would come back as one character
    except (ValueError, RecursionError) as error:
        raise EncodeError(root_of(what), type(plain).__name__, f"{what}: {error}") from error
    if not faithful:
        raise EncodeError(root_of(what), "str", f"{what}: it holds surrogates, which are no text")
    return text.encode("ascii")


def root_of(what: str) -> str:
    """What a path begins with: the first word of `what`, as in `result["items"][3]`."""
    return what.partition(" ")[0] or "value"
