"""What a Python function takes and gives, read once.

`describe` answers from the function's code object, without the `inspect` module, which is
loaded only to print a signature in an error. Annotations are resolved when somebody asks;
one that cannot be resolved counts as `Any`. Nothing here calls the function.

The first parameter of every durable function is its `Context`; arguments are counted and
named from the second one on.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Generator, Mapping, Sequence
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any, Final, Literal
from weakref import ref

from resonate.errors import UnfitArguments, UnfitValue

Kind = Literal["plain", "generator", "async"]

_VARARGS: Final = 0x04
_VARKEYWORDS: Final = 0x08
_GENERATOR: Final = 0x20
_COROUTINE: Final = 0x80
_ITERABLE_COROUTINE: Final = 0x100
_ASYNC_GENERATOR: Final = 0x200
_UNLIMITED: Final = 1 << 30


class Signature:
    """What `describe` found out about one function.

    Attributes:
        kind: "plain", "generator" or "async".
        name: the function's own name.
        returns: the annotation of the result; for a generator the R of `Generator[Y, S, R]`;
            `Any` if there is none or it cannot be resolved.
        annotated: whether any parameter behind the context has an annotation.
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_fits_from",
        "_fits_to",
        "_hints",
        "_positions",
        "_ref",
        "annotated",
        "kind",
        "name",
        "returns",
    )

    returns: Any
    _positions: tuple[Any, ...]

    def __init__(self, func: Callable[..., Any]) -> None:
        code: CodeType = func.__code__
        flags = code.co_flags
        self._code = code
        self._ref: Callable[[], Any] = ref(func, _forget(id(func)))
        self._hints: dict[str, Any] | None = None
        self.name: str = func.__name__
        self.kind: Kind = _kind(flags)
        annotations: Mapping[str, Any] = func.__annotations__
        if not annotations:
            self.returns = Any
        behind = len(annotations) - ("return" in annotations)
        self.annotated = behind > (code.co_argcount > 0 and code.co_varnames[0] in annotations)
        self._fits_from, self._fits_to = _counts(func, code)

    def __getattr__(self, name: str) -> Any:
        """Resolve annotations at their first use; afterwards these are ordinary attributes."""
        if name == "returns":
            self.returns = _result_of(self._annotations().get("return", Any), self.kind)
            return self.returns
        if name == "_positions":
            self._positions = tuple(self.annotation(at) for at in range(self._code.co_argcount - 1))
            return self._positions
        raise AttributeError(f"'Signature' object has no attribute {name!r}")

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check that the arguments fit behind the context.

        Raises:
            UnfitArguments: they do not; names the function and its signature (a TypeError).
        """
        if not kwargs and self._fits_from <= len(args) <= self._fits_to:
            return
        problem = self._problem(len(args), kwargs)
        if problem is not None:
            raise UnfitArguments(f"{self.name}{self.text()}: {problem}")

    def annotation(self, parameter: int | str) -> Any:
        """The annotation of an argument, by position behind the context or by name; else `Any`."""
        return self._annotations().get(self.parameter(parameter), Any)

    def positional(self, count: int) -> tuple[Any, ...]:
        """The annotations of the first `count` positional arguments behind the context."""
        fixed = self._positions
        if count <= len(fixed):
            return fixed
        return (*fixed, *(self.annotation(at) for at in range(len(fixed), count)))

    def parameter(self, argument: int | str) -> str:
        """The name of the parameter that takes an argument."""
        code = self._code
        if isinstance(argument, str):
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if argument in names or not code.co_flags & _VARKEYWORDS:
                return argument
            return code.co_varnames[code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & _VARARGS)]
        if argument + 1 < code.co_argcount:
            return code.co_varnames[argument + 1]
        if code.co_flags & _VARARGS:
            return code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        return f"argument {argument}"

    def text(self) -> str:
        """The signature as written, with the context."""
        import inspect  # only for messages: loading it costs more than the rest of this module

        func = self._ref()
        try:
            return str(inspect.signature(func, follow_wrapped=False)) if func is not None else "(...)"
        except (TypeError, ValueError):
            return "(...)"

    def _annotations(self) -> dict[str, Any]:
        if self._hints is None:
            func = self._ref()
            self._hints = _resolve(func) if func is not None else {}
        return self._hints

    def _problem(self, count: int, kwargs: Mapping[str, Any]) -> str | None:
        func, code = self._ref(), self._code
        positional = code.co_varnames[: code.co_argcount]
        keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        if not positional and not code.co_flags & _VARARGS:
            return "a durable function takes its context as the first positional argument"
        if count + 1 > len(positional) and not code.co_flags & _VARARGS:
            return f"takes at most {len(positional) - 1} positional arguments behind the context, got {count}"
        given = set(positional[: count + 1])
        for name in kwargs:
            if name in given and positional.index(name) >= code.co_posonlyargcount:
                return f"got multiple values for argument {name!r}"
            by_keyword = name in keyword_only or name in positional[code.co_posonlyargcount :]
            if not by_keyword and not code.co_flags & _VARKEYWORDS:
                return f"got an unexpected keyword argument {name!r}"
            if by_keyword:
                given.add(name)
        defaults = len(func.__defaults__ or ()) if func is not None else 0
        required = [*positional[: len(positional) - defaults]]
        required += [name for name in keyword_only if name not in (getattr(func, "__kwdefaults__", None) or {})]
        missing = [repr(name) for name in required if name not in given]
        return f"missing {', '.join(missing)}" if missing else None


def describe(func: Callable[..., Any]) -> Signature:
    """What `func`, a Python function, takes and gives. Cached for as long as the function lives."""
    known = _KNOWN.get(id(func))
    if known is not None and known._ref() is func:
        return known
    known = Signature(func)
    _KNOWN[id(func)] = known
    return known


def unwrapped(func: Any) -> Any:
    """The function behind our wrapper of one; anything else as it is."""
    # a `Function`, which is above this module; a client begins calls too, and is none
    return getattr(func, "func", func) if hasattr(type(func), "begin_rpc") else func


def check_function(func: Any) -> Callable[..., Any]:
    """The Python function behind `func`, which is one or our wrapper of one.

    Raises:
        UnfitArguments: `func` cannot be called (a TypeError).
        UnfitValue: a class, a bound method, a partial or another callable object (a ValueError).
    """
    if type(func) is FunctionType:
        return func
    function = unwrapped(func)
    if function is not func:
        return check_function(function)
    if not callable(func):
        raise UnfitArguments(f"provided callable must be a function, got {type(func).__name__}")
    raise UnfitValue(
        f"provided callable must be a function, got {type(func).__name__} {getattr(func, '__name__', '')}".rstrip()
        + ": wrap it in `def`, so that it has a name and a context of its own"
    )


def check_runnable(func: Callable[..., Any]) -> None:
    """Refuse a Python function that no execution could run.

    Raises:
        UnfitValue: an async generator function, or one that takes no context (a ValueError).
    """
    code = func.__code__
    if code.co_flags & _ASYNC_GENERATOR:
        raise UnfitValue(
            f"{func.__name__} is an async generator function, which cannot run durably: write `async def` with `await` "
            "instead of `yield`, or `def` with `yield`"
        )
    if not code.co_argcount and not code.co_flags & _VARARGS:
        raise UnfitValue(
            f"{func.__name__}{describe(func).text()} takes no context, which is the first positional argument of a "
            f"durable function: write `def {func.__name__}(ctx, ...)`"
        )


_KNOWN: Final[dict[int, Signature]] = {}
"""By the id of a function that is alive: each entry is dropped by its function's weak reference."""


def _forget(key: int) -> Callable[[Any], None]:
    def forget(_: Any) -> None:
        _KNOWN.pop(key, None)

    return forget


def _kind(flags: int) -> Kind:
    if flags & (_GENERATOR | _ITERABLE_COROUTINE):
        return "generator"
    return "async" if flags & _COROUTINE else "plain"


def _counts(func: Callable[..., Any], code: CodeType) -> tuple[int, int]:
    """How many positional arguments fit if there are no others; (1, 0) if the fast check does not do."""
    required_keywords = code.co_kwonlyargcount - len(getattr(func, "__kwdefaults__", None) or ())
    varargs = code.co_flags & _VARARGS
    if required_keywords > 0 or not (code.co_argcount or varargs):
        return 1, 0
    defaults = len(getattr(func, "__defaults__", None) or ())
    return max(0, code.co_argcount - defaults - 1), _UNLIMITED if varargs else code.co_argcount - 1


def _resolve(func: Callable[..., Any]) -> dict[str, Any]:
    annotations: Mapping[str, Any] = func.__annotations__
    return {name: _resolved(func, annotation) for name, annotation in annotations.items()}


def _resolved(func: Any, annotation: Any) -> Any:
    """One annotation, each on its own so that a bad one does not spoil the others."""
    if annotation is None:
        return type(None)
    if type(annotation) is type:
        return annotation
    names = {p.__name__: p for p in getattr(func, "__type_params__", ())}
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # a name of the enclosing function that is bound later
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, func.__globals__, names, include_extras=True)["it"]
    except Exception:  # whatever evaluating an annotation raises: it then says nothing
        return Any


def _result_of(annotation: Any, kind: Kind) -> Any:
    if kind != "generator":
        return annotation
    if typing.get_origin(annotation) is not Generator:
        return Any
    parts = typing.get_args(annotation)
    return parts[2] if len(parts) == 3 else Any


__all__ = ["Kind", "Signature", "check_function", "check_runnable", "describe", "unwrapped"]
