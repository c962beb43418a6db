"""Where a user's own store says what happened: the protocol of the official client's sources."""

from __future__ import annotations

from typing import Literal, Protocol, TypedDict, runtime_checkable


class TaskMesg(TypedDict):
    """The offer of a task; `counter` must be named to claim it."""

    id: str
    counter: int


class ValueMesg(TypedDict):
    """A payload; `data` as the store's encoder writes it."""

    headers: dict[str, str] | None
    data: str | None


class PromiseMesg(TypedDict):
    """A settled promise; instants are milliseconds since the epoch."""

    id: str
    state: str
    timeout: int
    idempotencyKeyForCreate: str | None
    idempotencyKeyForComplete: str | None
    param: ValueMesg
    value: ValueMesg
    tags: dict[str, str] | None
    createdOn: int
    completedOn: int | None


class InvokeMesg(TypedDict):
    """Run a promise's function from the top."""

    type: Literal["invoke"]
    task: TaskMesg


class ResumeMesg(TypedDict):
    """Go on: something that the function waits for is settled."""

    type: Literal["resume"]
    task: TaskMesg


class NotifyMesg(TypedDict):
    """A promise that somebody here subscribed to is settled."""

    type: Literal["notify"]
    promise: PromiseMesg


Mesg = InvokeMesg | ResumeMesg | NotifyMesg


@runtime_checkable
class MessageSource(Protocol):
    """Messages for one process. That the attributes exist is checked when it is handed in."""

    @property
    def unicast(self) -> str:
        """The address of this very process."""

    @property
    def anycast(self) -> str:
        """The address of any process of its group, this one preferred."""

    def start(self) -> None:
        """Begin to receive. Idempotent."""

    def stop(self) -> None:
        """Receive nothing more, and have `next` return None."""

    def next(self) -> Mesg | None:
        """The next message; blocks until there is one. None once stopped."""

    def enqueue(self, mesg: Mesg) -> None:
        """Put a message in by hand, behind those that wait."""


__all__ = [
    "InvokeMesg",
    "Mesg",
    "MessageSource",
    "NotifyMesg",
    "PromiseMesg",
    "ResumeMesg",
    "TaskMesg",
    "ValueMesg",
]
