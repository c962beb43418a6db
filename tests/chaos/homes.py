"""Where state lives, with everything around it: servers, proxies, workers and clients, all of them processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import psycopg

from tests.chaos import functions
from tests.chaos.plan import Fault
from tests.chaos.processes import Disk, Process
from tests.postgres.cluster import Cluster, free_port
from tests.postgres.proxy import Proxy

LONGER: Final = 0.7
"""Seconds more than a lease lasts, for which processes are stopped."""

AWAY: Final = 1.0
"""Seconds for which a network or a disk is away."""

STARTS_IN: Final = 90.0
"""Seconds in which a server has to be there."""

TRIES: Final = 300
"""Attempts at stopping a process in the middle of a write."""

REPEATED: Final = "5000"
"""Milliseconds between two offers of a task: one that got lost with its connection holds nobody up for longer."""


class Home:
    """All of it; use it as a context manager.

    Args:
        name: `memory`, `sqlite` or `postgres`.
        directory: where everything goes that is written.
        seed: of what clients ask for.
        ttl: of the leases, in seconds.
    """

    def __init__(self, name: str, directory: Path, seed: int, ttl: int) -> None:
        self.name = name
        self._ttl = ttl
        self._longer = ttl + LONGER
        self.directory = directory
        self._seed = seed
        self._names = count(1)
        self._stack = contextlib.ExitStack()
        self.dead: list[str] = []
        """Pids that will not come back."""

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.disk = Disk(self.directory)
            stack.callback(self.disk.remove)
            self.state = self._open(stack)
            self.embedded = None if self.name == "memory" else self.state
            ports = [free_port() for _ in range(1 if self.name == "memory" else 2)]
            self.proxies = [Proxy(port) for port in ports]
            for proxy in self.proxies:
                stack.callback(proxy.close)
            self.urls = [f"http://127.0.0.1:{proxy.port}" for proxy in self.proxies]
            stack.callback(self.kill)
            self._all: list[Process] = []
            self.servers = [self._server(number, port) for number, port in enumerate(ports)]
            for port in ports:
                _wait_for(port)
            self.workers = [self._worker(number) for number in range(4)]
            self.callers = [self._caller(url) for url in self._ways()]
            self.traffic = [self._traffic(url) for url in self._ways() * (3 if self.embedded is None else 1)]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kill(self) -> None:
        """End all processes. Idempotent."""
        for process in self._all:
            process.kill()

    def strike(self, fault: Fault) -> bool:
        """Let something go wrong, and be over; whether it could."""
        if fault.name == "disk full" and not self.disk.can_be_filled:
            return False
        self.FAULTS[fault.name](self, *fault.draws)
        for process in (*self.servers, *self.workers, *self.callers, *self.traffic):
            process.check()
        return True

    def session(self) -> psycopg.Connection[Any]:
        """A session with the database, past the proxy."""
        return psycopg.connect(self.cluster.url, autocommit=True, connect_timeout=10)

    def file(self, query: str) -> list[Any]:
        """Ask the file, past everything."""
        with contextlib.closing(sqlite3.connect(self.disk.path / "state.db")) as file:
            return file.execute(query).fetchall()

    # ---- what there is -----------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack) -> str:
        if self.name == "sqlite":
            path = self.disk.path / "state.db"
            with contextlib.closing(sqlite3.connect(path)) as file:
                file.execute(functions.TABLE)
            return f"sqlite:///{path}"
        if self.name == "postgres":
            self.cluster = Cluster(parent=self.disk.path, max_wal_size="256MB", min_wal_size="64MB")
            stack.callback(self.cluster.remove)
            self.cluster.start()
            with self.session() as session:
                session.execute(functions.TABLE)
            self.database = Proxy(self.cluster.port)
            stack.callback(self.database.close)
            return self.database.url(self.cluster.url)
        return "memory"

    def _ways(self) -> list[str]:
        """One for each server, and one past them."""
        return self.urls + ([] if self.embedded is None else [self.embedded])

    def _process(self, kind: str, name: str, *arguments: str) -> Process:
        process = Process(["-m", *arguments], self.directory, f"{kind}-{name}")
        self._all.append(process)
        return process

    def _server(self, number: int, port: int) -> Process:
        settings = ["--server-port", str(port), "--observability-metrics-port", "0", "--tasks-retry-timeout", REPEATED]
        return self._process("server", str(number), "resonate.cli", "serve", "--url", self.state, *settings)

    def _worker(self, number: int) -> Process:
        """Two are straight on the state, if it is on a disk, and two over a server each."""
        group = functions.GROUPS[number // 2]
        past = self.embedded is not None and number < 2
        url = self.embedded if past and self.embedded else self.urls[number % len(self.urls)]
        name = f"worker-{next(self._names)}"
        return self._process(
            "worker", name, "tests.chaos.functions", url, group, name, str(self.directory), str(self._ttl)
        )

    def _caller(self, url: str) -> Process:
        name = f"caller-{next(self._names)}"
        return self._process("caller", name, "tests.chaos.calls", url, name, str(self.directory))

    def _traffic(self, url: str) -> Process:
        name = f"traffic-{next(self._names)}"
        directory, seed = str(self.directory), str(self._seed)
        return self._process("traffic", name, "tests.chaos.traffic", url, name, directory, seed)

    # ---- what goes wrong -----------------------------------------------------------------------------

    def _kill_worker(self, whom: float, how: float, _: float) -> None:
        number = _pick(whom, self.workers)
        worker = self.workers[number]
        worker.kill()
        if how < 0.5:  # a new life of the same pid, or another process
            worker.start()
        else:
            self.dead.append(f"{functions.GROUPS[number // 2]}/{worker.arguments[4]}")
            self.workers[number] = self._worker(number)

    def _stop_worker(self, whom: float, *_: float) -> None:
        self.workers[_pick(whom, self.workers)].stand_still(self._longer)

    def _kill_client(self, whom: float, *_: float) -> None:
        clients = [*self.callers, *self.traffic]
        client = clients[_pick(whom, clients)]
        client.kill()
        client.start()

    def _stop_client(self, whom: float, *_: float) -> None:
        clients = [*self.callers, *self.traffic]
        clients[_pick(whom, clients)].stand_still(self._longer)

    def _kill_server(self, whom: float, how: float, _: float) -> None:
        server = self.servers[_pick(whom, self.servers)]
        server.kill()
        if how < 0.5:
            time.sleep(AWAY)
        server.start()

    def _stop_server(self, whom: float, *_: float) -> None:
        self.servers[_pick(whom, self.servers)].stand_still(self._longer)

    def _cut(self, whom: float, *_: float) -> None:
        self.proxies[_pick(whom, self.proxies)].cut()

    def _refuse(self, whom: float, *_: float) -> None:
        proxy = self.proxies[_pick(whom, self.proxies)]
        proxy.refusing = True
        proxy.cut()
        time.sleep(AWAY)
        proxy.refusing = False

    def _silence(self, whom: float, *_: float) -> None:
        """What was sent meanwhile is lost; connections from before are useless and are cut in the end."""
        proxy = self.proxies[_pick(whom, self.proxies)]
        proxy.silent.set()
        time.sleep(AWAY)
        proxy.silent.clear()
        proxy.cut()

    def _fill_disk(self, *_: float) -> None:
        self.disk.fill()
        time.sleep(AWAY)
        self.disk.free()
        if self.name == "postgres" and not self.cluster.runs:
            self.cluster.start()
        for server in self.servers:  # one that was just about to start says why it cannot, and is started again
            if server.process.poll() is not None:
                assert "Traceback" not in server.said(), server.said()
                server.start()

    def _stop_writer(self, whom: float, *_: float) -> None:
        """Stop a process of the file while it holds the lock of the writers."""
        those = [*self.servers, *self.workers[:2]]
        process = those[_pick(whom, those)]
        for _attempt in range(TRIES):
            process.stop()
            if _is_locked(f"{self.state.removeprefix('sqlite:///')}-lock/write"):
                time.sleep(self._longer)
                process.go_on()
                return
            process.go_on()
            time.sleep(0.005)

    def _end_sessions(self, _: float, how: float, __: float) -> None:
        with self.session() as session:
            found = session.execute(
                "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' "
                "ORDER BY pid"
            ).fetchall()
            for (pid,) in found[:: 1 + int(how * 4)]:
                session.execute("SELECT pg_terminate_backend(%s)", (pid,))

    def _restart_database(self, *_: float) -> None:
        self.cluster.restart("fast")

    def _crash_database(self, *_: float) -> None:
        self.cluster.restart("immediate")

    def _cut_database(self, _: float, how: float, __: float) -> None:
        if how < 0.5:
            self.database.refusing = True
        self.database.cut()
        if how < 0.5:
            time.sleep(AWAY)
            self.database.refusing = False

    FAULTS: Final[dict[str, Callable[..., None]]] = {
        "worker killed": _kill_worker,
        "worker stopped": _stop_worker,
        "client killed": _kill_client,
        "client stopped": _stop_client,
        "server killed": _kill_server,
        "server stopped": _stop_server,
        "connections cut": _cut,
        "connections refused": _refuse,
        "connections silent": _silence,
        "disk full": _fill_disk,
        "writer stopped": _stop_writer,
        "sessions ended": _end_sessions,
        "database restarted": _restart_database,
        "database crashed": _crash_database,
        "database cut off": _cut_database,
    }


def _wait_for(port: int) -> None:
    """Return once somebody listens there."""
    until = time.monotonic() + STARTS_IN
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < until, "a server does not start"
            time.sleep(0.05)


def _pick(draw: float, those: list[Any]) -> int:
    return int(draw * len(those))


def _is_locked(path: str) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
