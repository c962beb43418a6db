"""What waits in the outbox is looked for beyond what is known, and nothing is overlooked for long."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from resonate.storage.postgres.arrivals import OVERLAP, WHOLE, Arrivals
from resonate.storage.postgres.location import parse
from resonate.storage.postgres.statements import Statements
from resonate.storage.postgres.storage import PostgresStorage
from tests import databases

NOW = 1_000
LIMIT = 3


class Outbox:
    """Messages in a schema of their own, and what one process knows of them."""

    def __init__(self, storage: PostgresStorage, schema: str) -> None:
        self._execute = storage._aside
        self._schema = schema
        self.arrivals = Arrivals(self._execute, Statements(schema).arrived)

    def put(self, channel: str, *numbers: int) -> None:
        for number in numbers:
            self._execute(
                f"INSERT INTO {self._schema}.outbox VALUES (%s, 'execute', %s, '', %s, 0, %s, %s)",
                (f"{channel}-{number}", f"{channel}-{number}", channel, number, b""),
            )

    def take(self, channel: str, *numbers: int) -> None:
        ids = [f"{channel}-{number}" for number in numbers]
        self._execute(f"UPDATE {self._schema}.outbox SET hidden = %s WHERE id = ANY(%s)", (NOW + 1, ids))

    def look(self, *channels: str, whole: bool = False) -> list[str]:
        return [id for _, id, _, _ in self.arrivals.look(channels, NOW, whole=whole, limit=LIMIT)]


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    schema = f"arrivals_{uuid.uuid4().hex[:8]}"
    storage = PostgresStorage(parse(f"{databases.url()}?schema={schema}"))
    yield Outbox(storage, schema)
    storage._aside(f"DROP SCHEMA {schema} CASCADE")
    storage.close()


SECOND = OVERLAP * 10
"""More than an overlap apart."""


def test_looks_go_on_where_the_last_one_ended(outbox: Outbox) -> None:
    outbox.put("g", *range(1, 8))

    assert outbox.look("g") == ["g-1", "g-2", "g-3"]
    assert outbox.look("g") == ["g-4", "g-5", "g-6"]
    assert outbox.look("g") == ["g-7"]


def test_a_message_that_appears_a_little_behind_others_is_found_by_the_next_look(outbox: Outbox) -> None:
    outbox.put("g", SECOND)
    assert outbox.look("g") == [f"g-{SECOND}"]

    outbox.put("g", SECOND - OVERLAP + 1)

    assert f"g-{SECOND - OVERLAP + 1}" in outbox.look("g")


def test_a_look_from_the_start_finds_what_appeared_far_behind(outbox: Outbox) -> None:
    outbox.put("g", SECOND)
    outbox.look("g")
    outbox.put("g", 1)

    assert outbox.look("g") == [f"g-{SECOND}"]
    assert outbox.look("g", whole=True) == ["g-1", f"g-{SECOND}"]


def test_messages_that_others_have_in_hand_are_not_seen(outbox: Outbox) -> None:
    outbox.put("g", 1, 2)
    outbox.take("g", 1)

    assert outbox.look("g") == ["g-2"]


def test_the_backlog_of_one_channel_hides_no_other(outbox: Outbox) -> None:
    outbox.put("busy", *range(1, 10))
    outbox.put("calm", 20)

    assert outbox.look("busy", "calm") == ["busy-1", "busy-2", "busy-3", "calm-20"]


def test_more_is_looked_for_only_when_there_is_more_and_little_is_known(outbox: Outbox) -> None:
    outbox.put("g", 1, 2, 3, 4)
    assert not outbox.arrivals.is_low([], 1), "nothing has been seen: somebody will say so"

    outbox.look("g")
    assert outbox.arrivals.is_low([], 1)
    assert not outbox.arrivals.is_low(range(1_000), 1)

    outbox.look("g")
    assert not outbox.arrivals.is_low([], 1), "all has been seen"


def test_a_look_from_the_start_is_due_once_in_a_while(outbox: Outbox) -> None:
    assert outbox.arrivals.is_time()

    outbox.look("g", whole=True)

    assert not outbox.arrivals.is_time(), f"only {WHOLE} s later"
