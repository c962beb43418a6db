"""A registered function with its own run, rpc and options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from resonate.handle import Handle
from resonate.options import Options

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Runner(Protocol):
    """What a `Function` needs of its client."""

    def _start(self, id: str, func: Any, args: Any, kwargs: Any, opts: Options, *, remote: bool) -> Handle[Any]: ...

    def _run(self, id: str, func: Any, args: Any, kwargs: Any, opts: Options, *, remote: bool) -> Any: ...


class Function(Generic[P, R]):
    """What `register` returns: the function itself, with `run`, `rpc` and `options` beside it.

    Calling it calls the function; it compares and hashes like the function.
    """

    def __init__(self, client: Runner, name: str, func: Callable[..., R], version: int, opts: Options) -> None:
        functools.update_wrapper(self, func)
        self._client = client
        self._name = name
        self._func = func
        self._version = version
        self._opts = opts

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self._name

    @property
    def func(self) -> Callable[..., R]:
        """The function itself."""
        return self._func

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self._func(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return self._func == (other._func if isinstance(other, Function) else other)

    def __hash__(self) -> int:
        return hash(self._func)

    def options(self, **given: Any) -> Function[P, R]:
        """Change the options of this wrapper's calls, in place; returns it.

        Raises:
            TypeError, ValueError: as `Resonate.options`.
        """
        self._opts = self._opts.merged(Options.CLIENT, **given)
        return self

    @overload
    def run(self: Function[P, Generator[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def run(self: Function[P, Coroutine[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def run(self: Function[P, R], /, id: str, *args: Any, **kwargs: Any) -> R: ...
    def run(self, /, id: str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.run` of this function, with the options of this wrapper."""
        return self._client._run(id, self, args, kwargs, self._opts, remote=False)

    @overload
    def begin_run(self: Function[P, Generator[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> Handle[T]: ...
    @overload
    def begin_run(self: Function[P, Coroutine[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> Handle[T]: ...
    @overload
    def begin_run(self: Function[P, R], /, id: str, *args: Any, **kwargs: Any) -> Handle[R]: ...
    def begin_run(self, /, id: str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.begin_run` of this function, with the options of this wrapper."""
        return self._client._start(id, self, args, kwargs, self._opts, remote=False)

    @overload
    def rpc(self: Function[P, Generator[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def rpc(self: Function[P, Coroutine[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def rpc(self: Function[P, R], /, id: str, *args: Any, **kwargs: Any) -> R: ...
    def rpc(self, /, id: str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.rpc` of this function, with the options of this wrapper."""
        return self._client._run(id, self, args, kwargs, self._opts, remote=True)

    @overload
    def begin_rpc(self: Function[P, Generator[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> Handle[T]: ...
    @overload
    def begin_rpc(self: Function[P, Coroutine[Any, Any, T]], /, id: str, *args: Any, **kwargs: Any) -> Handle[T]: ...
    @overload
    def begin_rpc(self: Function[P, R], /, id: str, *args: Any, **kwargs: Any) -> Handle[R]: ...
    def begin_rpc(self, /, id: str, *args: Any, **kwargs: Any) -> Any:
        """`Resonate.begin_rpc` of this function, with the options of this wrapper."""
        return self._client._start(id, self, args, kwargs, self._opts, remote=True)


__all__ = ["Function"]
