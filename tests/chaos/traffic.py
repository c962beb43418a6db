"""A client process that asks for everything in the protocol: `python -m tests.chaos.traffic URL NAME DIRECTORY SEED`.

Some threads ask one thing after the other and write down what they asked and were told
(`history`). All clients work on the same few trees at the same time, and on new ones each
second, so that they meet. Over HTTP a request is sent once, by the standard library's client;
one thread sends by ours, which repeats what got no answer. Ends when standard input does.
"""

from __future__ import annotations

import http.client
import logging
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from resonate import Resonate
from resonate.errors import OutcomeUnknown, ResonateError, StorageUnavailable
from resonate.protocol.records import Value
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSettle,
    Request,
    Response,
    TaskAcquire,
    TaskContinue,
    TaskCreate,
    TaskFence,
    TaskFulfill,
    TaskGet,
    TaskHalt,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSuspend,
)
from resonate.protocol.wire import WireError, decode_response, encode_request
from tests.chaos.history import Recorder

PREFIX: Final = "raw-"
"""What the ids of these trees begin with; nobody runs their tasks."""

TREES: Final = 4
"""Trees that are worked on at the same time."""

PERIOD: Final = 1.0
"""Seconds after which other trees are worked on."""

THINKING: Final = 0.08
"""Seconds between two requests of a thread, at most."""

AFTER_FAILURE: Final = 0.3
"""Seconds after one that got no answer, so that not most of them are of that kind."""

THREADS: Final = 3
"""Of each client."""

ANSWERED_IN: Final = 4.0
"""Seconds after which the standard library's client gives up."""

HOUR: Final = 3_600_000
_NOT_APPLIED: Final = (429, 503)


Begun = TypeVar("Begun")


class Refused(Exception):
    """The request was certainly not carried out."""


class Unknown(Exception):
    """Nobody knows what became of the request."""


class Way(Protocol):
    """How requests get to where state lives."""

    pid: str

    def ask(self, request: Request) -> Response:
        """The answer.

        Raises:
            Refused: there is none, and nothing was carried out.
            Unknown: there is none.
        """


class Plain:
    """Over HTTP, once.

    Args:
        url: of the server.
        pid: who asks.
    """

    def __init__(self, url: str, pid: str) -> None:
        self._host = urlsplit(url).netloc
        self._connection: http.client.HTTPConnection | None = None
        self._number = 0
        self.pid = pid

    def ask(self, request: Request) -> Response:
        connection = self._connected()
        self._number += 1
        corr_id = str(self._number)
        try:
            connection.request("POST", "/", encode_request(request, corr_id))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            raise Unknown from error
        if answer.status in _NOT_APPLIED:
            raise Refused
        if answer.status >= 500:
            raise Unknown
        try:
            return decode_response(body, request, corr_id)
        except WireError as error:
            raise Unknown from error

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            connection = http.client.HTTPConnection(self._host, timeout=ANSWERED_IN)
            try:
                connection.connect()
            except OSError as error:
                raise Refused from error
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Ours:
    """The way that a client of ours goes, to whatever home.

    Args:
        network: of a client.
    """

    def __init__(self, network: Any) -> None:
        self._network = network
        self.pid: str = network.pid

    def ask(self, request: Request) -> Response:
        try:
            answers: list[Response] = self._network.send([request])
        except StorageUnavailable as error:
            raise Refused from error
        except (OutcomeUnknown, ResonateError) as error:
            raise Unknown from error
        return answers[0]


class Thread:
    """One who asks.

    Args:
        way: how.
        recorder: of what is asked and told.
        random: of what is asked.
        repeats: what gets no answer is sent again. Then what is inferred from the state of a task is not asked for:
            everybody uses everybody's versions here, so another's suspension would be taken for our own.
    """

    def __init__(self, way: Way, recorder: Recorder, random: Random, *, repeats: bool = False) -> None:
        self._way = way
        self._recorder = recorder
        self._random = random
        self._weights = [weight * (not repeats or what not in _INFERRED) for what, weight in _WHAT.items()]
        self._versions: dict[str, int] = {}
        self._made = 0

    def run(self, over: threading.Event) -> None:
        """Ask until it is over."""
        while not over.wait(self._random.uniform(0, THINKING)):
            if not self.one():
                over.wait(AFTER_FAILURE)

    def one(self) -> bool:
        """Ask for something; whether there is an answer."""
        request = self._random.choices(_CHOICES, self._weights)[0](self, self.tree())
        self._recorder.asked(request)
        try:
            answer = self._way.ask(request)
        except Refused:
            self._recorder.refused()
            return False
        except Unknown:
            self._recorder.unknown()
            return False
        self._recorder.answered(answer)
        if answer.task is not None:
            self._versions[answer.task.id] = answer.task.version
        return True

    def tree(self) -> str:
        """The root of one that all work on now."""
        return f"{PREFIX}{int(time.time() / PERIOD)}-{self._random.randrange(TREES)}"

    # ---- what is asked -----------------------------------------------------------------------------

    def _version(self, root: str) -> int:
        """Mostly the one seen last, which often has been left behind since."""
        known = self._versions.get(root, 1)
        return known if self._random.random() < 0.9 else max(0, known + self._random.choice((-1, 1)))

    def _lease(self) -> int:
        return self._random.choice((150, 400, 2_000))

    def _child(self, root: str) -> str:
        return f"{root}:{self._random.randint(1, 3)}"

    def _value(self) -> Value:
        """No two are the same."""
        self._made += 1
        return Value(data=f"{self._way.pid}-{threading.get_ident()}-{self._made}")

    def _deadline(self) -> int:
        soon = self._random.random() < 0.4
        return int(time.time() * 1000) + (self._random.randint(100, 1_500) if soon else HOUR)

    def _root(self, root: str) -> PromiseCreate:
        tags = {"resonate:target": "poll://any@nobody", "resonate:branch": root, "resonate:parent": root}
        return PromiseCreate(root, self._deadline(), self._value(), {**tags, "resonate:origin": root})

    def _create(self, root: str) -> PromiseCreate:
        return self._root(root) if self._random.random() < 0.2 else self._create_child(root)

    def _create_child(self, root: str) -> PromiseCreate:
        id = self._child(root)
        tags = {"resonate:origin": root, "resonate:branch": root, "resonate:parent": root}
        kind = zlib.crc32(id.encode()) % 4  # the same for whoever creates it first
        if kind == 0:
            tags["resonate:timer"] = "true"
        elif kind == 1:
            tags["resonate:scope"] = "local"
        else:
            tags["resonate:scope"] = "global"
        return PromiseCreate(id, self._deadline(), self._value(), tags)

    def _settle(self, root: str) -> PromiseSettle:
        return self._settle_one(root if self._random.random() < 0.05 else self._child(root))

    def _settle_one(self, id: str) -> PromiseSettle:
        return PromiseSettle(id, self._random.choice(("resolved", "rejected", "rejected_canceled")), self._value())

    def _get(self, root: str) -> PromiseGet:
        return PromiseGet(root if self._random.random() < 0.3 else self._child(root))

    def _await(self, root: str) -> tuple[PromiseRegisterCallback, ...]:
        children = self._random.sample((1, 2, 3), self._random.randint(1, 2))
        return tuple(PromiseRegisterCallback(f"{root}:{child}", root) for child in children)

    def _suspend(self, root: str) -> TaskSuspend:
        return TaskSuspend(root, self._version(root), self._await(root), False)

    def _release(self, root: str) -> TaskRelease:
        return TaskRelease(root, self._version(root))

    def _continue(self, root: str) -> TaskContinue:
        return TaskContinue(root)

    def _fence(self, root: str) -> TaskFence:
        child = self._random.random() < 0.5
        action = self._create_child(root) if child else self._settle_one(self._child(root))
        return TaskFence(root, self._version(root), action, False)


_WHAT: Final[dict[Callable[[Thread, str], Request], int]] = {
    Thread._get: 18,
    Thread._create: 16,
    Thread._settle: 10,
    Thread._fence: 8,
    lambda t, root: TaskGet(root): 8,
    lambda t, root: TaskCreate(t._way.pid, t._lease(), t._root(root), False): 14,
    lambda t, root: TaskAcquire(root, t._version(root), t._way.pid, t._lease(), False): 10,
    lambda t, root: TaskHeartbeat(t._way.pid, (TaskRef(root, t._version(root)),)): 6,
    Thread._suspend: 8,
    Thread._release: 5,
    Thread._continue: 2,
    lambda t, root: TaskFulfill(root, t._version(root), PromiseSettle(root, "resolved", t._value())): 2,
    lambda t, root: TaskHalt(root): 1,
    lambda t, root: t._await(root)[0]: 5,
    lambda t, root: PromiseRegisterListener(t._child(root), "poll://any@nobody"): 2,
}

_CHOICES: Final = list(_WHAT)
_INFERRED: Final = (Thread._suspend, Thread._release, Thread._continue)


def ways(url: str, name: str) -> list[Way]:
    """How the threads of a client get there; waits until there is a way."""
    ours: list[Way] = [Ours(insist(lambda: _network(url, name)))]
    if url.startswith("http"):
        return [Plain(url, f"{name}-{number}") for number in range(THREADS - 1)] + ours
    return ours * THREADS


def _network(url: str, name: str) -> Any:
    client = Resonate(url=url, group="traffic", pid=name)
    try:
        return client._core.started().network
    except BaseException:
        client.stop()
        raise


def insist(begin: Callable[[], Begun]) -> Begun:
    """Begin, as soon as that is possible."""
    while True:
        try:
            return begin()
        except ResonateError as error:
            print(f"cannot begin yet: {error}", file=sys.stderr, flush=True)
            time.sleep(0.2)


def main(url: str, name: str, directory: str, seed: str) -> None:
    """Ask until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    over = threading.Event()
    threads = []
    for number, way in enumerate(ways(url, name)):
        repeats = isinstance(way, Ours) and url.startswith("http")
        recorder = Recorder(Path(directory) / f"{name}-{number}.history", repeats=repeats)
        thread = Thread(way, recorder, Random(f"{seed}-{name}-{number}"), repeats=repeats)
        threads.append(threading.Thread(target=thread.run, args=(over,), daemon=True))
    for each in threads:
        each.start()
    sys.stdin.read()
    over.set()
    for each in threads:
        each.join(2 * ANSWERED_IN)


if __name__ == "__main__":
    main(*sys.argv[1:])
