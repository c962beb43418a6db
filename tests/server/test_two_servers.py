"""Two servers on one file, one of which is killed in the middle of the load: nothing acknowledged is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resonate
from resonate import Resonate
from tests.homes import until

SOURCE = str(Path(resonate.__file__).parents[1])
RUNS = 40
QUIET = ("--observability-metrics-port", "0", "--tasks-retry-timeout", "1000")
Start = Callable[[int], "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `resonate serve` on a port; all of them share one file."""
    started: list[subprocess.Popen[str]] = []

    def start(port: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "resonate.cli", "serve", "--server-port", str(port), *QUIET],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": SOURCE},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        assert any("ready at" in line for line in process.stderr), "the server has ended"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.slow
def test_a_server_killed_in_the_middle_of_the_load_loses_nothing(start: Start) -> None:
    ports = free_port(), free_port()
    killed, _ = start(ports[0]), start(ports[1])
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    ran: list[int] = []

    def step(ctx: Any, n: int) -> int:
        ran.append(n)
        return n * n

    def square(ctx: Any, n: int) -> Any:
        value = yield ctx.run(step, n)
        yield ctx.sleep(0.01)
        return value

    callers = [Resonate(url=url, group=f"callers-{n}") for n, url in enumerate(urls)]
    workers = [Resonate(url=url, group="workers", ttl=2) for url in urls]
    for worker in workers:
        worker.register(square)
        worker.start()

    handles = [callers[n % 2].options(target="workers").begin_rpc(f"square-{n}", "square", n) for n in range(RUNS)]
    until(lambda: len(ran) >= RUNS // 8)
    killed.kill()
    killed.wait()
    start(ports[0])

    assert [handle.result(40) for handle in handles] == [n * n for n in range(RUNS)]
    for client in (*workers, *callers):
        client.stop()
