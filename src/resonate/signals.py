"""SIGTERM, where nobody else handles it: the clients with a durable home are stopped, then the process dies of it.

Signals belong to the process, so this is the one thing that clients share. A program that has
set a handler of its own, or runs an event loop that has, is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from resonate.errors import ClientStopped, ResonateShutdownError

_LOCK: Final = threading.Lock()
_stops: list[Callable[[], None]] = []
_drained = False


def watch(stop: Callable[[], None]) -> None:
    """Have `stop` called, on a thread of its own, when the process is told to end; only from the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGTERM) is _handle:
        with _LOCK:
            if stop not in _stops:
                _stops.append(stop)


def forget(stop: Callable[[], None]) -> None:
    """The client has been stopped."""
    with _LOCK:
        if stop in _stops:
            _stops.remove(stop)
        needed = bool(_stops) or _drained
    in_main = threading.current_thread() is threading.main_thread()
    if not needed and in_main and signal.getsignal(signal.SIGTERM) is _handle:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _handle(signum: int, frame: Any) -> None:
    if _drained:  # the second time it is our own doing, or somebody who does not want to wait
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_drain, name="resonate-sigterm").start()


def _drain() -> None:
    global _drained
    _drained = True
    _hush()
    with _LOCK:
        stops = list(_stops)
    threads = [threading.Thread(target=stop, name="resonate-sigterm-stop") for stop in stops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _hush() -> None:
    """Let those whom our stop takes unawares end without a stack trace: the process was told to end, nothing failed."""
    of_main, of_threads = sys.excepthook, threading.excepthook

    def in_main(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if not issubclass(kind, ResonateShutdownError | ClientStopped):
            of_main(kind, error, trace)

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, ResonateShutdownError | ClientStopped):
            of_threads(args)

    sys.excepthook, threading.excepthook = in_main, in_thread
