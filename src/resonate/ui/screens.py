"""What each screen shows, as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from resonate.inspection import Call, Inspector
from resonate.protocol.records import ORIGIN, SCHEDULE, TARGET, Promise, Schedule, Task
from resonate.protocol.requests import PromiseGet, PromiseSearch, ScheduleSearch, TaskSearch
from resonate.ui.access import Refused, Send

PAGE: Final = 100
"""Executions in one page of the list."""

SHOWN: Final = 20_000
"""Characters of an input, output or traceback that are sent to the page; the rest is cut."""

TASKS: Final = 2_000
"""Tasks of each state that the overview of groups counts at most."""

SCHEDULES: Final = 1_000
"""Schedules that are listed at most."""

FAILED: Final = 1_000
"""Failed executions that are grouped at most, the newest."""

RESULTS: Final = 5
"""Occurrences shown of a schedule."""

EXPORTED: Final = 100_000
"""Promises of one tree that are exported at most."""

Query = Mapping[str, str]


def executions(ask: Inspector, query: Query) -> Any:
    """One page of the list.

    Raises:
        ValueError: a filter makes no sense.
    """
    tags = {}
    for pair in filter(None, query.get("tag", "").split(",")):
        name, equals, value = pair.partition("=")
        if not name.strip() or not equals:
            raise ValueError(f"the filter on tags {pair!r} is not NAME=VALUE")
        tags[name.strip()] = value.strip()
    page = ask.executions(
        state=query.get("state") or None,
        function=query.get("function") or None,
        group=query.get("group") or None,
        tags=tags,
        prefix=query.get("prefix", ""),
        since=_whole(query, "since"),
        until=_whole(query, "until"),
        limit=PAGE,
        cursor=query.get("cursor") or None,
    )
    return {"items": [_light(call) for call in page.items], "cursor": page.cursor}


def _whole(query: Query, name: str) -> int | None:
    text = query.get(name)
    return int(text) if text else None


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
    }
    return shown | {name: value for name, value in optional.items() if value not in (None, "")}


def tree(ask: Inspector, query: Query) -> Any:
    """All calls of an execution from the top down, each with its depth."""
    rows: list[Any] = []
    stack = [(ask.tree(_id(query)), 0)]
    while stack:
        call, depth = stack.pop()
        rows.append(_light(call) | {"depth": depth})
        stack += [(child, depth + 1) for child in reversed(call.calls)]
    return {"rows": rows}


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


def groups(send: Send, pollers: Mapping[str, Sequence[str]] | None) -> Any:
    """Who polls what, who holds what, and what nobody has taken."""
    found: dict[str, Any] = {}

    def of(group: str) -> Any:
        return found.setdefault(group, {"group": group, "backlog": 0, "oldest": None, "halted": 0, "workers": {}})

    for name, ids in (pollers or {}).items():
        for pid in ids:
            of(name)["workers"][pid] = {"pid": pid, "polls": True, "leases": 0, "ttl": None}
    counted = 0
    for state in ("pending", "acquired", "halted"):
        tasks = _tasks(send, state)
        counted = max(counted, len(tasks))
        for task, promise in _with_promises(send, tasks):
            group = of(group_name(promise.tags[TARGET]))
            if state == "pending":
                group["backlog"] += 1
                group["oldest"] = min(promise.created_at, group["oldest"] or promise.created_at)
            elif state == "halted":
                group["halted"] += 1
            else:
                pid = task.pid or "unknown"
                worker = group["workers"].setdefault(pid, {"pid": pid, "polls": None, "leases": 0, "ttl": None})
                worker["leases"] += 1
                worker["ttl"] = task.ttl
    rows = sorted(found.values(), key=lambda row: row["group"])
    for row in rows:
        row["workers"] = sorted(row["workers"].values(), key=lambda worker: worker["pid"])
    return {"groups": rows, "known": pollers is not None, "partial": counted >= TASKS}


def group_name(target: str) -> str:
    """The group in the address of a task: `poll://any@GROUP`; the address itself where it names none."""
    if not target.startswith("poll://"):
        return target
    return target.rpartition("@")[2].partition("/")[0] or target


def _tasks(send: Send, state: Any) -> list[Task]:
    found: list[Task] = []
    cursor = None
    while len(found) < TASKS:
        (answer,) = send([TaskSearch(state, 1000, cursor)])
        if answer.tasks is None:
            raise Refused(answer.status, f"tasks cannot be searched for here: {answer.error}")
        found += answer.tasks
        cursor = answer.cursor
        if cursor is None:
            break
    return found[:TASKS]


def _with_promises(send: Send, tasks: Sequence[Task]) -> Iterable[tuple[Task, Promise]]:
    answers = send([PromiseGet(task.id) for task in tasks]) if tasks else []
    for task, answer in zip(tasks, answers, strict=True):
        if answer.promise is not None and TARGET in answer.promise.tags:
            yield task, answer.promise


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
    shown = []
    for one in sorted(found, key=lambda each: each.next_run_at)[:SCHEDULES]:
        last = ask.executions(tags={SCHEDULE: one.id}, limit=RESULTS) if len(found) <= PAGE else None
        shown.append(
            {
                "id": one.id,
                "cron": one.cron,
                "next": one.next_run_at,
                "last": one.last_run_at,
                "created": one.created_at,
                "target": group_name(one.promise_tags.get(TARGET, "")),
                "results": [] if last is None else [_light(call) for call in last.items],
            }
        )
    return {"schedules": shown}


def failures(ask: Inspector) -> Any:
    """Failed executions grouped by function, error and the place that raised it."""
    page = ask.executions(state="failed", limit=FAILED)
    found: dict[tuple[str, ...], Any] = {}
    for call in page.items:
        error = call.error
        kind = "Error" if error is None else error.type
        place = "" if error is None else _raised_at(error.traceback)
        group = found.setdefault(
            (call.title, kind, place),
            {
                "function": call.title,
                "error": kind,
                "place": place,
                "message": "" if error is None else error.message[:500],
                "count": 0,
                "first": call.created_at,
                "last": call.created_at,
                "ids": [],
            },
        )
        group["count"] += 1
        group["first"] = min(group["first"], call.created_at)
        group["last"] = max(group["last"], call.created_at)
        group["ids"].append(call.id)
    return {"groups": sorted(found.values(), key=lambda group: -group["count"]), "partial": page.cursor is not None}


def _raised_at(traceback: str) -> str:
    """File and line of the innermost frame."""
    frames = [line.strip() for line in traceback.splitlines() if line.strip().startswith("File ")]
    if not frames:
        return ""
    file, _, rest = frames[-1].removeprefix("File ").partition(", line ")
    return f"{file.strip(chr(34)).rpartition('/')[2]}:{rest.partition(',')[0]}"


def export(send: Send, ask: Inspector, query: Query) -> Any:
    """A whole tree as it is recorded, one promise after the other."""
    id = _id(query)
    origin = ask.execution(id).tags.get(ORIGIN, id)
    found: list[Promise] = []
    cursor = None
    while len(found) < EXPORTED:
        (answer,) = send([PromiseSearch(tags={ORIGIN: origin}, limit=1000, cursor=cursor)])
        if answer.promises is None:
            raise Refused(answer.status, f"promises cannot be searched for here: {answer.error}")
        found += answer.promises
        cursor = answer.cursor
        if cursor is None:
            break
    return {"root": origin, "promises": found}
