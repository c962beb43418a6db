"""The low-level promise client: what is behind `r.promises`.

Promises as the store keeps them, for whoever creates and settles them by hand: a webhook,
an approval, a worker in another language. `data` is text (normally JSON: what a waiting
function gets is the decoded value), instants are milliseconds since the epoch.

Creating and settling are idempotent by key, as the official client has it: a repeat with
the same `ikey` joins, one with another or no key is refused. The protocol has no keys, so
they are kept on the record (`marks`) and compared here, in what the service answers.
"""

from __future__ import annotations

from typing import Any, Final, get_args

from msgspec.structs import replace

from resonate.errors import ResonateStoreError
from resonate.network import marks
from resonate.network.base import Network
from resonate.protocol.records import (
    ACQUIRED,
    BRANCH,
    ORIGIN,
    PARENT,
    PENDING,
    TARGET,
    TIMEDOUT,
    Promise,
    PromiseState,
    Value,
)
from resonate.protocol.requests import (
    PromiseCreate,
    PromiseGet,
    PromiseRegisterCallback,
    PromiseRegisterListener,
    PromiseSearch,
    PromiseSettle,
    Response,
    SettledState,
    TaskCreate,
    TaskRelease,
)
from resonate.stores.exchange import (
    NO_PROMISE,
    REFUSED,
    TIMED_OUT,
    Exchange,
    arun,
    check_optional_text,
    check_text,
    check_texts,
    check_whole,
    checked,
    refusal,
    run,
)
from resonate.stores.records import Callback, DurablePromise, Task
from resonate.stores.tasks import TaskClient

_LINEAGE: Final = frozenset((ORIGIN, BRANCH, PARENT))
_STATES: Final = frozenset(get_args(PromiseState))

Created = tuple[DurablePromise, Task | None]
Registered = tuple[DurablePromise, Callback | None]
Page = tuple[list[DurablePromise], str | None]


class PromiseClient:
    """Promises, over a network. `aio` has the same methods for async code.

    Every method raises `TypeError` or `ValueError` for arguments that cannot be, before
    anything is sent, and `ResonateStoreError` for what the store refuses.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._tasks = TaskClient(network, self)

    @property
    def aio(self) -> AioPromiseClient:
        """The same methods for async code: `await r.promises.aio.get(id)`."""
        return AioPromiseClient(self)

    def get(self, id: str) -> DurablePromise:
        """Read a promise.

        Raises:
            ResonateStoreError: 100.404 if there is none.
        """
        return run(self._network, self._get(id))

    def create(
        self,
        id: str,
        timeout: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> DurablePromise:
        """Create a promise, or join the one that was created with the same key.

        Args:
            id: unique in the store.
            timeout: its deadline, milliseconds since the epoch.
            ikey: idempotency key; without one no later `create` of this id succeeds.
            strict: join it only if it is still pending.
            headers, data: the param.
            tags: `resonate:target` (an address) has a worker run it, the param is then the call.

        Raises:
            ResonateStoreError: 100.40399 if it exists and may not be joined.
        """
        return run(self._network, self._create(id, timeout, ikey, strict, headers, data, tags))

    def create_with_task(
        self,
        id: str,
        timeout: int,
        pid: str,
        ttl: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Created:
        """`create`, and take the task of a new promise.

        Args:
            pid: who takes the task.
            ttl: length of its lease, milliseconds.

        Returns:
            The promise, and its task if it was created now and its tags name a target.
        """
        return run(self._network, self._create_with_task(id, timeout, pid, ttl, ikey, strict, headers, data, tags))

    def resolve(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """Settle a promise with a value; whoever waits for it goes on.

        Args:
            id: the promise.
            ikey: a repeat with the same key gives the promise as it is settled.
            strict: refuse also if it timed out, or is settled in another way.
            headers, data: the value.

        Raises:
            ResonateStoreError: 100.404 if there is no such promise, 100.40399 if it is
                settled with another key or none, 100.40303 if it timed out (strict).
        """
        return run(self._network, self._settle(id, "resolved", ikey, strict, headers, data))

    def reject(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """Settle a promise with an error; see `resolve`."""
        return run(self._network, self._settle(id, "rejected", ikey, strict, headers, data))

    def cancel(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """Settle a promise as cancelled; see `resolve`. `Handle.cancel` also cancels what is below."""
        return run(self._network, self._settle(id, "rejected_canceled", ikey, strict, headers, data))

    def callback(self, promise_id: str, root_promise_id: str, recv: str, timeout: int) -> Registered:
        """Have the task of `root_promise_id` woken once `promise_id` is settled.

        Args:
            promise_id: the promise to wait for.
            root_promise_id: the promise that waits; it has a task.
            recv: an address; the task is offered to the target of its promise.
            timeout: milliseconds since the epoch, as recorded in what is returned.

        Returns:
            The promise to wait for, and what was registered: None if it is settled already.

        Raises:
            ResonateStoreError: 100.404 if there is no such promise, 100.422 if the one
                cannot be awaited or the other has no task.
        """
        return run(self._network, self._callback(promise_id, root_promise_id, recv, timeout))

    def subscribe(self, id: str, promise_id: str, recv: str, timeout: int) -> Registered:
        """Have the address `recv` told once `promise_id` is settled.

        Args:
            id: names the subscription.
            promise_id: the promise.
            recv: an address, `poll://uni@GROUP/PID` or `http(s)://...`; told once however often it is given.
            timeout: milliseconds since the epoch, as recorded in what is returned.

        Returns:
            The promise, and what was registered: None if it is settled already.

        Raises:
            ResonateStoreError: 100.404 if there is no such promise, 100.422 if it cannot be awaited.
        """
        return run(self._network, self._subscribe(id, promise_id, recv, timeout))

    def search(
        self,
        *,
        state: str | None = None,
        tags: dict[str, str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """Promises in the order of their ids, a page at a time.

        Args:
            state: only those in this state, in capitals or not.
            tags: only those with all of these tags.
            limit: length of the page, 1 to 1000.
            cursor: what the page before came with.

        Returns:
            The promises, and the cursor of the next page: None if this was the last.

        Raises:
            NotSupported: the store has no search.
        """
        return run(self._network, self._search(state, tags, limit, cursor))

    # ---- exchanges -------------------------------------------------------------------------------

    def _get(self, id: str) -> Exchange[DurablePromise]:
        check_text(id=id)
        [answer] = yield [checked(PromiseGet(id))]
        return self._shown(answer, id)

    def _create(
        self, id: Any, timeout: Any, ikey: Any, strict: bool, headers: Any, data: Any, tags: Any
    ) -> Exchange[DurablePromise]:
        request, mark = _creation(id, timeout, ikey, headers, data, tags)
        [answer] = yield [request]
        return self._joined(answer, request, mark, ikey, strict)

    def _create_with_task(
        self, id: Any, timeout: Any, pid: str, ttl: int, ikey: Any, strict: bool, headers: Any, data: Any, tags: Any
    ) -> Exchange[Created]:
        check_text(pid=pid)
        check_whole(ttl=ttl)
        create, mark = _creation(id, timeout, ikey, headers, data, tags)
        if TARGET not in create.tags:
            return (yield from self._create(id, timeout, ikey, strict, headers, data, tags)), None
        request = TaskCreate(pid, ttl, create, preload=False)
        checked(replace(request, action=_without_lineage(create)))
        [known] = yield [PromiseGet(id)]
        if known.promise is not None:
            return self._joined(known, create, mark, ikey, strict), None
        [answer] = yield [request]
        if answer.status == 409:  # somebody else created it in between, and has its task
            [answer] = yield [PromiseGet(id)]
        task = answer.task if answer.task is not None and answer.task.state == ACQUIRED else None
        if task is not None and not _made(answer.promise, create, mark):
            yield [TaskRelease(task.id, task.version)]
            task = None
        promise = self._joined(answer, create, mark, ikey, strict)
        if task is None:
            return promise, None
        self._tasks.claimed(task.id, task.version, pid)
        return promise, Task(task.id, task.version, self._tasks)

    def _settle(
        self, id: str, state: SettledState, ikey: str | None, strict: bool, headers: Any, data: str | None
    ) -> Exchange[DurablePromise]:
        check_text(id=id)
        check_optional_text(ikey=ikey, data=data)
        check_texts(headers=headers)
        marked, mark = marks.mark(headers or {}, {}, ikey)
        [answer] = yield [checked(PromiseSettle(id, state, Value(marked, marks.to_wire(data))))]
        promise = self._known(answer, id)
        if (promise.value.headers or {}).get(mark) != marked[mark]:
            _check_repeat(promise, state, ikey, strict)
        return DurablePromise(promise, self)

    def _callback(self, promise_id: str, root_promise_id: str, recv: str, timeout: int) -> Exchange[Registered]:
        check_text(promise_id=promise_id, root_promise_id=root_promise_id, recv=recv)
        check_whole(timeout=timeout)
        [answer] = yield [checked(PromiseRegisterCallback(promise_id, root_promise_id))]
        promise = self._known(answer, promise_id)
        if promise.state == PENDING:
            self._tasks.awaits(root_promise_id, promise_id)
        return self._registered(promise, f"__resume:{root_promise_id}:{promise_id}", timeout)

    def _subscribe(self, id: str, promise_id: str, recv: str, timeout: int) -> Exchange[Registered]:
        check_text(id=id, promise_id=promise_id, recv=recv)
        check_whole(timeout=timeout)
        [answer] = yield [checked(PromiseRegisterListener(promise_id, marks.address(recv)))]
        return self._registered(self._known(answer, promise_id), f"__notify:{promise_id}:{id}", timeout)

    def _search(self, state: str | None, tags: Any, limit: int, cursor: str | None) -> Exchange[Page]:
        check_optional_text(state=state, cursor=cursor)
        check_texts(tags=tags)
        check_whole(limit=limit)
        wanted: Any = None if state is None else state.lower()
        if wanted is not None and wanted not in _STATES:
            raise ValueError(f"state must be one of {', '.join(sorted(_STATES))}, got {state!r}")
        [answer] = yield [checked(PromiseSearch(wanted, tags, limit, cursor))]
        if answer.promises is None:
            raise refusal(answer, REFUSED, "searching promises")
        return [DurablePromise(promise, self) for promise in answer.promises], answer.cursor

    # ---- answers ---------------------------------------------------------------------------------

    def _shown(self, answer: Response, id: str) -> DurablePromise:
        return DurablePromise(self._known(answer, id), self)

    def _known(self, answer: Response, id: str) -> Promise:
        if answer.promise is not None:
            return answer.promise
        if answer.status == 404:
            raise ResonateStoreError(f"The specified promise was not found: {id}", NO_PROMISE)
        raise refusal(answer, REFUSED, f"promise {id!r}")

    def _joined(
        self, answer: Response, create: PromiseCreate, mark: str, ikey: str | None, strict: bool
    ) -> DurablePromise:
        promise = self._known(answer, create.id)
        if not _made(promise, create, mark):
            _check_join(promise, ikey, strict)
        return DurablePromise(promise, self)

    def _registered(self, promise: Promise, id: str, timeout: int) -> Registered:
        shown = DurablePromise(promise, self)
        if promise.state != PENDING:
            return shown, None
        return shown, Callback(id, promise.id, timeout, self._network.now())


class AioPromiseClient:
    """`PromiseClient` for the inside of an event loop: nothing here blocks it."""

    __slots__ = ("_client",)

    def __init__(self, client: PromiseClient) -> None:
        self._client = client

    async def get(self, id: str) -> DurablePromise:
        """`PromiseClient.get`, awaited."""
        return await arun(self._client._network, self._client._get(id))

    async def create(
        self,
        id: str,
        timeout: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> DurablePromise:
        """`PromiseClient.create`, awaited."""
        client = self._client
        return await arun(client._network, client._create(id, timeout, ikey, strict, headers, data, tags))

    async def create_with_task(
        self,
        id: str,
        timeout: int,
        pid: str,
        ttl: int,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Created:
        """`PromiseClient.create_with_task`, awaited."""
        client = self._client
        exchange = client._create_with_task(id, timeout, pid, ttl, ikey, strict, headers, data, tags)
        return await arun(client._network, exchange)

    async def resolve(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """`PromiseClient.resolve`, awaited."""
        client = self._client
        return await arun(client._network, client._settle(id, "resolved", ikey, strict, headers, data))

    async def reject(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """`PromiseClient.reject`, awaited."""
        client = self._client
        return await arun(client._network, client._settle(id, "rejected", ikey, strict, headers, data))

    async def cancel(
        self,
        id: str,
        *,
        ikey: str | None = None,
        strict: bool = False,
        headers: dict[str, str] | None = None,
        data: str | None = None,
    ) -> DurablePromise:
        """`PromiseClient.cancel`, awaited."""
        client = self._client
        return await arun(client._network, client._settle(id, "rejected_canceled", ikey, strict, headers, data))

    async def callback(self, promise_id: str, root_promise_id: str, recv: str, timeout: int) -> Registered:
        """`PromiseClient.callback`, awaited."""
        client = self._client
        return await arun(client._network, client._callback(promise_id, root_promise_id, recv, timeout))

    async def subscribe(self, id: str, promise_id: str, recv: str, timeout: int) -> Registered:
        """`PromiseClient.subscribe`, awaited."""
        client = self._client
        return await arun(client._network, client._subscribe(id, promise_id, recv, timeout))

    async def search(
        self,
        *,
        state: str | None = None,
        tags: dict[str, str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """`PromiseClient.search`, awaited."""
        client = self._client
        return await arun(client._network, client._search(state, tags, limit, cursor))


def _creation(id: Any, timeout: Any, ikey: Any, headers: Any, data: Any, tags: Any) -> tuple[PromiseCreate, str]:
    """The request that creates a promise, checked, and the name of our mark among its tags."""
    check_text(id=id)
    check_whole(timeout=timeout)
    check_optional_text(ikey=ikey, data=data)
    check_texts(headers=headers, tags=tags)
    marked, mark = marks.tags_for(id, tags, ikey)
    create = PromiseCreate(id, timeout, Value(headers, marks.to_wire(data)), marked)
    checked(_without_lineage(create))
    return create, mark


def _without_lineage(create: PromiseCreate) -> PromiseCreate:
    """What the field rules are checked on: a call may have been given any id, wherever it is in the tree."""
    return replace(create, tags={name: tag for name, tag in create.tags.items() if name not in _LINEAGE})


def _made(promise: Promise | None, create: PromiseCreate, mark: str) -> bool:
    """Whether `promise` came to be by this very request."""
    return promise is not None and promise.tags.get(mark) == create.tags[mark]


def _check_join(promise: Promise, ikey: str | None, strict: bool) -> None:
    id = promise.id
    recorded = marks.key_for_create(promise)
    if ikey is None or recorded is None:
        side = "this call has" if ikey is None else "it was created with"
        raise ResonateStoreError(f"promise {id!r} exists, and {side} no idempotency key to join it by", REFUSED)
    if ikey != recorded:
        raise ResonateStoreError(f"promise {id!r} exists with another idempotency key than {ikey!r}", REFUSED)
    if strict and promise.state != PENDING:
        raise ResonateStoreError(f"promise {id!r} is {promise.state} already (strict)", REFUSED)


def _check_repeat(promise: Promise, state: SettledState, ikey: str | None, strict: bool) -> None:
    id = promise.id
    if promise.state == TIMEDOUT:
        if strict:
            raise ResonateStoreError(f"promise {id!r} timed out before it could be {state}", TIMED_OUT)
        return
    if ikey is None or marks.key_for_complete(promise) != ikey:
        with_key = "no idempotency key was given" if ikey is None else f"not with the idempotency key {ikey!r}"
        raise ResonateStoreError(f"promise {id!r} is {promise.state} already, and {with_key}", REFUSED)
    if strict and promise.state != state:
        raise ResonateStoreError(f"promise {id!r} is {promise.state} already, not {state} (strict)", REFUSED)
