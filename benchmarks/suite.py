"""What is measured, on which side, and what it should reach. Numbers only; `run` does the work.

A side is one way to write the programs, in its own virtual environment (see `peers.sh`). A
`Compared` figure is judged by its ratio to the peers' figures of the same run, so the speed of
the machine cancels out. An `Alone` figure has a bound of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

HERE: Final = Path(__file__).parent
PROGRAMS: Final = HERE / "programs"
VENVS: Final = HERE / ".venvs"


@dataclass(frozen=True)
class Side:
    """One contestant: its programs, its environment and the module its users import."""

    name: str
    title: str
    program: str
    venv: str
    module: str


OURS: Final = Side("ours", "ours", "ours.py", "ours", "resonate")
OURS_ASYNC: Final = Side("ours_async", "ours, async", "ours_async.py", "ours", "resonate")
SDK067: Final = Side("sdk067", "SDK 0.6.7", "sdk067.py", "sdk067", "resonate")
SDK081: Final = Side("sdk081", "SDK 0.8.1", "sdk081.py", "sdk081", "resonate.resonate")
SIDES: Final = (OURS, OURS_ASYNC, SDK067, SDK081)
PEERS: Final = (SDK067, SDK081)


@dataclass(frozen=True)
class Compared:
    """A figure that every side has; `factor` is how many times better than each peer ours should be."""

    workload: str
    figure: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    factor: float | None  # None: shown beside the others, not judged


@dataclass(frozen=True)
class Alone:
    """A figure of ours only, with an inclusive bound; None shows it without judging."""

    workload: str
    figure: str
    title: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None


COMPARED: Final = (
    Compared("one_step", "p50_us", "one-step run, p50", "µs", "lower", 10),
    Compared("one_step", "p99_us", "one-step run, p99", "µs", "lower", None),
    Compared("sequential", "steps_per_s", "1,000 sequential steps", "steps/s", "higher", 200),
    Compared("fanout", "ms", "1,000-way fan-out and fan-in", "ms", "lower", 50),
    Compared("import_time", "ms", "`import`", "ms", "lower", None),
)

ALONE: Final = (
    Alone("import_time", "ms", "`import resonate`", "ms", at_most=150),
    Alone("flat", "last_over_first", "cost per step up to 100,000: last thousand / first", "×", at_most=1.3),
    Alone("flat", "steps_per_s", "the same, steps per second", "steps/s"),
    Alone("sleepers", "p99_late_ms", "10,000 sleepers of 5 s: wake minus due, p99", "ms", at_most=1_000),
    Alone("sleepers", "kb_per_sleeper", "the same, resident memory per sleeper", "KB", at_most=10),
    Alone("sleepers", "threads", "the same, threads in the process", "", at_most=50),
    Alone("sleep_loop", "last_over_first", "10,000 sleeps of 1 ms: last thousand / first", "×", at_most=1.3),
    Alone("sleep_loop", "replayed", "the same, replayed steps", "", at_most=0),
    Alone("sleep_loop", "ms_per_sleep", "the same, time per sleep", "ms"),
    Alone("replay", "steps_per_s", "replay after a crash at step 100,000", "steps/s", at_least=50_000),
    Alone("replay", "ms_until_there", "the same, from the start of the new client", "ms"),
    Alone("replay", "executed_again", "the same, steps executed again", "", at_most=1),
)

WORKLOADS: Final = tuple(dict.fromkeys(figure.workload for figure in (*COMPARED, *ALONE)))
