"""What the server does on its own: settle, wake, notify, expire, dispatch, fire (protocol 4).

Each step checks its own condition again, so it may be tried at any time for any object.
Waking and notifying (R3, R4) happen in the transition that settles; entering pending
dispatches (R6) in the transition that entered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from resonate.protocol.cron import next_occurrence
from resonate.protocol.pauses import is_paused
from resonate.protocol.records import (
    ACQUIRED,
    BRANCH,
    DELAY,
    EMPTY,
    FULFILLED,
    HALTED,
    ORIGIN,
    PARENT,
    PENDING,
    SCHEDULE,
    SUSPENDED,
    TARGET,
    TIMER,
    Execute,
    Promise,
    Schedule,
    Unblock,
)
from resonate.protocol.requests import Response
from resonate.protocol.rows import (
    Effect,
    PromiseRow,
    Resume,
    Send,
    TaskRow,
    Unsend,
    View,
    is_live,
    later,
    timed_out,
)
from resonate.protocol.validation import expand

OCCURRENCES: Final = 100
"""Missed occurrences of one schedule that fire in one step; the rest fire in the next, at once."""

RETRY_TIMEOUT: Final = 30_000
"""Milliseconds between two offers of a task that nobody takes."""


FENCE_PRELOAD: Final = 10
"""Records that the answer of a fence brings along at most: it is asked once per step, however long the branch."""


class Rules(Struct, frozen=True, gc=False):
    """What a server may choose.

    Attributes:
        retry_timeout: milliseconds between two offers of a pending task.
        strict: answer as the bare specification where it differs (protocol 0.2).
        fence_preload: records in the preload of a fence at most; None sets no bound.
    """

    retry_timeout: int = RETRY_TIMEOUT
    strict: bool = False
    fence_preload: int | None = FENCE_PRELOAD


Step = tuple[Response, Sequence[Effect]]
"""What a request is answered, and what is to be written for it."""


def settle(view: View, rules: Rules, row: PromiseRow, settled: Promise, now: int, effects: list[Effect]) -> None:
    """Store a settlement with all that follows from it: its task, its listeners, its awaiters."""
    effects.append(PromiseRow(settled))
    if TARGET in settled.tags:
        task = view.task(settled.id)
        if task is not None and task.state != FULFILLED:
            if task.state == PENDING:
                effects.append(Unsend(("execute", task.id)))
            effects.append(TaskRow(task.id, FULFILLED, task.version, task.target))
    for address in row.listeners:
        effects.append(Send(("unblock", settled.id, address), address, Unblock(settled)))
    for awaiter in row.callbacks:
        if view.reachable(awaiter):
            resume(view, rules, awaiter, settled.id, now, effects)
        else:
            effects.append(Resume(awaiter, settled.id))


def resume(view: View, rules: Rules, awaiter: str, awaited: str, now: int, effects: list[Effect]) -> None:
    """R4: the awaited promise is settled; wake the awaiter's task or count it (protocol 4.3)."""
    task, row = view.task(awaiter), view.promise(awaiter)
    if task is None or row is None or not is_live(row.promise, now):
        return
    if task.state == SUSPENDED:
        enter_pending(rules, replace(task, resumes=(awaited,)), row.promise, now, effects)
    elif task.state in (PENDING, ACQUIRED, HALTED) and awaited not in task.resumes:
        effects.append(replace(task, resumes=(*task.resumes, awaited)))


def enter_pending(
    rules: Rules, task: TaskRow, promise: Promise, at: int, effects: list[Effect], since: int | None = None
) -> None:
    """The task becomes pending at instant `at` and is offered at once; it has waited `since` then, or from now on.

    A timer with a target is never offered: its deadline comes first (protocol 9.6).
    """
    tags, since = promise.tags, at if since is None else since
    pending = replace(task, state=PENDING, pid=None, ttl=None, expires_at=None, retry_at=at, since=since)
    if TIMER in tags and tags[TIMER] == "true":
        effects.append(replace(pending, retry_at=promise.timeout_at))
    else:
        dispatch(rules, pending, at, effects)


def first_offer(rules: Rules, promise: Promise, now: int, effects: list[Effect]) -> None:
    """The task of a new promise: offered at once, or when its `resonate:delay` is over.

    Only the first offer is delayed. What is dead at `now` (a late occurrence of a schedule)
    is not offered at all; its timeout is due.
    """
    tags = promise.tags
    task = TaskRow(promise.id, PENDING, 0, tags[TARGET])
    delay = int(tags[DELAY]) if DELAY in tags else 0
    if (delay <= now and promise.timeout_at > now) or tags.get(TIMER) == "true":
        enter_pending(rules, task, promise, now, effects)
    else:
        at = max(delay, promise.created_at)
        effects.append(replace(task, retry_at=at, since=at))


def dispatch(rules: Rules, task: TaskRow, now: int, effects: list[Effect]) -> None:
    """R6: offer the task, and again after the retry timeout (protocol 4.5)."""
    effects.append(replace(task, retry_at=later(now, rules.retry_timeout)))
    effects.append(Send(("execute", task.id), task.target, Execute(task.id, task.version), task.last_pid))


def time_out(view: View, rules: Rules, id: str, now: int) -> list[Effect]:
    """R1: the deadline of a stored pending promise has passed (protocol 4.1)."""
    effects: list[Effect] = []
    row = view.promise(id)
    if row is not None and row.promise.state == PENDING and row.promise.timeout_at <= now:
        settle(view, rules, row, timed_out(row.promise), now, effects)
    return effects


def wake(view: View, rules: Rules, id: str, now: int) -> list[Effect]:
    """R5 and R6: the timer of a task has come: its lease has ended, or it is offered again."""
    effects: list[Effect] = []
    task, row = view.task(id), view.promise(id)
    if task is None or row is None or not is_live(row.promise, now):
        return effects
    if task.state == ACQUIRED and task.expires_at is not None and task.expires_at <= now:
        enter_pending(rules, task, row.promise, now, effects)
    elif task.state == PENDING and task.retry_at is not None and task.retry_at <= now:
        # whoever suspended it last has had its chance, and may be gone without anybody knowing
        dispatch(rules, replace(task, last_pid=None), now, effects)
    return effects


def work_off(view: View, rules: Rules, obligation: Resume, now: int) -> list[Effect]:
    """Resume an awaiter whose row was not at hand when its promise was settled."""
    effects: list[Effect] = []
    resume(view, rules, obligation.awaiter, obligation.awaited, now, effects)
    return effects


def fire(view: View, rules: Rules, id: str, now: int) -> list[Effect]:
    """R7: create the promises of all occurrences that are due, each as of its own instant."""
    effects: list[Effect] = []
    schedule = view.schedule(id)
    if schedule is None:
        return effects
    if is_paused(schedule) and not rules.strict:
        if schedule.next_run_at <= now:
            effects.append(replace(schedule, next_run_at=following(schedule.cron, now, now)))
        return effects
    at, fired, made = schedule.next_run_at, 0, set[str]()
    last = schedule.last_run_at
    while at <= now and fired < OCCURRENCES:
        promise_id = expand(schedule.promise_id, schedule.id, at)
        if promise_id not in made and view.promise(promise_id) is None:
            made.add(promise_id)
            _occur(rules, schedule, promise_id, at, now, effects)
        last, fired = at, fired + 1
        at = following(schedule.cron, at, now)
    if fired:
        effects.append(replace(schedule, last_run_at=last, next_run_at=at))
    return effects


MAX_GAP: Final = 400 * 366 * 86_400_000
"""Where the calendar of a cron expression ends, its next run lies beyond anybody's lifetime."""


def following(cron: str, at: int, now: int) -> int:
    """The first occurrence after `at`."""
    found = next_occurrence(cron, at)
    return later(now, MAX_GAP) if found is None else found


def _occur(rules: Rules, schedule: Schedule, id: str, at: int, now: int, effects: list[Effect]) -> None:
    tags = {**schedule.promise_tags, SCHEDULE: schedule.id, ORIGIN: id, BRANCH: id, PARENT: id}
    promise = Promise(id, PENDING, schedule.promise_param, EMPTY, tags, later(at, schedule.promise_timeout), at)
    if promise.timeout_at <= at:
        promise = timed_out(promise)
    effects.append(PromiseRow(promise))
    if TARGET not in tags:
        return
    if promise.state == PENDING:
        first_offer(rules, promise, now, effects)
    else:
        effects.append(TaskRow(id, FULFILLED, 0, tags[TARGET]))
