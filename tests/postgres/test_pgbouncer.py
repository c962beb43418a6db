"""Programs behind pgbouncer, whose sessions are not theirs alone: recognised, and everything works without them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from resonate import Context, Resonate
from resonate.storage.postgres import failures, joint
from tests import databases
from tests.homes import until
from tests.postgres.cluster import USER, binaries, free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binaries() is None, reason="PostgreSQL is not installed"),
    pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"),
]


SESSIONS = {"transaction": 4, "session": 40}
"""Of the pooler with the server. Those of a client stay, so pooling by session needs room for all of them."""


TRANSACTIONS = 6
RESULT = 24 + TRANSACTIONS


class Pooler:
    """A pgbouncer in front of the tests' server.

    Args:
        mode: "transaction", or "session".
    """

    def __init__(self, mode: str) -> None:
        if databases.given():
            pytest.skip("needs a server without passwords")
        self.directory = Path(tempfile.mkdtemp(prefix="resonate-pgbouncer-"))
        self.port = free_port()
        (self.directory / "users").write_text(f'"{USER}" ""\n')
        (self.directory / "ini").write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={databases.port()}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {self.directory}/users\nadmin_users = {USER}\n"
            f"pool_mode = {mode}\ndefault_pool_size = {SESSIONS[mode]}\n"
            "ignore_startup_parameters = extra_float_digits, options\n"
        )
        command = ["setpriv", "--pdeathsig", "KILL"]
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            shutil.chown(self.directory, "postgres")
            command += [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        assert PROGRAM is not None
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen([*command, PROGRAM, "-q", str(self.directory / "ini")], stderr=log)
        until(self._answers)

    def url(self, url: str) -> str:
        """`url`, through this pooler."""
        return url.replace(f":{urlsplit(url).port}/", f":{self.port}/", 1)

    def restart(self) -> None:
        """All connections end, to both sides; the same again."""
        self.stop()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._process.args, stderr=log)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=["transaction", "session"])
def pooler(request: pytest.FixtureRequest) -> Iterator[Pooler]:
    made = Pooler(request.param)
    yield made
    made.remove()


def double(ctx: Context, number: int) -> int:
    return 2 * number


def write(connection: psycopg.Connection[Any], number: int) -> int:
    connection.execute("INSERT INTO bounced VALUES (%s)", (number,))
    return number


def program(ctx: Context, count: int) -> Any:
    total = 0
    for number in range(count):
        total += yield ctx.run(double, number)
        total += yield ctx.rpc("double", number).options(target="others")
    yield ctx.sleep(0.01)
    for _ in range(TRANSACTIONS):  # often enough for what psycopg prepares to be in the way
        total += yield ctx.transaction(write, 1)
    return total


def clients(url: str) -> tuple[Resonate, Resonate]:
    """One that has the program and one that it calls."""
    caller, other = Resonate(url=url, group="callers"), Resonate(url=url, group="others")
    for function in (double, program):
        caller.register(function)
    other.register(double)
    other.start()
    return caller, other


def test_programs_call_each_other_through_a_pooler(pooler: Pooler, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[psycopg.Error] = []

    def noted(error: psycopg.Error, where: str) -> Exception:
        failed.append(error)
        return failures.translate(error, where)

    monkeypatch.setattr(joint, "translate", noted)
    with psycopg.connect(databases.url(), autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS bounced (number int)")
        session.execute("TRUNCATE bounced")
    caller, other = clients(pooler.url(databases.fresh_url()))

    handles = [caller.begin_run(f"r{number}", program, 4) for number in range(8)]

    assert [handle.result(30) for handle in handles] == [RESULT] * 8
    storage = caller._core.started().network.service.storage  # type: ignore[attr-defined]
    assert failed == []  # as with a statement that another client has prepared under the same name
    assert storage._side.pooled
    assert storage._listener._deaf  # by session too: nothing shows which of the two it is
    for client in (caller, other):
        client.stop()
    with psycopg.connect(databases.url()) as session:
        assert session.execute("SELECT count(*) FROM bounced").fetchone() == (8 * TRANSACTIONS,)


def test_a_pooler_that_is_killed_and_comes_back_costs_no_run(pooler: Pooler) -> None:
    with psycopg.connect(databases.url(), autocommit=True) as session:
        session.execute("CREATE TABLE IF NOT EXISTS bounced (number int)")
    caller, other = clients(pooler.url(databases.fresh_url()))
    ask: Callable[[int], Any] = lambda number: caller.begin_run(f"r{number}", program, 4)  # noqa: E731
    handles = [ask(number) for number in range(6)]

    pooler.restart()

    until(pooler._answers)
    began = time.monotonic()
    assert [handle.result(30) for handle in handles] == [RESULT] * 6
    assert ask(6).result(30) == RESULT
    assert time.monotonic() - began < 30
    for client in (caller, other):
        client.stop()
