"""The server's clock as a client knows it."""

from __future__ import annotations

from resonate.network.http.offset import ServerClock


class Ours:
    """Seconds of our own machine, by hand: the wall's and the ones that only grow."""

    def __init__(self) -> None:
        self.monotonic = 100.0
        self.wall = 1_000_000.0

    def clock(self) -> ServerClock:
        return ServerClock(lambda: self.monotonic, lambda: self.wall)

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


def answered(clock: ServerClock, ours: Ours, told: int, seconds: float) -> None:
    """An answer that told `told` came after `seconds`."""
    sent = ours.monotonic
    ours.passes(seconds)
    clock.learn({b"resonate-now": str(told).encode()}, sent)


def test_a_server_that_has_told_nothing_is_taken_to_go_by_our_clock() -> None:
    ours = Ours()
    clock = ours.clock()
    ours.wall += 5

    assert clock.now() == 1_000_005_000


def test_the_server_is_believed_to_within_the_time_an_answer_took() -> None:
    ours = Ours()
    clock = ours.clock()

    answered(clock, ours, 1_000_007_000, seconds=0.010)

    assert 1_000_007_000 <= clock.now() <= 1_000_007_011


def test_a_slow_answer_spoils_nothing() -> None:
    ours = Ours()
    clock = ours.clock()
    answered(clock, ours, 1_000_007_000, seconds=0.010)
    before = clock.now()

    answered(clock, ours, 1_000_007_010, seconds=2.0)

    assert clock.now() == before + 2000


def test_time_does_not_go_back_when_the_server_tells_an_earlier_one() -> None:
    ours = Ours()
    clock = ours.clock()
    answered(clock, ours, 1_000_007_000, seconds=0.010)
    shown = clock.now()

    answered(clock, ours, 1_000_003_000, seconds=0.010)

    assert clock.now() == shown
    ours.passes(5)
    assert 1_000_008_000 <= clock.now() <= 1_000_008_020


def test_setting_our_own_clock_changes_nothing_once_the_server_is_known() -> None:
    ours = Ours()
    clock = ours.clock()
    answered(clock, ours, 1_000_007_000, seconds=0.010)
    before = clock.now()

    ours.wall -= 3600

    assert clock.now() == before


def test_a_date_corrects_a_clock_that_is_off_by_more_than_a_second_only() -> None:
    ours = Ours()
    ours.wall = 784111777.5  # Sun, 06 Nov 1994 08:49:37 GMT
    near, far = ours.clock(), ours.clock()

    near.learn({b"date": b"Sun, 06 Nov 1994 08:49:37 GMT"}, ours.monotonic)
    far.learn({b"date": b"Sun, 06 Nov 1994 09:49:37 GMT"}, ours.monotonic)

    assert near.now() == 784111777500
    assert 784111777000 + 3_600_000 <= far.now() <= 784111778000 + 3_600_000


def test_what_is_no_time_is_left_alone() -> None:
    ours = Ours()
    clock = ours.clock()

    clock.learn({b"resonate-now": b"soon", b"date": b"never"}, ours.monotonic)

    assert clock.now() == 1_000_000_000


def test_a_clock_of_ours_that_is_ahead_is_given_up_when_the_server_first_tells_its_own() -> None:
    ours = Ours()
    clock = ours.clock()
    ours.wall += 3600
    ahead = clock.now()

    answered(clock, ours, 1_000_000_500, seconds=0.010)

    assert clock.now() < ahead - 3_500_000
