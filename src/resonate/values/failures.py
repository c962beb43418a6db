"""Failures as payloads: the value of a rejected promise, and the exception it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resonate.encoders import Encoder
from resonate.errors import DecodeError, EncodeError, RemoteError
from resonate.values.carrying import header
from resonate.values.exceptions import message_of
from resonate.values.payload import HEADER, Payload, decode_with, dumps, encode_with, loads, pack, unpack
from resonate.values.typetree import join, split


def encode_error(
    error: BaseException, encoder: Encoder[Any, str | None] | None = None
) -> tuple[str | None, dict[str, str] | None, Exception]:
    """The payload of a failure, and the exception as a replay will see it: `(data, headers, seen)`.

    Never raises: what cannot be carried of an exception is left out.

    Args:
        error: what the function raised.
        encoder: the user's own; if it refuses, our form is written.
    """
    if encoder is not None:
        written = _encode_with(error, encoder)
        if written is not None:
            return *written, decode_error(*written, encoder)
    data, headers = _encode(error)
    return data, headers, decode_error(data, headers)


def decode_error(
    data: str | None, headers: Mapping[str, str] | None, encoder: Encoder[Any, str | None] | None = None
) -> Exception:
    """The exception of a rejected promise.

    The original class if it is imported here and can be rebuilt, else a `RemoteError`. Any
    other JSON value, or a text, becomes `Exception(value)`. Never raises.

    Args:
        data, headers: the payload.
        encoder: the one it was written with.
    """
    if encoder is not None:
        try:
            value = decode_with(encoder, data, "failure")
            if value is not None or not data:
                return _as_error(value)
        except DecodeError:
            pass  # written without it: by our form, or from outside
    if not data:
        return Exception(None)
    try:
        raw = unpack(data, "failure")
    except DecodeError:
        return Exception(data)
    try:
        plain = loads(raw, "failure")
    except DecodeError:
        return Exception(raw.decode(errors="replace"))
    try:
        tree = headers.get(HEADER) if headers else None
        if tree is not None:
            plain = join(plain, loads(tree.encode(errors="replace"), "type header"), len(raw) + len(tree))
    except DecodeError:
        pass  # the plain form says what happened, too
    try:
        return _as_error(plain)
    except RecursionError:
        return Exception(raw.decode(errors="replace"))


def _as_error(value: Any) -> Exception:
    if isinstance(value, Exception):
        return value
    if not isinstance(value, dict):
        return Exception(value)
    if value.keys() == {"__error__"}:
        return Exception(value["__error__"])
    kind, message = value.get("__type"), str(value.get("message") or "")
    if kind == "aggregate_error" and isinstance(value.get("errors"), list) and value["errors"]:
        return ExceptionGroup(message, [_as_error(each) for each in value["errors"]])
    if kind in ("error", "aggregate_error"):
        return RemoteError(str(value.get("name") or "Error"), message, str(value.get("stack") or ""))
    return Exception(value)


def _encode(error: BaseException) -> Payload:
    try:
        plain, node = split(error, "failure")
        return pack(dumps(plain, "failure")), header(node, "failure")
    except (EncodeError, RecursionError):
        text = message_of(error).encode(errors="replace").decode()
        plain = {"__type": "error", "message": text, "name": type(error).__name__, "stack": ""}
        return pack(dumps(plain, "failure")), None


def _encode_with(error: BaseException, encoder: Encoder[Any, str | None]) -> Payload | None:
    for form in (error, {"__error__": message_of(error)}):
        try:
            data, headers = encode_with(encoder, form, "failure")
        except Exception:  # whatever the user's encoder raises: a failure must be stored
            continue
        if data is not None:
            return data, headers
    return None
