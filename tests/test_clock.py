"""Time that leases and deadlines are measured by never goes backwards and never stands still."""

from __future__ import annotations

import pytest

from resonate.clock import SystemClock

HOUR = 3_600_000


class Machine:
    """The two clocks of a machine, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.passed = 1_700_000_000_000, 0
        monkeypatch.setattr("resonate.clock.time.time_ns", lambda: self.wall * 1_000_000)
        monkeypatch.setattr("resonate.clock.time.monotonic", lambda: self.passed / 1000)

    def run(self, ms: int) -> None:
        self.wall += ms
        self.passed += ms


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_time_follows_the_clock_of_the_machine_also_when_that_is_put_forward(machine: Machine) -> None:
    clock, start = SystemClock(), machine.wall

    assert clock.now() == start
    machine.run(5)
    assert clock.now() == start + 5
    machine.wall += HOUR
    assert clock.now() == start + 5 + HOUR


def test_time_goes_on_when_the_clock_is_put_back(machine: Machine) -> None:
    clock, start = SystemClock(), machine.wall
    clock.now()
    machine.wall -= HOUR

    assert clock.now() == start
    for passed in (1000, 2000, 3000):
        machine.run(1000)
        assert clock.now() == start + passed


def test_once_the_clock_has_caught_up_it_counts_again(machine: Machine) -> None:
    clock, start = SystemClock(), machine.wall
    clock.now()
    machine.wall -= 10_000
    machine.run(1000)
    assert clock.now() == start
    machine.run(1000)
    assert clock.now() == start + 1000

    machine.wall = start + 60_000
    assert clock.now() == start + 60_000
    machine.wall -= 10_000
    assert clock.now() == start + 60_000
    machine.run(500)
    assert clock.now() == start + 60_500
