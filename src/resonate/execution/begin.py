"""How each command begins: its id, its place among the records, what it writes.

One function per command class, all of one shape: `(execution, owner, command) -> call`.
A call that is recorded is compared with its record before anything else; a call whose
record is settled runs no code. Pure like `execution`, of which this is the other half.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from resonate.errors import IdTooLong, InvalidId, NonDeterminismError, ResonateCanceledError, UsageError
from resonate.execution.call import (
    ALL,
    ASYNC,
    CHOICE,
    DETACHED,
    EXTERNAL,
    GENERATOR,
    LATENT,
    REMOTE,
    STEPS,
    TIMER,
    TRANSACTION,
    Call,
)
from resonate.execution.commands import (
    LFC,
    LFI,
    RFC,
    RFI,
    Choice,
    Command,
    Detached,
    Latent,
    LocalCommand,
    Mapped,
    Promise,
    RemoteCommand,
    Sleep,
    Transacted,
)
from resonate.execution.coroutine import Returned
from resonate.execution.records import CALL_TAG, KEY_TAG, TRACE_TAG, agree, describe, identity
from resonate.options import Options
from resonate.protocol.records import EMPTY, PENDING, RESOLVED, TARGET, Value
from resonate.protocol.records import EXTERNAL as EXTERNAL_TAG
from resonate.protocol.records import Promise as Record
from resonate.protocol.requests import PromiseSettle

if TYPE_CHECKING:
    from resonate.execution.execution import Execution

ID_LIMIT: Final = 2048
"""Bytes of an id (design 7, "Limits")."""

_NO_OPTIONS: Final = Options()


def local(ex: Execution, owner: Call, command: LocalCommand) -> Call:
    """A function that runs in this process."""
    options = command.opts
    id = command.id
    signature = command.signature
    kind = TRANSACTION if type(command) is Transacted else signature.kind
    text = identity(kind, command.version, command.digest, command.name, command.where)
    known = ex.calls.get(id)
    if known is not None:
        return _same(known, owner, text, options.check_args)
    timeout = options.timeout
    deadline = owner.deadline
    if timeout is not None:
        deadline = min(deadline, ex.now() + int(timeout * 1000))
    call = Call(id, owner, kind, deadline, options, command.func, command.args, command.kwargs)
    call.returns = signature.returns
    if deadline < owner.deadline:
        ex.timed.append(call)
    call.name = command.name
    call.version = command.version
    call.hands_over = type(command) is Mapped
    if kind not in STEPS:
        call.prefix = id + "."
    _enter(ex, owner, call, text)
    record = ex.records.by_id.get(id) if ex.records is not None else None
    if not options.durable:
        owner.begun -= 1
    elif record is None:
        tags = ex.tags(owner, id, "local")
        tags[CALL_TAG] = text
        ex.create(call, {**options.tags, **tags} if options.tags else tags, EMPTY)
    elif _recorded(record, call):
        return call
    owner.open += 1
    if ex.records is not None:
        ex._start(call)
    elif call.kind == ASYNC:
        ex.starting.append(call)
    else:
        ex.ready.append(call)
    return call


def remote(ex: Execution, owner: Call, command: RemoteCommand) -> Call:
    """A function that a worker of some group runs."""
    options = command.opts
    kind = DETACHED if command.detached else REMOTE
    text = identity(kind, command.version, command.digest, command.name, command.where)
    known = ex.calls.get(command.id)
    if known is not None:
        return _same(known, owner, text, options.check_args)
    timeout = options.timeout
    if command.detached:
        deadline = ex.now() + int((Options.TIMEOUT if timeout is None else timeout) * 1000)
    else:
        deadline = owner.deadline if timeout is None else min(owner.deadline, ex.now() + int(timeout * 1000))
    call = Call(command.id, owner, kind, deadline, options)
    call.returns = command.returns
    call.name = command.name
    call.attached = not command.detached
    tags = ex.tags(owner, command.id, "global")
    tags[TARGET] = command.target
    if ex.trace is not None:
        tags[TRACE_TAG] = ex.trace
    return _outside(ex, owner, call, text, tags, Value(command.headers, command.data))


def sleep(ex: Execution, owner: Call, command: Sleep) -> Call:
    """A timer: a promise that its deadline resolves."""
    text = identity(TIMER, 1, "", f"{command.seconds:g}s", command.where)
    known = ex.calls.get(command.id)
    if known is not None:
        return _same(known, owner, text, True)
    until = ex.now() + int(command.seconds * 1000) if command.seconds > 0 else 0
    call = Call(command.id, owner, TIMER, min(until, owner.deadline), command.opts)
    if command.seconds <= 0:
        call.outcome = Returned(None)
        call.done = True
        _enter(ex, owner, call, text)
        owner.begun -= 1
        record = ex.records.by_id.get(call.id) if ex.records is not None else None
        if record is not None:  # no sleep of no length ever wrote one
            _check(record, call, check_args=True)
        return call
    tags = ex.tags(owner, command.id, "global")
    ex.tag_timer(tags)
    return _outside(ex, owner, call, text, tags, EMPTY)


def latent(ex: Execution, owner: Call, command: Latent) -> Call:
    """A bare promise for somebody outside to settle."""
    options = command.opts
    text = identity(LATENT, 1, command.digest, "promise", command.where)
    known = ex.calls.get(command.id)
    if known is not None:
        return _same(known, owner, text, options.check_args)
    timeout = options.timeout
    deadline = owner.deadline if timeout is None else min(owner.deadline, ex.now() + int(timeout * 1000))
    call = Call(command.id, owner, LATENT, deadline, options)
    tags = ex.tags(owner, command.id, "global")
    tags[EXTERNAL_TAG] = "true"
    return _outside(ex, owner, call, text, tags, Value(command.headers, command.data))


def choice(ex: Execution, owner: Call, command: Choice) -> Call:
    """All of several calls, or the first of them; which one it was is recorded."""
    members = [member(ex, owner, m) for m in command.members]
    mode = command.mode
    text = identity(mode, 1, str(len(members)), mode, command.where)
    known = ex.calls.get(command.id)
    if known is not None:
        return _same(known, owner, text, True)
    call = Call(command.id, owner, CHOICE, owner.deadline, command.opts)
    call.members = members
    call.name = mode
    _enter(ex, owner, call, text)
    record = ex.records.by_id.get(call.id) if ex.records is not None else None
    owner.open += 1
    if record is None:
        tags = ex.tags(owner, call.id, "local")
        tags[CALL_TAG] = text
        ex.create(call, tags, EMPTY)
    else:
        _check(record, call, check_args=True)
        if record.state == RESOLVED:
            _replay_choice(ex, call, record)
            return call
    waiting = [m for m in members if not m.done]
    for m in members:
        if m.done and not call.done:
            member_done(ex, call, m)
    if not call.done:
        for m in waiting:
            ex.attend(call, m)
        if not members:
            _choose(ex, call, ALL)
    return call


def member(ex: Execution, owner: Call, item: Command | Promise[Any]) -> Call:
    """A member of a choice: begun now, unless it has been begun before."""
    owner.loose = without(owner.loose, item)
    handler = HANDLERS.get(type(item))
    if handler is None:
        raise UsageError(f"all, race and map take durable calls, got {item!r}: write ctx.run(f, ...) or a Promise")
    return handler(ex, owner, item)


def forgotten(call: Call) -> list[Command]:
    """The commands that the function has made and not yielded."""
    loose = call.loose
    if loose is None:
        return []
    return list(loose.values()) if type(loose) is dict else [loose]


def loosely(loose: Any, command: Command) -> Any:
    """The commands made and not yielded, and one more; a single one stands for itself."""
    if type(loose) is not dict:
        loose = {id(loose): loose}
    loose[id(command)] = command
    return loose


def without(loose: Any, item: Any) -> Any:
    """The commands made and not yielded, less one of them."""
    if loose is item or loose is None:
        return None
    if type(loose) is dict:
        loose.pop(id(item), None)
        return loose or None
    return loose


def begun(ex: Execution, owner: Call, promise: Promise[Any]) -> Call:
    """A promise begun earlier, or one whose id was passed in from elsewhere."""
    call = ex.calls.get(promise.id)
    if call is None:
        call = Call(promise.id, owner, LATENT, owner.deadline, _NO_OPTIONS)
        call.attached = False
        ex.calls[call.id] = ex.remote[call.id] = call
    return call


def member_done(ex: Execution, call: Call, child: Call) -> None:
    """A member of the choice `call` is done; decide, if that decides it."""
    assert call.members is not None
    if call.done:
        return
    if call.count:  # replayed: the decision is known, its member has now been learnt
        if all(m.done for m in _deciding(call)):
            call.winner = call.count - 2
            ex._finish(call)
        return
    if call.name != "all" or child.failed:
        _choose(ex, call, call.members.index(child))
    elif all(m.done for m in call.members):
        _choose(ex, call, ALL)


def _choose(ex: Execution, call: Call, winner: int) -> None:
    data = base64.b64encode(b"%d" % winner).decode()
    ex._write(PromiseSettle(call.id, "resolved", Value(None, data)))
    call.winner = winner
    ex._finish(call)


def _replay_choice(ex: Execution, call: Call, record: Record) -> None:
    call.count = int(base64.b64decode(record.value.data or "")) + 2
    waiting = [m for m in _deciding(call) if not m.done]
    if not waiting:
        call.winner = call.count - 2
        ex._finish(call)
    for m in waiting:
        ex.attend(call, m)


def _deciding(call: Call) -> list[Call]:
    assert call.members is not None
    winner = call.count - 2
    return call.members if winner == ALL else [call.members[winner]]


def allowed_when_stopped(call: Call, item: Any) -> bool:
    """A cancelled function may still begin detached calls: that is durable compensation."""
    return type(item) is Detached and isinstance(call.stop, ResonateCanceledError)


def place(call: Call) -> str:
    """Where the code of a generator stands, `file:line` of the innermost frame."""
    code = call.code
    while getattr(code, "gi_yieldfrom", None) is not None and hasattr(code.gi_yieldfrom, "gi_frame"):
        code = code.gi_yieldfrom
    frame = getattr(code, "gi_frame", None)
    if frame is None:
        return call.name or call.id
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


def check_record(record: Record, asked: dict[str, str], call: Call) -> None:
    """Compare what is recorded under an id with what was asked for.

    Raises:
        NonDeterminismError: another kind, function, version or arguments.
    """
    if record.tags is not asked:
        _check(record, call, call.options.check_args)


def _outside(ex: Execution, owner: Call, call: Call, text: str, tags: dict[str, str], param: Value) -> Call:
    options = call.options
    key = {KEY_TAG: options.key_for(call.id)} if options.idempotency_key is not None else None
    _enter(ex, owner, call, text)
    if call.attached:
        owner.open += 1
    tags[CALL_TAG] = text
    record = ex.records.by_id.get(call.id) if ex.records is not None else None
    if record is not None and _recorded(record, call):
        if call.attached:
            owner.open -= 1
        return call
    ex.remote[call.id] = call
    if record is None:
        ex.create(call, {**(options.tags or {}), **tags, **(key or {})} if options.tags or key else tags, param)
    return call


def _enter(ex: Execution, owner: Call, call: Call, text: str) -> None:
    id = call.id
    if len(id) * 4 > ID_LIMIT and len(id.encode()) > ID_LIMIT:
        raise IdTooLong(id, id.count(".") + 1)
    if not id or "\0" in id:
        raise InvalidId(id, "an id is not empty and holds no NUL")
    if id == ex.id or id == ex.origin or id == ex.parent:
        raise _of_ancestor(id)
    call.identity = text
    ex.calls[id] = call
    owner.begun += 1
    if ex.unwritten:
        ex.pressing = True


def _same(call: Call, owner: Call, text: str, check_args: bool) -> Call:
    """Two calls of one id in an execution are one call; the second must ask for the same."""
    above: Call | None = owner
    while above is not None:
        if above is call:
            raise _of_ancestor(call.id)
        above = above.owner
    if not agree(call.identity, text, check_args):
        raise UsageError(
            f"id {call.id!r} is used twice in one execution: first by {describe(call.identity)}, "
            f"now by {describe(text)}. Give one of them another id: .options(id=...)."
        )
    return call


def _of_ancestor(id: str) -> UsageError:
    return UsageError(
        f"id {id!r} is that of a function which waits for this very call. Give the call another id: .options(id=...)."
    )


def _recorded(record: Record, call: Call) -> bool:
    """Whether the record settles `call`, after checking that it is the record of this call."""
    _check(record, call, call.options.check_args)
    if record.state == PENDING:
        return False
    call.record = record
    call.done = True
    return True


def _check(record: Record, call: Call, check_args: bool) -> None:
    recorded = record.tags.get(CALL_TAG)
    # A call to other workers that names no version means the newest one known where it was first made. That a newer
    # one has been registered since changes nothing: it goes on with the version that is recorded.
    open_version = call.kind in (REMOTE, DETACHED) and not call.options.version
    if not agree(recorded, call.identity, check_args, open_version):
        assert recorded is not None
        raise NonDeterminismError(record.id, describe(recorded), describe(call.identity))


HANDLERS: Final[dict[type, Callable[[Any, Call, Any], Call]]] = {
    LFC: local,
    Mapped: local,
    Transacted: local,
    LFI: local,
    RFC: remote,
    RFI: remote,
    Detached: remote,
    Sleep: sleep,
    Latent: latent,
    Choice: choice,
    Promise: begun,
}

GIVES_PROMISE: Final = frozenset((LFI, RFI, Detached, Latent))
"""Commands that give a `Promise` at once instead of the value."""

__all__ = [
    "EXTERNAL",
    "GENERATOR",
    "GIVES_PROMISE",
    "HANDLERS",
    "allowed_when_stopped",
    "check_record",
    "member_done",
    "place",
]
