"""Workers written with the official SDKs and ours serve each other's calls, over our server and one file.

The SDKs are installed by `setup.sh` into environments of their own; without them these tests
are skipped, except in CI.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from resonate.clock import SystemClock
from resonate.server.running import ServerThread
from resonate.service.service import Service
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
from tests.homes import until

HERE = Path(__file__).parent
PYTHON = HERE / ".envs/sdk081/bin/python"
NODE = HERE / ".envs/node"
INSTALLED = PYTHON.exists() and (NODE / "node_modules").exists() and shutil.which("node") is not None
PATIENCE = 30

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not INSTALLED and not os.environ.get("CI"),
        reason="the official SDKs are not installed: bash tests/interop/setup.sh",
    ),
]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path = tmp_path_factory.mktemp("interop") / "app.db"
    storage = SqliteStorage(Location(str(path)))
    yield Service(storage, SystemClock(), retry_timeout=2_000)
    storage.close()


@pytest.fixture(scope="module")
def url(service: Service) -> Iterator[str]:
    with ServerThread(service) as server:
        yield server.url


@pytest.fixture(scope="module")
def start(url: str) -> Iterator[Start]:
    """Starts a worker of an SDK; what is left at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str, group: str, *arguments: object) -> subprocess.Popen[str]:
        if kind == "py":
            command, directory = [str(PYTHON), str(HERE / "worker.py")], HERE
        elif kind == "our":
            command, directory = [sys.executable, str(HERE / "our_worker.py")], HERE
        else:
            shutil.copy(HERE / "worker.mjs", NODE)
            command, directory = ["node", "worker.mjs"], NODE
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if kind == "our":
            environment["PYTHONPATH"] = str(Path(resonate.__file__).parents[1])
        process = subprocess.Popen(
            [*command, url, group, *map(str, arguments)],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


class Ours:
    """Our worker, and what it was asked to mark."""

    def __init__(self, url: str) -> None:
        self.client = Resonate(url=url, group="ours")
        self.marks: list[str] = []
        self.client.register(lambda ctx, a, b: a + b, name="add")
        self.client.register(self._fail, name="fail")
        self.client.register(lambda ctx, id: self.marks.append(id), name="mark")
        self.client.start()

    @staticmethod
    def _fail(ctx: Any, message: str) -> Generator[Any, Any, None]:
        if message:
            raise ValueError(message)
        yield  # generators are not tried again


@pytest.fixture(scope="module")
def ours(url: str) -> Iterator[Ours]:
    ours = Ours(url)
    yield ours
    ours.client.stop()


@pytest.fixture(scope="module", params=["py", "ts"])
def theirs(request: pytest.FixtureRequest, start: Start) -> str:
    """A worker of an SDK; its group is its kind."""
    kind: str = request.param
    start(kind, kind)
    return kind


def test_our_calls_are_served_by_them_values_included(ours: Ours, theirs: str) -> None:
    caller = ours.client.options(target=theirs, timeout=PATIENCE)

    assert caller.rpc(f"{theirs}-add", "add", 20, 22) == 42
    values: list[Any] = [{"a": [1, None, "ä"], "b": {"c": True}}, [], "", 1.5, -(2**53) + 1, None]
    for number, value in enumerate(values):
        assert caller.rpc(f"{theirs}-echo-{number}", "echo", value) == value


def test_their_errors_reach_us_with_their_message(ours: Ours, theirs: str) -> None:
    with pytest.raises(Exception, match="out of stock"):
        ours.client.options(target=theirs, timeout=PATIENCE).rpc(f"{theirs}-fail", "fail", "out of stock")


def test_a_durable_function_of_ours_calls_them(ours: Ours, theirs: str) -> None:
    def asks(ctx: Any, target: str) -> Any:
        total = yield ctx.rpc("add", 1, 2).options(target=target)
        try:
            yield ctx.rpc("fail", "as asked").options(target=target)
        except Exception as error:
            return [total, str(error)]

    ours.client.register(asks, name=f"asks-{theirs}")

    total, said = ours.client.options(timeout=PATIENCE).run(f"{theirs}-asks", f"asks-{theirs}", theirs)
    assert total == 3
    assert "as asked" in said


def test_a_function_of_theirs_steps_sleeps_and_calls_us_errors_included(ours: Ours, theirs: str) -> None:
    caller = ours.client.options(target=theirs, timeout=PATIENCE)

    added, caught = caller.rpc(f"{theirs}-flow", "flow", "ours", 5)

    assert added == 11
    assert "as asked" in caught


def test_what_they_begin_detached_is_run_by_us(ours: Ours, theirs: str) -> None:
    caller = ours.client.options(target=theirs, timeout=PATIENCE)

    assert caller.rpc(f"{theirs}-leaves", "leaves", "ours", theirs) == "left"
    until(lambda: theirs in ours.marks)


def test_a_promise_that_they_wait_for_is_settled_by_us(ours: Ours, theirs: str, service: Service) -> None:
    root = f"{theirs}-waits"
    handle = ours.client.options(target=theirs, timeout=PATIENCE).begin_rpc(root, "waits")
    found: list[str] = []

    def asked() -> bool:
        rows = service.storage.promises(root)  # type: ignore[attr-defined]
        found[:] = [row.promise.id for row in rows if row.promise.id.startswith(f"{root}:")]
        return bool(found)

    until(asked)
    ours.client.promises.resolve(found[0], data='"yes"')

    assert handle.result(PATIENCE) == "yes"


def test_a_schedule_of_ours_runs_their_function(ours: Ours, theirs: str, service: Service) -> None:
    name = f"{theirs}-each-minute"
    ours.client.options(target=theirs).schedule(name, "add", "* * * * *", 2, 3)
    service.tick(int(time.time() * 1000) + 60_000)
    known = service.storage.promises(name)  # type: ignore[attr-defined]
    fired = next(row.promise.id for row in known if row.promise.id.startswith(f"{name}-"))

    assert ours.client.get(fired).result(PATIENCE) == 5
    ours.client.schedules.delete(name)


@pytest.mark.parametrize("kind", ["py", "ts", "our"])
def test_a_worker_that_is_killed_is_continued_by_another_of_its_kind(
    kind: str, ours: Ours, start: Start, tmp_path: Path
) -> None:
    notes, group = tmp_path / "notes", f"{kind}-killed"
    first = start(kind, group, notes)
    handle = ours.client.options(target=group, timeout=60).begin_rpc(f"{kind}-survives", "survives")
    until(lambda: notes.exists() and notes.read_text().startswith("first\n"))

    first.kill()
    start(kind, group, notes)
    Path(f"{notes}.go").touch()

    assert handle.result(PATIENCE) == ["first", "second"]
    assert notes.read_text().splitlines()[-1] == "second"
