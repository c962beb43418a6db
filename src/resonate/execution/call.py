"""One call in an execution's tree: its place, its code if it runs here, and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from resonate.errors import ResonateCanceledError, ResonateTimedoutError
from resonate.execution.attempts import Failed
from resonate.execution.commands import Promise
from resonate.execution.coroutine import Outcome, Raised, Returned
from resonate.options import Options
from resonate.protocol.records import CANCELED, REJECTED, RESOLVED, TIMEDOUT
from resonate.protocol.records import Promise as Record
from resonate.values import decode, decode_error

# What kind of thing a call is; the first four run here, the others happen elsewhere or in us.
PLAIN: Final = "plain"
TRANSACTION: Final = "transaction"
GENERATOR: Final = "generator"
ASYNC: Final = "async"
REMOTE: Final = "rpc"
DETACHED: Final = "detached"
TIMER: Final = "sleep"
LATENT: Final = "promise"
CHOICE: Final = "choice"
RETRY: Final = "retry"

STEPS: Final = frozenset((PLAIN, TRANSACTION))
"""Kinds whose code cannot make durable calls."""

EXTERNAL: Final = frozenset((REMOTE, DETACHED, TIMER, LATENT, RETRY))
"""Kinds that are settled outside of the execution; only these can suspend it."""

ALL: Final = -1
"""`Call.winner` of a choice that waited for all of its members, none of which failed."""


class Settled(Struct, frozen=True):
    """How a call ended: what is written, and what is seen."""

    state: str
    data: str | None
    headers: dict[str, str] | None
    outcome: Outcome


class Call:
    """A node of the tree. What only running code needs stays at its default elsewhere."""

    __slots__ = (
        "args",
        "attached",
        "attempt",
        "begun",
        "code",
        "context",
        "count",
        "deadline",
        "done",
        "ended",
        "failed_before",
        "func",
        "hands_over",
        "id",
        "identity",
        "kind",
        "kwargs",
        "loose",
        "members",
        "name",
        "open",
        "options",
        "outcome",
        "owner",
        "prefix",
        "record",
        "resume",
        "returns",
        "running",
        "seen",
        "started_at",
        "stop",
        "track",
        "version",
        "waiters",
        "winner",
    )

    def __init__(
        self,
        id: str,
        owner: Call | None,
        kind: str,
        deadline: int,
        options: Options,
        func: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.owner = owner
        self.kind = kind
        self.deadline = deadline
        self.options = options
        self.identity = ""
        self.attached = True
        self.done = False
        self.hands_over = False
        self.returns: Any = Any
        self.outcome: Outcome | None = None
        self.record: Record | None = None
        self.waiters: list[Any] | None = None
        self.members: list[Call] | None = None
        self.winner: int | None = None
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.name = ""
        self.version = 1
        self.context: Any = None
        self.code: Any = None
        self.count = 0
        self.begun = 0
        self.seen = 0
        self.open = 0
        self.attempt = 1
        self.started_at: int | None = None
        self.failed_before: list[Failed] | None = None
        self.running = False
        self.ended: Settled | None = None
        self.resume: Outcome | Call | None = None
        self.stop: BaseException | None = None
        self.prefix = ""
        self.loose: Any = None
        self.track: Any = None

    @property
    def failed(self) -> bool:
        """Whether it is done and did not return a value."""
        if self.record is not None:
            return self.record.state != RESOLVED
        return type(self.outcome) is Raised

    def read(self) -> Outcome:
        """The outcome, decoded from the record the first time it is asked for.

        Runs encoders and rebuilds values, so it must not be called under a lock.
        """
        if self.outcome is None:
            if self.record is not None:
                self.outcome = outcome_of(self.record, self.returns, self.options)
                self.record = None
            else:
                self.outcome = self._chosen()
        return self.outcome

    def forget_code(self) -> None:
        """Let go of the function, its arguments and its frame; only the outcome is kept."""
        self.func = self.code = self.context = self.kwargs = self.resume = self.track = None
        self.args = ()

    def _chosen(self) -> Outcome:
        assert self.members is not None, f"{self.id} has no outcome yet"
        assert self.winner is not None, f"{self.id} is not decided yet"
        if self.winner != ALL:
            winner = self.members[self.winner]
            return Returned(Promise(winner.id)) if self.name == "first" else winner.read()
        values = []
        for member in self.members:
            outcome = member.read()
            if type(outcome) is Raised:
                return outcome
            values.append(outcome.value)  # type: ignore[union-attr]
        return Returned(values)

    def __repr__(self) -> str:
        return f"<Call {self.kind} {self.id}>"


def outcome_of(record: Record, returns: Any, options: Options) -> Outcome:
    """What whoever waits for the settled `record` sees.

    A value that cannot be read is an error of the reader: it is raised there, never lost.
    """
    try:
        if record.state == RESOLVED:
            value = record.value
            return Returned(decode(value.data, value.headers, returns, what=record.id, encoder=options.encoder))
        if record.state == REJECTED:
            return Raised(decode_error(record.value.data, record.value.headers, encoder=options.encoder))
    except Exception as error:
        return Raised(error)
    if record.state == CANCELED:
        return Raised(ResonateCanceledError(record.id))
    assert record.state == TIMEDOUT, f"{record.id} is {record.state}"
    return Raised(ResonateTimedoutError(record.id, record.timeout_at / 1000))
