"""`resonate conformance URL`: whether a server answers as the official one was recorded to."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from msgspec import Struct

from resonate.cli import output
from resonate.cli.home import FAILED, fail
from resonate.conformance import player
from resonate.conformance.player import DIVERGENCES, NEITHER, RECORDINGS, Played, Sequence, Unfit
from resonate.errors import StorageUnavailable, UsageError
from resonate.inspection import Refusal, drawing

PATIENCE: Final = 30.0
"""Seconds that one answer may take."""

SHOWN: Final = 300
"""Characters of a request or an answer that are shown."""


class Difference(Struct, frozen=True):
    """One answer that was another one than recorded.

    Attributes:
        sequence: name of the conversation.
        step: number of the request in it.
        request: as it was sent.
        differences: where the answer differs, each with its path.
    """

    sequence: str
    step: int
    request: Any
    differences: tuple[str, ...]


class Outcome(Struct, frozen=True):
    """What came of one recording.

    Attributes:
        recording: name of it.
        sequences, steps: how many were played; a sequence ends at the first answer that differs.
        different: the answers that differed.
        sides: of the questions where the official server and the specification part: whose answer it was.
    """

    recording: str
    sequences: int
    steps: int
    different: tuple[Difference, ...] = ()
    sides: dict[str, str] = {}


def conformance(
    url: Annotated[str, typer.Argument(metavar="URL", help="Of the server, with its debug operations enabled")],
    topic: Annotated[list[str] | None, typer.Option("--topic", help="Of these recordings only: tasks, leases")] = None,
    only: Annotated[str, typer.Option("--only", help="Sequences whose name holds this text")] = "",
    directory: Annotated[
        Path, typer.Option("--from", help="Other recordings: *.ndjson or *.ndjson.gz", show_default=False)
    ] = RECORDINGS,
    most: Annotated[int, typer.Option("--max", min=1, help="Differences that are shown in full")] = 3,
    erase: Annotated[
        bool, typer.Option("--erase", help="Also if the server holds something: all of it is lost")
    ] = False,
    token: Annotated[
        str | None, typer.Option("--token", "-T", envvar="RESONATE_TOKEN", help="Sent as Authorization: Bearer")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON, for programs")] = False,
) -> None:
    """Play recorded conversations with the official server to another one, and compare what it answers.

    ERASES ALL THAT THE SERVER HOLDS, before each conversation: start one for it, with nothing in it, and with its debug
    operations enabled (`resonate dev --debug --server-port 8100`). Exit code 1 if an answer differs.
    """
    try:
        names = _chosen(directory, topic or [])
        with closing(_Server(url, token)) as server:
            _check(server, erase)
            outcomes = _play_all(server, names, directory, only)
            player.ask(server.answer, "debug.reset", {})
            player.ask(server.answer, "debug.stop", {})
    except (UsageError, StorageUnavailable, ValueError, OSError) as error:
        fail(error)
    except Unfit as error:
        fail(Refusal(f"{url}: {error}"))
    if json_output:
        output.data(outcomes)
    else:
        _print(outcomes, most)
    if any(outcome.different for outcome in outcomes):
        raise typer.Exit(FAILED)


class _Server:
    """Sends bodies over one connection.

    Raises:
        UsageError: the URL names no server.
    """

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no URL of a server: write http://HOST:8001")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=PATIENCE)
        self._path = f"{parts.path.rstrip('/')}/"
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._shown = url

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            StorageUnavailable: none came.
        """
        try:
            self._connection.request("POST", self._path, body, self._headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise StorageUnavailable(
                f"{self._shown} does not answer: {error}. See that the server runs there"
            ) from None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _chosen(directory: Path, topics: list[str]) -> list[str]:
    known = player.recordings(directory) if directory.is_dir() else []
    if not known:
        raise UsageError(f"there are no recordings (*.ndjson, *.ndjson.gz) in {directory}")
    unknown = sorted(set(topics) - set(known))
    if unknown:
        raise UsageError(f"there is no recording {unknown[0]!r}: choose of {', '.join(known)}")
    return topics or known


def _check(server: _Server, erase: bool) -> None:
    """Refuse a server that holds something, or has no debug operations."""
    player.ask(server.answer, "debug.start", {})
    held = player.ask(server.answer, "debug.snap", {})
    count = len(held.get("promises", ()))
    if count and not erase:
        player.ask(server.answer, "debug.stop", {})
        raise Refusal(
            f"the server holds {count} promises, and all of them would be lost: start another one for this, or --erase"
        )


def _play_all(server: _Server, names: list[str], directory: Path, only: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with output.progress("conversations played") as told:
        for name in names:
            outcomes.append(_play(server, name, directory, only))
            told(sum(outcome.sequences for outcome in outcomes))
    return outcomes


def _play(server: _Server, name: str, directory: Path, only: str) -> Outcome:
    sequences = [sequence for sequence in player.load(name, directory) if only in sequence.name]
    if name == DIVERGENCES:
        sides = {sequence.name: player.side_of(sequence, server.answer) for sequence in sequences}
        return Outcome(name, len(sequences), sum(len(sequence.steps) for sequence in sequences), sides=sides)
    steps, different = 0, []
    for sequence in sequences:
        for played in player.play(sequence, server.answer):
            steps += 1
            if not played.agrees:  # what follows would differ because of it
                different.append(_difference(sequence, played))
                break
    return Outcome(name, len(sequences), steps, tuple(different))


def _difference(sequence: Sequence, played: Played) -> Difference:
    step = played.step
    found = tuple(player.differences(step["expect"], played.got))
    return Difference(sequence.name, step.get("i", 0), step.get("req", step.get("raw")), found)


def _print(outcomes: list[Outcome], most: int) -> None:
    rows = [(each.recording, str(each.sequences), str(each.steps), _result(each)) for each in outcomes]
    output.table(("RECORDING", "SEQUENCES", "STEPS", "RESULT"), rows, "nothing to play")
    different = [each for outcome in outcomes for each in outcome.different]
    for each in different[:most]:
        typer.echo(f"\n{each.sequence}, step {each.step}")
        typer.echo(f"  request  {drawing.short(each.request, SHOWN)}")
        for line in each.differences:
            typer.echo(f"  {drawing.short(line, SHOWN)}")
    if len(different) > most:
        typer.echo(f"\n{len(different) - most} more: --max {len(different)} shows all")
    for line in _neither(outcomes):
        typer.echo(line)


def _result(outcome: Outcome) -> str:
    if outcome.sides:
        counts = Counter(outcome.sides.values())
        return "answers as " + ", ".join(f"{side}: {count}" for side, count in sorted(counts.items()))
    return f"{len(outcome.different)} differ" if outcome.different else "as recorded"


def _neither(outcomes: list[Outcome]) -> Iterator[str]:
    """The questions that were answered as nobody else does."""
    names = [name for outcome in outcomes for name, side in outcome.sides.items() if side == NEITHER]
    if names:
        yield f"\nanswered neither as the official server nor as the specification: {', '.join(names)}"


__all__ = ["conformance"]
