"""The write lock of a file when a process stands still: nobody waits for it without end, and everybody is told why."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resonate import Resonate
from resonate.errors import StorageUnavailable, UsageError
from resonate.storage.sqlite import locks
from resonate.storage.sqlite.locks import PidLock, WriteLock

HOLD = """
import sys
from resonate.storage.sqlite.locks import WriteLock
lock = WriteLock(sys.argv[1])
print("begins", flush=True)
lock.acquire()
print("writes", flush=True)
sys.stdin.readline()
lock.release()
"""

Holding = Callable[[], subprocess.Popen[str]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "app.db-lock"
    made.mkdir()
    return made


@pytest.fixture
def holding(directory: Path) -> Iterator[Holding]:
    """Starts processes that take the lock and keep it until they are told to go on."""
    made: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        made.append(process)
        assert said(process) == "begins"
        return process

    yield start
    for process in made:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks early at who holds it up."""
    monkeypatch.setattr(locks, "_COMPLAIN_AFTER", 0.05)
    monkeypatch.setattr(locks, "_LOOK", 0.01)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def stop(process: subprocess.Popen[str]) -> None:
    """Stop it, and return once it has."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def test_one_who_stands_still_while_writing_is_named_and_given_up(directory: Path, holding: Holding) -> None:
    holder = holding()
    assert said(holder) == "writes"
    stop(holder)
    lock = WriteLock(str(directory), limit=0.2)

    said_why = (
        rf"process {holder.pid}, which is stopped, has held the write lock of .*/app.db for \d+ s; nothing was "
        rf"written. Have it go on \(kill -CONT {holder.pid}\), or end it"
    )
    for _ in range(2):  # the second one finds the thread of the first still waiting
        with pytest.raises(StorageUnavailable, match=said_why):
            lock.acquire()

    holder.send_signal(signal.SIGCONT)
    go_on(holder)
    holder.wait()
    patient = WriteLock(str(directory), limit=30.0)
    patient.acquire()
    patient.release()
    patient.close()
    lock.close()


def test_nobody_is_blamed_for_a_lock_that_it_has_let_go_or_died_with(directory: Path, holding: Holding) -> None:
    let_go = holding()
    assert said(let_go) == "writes"
    go_on(let_go)
    let_go.wait()
    killed = holding()
    assert said(killed) == "writes"
    killed.kill()
    killed.wait()
    time.sleep(0.25)  # longer ago than the limit

    with open(directory / "write") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as one that has not yet said that it writes
        lock = WriteLock(str(directory), limit=0.2)
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match=r"has held the write lock"):
            lock.acquire()
        assert time.monotonic() - began > 0.2, "the time of one that is gone counts for nobody"
    lock.close()


def test_a_turn_that_comes_after_one_has_given_up_goes_to_the_next(directory: Path, holding: Holding) -> None:
    holder = holding()
    assert said(holder) == "writes"
    lock = WriteLock(str(directory), limit=0.1)
    with pytest.raises(StorageUnavailable, match=f"process {holder.pid} has held .* or end it \\(kill {holder.pid}\\)"):
        lock.acquire()

    go_on(holder)
    next_one = holding()

    assert said(next_one) == "writes"
    go_on(next_one)
    next_one.wait()
    patient = WriteLock(str(directory), limit=30.0)
    patient.acquire()
    patient.close()
    lock.close()


def test_one_who_stands_still_in_the_queue_holds_nobody_up(directory: Path, holding: Holding) -> None:
    holder = holding()
    assert said(holder) == "writes"
    queues = holding()
    lock = WriteLock(str(directory), limit=30.0)
    while not lock._shared[0]:  # it is the first in the queue
        time.sleep(0.001)
    stop(queues)
    go_on(holder)
    holder.wait()

    for _ in range(3):
        lock.acquire()
        lock.release()

    queues.send_signal(signal.SIGCONT)
    assert said(queues) == "writes"
    lock.close()


def test_what_is_waited_for_is_in_the_log_once(
    directory: Path, holding: Holding, caplog: pytest.LogCaptureFixture
) -> None:
    holder = holding()
    assert said(holder) == "writes"
    lock = WriteLock(str(directory), limit=30.0)
    waiting = threading.Thread(target=lock.acquire)

    with caplog.at_level(logging.WARNING, "resonate.storage"):
        waiting.start()
        while not caplog.records:
            time.sleep(0.001)
        go_on(holder)
        waiting.join()

    (record,) = caplog.records
    assert f"process {holder.pid} has held the write lock of {directory.parent}/app.db for" in record.getMessage()
    lock.close()


def test_locks_of_an_older_version_are_made_larger(directory: Path) -> None:
    (directory / "waits").write_bytes(b"\0")

    lock = WriteLock(str(directory))
    lock.acquire()

    assert (directory / "waits").stat().st_size == 16
    lock.release()
    lock.close()


def test_a_client_is_told_who_holds_its_file_up_and_goes_on_afterwards(directory: Path, holding: Holding) -> None:
    with Resonate(url=f"sqlite:///{directory.parent}/app.db?busy_timeout=200") as client:
        client.register(lambda ctx: 7, name="seven")
        assert client.run("before", "seven") == 7
        holder = holding()
        assert said(holder) == "writes"
        stop(holder)

        with pytest.raises(StorageUnavailable, match=f"process {holder.pid}, which is stopped"):
            client.run("meanwhile", "seven")
        holder.send_signal(signal.SIGCONT)
        go_on(holder)
        holder.wait()

        assert client.run("meanwhile", "seven") == 7


def test_a_pid_is_claimed_on_a_full_disk_though_nobody_can_be_told_whose_it_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    lock = PidLock(str(directory), "me")

    with pytest.raises(UsageError, match="pid 'me' is in use by another live process"):
        PidLock(str(directory), "me")
    lock.close()


def test_a_lock_that_cannot_be_made_is_an_error_of_the_storage(directory: Path) -> None:
    with pytest.raises(StorageUnavailable, match="pid-you cannot be made \\(No such file or directory\\); nothing was"):
        PidLock(f"{directory}/not-there", "you")
