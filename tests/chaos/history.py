"""What clients asked and what they were told: written down before and after each request, read back for the judge.

Each thread of a client has a file of its own. A line is one write, so that a client that is
killed leaves what it has asked behind; a request without a second line has no known outcome.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from resonate.protocol import requests
from resonate.protocol.ids import origin_of
from resonate.protocol.records import Promise, Task
from resonate.protocol.requests import Request, Response

_KINDS: Final[dict[str, type[Request]]] = {
    kind.__name__: kind
    for kind in (
        requests.PromiseGet,
        requests.PromiseCreate,
        requests.PromiseSettle,
        requests.PromiseRegisterCallback,
        requests.PromiseRegisterListener,
        requests.TaskGet,
        requests.TaskCreate,
        requests.TaskAcquire,
        requests.TaskRelease,
        requests.TaskFulfill,
        requests.TaskSuspend,
        requests.TaskFence,
        requests.TaskHeartbeat,
        requests.TaskHalt,
        requests.TaskContinue,
    )
}

_INNER: Final[dict[str, type[Any]]] = {
    "PromiseCreate": requests.PromiseCreate,
    "PromiseSettle": requests.PromiseSettle,
}


class Answer(Struct, frozen=True, omit_defaults=True):
    """What an answer says of the state; `inner` is that of a fence's action."""

    status: int
    promise: Promise | None = None
    task: Task | None = None
    inner: Answer | None = None


class Operation(Struct, frozen=True):
    """One request of one client.

    Args:
        client: who asked; a client asks one thing at a time.
        invoked: when it was asked, nanoseconds since the epoch.
        returned: when it was answered; None if nobody knows what became of it.
        request: what was asked.
        answer: None if nobody knows what became of it.
    """

    client: str
    invoked: int
    returned: int | None
    request: Request
    answer: Answer | None

    @property
    def group(self) -> str:
        """What is checked together: a tree of promises, by the id of its root."""
        return group_of(self.request)


class _Line(Struct, array_like=True):
    """`asked` with kind and request; then `answered` with the answer, `refused` or `unknown`."""

    what: Literal["asked", "answered", "refused", "unknown"]
    at: int
    kind: str = ""
    body: Raw = Raw(b"null")
    inner: str = ""
    repeats: bool = False


class Recorder:
    """Writes down what one client asks.

    Args:
        path: of its file, which is appended to.
        repeats: whether what gets no answer is sent again, so that it may be carried out several times.
    """

    def __init__(self, path: Path, *, repeats: bool = False) -> None:
        self._repeats = repeats
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def asked(self, request: Request) -> None:
        """Right before it is sent."""
        inner = type(request.action).__name__ if isinstance(request, requests.TaskFence) else ""
        self._write(_Line("asked", time.time_ns(), type(request).__name__, _raw(request), inner, self._repeats))

    def answered(self, response: Response) -> None:
        """Right after the answer has come."""
        at = time.time_ns()
        self._write(_Line("answered", at, "", _raw(answer_of(response))))

    def refused(self) -> None:
        """It was certainly not carried out, and never will be."""
        self._write(_Line("refused", time.time_ns()))

    def unknown(self) -> None:
        """It may have been carried out, or may still be, or never."""
        self._write(_Line("unknown", time.time_ns()))

    def _write(self, line: _Line) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


def answer_of(response: Response) -> Answer:
    """What of an answer is compared: texts are for people, and preloads are hints."""
    inner = None if response.action is None else answer_of(response.action)
    return Answer(response.status, response.promise, response.task, inner)


def group_of(request: Request) -> str:
    """The tree that a request is about."""
    if isinstance(request, requests.TaskHeartbeat):
        return origin_of(request.tasks[0].id)
    if isinstance(request, requests.PromiseRegisterCallback | requests.PromiseRegisterListener):
        return origin_of(request.awaited)
    action = request.action if isinstance(request, requests.TaskCreate) else request
    return origin_of(action.id)  # type: ignore[union-attr]


class Recorded(Struct):
    """All that was recorded, and how it ended.

    Attributes:
        operations: those that may have been carried out.
        refused: how many certainly were not.
    """

    operations: list[Operation]
    refused: int = 0


def read(paths: Iterable[Path]) -> Recorded:
    """What clients have recorded."""
    recorded = Recorded([])
    for path in paths:
        _read_one(path, recorded)
    return recorded


def _read_one(path: Path, recorded: Recorded) -> None:
    asked: tuple[_Line, Request] | None = None

    def end(returned: int | None, answer: Answer | None) -> None:
        if asked is not None:
            line, request = asked
            recorded.operations.append(Operation(path.name, line.at, returned, request, answer))
            if line.repeats and answer is not None and not isinstance(request, requests.PromiseGet | requests.TaskGet):
                recorded.operations.append(Operation(path.name, line.at, None, request, None))

    for line in _lines(path):
        if line.what == "asked":
            end(None, None)  # killed before there was an answer
            asked = line, _request(line)
            continue
        assert asked is not None, f"{path}: an answer to nothing"
        if line.what == "answered":
            end(line.at, msgspec.json.decode(line.body, type=Answer))
        elif line.what == "unknown":
            end(None, None)
        else:
            recorded.refused += 1
        asked = None
    end(None, None)


def _lines(path: Path) -> Iterator[_Line]:
    decode = msgspec.json.Decoder(_Line).decode
    for text in path.read_bytes().splitlines(keepends=True):
        if text.endswith(b"\n"):  # else cut off by a kill, before anything was sent
            yield decode(text)


def _request(line: _Line) -> Request:
    if line.kind == "TaskFence":
        parts = msgspec.json.decode(line.body, type=dict[str, Raw])
        action = msgspec.json.decode(parts["action"], type=_INNER[line.inner])
        id, version = msgspec.json.decode(parts["id"], type=str), msgspec.json.decode(parts["version"], type=int)
        return requests.TaskFence(id, version, action, False)
    return msgspec.json.decode(line.body, type=_KINDS[line.kind])


def _raw(record: object) -> Raw:
    return Raw(msgspec.json.encode(record))
