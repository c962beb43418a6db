"""What can be done from the page: each action is a few requests of the protocol and says what came of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from resonate.errors import EncodeError
from resonate.inspection import Inspector, Scheduling, Steering
from resonate.protocol.records import ORIGIN, PENDING, TARGET, Promise, Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    Request,
    Response,
    ScheduleDelete,
    SettledState,
)
from resonate.ui.access import Refused, Send
from resonate.ui.decoding import Payloads
from resonate.ui.screens import successor

AGAIN: Final = 100
"""Executions that are begun again at once."""

Body = Mapping[str, Any]


class Done(NamedTuple):
    """What came of an action.

    Attributes:
        text: says it.
        begun: id of the execution that has been begun, with which the text begins; empty if none has, or several.
    """

    text: str
    begun: str = ""


_SETTLES: Final[Mapping[str, SettledState]] = {
    "resolve": "resolved",
    "reject": "rejected",
    "cancel": "rejected_canceled",
}


def act(action: str, send: Send, ask: Inspector, now: int, body: Body, payloads: Payloads) -> Done:
    """Carry out `action` and say what came of it.

    Args:
        payloads: how a value of the page's form is stored.

    Raises:
        Refused: it is not possible; nothing was changed unless the text says so.
        ResonateStoreError: there is nothing of that id.
    """
    if action == "settle":
        return _settle(send, now, body, payloads)
    do = _ACTIONS.get(action)
    if do is None:
        raise Refused(404, f"there is no action {action}")
    return do(send, ask, now, body)


def _cancel(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    Steering(send, lambda: now).cancel(_id(body))
    return Done(f"{_id(body)} is cancelled")


def _retry(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    count = Steering(send, lambda: now).retry(_id(body))
    attempts = "1 attempt" if count == 1 else f"{count} attempts"
    return Done(f"{attempts} of {_id(body)} {'begins' if count == 1 else 'begin'} now")


def _resume(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    Steering(send, lambda: now).resume(_id(body))
    return Done(f"{_id(body)} goes on")


def _settle(send: Send, now: int, body: Body, payloads: Payloads) -> Done:
    id, how = _id(body), body.get("how")
    if not isinstance(how, str) or how not in _SETTLES:
        raise Refused(400, "a promise is settled by resolve, reject or cancel")
    Steering(send, lambda: now).settle(id, _SETTLES[how], _value(how, body.get("value"), payloads))
    return Done(f"{id} is {'cancelled' if how == 'cancel' else how + ('d' if how[-1] == 'e' else 'ed')}")


def _value(how: str, text: Any, payloads: Payloads) -> Value:
    """What whoever waits gets: JSON, or the message of an error."""
    if not isinstance(text, str) or not text.strip() or how == "cancel":
        return Value()
    if how == "reject":
        return payloads.error(text)
    try:
        return payloads.value(json.loads(text))
    except (ValueError, RecursionError, EncodeError) as error:
        raise Refused(400, f"the value is no JSON ({error}); text goes in double quotes") from None


def _again(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise Refused(400, "which ones? ids must be a list of texts")
    if len(ids) > AGAIN:
        raise Refused(400, f"{len(ids):,} are asked for, {AGAIN} at once are the most: do it in parts")
    found = [answer.promise for answer in send([PromiseGet(id) for id in ids])]
    for id, promise in zip(ids, found, strict=True):
        if promise is None or TARGET not in promise.tags or promise.tags.get(ORIGIN, id) != id:
            raise Refused(409, f"{id} is no execution of its own: nothing was begun")
        if promise.state == PENDING:
            raise Refused(409, f"{id} has not ended: nothing was begun")
    for promise in found:
        assert promise is not None
        _ask(send, _copy(promise, successor(promise.id), now))
    if len(ids) > 1:
        return Done(f"{len(ids)} executions are begun again")
    return _begun(successor(ids[0]))


def _begun(id: str) -> Done:
    return Done(f"{id} is begun", id)


def _copy(old: Promise, id: str, now: int) -> PromiseCreate:
    """The same call under another id, with as much time as the first had."""
    tags = {name: id if value == old.id else value for name, value in old.tags.items()}
    return PromiseCreate(id, now + max(old.timeout_at - old.created_at, 1_000), old.param, tags)


def _run_now(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    return _begun(Scheduling(send, lambda: now).run_now(_id(body)).id)


def _pause(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    Scheduling(send, lambda: now).pause(_id(body))
    return Done(f"the schedule {_id(body)} is paused")


def _unpause(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    Scheduling(send, lambda: now).resume(_id(body))
    return Done(f"the schedule {_id(body)} goes on")


def _unschedule(send: Send, ask: Inspector, now: int, body: Body) -> Done:
    _ask(send, ScheduleDelete(_id(body)))
    return Done(f"the schedule {_id(body)} is deleted")


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


_ACTIONS: Final[Mapping[str, Callable[[Send, Inspector, int, Body], Done]]] = {
    "cancel": _cancel,
    "retry": _retry,
    "resume": _resume,
    "again": _again,
    "run-schedule": _run_now,
    "pause-schedule": _pause,
    "resume-schedule": _unpause,
    "delete-schedule": _unschedule,
}
