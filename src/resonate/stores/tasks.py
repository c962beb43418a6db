"""The low-level task client: claim, complete, heartbeat, as stores of the official client have them.

The protocol of today has no `complete`: a worker settles, suspends or releases. So this
client remembers what each task it handed out waits for (`promises.callback` says it), and
makes of `complete` what is meant: nothing more to do for a settled promise, else a
suspension until one of the callbacks fires, those registered later included.

A counter is a version: an offer with counter n is claimed as version n, one above the
version at which it was offered.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec import Struct

from resonate.errors import ResonateStoreError
from resonate.network.base import Network
from resonate.protocol.records import ACQUIRED, EXTERNAL, FULFILLED, SCOPE
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    Request,
    TaskAcquire,
    TaskGet,
    TaskHeartbeat,
    TaskRef,
    TaskRelease,
    TaskSuspend,
)
from resonate.stores.exchange import (
    NO_TASK,
    NOT_CLAIMABLE,
    Exchange,
    arun,
    check_text,
    check_whole,
    checked,
    refusal,
    run,
)
from resonate.stores.records import DurablePromise, _Settles

CLAIMS: Final = 10_000
"""Claimed tasks that are remembered; the leases of older ones are left to run out."""


class _Claim(Struct):
    """A task handed out here: to whom, as which version, and what it waits for so far."""

    pid: str
    version: int
    awaited: dict[str, None]


class TaskClient:
    """Tasks, over a network.

    Args:
        network: where they are kept.
        settles: what the promises that `claim` gives are settled with.
    """

    def __init__(self, network: Network, settles: _Settles) -> None:
        self._network = network
        self._settles = settles
        self._claims: OrderedDict[str, _Claim] = OrderedDict()

    def claim(self, id: str, counter: int, pid: str, ttl: int) -> tuple[DurablePromise, DurablePromise | None]:
        """Take an offered task.

        Args:
            id, counter: as the offer's message has them.
            pid: who takes it, and sends heartbeats.
            ttl: length of the lease, milliseconds.

        Returns:
            The promise whose function is to run, and the promise it waited for if the
            settlement of one woke it.

        Raises:
            ResonateStoreError: 100.40403 no such task; 100.40305 not offered with this counter.
        """
        return run(self._network, self._claim(id, counter, pid, ttl))

    def complete(self, id: str, counter: int) -> bool:
        """Give a claimed task up: its promise is settled, or waits for its callbacks.

        Returns:
            Whether this changed anything.

        Raises:
            ResonateStoreError: 100.40403 no such task; 100.40305 not claimed with this counter.
        """
        return run(self._network, self._complete(id, counter))

    def heartbeat(self, pid: str) -> int:
        """Extend the leases of all tasks that `pid` has claimed here; returns how many it holds."""
        return run(self._network, self._heartbeat(pid))

    @property
    def aio(self) -> AioTaskClient:
        """The same methods for async code."""
        return AioTaskClient(self)

    # ---- for the promise client ------------------------------------------------------------------

    def claimed(self, id: str, version: int, pid: str) -> None:
        """A task was handed out."""
        self._claims[id] = _Claim(pid, version, {})
        self._claims.move_to_end(id)
        if len(self._claims) > CLAIMS:
            self._claims.popitem(last=False)

    def awaits(self, id: str, awaited: str) -> None:
        """A callback was registered for the task `id`."""
        claim = self._claims.get(id)
        if claim is not None:
            claim.awaited[awaited] = None

    # ---- exchanges -------------------------------------------------------------------------------

    def _claim(
        self, id: str, counter: int, pid: str, ttl: int
    ) -> Exchange[tuple[DurablePromise, DurablePromise | None]]:
        check_text(id=id, pid=pid)
        check_whole(counter=counter, ttl=ttl)
        [answer] = yield [checked(TaskAcquire(id, counter - 1, pid, ttl, preload=False))]
        if answer.promise is None or answer.task is None:
            code = NO_TASK if answer.status == 404 else NOT_CLAIMABLE
            raise refusal(answer, code, f"claiming task {id!r} with counter {counter}")
        self.claimed(answer.promise.id, answer.task.version, pid)
        root = DurablePromise(answer.promise, self._settles)
        if not answer.resumed:
            return root, None
        [leaf] = yield [PromiseGet(answer.resumed[0])]
        return root, DurablePromise(leaf.promise, self._settles) if leaf.promise is not None else None

    def _complete(self, id: str, counter: int) -> Exchange[bool]:
        check_text(id=id)
        check_whole(counter=counter)
        known, read = yield [checked(TaskGet(id)), PromiseGet(id)]
        task, promise = known.task, read.promise
        if task is None or promise is None:
            raise refusal(known, NO_TASK, f"completing task {id!r}")
        if task.state == FULFILLED:
            self._claims.pop(id, None)
            return False
        if task.state != ACQUIRED or task.version != counter:
            raise ResonateStoreError(f"task {id!r} is {task.state}, not claimed with counter {counter}", NOT_CLAIMABLE)
        claim = self._claims.pop(id, None)
        awaited = list(claim.awaited) if claim is not None else []
        if not awaited:  # a task cannot wait for nothing, so it waits for what its own deadline ends
            never = PromiseCreate(f"{id}:never", promise.timeout_at, tags={EXTERNAL: "true", SCOPE: "global"})
            yield [never]
            awaited.append(never.id)
        actions = tuple(PromiseRegisterCallback(awaited_id, id) for awaited_id in awaited)
        [answer] = yield [TaskSuspend(id, counter, actions, preload=False)]
        if answer.status == 300:  # one of them is settled by now: offer the task again
            [answer] = yield [TaskRelease(id, counter)]
        if answer.error is not None:
            raise refusal(answer, NOT_CLAIMABLE, f"completing task {id!r}")
        return True

    def _heartbeat(self, pid: str) -> Exchange[int]:
        check_text(pid=pid)
        mine = [(id, claim.version) for id, claim in self._claims.items() if claim.pid == pid]
        if not mine:
            return 0
        requests: list[Request] = [
            checked(TaskHeartbeat(pid, tuple(TaskRef(id, version) for id, version in mine))),
            *(TaskGet(id) for id, _ in mine),
        ]
        _, *answers = yield requests
        held = 0
        for (id, version), answer in zip(mine, answers, strict=True):
            task = answer.task
            if task is not None and task.state == ACQUIRED and (task.version, task.pid) == (version, pid):
                held += 1
            else:
                self._claims.pop(id, None)
        return held


class AioTaskClient:
    """`TaskClient` for the inside of an event loop."""

    __slots__ = ("_client",)

    def __init__(self, client: TaskClient) -> None:
        self._client = client

    async def claim(self, id: str, counter: int, pid: str, ttl: int) -> tuple[DurablePromise, DurablePromise | None]:
        """`TaskClient.claim`, awaited."""
        return await arun(self._client._network, self._client._claim(id, counter, pid, ttl))

    async def complete(self, id: str, counter: int) -> bool:
        """`TaskClient.complete`, awaited."""
        return await arun(self._client._network, self._client._complete(id, counter))

    async def heartbeat(self, pid: str) -> int:
        """`TaskClient.heartbeat`, awaited."""
        return await arun(self._client._network, self._client._heartbeat(pid))
