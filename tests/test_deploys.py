"""Old and new versions of a program side by side: real processes, on each home that processes can share."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Handle, Resonate
from tests import databases
from tests.homes import until
from tests.server.serving import serving

REPOSITORY = Path(__file__).parents[1]
SOURCE = Path(resonate.__file__).parents[1]

pytestmark = pytest.mark.slow

SOON = 20.0
"""Seconds within which something happens that is not left to a server's timer, which offers a task again after 30."""

_schemas = itertools.count()


class Worker:
    """A process that serves group "workers"."""

    def __init__(self, url: str, pid: str, versions: str, log: Path, cleanup: ExitStack) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy_worker", url, pid, versions, str(log)],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        cleanup.callback(self.kill)
        self.waits_for("ready")

    def waits_for(self, line: str) -> None:
        """Return once the process has printed `line`."""
        assert self.process.stdout is not None
        while (said := self.process.stdout.readline()) != f"{line}\n":
            assert said, f"the worker has ended: {self.log.read_text()}"

    def logged(self, *texts: str) -> list[str]:
        """The lines of its log that hold all of `texts`."""
        return [line for line in self.log.read_text().splitlines() if all(text in line for text in texts)]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Fleet:
    """One home, its workers, and a caller that has none of their functions."""

    def __init__(self, url: str, directory: Path, cleanup: ExitStack) -> None:
        self.url = url
        self.directory = directory
        self.cleanup = cleanup
        self.caller = cleanup.enter_context(Resonate(url=url, group="callers"))

    def worker(self, pid: str, versions: str) -> Worker:
        return Worker(self.url, pid, versions, self.directory / f"{pid}.log", self.cleanup)

    def order(self, id: str, version: int, *, middle: str = "", promise: bool = False, billed: int = 1) -> Handle[Any]:
        caller = self.caller.options(target="workers", version=version)
        return caller.begin_rpc(id, "order", middle, promise, billed)


@pytest.fixture(params=["sqlite", "postgres", "server", "server on sqlite"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    file = f"sqlite:///{tmp_path}/app.db?synchronous=off"
    with ExitStack() as cleanup:
        match request.param:
            case "sqlite":
                url = file
            case "postgres":
                if not databases.url():
                    pytest.skip("RESONATE_TEST_POSTGRES names no database")
                url = f"{databases.url()}?schema=deploys_{os.getpid()}_{next(_schemas)}"
            case "server":
                url = cleanup.enter_context(serving()).url
            case _:
                from resonate.storage.sqlite.location import parse
                from resonate.storage.sqlite.storage import SqliteStorage

                storage = SqliteStorage(parse(file))
                cleanup.callback(storage.close)
                url = cleanup.enter_context(serving(storage)).url
        yield Fleet(url, tmp_path, cleanup)


def test_each_call_runs_on_the_worker_that_has_its_version(fleet: Fleet) -> None:
    fleet.worker("old", "1")
    fleet.worker("new", "2")

    calls = {f"order-{number}": 1 + number % 2 for number in range(20)}
    handles = [fleet.order(id, version, billed=3 - version) for id, version in calls.items()]

    assert [handle.result(SOON) for handle in handles] == [
        [1, "old", "old", [2, "new", 5]] if version == 1 else [2, "new", "new", [1, "old", 5]]
        for version in calls.values()
    ]


def test_what_was_begun_before_a_deploy_goes_on_only_where_its_version_is(fleet: Fleet) -> None:
    go = fleet.directory / "go"
    old = fleet.worker("old", "1")
    waiting = fleet.order("waiting", 1, promise=True)
    until(lambda: exists(fleet, "waiting:2"))
    calling = fleet.order("calling", 1, billed=3)
    until(lambda: exists(fleet, "calling:2"))
    busy = fleet.order("busy", 1, middle=str(go))
    for _ in ("waiting", "calling", "busy"):
        old.waits_for("in the middle")

    old.kill()
    go.touch()
    new = fleet.worker("new", "2")
    fleet.caller.promises.resolve("waiting:2", data="null")
    for id in ("waiting", "busy"):
        until(lambda id=id: bool(new.logged(f"{id} asks for order version 1")) or bool(new.logged("more offers")))  # type: ignore[misc]
    fleet.worker("both", "1,2")
    fleet.worker("newest", "3")

    assert waiting.result(SOON) == [1, "old", "both", [1, "both", 5]]
    assert busy.result(SOON) == [1, "both", "both", [1, "both", 5]]
    assert calling.result(SOON) == [1, "old", "both", [3, "newest", 5]]


def test_a_version_that_nobody_has_waits_is_logged_and_begins_when_a_worker_has_it(fleet: Fleet) -> None:
    old = fleet.worker("old", "1,2")
    handle = fleet.order("order-7", 3)
    until(lambda: bool(old.logged("order-7")))
    [line] = old.logged("order-7")
    with pytest.raises(TimeoutError) as waited:
        handle.result(2)
    for_the_caller = "no worker of group workers has taken it up: is one running that registers order version 3?"

    fleet.worker("new", "3")
    begun = time.monotonic()
    result = handle.result(SOON)
    print(f"begun {time.monotonic() - begun:.3f} s after its worker was there")

    assert line == (
        "WARNING order-7 asks for order version 3, which this worker lacks (it has versions 1, 2); group workers, "
        "pid old. It waits: start a worker of group workers that registers order version 3, or cancel it: "
        "r.get('order-7').cancel()"
    )
    assert for_the_caller in str(waited.value)
    assert result == [3, "new", "new", [1, "old", 5]]
    assert old.logged("INFO", "serves") == [
        "INFO worker of group workers, pid old, serves bill version 1, bill version 2, order version 1, order version 2"
    ]


def exists(fleet: Fleet, id: str) -> bool:
    return any(promise.id == id for promise in fleet.caller.promises.search(state="pending")[0])
