"""Resonate: the client. Register functions, run them durably, wait for them from anywhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from resonate.client import Client
from resonate.context import Context, Shared
from resonate.dependencies import Dependencies
from resonate.function import Function
from resonate.handle import Handle
from resonate.options import Options
from resonate.registry import Registry
from resonate.roots import check_id
from resonate.settings import MAX_CONCURRENT, MEMORY, check_parts, resolve
from resonate.signatures import check_function
from resonate.stores import PromiseClient, Schedule, ScheduleClient

if TYPE_CHECKING:
    from resonate.inspection import Call, Page
    from resonate.worker.observer import Observer

P = ParamSpec("P")
R = TypeVar("R")

_LOG: Final = logging.getLogger("resonate")


class Resonate:
    """A client: it makes the calls of ordinary functions durable.

    Nothing connects and no thread starts before the first call (or `start`). Use it as a
    context manager to have it stopped at the end; a script may also simply end.

    Args:
        url: where state lives; None keeps it in the memory of this process.
        auth: (user, password) for HTTP basic auth.
        token: bearer token; wins over `auth`.
        group: the group this client takes tasks of; left at "default" it is what RESONATE_GROUP says.
        pid: names this process; default random.
        ttl: lease of a task it runs, whole seconds.
        log_level: of `ctx.logger`, a number or a name.
        workers: threads for plain functions and generators; 0 or None for one per core, at most 32.
        store, message_source: your own, instead of `url`; give both.
        dependencies, registry: containers to share with other clients.
        max_concurrent: executions run at the same time; `begin_run` waits beyond it. Left as it is,
            RESONATE_MAX_CONCURRENT counts.
        retention: seconds (or timedelta) for which finished executions are kept, `math.inf` for
            ever; default 7 days in a file, for ever in memory. After that an id starts anew. Of
            several clients on one file the one with the shortest decides.

    Raises:
        TypeError, ValueError: a parameter of a wrong type or value, named.
        NotSupported: a URL of a kind that this version does not have.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        auth: tuple[str, str] | None = None,
        token: str | None = None,
        group: str = "default",
        pid: str | None = None,
        ttl: int = 10,
        log_level: int | str = logging.INFO,
        workers: int | None = None,
        store: Any = None,
        message_source: Any = None,
        dependencies: Dependencies | None = None,
        registry: Registry | None = None,
        max_concurrent: int = MAX_CONCURRENT,
        retention: float | timedelta | None = None,
    ) -> None:
        check_parts(dependencies, group, log_level, message_source, pid, registry, store, ttl)
        settings = resolve(
            url=url if store is None or not isinstance(url, str) else None,
            auth=auth,
            token=token,
            group=group,
            pid=pid,
            ttl=ttl,
            log_level=log_level,
            workers=workers,
            max_concurrent=max_concurrent,
            retention=retention,
            environment={} if store is not None else None,
        )
        if store is not None and retention is not None:
            raise ValueError("retention must be left out where a store is given: how long it keeps things is its own")
        shared = Shared(
            Registry() if registry is None else registry,
            Dependencies() if dependencies is None else dependencies,
            settings.group,
            settings.log_level,
            database=settings.file is not None or settings.database is not None,
        )
        self._core = Client(settings, shared, store, message_source)
        self._opts = Options()

    @classmethod
    def local(cls, **kwargs: Any) -> Resonate:
        """Old spelling of `Resonate(...)` without a URL, whatever the environment says."""
        return cls(**{"url": MEMORY, **kwargs})

    @classmethod
    def remote(
        cls,
        host: str = "http://localhost",
        store_port: str | int = "8001",
        message_source_port: Any = None,
        **kwargs: Any,
    ) -> Resonate:
        """Old spelling of `Resonate(url="HOST:PORT")`; the second port is not used any more."""
        host = host if "://" in host else f"http://{host}"
        return cls(url=f"{host}:{store_port}", **kwargs)

    # ---- registering and options ------------------------------------------------------------------

    @overload
    def register(self, func: Callable[P, R], /, *, name: str | None = None, version: int = 1) -> Function[P, R]: ...
    @overload
    def register(
        self, func: None = None, /, *, name: str | None = None, version: int = 1
    ) -> Callable[[Callable[P, R]], Function[P, R]]: ...
    def register(self, func: Any = None, /, *, name: str | None = None, version: int = 1) -> Any:
        """Register a function, so that tasks may name it; also a decorator, with or without arguments.

        Args:
            func: a generator function, plain function or async function; it gets a `Context` first.
            name: what it is called in the record; default its own name.
            version: from 1; one name may have many.

        Returns:
            A `Function`: callable like `func`, with `run`, `begin_run`, `rpc`, `begin_rpc`.

        Raises:
            ValueError: not a function, one that takes no context, an async generator function, a lambda
                without a name, a version below 1, or registered already.
            TypeError: not callable, or a wrong type of name or version.
        """
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be `str | None`, got {type(name).__name__}")
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"version must be `int`, got {type(version).__name__}")

        def wrap(func: Any) -> Function[Any, Any]:
            plain = check_function(func.func if isinstance(func, Function) else func)
            self._core.shared.registry.add_read_with(self._opts.encoder, plain, name, version)
            registered, _, _ = self._core.shared.registry.get(plain)
            return Function(self, registered, plain, version, self._opts)

        return wrap if func is None else wrap(func)

    def options(self, **given: Any) -> Resonate:
        """A copy of this client with other options; both share everything else.

        Args:
            encoder: an `Encoder` for arguments and results.
            idempotency_key: text, or a function of the id; default the id itself.
            retry_policy: a policy, or a function that makes one of the called function.
            tags: the promise's tags, replacing those set before.
            target: group or full address of the workers.
            timeout: seconds (or timedelta) until the execution times out; default one year.
            version: of the function; 0 is the newest.

        Raises:
            TypeError: an unknown option or a wrong type.
            ValueError: a negative timeout or version.
        """
        copy = object.__new__(type(self))
        copy._core = self._core
        copy._opts = self._opts.merged(Options.CLIENT, **given)
        return copy

    def observe(self, observer: Observer) -> None:
        """Have `observer` told what executions, attempts and writes of this client do: for traces and metrics.

        `resonate.telemetry` has two, `Tracing` (OpenTelemetry) and `Metrics` (Prometheus). May be called
        several times, best before the client starts.

        Args:
            observer: a `resonate.telemetry.Observer`.
        """
        self._core.observe(observer)

    def set_dependency(self, name: str, obj: Any) -> None:
        """Make `obj` available to functions as `ctx.dependencies[name]`.

        Raises:
            TypeError: `name` is not a str.
        """
        self._core.shared.dependencies.add(name, obj)

    def with_dependency(self, obj: Any) -> Resonate:
        """Make `obj` available to functions as `ctx.get_dependency(type(obj))`; returns the client."""
        self._core.shared.dependencies.add_typed(obj)
        return self

    # ---- executions ------------------------------------------------------------------------------------

    @overload
    def run(self, /, id: str, func: Callable[..., Generator[Any, Any, R]], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, /, id: str, func: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, /, id: str, func: Callable[..., R], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def run(self, /, id: str, func: str, *args: Any, **kwargs: Any) -> Any: ...
    def run(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """Run a registered function to its end, once per `id`, and return its result.

        The first call with an `id` starts the function here. Every later call, from any
        process, waits for that execution and returns the same value. Blocks the calling
        thread; in async code use `await r.aio.run(...)`.

        Args:
            id: names the promise that keeps the result.
            func: a registered function, or the name it was registered under.
            *args, **kwargs: stored with the promise, so they must be encodable.

        Returns:
            What `func` returned, after one trip through the encoder.

        Raises:
            FunctionNotFound: `func` is not registered here; nothing was started.
            TypeError: the arguments do not fit `func`; nothing was started.
            IdConflict: `id` belongs to a call of another function or with other arguments.
            ResonateTimedoutError: the deadline passed first.
            ResonateCanceledError: it was cancelled.
            InsideEventLoop: called on the loop that this client's async functions run on.
            Exception: what `func` raised, after its retries.
        """
        return self._run(id, func, args, kwargs, self._opts, remote=False)

    @overload
    def begin_run(
        self, /, id: str, func: Callable[..., Generator[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Handle[R]: ...
    @overload
    def begin_run(
        self, /, id: str, func: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Handle[R]: ...
    @overload
    def begin_run(self, /, id: str, func: Callable[..., R], *args: Any, **kwargs: Any) -> Handle[R]: ...
    @overload
    def begin_run(self, /, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def begin_run(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """Start a registered function and return a handle once its promise is durable; see `run`.

        On the loop of this client's async functions it returns at once where durable means
        I/O; the first await of the handle, or `await handle.created()`, waits for that.
        """
        return self._start(id, func, args, kwargs, self._opts, remote=False)

    def begin_run_in(
        self, connection: Any, id: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """Start a function in your own database transaction: it exists if and only if that commits.

        Args:
            connection: `sqlite3.Connection` or `psycopg.Connection` to the file or database that
                this client's state is in, or a session or connection of SQLAlchemy over one. If
                no transaction is open on it, one is begun; in autocommit mode begin it yourself.
                Commit it soon: nobody else can write to a file meanwhile, and whoever asks for
                `id` in PostgreSQL waits. It is not kept from being closed when you drop it, and is
                rolled back then.
            id, func, *args, **kwargs: as in `run`; any worker of the group may run it.

        Returns:
            A handle; whoever waits for it waits for the commit too, and gets a
            `ResonateStoreError` (100.404) if the transaction is rolled back.

        Raises:
            NotSupported: this client's state is in no database.
            TypeError, UsageError: `connection` is no connection to that file or database.
            IdConflict: `id` belongs to another call.
            StorageUnavailable: another program holds the file.
            InsideEventLoop: called on the loop that this client's async functions run on.
        """
        core = self._core
        core.may_block("begin_run_in()", "await r.aio.begin_run_in(...)")
        id = check_id(id)
        call = core.call(func, args, kwargs, self._opts, remote=True)
        return Handle(id, core, core.begin_in(connection, id, call, self._opts))

    @overload
    def rpc(self, /, id: str, func: Callable[..., Generator[Any, Any, R]], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def rpc(self, /, id: str, func: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def rpc(self, /, id: str, func: Callable[..., R], *args: Any, **kwargs: Any) -> R: ...
    @overload
    def rpc(self, /, id: str, func: str, *args: Any, **kwargs: Any) -> Any: ...
    def rpc(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """Have a worker of the target group run a function, once per `id`; return its result.

        As `run`, but any worker may take it, and a name needs no registration here. The
        target is this client's own group if it has the function, else "default".
        """
        return self._run(id, func, args, kwargs, self._opts, remote=True)

    @overload
    def begin_rpc(
        self, /, id: str, func: Callable[..., Generator[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Handle[R]: ...
    @overload
    def begin_rpc(
        self, /, id: str, func: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any
    ) -> Handle[R]: ...
    @overload
    def begin_rpc(self, /, id: str, func: Callable[..., R], *args: Any, **kwargs: Any) -> Handle[R]: ...
    @overload
    def begin_rpc(self, /, id: str, func: str, *args: Any, **kwargs: Any) -> Handle[Any]: ...
    def begin_rpc(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """Have a worker run a function and return a handle once its promise is durable; see `rpc`."""
        return self._start(id, func, args, kwargs, self._opts, remote=True)

    def get(self, id: str) -> Handle[Any]:
        """A handle of an existing promise: an execution, a child, or a bare promise.

        Its value is read with this client's encoder, if that has one: `r.options(encoder=...).get(id)`.

        Raises:
            TypeError, InvalidId: `id` cannot be one.
            ResonateStoreError: 100.404 if there is none.
        """
        id = check_id(id)
        core = self._core
        core.started()
        if self._opts.encoder is not None:
            return Handle(id, core, core.subscribe(id, self._opts))
        core.exists(id)
        return Handle(id, core)

    def list(
        self,
        *,
        state: str | None = None,
        function: str | None = None,
        group: str | None = None,
        tags: dict[str, str] | None = None,
        prefix: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Call]:
        """Executions, the newest first; `Handle.status`, `tree` and `why` say more of one.

        Args:
            state: queued, running, waiting, halted, succeeded, failed, cancelled or timed out.
            function: its name.
            group: whose workers run it.
            tags: all of these.
            prefix: how its id begins.
            since, until: when it was begun; the second instant is not included. Without a time zone: local time.
            limit: how many at most.
            cursor: of the page before; `page.cursor` is None on the last one.

        Raises:
            ValueError: there is no such state, or the cursor is of no page of ours.
            ResonateStoreError: the service cannot search, or is out of reach.
        """
        self._core.may_block("r.list()", "await r.aio.list()")
        return self._core.inspector().executions(
            state=state,
            function=function,
            group=group,
            tags=tags,
            prefix=prefix,
            since=_millis(since),
            until=_millis(until),
            limit=limit,
            cursor=cursor,
        )

    def purge(self, id: str) -> None:
        """Delete a finished execution now, with everything below it: the next call of `id` starts anew.

        Finished executions go by themselves when their `retention` is over. What handles have
        of its results stays with them.

        Raises:
            ResonateStoreError: 100.404 if there is none.
            UsageError: it is still pending (cancel it first), or part of another; nothing was deleted.
            NotSupported: the client has a `store` of your own.
        """
        self._core.may_block("r.purge()", "await r.aio.purge(...)")
        self._core.purge(check_id(id))

    def schedule(
        self,
        /,
        id: str,
        func: Callable[..., Any] | str,
        cron: str,
        *args: Any,
        timeout: Any = None,
        version: int | None = None,
        **kwargs: Any,
    ) -> Schedule:
        """Have `func` run by a worker of the target group at each occurrence of `cron` (UTC).

        The same definition under the same id joins; another one replaces it.

        Args:
            id: names the schedule; its runs are called `ID-MILLISECONDS`.
            func: a registered function or a name; the cron text may come before it.
            cron: 5 fields, or 6 with seconds first.
            *args, **kwargs: of the function.
            timeout: seconds (or timedelta) that a run may take; default the client's.
            version: of the function; default the newest.

        Returns:
            The schedule, with `delete()`.
        """
        if (not callable(func) and callable(cron)) or (_looks_like_cron(func) and not _looks_like_cron(cron)):
            func, cron = cron, func
        id = check_id(id)
        if not isinstance(cron, str):
            raise TypeError(f"cron must be `str`, got {type(cron).__name__}")
        core, opts = self._core, self._opts.merged(Options.CLIENT, timeout=timeout, version=version)
        call = core.call(func, args, kwargs, opts, remote=True)
        core.define_schedule(id, cron, call, opts)
        return core.schedules.get(id)

    @property
    def promises(self) -> PromiseClient:
        """The promises themselves: get, create, resolve, reject, cancel; `.aio` for async code."""
        self._core.started()
        return self._core.promises

    @property
    def schedules(self) -> ScheduleClient:
        """The schedules themselves: create, get, delete; `.aio` for async code."""
        self._core.started()
        return self._core.schedules

    # ---- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to take tasks of the group; implied by the first call. May be called again.

        Raises:
            ClientStopped: `stop` was called before.
        """
        self._core.started()

    def stop(self, timeout: float | timedelta | None = None) -> None:
        """Stop: release what is held, end all threads, leave open handles with an error. Idempotent.

        While another thread is in it, this waits for that one, unless it is called by a function that runs here.

        Args:
            timeout: seconds (or timedelta) to wait for steps that run; None waits for their end.
        """
        self._core.stop(timeout)

    def __enter__(self) -> Resonate:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Resonate:
        await self.aio.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aio.stop()

    @property
    def aio(self) -> Aio:
        """The awaitable forms of this client's methods, for use inside an event loop.

        Those of other things are beside them: `await handle`, `handle.aio`, `promises.aio`, `schedules.aio`.
        """
        return Aio(self)

    @property
    def pid(self) -> str:
        """What this process is called by the service."""
        return self._core.settings.pid

    @property
    def group(self) -> str:
        """The group this client takes tasks of."""
        return self._core.settings.group

    # ---- inside -----------------------------------------------------------------------------------------------

    def _run(self, id: str, func: Any, args: Any, kwargs: Any, opts: Options, *, remote: bool) -> Any:
        core = self._core
        core.may_block(
            "run()" if not remote else "rpc()", "await r.aio.run(...)" if not remote else "await r.aio.rpc(...)"
        )
        id = check_id(id)
        call = core.call(func, args, kwargs, opts, remote=remote)
        completion = core.begin(id, call, opts, remote=remote, lend=opts.timeout is None)
        if completion.outcome is None:
            completion.wait(None)
        return completion.result()

    def _start(self, id: str, func: Any, args: Any, kwargs: Any, opts: Options, *, remote: bool) -> Handle[Any]:
        id = check_id(id)
        core = self._core
        call = core.call(func, args, kwargs, opts, remote=remote)
        loop = asyncio._get_running_loop()
        if loop is not None and not core.inline and core.owns_loop(loop):
            return Handle(id, core, creation=loop.create_task(core.abegin(id, call, opts, remote=remote)))
        return Handle(id, core, core.begin(id, call, opts, remote=remote, lend=False))

    async def _astart(self, id: str, func: Any, args: Any, kwargs: Any, *, remote: bool) -> Handle[Any]:
        id = check_id(id)
        core, opts = self._core, self._opts
        call = core.call(func, args, kwargs, opts, remote=remote)
        return Handle(id, core, await core.abegin(id, call, opts, remote=remote))


class Aio:
    """`Resonate` for the inside of an event loop: nothing here blocks it.

    `aio.start` (or `async with`) binds the client to the running loop, on which its async
    functions then run; without it they run on a loop of the client's own.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Resonate) -> None:
        self._client = client

    async def start(self) -> None:
        """`Resonate.start`, binding the client to the running loop if it has not started yet."""
        self._client._core.bind(asyncio.get_running_loop())
        await self._client._core.off_loop(self._client.start)
        self._client._core.heed_signals()

    async def stop(self, timeout: float | timedelta | None = None) -> None:
        """`Resonate.stop`, waiting without blocking the loop."""
        await asyncio.get_running_loop().run_in_executor(None, self._client.stop, timeout)

    async def run(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.run`, awaited."""
        return await (await self.begin_run(id, func, *args, **kwargs))

    async def begin_run(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Handle[Any]:
        """`Resonate.begin_run`; the promise is durable when the handle is returned."""
        return await self._client._astart(id, func, args, kwargs, remote=False)

    async def begin_run_in(
        self, connection: Any, id: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Handle[Any]:
        """`Resonate.begin_run_in`, on a thread: use `connection` on no other meanwhile.

        One of `sqlite3` has to be opened with `check_same_thread=False`.
        """
        client = self._client
        id = check_id(id)
        core, opts = client._core, client._opts
        call = core.call(func, args, kwargs, opts, remote=True)
        return Handle(id, core, await core.abegin_in(connection, id, call, opts))

    async def rpc(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.rpc`, awaited."""
        return await (await self.begin_rpc(id, func, *args, **kwargs))

    async def begin_rpc(self, /, id: str, func: Callable[..., Any] | str, *args: Any, **kwargs: Any) -> Handle[Any]:
        """`Resonate.begin_rpc`; the promise is durable when the handle is returned."""
        return await self._client._astart(id, func, args, kwargs, remote=True)

    async def get(self, id: str) -> Handle[Any]:
        """`Resonate.get`."""
        return await self._client._core.off_loop(self._client.get, id)

    async def list(
        self,
        *,
        state: str | None = None,
        function: str | None = None,
        group: str | None = None,
        tags: dict[str, str] | None = None,
        prefix: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Call]:
        """`Resonate.list`."""
        core = self._client._core
        return await core.off_loop(
            lambda: core.inspector().executions(
                state=state,
                function=function,
                group=group,
                tags=tags,
                prefix=prefix,
                since=_millis(since),
                until=_millis(until),
                limit=limit,
                cursor=cursor,
            )
        )

    async def purge(self, id: str) -> None:
        """`Resonate.purge`."""
        core = self._client._core
        await core.off_loop(core.purge, check_id(id))

    async def schedule(self, /, id: str, func: Any, cron: str, *args: Any, **kwargs: Any) -> Schedule:
        """`Resonate.schedule`."""
        return await self._client._core.off_loop(self._client.schedule, id, func, cron, *args, **kwargs)


def _millis(instant: datetime | None) -> int | None:
    return None if instant is None else int(instant.timestamp() * 1000)


def _looks_like_cron(text: object) -> bool:
    return isinstance(text, str) and (text.strip().startswith("@") or len(text.split()) in (5, 6))


__all__ = ["Aio", "Context", "Function", "Resonate"]
