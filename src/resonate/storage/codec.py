"""The part of a row that is never searched for, as one blob of MessagePack.

Fields go by position: a new one is appended, with a default, so that older blobs stay
readable; none is ever moved or taken out.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, msgpack

from resonate.protocol.listing import clip, group_of
from resonate.protocol.records import FULFILLED, Execute, Promise, PromiseState, Schedule, TaskState, Unblock, Value
from resonate.protocol.rows import PromiseRow, Send, TaskRow


class _PromiseBody(Struct, array_like=True, frozen=True, gc=False):
    param: Value
    value: Value
    tags: dict[str, str]
    timeout_at: int
    created_at: int
    settled_at: int | None
    callbacks: tuple[str, ...]
    listeners: tuple[str, ...]


class _TaskBody(Struct, array_like=True, frozen=True, gc=False):
    version: int
    target: str
    pid: str | None
    ttl: int | None
    expires_at: int | None
    retry_at: int | None
    resumes: tuple[str, ...]
    last_pid: str | None
    since: int | None = None


class _SendBody(Struct, array_like=True, frozen=True, gc=False):
    """`version` is an offer's, `promise` a piece of news'."""

    address: str
    prefer: str | None
    version: int | None
    promise: Promise | None


_encode: Final = msgpack.Encoder().encode
_decode_promise: Final = msgpack.Decoder(_PromiseBody).decode
_decode_task: Final = msgpack.Decoder(_TaskBody).decode
_decode_send: Final = msgpack.Decoder(_SendBody).decode
decode_schedule: Final = msgpack.Decoder(Schedule).decode


def encode_promise(row: PromiseRow) -> bytes:
    p = row.promise
    return _encode(
        _PromiseBody(p.param, p.value, p.tags, p.timeout_at, p.created_at, p.settled_at, row.callbacks, row.listeners)
    )


def decode_promise(id: str, state: PromiseState, body: bytes) -> PromiseRow:
    b = _decode_promise(body)
    promise = Promise(id, state, b.param, b.value, b.tags, b.timeout_at, b.created_at, b.settled_at)
    return PromiseRow(promise, b.callbacks, b.listeners)


def encode_task(row: TaskRow) -> bytes:
    return _encode(
        _TaskBody(
            row.version,
            row.target,
            row.pid,
            row.ttl,
            row.expires_at,
            row.retry_at,
            row.resumes,
            row.last_pid,
            row.since,
        )
    )


def group_of_task(row: TaskRow) -> str | None:
    """The group that an open task waits for, as it is listed; None of one that is over."""
    return None if row.state == FULFILLED else clip(group_of(row.target))


def decode_task(id: str, state: TaskState, body: bytes) -> TaskRow:
    b = _decode_task(body)
    return TaskRow(
        id, state, b.version, b.target, b.pid, b.ttl, b.expires_at, b.retry_at, b.resumes, b.last_pid, b.since
    )


def encode_schedule(row: Schedule) -> bytes:
    return _encode(row)


def encode_send(send: Send) -> bytes:
    message = send.message
    if type(message) is Execute:
        return _encode(_SendBody(send.address, send.prefer, message.version, None))
    return _encode(_SendBody(send.address, send.prefer, None, message.promise))  # type: ignore[union-attr]


def decode_send(kind: str, id: str, listener: str, body: bytes) -> Send:
    b = _decode_send(body)
    if b.promise is None:
        return Send((kind, id), b.address, Execute(id, b.version or 0), b.prefer)
    return Send((kind, id, listener), b.address, Unblock(b.promise), b.prefer)
