"""Named objects handed to functions: connections, clients, settings.

They live in this process alone and are never stored. All copies that `options` makes of a
client share one `Dependencies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from types import MappingProxyType
from typing import Any

from resonate.errors import UnfitArguments


class Dependencies:
    """Objects by name, or by their class. Safe to use from several threads."""

    __slots__ = ("_by_name", "_by_type", "_lock")

    def __init__(self) -> None:
        self._by_name: dict[str, Any] = {}
        self._by_type: dict[type, Any] = {}
        self._lock = Lock()

    def add(self, name: str, obj: Any) -> None:
        """Set the object for `name`; an earlier one is replaced.

        Args:
            name: what functions ask for.
            obj: any object; shared by all functions, so it should be safe to share.

        Raises:
            TypeError: `name` is no str.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a dependency must be `str`, got {type(name).__name__}")
        with self._lock:
            self._by_name[name] = obj

    def add_typed(self, obj: Any) -> None:
        """Set the object for its own class; an earlier one of that class is replaced."""
        with self._lock:
            self._by_type[type(obj)] = obj

    def get(self, name: str | type, default: Any = None) -> Any:
        """The object set for `name`, or `default`.

        A class finds the object added of that class, else the first one added of a subclass.

        Raises:
            TypeError: `name` is neither a name nor a class.
        """
        if isinstance(name, str):
            return self._by_name.get(name, default)
        if not isinstance(name, type):
            raise UnfitArguments(f"the name of a dependency must be `str` or a class, got {type(name).__name__}")
        with self._lock:
            if name in self._by_type:
                return self._by_type[name]
            for known, obj in self._by_type.items():
                if issubclass(known, name):
                    return obj
        return default

    def view(self) -> Mapping[str, Any]:
        """The named objects, read-only; later changes show."""
        return MappingProxyType(self._by_name)


__all__ = ["Dependencies"]
