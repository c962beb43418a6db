"""A program may end without `stop`: none of our threads begins while the interpreter takes itself apart."""

from __future__ import annotations

import subprocess
import sys

ENDS = """
import atexit, threading

ending, tried = threading.Event(), threading.Event()

def last():  # called after ours, since it was registered before
    ending.set()
    tried.wait(10)
    begun = threading.Event()
    of_main.submit(begun.set)
    begun.wait(10)
    print(sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("of-")), flush=True)
    of_thread.stop(None)
    of_main.stop(None)

atexit.register(last)

from resonate.worker.pool import Pool

of_thread, of_main = Pool("of-thread", 1), Pool("of-main", 1)

def submit():
    ending.wait(10)
    of_thread.submit(lambda: None)
    tried.set()

threading.Thread(target=submit, daemon=True).start()
"""

FORKS = """
import os, signal, threading
from resonate import daemons

held = threading.Event()

def hold():
    with daemons._starting:
        held.set()
        threading.Event().wait()

threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(10)
    thread = daemons.Daemon(print, "begins", ("begun",))
    thread.start()
    thread.join()
    print(end="", flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""


def run(program: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout


def test_no_thread_but_the_main_one_starts_another_while_the_program_ends() -> None:
    assert run(ENDS).splitlines() == ["['of-main-0']"]


def test_threads_start_in_a_child_that_was_forked_off_while_one_was_being_started() -> None:
    assert run(FORKS).splitlines() == ["begun", "0"]
