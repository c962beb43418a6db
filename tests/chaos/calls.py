"""A client process that begins runs and waits for them: `python -m tests.chaos.calls URL NAME DIRECTORY`.

Notes each run before it is begun, when that is acknowledged, and its result. Begins again
what was refused or has no known outcome, under the same id. Ends when standard input does,
after the runs that are under way.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from resonate import Resonate
from resonate.errors import ResonateStoreError
from tests.chaos.traffic import insist

THREADS: Final = 2
"""Runs of one client that are under way at the same time."""

PATIENCE: Final = 90.0
"""Seconds after which a run that has not ended counts as lost."""

PAUSE: Final = 0.1
"""Seconds after a call that was answered with an error."""


class Noted(Struct, frozen=True):
    """What a client has seen of a run.

    Args:
        run: its id.
        what: `begins` before it is asked for, `begun` once that is acknowledged, `ended` with the result, `refused` for
            each call that was answered with an error.
        at: seconds since the epoch.
        result: of what has ended.
    """

    run: str
    what: Literal["begins", "begun", "ended", "refused"]
    at: float
    result: Any = None


class Notes:
    """Where one client notes what it has seen."""

    def __init__(self, directory: str, name: str) -> None:
        self._file = os.open(Path(directory) / f"{name}.calls", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, run: str, what: Literal["begins", "begun", "ended", "refused"], result: Any = None) -> None:
        """Write it down."""
        os.write(self._file, msgspec.json.encode(Noted(run, what, time.time(), result)) + b"\n")


def read(paths: list[Path]) -> list[Noted]:
    """What clients have seen."""
    decode = msgspec.json.Decoder(Noted).decode
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    return [decode(line) for line in lines if line.endswith(b"\n")]


def function_of(run: str) -> tuple[str, str]:
    """The function of a run, and its group."""
    return ("trip", "trips") if run.startswith("trip-") else ("order", "orders")


def _insist(notes: Notes, run: str, ask: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except ResonateStoreError:
            notes.note(run, "refused")
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE)


def one(client: Resonate, notes: Notes, run: str) -> None:
    """One run from its beginning to its end."""
    function, group = function_of(run)
    caller = client.options(target=group)
    notes.note(run, "begins")
    handle = _insist(notes, run, lambda: caller.begin_rpc(run, function, run))
    notes.note(run, "begun")
    notes.note(run, "ended", _insist(notes, run, lambda: handle.result(PATIENCE)))


def main(url: str, name: str, directory: str) -> None:
    """Call until standard input ends."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(message)s")
    notes = Notes(directory, name)
    over = threading.Event()
    client = insist(lambda: Resonate(url=url, group="callers", pid=name))

    def call(thread: int) -> None:
        number = 0
        while not over.is_set():
            kind = "trip" if number % 3 == 0 else "order"
            one(client, notes, f"{kind}-{name}-{os.getpid()}-{thread}-{number}")
            number += 1

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(2 * PATIENCE)
    client.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
