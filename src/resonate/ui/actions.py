"""What can be done from the page: each action is a few requests of the protocol and says what came of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from resonate.inspection import Inspector, Steering
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, SCHEDULE, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    Request,
    Response,
    ScheduleDelete,
    ScheduleGet,
    SettledState,
)
from resonate.protocol.validation import expand
from resonate.ui.access import Refused, Send
from resonate.values.payload import pack

AGAIN: Final = 100
"""Executions that are begun again at once."""

Body = Mapping[str, Any]

_SETTLES: Final[Mapping[str, SettledState]] = {
    "resolve": "resolved",
    "reject": "rejected",
    "cancel": "rejected_canceled",
}


def act(action: str, send: Send, ask: Inspector, now: int, body: Body) -> str:
    """Carry out `action` and say what came of it.

    Raises:
        Refused: it is not possible; nothing was changed unless the text says so.
        ResonateStoreError: there is nothing of that id.
    """
    do = _ACTIONS.get(action)
    if do is None:
        raise Refused(404, f"there is no action {action}")
    return do(send, ask, now, body)


def _cancel(send: Send, ask: Inspector, now: int, body: Body) -> str:
    Steering(send, lambda: now).cancel(_id(body))
    return f"{_id(body)} is cancelled"


def _retry(send: Send, ask: Inspector, now: int, body: Body) -> str:
    count = Steering(send, lambda: now).retry(_id(body))
    attempts = "1 attempt" if count == 1 else f"{count} attempts"
    return f"{attempts} of {_id(body)} {'begins' if count == 1 else 'begin'} now"


def _resume(send: Send, ask: Inspector, now: int, body: Body) -> str:
    Steering(send, lambda: now).resume(_id(body))
    return f"{_id(body)} goes on"


def _settle(send: Send, ask: Inspector, now: int, body: Body) -> str:
    id, how = _id(body), body.get("how")
    if not isinstance(how, str) or how not in _SETTLES:
        raise Refused(400, "a promise is settled by resolve, reject or cancel")
    Steering(send, lambda: now).settle(id, _SETTLES[how], _value(how, body.get("value")))
    return f"{id} is {'cancelled' if how == 'cancel' else how + ('d' if how[-1] == 'e' else 'ed')}"


def _value(how: str, text: Any) -> Value:
    """What whoever waits gets: JSON, or the message of an error."""
    if not isinstance(text, str) or not text.strip() or how == "cancel":
        return Value()
    if how == "reject":
        return Value(data=pack(json.dumps({"name": "Error", "message": text}).encode()))
    try:
        return Value(data=pack(json.dumps(json.loads(text)).encode()))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the value is no JSON ({error}); text goes in double quotes") from None


def _again(send: Send, ask: Inspector, now: int, body: Body) -> str:
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise Refused(400, "which ones? ids must be a list of texts")
    if len(ids) > AGAIN:
        raise Refused(400, f"{len(ids):,} are asked for, {AGAIN} at once are the most: do it in parts")
    begun: list[str] = []
    for id in ids:
        found = _ask(send, PromiseGet(id)).promise
        if found is None or TARGET not in found.tags or found.tags.get(ORIGIN, id) != id:
            raise Refused(409, f"{id} is no execution of its own; {len(begun)} were begun again before it")
        _ask(send, _copy(found, f"{id}.again-{uuid.uuid4().hex[:8]}", now))
        begun.append(id)
    return f"{begun[0]} is begun again" if len(begun) == 1 else f"{len(begun)} executions are begun again"


def _copy(old: Promise, id: str, now: int) -> PromiseCreate:
    """The same call under another id, with as much time as the first had."""
    tags = {name: id if value == old.id else value for name, value in old.tags.items()}
    return PromiseCreate(id, now + max(old.timeout_at - old.created_at, 1_000), old.param, tags)


def _run_now(send: Send, ask: Inspector, now: int, body: Body) -> str:
    schedule = _ask(send, ScheduleGet(_id(body))).schedule
    assert schedule is not None
    id = expand(schedule.promise_id, schedule.id, now)
    tags = {**schedule.promise_tags, SCHEDULE: schedule.id, ORIGIN: id, BRANCH: id, PARENT: id}
    _ask(send, PromiseCreate(id, now + schedule.promise_timeout, schedule.promise_param, tags))
    return f"{id} is begun"


def _unschedule(send: Send, ask: Inspector, now: int, body: Body) -> str:
    _ask(send, ScheduleDelete(_id(body)))
    return f"the schedule {_id(body)} is deleted"


def _id(body: Body) -> str:
    id = body.get("id")
    if not isinstance(id, str) or not id:
        raise Refused(400, "which one? The id is missing")
    return id


def _ask(send: Send, request: Request) -> Response:
    (answer,) = send([request])
    if answer.status >= 300:
        raise Refused(answer.status, answer.error or f"refused with status {answer.status}")
    return answer


_ACTIONS: Final[Mapping[str, Callable[[Send, Inspector, int, Body], str]]] = {
    "cancel": _cancel,
    "retry": _retry,
    "resume": _resume,
    "settle": _settle,
    "again": _again,
    "run-schedule": _run_now,
    "delete-schedule": _unschedule,
}
