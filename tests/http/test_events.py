"""Server-sent events: whatever the pieces, the events are the same."""

from __future__ import annotations

import time

import pytest

from resonate.network.http import events
from resonate.network.http.events import Events

STREAM = (
    b'\xef\xbb\xbf: hello\r\n\r\ndata: {"a":1}\r\n\r\n:\n\ndata:no space\n\n'
    b"event: x\rid: 3\rdata: one\rdata: two\r\rdata\n\nx\n\n"
)
FOUND = [b'{"a":1}', b"no space", b"one\ntwo", b""]


def test_lines_may_end_in_any_way_and_data_may_have_several() -> None:
    assert Events().feed(STREAM) == FOUND


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_it_does_not_matter_how_the_stream_is_cut_into_pieces(size: int) -> None:
    reader = Events()

    found = [data for at in range(0, len(STREAM), size) for data in reader.feed(STREAM[at : at + size])]

    assert found == FOUND
    assert reader.beats == 2


def test_an_event_is_there_only_with_its_empty_line() -> None:
    reader = Events()

    assert reader.feed(b"data: a\n") == []
    assert reader.feed(b"\n") == [b"a"]


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_MAX", 100)
    reader = Events()

    with pytest.raises(ValueError, match="more than 100 bytes"):
        for _ in range(20):
            reader.feed(b"data: 0123456789\n")


@pytest.mark.parametrize("piece", [b"data\n", b"data: x\n", b"x", b": comment without end"])
def test_whatever_an_endless_event_is_made_of_memory_has_a_bound(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EVENT_MAX", 10_000)
    reader = Events()

    with pytest.raises(ValueError, match="more than 10000 bytes"):
        for _ in range(10_001):
            reader.feed(piece)


def test_a_line_in_many_pieces_costs_no_more_than_in_one() -> None:
    reader = Events()
    begun = time.process_time()

    for _ in range(200_000):  # with the whole line copied for each piece, this takes minutes
        reader.feed(b"0123456789")

    assert time.process_time() - begun < 5
