"""The invariants of protocol section 4.10, by number, as assertions over stored rows.

`check_state` looks at one instant, `check_step` at what one request or one tick changed.
Both take a `State`: plain copies of the rows, whatever kept them. Each violation raises
`Violation` with the number of the invariant, so that a test of the tests can ask for it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from resonate.protocol import addresses, rows
from resonate.protocol import requests as rq
from resonate.protocol.records import EMPTY, Execute, Message, Promise, Schedule


class PromiseRow(Struct, frozen=True):
    """A promise with who awaits it and who is to be told."""

    record: Promise
    callbacks: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()


class TaskRow(Struct, frozen=True):
    """A task with its lease, its offers and what has resumed it."""

    state: str
    version: int = 0
    resumes: tuple[str, ...] = ()
    pid: str | None = None
    ttl: int | None = None
    expires_at: int | None = None
    retry_at: int | None = None


class State(Struct, frozen=True):
    """All rows at one instant."""

    promises: dict[str, PromiseRow]
    tasks: dict[str, TaskRow]
    schedules: dict[str, Schedule]
    outbox: tuple[tuple[str, Message], ...]


def view_state(view: rows.View) -> State:
    """All rows that a view shows."""
    return State(
        {row.promise.id: promise_row(row) for row in view.promises(None)},
        {row.id: task_row(row) for row in view.tasks(None)},
        {schedule.id: schedule for schedule in view.schedules(None)},
        tuple((send.address, send.message) for send in view.messages()),
    )


def promise_row(row: rows.PromiseRow) -> PromiseRow:
    """A stored promise as it is looked at here."""
    return PromiseRow(row.promise, row.callbacks, row.listeners)


def task_row(row: rows.TaskRow) -> TaskRow:
    """A stored task as it is looked at here."""
    return TaskRow(row.state, row.version, row.resumes, row.pid, row.ttl, row.expires_at, row.retry_at)


class Violation(AssertionError):
    """An invariant does not hold; `number` is the specification's."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"invariant {number}: {text}")
        self.number = number


def demand(number: int, holds: bool, *text: object) -> None:
    """Raise unless `holds`; `text` is a format and what goes into it, or one thing to show."""
    if not holds:
        raise Violation(number, str(text[0]).format(*text[1:]) if len(text) > 1 else str(text[0]))


MOVES: Final = {
    None: {"pending", "acquired", "fulfilled"},
    "pending": {"pending", "acquired", "halted", "fulfilled"},
    "acquired": {"acquired", "pending", "suspended", "halted", "fulfilled"},
    "suspended": {"suspended", "pending", "halted", "fulfilled"},
    "halted": {"halted", "pending", "fulfilled"},
    "fulfilled": {"fulfilled"},
}

ONLY_BY: Final[dict[str, tuple[type, ...]]] = {
    "acquired": (rq.TaskAcquire, rq.TaskCreate),
    "suspended": (rq.TaskSuspend,),
    "halted": (rq.TaskHalt,),
}


def live(row: PromiseRow, now: int) -> bool:
    """Whether it can still be settled."""
    return row.record.state == "pending" and row.record.timeout_at > now


def external(promise: Promise) -> bool:
    """Whether others may await it."""
    tags = promise.tags
    return (
        "resonate:target" in tags
        or "true" in (tags.get("resonate:timer"), tags.get("resonate:external"))
        or tags.get("resonate:scope") == "global"
    )


def key(row: tuple[str, Message]) -> tuple[str, ...]:
    """What tells messages apart."""
    address, message = row
    return ("execute", message.id) if isinstance(message, Execute) else ("unblock", message.promise.id, address)


# One instant.


def check_state(state: State, now: int) -> None:
    """Everything that holds at any instant.

    Raises:
        Violation: something does not.
    """
    check_rows(state, now)
    for id, task in state.tasks.items():
        _awaited(state, id, task, now)
    _outbox(state)
    for id, schedule in state.schedules.items():
        _schedule(id, schedule)


def check_rows(state: State, now: int) -> None:
    """What holds for each promise and task by itself; the state may show only some of them.

    Raises:
        Violation: something does not.
    """
    for id, row in state.promises.items():
        demand(9, id == row.record.id, "a promise under another id")
        _instants(row.record, now)
        _verdict(row.record)
        _obligations(state, id, row)
        demand(5, ("resonate:target" in row.record.tags) == (id in state.tasks), "{}: task without target", id)
        _tags(row.record)
    for id, task in state.tasks.items():
        settled = state.promises[id].record.state != "pending"
        demand(5, settled == (task.state == "fulfilled"), "{}: {} beside {}", id, task, state.promises[id])
        _shape(id, task)


def _instants(p: Promise, now: int) -> None:
    demand(1, p.created_at <= p.timeout_at and p.created_at <= now, p)
    if p.state == "pending":
        demand(1, p.created_at < p.timeout_at, p)
    elif p.settled_at is not None:
        demand(1, p.created_at <= p.settled_at <= p.timeout_at and p.settled_at <= now, p)


def _verdict(p: Promise) -> None:
    demand(2, (p.settled_at is None) == (p.state == "pending"), p)
    if p.state == "pending":
        demand(2, p.value == EMPTY, p)
    elif p.settled_at == p.timeout_at:
        timer = p.tags.get("resonate:timer") == "true"
        demand(2, (p.state, p.value) == ("resolved" if timer else "rejected_timedout", EMPTY), p)
    else:
        demand(3, p.state != "rejected_timedout", p)


def _obligations(state: State, id: str, row: PromiseRow) -> None:
    for held in (row.callbacks, row.listeners):
        demand(4, len(set(held)) == len(held), "{}: duplicates in {}", id, held)
    demand(4, id not in row.callbacks, "{} awaits itself", id)
    demand(4, external(row.record) or not (row.callbacks or row.listeners), "{} is internal", id)
    demand(4, all(awaiter in state.tasks for awaiter in row.callbacks), "{}: an awaiter without a task", id)
    demand(4, all(addresses.parse(a) for a in row.listeners), "{}: an address nobody has", id)


def _tags(p: Promise) -> None:
    target, delay = p.tags.get("resonate:target"), p.tags.get("resonate:delay")
    demand(10, target is None or addresses.parse(target) is not None, p)
    if delay is not None and "resonate:schedule" not in p.tags:
        demand(10, int(delay) < p.timeout_at, p)


def _shape(id: str, task: TaskRow) -> None:
    leased = [field is not None for field in (task.pid, task.ttl, task.expires_at)]
    demand(6, leased == [task.state == "acquired"] * 3, "{}: {}", id, task)
    demand(6, (task.retry_at is not None) == (task.state == "pending"), "{}: {}", id, task)
    demand(6, task.state not in ("suspended", "fulfilled") or not task.resumes, "{}: {}", id, task)
    demand(6, task.state != "acquired" or task.version >= 1, "{}: {}", id, task)
    demand(4, len(set(task.resumes)) == len(task.resumes), "{}: {}", id, task)
    demand(10, task.ttl is None or task.ttl > 0, "{}: {}", id, task)


def _awaited(state: State, id: str, task: TaskRow, now: int) -> None:
    if task.state == "suspended" and live(state.promises[id], now):
        held = any(id in row.callbacks for row in state.promises.values())
        demand(7, held, "{} is suspended and nothing will wake it", id)


def _outbox(state: State) -> None:
    keys = [key(row) for row in state.outbox]
    demand(8, len(set(keys)) == len(keys), keys)
    for address, message in state.outbox:
        if isinstance(message, Execute):
            demand(8, message.id in state.tasks, message)
            demand(8, message.version <= state.tasks[message.id].version, message)
            demand(8, address == state.promises[message.id].record.tags["resonate:target"], message)
        else:
            demand(8, message.promise.state != "pending", message)
            demand(8, state.promises[message.promise.id].record == message.promise, message)
            demand(8, addresses.parse(address) is not None, address)


def _schedule(id: str, schedule: Schedule) -> None:
    demand(9, id == schedule.id, "a schedule under another id")
    demand(9, schedule.created_at <= schedule.next_run_at, schedule)
    if schedule.last_run_at is not None:
        demand(9, schedule.created_at <= schedule.last_run_at < schedule.next_run_at, schedule)


# From one instant to the next.


def check_step(before: State, after: State, cause: rq.Request, now: int) -> None:
    """What holds between the instants before and after one transition.

    Args:
        cause: the request; `DebugTick` for internal steps; not a reset.

    Raises:
        Violation: something does not.
    """
    demand(11, set(before.promises) <= set(after.promises), "a promise is gone")
    demand(11, set(before.tasks) <= set(after.tasks), "a task is gone")
    for id, row in after.promises.items():
        if id in before.promises:
            _kept(before.promises[id], row, now)
            _drained(before.promises[id], row, after, now)
        else:
            _newborn(row)
    for id, task in after.tasks.items():
        _moved(id, before.tasks.get(id), task, cause)
        if task.state == "suspended" and before.tasks[id].state != "suspended":
            held = any(id in row.callbacks for row in after.promises.values())
            demand(14, held, "{} became suspended without a callback", id)
    _sent(before, after, now)


def _kept(old: PromiseRow, new: PromiseRow, now: int) -> None:
    a, b = old.record, new.record
    same = (a.id, a.param, a.tags, a.timeout_at, a.created_at) == (b.id, b.param, b.tags, b.timeout_at, b.created_at)
    demand(11, same, "{} -> {}", a, b)
    demand(11, a.state == "pending" or a == b, "{} -> {}", a, b)
    if a.state == "pending" and b.settled_at is not None:
        demand(3, b.settled_at in (now, b.timeout_at), "{} settled at {}", b, now)


def _drained(old: PromiseRow, new: PromiseRow, after: State, now: int) -> None:
    if new.record.state == "pending":
        demand(13, set(old.callbacks) <= set(new.callbacks), "{} lost a callback", new)
        demand(13, set(old.listeners) <= set(new.listeners), "{} lost a listener", new)
        return
    demand(13, set(new.callbacks) <= set(old.callbacks), "{} won a callback", new)
    demand(13, set(new.listeners) <= set(old.listeners), "{} won a listener", new)
    for awaiter in set(old.callbacks) - set(new.callbacks):
        alive = live(after.promises[awaiter], now)
        demand(13, not alive or new.record.id in after.tasks[awaiter].resumes, "{} was not resumed", awaiter)
    told = {key(row) for row in after.outbox}
    for address in set(old.listeners) - set(new.listeners):
        demand(13, ("unblock", new.record.id, address) in told, "{} was not told", address)


def _newborn(row: PromiseRow) -> None:
    bare = (row.callbacks, row.listeners, row.record.value) == ((), (), EMPTY)
    demand(18, bare, "{} is born with obligations", row)


def _moved(id: str, old: TaskRow | None, new: TaskRow, cause: rq.Request) -> None:
    text = ("{}: {} -> {} by {}", id, old, new, cause)
    was = old.state if old else None
    demand(14, new.state in MOVES[was], *text)
    if new.state != was and new.state in ONLY_BY:
        demand(14, isinstance(cause, ONLY_BY[new.state]), *text)
    acquired = new.state == "acquired" and was in (None, "pending")
    demand(12, new.version == (old.version if old else 0) + acquired, *text)
    if old is None:
        return
    if (was, new.state) == ("pending", "pending"):
        assert old.retry_at is not None
        assert new.retry_at is not None
        demand(15, new.retry_at >= old.retry_at, *text)
    if (was, new.state) == ("acquired", "acquired"):
        demand(15, (new.pid, new.ttl) == (old.pid, old.ttl), *text)
        beat = isinstance(cause, rq.TaskHeartbeat)
        demand(15, new.expires_at == old.expires_at or beat, *text)
    if not set(old.resumes) <= set(new.resumes):
        emptied = new.state == "fulfilled" or acquired or isinstance(cause, rq.TaskSuspend)
        demand(16, not new.resumes and emptied, *text)


def _sent(before: State, after: State, now: int) -> None:
    for row in set(_offers(after)) - set(_offers(before)):
        id, version = row
        task = after.tasks[id]
        alive = live(after.promises[id], now)
        demand(17, alive and (task.state, task.version) == ("pending", version), "{} for {}", row, task)


def _offers(state: State) -> list[tuple[str, int]]:
    return [(m.id, m.version) for _, m in state.outbox if isinstance(m, Execute)]
