"""Waiting on a thread that may be the main one, whose Python code handles the signals of the process."""

from __future__ import annotations

from math import inf
from threading import Event, get_ident, main_thread
from time import monotonic
from typing import Final

SIGNALS: Final = 0.5
"""Seconds after which whoever waits on the main thread lets Python see to signals."""


def await_event(event: Event, timeout: float | None = None) -> None:
    """`event.wait(timeout)`; on the main thread with a look for signals now and then.

    A signal that comes right before a thread blocks is not noticed until it wakes.
    """
    if get_ident() != main_thread().ident:
        event.wait(timeout)
        return
    end = inf if timeout is None else monotonic() + timeout
    while not event.wait(min(SIGNALS, end - monotonic())) and monotonic() < end:
        pass
