"""Getting executions going again, or having them end: what a person may do from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resonate.errors import ResonateStoreError, UsageError
from resonate.execution.call import DETACHED
from resonate.execution.records import CALL_TAG
from resonate.inspection.commands import command
from resonate.inspection.inspector import Inspector
from resonate.inspection.views import Call
from resonate.protocol.descent import Send, descend
from resonate.protocol.records import ORIGIN, PARENT, PENDING, Promise, Value
from resonate.protocol.requests import (
    PromiseGet,
    PromiseSettle,
    SettledState,
    TaskContinue,
)

PAGE: Final = 1000
"""Promises read or settled at once."""


class Refusal(UsageError):
    """What was asked for is not possible in the state that things are in; nothing was changed."""


class Steering:
    """Acts through whatever carries requests to a service.

    Args:
        send: carries requests of the protocol; `Network.send`.
        now: milliseconds since the epoch, as the service has it.
    """

    def __init__(self, send: Send, now: Callable[[], int]) -> None:
        self._send = send
        self._inspector = Inspector(send, now)

    def cancel(self, id: str) -> Promise:
        """Settle `id` as cancelled, and below it everything attached that is still pending; gives its promise.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: it has ended already.
        """
        (read,) = self._send([PromiseGet(id)])
        if read.promise is not None and read.promise.state != PENDING:
            raise Refusal(f"{id} has ended already: {self._inspector.execution(id).state}")
        promise = self._settled(id, "rejected_canceled", Value())
        cancel_below(self._send, promise)
        return promise

    def resume(self, id: str) -> None:
        """Offer the halted task `id` to its workers again.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: it is not halted.
        """
        call = self._inspector.execution(id)
        if call.state != "halted":
            hint = "" if call.settled else f". What it waits for: {command('why', id)}"
            raise Refusal(f"{id} is {call.state}; only what is halted can be resumed{hint}")
        (answer,) = self._send([TaskContinue(id)])
        if answer.status != 200:
            raise Refusal(f"{id} cannot be resumed: {answer.error}")

    def retry(self, id: str) -> int:
        """End the pauses before next attempts in `id` and below it; how many there were.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: there is no such pause.
        """
        call = self._inspector.tree(id)
        pauses = [each.id for each in flat(call) if each.kind == "retry" and not each.settled]
        if not pauses:
            raise Refusal(
                f"nothing below {id} pauses before another attempt; it is {call.state}. What has failed for good "
                "stays so: begin it anew under another id"
            )
        for pause in pauses:
            self._settled(pause, "resolved", Value())
        return len(pauses)

    def settle(self, id: str, state: SettledState, value: Value) -> Promise:
        """Settle a promise by hand.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: it is settled already, or a worker is to settle it.
        """
        call = self._inspector.execution(id)
        if call.settled:
            raise Refusal(f"{id} has ended already: {call.state}")
        return self._settled(id, state, value)

    def _settled(self, id: str, state: SettledState, value: Value) -> Promise:
        (answer,) = self._send([PromiseSettle(id, state, value)])
        if answer.status == 404:
            raise ResonateStoreError(f"The specified promise was not found: {id}", 40400)
        if answer.promise is None:
            raise Refusal(f"{id} cannot be settled: {answer.error}")
        return answer.promise


def flat(call: Call) -> list[Call]:
    """A call and all calls below it."""
    found, stack = [], [call]
    while stack:
        top = stack.pop()
        found.append(top)
        stack += reversed(top.calls)
    return found


def cancel_below(send: Send, root: Promise) -> None:
    """Settle the pending descendants of `root`, but for detached calls and what is below them.

    Those that run may begin more while the tree is read and settled, so it is read until nothing is left;
    what has been settled begins nothing more.
    """
    settled: set[str] = set()
    while pending := [id for id in _pending_below(send, root) if id not in settled]:
        for start in range(0, len(pending), PAGE):
            send([PromiseSettle(id, "rejected_canceled") for id in pending[start : start + PAGE]])
        settled.update(pending)


def _pending_below(send: Send, root: Promise) -> list[str]:
    children: dict[str, list[str]] = {}
    pending: set[str] = set()
    for page in descend(send, root.id, root.tags.get(ORIGIN, root.id)):
        for promise in page:
            detached = promise.tags.get(CALL_TAG, "").partition("|")[0] == DETACHED
            if promise.id != root.id and not detached:
                children.setdefault(promise.tags.get(PARENT, ""), []).append(promise.id)
                if promise.state == PENDING:
                    pending.add(promise.id)
    below, at = [root.id], 0
    while at < len(below):  # pages come in the order of ids, which says nothing where a program chose them
        below += children.pop(below[at], ())
        at += 1
    return [id for id in below if id in pending]
