"""Every error of the client, as one tree.

    Exception
    ├─ ResonateError                 .mesg .code .details
    │  ├─ ResonateStoreError         the promise store refused, or is out of reach
    │  │  ├─ StorageUnavailable      nothing was written: try again
    │  │  ├─ OutcomeUnknown          perhaps written: read before you try again
    │  │  └─ StorageUnusable         damaged, deleted or not writable: mend it first
    │  ├─ ResonateCanceledError      the promise was cancelled
    │  ├─ ResonateTimedoutError      the promise passed its deadline
    │  ├─ ResonateShutdownError      the client was stopped while somebody waited
    │  ├─ UsageError                 fix the program
    │  │  ├─ UnfitArguments          (also TypeError) a call that does not fit its function, a wrong type
    │  │  ├─ UnfitValue              (also ValueError) a function or value that a call cannot be made with
    │  │  ├─ FunctionNotFound        (also ValueError)
    │  │  ├─ InvalidId               (also ValueError)
    │  │  ├─ IdConflict              one id, two different calls
    │  │  ├─ NotACommand             (also TypeError) a yield of something else
    │  │  ├─ ForgottenCommand        a call that was made and never yielded or awaited
    │  │  ├─ InsideEventLoop         (also RuntimeError) a blocking call on the client's loop
    │  │  ├─ EncodeError             (also TypeError) a value that cannot be stored
    │  │  ├─ CapacityError           a bound of this client is reached
    │  │  ├─ TransactionTooLong      a step of ctx.transaction held up all others
    │  │  ├─ ForkedClient            (also RuntimeError)
    │  │  ├─ ClientStopped           (also RuntimeError)
    │  │  └─ NotSupported            not offered by this kind of store
    │  ├─ DecodeError                (also ValueError) stored data that cannot be read
    │  ├─ NonDeterminismError        a replay asked for something other than is recorded
    │  ├─ ExecutionHalted            the execution was stopped for good, until it is resumed
    │  └─ IdTooLong                  calls nested so deep that the id does not fit
    └─ RemoteError                   stands for an exception whose class is not known here
    BaseException
    └─ ExecutionStopped              raised in user code whose execution is closed

Each says what happened, to which id, and what to do next. The first five print their code
in front, `[100.40400] ...`, as programs have long parsed it; the others are text alone.
All can be pickled and copied without running their constructors again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

_ANY_ERROR: Final = "Error"
"""The class of errors that have none, such as reasons that people give."""

_SHOWN: Final = 80
"""Characters of a value that are shown in a message."""


class ResonateError(Exception):
    """Base of all errors of the client.

    Args:
        mesg: what happened and what to do.
        code: a number for programs, `CCC.CCCCC`; 100 store, 200 cancelled, 201 timed out, 300 shut down.
        details: further facts, JSON-like; printed below the message.
    """

    def __init__(self, mesg: str, code: float, details: Any = None) -> None:
        super().__init__(mesg)
        self.mesg = mesg
        self.code = float(code)
        self.details = details

    def __str__(self) -> str:
        return f"[{self.code:09.5f}] {self.mesg}{_details_text(self.details)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)


class ResonateStoreError(ResonateError):
    """The promise store refused a request or cannot be reached.

    Args:
        mesg: what the store said.
        code: the store's own code, 40400 for example; `.code` is then 100.404.
        details: further facts.
    """

    def __init__(self, mesg: str, code: int | float, details: Any = None) -> None:
        super().__init__(mesg, float(f"100.{int(code)}"), details)


class StorageUnavailable(ResonateStoreError):
    """The storage did not take the batch: nothing was written, running it again is safe."""

    def __init__(self, mesg: str) -> None:
        super().__init__(mesg, 0)


class OutcomeUnknown(ResonateStoreError):
    """The answer to a write was lost: it may have happened. Read before deciding."""

    def __init__(self, mesg: str) -> None:
        super().__init__(mesg, 0)


class StorageUnusable(ResonateStoreError):
    """The storage is damaged, deleted or cannot be written: nothing works until somebody has mended it."""

    def __init__(self, mesg: str) -> None:
        super().__init__(mesg, 0)


class ResonateCanceledError(ResonateError):
    """The promise was cancelled."""

    def __init__(self, promise_id: str) -> None:
        super().__init__(f"promise {promise_id!r} was cancelled", 200)
        self.promise_id = promise_id


class ResonateTimedoutError(ResonateError):
    """The promise passed its deadline.

    Args:
        promise_id: the promise.
        timeout: its deadline, seconds since the epoch.
    """

    def __init__(self, promise_id: str, timeout: float) -> None:
        super().__init__(
            f"promise {promise_id!r} timed out: its deadline was {_instant(timeout)}. "
            "Allow more time with options(timeout=<seconds>)",
            201,
        )
        self.promise_id = promise_id
        self.timeout = timeout


class ResonateShutdownError(ResonateError):
    """The client was stopped while somebody waited; the execution itself is not lost."""

    def __init__(self, mesg: str) -> None:
        super().__init__(mesg, 300)


class _PlainText(ResonateError):
    """Errors that print their text without a code."""

    number = 400.0

    def __init__(self, mesg: str) -> None:
        super().__init__(mesg, self.number)

    def __str__(self) -> str:
        return self.mesg


class UsageError(_PlainText):
    """The program asked for something that cannot be; nothing was changed."""


class UnfitArguments(UsageError, TypeError):
    """A call that cannot be made as it is written: arguments that its function does not take, or of a wrong type."""


class UnfitValue(UsageError, ValueError):
    """A call that cannot be made as it is written: with what is no function, or with a value that cannot be."""


class FunctionNotFound(UsageError, ValueError):
    """A function is not registered on this client.

    Args:
        name: the function asked for.
        version: the version asked for; 0 for any.
        known: what is registered, as text.
    """

    def __init__(self, name: str, version: int, known: tuple[str, ...] = ()) -> None:
        which = f"{name} version {version}" if version > 0 else name
        super().__init__(
            f"function {which} not found in registry (registered here: {', '.join(known) or 'none'}). "
            "Register it before the first call, or send the call to a group that has it: "
            "rpc with options(target='<group>')"
        )
        self.name = name
        self.version = version
        self.known = tuple(known)


class InvalidId(UsageError, ValueError):
    """An id that no promise can have."""

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"{_shown(id)} cannot be the id of a promise: {reason}")
        self.id = id
        self.reason = reason


class IdConflict(UsageError):
    """An id is in use for a different call.

    Args:
        id: the id.
        recorded: the call it stands for, as short text.
        asked: the call that was made now, as short text.
    """

    def __init__(self, id: str, recorded: str, asked: str) -> None:
        super().__init__(
            f"id {id!r} stands for another call.\n  recorded: {recorded}\n  asked:    {asked}\n"
            "Use another id for a new call. If only the arguments differ and that is meant, "
            "name the same idempotency key in both calls or set options(check_args=False)"
        )
        self.id = id
        self.recorded = recorded
        self.asked = asked


class NotACommand(UsageError, TypeError):
    """A durable function yielded something that is no durable call.

    Args:
        value: what was yielded; only a short text of it is kept.
        where: `file:line` of the yield.
    """

    def __init__(self, value: object, where: str) -> None:
        super().__init__(
            f"{where} yields {_shown(value)} ({_type_name(value)}), which is no durable call. Yield ctx.run(...), "
            "ctx.begin_run(...), ctx.rpc(...), ctx.begin_rpc(...), ctx.detached(...), ctx.sleep(...), "
            "ctx.promise(...) or a Promise; use `yield from` for a helper generator"
        )
        self.where = where


class ForgottenCommand(UsageError):
    """A durable call was made and never yielded or awaited: it has not happened, or nobody has its value.

    Args:
        what: the call, as text.
        where: `file:line` where it was made.
        begun: whether it was begun all the same.
    """

    def __init__(self, what: str, where: str, begun: bool = False) -> None:
        super().__init__(
            f"{what} at {where} was begun, but never yielded or awaited for its value, and only that can be a result. "
            "Write `return (yield p)` in a generator function, `return await p` in an async function"
            if begun
            else f"{what} at {where} was made but never yielded or awaited, so it did not run. "
            "Write `x = yield ...` in a generator function, `x = await ...` in an async function"
        )
        self.what = what
        self.where = where


class InsideEventLoop(UsageError, RuntimeError):
    """A blocking method was called on the event loop that the client runs its functions on.

    Args:
        method: what was called, `Resonate.run` for example.
        instead: what to write instead.
    """

    def __init__(self, method: str, instead: str) -> None:
        super().__init__(f"{method} would block the event loop it is called from. Write `{instead}` instead")
        self.method = method
        self.instead = instead


class EncodeError(UsageError, TypeError):
    """A value cannot be stored so that it can be read again.

    Args:
        path: the place inside of the value, `result["items"][3]`.
        type_name: the type found there.
        what: what was to be stored, and if known why it cannot be.
    """

    def __init__(self, path: str, type_name: str, what: str) -> None:
        super().__init__(
            f"{path}: {type_name} cannot be stored ({what}). Use JSON values, dataclasses, msgspec or pydantic "
            "models, enums, dates, bytes, sets and tuples, or set options(encoder=...)"
        )
        self.path = path
        self.type_name = type_name
        self.what = what


class CapacityError(UsageError):
    """A bound of this client is reached; nothing was started."""


class TransactionTooLong(UsageError):
    """A step of `ctx.transaction` held the storage's write lock for too long; nothing of it was kept.

    Args:
        path: the file.
        seconds: how long it may take: half of a lease.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(
            f"a transaction held the write lock of {path} for more than {seconds:g} s, half of a lease (ttl), while "
            "nobody else could write; nothing of it was kept. Do what is slow in a step before it, or write less"
        )
        self.path, self.seconds = path, seconds


class ForkedClient(UsageError, RuntimeError):
    """The client was made before `fork`: its threads and connections stayed in the parent."""


class ClientStopped(UsageError, RuntimeError):
    """The client was stopped, or its event loop is closed; make a new one."""


class NotSupported(UsageError):
    """The store in use does not offer this; nothing was changed."""


class DecodeError(_PlainText, ValueError):
    """Stored data cannot be read; what is stored stays as it is."""

    number = 500.0


class NonDeterminismError(_PlainText):
    """A replay asked for something other than what is recorded under the same id.

    Args:
        id: the id both claim.
        recorded: what the record says, with its `file:line`.
        asked: what the code asks for now, with its `file:line`.
    """

    number = 501.0

    def __init__(self, id: str, recorded: str, asked: str) -> None:
        super().__init__(
            f"the code no longer does what is recorded under {id!r}.\n  recorded: {recorded}\n  asked:    {asked}\n"
            "A durable function must make the same calls in the same order each time it runs: keep time, "
            "randomness and I/O in steps (ctx.run, ctx.time, ctx.random), and register changed code as a new "
            "version. The execution is halted; with code that agrees, r.get(ID).resume() lets it go on"
        )
        self.id = id
        self.recorded = recorded
        self.asked = asked


class ExecutionHalted(_PlainText):
    """The execution was halted: it neither goes on nor ends until somebody resumes it.

    Args:
        id: the execution.
        reason: why, as recorded.
    """

    number = 502.0

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"execution {id!r} is halted: {reason}. Mend the cause, then r.get({id!r}).resume()")
        self.id = id
        self.reason = reason


class IdTooLong(_PlainText):
    """The id of a call does not fit: calls are nested too deep, or a name is too long.

    Args:
        id: the id; only its beginning is printed.
        depth: how many levels of calls it counts.
    """

    number = 503.0

    def __init__(self, id: str, depth: int) -> None:
        super().__init__(
            f"the id of a call has {len(id.encode(errors='replace')):,} bytes at depth {depth}, "
            f"more than fit: {_shown(id)}. "
            "Recurse less deep, or start a fresh tree with ctx.detached(...)"
        )
        self.id = id
        self.depth = depth


class RemoteError(Exception):
    """Stands for an exception whose class is not known here, or cannot be rebuilt safely.

    Args:
        type_name: the name of the original class.
        message: its text; the text of this one has the name before it, unless that is just "Error".
        traceback_text: the original traceback, "" if unknown.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        if self.type_name == _ANY_ERROR:
            return self.message
        return f"{self.type_name}: {self.message}" if self.message else self.type_name

    def __repr__(self) -> str:
        return f"RemoteError({self.type_name!r}, {self.message!r})"


class ExecutionStopped(BaseException):
    """Raised in user code whose execution is closed here: let it pass.

    Not an `Exception`, so that `except Exception:` does not stop it on its way.

    Args:
        reason: why the execution is closed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"this execution stops here: {self.reason}. Nothing it does from now on is recorded. If you see this "
            "in an `except:` or `except BaseException:` of your own, re-raise it; `finally` blocks run, but durable "
            "calls in them do not"
        )


def _restore(cls: type[ResonateError], args: tuple[Any, ...], state: dict[str, Any]) -> ResonateError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _details_text(details: Any) -> str:
    if not details:
        return ""
    try:
        return "\n" + json.dumps(details, indent=2, default=str)
    except (TypeError, ValueError):
        return f"\n{details}"


def _instant(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after the epoch"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"<{_type_name(value)}>"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
