"""Whether a history is linearisable: whether some order of the requests, each at one instant, explains all answers.

The search is that of Wing and Gong with Lowe's memory of configurations, over the trees of
promises one by one. The specification is the protocol machine itself, to which time is an
argument; so the search also finds an instant for each request:

- within the time between its invocation and its answer, and never earlier than those of the requests before it;
- of the instants with the same consequences only the first is tried: those at which a deadline or a lease ends, and
  those that answers show (`createdAt`, `settledAt`), are where consequences change;
- an earlier instant leaves more possible than a later one, so of two ways to one state only the earlier is followed.

What a server does by itself (a deadline is stored, a lease ends) may happen at any time from
the instant at which it is due, or not yet. A request whose outcome nobody knows may have been
carried out at any time since it was sent, or never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from resonate.protocol import machine, steps
from resonate.protocol.footprint import footprint
from resonate.protocol.listing import Listing
from resonate.protocol.records import ACQUIRED, PENDING, Promise, Schedule
from resonate.protocol.requests import Request
from resonate.protocol.rows import Effect, PromiseRow, Send, TaskRow
from tests.chaos.history import Answer, Operation, answer_of

BUDGET: Final = 400_000
"""Configurations of one tree after which the search gives up; a tree has some dozens of requests."""

_SAME: Final = ("tags", "param", "headers", "preload")
_FOR_EVER: Final = 2**62
_RULES: Final = steps.Rules()


class State(Struct, frozen=True):
    """The rows of one tree; also the view that the machine reads. No request that is recorded reads anything else."""

    rows: dict[str, PromiseRow] = {}
    held: dict[str, TaskRow] = {}

    def promise(self, id: str) -> PromiseRow | None:
        return self.rows.get(id)

    def task(self, id: str) -> TaskRow | None:
        return self.held.get(id)

    def reachable(self, id: str) -> bool:
        return True

    def branch(self, branch: str) -> Iterable[Promise]:
        return ()  # preloads are not compared

    def schedule(self, id: str) -> Schedule | None:
        raise NotImplementedError

    def promises(self, after: str | None) -> Iterable[PromiseRow]:
        raise NotImplementedError

    def below(self, above: str, end: str) -> Iterable[PromiseRow]:
        raise NotImplementedError

    def strays(self, first: str, last: str) -> Iterable[PromiseRow]:
        raise NotImplementedError

    def listing(self) -> Listing:
        raise NotImplementedError

    def tasks(self, after: str | None) -> Iterable[TaskRow]:
        raise NotImplementedError

    def schedules(self, after: str | None) -> Iterable[Schedule]:
        raise NotImplementedError

    def messages(self) -> Sequence[Send]:
        raise NotImplementedError

    def after(self, effects: Iterable[Effect]) -> State:
        """The rows after a step; what no answer can show is left out."""
        rows, held = dict(self.rows), dict(self.held)
        for effect in effects:
            if isinstance(effect, PromiseRow):
                rows[effect.promise.id] = effect
            elif isinstance(effect, TaskRow):
                retry_at = 0 if effect.state == PENDING else None
                held[effect.id] = replace(effect, retry_at=retry_at, last_pid=None, since=None)
        return State(dict(sorted(rows.items())), dict(sorted(held.items())))


class Violation(Struct, frozen=True):
    """A tree whose answers no order explains.

    Args:
        group: the id of its root.
        explained: the longest order found, with the instant of each request.
        state: what would be stored after it.
        stuck: the requests that might have come next, none of whose answers fits.
        undecided: the search was given up instead.
    """

    group: str
    explained: Sequence[tuple[Operation, int]]
    state: State
    stuck: Sequence[Operation]
    undecided: bool = False

    def __str__(self) -> str:
        verdict = "could not be decided" if self.undecided else "is not linearisable"
        explained = "\n".join(f"  at {at}: {shown(operation)}" for operation, at in self.explained)
        stuck = "\n".join(f"  {shown(operation)}" for operation in self.stuck)
        rows = "\n".join(f"  {_brief(row)}" for row in (*self.state.rows.values(), *self.state.held.values()))
        return f"{self.group} {verdict}. Explained:\n{explained}\nwhich leaves\n{rows}\nand then none of\n{stuck}"


def shown(operation: Operation) -> str:
    """A line about a request."""
    returned = "?" if operation.returned is None else f"{operation.returned / 1e6:.3f}"
    asked, told = _brief(operation.request), "unknown" if operation.answer is None else _brief(operation.answer)
    return f"{operation.client} [{operation.invoked / 1e6:.3f}, {returned}] {asked} -> {told}"


def _brief(record: object) -> str:
    """A record without what is the same in all of them."""
    if not isinstance(record, Struct):
        return f"({', '.join(map(_brief, record))})" if isinstance(record, tuple) else repr(record)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    said = [f"{name}={_brief(value)}" for name, value in fields.items() if name not in _SAME and value is not None]
    return f"{type(record).__name__}({', '.join(said)})"


def check(
    operations: Iterable[Operation], *, tolerance: int = 1, skew: int = 0, settles: bool = False
) -> list[Violation]:
    """All trees whose answers cannot be explained.

    Args:
        operations: everything that may have been carried out.
        tolerance: milliseconds by which the clock of a server may differ from that of the clients.
        skew: milliseconds by which a request may have read its clock before one that came first. More than the
            difference of two clocks where transactions do not wait for each other.
        settles: what a request sees timed out is stored as that. Then it stays so, whatever the clocks say.
    """
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(operation.group, []).append(operation)
    found = (_Search(group, own, tolerance, skew, settles).run() for group, own in groups.items())
    return [violation for violation in found if violation is not None]


class _Configuration(Struct, frozen=True):
    """What has been carried out (one bit each), what is stored then, and the last instant."""

    done: int
    state: int
    now: int


class _Search:
    """The search in one tree."""

    def __init__(self, group: str, operations: Sequence[Operation], tolerance: int, skew: int, settles: bool) -> None:
        self._group = group
        self._settles = settles
        self._operations = sorted(operations, key=lambda operation: operation.invoked)
        self._skew = skew
        self._earliest = [operation.invoked // 1_000_000 - tolerance for operation in self._operations]
        self._returned = [_FOR_EVER if o.returned is None else o.returned for o in self._operations]
        self._latest = [r if r == _FOR_EVER else r // 1_000_000 + tolerance for r in self._returned]
        seen = sorted({at for operation in self._operations for at in _instants(operation.answer)})
        self._instants = [seen if o.answer is None else _instants(o.answer) for o in self._operations]
        self._answered = sum(1 << at for at, o in enumerate(self._operations) if o.answer is not None)
        self._states: list[State] = []
        self._numbers: dict[bytes, int] = {}
        self._stepped: dict[tuple[int, int, int], tuple[bool, int]] = {}
        self._closed: dict[tuple[int, int], list[int]] = {}
        self._critical: dict[int, list[int]] = {}

    def run(self) -> Violation | None:
        """The violation, if no order explains the answers."""
        first = _Configuration(0, self._number(State()), 0)
        path: list[tuple[_Configuration, int, Iterator[tuple[_Configuration, int]]]] = [(first, -1, self._next(first))]
        best = [(first, -1)]
        visited: dict[tuple[int, int], int] = {}
        tries = 0
        while path:
            configuration, _, following = path[-1]
            if configuration.done & self._answered == self._answered:
                return None
            step = next(following, None)
            if step is None:
                path.pop()
                continue
            after, operation = step
            key = after.done, after.state
            if visited.get(key, _FOR_EVER) <= after.now:
                continue
            visited[key] = after.now
            tries += 1
            path.append((after, operation, self._next(after)))
            if len(path) > len(best):
                best = [(reached, at) for reached, at, _ in path]
            if tries > BUDGET:
                return self._violation(best, undecided=True)
        return self._violation(best, undecided=False)

    def _violation(self, best: Sequence[tuple[_Configuration, int]], *, undecided: bool) -> Violation:
        last, _ = best[-1]
        return Violation(
            self._group,
            [(self._operations[at], reached.now) for reached, at in best if at >= 0],
            self._states[last.state],
            [self._operations[at] for at in self._candidates(last.done)],
            undecided,
        )

    def _candidates(self, done: int) -> list[int]:
        """What may be carried out next: nothing that was asked for after another's answer, while that is not done."""
        found: list[int] = []
        bound = _FOR_EVER
        for at, operation in enumerate(self._operations):
            if operation.invoked > bound:
                break
            if not done >> at & 1:
                found.append(at)
                bound = min(bound, self._returned[at])
        found = [at for at in found if self._operations[at].invoked <= bound]
        return sorted(found, key=lambda at: self._returned[at])

    def _next(self, from_: _Configuration) -> Iterator[tuple[_Configuration, int]]:
        candidates = self._candidates(from_.done)
        for at in candidates:  # what changes nothing, not even the time, may as well come first
            if self._earliest[at] <= from_.now and self._operations[at].answer is not None:
                fits, after = self._step(from_.state, at, from_.now)
                if fits and after == from_.state and from_.now <= self._latest[at]:
                    yield _Configuration(from_.done | 1 << at, from_.state, from_.now), at
                    return
        for at in candidates:
            reached: dict[int, int] = {}
            for state, now in self._outcomes(from_, at):
                if now < reached.get(state, _FOR_EVER):
                    reached[state] = now
            for state, now in reached.items():
                yield _Configuration(from_.done | 1 << at, state, max(now, from_.now)), at

    def _outcomes(self, from_: _Configuration, at: int) -> Iterator[tuple[int, int]]:
        """What may be stored after a request, and the first instant at which that comes about."""
        unknown = self._operations[at].answer is None
        first = max(self._earliest[at], from_.now - self._skew)
        instants = {first, *self._turns(from_.state), *self._instants[at]}
        for now in sorted(instant for instant in instants if first <= instant <= self._latest[at]):
            for state in self._by_itself(from_.state, now):
                fits, after = self._step(state, at, now)
                if (after != state) if unknown else fits:
                    yield after, now

    def _step(self, state: int, at: int, now: int) -> tuple[bool, int]:
        """Carry out one request; whether its answer fits, and what is stored then."""
        key = state, at, now
        known = self._stepped.get(key)
        if known is None:
            operation, view = self._operations[at], self._states[state]
            if self._settles:
                view = _settled(view, operation.request, now)
            response, effects = machine.apply(view, operation.request, now, _RULES)
            after = self._number(view.after(effects))
            known = self._stepped[key] = answer_of(response) == operation.answer, after
        return known

    def _by_itself(self, state: int, now: int) -> list[int]:
        """What may be stored at `now` if nobody asks for anything."""
        due = sum(1 for turn in self._turns(state) if turn <= now)
        known = self._closed.get((state, due))
        if known is not None:
            return known
        found, at = [state], 0
        while at < len(found):
            view = self._states[found[at]]
            for effects in _due(view, now):
                after = self._number(view.after(effects))
                if after not in found:
                    found.append(after)
            at += 1
        self._closed[state, due] = found
        return found

    def _turns(self, state: int) -> list[int]:
        """The instants at which something is due."""
        known = self._critical.get(state)
        if known is None:
            view = self._states[state]
            deadlines = {r.promise.timeout_at for r in view.rows.values() if r.promise.state == PENDING}
            leases = {task.expires_at for task in view.held.values() if task.expires_at is not None}
            known = self._critical[state] = sorted(deadlines | leases)
        return known

    def _number(self, state: State) -> int:
        key = msgspec.json.encode(state)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._states)
            self._states.append(state)
        return number


def _due(view: State, now: int) -> Iterator[list[Effect]]:
    """What the server may do by itself at `now`: each by itself."""
    for id, row in view.rows.items():
        if row.promise.state == PENDING and row.promise.timeout_at <= now:
            yield steps.time_out(view, _RULES, id, now)
    for id, task in view.held.items():
        if task.state == ACQUIRED and task.expires_at is not None and task.expires_at <= now:
            effects = steps.wake(view, _RULES, id, now)
            if effects:
                yield effects


def _settled(view: State, request: Request, now: int) -> State:
    """What `request` is about to see timed out is stored as that."""
    for id in sorted(footprint((request,)).promises):
        row = view.promise(id)
        if row is not None and row.promise.state == PENDING and row.promise.timeout_at <= now:
            view = view.after(steps.time_out(view, _RULES, id, now))
    return view


def _instants(answer: Answer | None) -> list[int]:
    if answer is None:
        return []
    promise = answer.promise
    own = [] if promise is None else [promise.created_at, promise.settled_at]
    return [at for at in own if at is not None] + _instants(answer.inner)


__all__ = ["Violation", "check", "shown"]
