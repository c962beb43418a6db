"""A user's own store, spoken to in the records of the protocol.

One method per thing asked. A refusal that the protocol expects (no such promise, settled
already, task not ours) is an ordinary result here; every other error is raised as it is.
Calls are made by keyword, as the official client makes them.
"""

from __future__ import annotations

from typing import Final

from resonate.clock import Clock
from resonate.errors import ResonateStoreError
from resonate.models.store import PromiseRecord, Store
from resonate.network.legacy_records import key_of, old_tags, promise_of, schedule_of, text_of
from resonate.network.marks import KEY, MARK
from resonate.protocol.records import Promise, Schedule
from resonate.protocol.requests import PromiseCreate, PromiseSettle, ScheduleCreate, TaskCreate
from resonate.protocol.rows import project

_NOT_FOUND: Final = (100.404, 100.40403)
_REFUSED: Final = (100.40303, 100.40399)
_NOT_OURS: Final = (100.40305, 100.40403, 100.404)

Claim = tuple[str, int]
"""A task's id and counter: what its offer, its claim and its completion name."""


class OldStore:
    """The calls of one store.

    Args:
        store: the user's.
        clock: gives the instant that what it shows is projected at.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._now = 0

    def now(self) -> int:
        """Milliseconds since the epoch; never goes backwards."""
        self._now = max(self._now, self._clock.now())
        return self._now

    # ---- promises --------------------------------------------------------------------------------

    def read(self, id: str) -> Promise | None:
        """The promise `id`, if there is one."""
        try:
            return self._seen(self.store.promises.get(id=id))
        except ResonateStoreError as error:
            _expect(error, _NOT_FOUND)
            return None

    def create(self, request: PromiseCreate) -> Promise:
        """The promise that is there after `request`, made by it or before."""
        tags = request.tags
        try:
            record = self.store.promises.create(
                id=request.id,
                timeout=request.timeout_at,
                ikey=key_of(request.id, tags),
                strict=False,
                headers=request.param.headers,
                data=text_of(request.param),
                tags=old_tags(tags),
            )
        except ResonateStoreError as error:
            _expect(error, _REFUSED)
            record = self.store.promises.get(id=request.id)  # made with another key: the protocol joins by id
        return self._seen(record)

    def create_with_task(self, request: TaskCreate) -> tuple[Promise, Claim | None]:
        """The promise that is there after `request`, and its task if that was claimed by it."""
        create = request.action
        try:
            record, task = self.store.promises.create_with_task(
                id=create.id,
                timeout=create.timeout_at,
                pid=request.pid,
                ttl=request.ttl,
                ikey=key_of(create.id, create.tags),
                strict=False,
                headers=create.param.headers,
                data=text_of(create.param),
                tags=old_tags(create.tags),
            )
        except ResonateStoreError as error:
            _expect(error, _REFUSED)
            record, task = self.store.promises.get(id=create.id), None
        return self._seen(record), None if task is None else (task.id, task.counter)

    def settle(self, request: PromiseSettle) -> Promise | None:
        """The promise as it is settled after `request`, by it or before; None if there is none."""
        promises, value = self.store.promises, request.value
        settle = {"resolved": promises.resolve, "rejected": promises.reject}.get(request.state, promises.cancel)
        headers = value.headers or {}
        try:
            record = settle(
                id=request.id,
                ikey=headers.get(KEY, None if MARK in headers else request.id),
                strict=False,
                headers=value.headers,
                data=text_of(value),
            )
        except ResonateStoreError as error:
            if error.code in _REFUSED:
                return self.read(request.id)
            _expect(error, _NOT_FOUND)
            return None
        return self._seen(record)

    def callback(self, awaited: str, awaiter: str, recv: str, timeout: int) -> tuple[Promise | None, str | None]:
        """Have `awaiter` resumed once `awaited` is settled.

        Returns:
            The promise `awaited`, None if there is none, and the id of the task that it will cause.
        """
        try:
            record, callback = self.store.promises.callback(
                promise_id=awaited, root_promise_id=awaiter, recv=recv, timeout=timeout
            )
        except ResonateStoreError as error:
            _expect(error, _NOT_FOUND)
            return None, None
        return self._seen(record), None if callback is None else callback.id

    def subscribe(self, id: str, awaited: str, recv: str, timeout: int) -> Promise | None:
        """Have `recv` told once `awaited` is settled; that promise, None if there is none."""
        try:
            record, _ = self.store.promises.subscribe(id=id, promise_id=awaited, recv=recv, timeout=timeout)
        except ResonateStoreError as error:
            _expect(error, _NOT_FOUND)
            return None
        return self._seen(record)

    # ---- tasks -----------------------------------------------------------------------------------

    def claim(self, offer: Claim, pid: str, ttl: int) -> tuple[Promise, str | None] | None:
        """Take an offer: the promise to run and the id of the one that woke it; None if it is gone."""
        try:
            record, leaf = self.store.tasks.claim(id=offer[0], counter=offer[1], pid=pid, ttl=ttl)
        except ResonateStoreError as error:
            _expect(error, _NOT_OURS)
            return None
        return self._seen(record), None if leaf is None else leaf.id

    def complete(self, claim: Claim) -> bool:
        """Complete a task; False if it is not ours any more."""
        try:
            self.store.tasks.complete(id=claim[0], counter=claim[1])
        except ResonateStoreError as error:
            _expect(error, _NOT_OURS)
            return False
        return True

    def heartbeat(self, pid: str) -> None:
        """Extend what `pid` has claimed."""
        self.store.tasks.heartbeat(pid=pid)

    # ---- schedules -------------------------------------------------------------------------------

    def schedule(self, id: str) -> Schedule | None:
        """The schedule `id`, if there is one."""
        try:
            return schedule_of(self.store.schedules.get(id=id))
        except ResonateStoreError as error:
            _expect(error, _NOT_FOUND)
            return None

    def create_schedule(self, request: ScheduleCreate) -> Schedule:
        """The schedule that is there after `request`, made by it or before."""
        known = self.schedule(request.id)
        if known is not None:
            return known
        record = self.store.schedules.create(
            id=request.id,
            cron=request.cron,
            promise_id=request.promise_id.replace("{{.id}}", request.id),  # old local stores know only the timestamp
            promise_timeout=request.promise_timeout,
            ikey=request.id,
            promise_headers=request.promise_param.headers,
            promise_data=text_of(request.promise_param),
            promise_tags=old_tags(request.promise_tags),
        )
        return schedule_of(record)

    def delete_schedule(self, id: str) -> bool:
        """Delete the schedule `id`; False if there is none."""
        try:
            self.store.schedules.delete(id=id)
        except ResonateStoreError as error:
            _expect(error, _NOT_FOUND)
            return False
        return True

    def _seen(self, record: PromiseRecord) -> Promise:
        """A store's promise, projected: a store may be late to time it out."""
        return project(promise_of(record), self.now())


def _expect(error: ResonateStoreError, codes: tuple[float, ...]) -> None:
    """Raise `error` again, unless its code is one of `codes`."""
    if error.code not in codes:
        raise error
