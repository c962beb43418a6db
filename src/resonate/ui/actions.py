"""What can be done from the page: each action is a few requests of the protocol and says what came of it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from resonate.inspection import Call, Inspector
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, SCHEDULE, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseSettle,
    Request,
    Response,
    ScheduleDelete,
    ScheduleGet,
    SettledState,
    TaskContinue,
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
    top = ask.tree(_id(body))
    if top.settled:
        raise Refused(409, f"{top.id} has ended already: {top.state}")
    _ask(send, PromiseSettle(top.id, "rejected_canceled"))
    below = [call for call in _attached(top) if call is not top and not call.settled]
    send([PromiseSettle(call.id, "rejected_canceled") for call in below])
    more = f", with {len(below)} calls below it" if below else ""
    return f"{top.id} is cancelled{more}"


def _attached(top: Call) -> list[Call]:
    """`top` and all that it waits for; what is detached lives on."""
    found, stack = [], [top]
    while stack:
        call = stack.pop()
        found.append(call)
        stack += [child for child in call.calls if child.kind != "detached"]
    return found


def _retry(send: Send, ask: Inspector, now: int, body: Body) -> str:
    top = ask.tree(_id(body))
    pauses = [call for call in _attached(top) if call.kind == "retry" and not call.settled]
    if not pauses:
        raise Refused(409, f"nothing below {top.id} pauses before another attempt; it is {top.state}")
    for pause in pauses:
        _ask(send, PromiseSettle(pause.id, "resolved"))
    attempts = "1 attempt" if len(pauses) == 1 else f"{len(pauses)} attempts"
    return f"{attempts} of {top.id} {'begins' if len(pauses) == 1 else 'begin'} now"


def _resume(send: Send, ask: Inspector, now: int, body: Body) -> str:
    id = _id(body)
    state = ask.execution(id).state
    if state != "halted":
        raise Refused(409, f"{id} is {state}; only what is halted can be resumed")
    _ask(send, TaskContinue(id))
    return f"{id} goes on"


def _settle(send: Send, ask: Inspector, now: int, body: Body) -> str:
    id, how = _id(body), body.get("how")
    call = ask.execution(id)
    if call.settled:
        raise Refused(409, f"{id} has been settled already: {call.state}")
    if not isinstance(how, str) or how not in _SETTLES:
        raise Refused(400, "a promise is settled by resolve, reject or cancel")
    answer = _ask(send, PromiseSettle(id, _SETTLES[how], _value(how, body.get("value"))))
    if answer.promise is None or answer.promise.state != _SETTLES[how]:
        raise Refused(409, f"{id} was settled by somebody else meanwhile")
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
