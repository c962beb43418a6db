"""What an execution waits for under ids that the program chose, noted so that people find it.

A promise shows who made it, not who awaits it. An id of our own making begins with the id of
the call it belongs to; one that the program chose may be the promise of another execution, or
of nobody's. Before the task is given up for such a promise, a note beside the call names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resonate.execution.records import AWAITS_TAG, SEEN_TAG
from resonate.protocol.requests import Request

if TYPE_CHECKING:
    from resonate.execution.execution import Execution


def pointers(ex: Execution) -> list[Request]:
    """The notes that are missing; each is written once for an execution."""
    missing: list[Request] = []
    for call in ex.awaited.values():
        owner = call.owner
        if owner is None or call.id.startswith(owner.prefix) or call.id in ex.pointed:
            continue
        ex.pointed.add(call.id)
        ex.noted += 1
        id = f"{ex.root.prefix}awaits{ex.version}-{ex.noted}"
        tags = {**ex.tags(owner, id, "local"), SEEN_TAG: "{}", AWAITS_TAG: call.id}
        missing.append(ex.note(id, owner.deadline, tags))
    return missing
