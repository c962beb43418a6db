"""Random programs under random faults: nothing that is promised is broken, and what is broken on purpose is found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from resonate.errors import UsageError
from resonate.testing import Fault, Faults, Simulation
from resonate.testing.simulation.__main__ import main
from resonate.testing.simulation.cases import Case, make_case, run_case, run_seeds
from resonate.testing.simulation.shrinking import shrink
from resonate.testing.trace import told
from resonate.worker.tenure import Tenure
from resonate.worker.worker import Worker
from tests import plant

SEEDS = 10_000
CHUNK = 25
JOBS = 2

# Of each planted bug a seed that found it. Changed code changes all histories, so the search only begins here.
FOUND_NEAR: dict[str, int] = {
    "attempts_start_at_one_again": 1,
    "cancellation_stops_at_the_root": 9,
    "detached_calls_end_with_their_parent": 49,
    "fencing_is_off": 36,
    "lease_is_believed_for_ever": 99,
    "lost_answer_is_a_failure": 224,
    "lost_news_is_not_looked_for": 16,
    "old_offer_is_accepted": 139,
    "order_of_outcomes_is_not_recorded": 21,
    "refused_commit_is_acknowledged": 13,
    "results_are_not_flushed": 4,
    "settled_twice": 524,
    "settling_races_with_a_callback": 12,
    "suspension_misses_what_is_settled": 9,
    "timer_is_not_armed_again": 70,
    "warm_frames_are_not_compared": 246,
}


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_nothing_that_is_promised_is_broken(first: int) -> None:
    assert [result for result in run_seeds(range(first, first + 10)) if result[2]] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_that_is_promised_is_broken_in_thousands_of_runs() -> None:
    chunks = [range(first, first + CHUNK) for first in range(0, SEEDS, CHUNK)]
    with ProcessPoolExecutor(JOBS, get_context("spawn")) as pool:
        failed = [result for results in pool.map(run_seeds, chunks) for result in results if result[2]]

    assert failed == []


@pytest.mark.parametrize("seed", [1, 4, 20])
def test_a_seed_is_one_history_also_in_another_process(seed: int) -> None:
    here = [run_case(make_case(seed)).digest for _ in range(2)]
    there = [
        subprocess.run(
            [sys.executable, "-m", "resonate.testing.simulation", "--seed", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hashing},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hashing in ("4242",)
    ]

    assert here[0] == here[1]
    assert all(here[0] in text for text in there)


def test_different_seeds_are_different_histories() -> None:
    assert len({run_case(make_case(seed)).digest for seed in range(8)}) == 8


def failing() -> Iterator[Case]:
    for seed in range(100, 2000):  # 102, which takes little time; like `FOUND_NEAR`
        case = make_case(seed)
        if run_case(case).problems:
            yield case


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failure_is_shrunk_to_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stood still begins a step that another has finished: that takes a pause, and little else."""
    monkeypatch.setattr(Tenure, "leased", lambda self, held: True)
    case = next(failing())

    least, verdict = shrink(case, runs=150)

    assert verdict.problems
    assert len(least.faults) <= min(3, len(case.faults))
    assert len(told(verdict.events).splitlines()) <= 60


def test_the_command_runs_seeds_and_says_how_they_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "0:5"]) == 0
    assert "5 seeds, 0 fail" in capsys.readouterr().out

    assert main(["--seed", "3", "--trace"]) == 0
    shown = capsys.readouterr().out
    assert "seed 3: holds" in shown
    assert "boot" in shown


def test_the_command_fails_with_a_seed_that_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "flush", lambda self, held, before_step=False: None)

    assert main(["--seeds", "0:3", "--no-shrink"]) == 1
    assert "fails: " in capsys.readouterr().out


def test_faults_and_a_place_to_keep_state_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out"):
        Simulation(1, file=tmp_path / "app.db", faults=Faults())


def test_a_process_needs_faults_even_if_there_are_none() -> None:
    with Simulation(1) as world, pytest.raises(UsageError, match="faults=Faults"):
        world.process(lambda client: None)


def test_a_fault_says_what_it_is() -> None:
    assert str(Fault(7, "crash", who=2, ms=50, twist=True)) == "crash at step 7, process 2, 50 ms (twisted)"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", plant.names())
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    near = FOUND_NEAR.get(name, 0)

    assert plant.look(plant.plant(name, tmp_path), near, near + plant.SEEDS) is not None


def test_ten_bugs_and_more_are_planted() -> None:
    assert len(plant.names()) >= 10
    assert set(FOUND_NEAR) == set(plant.names())
