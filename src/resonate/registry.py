"""Functions by name and version, for one client or several.

A function object has one name and one version; a name may have several versions, each a
function of its own. Version 0 asks for the newest.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet

from resonate.errors import FunctionNotFound, UnfitValue
from resonate.signatures import check_function, check_runnable
from resonate.storable import UNSTORABLE, is_storable

Found = tuple[str, Callable[..., Any], int]


class Listener(Protocol):
    """Who is told of every function that is registered."""

    def registered(self) -> None: ...


class Registry:
    """(name, version) to function and back. Safe to use from several threads."""

    __slots__ = ("_by_func", "_by_name", "_encoders", "_listeners", "_lock", "_newest")

    def __init__(self) -> None:
        self._by_name: dict[str, dict[int, Found]] = {}
        self._newest: dict[str, Found] = {}
        self._by_func: dict[Callable[..., Any], Found] = {}
        self._encoders: dict[str, Any] = {}
        self._listeners: WeakSet[Listener] = WeakSet()
        self._lock = Lock()

    def add(self, func: Callable[..., Any], name: str | None = None, version: int = 1) -> None:
        """Register `func`, and tell the workers that run what is registered here.

        Args:
            func: a Python function.
            name: what it is called by; its own name if None.
            version: from 1.

        Raises:
            TypeError: `func` cannot be called, or a name or version of a wrong type.
            ValueError: no function, one that takes no context, an async generator function, a lambda
                without a name, a version below 1, or the name and version, or the function itself,
                are registered already.
        """
        self.add_read_with(None, func, name, version)

    def add_read_with(self, encoder: Any, func: Callable[..., Any], name: str | None, version: int) -> None:
        """`add`, with what calls of the name that come from elsewhere are read with; our own form if None."""
        func = check_function(func)
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be `str`, got {type(name).__name__}")
        if isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"version must be `int`, got {type(version).__name__}")
        if version < 1:
            raise ValueError(f"version must be greater than zero, got {version}")
        if not name and func.__name__ == "<lambda>":
            raise ValueError("name required when registering a lambda function")
        name = str.__str__(name or func.__name__)
        if not is_storable(name):
            raise ValueError(f"name {name[:80]!r} {UNSTORABLE}")
        check_runnable(func)
        found = (name, func, version)
        with self._lock:
            versions = self._by_name.setdefault(name, {})
            if version in versions:
                raise ValueError(f"function {name} already registered with version {version}")
            if func in self._by_func:
                earlier, _, number = self._by_func[func]
                raise ValueError(f"function {name} already registered: the same function is {earlier} version {number}")
            versions[version] = self._by_func[func] = found
            self._newest[name] = versions[max(versions)]
            if encoder is not None:
                self._encoders[name] = encoder
            listeners = list(self._listeners)
        for listener in listeners:
            listener.registered()

    @property
    def empty(self) -> bool:
        """Whether nothing is registered, so that no task can run."""
        return not self._newest

    def tell(self, listener: Listener) -> None:
        """Have `listener` told, for as long as it lives, of what is registered from now on."""
        with self._lock:
            self._listeners.add(listener)

    def get(self, func: Callable[..., Any] | str, version: int = 0) -> Found:
        """The name, function and version of what `func` names or is.

        Args:
            func: a registered function or name.
            version: 0 for the newest of a name, or a function's own.

        Raises:
            FunctionNotFound: not registered, or not with that version.
        """
        if isinstance(func, str):
            found = self._newest.get(func) if version == 0 else self._by_name.get(func, {}).get(version)
            if found is None:
                raise FunctionNotFound(func, version, self.names())
            return found
        func = check_function(func)
        found = self._by_func.get(func)
        if found is None or version not in (0, found[2]):
            raise FunctionNotFound(found[0] if found else func.__name__, version, self.names())
        return found

    find = get

    def latest(self, func: Callable[..., Any] | str, default: int = 1) -> int:
        """The newest version registered of a name, a function's own version, else `default`."""
        found = self._newest.get(func) if isinstance(func, str) else self._by_func.get(check_function(func))
        return default if found is None else found[2]

    def known(self, func: Callable[..., Any]) -> tuple[str, int] | None:
        """The name and version of a function, or None if it is not registered."""
        found = self._by_func.get(func)
        return None if found is None else (found[0], found[2])

    def resolve(self, func: Callable[..., Any] | str, version: int = 0) -> tuple[str, Callable[..., Any] | None, int]:
        """What a remote call is to record: name, the function if it is known here, version.

        A name nobody knows here is fine: another worker may. Its version is then as asked, or 1.

        Raises:
            FunctionNotFound: a function object that is not registered, or not with that version.
            UnfitValue: a name that nobody can have registered.
        """
        if not isinstance(func, str):
            return self.get(func, version)
        found = self._newest.get(func) if version == 0 else self._by_name.get(func, {}).get(version)
        if found is not None:
            return found
        if not is_storable(func):
            raise UnfitValue(f"func {func[:80]!r} {UNSTORABLE}")
        return str.__str__(func), None, version or 1

    def encoder(self, name: str) -> Any:
        """What calls of `name` are read with, or None for our own form."""
        return self._encoders.get(name)

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions registered of `name`, in order."""
        with self._lock:
            return tuple(sorted(self._by_name.get(name, ())))

    def names(self) -> tuple[str, ...]:
        """What is registered, as text for messages: `charge`, `refund version 2`; of several versions each is named."""
        with self._lock:
            return tuple(
                name if number == 1 == len(versions) else f"{name} version {number}"
                for name, versions in sorted(self._by_name.items())
                for number in sorted(versions)
            )


__all__ = ["Found", "Registry"]
