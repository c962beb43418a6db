"""What a durable function gets as its first argument: its durable calls, time and chance."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import timedelta
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Final, TypeVar

from msgspec import Struct

from resonate.dependencies import Dependencies
from resonate.errors import NotSupported, UnfitArguments, UnfitValue, UsageError
from resonate.execution.begin import loosely
from resonate.execution.call import PLAIN, Call
from resonate.execution.commands import (
    LFC,
    LFI,
    RFC,
    RFI,
    Choice,
    Command,
    Detached,
    Latent,
    Mapped,
    Promise,
    Sleep,
    Transacted,
)
from resonate.execution.execution import Execution
from resonate.logger import Logger
from resonate.options import Options
from resonate.registry import Registry
from resonate.retry_policies import LONGEST, Never, figure
from resonate.signatures import Signature, check_function, describe, unwrapped
from resonate.values import digest, encode

T = TypeVar("T")

_DEFAULT: Final = Options()


Described = tuple[Callable[..., Any], str, int, Signature]
"""A function, its name, version and signature."""


class Shared:
    """What all contexts of one client have in common."""

    __slots__ = ("_registered", "database", "dependencies", "group", "log_level", "registry")

    def __init__(
        self, registry: Registry, dependencies: Dependencies, group: str, log_level: int, database: bool = False
    ) -> None:
        self.database = database
        self.registry = registry
        self.dependencies = dependencies
        self.group = group
        self.log_level = log_level
        self._registered: dict[int, tuple[Any, Described]] = {}

    def local(self, func: Any) -> Described:
        """The function, name, version and signature of what `ctx.run` was given.

        Raises:
            ValueError: no function, or a name that is not registered here.
        """
        known = self._registered.get(id(func))
        if known is not None and known[0] is func:
            return known[1]
        if isinstance(func, str):
            name, func, version = self.registry.get(func)
            return func, name, version, describe(func)
        return self.registered(func) or (function := check_function(func), function.__name__, 1, describe(function))

    def registered(self, func: Any) -> Described | None:
        """The same of a function object that is registered here; None of anything else."""
        known = self._registered.get(id(func))
        if known is not None and known[0] is func:
            return known[1]
        function = unwrapped(func)
        found = self.registry.known(function) if type(function) is FunctionType else None
        if found is None:
            return None
        described = (function, *found, describe(function))
        self._registered[id(func)] = (func, described)  # holds `func`, so that no other object gets its id
        return described


class Info:
    """Facts about the running call; `timeout` is its deadline in seconds since the epoch."""

    __slots__ = ("_call", "_execution")

    def __init__(self, execution: Execution, call: Call) -> None:
        self._execution = execution
        self._call = call

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self._call.attempt

    @property
    def idempotency_key(self) -> str:
        """The key the call was made with; its id unless one was given."""
        return self._call.options.key_for(self._call.id)

    @property
    def tags(self) -> dict[str, str]:
        """The tags the caller gave."""
        return dict(self._call.options.tags or {})

    @property
    def timeout(self) -> float:
        """The deadline, seconds since the epoch."""
        return self._call.deadline / 1000

    @property
    def timeout_at(self) -> int:
        """The deadline, milliseconds since the epoch."""
        return self._call.deadline

    @property
    def version(self) -> int:
        """The version of the function; 1 if it is not registered."""
        return self._call.version

    @property
    def func_name(self) -> str:
        """The name of the function."""
        return self._call.name

    @property
    def id(self) -> str:
        """The id of this call's promise."""
        return self._call.id

    @property
    def parent_id(self) -> str:
        """The id of the call that made this one; a root's own id."""
        return self._call.owner.id if self._call.owner is not None else self._execution.parent

    @property
    def origin_id(self) -> str:
        """The id of the root of the whole tree."""
        return self._execution.origin

    @property
    def branch_id(self) -> str:
        """The id of the execution this call belongs to."""
        return self._execution.branch


class _Draws:
    """`ctx.random` and `ctx.time`: each call is a recorded step, so a replay sees the same."""

    __slots__ = ("_context", "_key", "_module")

    names: tuple[str, ...] = ()
    label = ""

    def __init__(self, context: Context, key: str, module: ModuleType) -> None:
        self._context = context
        self._key = key
        self._module = module

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.names:
            raise AttributeError(f"ctx.{self.label} has no {name!r}; it offers {', '.join(self.names)}")
        source = self._context.get_dependency(self._key, self._module)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._context._draw(f"{self.label}.{name}", getattr(source, name), args, kwargs)

        return call


class Random(_Draws):
    """Durable chance."""

    __slots__ = ()
    names = ("betavariate", "choice", "expovariate", "getrandbits", "randint", "random", "randrange", "triangular")
    label = "random"


class Time(_Draws):
    """Durable time."""

    __slots__ = ()
    names = ("strftime", "time")
    label = "time"


def _drawn(draw: Callable[..., Any], ctx: Context, /, *args: Any, **kwargs: Any) -> Any:
    return draw(*args, **kwargs)


class Context(Struct, frozen=True, eq=False, repr_omit_defaults=True):
    """The first argument of every durable function.

    In a generator function `yield` what the methods return; in an async function `await`
    it. Calls are numbered in the order in which the code makes them.
    """

    _execution: Execution
    _call: Call
    _shared: Shared
    _opts: Options = _DEFAULT

    # ---- calls --------------------------------------------------------------------------------

    def run(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Call `func` in this process as a durable step; gives its value.

        Args:
            func: any Python function; it gets a `Context` first, then the arguments.
            *args, **kwargs: need not be encodable; what cannot be encoded counts by its type.

        Raises:
            ValueError: `func` is no function.
            TypeError: the arguments do not fit it.
            Exception: at the yield or await: what `func` raised, after its retries.
        """
        return self._local(LFC, func, args, kwargs)

    def begin_run(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Begin `func` as a durable step; gives a `Promise` at once. See `run`."""
        return self._local(LFI, func, args, kwargs)

    def rpc(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Have a worker run `func`; gives its value.

        Args:
            func: a registered function, or a name that some worker knows.
            *args, **kwargs: stored with the promise, so they must be encodable.

        Raises:
            ValueError: `func` is a function that is not registered.
            EncodeError: an argument cannot be stored.
        """
        return self._remote(RFC, func, args, kwargs)

    def begin_rpc(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Have a worker run `func`; gives a `Promise` at once. See `rpc`."""
        return self._remote(RFI, func, args, kwargs)

    def detached(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Have a worker run `func` on its own: not waited for, not bound to our deadline."""
        return self._remote(Detached, func, args, kwargs)

    lfc = run
    lfi = begin_run
    rfc = rpc
    rfi = begin_rpc

    def sleep(self, duration: float | timedelta) -> Any:
        """Wait durably; no thread is held meanwhile.

        Args:
            duration: seconds, or a timedelta; zero or less continues at once.

        Raises:
            UnfitArguments: something else (a TypeError).
            UnfitValue: (a ValueError) no number, or too long to be an instant.
        """
        wait = duration.total_seconds() if isinstance(duration, timedelta) else duration
        if isinstance(wait, bool) or not isinstance(wait, int | float):
            raise UnfitArguments(f"sleep takes seconds (int or float) or a timedelta, got {type(duration).__name__}")
        if not wait <= LONGEST:
            raise UnfitValue(f"sleep takes at most {LONGEST:.0f} seconds, got {figure(wait)}")
        return self._issue(Sleep(float(max(wait, -LONGEST)), _place(1), self._opts))

    def promise(
        self,
        *,
        id: str | None = None,
        timeout: float | timedelta | None = None,
        idempotency_key: str | None = None,
        data: Any = None,
        tags: dict[str, str] | None = None,
    ) -> Any:
        """Make a promise that somebody outside settles; gives a `Promise` (awaited: its value).

        Args:
            id: instead of the next child id.
            timeout: seconds until it times out; at most until our own deadline.
            idempotency_key: kept as a tag.
            data: stored with the promise for whoever settles it.
            tags: the caller's own tags.
        """
        opts = self._opts.merged(Options.LATENT, id=id, timeout=timeout, idempotency_key=idempotency_key, tags=tags)
        encoded, headers = encode(data, "data of ctx.promise()", encoder=opts.encoder)
        return self._issue(Latent(encoded, headers, digest((data,), {}), _place(1), opts))

    def transaction(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a step in the transaction that also stores its result: what it changes happens exactly once.

        `func(connection, *args, **kwargs)` is a plain function; `connection` is a
        `sqlite3.Connection` to the file that this client's state is in, or a
        `psycopg.Connection` to its database, inside a transaction. If the first parameter of
        `func` is annotated as a `sqlalchemy.orm.Session`, it gets one over that connection.

        The transaction is committed after `func` has returned; if `func` raises, or the process
        dies, or the lease was lost meanwhile, nothing stays, and the step is retried like any
        other. `func` must not end the transaction itself. Savepoints are `with connection:`
        (sqlite3), `with connection.transaction():` (psycopg), and what `commit()` and
        `rollback()` of a `Session` end. On a file nobody else can write meanwhile: a step is
        ended by an error after half of a lease (`ttl`).

        Raises:
            NotSupported: this client's state is in no database; nothing was run.
            TypeError: `func` is no plain function, or the arguments do not fit it.
        """
        if not self._shared.database:
            raise NotSupported(
                "ctx.transaction commits a step's changes together with its result, so both have to be in one "
                'database: Resonate(url="sqlite:///app.db") or Resonate(url="postgresql://...")'
            )
        func, name, version, signature = self._shared.local(func)
        if signature.kind != PLAIN:
            raise UnfitArguments(
                f"ctx.transaction({name}): {name} must be a plain function, not {_ARTICLE[signature.kind]}"
            )
        signature.bind(args, kwargs)
        return self._issue(
            Transacted(func, args, kwargs, name, version, signature, digest(args, kwargs), _place(1), self._opts)
        )

    def all(self, calls: Iterable[Any]) -> Any:
        """Wait for all of several calls; gives the list of their values, in their order.

        The first failure is raised as soon as it is known; the other calls run to their
        end (the function does not end before them). Members are commands, which begin now,
        or promises begun earlier.
        """
        return self._choose(calls, "all")

    def race(self, calls: Iterable[Any]) -> Any:
        """Wait for the first of several calls to end; gives its value or raises its error.

        The winner is recorded, so a replay picks the same. The losers run to their end.
        """
        calls = list(calls)
        if not calls:
            raise UsageError("race of no calls would wait for ever: give it at least one")
        return self._choose(calls, "race")

    def map(
        self,
        func: Callable[..., Any],
        items: Iterable[Any],
        *,
        limit: int | None = None,
        min_successful: int | None = None,
    ) -> Any:
        """Call `func(ctx, item)` for each item as steps; gives the list of values in the items' order.

        Args:
            limit: at most so many at the same time; None runs all at once.
            min_successful: None raises the first failure. A number k gives a result as soon
                as k calls have succeeded, with None in the place of the others, and raises
                the last failure once k cannot be reached. No further items are begun then;
                those begun run to their end.

        Raises:
            TypeError: `limit` or `min_successful` is no int.
            UsageError: `limit` or `min_successful` below 1, or more successes than items.
        """
        work = list(items)
        for name, given in (("limit", limit), ("min_successful", min_successful)):
            if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
                raise UnfitArguments(f"map({name}={given!r}): {name} must be `int | None`, got {type(given).__name__}")
        if limit is not None and limit < 1:
            raise UsageError(f"map(limit={limit}): at least one call must run at a time")
        if min_successful is not None and not 1 <= min_successful <= len(work):
            raise UsageError(f"map(min_successful={min_successful}) of {len(work)} items: give a number from 1 to that")
        args = (func, work, limit or max(1, len(work)), min_successful)
        label = f"map {getattr(func, '__name__', 'function')}"
        return self._issue(
            Mapped(
                _map,
                args,
                {},
                label,
                1,
                describe(_map),
                digest((work, limit, min_successful), {}),
                _place(1),
                _MAP_OPTIONS,
            )
        )

    def typesafe(self, command: Any) -> Generator[Any, Any, Any]:
        """`x = yield from ctx.typesafe(ctx.run(f))`: the same value, typed for checkers."""
        return (yield command)

    def options(self, **given: Any) -> Context:
        """This context with options for the calls made through it: `ctx.options(timeout=5).run(f)`."""
        return Context(self._execution, self._call, self._shared, self._opts.merged(Options.ANY, **given))

    # ---- facts -----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of this call's promise."""
        return self._call.id

    @property
    def info(self) -> Info:
        """Attempt, tags, deadline, version and place of this call."""
        return Info(self._execution, self._call)

    @property
    def cancelled(self) -> bool:
        """Whether this call was cancelled or passed its deadline; busy plain code looks at this."""
        call: Call | None = self._call
        while call is not None:
            if call.stop is not None or call.done:
                return True
            call = call.owner
        return self._execution.now() >= self._call.deadline

    @property
    def logger(self) -> Logger:
        """A logger that names this call."""
        return Logger(self._execution.origin, self._call.id, self._shared.log_level)

    @property
    def random(self) -> Random:
        """Durable chance: `yield ctx.random.randint(1, 6)`."""
        return Random(self, "resonate:random", random)

    @property
    def time(self) -> Time:
        """Durable time: `yield ctx.time.time()`."""
        return Time(self, "resonate:time", time)

    @property
    def dependencies(self) -> Mapping[str, Any]:
        """The named objects of this client, read-only."""
        return self._shared.dependencies.view()

    def get_dependency(self, key: Any, default: Any = None) -> Any:
        """The object set under `key`, a name or (for objects added by type) a class.

        Raises:
            TypeError: `key` is neither.
        """
        return self._shared.dependencies.get(key, default)

    # ---- inside ------------------------------------------------------------------------------------

    def _local(self, kind: type[LFC] | type[LFI], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        func, name, version, signature = self._shared.local(func)
        signature.bind(args, kwargs)
        return self._issue(
            kind(func, args, kwargs, name, version, signature, digest(args, kwargs), _place(2), self._opts)
        )

    def _remote(self, kind: type[RFC] | type[RFI], func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, found, version = self._shared.registry.resolve(func, self._opts.version)
        returns: Any = Any
        if found is not None:
            signature = describe(found)
            signature.bind(args, kwargs)
            returns = signature.returns
        ours = found is not None or self._shared.registry.versions(name)  # in other versions perhaps
        group = self._shared.group if ours else "default"
        return self._issue(
            kind(name, version, args, kwargs, digest(args, kwargs), returns, group, _place(2), self._opts)
        )

    def _choose(self, calls: Iterable[Any], mode: str) -> Any:
        members = [getattr(member, "item", member) for member in calls]
        return self._issue(Choice(members, mode, _place(2), self._opts))

    def _draw(self, name: str, draw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        command = LFC(
            partial(_drawn, draw), args, kwargs, name, 1, _DRAWN, digest(args, kwargs), _place(2), _DRAW_OPTIONS
        )
        return self._issue(command)

    def _issue(self, command: Command) -> Any:
        call = self._call
        if call.track is not None:
            return call.track.issue(command)
        if call.kind == PLAIN:
            raise UsageError(
                f"{call.name or 'a plain function'} makes a durable call at {command.where}, but a plain function "
                "cannot wait for one: make it a generator function (x = yield ctx.run(...)) "
                "or an async function (x = await ctx.run(...))"
            )
        call.count += 1
        command.number(f"{call.prefix}{call.count}")
        call.loose = command if call.loose is None else loosely(call.loose, command)
        return command


_ARTICLE: Final = {"generator": "a generator function", "async": "an async function"}
_DRAWN: Final = describe(_drawn)
_DRAW_OPTIONS: Final = Options(retry_policy=Never())
_MAP_OPTIONS: Final = Options(retry_policy=Never())


def _map(
    ctx: Context, func: Callable[..., Any], items: list[Any], limit: int, enough: int | None
) -> Generator[Any, Any, list[Any]]:
    """The calls of `Context.map`, kept at `limit` at a time by racing those that run."""
    values: list[Any] = [None] * len(items)
    running: dict[Promise[Any], int] = {}
    successes, failures, begun = 0, 0, 0
    while begun < len(items) or running:
        while begun < len(items) and len(running) < limit:
            running[(yield ctx.begin_run(func, items[begun]))] = begun
            begun += 1
        first = next(iter(running)) if len(running) == 1 else (yield ctx._choose(running, "first"))
        at = running.pop(first)
        try:
            values[at] = yield first
            successes += 1
        except Exception:
            failures += 1
            if enough is None or len(items) - failures < enough:
                raise
        if successes == enough:
            break
    return values


_NAMES: Final[dict[str, str]] = {}
"""The last part of each source file's path that calls were made from."""


def _place(above: int) -> str:
    """`file:line` of the user's code, `above` frames up from our caller."""
    frame = sys._getframe(above + 1)
    path = frame.f_code.co_filename
    name = _NAMES.get(path)
    if name is None:
        name = _NAMES[path] = path.rpartition("/")[2]
    return f"{name}:{frame.f_lineno}"
