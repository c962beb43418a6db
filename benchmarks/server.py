"""`python -m benchmarks.server [DIRECTORY]`: what one server process answers, against a bare Starlette endpoint.

The bare endpoint runs under the same uvicorn with the same options and answers a constant, so
the ratio is what the protocol costs. Both are asked by the same clients, in turn, in one run:
machines differ, ratios hardly. The clients are processes of their own that write prepared bytes
to raw sockets, so that they cost less than what they measure. A file is durable (synchronous =
full) and lies in DIRECTORY.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Final, cast

import resonate

CONNECTIONS: Final = (1, 16, 64)
SECONDS: Final = 2.0
"""For which one figure is measured."""

ROUNDS: Final = 3
IDLE_STREAMS: Final = 10_000
IDLE: Final = 20.0
"""Seconds for which idle streams are watched: longer than the time between two comments."""

LATER: Final = 2**52

SERVERS: Final = {
    "bare": """
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def constant(request):
    await request.body()
    return Response(b'{"kind":"promise.create"}', media_type="application/json")

class Bare:
    def __init__(self):
        import socket
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self.socket.getsockname()[1]

    def run(self, ready):
        app = Starlette(routes=[Route("/", constant, methods=["POST"])])
        config = uvicorn.Config(app, http="httptools", loop="uvloop", log_config=None, access_log=False)
        ready()  # the socket listens already
        uvicorn.Server(config).run(sockets=[self.socket])

server = Bare()
""",
    "memory": """
service = Service(MemoryStorage(), SystemClock())
server = Server(service, Settings(poll_connections=20_000), Listening(port=0))
""",
    "sqlite": """
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
service = Service(SqliteStorage(Location(sys.argv[1], synchronous="full")), SystemClock())
server = Server(service, Settings(), Listening(port=0))
""",
}
HEAD: Final = """
import os, sys
from resonate.clock import SystemClock
from resonate.server.base import Listening, Settings
from resonate.server.running import Server
from resonate.service.service import Service
from resonate.storage.memory import MemoryStorage
"""
TAIL: Final = """
if os.environ.get("PROFILE"):
    import cProfile
    profile = cProfile.Profile()
    profile.runcall(server.run, lambda: print(server.port, flush=True))
    profile.dump_stats(os.environ["PROFILE"])
else:
    server.run(lambda: print(server.port, flush=True))
"""


class Process:
    """A server in a process of its own."""

    def __init__(self, name: str, path: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(resonate.__file__).parents[1])}
        self._process = subprocess.Popen(
            [sys.executable, "-c", HEAD + SERVERS[name] + TAIL, path],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.pid = self._process.pid

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def cpu_seconds(self) -> float:
        """What it has used so far; Linux only."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """What it holds in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def create(id: str) -> bytes:
    head = {"corrId": id, "version": "2026-04-01"}
    data = {"id": id, "timeoutAt": LATER, "param": {"data": "eyJhcmdzIjpbXX0="}, "tags": {"resonate:scope": "local"}}
    body = json.dumps({"kind": "promise.create", "head": head, "data": data}, separators=(",", ":")).encode()
    return (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        % len(body)
        + body
    )


class Asking(asyncio.Protocol):
    """One connection that sends the next request when it has the answer to the last."""

    def __init__(self, name: str, took: list[float]) -> None:
        self._name = name
        self._count = 0
        self._took = took
        self._begun = 0.0
        self._got = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200 "), self._got
        self._got = b""
        self._took.append(time.perf_counter() - self._begun)
        self._ask()

    def _ask(self) -> None:
        self._count += 1
        self._begun = time.perf_counter()
        self.transport.write(create(f"{self._name}-{self._count}"))


def client(port: int, connections: int, seconds: float, answer: Connection) -> None:
    """What a client process does: seconds each request took."""
    import uvloop

    async def main() -> list[float]:
        took: list[float] = []
        loop = asyncio.get_running_loop()
        name = f"{os.getpid()}-{time.time_ns()}"
        asking = [
            (await loop.create_connection(lambda n=n: Asking(f"{name}-{n}", took), "127.0.0.1", port))[1]  # type: ignore[misc]
            for n in range(connections)
        ]
        await asyncio.sleep(seconds)
        for each in asking:
            each.transport.abort()
        return took

    answer.send(uvloop.run(main()))
    answer.close()


def measure(port: int, connections: int, seconds: float = SECONDS) -> tuple[float, float]:
    """Requests per second, and the p99 in milliseconds."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=client, args=(port, connections, seconds, theirs))
    process.start()
    theirs.close()
    took = sorted(ours.recv())
    process.join()
    return len(took) / seconds, 1e3 * took[int(0.99 * len(took))]


def throughput(directory: str, names: tuple[str, ...] = ("bare", "memory", "sqlite")) -> list[tuple[str, ...]]:
    servers = {name: Process(name, f"{directory}/{name}.db") for name in names}
    try:
        return compared(servers)
    finally:
        for server in servers.values():
            server.stop()


def compared(servers: dict[str, Process]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for connections in CONNECTIONS:
        for server in servers.values():
            measure(server.port, connections, 0.5)
        rounds = [{name: measure(server.port, connections) for name, server in servers.items()} for _ in range(ROUNDS)]
        for name in servers:
            rate, p99 = (median(each[name][n] for each in rounds) for n in (0, 1))
            ratio = median(each[name][0] / each["bare"][0] for each in rounds)
            rows.append((f"{name}, {connections} connections", f"{rate:,.0f}/s", f"{p99:.2f} ms", f"{ratio:.2f}"))
    return rows


def idle_streams(count: int) -> list[tuple[str, ...]]:
    """What poll streams cost over which nothing is sent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(count, hard - 1000)
    server = Process("memory", "")
    before = server.megabytes()
    streams = []
    begun = time.perf_counter()
    for number in range(count):
        stream = socket.create_connection(("127.0.0.1", server.port))
        stream.sendall(b"GET /poll/g%d/s%d HTTP/1.1\r\nhost: localhost\r\n\r\n" % (number % 100, number))
        assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
        streams.append(stream)
    opened = time.perf_counter() - begun
    each = 1e3 * (server.megabytes() - before) / count
    cpu = server.cpu_seconds()
    time.sleep(IDLE)
    idle = 100 * (server.cpu_seconds() - cpu) / IDLE
    for stream in streams:
        stream.close()
    server.stop()
    return [
        (f"{count:,} idle poll streams", f"{idle:.1f} % of a core", f"{each:.1f} kB each", ""),
        ("opening them one by one", f"{count / opened:,.0f}/s", "", ""),
    ]


def main(directory: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as place:
        rows = throughput(place) + idle_streams(IDLE_STREAMS)
    print("| what | measured | p99 / memory | of bare Starlette |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
