"""Typed values <-> the wire's payloads (data in base64, headers)."""

from __future__ import annotations

import base64
import hashlib
import traceback
from typing import Any, NamedTuple

import msgspec

from resonate.errors import DecodeError, EncodeError, RemoteError

_ENC = msgspec.json.Encoder()


class Invocation(NamedTuple):
    func: str
    args: list[Any]
    kwargs: dict[str, Any]
    version: int
    retry: dict[str, Any] | None


def encode(value: Any, what: str, encoder: Any = None) -> tuple[str | None, dict[str, str] | None]:
    if encoder is not None:
        text = encoder.encode(value)
        return (None if text is None else base64.b64encode(text.encode()).decode()), None
    if value is None:
        return None, None
    try:
        return base64.b64encode(_ENC.encode(value)).decode(), None
    except TypeError as e:
        raise EncodeError("value", type(value).__name__, what) from e


def decode(data: str | None, headers: Any, annotation: Any = Any, what: str = "", encoder: Any = None) -> Any:
    if encoder is not None:
        return encoder.decode(None if data is None else base64.b64decode(data).decode())
    if not data:
        return None
    try:
        return msgspec.json.decode(base64.b64decode(data))
    except Exception as e:
        raise DecodeError(f"{what}: {e}") from e


def carry(value: Any, annotation: Any, what: str, encoder: Any = None) -> tuple[str | None, dict[str, str] | None, Any]:
    data, headers = encode(value, what, encoder)
    if type(value) in (int, str, bool, type(None), float):
        return data, headers, value
    return data, headers, decode(data, headers, annotation, what, encoder)


def digest(args: Any, kwargs: Any) -> str:
    if not args and not kwargs:
        return ""
    return hashlib.blake2b(msgspec.json.encode((args, kwargs), enc_hook=lambda o: type(o).__name__), digest_size=8).hexdigest()


def encode_error(error: BaseException, encoder: Any = None) -> tuple[str | None, dict[str, str] | None, BaseException]:
    if encoder is not None:
        return (*encode(error, "", encoder), error)
    data, _ = encode({"__type": "error", "message": str(error), "name": type(error).__name__, "stack": "".join(traceback.format_exception(error))}, "")
    return data, None, error


def decode_error(data: Any, headers: Any, encoder: Any = None) -> Exception:
    v = decode(data, headers, encoder=encoder)
    return v if isinstance(v, Exception) else RemoteError(v["name"], v["message"], v["stack"])


def encode_call(name: str, args: Any, kwargs: Any, version: int, *, encoder: Any = None, retry: Any = None) -> Any:
    return encode({"args": args, "kwargs": kwargs, "func": name, "version": version}, f"call of {name}", encoder)


def decode_call(data: Any, headers: Any, encoder: Any = None) -> Invocation:
    v = decode(data, headers, encoder=encoder)
    return Invocation(v["func"], v.get("args", []), v.get("kwargs", {}), v.get("version", 1), v.get("retry"))


def retype(call: Invocation, signature: Any) -> Any:
    return tuple(call.args), call.kwargs
