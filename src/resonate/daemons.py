"""Threads that may be there when a program ends, and never begin while it does.

A program may simply end without `stop`: the threads of its clients are daemons, which Python leaves where they stand.
But one that has only just been started begins, after Python has freed the state of all other threads, with a look at
its own: CPython 3.11 crashes then. So after the exit functions no thread of ours starts another; the main thread may,
since a start that it waits for is over before it goes on.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import Any

_starting = threading.RLock()
_ending = False


class Daemon(threading.Thread):
    """A daemon thread. Started by another thread than the main one while the program ends, it does not begin.

    Args:
        target: what it runs.
        name: of the thread.
        args: for `target`.
    """

    def __init__(self, target: Callable[..., object], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)

    def start(self) -> None:
        """Begin, unless the program ends; it has begun when this returns."""
        with _starting:
            if not _ending or threading.get_ident() == threading.main_thread().ident:
                super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, if it has begun."""
        if self.ident is not None:
            super().join(timeout)


def _end() -> None:
    """The program ends: whatever is being started has begun when this returns, and nothing begins after it."""
    global _ending
    with _starting:
        _ending = True


def _forked() -> None:
    """Another thread of the parent may have been starting one."""
    global _starting
    _starting = threading.RLock()


atexit.register(_end)  # at import: the exit functions of the program, registered later, are called before
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


__all__ = ["Daemon"]
