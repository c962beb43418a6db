"""What executions are listed by, beside the rows of the protocol: ours.

An execution is a root that a worker runs. Storages keep one small entry for each, and nothing
for what is below it. An entry's texts are clipped, so that they fit an index; two different
texts stay different. Reading an entry's function takes what our clients note in a tag, else
what every client writes into the param.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from resonate.protocol.addresses import parse
from resonate.protocol.records import (
    ACQUIRED,
    CANCELED,
    FULFILLED,
    HALTED,
    PENDING,
    REJECTED,
    RESOLVED,
    SCHEDULE,
    SUSPENDED,
    TARGET,
    TIMEDOUT,
    Promise,
    Value,
)
from resonate.protocol.rows import PromiseRow, TaskRow
from resonate.protocol.trees import begun_at

CALL: Final = "resonate:py:call"
"""The tag of ours that says what was called: `kind|version|digest|name|place`."""

Phase = Literal[
    "pending", "acquired", "suspended", "halted", "resolved", "rejected", "rejected_canceled", "rejected_timedout"
]
"""The state of an execution: its task's while its promise is pending, then its promise's."""

PHASES: Final[tuple[Phase, ...]] = (
    PENDING,
    ACQUIRED,
    SUSPENDED,
    HALTED,
    RESOLVED,
    REJECTED,
    CANCELED,
    TIMEDOUT,
)

CLIP: Final = 120
"""Bytes of a text that an index holds; of a longer one the beginning and a digest."""

HELD_SHOWN: Final = 5
"""Tasks that are named of those a process holds."""

_FRAME: Final = re.compile(r'File "([^"]*)", line (\d+), in (.*)')
_AGAIN: Final = "Traceback (most recent call last):"
_json: Final = msgspec.json.Decoder().decode


class Entry(Struct, frozen=True, gc=False):
    """What is kept of an execution.

    Attributes:
        begun: when it was begun.
        phase: see `Phase`.
        function: its name, clipped; empty if it cannot be told.
        group: whose workers run it, clipped.
        fault: of a failed one, `type|place` of its error, clipped.
        labels: its tags, without those of the protocol and of ours; names and values clipped.
    """

    id: str
    begun: int
    phase: str
    function: str
    group: str
    fault: str | None
    labels: tuple[tuple[str, str], ...]


class Wanted(Struct, frozen=True, gc=False):
    """Which executions are looked for; all that is given has to hold.

    Attributes:
        phases: one of these.
        function, group: exactly.
        tags: all of these.
        prefix: how their ids begin.
        since, until: when they were begun; the second instant is not included.
    """

    phases: tuple[Phase, ...] | None = None
    function: str | None = None
    group: str | None = None
    tags: dict[str, str] | None = None
    prefix: str | None = None
    since: int | None = None
    until: int | None = None


class Fault(Struct, frozen=True, gc=False, rename="camel"):
    """Executions that failed alike: the same function, error and place.

    Attributes:
        function: as it is listed.
        fault: as `Entry.fault`.
        count: how many, up to a bound.
        ids: the newest of them.
    """

    function: str
    fault: str
    count: int
    ids: list[str]


class Load(Struct, frozen=True, gc=False, rename="camel"):
    """What there is to do for one group of workers.

    Attributes:
        group: its name.
        counts: its open tasks by state, each up to a bound.
        oldest: since when the task that is pending for longest is.
    """

    group: str
    counts: dict[str, int]
    oldest: int | None = None


class Holder(Struct, frozen=True, gc=False, rename="camel"):
    """A process that holds tasks.

    Attributes:
        pid, group: which.
        leases: tasks it holds.
        ttl: how long it may be silent, ms.
        seen_at: when it renewed its last lease.
        ids: of the first of those tasks, up to `HELD_SHOWN`.
    """

    pid: str
    group: str
    leases: int
    ttl: int
    seen_at: int
    ids: list[str] = []


class Listing(Protocol):
    """Finds executions and open tasks without looking at the others."""

    def search(self, wanted: Wanted, before: tuple[int, str] | None, limit: int) -> tuple[list[PromiseRow], Any]:
        """Executions begun before (that instant, that id), the newest first, and where the next page begins.

        A page may be short, or empty, though there is another.
        """

    def count(self, wanted: Wanted, by: str, most: int) -> tuple[dict[str, dict[str, int]], bool]:
        """How many there are, by function or group (or neither: by the empty text) and then by phase.

        Each number up to `most + 1`; True with it if all of them are only as far as has been counted.
        """

    def faults(self, limit: int, most: int, shown: int) -> list[Fault]:
        """What failed alike, up to `limit` kinds; of each up to `most + 1` are counted and `shown` named."""

    def loads(self, most: int) -> list[Load]:
        """The groups that have open tasks."""

    def holders(self, most: int) -> list[Holder]:
        """The processes that hold tasks, from up to `most` of those."""


def entry(promise: Promise, task: TaskRow | None) -> Entry | None:
    """The entry of a promise; None if it is no execution."""
    begun = begun_at(promise)
    if begun is None:
        return None
    return Entry(
        promise.id,
        begun,
        phase_of(promise, task),
        clip(function_of(promise)),
        clip(group_of(promise.tags[TARGET])),
        clip(fault_of(promise)) if promise.state == REJECTED else None,
        tuple((clip(name), clip(value)) for name, value in promise.tags.items() if is_label(name)),
    )


def phase_of(promise: Promise, task: TaskRow | None) -> str:
    """See `Phase`."""
    if promise.state != PENDING:
        return promise.state
    return PENDING if task is None or task.state == FULFILLED else task.state


def is_label(tag: str) -> bool:
    """Whether executions can be looked for by a tag of this name."""
    return not tag.startswith("resonate:") or tag == SCHEDULE


def clip(text: str) -> str:
    """`text` if it is short, else its beginning and a digest of all of it."""
    if len(text) * 4 <= CLIP or len(raw := text.encode("utf-8", "replace")) <= CLIP:
        return text.replace("\0", "�")
    return raw[: CLIP // 2].decode("utf-8", "ignore").replace("\0", "�") + hashlib.sha256(raw).hexdigest()[: CLIP // 2]


def function_of(promise: Promise) -> str:
    """The name of the function that a promise calls; empty if it names none."""
    tag = promise.tags.get(CALL)
    if tag is not None:
        parts = tag.split("|", 3)
        if len(parts) == 4:
            return parts[3].rpartition("|")[0]
    found = plain(promise.param)
    name = found.get("func") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def group_of(target: str) -> str:
    """The group that an address names; the address itself where it names none."""
    found = parse(target)
    return target if found is None or not found.group else found.group


def fault_of(promise: Promise) -> str:
    """Type and place of the error that a promise was rejected with."""
    found = plain(promise.value)
    if not isinstance(found, dict):
        return "Error|"
    kind, stack = found.get("name"), found.get("stack")
    return f"{kind if isinstance(kind, str) else 'Error'}|{place_of(stack) if isinstance(stack, str) else ''}"


def place_of(traceback: str) -> str:
    """The line of code that raised, as a traceback has it: `shop.py:12 in charge`; empty if that is not known."""
    frames = _FRAME.findall(traceback.partition(_AGAIN)[2].partition(_AGAIN)[0])  # where it was raised first
    if not frames:
        return ""
    path, line, name = frames[-1]
    return f"{path.replace(chr(92), '/').rpartition('/')[2]}:{line} in {name}"


def plain(value: Value) -> Any:
    """The JSON of a payload; None if it is none."""
    if not value.data:
        return None
    try:
        return _json(base64.b64decode(value.data, validate=True))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None


def fits(wanted: Wanted, promise: Promise) -> bool:
    """Whether a promise has the function, group, tags, id and instant that are wanted; not its phase."""
    tags, at = promise.tags, promise.created_at
    return (
        (wanted.prefix is None or promise.id.startswith(wanted.prefix))
        and (wanted.since is None or at >= wanted.since)
        and (wanted.until is None or at < wanted.until)
        and (wanted.function is None or function_of(promise) == wanted.function)
        and (wanted.group is None or group_of(tags.get(TARGET, "")) == wanted.group)
        and all(tags.get(name) == value for name, value in (wanted.tags or {}).items())
    )


Rows = Callable[[Sequence[str]], list[PromiseRow]]
