"""What belongs together: open calls by group, failed ones by function, error and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from resonate.inspection.views import Call, Failure, FailureGroup, Group, Worker
from resonate.protocol import listing
from resonate.protocol.listing import HELD_SHOWN, Holder, Load

_SHOWN: Final = {"queued": "pending", "running": "acquired", "waiting": "suspended", "halted": "halted"}


def by_load(loads: Iterable[Load], holders: Iterable[Holder], calls: Mapping[str, Call], most: int) -> list[Group]:
    """Groups, as a service of ours tells of them; each number is counted up to `most`.

    Args:
        calls: those that holders name, as far as they are still there.
    """
    workers: dict[str, list[Worker]] = {}
    for one in holders:
        held = tuple(calls[id] for id in one.ids if id in calls)
        worker = Worker(pid=one.pid, leases=one.leases, calls=held, ttl_ms=one.ttl, seen_at=one.seen_at)
        workers.setdefault(one.group, []).append(worker)
    found = []
    for load in loads:
        counts = {state: load.counts.get(phase, 0) for state, phase in _SHOWN.items()}
        found.append(
            Group(
                name=load.group,
                **{state: min(count, most) for state, count in counts.items()},
                oldest=load.oldest,
                workers=tuple(workers.get(load.group, ())),
                more=tuple(state for state, count in counts.items() if count > most),
            )
        )
    return found


def by_calls(name: str, calls: Sequence[Call], more: bool) -> Group:
    """A group, from its open calls; `more`: there may be others."""
    states: Counter[str] = Counter(call.state for call in calls)
    queued = [call.begins_at for call in calls if call.state == "queued"]
    held: dict[str, list[Call]] = {}
    for call in calls:
        if call.worker:
            held.setdefault(call.worker, []).append(call)
    return Group(
        name=name,
        **{state: states[state] for state in _SHOWN},
        oldest=min(queued, default=None),
        workers=tuple(_worker(pid, calls) for pid, calls in sorted(held.items())),
        more=tuple(_SHOWN) if more else (),
    )


def _worker(pid: str, calls: Sequence[Call]) -> Worker:
    first = sorted(calls, key=lambda call: call.id)[:HELD_SHOWN]
    return Worker(
        pid=pid, leases=len(calls), calls=tuple(first), ttl_ms=max(call.lease_ms or 0 for call in calls) or None
    )


def alike(calls: Iterable[Call], shown: int, more: bool) -> list[FailureGroup]:
    """Failed calls, those together that failed alike; the newest first.

    Args:
        calls: the newest first.
        shown: ids that are named of each kind.
        more: whether there may be others.
    """
    found: dict[tuple[str, str, str], list[Call]] = {}
    for call in calls:
        if call.error is not None:
            found.setdefault((call.name, call.error.type, place_of(call.error)), []).append(call)
    groups = [_alike(function, place, calls, shown, more) for (function, _, place), calls in found.items()]
    return sorted(groups, key=lambda group: group.newest, reverse=True)


def _alike(function: str, place: str, calls: Sequence[Call], shown: int, more: bool) -> FailureGroup:
    newest = max(calls, key=lambda call: call.settled_at or 0)
    assert newest.error is not None
    return FailureGroup(
        function=function,
        error=newest.error,
        place=place,
        count=len(calls),
        newest=newest.settled_at or 0,
        oldest=None if more or not 1 < len(calls) <= shown else min(call.settled_at or 0 for call in calls),
        ids=tuple(call.id for call in calls[:shown]),
        more=more,
    )


def place_of(error: Failure) -> str:
    """The line of code that raised, as its traceback has it: `shop.py:12 in charge`."""
    return listing.place_of(error.traceback)
