"""What an execution has to write: creations, results and notes, queued in order until a driver takes them.

Writes are lazy: a step's creation and its result are one write, sent with whatever is next.
`unwritten` counts the writes that must be durable before the code of another step starts
(promise 2 of the design: "a finished step never runs again"), `urgent` those that must be
before any more code runs, because they let an id out of the execution. Steps that wait to start
side by side may share a write: `pressing` says when one must be durable before any step starts.
"""

from __future__ import annotations

from typing import Final

from resonate.execution.attempts import RAN, ran
from resonate.execution.call import DETACHED, EXTERNAL, LATENT, STEPS, Call, Settled
from resonate.execution.order import Notes
from resonate.execution.records import SEEN_TAG
from resonate.protocol.ids import Dialect, extends
from resonate.protocol.records import BRANCH, EMPTY, ORIGIN, PARENT, SCOPE, TARGET, Promise, Value
from resonate.protocol.records import TIMER as TIMER_TAG
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseRegisterCallback,
    PromiseSettle,
    PromiseWrite,
    Request,
    TaskFence,
    TaskFulfill,
    TaskSuspend,
)

URGENT: Final = frozenset((LATENT, DETACHED))
"""Kinds whose id the function may hand out at once: durable before it goes on."""


class Writing:
    """The writing half of an `Execution`: who it is, the calls it knows, and what of them is not durable yet."""

    __slots__ = (
        "awaited",
        "branch",
        "calls",
        "complete",
        "dialect",
        "id",
        "lazy",
        "noted",
        "notes",
        "origin",
        "outbox",
        "pid",
        "pressing",
        "remote",
        "root",
        "sent",
        "signed",
        "stop",
        "unwritten",
        "urgent",
        "version",
    )

    def __init__(
        self, promise: Promise, version: int, root: Call, *, complete: bool, dialect: Dialect, pid: str
    ) -> None:
        self.id = promise.id
        self.version = version
        self.origin = promise.tags.get(ORIGIN, promise.id)
        self.branch = promise.tags.get(BRANCH, promise.id)
        self.pid = pid
        self.signed = f"|{pid}"
        self.complete = complete
        self.dialect = dialect
        self.root = root
        root.prefix = child_prefix(promise.id, self.origin, dialect.separator)
        self.calls: dict[str, Call] = {}
        self.remote: dict[str, Call] = {}
        self.awaited: dict[str, Call] = {}
        self.outbox: list[Request] = []
        self.lazy: dict[str, TaskFence] = {}
        """Creations of steps that can wait for their results, by id."""
        self.sent = (0, 0)
        self.unwritten = 0
        self.urgent = 0
        self.pressing = False
        """Whether code has gone on since the oldest of the unwritten: it may have seen their results."""
        self.noted = 0
        self.notes = Notes()
        self.stop: BaseException | None = None

    def create(self, call: Call, tags: dict[str, str], param: Value) -> None:
        """Queue the creation of `call`'s promise."""
        if self.notes.unwritten and self.stop is None:
            self._write_notes(tags)
        action = PromiseCreate(call.id, call.deadline, param, tags)
        request = action if self.stop is not None else TaskFence(self.id, self.version, action, False)
        if call.kind in EXTERNAL:
            self._must_be_written()
            if call.kind in URGENT:
                self.urgent += 1
        elif self._asks_first(call):
            self._must_be_written()
        elif call.kind in STEPS and type(request) is TaskFence and SEEN_TAG not in tags:
            self.lazy[call.id] = request
            return
        self.outbox.append(request)

    def tag_timer(self, tags: dict[str, str]) -> None:
        """Make a promise with `tags` a timer that the service arms."""
        tags[TIMER_TAG] = "true"
        if self.dialect.timer_target is not None:
            tags[TARGET] = self.dialect.timer_target

    def tags(self, owner: Call, id: str, scope: str) -> dict[str, str]:
        """The tags of a child's place in the tree; a local child belongs to our branch.

        A service may want an id that the program chose to be in a tree of its own.
        """
        if self._strays(id):
            return {ORIGIN: id, BRANCH: id, PARENT: id, SCOPE: scope}
        return {
            ORIGIN: self.origin,
            BRANCH: self.branch if scope == "local" else id,
            PARENT: owner.id,
            SCOPE: scope,
        }

    def take(self, before_step: bool = False) -> list[Request]:
        """Everything queued so far, in order; the driver sends it as one chain.

        Before a step starts, the creations of steps stay behind, which become one write with their results if they
        are short, and so does that of the function that is about to start.
        """
        batch, self.outbox = self.outbox, []
        if self.lazy and not before_step:
            batch[:0] = self.lazy.values()
            self.lazy.clear()
        self.sent = (self.unwritten, self.urgent)
        if before_step and len(batch) > 1 and self._may_wait(batch[-1]):
            self.outbox.append(batch.pop())
        return batch

    @property
    def queued(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.outbox or self.lazy)

    def note(self, id: str, deadline: int, tags: dict[str, str]) -> TaskFence:
        """The request that stores a note beside a call: a promise that is born settled, and says what `tags` say."""
        write = PromiseWrite(PromiseCreate(id, deadline, EMPTY, tags), PromiseSettle(id, "resolved"))
        return TaskFence(self.id, self.version, write, False)

    def fulfil(self) -> TaskFulfill:
        """The request that settles the root with its result."""
        end = self.root.ended
        assert end is not None
        action = PromiseSettle(self.id, end.state, Value(self._headers(self.root, end), end.data))  # type: ignore[arg-type]
        return TaskFulfill(self.id, self.version, action)

    def suspend(self) -> TaskSuspend:
        """The request that gives the task up until one of the awaited promises is settled."""
        actions = tuple(PromiseRegisterCallback(id, self.id) for id in list(self.awaited))
        return TaskSuspend(self.id, self.version, actions, False)

    def _must_be_written(self) -> None:
        """What has just been queued must be durable before any step starts."""
        self.unwritten += 1
        self.pressing = True

    def _may_wait(self, request: Request) -> bool:
        """Whether `request` creates a local call and says nothing that must be durable before the call starts."""
        if type(request) is not TaskFence or type(request.action) is not PromiseCreate:
            return False
        if request.action.id in self.remote or SEEN_TAG in request.action.tags:
            return False
        return not self._asks_first(self.calls[request.action.id])

    def _asks_first(self, call: Call) -> bool:
        """Whether the answer to `call`'s creation comes before its code, since it may be recorded unknown to us.

        That is so where the service has not shown us the whole record, and where the program
        chose an id that may belong to another execution, or that is in a tree of its own.
        """
        if not self.complete or self._strays(call.id):
            return True
        return call.owner is not None and not call.id.startswith(call.owner.prefix)

    def _strays(self, id: str) -> bool:
        """Whether the service wants `id` to be in a tree of its own."""
        return not self.dialect.strays and not extends(self.origin, id)

    def _write_notes(self, tags: dict[str, str]) -> None:
        """Have the creation with `tags` carry the order notes; one outside of our branch gets a note beside it.

        Only our own branch is read when the task is acquired again.
        """
        if tags[BRANCH] != self.branch:
            self.noted += 1
            id = f"{self.root.prefix}seen{self.version}-{self.noted}"
            tags = self.tags(self.root, id, "local")
            self.outbox.append(self.note(id, self.root.deadline, tags))
        tags[SEEN_TAG] = self.notes.take()

    def _note_attempts(self, call: Call) -> None:
        """Say beside `call` what became of its attempts so far; nothing waits for that to be written."""
        id = f"{call.prefix or call.id + '.'}tried{self.version}-{call.attempt}"
        tags = {**self.tags(call, id, "local"), SEEN_TAG: "{}", RAN: self._ran(call)}
        call.failed_before = None
        self.outbox.append(self.note(id, call.deadline, tags))

    def _ran(self, call: Call) -> str:
        return ran(call.started_at, self.pid, call.failed_before or ())

    def _headers(self, call: Call, settled: Settled) -> dict[str, str]:
        """The headers of a result: those of its payload, and who gave it since when."""
        text = self._ran(call) if call.failed_before else f"{call.started_at or ''}{self.signed}"
        return {RAN: text} if settled.headers is None else {**settled.headers, RAN: text}

    def _write(self, settle: PromiseSettle) -> None:
        """Queue a settlement; one whose creation is still queued becomes one write with it."""
        outbox = self.outbox
        last: Request | None = self.lazy.pop(settle.id, None)
        if last is not None:
            outbox.append(last)
        elif outbox:
            last = outbox[-1]
        if type(last) is TaskFence and type(last.action) is PromiseCreate and last.action.id == settle.id:
            outbox[-1] = TaskFence(self.id, self.version, PromiseWrite(last.action, settle), False)
        else:
            outbox.append(TaskFence(self.id, self.version, settle, False))
        self.unwritten += 1


def child_prefix(id: str, origin: str, separator: str = ":") -> str:
    """What the numbers of the children of `id` are appended to (protocol 5.2).

    Today's dialect has `:` between the origin and the lineage and `.` below; an id that
    already extends its origin by `.` is of the old dialect and goes on in it. `separator` is
    what the service wants below a bare root.
    """
    return id + (separator if id == origin and ":" not in id else ".")
