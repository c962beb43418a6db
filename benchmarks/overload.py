"""`python -m benchmarks.overload [--seconds 60] [--directory DIR]`: ten times the requests that a server can take.

First some connections measure what a server can answer. Then ten times as many as it lets in at once
(`server.max_waiting`) ask without a pause, and again at once when they are refused: the worst of clients.
Meanwhile a program of ours runs functions against it. Measured are the latency of what is accepted,
what is refused and whether each refusal says when to come again, memory, how soon the server is back
to normal afterwards, and that everything acknowledged is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Final, cast

from benchmarks.server import Process, create, measure
from resonate import Resonate
from resonate.server.base import MAX_WAITING

TIMES: Final = 10
"""As many connections as the server lets requests in, this many times."""

AT_ONCE: Final = 200
"""Connections that are made side by side, before the first request."""

CHECKED: Final = 2_000
"""Acknowledged creations that are read afterwards."""


class Flooding(asyncio.Protocol):
    """One connection that asks again at once, whatever it is told."""

    def __init__(self, name: str, tally: Tally) -> None:
        self._name = name
        self._tally = tally
        self._count = 0
        self._begun = 0.0
        self._got = b""
        self.idle = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()  # once: a server closes connections on which nothing comes

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._got = b""
        if self._tally.begun:
            self._tally.answered(head, f"{self._name}-{self._count}", time.perf_counter() - self._begun)
            self.ask()
        else:
            self.idle = True

    def connection_lost(self, error: Exception | None) -> None:
        self._tally.lost += 1

    def ask(self) -> None:
        if self.transport.is_closing():
            return
        self._count += 1
        self._begun = time.perf_counter()
        self.transport.write(create(f"{self._name}-{self._count}"))


class Tally:
    """What the connections of one flood were told."""

    def __init__(self) -> None:
        self.begun = False
        self.accepted: list[float] = []
        self.ids: list[str] = []
        self.refused: list[float] = []
        self.hinted = self.other = self.lost = 0

    def answered(self, head: bytes, id: str, seconds: float) -> None:
        if head.startswith(b"HTTP/1.1 200 "):
            self.accepted.append(seconds)
            self.ids.append(id)
        elif head.startswith(b"HTTP/1.1 503 "):
            self.refused.append(seconds)
            self.hinted += b"\nretry-after:" in head.lower()
        else:
            self.other += 1

    def summary(self) -> dict[str, Any]:
        step = max(1, len(self.ids) // CHECKED)
        return {
            "accepted": sorted(self.accepted),
            "refused": sorted(self.refused),
            "hinted": self.hinted,
            "other": self.other,
            "lost": self.lost,
            "ids": self.ids[::step],
        }


def flood(port: int, connections: int, seconds: float, answer: Connection) -> None:
    """What the flooding process does."""
    import uvloop

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def main() -> dict[str, Any]:
        tally, loop = Tally(), asyncio.get_running_loop()
        name = f"{os.getpid()}-{time.time_ns()}"
        waiting = [Flooding(f"{name}-{n}", tally) for n in range(connections)]
        for first in range(0, connections, AT_ONCE):
            some = waiting[first : first + AT_ONCE]
            await asyncio.gather(*(loop.create_connection(lambda p=p: p, "127.0.0.1", port) for p in some))  # type: ignore[misc]
        while not all(each.idle for each in waiting):
            await asyncio.sleep(0.1)
        tally.begun = True
        for each in waiting:
            each.ask()
        await asyncio.sleep(seconds)
        found = tally.summary()
        for each in waiting:
            each.transport.abort()
        return found

    answer.send(uvloop.run(main()))
    answer.close()


def double(ctx: Any, x: int) -> int:
    return 2 * x


class Program:
    """A program of ours that goes on running functions, whatever the server says."""

    def __init__(self, port: int) -> None:
        self.runs = 0
        self.wrong = 0
        self.slowest = 0.0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with Resonate(url=f"http://127.0.0.1:{self._port}", group="steady", ttl=60) as client:
            client.register(double)
            while not self._ended.is_set():
                begun = time.perf_counter()
                self.wrong += client.run(f"steady-{self.runs}", double, self.runs) != 2 * self.runs
                self.slowest = max(self.slowest, time.perf_counter() - begun)
                self.runs += 1

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


class Memory:
    """The server's resident memory, looked at ten times a second."""

    def __init__(self, server: Process) -> None:
        self.seen: list[float] = []
        self._server = server
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            self.seen.append(self._server.megabytes())

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def ask(port: int, kind: str, data: dict[str, Any]) -> int:
    """The status of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"kind": kind, "head": {"corrId": "c", "version": "2026-04-01"}, "data": data})
    connection.request("POST", "/", body, {"content-type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def latency(port: int) -> float:
    """Milliseconds that one creation takes, connection included."""
    begun = time.perf_counter()
    later = int(time.time() * 1000) + 3_600_000
    assert ask(
        port, "promise.create", {"id": f"probe-{time.time_ns()}", "timeoutAt": later, "param": {}, "tags": {}}
    ) in (200, 503)
    return 1e3 * (time.perf_counter() - begun)


def recovery(port: int, usual: float) -> float:
    """Seconds until one request takes no more than twice as long as usual, three times in a row."""
    begun, good = time.perf_counter(), 0
    while good < 3:
        good = good + 1 if latency(port) <= 2 * usual else 0
        assert time.perf_counter() - begun < 60, "it does not recover"
    return time.perf_counter() - begun


def overload(home: str, path: str, seconds: float) -> list[tuple[str, str]]:
    """What one server made of it."""
    server = Process(home, path)
    measure(server.port, 64, 1.0)
    capacity, _ = measure(server.port, 64, 5.0)
    usual = median(latency(server.port) for _ in range(50))
    before = server.megabytes()
    connections = TIMES * MAX_WAITING
    program, memory = Program(server.port), Memory(server)
    ours, theirs = multiprocessing.Pipe()
    flooding = multiprocessing.get_context("spawn").Process(
        target=flood, args=(server.port, connections, seconds, theirs)
    )
    flooding.start()
    theirs.close()
    found = ours.recv()
    flooding.join()
    back = recovery(server.port, usual)
    memory.end()
    program.end()
    missing = sum(ask(server.port, "promise.get", {"id": id}) != 200 for id in found["ids"])
    server.stop()
    accepted, refused = found["accepted"], found["refused"]
    third = memory.seen[len(memory.seen) // 3 :]
    return [
        ("what it can answer", f"{capacity:,.0f}/s"),
        ("connections that ask without a pause", f"{connections:,} for {seconds:g} s"),
        ("accepted", f"{len(accepted) / seconds:,.0f}/s"),
        ("the same, latency p50, p99, longest", _latencies(accepted)),
        ("refused (503), each with Retry-After", f"{len(refused) / seconds:,.0f}/s, {found['hinted'] == len(refused)}"),
        ("the same, latency p50, p99, longest", _latencies(refused)),
        ("other answers, lost connections", f"{found['other']}, {found['lost']}"),
        ("memory before, a third through, at the end", f"{before:.0f}, {third[0]:.0f}, {third[-1]:.0f} MB"),
        ("one request as fast as before after", f"{back:.2f} s"),
        (
            "a program of ours meanwhile: runs, wrong, slowest",
            f"{program.runs}, {program.wrong}, {program.slowest:.1f} s",
        ),
        (f"acknowledged and not stored, of {len(found['ids']):,}", f"{missing}"),
    ]


def _latencies(took: list[float]) -> str:
    if not took:
        return "-"
    return ", ".join(f"{1e3 * value:,.0f}" for value in (median(took), took[int(0.99 * len(took))], took[-1])) + " ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--directory")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        columns = [overload(home, f"{place}/{home}.db", given.seconds) for home in ("memory", "sqlite")]
    print("| ten times the load | memory | SQLite |\n|---|---:|---:|")
    for rows in zip(*columns, strict=True):
        print(f"| {rows[0][0]} | {' | '.join(value for _, value in rows)} |")


if __name__ == "__main__":
    main()
