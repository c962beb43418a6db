"""Worker processes that are really killed, on a real file or database: SIGKILL at every write, or at random.

A program is a module with a function `register(client)`. Its workers are processes of their
own, started and killed from here; runs are begun, and results awaited, by a client of this
process. Whatever happens, every run that was begun has to end with one and the same result,
and no step may start whose result is recorded already.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final

from msgspec import Struct

from resonate.handle import Handle
from resonate.protocol.records import PENDING
from resonate.resonate import Resonate
from resonate.testing import schemas

PATIENCE: Final = 60.0
"""Seconds after which a run that has not ended counts as lost."""

GROUP: Final = "killed"
"""The group of the workers."""


Place = tuple[str, str]
"""The URL of state, and the file in which workers note what they do."""


class KillReport(Struct, frozen=True):
    """What happened.

    Args:
        results: what each run returned, in the order in which they were begun.
        kills: how many workers were killed.
        writes: in `kill_at_every_write`, how many commits a run that nobody disturbs takes.
        repeated: steps that ran more than once, because their worker died before their result was recorded; at most
            one for each kill and each run that it had in hand.
    """

    results: list[Any]
    kills: int
    writes: int
    repeated: int


class _Outcome(Struct, frozen=True):
    """One run of `kill_at_every_write`."""

    result: Any
    died: bool
    writes: int
    repeated: int


class _Worker:
    """One worker process."""

    def __init__(self, url: str, program: str, pid: str, journal: str, die_at: int = 0, *, after: bool = False) -> None:
        arguments = [url, program, pid, journal, str(die_at), "after" if after else "before"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "resonate.testing.killed", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,  # it ends with us
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def kill_at_every_write(program: str, func: str, *args: Any, url: str | None = None) -> KillReport:
    """Run `func` once in peace, then twice for each of its worker's commits: killed right before and right after it.

    Another process with the same pid then goes on. Each time state is in a file of its own, or in a schema of its own.

    Args:
        program: a module with a function `register(client)`, importable by a new process.
        func: the name under which the function is registered.
        *args: its arguments.
        url: a PostgreSQL database (`postgresql://...`) instead of a file. Schemas are made in it and dropped again;
            tables that the program makes without naming a schema go with them.

    Raises:
        AssertionError: a result was lost or differs, or a step was run although its result was recorded.
        ValueError: `url` is of something else, or names a schema.
    """
    with _places(url) as places:
        peaceful = _killed_once(places(), program, func, args, 0, after=False)
        outcomes = [peaceful]
        for write in range(1, peaceful.writes + 1):
            for after in (False, True):
                outcome = _killed_once(places(), program, func, args, write, after=after)
                assert outcome.result == peaceful.result, (
                    f"killed at write {write} it gave {outcome.result!r}, else {peaceful.result!r}"
                )
                outcomes.append(outcome)
        return KillReport(
            [outcome.result for outcome in outcomes],
            sum(outcome.died for outcome in outcomes),
            peaceful.writes,
            sum(outcome.repeated for outcome in outcomes),
        )


def kill_at_random(
    program: str,
    func: str,
    *args: Any,
    runs: int = 20,
    workers: int = 3,
    kills: int = 10,
    seed: int = 0,
    url: str | None = None,
) -> KillReport:
    """Begin `runs` runs of `func` and kill workers at random while they last.

    Args:
        program, func, *args: as for `kill_at_every_write`; `func` gets the number of the run as one more argument.
        runs: how many executions.
        workers: processes at the same time.
        kills: how many are killed and replaced, half of them by one with the same pid.
        seed: of who is killed when.
        url: as for `kill_at_every_write`.

    Raises:
        AssertionError: a run was lost, or a step was run although its result was recorded.
        ValueError: `url` is of something else, or names a schema.
    """
    random = Random(seed)
    with _places(url) as places:
        url, journal = places()
        with Resonate(url=url, group="harness") as client, contextlib.ExitStack() as stack:
            pids = [f"worker-{n}" for n in range(workers)]
            alive = [_Worker(url, program, pid, journal) for pid in pids]
            stack.callback(lambda: _end(alive))
            caller = client.options(target=GROUP)
            handles = [caller.begin_rpc(f"run-{n}", func, *args, n) for n in range(runs)]
            killed = 0
            seen = 0
            while killed < kills and not all(handle.done() for handle in handles):
                seen = _wait_for(journal, seen + random.randint(1, 4), handles)
                victim = random.randrange(workers)
                alive[victim].kill()
                killed += 1
                if random.random() < 0.5:
                    pids[victim] = f"worker-{victim}-{killed}"
                alive[victim] = _Worker(url, program, pids[victim], journal)
            results = [_result(handle) for handle in handles]
            for handle, result in zip(handles, results, strict=True):
                assert client.get(handle.id).result(PATIENCE) == result, f"{handle.id} has two results"
        return KillReport(results, killed, 0, _check_journal(journal))


# ---- one run ------------------------------------------------------------------------------------


def _killed_once(place: Place, program: str, func: str, args: Sequence[Any], die_at: int, *, after: bool) -> _Outcome:
    """A run whose worker dies at its n-th commit (0: never)."""
    url, journal = place
    with Resonate(url=url, group="harness") as client:
        handle = client.options(target=GROUP).begin_rpc("run", func, *args)
        worker = _Worker(url, program, "worker", journal, die_at, after=after)
        try:
            died = die_at > 0 and _dies(worker, handle)
            if died:
                worker.end()
                worker = _Worker(url, program, "worker", journal)
            result = _result(handle)
        finally:
            worker.end()
    return _Outcome(result, died, _writes(journal), _check_journal(journal))


def _dies(worker: _Worker, handle: Handle[Any]) -> bool:
    """Wait until the worker has killed itself; it may not, since steps side by side share commits as it happens."""
    limit = time.monotonic() + PATIENCE
    while worker.process.poll() is None and not handle.done():
        assert time.monotonic() < limit, f"{handle.id} does not come on"
        time.sleep(0.002)
    return worker.process.returncode == -signal.SIGKILL


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.end()


def _result(handle: Handle[Any]) -> Any:
    try:
        return handle.result(PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{handle.id} was begun and has not ended within {PATIENCE:g} s") from None


def _wait_for(journal: str, lines: int, handles: Sequence[Handle[Any]]) -> int:
    """Wait until so many steps have started, or everything is done; how many have."""
    limit = time.monotonic() + PATIENCE
    while (seen := len(_read(journal))) < lines and not all(handle.done() for handle in handles):
        assert time.monotonic() < limit, "the workers do not come on"
        time.sleep(0.002)
    return seen


def _check_journal(journal: str) -> int:
    started = [line.split(" ")[1:] for line in _read(journal) if line.startswith("start ")]
    known = [id for id, state, _ in started if state != PENDING]
    assert not known, f"steps ran although their results were recorded: {known}"
    attempts = [(id, attempt) for id, _, attempt in started]
    return len(attempts) - len(set(attempts))


def _writes(journal: str) -> int:
    return sum(line == "write" for line in _read(journal))


def _read(journal: str) -> list[str]:
    try:
        with open(journal) as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


# ---- where state is -------------------------------------------------------------------------------


@contextlib.contextmanager
def _places(url: str | None) -> Iterator[Callable[[], Place]]:
    """Gives, again and again, a file or schema that nobody has used yet; all of them are gone in the end."""
    if url is not None:
        schemas.check(url)
    with tempfile.TemporaryDirectory(prefix="resonate-kills-") as directory:
        made: list[str] = []

        def place() -> Place:
            number = len(made)
            made.append(schemas.new_name())
            state = f"sqlite:///{directory}/{number}.db" if url is None else schemas.in_schema(url, made[-1])
            return state, f"{directory}/{number}.journal"

        try:
            yield place
        finally:
            if url is not None:
                schemas.drop(url, made)


__all__ = ["KillReport", "kill_at_every_write", "kill_at_random"]
