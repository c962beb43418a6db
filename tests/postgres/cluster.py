"""A PostgreSQL of the tests' own: made in a temporary directory, gone when they end.

It needs nothing but the binaries, which Debian's package `postgresql` brings. As root, which
PostgreSQL refuses to run as, it runs as the user `postgres`.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

STARTS_IN: Final = 60.0
"""Seconds in which a cluster has to answer."""

ENDS_IN: Final = 20.0
"""Seconds in which it has to end when told to."""

USER: Final = "resonate"
"""The superuser of a cluster; nobody is asked for a password."""


def binaries() -> Path | None:
    """Where PostgreSQL's programs are; None if it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent  # where the others are, too, if this is a link
    installed = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    return Path(installed[-1]) if installed else None


class Cluster:
    """A server in a directory of its own.

    Args:
        durable: whether a commit waits for the disk.
        replica_of: a server that runs, which this one is to follow until it is promoted.
        parent: where to make that directory; None is where temporary files go.
        settings: of postgresql.conf, by name.

    Attributes:
        url: of its database, without a schema.
    """

    def __init__(
        self,
        durable: bool = False,
        replica_of: Cluster | None = None,
        parent: Path | None = None,
        **settings: object,
    ) -> None:
        found = binaries()
        assert found is not None, "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        self._binaries = found
        self.directory = Path(tempfile.mkdtemp(prefix="resonate-postgres-", dir=parent))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings: dict[str, object] = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.directory,
            "max_connections": 200,
            "fsync": "on" if durable else "off",
            "shared_buffers": "64MB",
            "logging_collector": "off",
            **settings,
        }
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres")
        if replica_of is None:
            self._run("initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        else:
            self._run("pg_basebackup", "-d", replica_of.url, "-D", self.data, "-R", "-X", "stream", "-c", "fast", "-N")

    @property
    def data(self) -> str:
        """The data directory."""
        return str(self.directory / "data")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    @property
    def log(self) -> Path:
        """What it has to say."""
        return self.directory / "log"

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return once it answers. It ends with this process, however that ends."""
        command = [str(self._binaries / "postgres"), "-D", self.data]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), "--pdeathsig", "INT", *command], stdout=log, stderr=log, cwd=self.directory
            )
        until = time.monotonic() + STARTS_IN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"PostgreSQL does not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends all sessions and writes everything, `immediate` is a crash. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        try:
            process.wait(ENDS_IN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, mode: str = "fast") -> None:
        """Stop and start it, on the same port."""
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Make a replica a server of its own; returns once it can be written to."""
        self._run("pg_ctl", "promote", "-D", self.data, "-w")

    def remove(self) -> None:
        """Stop it and delete everything. Idempotent."""
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*_as_user(), str(self._binaries / program), *arguments],
            capture_output=True,
            cwd=self.directory,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


def _as_user() -> list[str]:
    """The beginning of a command that does not run as root."""
    if os.geteuid() != 0:
        return ["setpriv"]
    user = pwd.getpwnam("postgres")
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
