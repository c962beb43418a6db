"""`resonate conformance`: against real servers, good ones and others."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resonate.conformance.player import RECORDINGS, recordings
from resonate.protocol.requests import PromiseCreate, PromiseGet
from resonate.server.auth import Authenticator, BearerToken, Identity
from resonate.server.base import Settings
from resonate.server.push import PushSettings
from resonate.server.running import Server
from tests.server.serving import LATER, Client, serving
from tests.test_cli import command


@pytest.fixture
def server() -> Iterator[Server]:
    """As `resonate dev --debug` makes it."""
    with serving(debug=True, push=PushSettings()) as server:
        yield server


def test_our_server_answers_as_recorded_and_is_empty_afterwards(server: Server) -> None:
    ended = command("conformance", server.url, "--topic", "tasks", "--topic", "search", "--topic", "divergences")

    lines = [" ".join(line.split()) for line in ended.lines]
    assert ended.code == 0
    assert lines[:4] == [
        "RECORDING SEQUENCES STEPS RESULT",
        "tasks 15 600 as recorded",
        "search 15 599 as recorded",
        "divergences 48 272 answers as both: 18, neither: 4, official server: 8, specification: 18",
    ]
    assert "answered neither as the official server nor as the specification: C7-heartbeat-dead" in ended.output
    client = Client(server)
    assert client.ask("debug.snap", {})[1]["promises"] == []
    client.connection.close()


def recorded(directory: Path, change: dict[str, Any]) -> Path:
    """The first conversation about tasks, with the answer to its first create changed, as a plain file."""
    with gzip.open(RECORDINGS / "tasks.ndjson.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:20]
    step = next(row for row in rows if row.get("req", {}).get("kind") == "promise.create")
    step["expect"]["data"]["promise"] |= change
    (directory / "mine.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def test_an_answer_that_differs_is_shown_with_its_place_and_ends_with_1(server: Server, tmp_path: Path) -> None:
    mine = recorded(tmp_path, {"state": "resolved"})

    ended = command("conformance", server.url, "--from", str(mine))
    told = command("conformance", server.url, "--from", str(mine), "--json")

    assert (ended.code, told.code) == (1, 1)
    assert "1 differ" in ended.lines[1]
    assert '  $.data.promise.state: expected "resolved", got "pending"' in ended.lines
    [difference] = told.data[0]["different"]
    assert difference["request"]["kind"] == "promise.create"
    assert difference["differences"] == ['$.data.promise.state: expected "resolved", got "pending"']


def test_a_server_that_holds_something_is_left_alone(server: Server) -> None:
    service = server.app.service
    service.handle([PromiseCreate("mine", LATER)])

    refused = command("conformance", server.url, "--topic", "tasks")
    kept = service.handle([PromiseGet("mine")])[0].status
    erased = command("conformance", server.url, "--topic", "tasks", "--erase")

    assert (refused.code, kept, erased.code) == (4, 200, 0)
    assert "the server holds 1 promises, and all of them would be lost" in refused.errors


def test_a_server_without_debug_operations_says_what_it_needs() -> None:
    with serving() as server:
        ended = command("conformance", server.url)

    assert ended.code == 4
    assert "Its debug operations have to be enabled" in ended.errors


def test_a_token_is_sent() -> None:
    auth = Authenticator(tokens=[BearerToken("right-token", Identity("all", role="admin"))])
    with serving(settings=Settings(auth=auth), debug=True) as server:
        wrong = command("conformance", server.url, "--only", "tasks-1", "-T", "wrong-token")
        right = command("conformance", server.url, "--only", "tasks-1", "-T", "right-token")

    assert (wrong.code, right.code) == (4, 0)
    assert "401" in wrong.errors


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("http://127.0.0.1:9",), 5, "does not answer"),
        (("sqlite:///app.db",), 2, "is no URL of a server"),
        (("http://127.0.0.1:9", "--topic", "x"), 2, "there is no recording 'x': choose of divergences, fence"),
        (("http://127.0.0.1:9", "--from", "/nowhere"), 2, "there are no recordings"),
    ],
)
def test_what_cannot_be_played_says_why(arguments: tuple[str, ...], code: int, says: str) -> None:
    ended = command("conformance", *arguments)

    assert (ended.code, says in ended.errors) == (code, True)


def test_what_is_no_recording_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "odd.ndjson").write_text('{"i": 1}\n')

    ended = command("conformance", server.url, "--from", str(tmp_path))

    assert ended.code == 2
    assert "odd in " in ended.errors


def test_the_recordings_are_part_of_the_package() -> None:
    assert len(recordings()) == 11
