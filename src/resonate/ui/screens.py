"""What each screen shows, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from resonate.inspection import Call, FailureGroup, Inspector, exporting
from resonate.inspection.inspector import COUNTED, KINDS
from resonate.inspection.reading import call_of
from resonate.protocol.cron import next_occurrence
from resonate.protocol.listing import clip, group_of
from resonate.protocol.pauses import is_paused
from resonate.protocol.records import ORIGIN, PENDING, SCHEDULE, TARGET, Promise, Schedule, Value
from resonate.protocol.requests import PromiseGet, ScheduleSearch
from resonate.ui.access import Poller, Refused, Send

PAGE: Final = 100
"""Executions in one page of the list."""

SHOWN: Final = 20_000
"""Characters of an input, output or traceback that are sent to the page; the rest is cut."""

SCHEDULES: Final = 1_000
"""Schedules that are listed at most."""

TAGS: Final = 5
"""Tags of an execution that the list shows."""

UPCOMING: Final = 3
"""Occurrences shown of a schedule that are still to come."""

FAILED: Final = 1_000
"""Failed executions that can be begun again from the page at most, all kinds together; the newest of each."""

SHOWN_FAILED: Final = 5
"""Failed executions of each kind that the page links to."""

RESULTS: Final = 5
"""Occurrences shown of a schedule."""

AGAIN: Final = ".again-"
"""Comes between the id of an execution that failed and how often it was begun again."""

Query = Mapping[str, str]


def executions(ask: Inspector, query: Query, now: int) -> Any:
    """One page of the list; `last` in the query is how many milliseconds ago the oldest was begun.

    Raises:
        ValueError: a filter makes no sense.
    """
    tags = {}
    for pair in filter(None, query.get("tag", "").split(",")):
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            raise ValueError(f"the filter on tags {pair!r} is not NAME=VALUE")
        tags[name.strip()] = value.strip()
    since, last = _whole(query, "since"), _whole(query, "last")
    if last is not None:
        since = max(now - last, since or 0)
    wanted: dict[str, Any] = {
        "function": query.get("function") or None,
        "group": query.get("group") or None,
        "tags": tags,
        "prefix": query.get("prefix", ""),
        "since": since,
        "until": _whole(query, "until"),
    }
    cursor = query.get("cursor") or None
    page = ask.executions(state=query.get("state") or None, limit=PAGE, cursor=cursor, **wanted)
    found: dict[str, Any] = {"items": [_light(call) | _tags(call) for call in page.items], "cursor": page.cursor}
    if cursor is None:
        counts = ask.counts(**wanted)
        found |= {"counts": counts.states, "more": counts.more}
    return found


def _tags(call: Call) -> dict[str, Any]:
    """Those that the program gave, cut."""
    own = {name[:60]: value[:60] for name, value in call.tags.items() if not name.startswith("resonate:")}
    return {"tags": dict(list(own.items())[:TAGS])} if own else {}


def _whole(query: Query, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise ValueError(f"{name} has to be milliseconds, got {text[:40]!r}")
    return int(text)


def _light(call: Call) -> Any:
    """A call without what is long."""
    shown = {
        "id": call.id,
        "kind": call.kind,
        "name": call.title,
        "state": call.state,
        "created": call.created_at,
        "deadline": call.deadline,
    }
    optional = {
        "settled": call.settled_at,
        "group": call.group,
        "worker": call.worker,
        "error": None if call.error is None else str(call.error)[:200],
        "reason": call.reason and call.reason[:1000],
        "place": call.place,
        "started": call.started_at,
        "again": call.again_at,
        "attempts": _runs(call),
    }
    return shown | {name: value for name, value in optional.items() if value not in (None, "")}


def _runs(call: Call) -> Any:
    """Begin and end of each attempt and what it failed with, where there was more than one."""
    if len(call.attempts) < 2 and not call.again_at:
        return None
    return [
        [one.number, one.started_at, one.ended_at, None if one.error is None else one.error.type]
        for one in call.attempts
    ]


def tree(ask: Inspector, query: Query) -> Any:
    """All calls of an execution from the top down, each with its depth."""
    rows: list[Any] = []
    top = ask.tree(_id(query))
    stack = [(top, 0)]
    while stack:
        call, depth = stack.pop()
        rows.append(_light(call) | {"depth": depth})
        stack += [(child, depth + 1) for child in reversed(call.calls)]
    rows[0]["root"] = top.tags.get(ORIGIN, top.id)
    return {"rows": rows}


def over(found: Any) -> bool:
    """Whether nothing of a screen can change any more: an execution that has ended with all that is below it."""
    return "rows" in found and all("settled" in row for row in found["rows"])


def call(ask: Inspector, query: Query) -> Any:
    """Everything about one call; what is long is cut."""
    found = ask.execution(_id(query))
    error = found.error
    if error is not None:
        error = replace(error, message=_cut(error.message), traceback=_cut(error.traceback))
    plain = msgspec.to_builtins(replace(found, input=None, output=None, error=error, calls=()))
    return plain | {
        "title": found.title,
        "input": _arguments(found.input),
        "output": _text(found.output),
        "tags": {name: _cut(value) for name, value in found.tags.items()},
    }


def stored(send: Send, query: Query) -> Any:
    """The payloads of one call as they are stored."""
    (answer,) = send([PromiseGet(_id(query))])
    if answer.promise is None:
        return {"input": None, "output": None}
    both = {"input": answer.promise.param, "output": answer.promise.value}
    return {name: {"headers": value.headers or {}, "data": value.data} for name, value in both.items() if value.data}


def _arguments(value: Any) -> str | None:
    """What a function is called with, as a call; anything else as it is."""
    if not isinstance(value, dict) or not isinstance(value.get("func"), str):
        return _text(value)
    args, kwargs = value.get("args", []), value.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        return _text(value)
    given = [json.dumps(arg, indent=2, ensure_ascii=False) for arg in args]
    given += [f"{name}={json.dumps(arg, indent=2, ensure_ascii=False)}" for name, arg in kwargs.items()]
    return _cut(f"{value['func']}({', '.join(given)})")


def _text(value: Any) -> str | None:
    return None if value is None else _cut(json.dumps(value, indent=2, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\n… {len(text) - SHOWN:,} more characters; export shows all"


def why(ask: Inspector, query: Query) -> Any:
    """What an execution waits for."""
    return {"waits": ask.why(_id(query))}


def _id(query: Query) -> str:
    id = query.get("id")
    if not id:
        raise ValueError("which one? The id is missing")
    return id


def groups(ask: Inspector, pollers: Mapping[str, Sequence[Poller]] | None) -> Any:
    """Who polls what, who holds what, and what nobody has taken."""
    found: dict[str, Any] = {}

    def of(group: str) -> Any:
        new: dict[str, Any] = {"group": group, "backlog": 0, "oldest": None, "halted": 0, "more": (), "workers": {}}
        return found.setdefault(clip(group), new)

    def worker(group: str, pid: str) -> Any:
        new: Any = {"pid": pid, "polls": None if pollers is None else False, "leases": 0, "ttl": None, "runs": []}
        return of(group)["workers"].setdefault(pid, new)

    for name, all in (pollers or {}).items():
        for poller in all:
            worker(name, poller.pid).update(polls=poller.gone is None, since=poller.since, gone=poller.gone)
    known = ask.groups()
    for load in known:
        of(load.name).update(backlog=load.queued, oldest=load.oldest, halted=load.halted, more=load.more)
        for one in load.workers:
            holder = worker(load.name, one.pid)
            runs = [{"id": call.id, "name": call.title} for call in one.calls]
            holder.update(leases=one.leases, ttl=one.ttl_ms, runs=runs)
            if not holder["polls"]:  # who listens is there now, and each renewal would be a change
                holder["seen"] = one.seen_at
    rows = sorted(found.values(), key=lambda row: row["group"])
    for row in rows:
        row["workers"] = sorted(row["workers"].values(), key=lambda worker: (worker["polls"] is False, worker["pid"]))
    held = sum(one.leases for load in known for one in load.workers)
    partial = held >= COUNTED or any(load.more for load in known)
    return {"groups": rows, "known": pollers is not None, "partial": partial}


def schedules(send: Send, ask: Inspector) -> Any:
    """Schedules, the next to fire first, each with its last occurrences."""
    found: list[Schedule] = []
    cursor = None
    while len(found) < SCHEDULES:
        (answer,) = send([ScheduleSearch(limit=100, cursor=cursor)])
        if answer.schedules is None:
            raise Refused(answer.status, f"schedules cannot be searched for here: {answer.error}")
        found += answer.schedules
        cursor = answer.cursor
        if cursor is None:
            break
    shown: list[Any] = []
    for one in sorted(found, key=lambda each: each.next_run_at)[:SCHEDULES]:
        last = ask.executions(tags={SCHEDULE: one.id}, limit=RESULTS) if len(found) <= PAGE else None
        shown.append(
            {
                "id": one.id,
                "cron": one.cron,
                "next": one.next_run_at,
                "last": one.last_run_at,
                "created": one.created_at,
                "paused": is_paused(one),
                "upcoming": _upcoming(one),
                "function": _function(one),
                "target": group_of(one.promise_tags.get(TARGET, "")),
                "results": [] if last is None else [_light(call) for call in last.items],
            }
        )
    return {"schedules": shown, "partial": cursor is not None}


def _upcoming(schedule: Schedule) -> list[int]:
    """When it fires next, and the times after that."""
    found = [schedule.next_run_at]
    while len(found) < UPCOMING:
        after = next_occurrence(schedule.cron, found[-1])
        if after is None:
            break
        found.append(after)
    return found


def _function(schedule: Schedule) -> str:
    """What it begins; empty if that is no function."""
    at = schedule.created_at
    begun = Promise(schedule.id, PENDING, schedule.promise_param, Value(), schedule.promise_tags, at, at)
    call = call_of(begun)
    return call.title if call.name else ""


def failures(send: Send, ask: Inspector) -> Any:
    """Failed executions grouped by function, error and the place that raised it; `left` were not begun again."""
    kinds = sorted(ask.failures(shown=FAILED), key=lambda kind: (-kind.count, kind.function))
    named = _named(kinds)
    ids = [id for own in named for id in own]
    answers = send([PromiseGet(successor(id)) for id in ids]) if ids else []
    begun = {id for id, answer in zip(ids, answers, strict=True) if answer.promise is not None}
    groups = [
        {
            "function": kind.function,
            "error": kind.error.type,
            "place": kind.place,
            "message": kind.error.message[:500],
            "count": kind.count,
            "more": kind.more,
            "first": kind.oldest,
            "last": kind.newest,
            "ids": own[:SHOWN_FAILED],
            "left": [id for id in own if id not in begun],
            "again": sum(id in begun for id in own),
        }
        for kind, own in zip(kinds, named, strict=True)
    ]
    partial = len(kinds) >= KINDS or any(kind.more for kind in kinds) or len(ids) < sum(kind.count for kind in kinds)
    return {"groups": groups, "partial": partial}


def _named(kinds: Sequence[FailureGroup]) -> list[tuple[str, ...]]:
    """The newest ids of each kind, `FAILED` in all: what a kind does not need, larger ones have."""
    shares: dict[int, int] = {}
    left = FAILED
    smallest = sorted(range(len(kinds)), key=lambda index: len(kinds[index].ids))
    for done, index in enumerate(smallest):
        shares[index] = min(len(kinds[index].ids), left // (len(kinds) - done))
        left -= shares[index]
    return [kind.ids[: shares[index]] for index, kind in enumerate(kinds)]


def successor(id: str) -> str:
    """The id under which a failed execution is begun again; always the same, so that it is begun only once."""
    before, again, number = id.rpartition(AGAIN)
    return f"{before}{AGAIN}{int(number) + 1}" if again and number.isdigit() else f"{id}{AGAIN}1"


def export(send: Send, query: Query, now: Callable[[], int]) -> Any:
    """A whole tree as it is recorded: what `resonate import` reads."""
    return exporting.export(send, now, _id(query))
