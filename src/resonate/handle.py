"""One promise seen from outside: its result, blocking or awaitable."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from resonate.inspection import Call, Inspector, Wait

R = TypeVar("R")
T = TypeVar("T")

ASKS_FROM: Final = 1.0
"""Seconds from which a wait that was in vain asks what stands in the way; shorter ones are polls."""

ASKS_FOR: Final = 0.25
"""Seconds that the answer to that is waited for, on top of what the caller allowed."""

LONGEST_WAIT: Final = 1e9
"""Seconds that a thread can be told to wait; beyond it the clocks of the system overflow."""


class Completion(Protocol):
    """What a handle waits for: the outcome of one promise, once it is durable."""

    halted: bool
    """Whether the outcome is that the execution was halted."""

    def wait(self, timeout: float | None) -> bool:
        """Block for at most `timeout` seconds; whether the outcome is there."""

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once the outcome is there, on the thread that brings it."""

    def result(self) -> Any:
        """The value, or raise the error; only once it is there."""


class Client(Protocol):
    """What a handle needs of the client that made it."""

    def subscribe(self, id: str) -> Completion:
        """Begin to wait for the promise `id`."""

    async def asubscribe(self, id: str) -> Completion:
        """`subscribe` for an event loop."""

    def look_again(self, halted: Any) -> Completion:
        """What to wait for after `halted`: the same while its execution is halted, and once that was resumed, anew."""

    async def alook_again(self, halted: Any) -> Completion:
        """`look_again` for an event loop."""

    def may_block(self, method: str, instead: str) -> None:
        """Raise if blocking here would stop the loop that has to bring the result."""

    def check_process(self) -> None:
        """Raise in a forked child, where nobody brings a result."""

    def standing(self, id: str, patience: float) -> str:
        """Why `id` is not done, as far as that is found out within `patience` seconds; else empty."""

    def cancel(self, id: str) -> None:
        """Settle `id` and what it still waits for as cancelled."""

    def resume(self, id: str) -> None:
        """Offer the halted task `id` to its workers again."""

    def inspector(self) -> Inspector:
        """What answers questions about executions."""

    async def off_loop(self, job: Callable[..., T], /, *args: Any) -> T:
        """Call `job`, which may block for I/O, without blocking the loop."""


class Handle(Generic[R]):
    """A promise, by its id. Handles are cheap; any number may wait for one promise.

    A handle of `get` subscribes at its first `done`, `result` or `await`.
    """

    __slots__ = ("_client", "_completion", "_creation", "_future", "_id")

    def __init__(
        self,
        id: str,
        client: Client,
        completion: Completion | None = None,
        creation: asyncio.Task[Completion] | None = None,
    ) -> None:
        self._id = id
        self._client = client
        self._completion = completion
        self._creation = creation
        self._future: concurrent.futures.Future[R] | None = None

    @property
    def id(self) -> str:
        """The id of the promise."""
        return self._id

    def done(self) -> bool:
        """Whether `result` answers at once; never blocks for long.

        So it is also once this client was stopped, whatever became of the execution: `result` says so.
        """
        if self._creation is not None and not self._creation.done():
            return False
        return self._subscribed().wait(0)

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the promise and return its value; may be called again and again.

        Args:
            timeout: seconds (or timedelta) to wait; the execution goes on when they are over.

        Raises:
            TypeError, ValueError: `timeout` is no number of seconds.
            TimeoutError: it is not done yet; says what it waits for, where that is known.
            ResonateTimedoutError: its deadline has passed.
            ResonateCanceledError: it was cancelled.
            ResonateShutdownError: this client was stopped meanwhile.
            Exception: what the function raised.
        """
        patience = None if timeout is None else _patience(timeout)
        completion = self._subscribed()
        if not completion.wait(0):
            self._client.may_block("handle.result()", "await handle")
            if not completion.wait(patience):
                raise self._not_done(timeout, patience)
        value: R = completion.result()
        return value

    def cancel(self) -> None:
        """Cancel the execution: it and everything it waits for is settled as cancelled.

        Its code sees `ResonateCanceledError` at its next yield or await. What has been
        settled already, and what was begun detached, is left alone.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
        """
        self._client.may_block("handle.cancel()", "await handle.aio.cancel()")
        self._client.cancel(self._id)

    def resume(self) -> None:
        """Have a halted execution go on, after the cause was mended: it is replayed by a worker of its group.

        Its result comes to the next `result()` or `await`.

        Raises:
            ResonateStoreError: 100.404, there is no such execution.
            UsageError: it is not halted; nothing was changed.
        """
        self._client.may_block("handle.resume()", "await handle.aio.resume()")
        self._client.resume(self._id)

    def status(self) -> Call:
        """What is recorded of it now: its state, who runs it, when it began and ended, result or error.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
        """
        self._client.may_block("handle.status()", "await handle.aio.status()")
        return self._client.inspector().execution(self._id)

    def tree(self) -> Call:
        """`status`, and in `calls` all that it has called, to the leaves.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
        """
        self._client.may_block("handle.tree()", "await handle.aio.tree()")
        return self._client.inspector().tree(self._id)

    def why(self) -> list[Wait]:
        """What it waits for, from the top to the leaves: a sentence each, and the command that would unblock it.

        Empty if it has ended.

        Raises:
            ResonateStoreError: 100.404, there is no such promise.
        """
        self._client.may_block("handle.why()", "await handle.aio.why()")
        return self._client.inspector().why(self._id)

    @property
    def aio(self) -> AioHandle:
        """The awaitable forms of `cancel`, `resume`, `status`, `tree` and `why`; that of `result` is `await handle`."""
        return AioHandle(self._id, self._client)

    async def created(self) -> Handle[R]:
        """Return once the promise exists durably.

        Raises:
            IdConflict, ResonateStoreError: it could not be created.
        """
        if self._creation is not None:
            self._completion = await self._creation
        return self

    @property
    def future(self) -> concurrent.futures.Future[R]:
        """The outcome as a `concurrent.futures.Future`."""
        if self._future is None:
            future: concurrent.futures.Future[R] = concurrent.futures.Future()
            future.set_running_or_notify_cancel()  # `future.cancel()` then changes nothing; `handle.cancel()` does
            completion = self._subscribed()
            if not completion.wait(0):
                self._client.check_process()
            completion.when_done(lambda: _fulfil(future, completion))
            self._future = future
        return self._future

    def __await__(self) -> Generator[Any, None, R]:
        if self._creation is not None:
            yield from self.created().__await__()
        if self._completion is None:
            self._completion = yield from self._client.asubscribe(self._id).__await__()
        elif self._completion.halted:
            self._completion = yield from self._client.alook_again(self._completion).__await__()
        completion = self._completion
        if not completion.wait(0):
            self._client.check_process()
            loop = asyncio.get_running_loop()
            arrived: asyncio.Future[None] = loop.create_future()
            completion.when_done(lambda: _call_soon(loop, arrived))
            yield from arrived
        value: R = completion.result()
        return value

    def _not_done(self, timeout: float | timedelta | None, patience: float | None) -> TimeoutError:
        why = self._client.standing(self._id, ASKS_FOR) if patience is None or patience >= ASKS_FROM else ""
        waited = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        text = f"{self._id} is not done after {waited} s; it goes on, call result() again to wait longer"
        return TimeoutError(f"{text}. So far {why}" if why else text)

    def _subscribed(self) -> Completion:
        if self._completion is None and self._creation is not None:
            if not self._creation.done():
                self._client.may_block("a handle whose promise is being created", "await handle")
                arrived = threading.Event()
                loop = self._creation.get_loop()
                loop.call_soon_threadsafe(self._creation.add_done_callback, lambda _: arrived.set())
                arrived.wait()
            self._completion = self._creation.result()
        if self._completion is None:
            self._completion = self._client.subscribe(self._id)
        elif self._completion.halted:
            self._completion = self._client.look_again(self._completion)
        return self._completion

    def __repr__(self) -> str:
        return f"Handle({self._id!r})"


class AioHandle:
    """`Handle` for the inside of an event loop: nothing here blocks it."""

    __slots__ = ("_client", "_id")

    def __init__(self, id: str, client: Client) -> None:
        self._id = id
        self._client = client

    async def cancel(self) -> None:
        """`Handle.cancel`, awaited."""
        await self._client.off_loop(self._client.cancel, self._id)

    async def resume(self) -> None:
        """`Handle.resume`, awaited."""
        await self._client.off_loop(self._client.resume, self._id)

    async def status(self) -> Call:
        """`Handle.status`, awaited."""
        return await self._client.off_loop(lambda: self._client.inspector().execution(self._id))

    async def tree(self) -> Call:
        """`Handle.tree`, awaited."""
        return await self._client.off_loop(lambda: self._client.inspector().tree(self._id))

    async def why(self) -> list[Wait]:
        """`Handle.why`, awaited."""
        return await self._client.off_loop(lambda: self._client.inspector().why(self._id))


def _patience(timeout: float | timedelta) -> float:
    """How many seconds to wait."""
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    elif isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be `int | float | timedelta | None` (seconds), got {type(timeout).__name__}")
    if timeout != timeout:
        raise ValueError(f"timeout must be a number of seconds, got {timeout}")
    return min(max(timeout, 0), LONGEST_WAIT)


def _fulfil(future: concurrent.futures.Future[Any], completion: Completion) -> None:
    try:
        future.set_result(completion.result())
    except BaseException as error:
        future.set_exception(error)


def _call_soon(loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None]) -> None:
    def set_result() -> None:
        if not arrived.done():
            arrived.set_result(None)

    if not loop.is_closed():
        loop.call_soon_threadsafe(set_result)


__all__ = ["Handle"]
