"""Invocations: the param of a promise that a worker is to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from resonate.encoders import Encoder
from resonate.errors import DecodeError, EncodeError
from resonate.signatures import Signature
from resonate.values.carrying import decode, header
from resonate.values.fitting import Mismatch, fit, is_native, parse, shown
from resonate.values.payload import HEADER, Payload, dumps, encode_with, pack
from resonate.values.typetree import is_plain, split


class Invocation(Struct, frozen=True):
    """A recorded call.

    Attributes:
        func, version: what to run.
        args, kwargs: behind the context.
        retry: how to retry it, in wire form (see `retry_policies.from_wire`), or None.
        typed: whether the writer recorded types, so that annotations need not be enforced.
    """

    func: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    version: int = 1
    retry: dict[str, Any] | None = None
    typed: bool = False


def encode_call(
    func: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    version: int,
    retry: Mapping[str, Any] | None = None,
    encoder: Encoder[Any, str | None] | None = None,
) -> Payload:
    """The payload of an invocation.

    Args:
        func: the registered name.
        args, kwargs: behind the context.
        version: from 1.
        retry: in wire form; absent if None.
        encoder: the user's own; writes the whole invocation.

    Raises:
        EncodeError: an argument cannot be carried; names the function and the argument.
    """
    call: dict[str, Any] = {"args": list(args), "kwargs": kwargs, "func": func, "version": version}
    if retry is not None:
        call["retry"] = retry
    if encoder is not None:
        data, headers = encode_with(encoder, call, f"call of {func}")
        if data is None:
            name = type(encoder).__name__
            raise EncodeError(name, "None", f"call of {func}: {name} keeps nothing of it, so no worker could run it")
        return data, headers
    what = f"args of {func}"
    if is_plain(call["args"]) and (not kwargs or is_plain(kwargs)):
        return pack(dumps(call, what)), None
    call["args"], args_node = split(call["args"], what)
    call["kwargs"], kwargs_node = split(dict(kwargs), f"kwargs of {func}")
    nodes = {"args": args_node, "kwargs": kwargs_node}
    tree = ["dict", {key: node for key, node in nodes.items() if node is not None}]
    return pack(dumps(call, what)), header(tree, what)


def decode_call(
    data: str | None, headers: Mapping[str, str] | None, encoder: Encoder[Any, str | None] | None = None
) -> Invocation:
    """The invocation of a payload.

    Raises:
        DecodeError: it is none; says what is wrong with it.
    """
    call = decode(data, headers, what="the invocation", encoder=encoder)
    if not isinstance(call, dict) or not isinstance(call.get("func"), str):
        raise DecodeError('the invocation must be an object with a text "func": this promise names no function to run')
    args = call.get("args")
    if args is None:
        args = ()
    elif not isinstance(args, list | tuple):
        raise DecodeError(f'the invocation of {call["func"]}: "args" must be an array, got {type(args).__name__}')
    kwargs = call.get("kwargs")
    if kwargs is None:
        kwargs = {}
    elif not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise DecodeError(f'the invocation of {call["func"]}: "kwargs" must be an object, got {type(kwargs).__name__}')
    retry = call.get("retry")
    return Invocation(
        call["func"],
        tuple(args),
        kwargs,
        _version(call),
        retry if isinstance(retry, dict) else None,
        encoder is not None or bool(headers and HEADER in headers),
    )


def retype(call: Invocation, signature: Signature) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a recorded call as the function's annotations have them.

    Raises:
        DecodeError: data of another writer does not fit a class that an annotation names.
    """
    if not signature.annotated:
        return call.args, call.kwargs
    args = call.args
    for at, (value, annotation) in enumerate(zip(args, signature.positional(len(args)), strict=False)):
        if annotation is not Any and type(value) is not annotation:
            typed = _retyped(call, signature.parameter(at), value, annotation)
            if typed is not value:
                args = (*args[:at], typed, *args[at + 1 :])
    if not call.kwargs:
        return args, call.kwargs
    return args, {name: _retyped(call, name, value, signature.annotation(name)) for name, value in call.kwargs.items()}


def _retyped(call: Invocation, name: str, value: Any, annotation: Any) -> Any:
    if annotation is Any:
        return value
    try:
        if call.typed or not isinstance(value, list | dict):
            return fit(value, annotation)
        return parse(dumps(value, name), annotation, name)  # from JSON: keys of any type are text there
    except Mismatch as error:
        if call.typed or is_native(annotation):
            return value
        raise DecodeError(f"argument {name} of {call.func} does not fit {shown(annotation)}: {error}") from error


def _version(call: Mapping[str, Any]) -> int:
    version = call.get("version", 1)
    if isinstance(version, float) and version.is_integer():
        version = int(version)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise DecodeError(f'the invocation of {call["func"]}: "version" must be a number from 1, got {version!r}')
    return version
