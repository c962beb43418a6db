"""The recorded conversations with the official server, over HTTP: sockets, headers and both ways to a storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resonate.conformance import player
from resonate.storage.base import Storage
from resonate.storage.memory import MemoryStorage
from resonate.storage.sqlite.location import Location
from resonate.storage.sqlite.storage import SqliteStorage
from tests.protocol import test_conformance
from tests.server.serving import Client, serving

HOMES: dict[str, Callable[[Path], Storage]] = {
    "memory": lambda directory: MemoryStorage(),
    "sqlite file": lambda directory: SqliteStorage(Location(str(directory / "resonate.db"), synchronous="off")),
}


@pytest.fixture(scope="module", params=list(HOMES))
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    storage = HOMES[request.param](tmp_path_factory.mktemp("home"))
    with serving(storage, debug=True, fence_preload=None) as server:
        client = Client(server)
        player.ask(client.answer, "debug.start", {})
        yield client
        client.close()
    storage.close()


@pytest.mark.parametrize("recording", test_conformance.RECORDINGS)
def test_recorded_answers_are_ours(recording: str, client: Client) -> None:
    for sequence in player.load(recording):
        for played in player.play(sequence, client.answer):
            step = f"{sequence.name} step {played.step['i']}: {played.step.get('req', played.step.get('raw'))}"
            assert played.agrees, f"{step}\nexpected {played.step['expect']}\ngot      {played.got}"


@pytest.mark.parametrize("name", test_conformance.QUESTIONS)
def test_where_official_server_and_specification_part_we_take_the_recommended_side(name: str, client: Client) -> None:
    side = player.side_of(test_conformance.QUESTIONS[name], client.answer)

    assert side == test_conformance.SIDES[name]
