"""What a promise and its task say, as a `Call`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from resonate.errors import DecodeError
from resonate.execution.attempts import RAN, Failed, Ran, read_ran
from resonate.execution.records import CALL_TAG, HALT_TAG, RETRY_TAG, split
from resonate.inspection.views import Attempt, Call, Failure, State
from resonate.protocol.addresses import parse
from resonate.protocol.records import (
    ACQUIRED,
    CANCELED,
    FULFILLED,
    HALTED,
    ORIGIN,
    PARENT,
    PENDING,
    RESOLVED,
    SUSPENDED,
    TARGET,
    TIMEDOUT,
    TIMER,
    Promise,
    Task,
    Value,
)
from resonate.values.payload import unpack

_ENDED: Final[dict[str, State]] = {RESOLVED: "succeeded", CANCELED: "cancelled", TIMEDOUT: "timed out"}
_AT_WORK: Final[dict[str, State]] = {ACQUIRED: "running", SUSPENDED: "waiting", HALTED: "halted"}


def is_root(promise: Promise) -> bool:
    """Whether a tree of calls begins with it: it has a function of its own and nobody above it."""
    tags = promise.tags
    return TARGET in tags and tags.get(PARENT, promise.id) == promise.id and tags.get(ORIGIN, promise.id) == promise.id


def is_note(promise: Promise) -> bool:
    """Whether it is no call but something noted beside one."""
    tags = promise.tags
    return HALT_TAG in tags or (CALL_TAG not in tags and any(name.startswith("resonate:py:seen") for name in tags))


def call_of(promise: Promise, task: Task | None = None) -> Call:
    """What is recorded of one call.

    Args:
        promise: as a service shows it.
        task: its task, if it has one and that is known.
    """
    kind, name, version, place = _identity(promise)
    call = Call(
        id=promise.id,
        kind=kind,
        name=name,
        version=version,
        place=place,
        state=_state(promise, task),
        created_at=promise.created_at,
        settled_at=promise.settled_at,
        deadline=promise.timeout_at,
        group=group_of(promise),
        input=_plain(promise.param),
        tags=promise.tags,
    )
    if task is not None and task.state == ACQUIRED:
        call = replace(call, worker=task.pid, lease_ms=task.ttl, task_version=task.version)
    if promise.state == RESOLVED:
        call = replace(call, output=_plain(promise.value))
    elif promise.state != PENDING:
        call = replace(call, error=_failure(promise))
    told = told_by(promise)
    return call if told is None else with_attempts(call, [told])


def told_by(promise: Promise) -> Ran | None:
    """What the value of a call says of its attempts."""
    headers = promise.value.headers
    text = headers.get(RAN) if headers else None
    return None if text is None else read_ran(text)


def told_beside(promise: Promise) -> Ran | None:
    """What a timer or note between two attempts of its parent says of them."""
    text = promise.tags.get(RAN)
    return None if text is None else read_ran(text)


def with_attempts(call: Call, told: Iterable[Ran]) -> Call:
    """`call` with its attempts, from all that is recorded of them.

    Args:
        call: as its promise and task say.
        told: by its promise, and by the timers and notes between two attempts.
    """
    known: dict[int, tuple[Failed, str]] = {}
    last: Ran | None = None
    for ran in told:
        known.update((failed.number, (failed, ran.worker)) for failed in ran.failed)
        if last is None or (ran.started_at or 0) >= (last.started_at or 0):
            last = ran
    attempts = [
        Attempt(
            number=number,
            started_at=failed.started_at,
            ended_at=failed.ended_at,
            worker=worker or None,
            error=Failure(failed.type, failed.text),
            again_at=failed.again_at,
        )
        for number, (failed, worker) in sorted(known.items())
    ]
    worker = call.worker or (last.worker if last is not None else "") or None
    again_at = None
    if call.settled and last is not None:
        number = attempts[-1].number + 1 if attempts else 1
        final = Attempt(
            number=number, started_at=last.started_at, ended_at=call.settled_at, worker=worker, error=call.error
        )
        attempts.append(final)
    elif attempts:
        again_at = attempts[-1].again_at
    started = [each.started_at for each in attempts if each.started_at is not None]
    return replace(
        call,
        worker=worker,
        attempts=tuple(attempts),
        again_at=again_at,
        started_at=min(started, default=call.started_at),
    )


def group_of(promise: Promise) -> str | None:
    """The group whose workers are to run it; the address itself where it names none."""
    target = promise.tags.get(TARGET)
    if target is None or TIMER in promise.tags:
        return None
    found = parse(target)
    return target if found is None or not found.group else found.group


def _state(promise: Promise, task: Task | None) -> State:
    if promise.state != PENDING:
        return _ENDED.get(promise.state, "failed")
    if TIMER in promise.tags:  # some have a task all the same, which nobody takes up
        return "waiting"
    if task is None or task.state == FULFILLED:
        return "queued" if TARGET in promise.tags else "pending"
    return _AT_WORK.get(task.state, "queued")


def _identity(promise: Promise) -> tuple[str, str, int, str]:
    """Kind, name, version and place of a call, from the tag of ours, else from what others write too."""
    tags = promise.tags
    if RETRY_TAG in tags:
        return "retry", "", 1, ""
    name, version = _called(promise)
    if CALL_TAG in tags:
        kind, asked, _, known, place = split(tags[CALL_TAG])
        return kind, known or name, int(asked or 0) or version, "" if place == "-" else place
    if TIMER in tags:
        return "sleep", "", 1, ""
    if TARGET in tags:
        return ("root" if is_root(promise) else "rpc"), name, version, ""
    return ("run" if name else "promise"), name, version, ""


def _called(promise: Promise) -> tuple[str, int]:
    """Function and version that the param of a call names."""
    found = _plain(promise.param)
    if not isinstance(found, dict) or not isinstance(found.get("func"), str):
        return "", 1
    version = found.get("version")
    return found["func"], version if isinstance(version, int) and version > 0 else 1


def _plain(value: Value) -> Any:
    """A payload as plain JSON, its text where it is no JSON, None where it cannot be read."""
    if not value.data:
        return None
    try:
        text = unpack(value.data, "").decode()
    except (DecodeError, UnicodeDecodeError):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _failure(promise: Promise) -> Failure:
    found = _plain(promise.value)
    if isinstance(found, dict) and isinstance(found.get("message"), str):
        name, stack = found.get("name"), found.get("stack")
        return Failure(
            name if isinstance(name, str) else "Error", found["message"], stack if isinstance(stack, str) else ""
        )
    if promise.state == CANCELED:
        return Failure("Cancelled", "")
    if promise.state == TIMEDOUT:
        return Failure("TimedOut", "")
    return Failure("Error", "" if found is None else found if isinstance(found, str) else json.dumps(found))
