"""A process that is told to end lets its steps end, keeps their results and gives back the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from resonate import Context, Resonate
from resonate.errors import ClientStopped

PROGRAM = """
import asyncio, os, signal, sys, threading
from resonate import Resonate

directory, how = sys.argv[1:3]
client = Resonate(url=f"sqlite:///{directory}/app.db", ttl=60)

def note(text):
    with open(f"{directory}/log", "a") as log:
        log.write(text + "\\n")

def first(ctx):
    print("first", flush=True)
    while not os.path.exists(f"{directory}/go"):
        threading.Event().wait(0.005)
    note("first")
    return 1

def second(ctx):
    note("second")
    return 2

@client.register
def order(ctx):
    return (yield ctx.run(first)) + (yield ctx.run(second))

@client.register
async def aorder(ctx):
    return (await ctx.run(first)) + (await ctx.run(second))

if how == "own":
    signal.signal(signal.SIGTERM, lambda *_: (note("own handler"), os._exit(7)))
if how != "aio":
    client.start()

def tell():
    while client._core._worker is None or not client._core._worker.stopped:
        threading.Event().wait(0.002)
    sys.stdout.write("stopping\\n")  # at once as a whole: another thread prints too
    sys.stdout.flush()

threading.Thread(target=tell, daemon=True).start()
if how == "serve":
    client.begin_run("a", order)
    threading.Event().wait()
if how == "with":
    with client:
        client.begin_run("a", order).result()
if how == "aio":
    async def main():
        async with client:
            await client.aio.run("a", aorder)
    asyncio.run(main())
try:
    client.run("a", aorder if how == "async" else order)
except BaseException as error:
    sys.stdout.write(type(error).__name__ + "\\n")
    sys.stdout.flush()
threading.Event().wait(20)
"""


def start(directory: Path, how: str) -> subprocess.Popen[str]:
    """The program, once it is in its first step."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    return process


@pytest.mark.parametrize("how", ["run", "serve", "async", "with", "aio"])
def test_what_ends_is_kept_and_another_process_goes_on_at_once(tmp_path: Path, how: str) -> None:
    process = start(tmp_path, how)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert "stopping\n" in iter(process.stdout.readline, "")
    (tmp_path / "go").touch()

    _, errors = process.communicate(timeout=20)

    assert process.returncode == -signal.SIGTERM, errors
    assert errors == ""  # nothing has failed, so there is no stack trace
    assert (tmp_path / "log").read_text().split() == ["first"]
    begun = time.monotonic()
    assert finish(tmp_path, "aorder" if how in ("async", "aio") else "order") == 3
    assert time.monotonic() - begun < 10  # the lease was a minute
    assert (tmp_path / "log").read_text().split() == ["first", "second"]


def test_a_handler_of_the_programs_own_is_left_alone(tmp_path: Path) -> None:
    process = start(tmp_path, "own")
    process.send_signal(signal.SIGTERM)

    process.communicate(timeout=20)

    assert process.returncode == 7
    assert (tmp_path / "log").read_text() == "own handler\n"


def test_a_client_that_is_stopped_leaves_the_signal_as_it_was(tmp_path: Path) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    with Resonate(url=f"sqlite:///{tmp_path}/app.db"):
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    with Resonate():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_stops_a_client_that_is_being_stopped_waits_for_that_as_long_as_told(tmp_path: Path) -> None:
    client = Resonate(url=f"sqlite:///{tmp_path}/app.db", ttl=60)
    entered, go = threading.Event(), threading.Event()

    @client.register
    def first(ctx: Context) -> int:
        entered.set()
        assert go.wait(20)
        return 1

    def second(ctx: Context) -> int:
        raise AssertionError("no step is begun any more")

    @client.register
    def order(ctx: Context) -> Generator[Any, Any, int]:
        one: int = yield ctx.run(first)
        two: int = yield ctx.run(second)
        return one + two

    client.begin_run("a", order)
    assert entered.wait(20)
    stopping = threading.Thread(target=client.stop)
    stopping.start()
    with pytest.raises(ClientStopped):
        while True:
            client.start()

    client.stop(timeout=0.01)
    still = stopping.is_alive()
    go.set()
    client.stop()

    assert still
    assert finish(tmp_path, "order") == 3  # with what the step has given, and at once: the lease was a minute


def finish(directory: Path, name: str) -> int:
    """Go on with the order here, as another process."""
    with Resonate(url=f"sqlite:///{directory}/app.db") as client:

        def first(ctx: Context) -> int:
            raise AssertionError("it has ended and was recorded")

        def second(ctx: Context) -> int:
            with (directory / "log").open("a") as log:
                log.write("second\n")
            return 2

        def order(ctx: Context):  # type: ignore[no-untyped-def]
            return (yield ctx.run(first)) + (yield ctx.run(second))

        async def aorder(ctx: Context) -> int:
            value: int = (await ctx.run(first)) + (await ctx.run(second))
            return value

        client.register(order)
        client.register(aorder)
        result: int = client.get("a").result(timeout=20)
        return result
