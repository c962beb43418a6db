"""The wire form: JSON envelopes to records and back, for both ends of a connection.

Sections 1 to 3 of protocol 2026-04-01, exactly: which keys, absent instead of null,
integers without fraction in 64 bits, and what a bad request gets, in that order of checks
(2.3). A server calls `answer` (or its two halves, `decode` and `encode`); a client calls
`encode_request` and `decode_response`; both ends share the messages. Pure: bytes in, bytes
out. No rule about rows or values lives here (`machine`, `validation`), only shapes.

Two head keys are ours; other servers and clients ignore them (2.1). `resonate:preload`, false,
asks for an answer without preload: a fence's would show the whole branch for each step. The
answer to such an acquisition names in `resonate:resumed` what woke the task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from resonate.protocol import shapes
from resonate.protocol.listing import Fault, Holder, Load
from resonate.protocol.records import Execute, Message, Promise, Schedule, Task, Unblock
from resonate.protocol.requests import (
    DebugTick,
    PromiseCreate,
    Request,
    Response,
    TaskAcquire,
    TaskCreate,
    TaskFence,
    TaskSuspend,
)
from resonate.protocol.shapes import Int64
from resonate.protocol.validation import check

VERSION: Final = "2026-04-01"

MAX_BATCH: Final = 1_000
"""Requests in one batch at most."""

Authorise = Callable[[str, str | None, dict[str, Any]], int | None]
"""(kind, token of the envelope, data) -> None to let the request pass, else 401 or 403."""

_PRELOADED: Final = (TaskFence, TaskAcquire, TaskSuspend, TaskCreate)
"""Requests whose answers hold a preload, unless their head says that none is wanted."""

_REFUSALS: Final = {401: "Unauthorized", 403: "Forbidden"}
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class WireError(ValueError):
    """What came from the other end is not what the protocol says; the text names the place."""


class Call(Struct, frozen=True, gc=False):
    """A request that passed every check; `now` is its `resonate:debug_time`, None in earnest."""

    kind: str
    corr_id: str
    request: Request
    now: int | None


class Refusal(Struct, frozen=True, gc=False):
    """A request that failed a check: its kind, if it could be read, the status and the whole body of its answer."""

    kind: str
    status: int
    body: bytes


class _Head(Struct, rename="camel", gc=False):
    corr_id: str
    version: str
    auth: str | None = None
    debug_time: Int64 | None = msgspec.field(name="resonate:debug_time", default=None)
    preload: Any = msgspec.field(name="resonate:preload", default=None)


class _Envelope(Struct, gc=False):
    kind: str
    head: _Head
    data: Raw


class _Batch(Struct, gc=False):
    requests: list[Raw]
    chain: bool = False


_batch = msgspec.json.Decoder(_Batch).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_anything = msgspec.json.Decoder(dict[str, Any]).decode
_dump = msgspec.json.Encoder(enc_hook=str.__str__).encode  # a text may be of a subclass of `str`


# The server's end.


def answer(
    body: bytes,
    handle: Callable[[Request, int | None], Response],
    *,
    debug: bool = False,
    strict: bool = False,
    authorise: Authorise | None = None,
) -> tuple[int, bytes]:
    """Answer one request body: every check of 2.3, then `handle`, then the answer's envelope.

    Args:
        body: as it came from the network.
        handle: called with the request and the instant that replaces `now` (None: none does),
            only if all checks passed. What it raises passes through.
        debug: serve `debug.*` and honour `resonate:debug_time`.
        strict: as in `validation.check`.
        authorise: asked in its place among the checks; None lets everybody pass.

    Returns:
        The status (also the HTTP status) and the body of the answer.
    """
    call = decode(body, debug=debug, strict=strict, authorise=authorise)
    if isinstance(call, Refusal):
        return call.status, call.body
    response = handle(call.request, call.now)
    return response.status, encode(call, response)


def decode(
    body: bytes | Raw, *, debug: bool = False, strict: bool = False, authorise: Authorise | None = None
) -> Call | Refusal:
    """Read and check one request body; parameters as in `answer`."""
    try:
        envelope = _envelope(body)
    except _UNREADABLE as problem:
        return _refuse(400, *_echo(body), f"Invalid request envelope: {_explain(problem)}")
    kind, head, data = envelope.kind, envelope.head, envelope.data
    corr_id = head.corr_id
    if not kind:
        return _refuse(400, kind, corr_id, "Invalid request envelope: kind must not be empty")
    if memoryview(data)[0] != ord("{"):
        return _refuse(400, kind, corr_id, "Invalid request envelope: data must be an object")
    if head.version != VERSION:
        text = f"head.version must be {VERSION!r}, got {head.version!r}"
        return _refuse(400, kind, corr_id, f"Invalid request envelope: {text}")
    if authorise is not None and (status := authorise(kind, head.auth, _names(data))) is not None:
        return _refuse(status, kind, corr_id, _REFUSALS[status])
    read = shapes.READERS.get(kind)
    if read is None:
        return _refuse(400, kind, corr_id, f"Unknown operation: {kind!r} is not a kind of request")
    if not debug and kind.startswith("debug."):
        return _refuse(403, kind, corr_id, f"Forbidden: {kind} is served only with debug enabled")
    try:
        request = read(data)
    except _UNREADABLE as problem:
        return _refuse(400, kind, corr_id, f"Invalid request: {_explain(problem, 'data')}")
    now = head.debug_time if debug else None
    error = check(request, strict=strict) or _two_instants(request, now)
    if error is not None:
        return _refuse(400, kind, corr_id, error)
    if head.preload is False and isinstance(request, _PRELOADED):
        request = msgspec.structs.replace(request, preload=False)
    return Call(kind, corr_id, request, now)


def forbid(call: Call) -> Refusal:
    """The answer to a request that reads well and that its sender may not make."""
    return _refuse(403, call.kind, call.corr_id, _REFUSALS[403])


def decode_batch(body: bytes) -> tuple[list[Raw], bool] | Refusal:
    """Read the body of a batch: the bodies of its requests, and whether they are a chain."""
    try:
        batch = _batch(body)
    except _UNREADABLE as problem:
        return _refuse(400, "unknown", "0", f"Invalid batch: {_explain(problem)}")
    if not 1 <= len(batch.requests) <= MAX_BATCH:
        text = f"Invalid batch: requests must hold from 1 to {MAX_BATCH} envelopes, got {len(batch.requests)}"
        return _refuse(400, "unknown", "0", text)
    return batch.requests, batch.chain


def encode_batch(answers: Sequence[bytes]) -> bytes:
    """The whole body of the answer to a batch, from the bodies of its answers."""
    return b'{"responses":[' + b",".join(answers) + b"]}"


def encode(call: Call, response: Response) -> bytes:
    """The whole body of the answer to `call`."""
    if response.error is not None:
        return _reply(call.kind, call.corr_id, response.status, response.error)
    if isinstance(call.request, TaskFence):
        return _reply(call.kind, call.corr_id, response.status, _fence_data(call, call.request, response))
    if response.resumed and isinstance(call.request, TaskAcquire) and not call.request.preload:
        parts = _reply_parts(call.kind, call.corr_id, response.status, shapes.ANSWERS[call.kind](response))
        return _dump({**parts, "head": {**parts["head"], "resonate:resumed": response.resumed}})
    return _reply(call.kind, call.corr_id, response.status, shapes.ANSWERS[call.kind](response))


def _fence_data(call: Call, request: TaskFence, response: Response) -> dict[str, object]:
    inner = response.action
    assert inner is not None, "a fence that passed has an inner answer"
    kind = "promise.create" if isinstance(request.action, PromiseCreate) else "promise.settle"
    data: object = {"promise": inner.promise} if inner.error is None else inner.error
    return {"action": _reply_parts(kind, call.corr_id, inner.status, data), "preload": response.preload}


def _reply(kind: str, corr_id: str, status: int, data: object) -> bytes:
    return _dump(_reply_parts(kind, corr_id, status, data))


def _reply_parts(kind: str, corr_id: str, status: int, data: object) -> dict[str, Any]:
    return {"kind": kind, "head": {"corrId": corr_id, "status": status, "version": VERSION}, "data": data}


def _refuse(status: int, kind: str, corr_id: str, text: str) -> Refusal:
    return Refusal(kind, status, _reply(kind, corr_id, status, text))


def _echo(body: bytes | Raw) -> tuple[str, str]:
    """What can be told of kind and corrId from a body that is no envelope."""
    try:
        envelope = _anything(body)
    except _UNREADABLE:
        return "unknown", "0"
    kind, head = envelope.get("kind"), envelope.get("head")
    corr_id = head.get("corrId") if isinstance(head, dict) else None
    return kind if isinstance(kind, str) else "unknown", corr_id if isinstance(corr_id, str) else "0"


def _names(data: Raw) -> dict[str, Any]:
    """`data` as plain JSON, for the ids in it; what cannot be read names nothing and fails later."""
    try:
        return _anything(data)
    except _UNREADABLE:
        return {}


def _two_instants(request: Request, now: int | None) -> str | None:
    if isinstance(request, DebugTick) and now is not None and now != request.time:
        return f"time must equal head['resonate:debug_time'] ({now}) if that is given, got {request.time}"
    return None


def _explain(problem: BaseException, root: str = "") -> str:
    """msgspec's text with the path from the top of the body instead of the decoded part."""
    if isinstance(problem, RecursionError):
        return "the JSON is nested too deeply"
    text = str(problem).replace(" - at `$", f" at `${'.' + root if root else ''}", 1)
    return f"{text} at `$.{root}`" if root and " at `$" not in text else text


# The client's end.


class _AnswerHead(Struct, rename="camel", gc=False):
    corr_id: str
    status: int
    resumed: list[str] = msgspec.field(name="resonate:resumed", default_factory=list)


class _Answer(Struct, gc=False):
    kind: str
    head: _AnswerHead
    data: Raw


class _InnerHead(Struct, gc=False):
    status: int


class _InnerAnswer(Struct, gc=False):
    head: _InnerHead
    data: Raw


class _Found(Struct, gc=False):
    """`data` of any successful answer."""

    promise: Promise | None = None
    task: Task | None = None
    schedule: Schedule | None = None
    preload: list[Promise] | None = None
    action: _InnerAnswer | None = None
    promises: list[Promise] | None = None
    tasks: list[Task] | None = None
    schedules: list[Schedule] | None = None
    cursor: str | None = None
    counts: dict[str, dict[str, int]] | None = None
    partial: bool = False
    failures: list[Fault] | None = None
    groups: list[Load] | None = None
    holders: list[Holder] | None = None


_answer = msgspec.json.Decoder(_Answer).decode
_found = msgspec.json.Decoder(_Found).decode
_text = msgspec.json.Decoder(str).decode


def encode_request(request: Request, corr_id: str, *, auth: str | None = None, debug_time: int | None = None) -> bytes:
    """The body of a request.

    Args:
        request: what is asked.
        corr_id: comes back in the answer.
        auth: the bare token, without `Bearer `.
        debug_time: ms since the epoch; replaces the clock of a server with debug enabled.
    """
    head: dict[str, object] = {"corrId": corr_id, "version": VERSION}
    if auth is not None:
        head["auth"] = auth
    if debug_time is not None:
        head["resonate:debug_time"] = debug_time
    if isinstance(request, _PRELOADED) and not request.preload:
        head["resonate:preload"] = False
    kind, write = shapes.WRITERS[type(request)]
    return _dump({"kind": kind, "head": head, "data": write(request)})


def decode_response(body: bytes, request: Request, corr_id: str) -> Response:
    """Read the answer to `request`; keys we do not know are ignored.

    Raises:
        WireError: no envelope, or not the answer to this request (other kind or corrId), or
            a record is missing or malformed. What the server did is then unknown.
    """
    kind = shapes.WRITERS[type(request)][0]
    try:
        envelope = _answer(body)
        status = envelope.head.status
        if envelope.kind != kind or envelope.head.corr_id != corr_id:
            sent, came = (kind, corr_id), (envelope.kind, envelope.head.corr_id)
            raise WireError(f"answer of another request: expected kind and corrId {sent}, got {came}")
        if status >= 400:
            return Response(status, error=_error_text(envelope.data))
        return _read_data(kind, status, envelope.data, envelope.head.resumed)
    except _UNREADABLE as problem:
        raise WireError(f"unreadable answer to {kind}: {_explain(problem)}") from None


def _read_data(kind: str, status: int, data: Raw, resumed: list[str]) -> Response:
    if kind == "debug.tick":
        return Response(status)
    if kind == "debug.snap":
        return Response(status, snapshot=_anything(data))
    found = _found(data)
    for name in shapes.REQUIRED.get(kind, ()):
        if getattr(found, name) is None:
            raise WireError(f"answer to {kind} with status {status} lacks data.{name}")
    return Response(
        status,
        promise=found.promise,
        task=found.task,
        schedule=found.schedule,
        preload=found.preload or (),
        action=_read_inner(found.action) if found.action is not None else None,
        resumed=resumed,
        promises=found.promises,
        tasks=found.tasks,
        schedules=found.schedules,
        cursor=found.cursor,
        counts=found.counts,
        partial=found.partial,
        failures=found.failures,
        groups=found.groups,
        holders=found.holders,
    )


def _read_inner(answer: _InnerAnswer) -> Response:
    status = answer.head.status
    if status >= 400:
        return Response(status, error=_error_text(answer.data))
    promise = _found(answer.data).promise
    if promise is None:
        raise WireError(f"inner answer of a fence with status {status} lacks data.promise")
    return Response(status, promise=promise)


def _error_text(data: Raw) -> str:
    """A string by the protocol; whatever else a foreign server sends is shown as it is."""
    try:
        return _text(data)
    except _UNREADABLE:
        return bytes(data).decode(errors="replace")


# Messages.


class _TaskOffer(Struct, gc=False):
    task: Execute


class _News(Struct, gc=False):
    promise: Promise


class _MessageEnvelope(Struct, gc=False):
    kind: str
    data: Raw


_message = msgspec.json.Decoder(_MessageEnvelope).decode
_offer = msgspec.json.Decoder(_TaskOffer).decode
_news = msgspec.json.Decoder(_News).decode


def encode_message(message: Message, server_url: str | None = None) -> bytes:
    """A message as one line of JSON."""
    return _dump(shapes.message_data(message, server_url))


def decode_message(body: bytes | str) -> Message | None:
    """Read a message; None for a kind we do not know.

    Raises:
        WireError: it is no message.
    """
    try:
        envelope = _message(body)
        if envelope.kind == "execute":
            return _offer(envelope.data).task
        if envelope.kind == "unblock":
            return Unblock(_news(envelope.data).promise)
        return None
    except _UNREADABLE as problem:
        raise WireError(f"unreadable message: {_explain(problem)}") from None
