"""One log line for each thing that matters in the life of an execution; a replay says nothing twice.

Every line names its execution, also in the fields `resonate_id` and `resonate_root` of its record.
What comes with each wait of a function is for debugging, the rest is information.
"""

from __future__ import annotations

import logging
from typing import Final

from resonate.execution.call import Call
from resonate.execution.coroutine import Raised
from resonate.execution.execution import Execution
from resonate.execution.records import split
from resonate.values import digest
from resonate.values.exceptions import message_of
from resonate.worker.observer import ACQUIRED, BEGUN, FAILED, HALTED, LOST, RESUMED, SUCCEEDED, SUSPENDED

LOG: Final = logging.getLogger("resonate.worker")

LONGEST: Final = 500
"""Characters of an error's text that a line shows."""

MUTABLE: Final = frozenset((list, dict, set, bytearray))
"""What a function may change in place of what it is given."""

_CHANGING: Final[set[tuple[str, str]]] = set()
"""Functions and places of which that was said."""

_OFTEN: Final = frozenset((RESUMED, SUSPENDED))
_SAID: Final = frozenset((HALTED, LOST))
"""What has a line of its own already, with its reason."""


def fields(execution: Execution, id: str = "") -> dict[str, str]:
    """What a line about `execution`, or its call `id`, carries for programs that read logs."""
    return {"resonate_id": id or execution.id, "resonate_root": execution.origin}


def shown(error: BaseException | None) -> str:
    """`error` on one line, without what a terminal would take as a command."""
    text = f"{type(error).__name__}: {message_of(error)}" if error is not None else "None"
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:LONGEST])
    return text if len(text) < LONGEST else f"{text}…"


def came(execution: Execution, how: str) -> None:
    """`execution` is this worker's now."""
    level = logging.DEBUG if how in _OFTEN else logging.INFO
    if not LOG.isEnabledFor(level):
        return
    id, call = execution.id, execution.root
    if how == RESUMED:
        LOG.debug("%s: goes on", id, extra=fields(execution))
        return
    text = {BEGUN: "begun", ACQUIRED: "taken from the queue"}.get(how, "taken over, replaying what is recorded")
    LOG.info("%s: %s version %d %s", id, call.name, call.version, text, extra=fields(execution))


def left(execution: Execution, how: str) -> None:
    """`execution` is not this worker's any more."""
    level = logging.INFO if how in (SUCCEEDED, FAILED) else logging.DEBUG
    if how in _SAID or not LOG.isEnabledFor(level):
        return
    id = execution.id
    if how == SUSPENDED:
        awaited = list(execution.awaited)
        first = ", ".join(awaited[:3]) + (f" and {len(awaited) - 3} more" if len(awaited) > 3 else "")
        LOG.debug("%s: waits for %s", id, first, extra=fields(execution))
        return
    took = (execution.now() - execution.created_at) / 1000
    end = execution.root.ended
    if how == SUCCEEDED:
        LOG.info("%s: succeeded after %.3f s", id, took, extra=fields(execution))
    elif how == FAILED and end is not None and type(end.outcome) is Raised:
        error = end.outcome.error
        LOG.info("%s: failed after %.3f s: %s", id, took, shown(error), extra=fields(execution))
    else:
        LOG.debug("%s: stopped here: %s", id, execution.stop, extra=fields(execution))


def changed(execution: Execution, call: Call) -> None:
    """Say, once for each place, that a step has changed what its caller gave it, if it has.

    The caller sees the change only as long as it runs: a replay takes the step's result from the record.
    """
    kwargs = call.kwargs or {}
    if MUTABLE.isdisjoint(map(type, (*call.args, *kwargs.values()))):
        return
    _, _, recorded, name, where = split(call.identity)
    if (name, where) in _CHANGING or digest(call.args, kwargs) == recorded:
        return
    _CHANGING.add((name, where))
    LOG.warning(
        "%s: an argument of %s (called at %s) has changed since the call. After a crash its caller goes on with the "
        "recorded result and the argument as it was: return what is to be kept, or pass a copy",
        call.id,
        name,
        where,
        extra=fields(execution, call.id),
    )


__all__ = ["came", "changed", "fields", "left", "shown"]
