"""What has to be true when all is over: of the runs, their steps, and what is left where state lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, LiteralString

from msgspec import Struct

from resonate import Resonate
from resonate.errors import ResonateStoreError
from resonate.protocol.records import ORIGIN, PENDING
from resonate.protocol.requests import PromiseSearch, Response, TaskGet, TaskSearch
from tests.chaos import functions
from tests.chaos.calls import Noted
from tests.chaos.functions import Executed
from tests.chaos.homes import Home
from tests.chaos.traffic import PREFIX

PATIENCE: Final = 90.0
"""Seconds after the last fault in which everything has to end."""

EACH: Final = 30.0
"""Seconds for which at least one run is waited for, however long it took to look at those before it."""

PAGE: Final = 1_000


class Steps(Struct, frozen=True):
    """How often steps ran.

    Args:
        finished: steps whose result was recorded.
        repeated: executions of them that came before that and were not recorded.
        most: the most executions of one step.
    """

    finished: int
    repeated: int
    most: int


def results(home: Home, notes: Iterable[Noted], until: float) -> dict[str, list[str]]:
    """The result of each run that was begun, for all who ask and at all times the same one.

    Raises:
        AssertionError: one was lost, or has two results.
    """
    told: dict[str, list[Any]] = {}
    begun: set[str] = set()
    for note in notes:
        begun.add(note.run)
        if note.what == "ended":
            told.setdefault(note.run, []).append(note.result)
    sure = {note.run for note in notes if note.what in ("begun", "ended")}
    found: dict[str, list[str]] = {}
    with Resonate(url=home.embedded or home.urls[0], group="judge") as judge:
        for run in sorted(begun):
            try:
                result = _insist(lambda run=run: judge.get(run).result(max(EACH, until - time.monotonic())), until)  # type: ignore[misc]
            except TimeoutError:
                raise AssertionError(f"{run} does not end: {_tree(judge, run)}") from None
            except ResonateStoreError as error:
                if run in sure:
                    raise AssertionError(f"{run} was begun and is not there: {error}") from error
                continue  # its client was killed before that was acknowledged
            for other in told.get(run, ()):
                assert other == result, f"{run} has two results: {other} and {result}"
            found[run] = result
    return found


def _tree(judge: Resonate, run: str) -> list[Any]:
    """What is stored of a run that does not end."""
    send = judge._core.started().network.send
    promises = _all(lambda cursor: send([PromiseSearch(tags={ORIGIN: run}, limit=PAGE, cursor=cursor)])[0])
    tasks = [answer.task for answer in send([TaskGet(promise.id) for promise in promises]) if answer.task is not None]
    return [*(promise for promise in promises if promise.state == PENDING), *tasks]


def steps(results: dict[str, list[str]], executed: Iterable[Executed]) -> Steps:
    """Whether results are right, and no step ran again after its result was recorded.

    A recorded result names the execution of the step that gave it, and with it the version of the
    task under which it was recorded. Whoever has a later version has replayed that result; the
    same version ran the step. So every other execution belongs to an earlier version: its owner
    lost the task before it could record anything, or found that out only when it tried.

    Raises:
        AssertionError: a result is wrong, names what never happened, or a finished step ran again.
    """
    by_id: dict[str, list[Executed]] = {}
    by_token: dict[str, Executed] = {}
    for execution in executed:
        by_id.setdefault(execution.id, []).append(execution)
        assert execution.token not in by_token, f"{execution.token} was made twice"
        by_token[execution.token] = execution
    repeated, most, finished = 0, 0, 0
    for run, tokens in results.items():
        labels = functions.labels_of_trip(run) if run.startswith("trip-") else functions.labels_of_order(run)
        assert [token.partition("|")[0] for token in tokens] == labels, f"{run} gave {tokens}"
        for token in tokens:
            assert token in by_token, f"{run} gave {token}, which no step has made"
            recorded = by_token[token]
            others = [other for other in by_id[recorded.id] if other.token != token]
            again = [other for other in others if other.version >= recorded.version]
            assert not again, f"{recorded} was recorded, and yet there was {again}"
            finished, repeated, most = finished + 1, repeated + len(others), max(most, 1 + len(others))
    return Steps(finished, repeated, most)


def nothing_left(home: Home, until: float) -> None:
    """No execution that is not over, no pending promise, no message or obligation.

    Raises:
        AssertionError: something is, and stays.
    """
    left: dict[str, list[Any]] = {}
    while True:
        left = _left(home)
        if not any(left.values()):
            return
        if time.monotonic() > until:
            raise AssertionError(f"left over: {left}; not there any more: {home.dead}")
        time.sleep(0.3)


def rows_once(home: Home, results: dict[str, list[str]]) -> None:
    """The rows that steps wrote in transactions of their own are there, each once.

    Raises:
        AssertionError: one is missing, or there twice.
    """
    if home.embedded is None:
        return
    query: LiteralString = "SELECT run, number FROM chaos_rows"
    if home.name == "postgres":
        with home.session() as session:
            rows = session.execute(query).fetchall()
    else:
        rows = home.file(query)
    runs = [run for run in results if not run.startswith("trip-")]
    expected = sorted((run, number) for run in runs for number in range(functions.STEPS))
    assert sorted(map(tuple, rows)) == expected, "rows differ"


def _insist(ask: Callable[[], Any], until: float) -> Any:
    while True:
        try:
            return ask()
        except ResonateStoreError as error:
            if time.monotonic() > until or error.code == 404:
                raise
            time.sleep(0.2)


def _left(home: Home) -> dict[str, list[Any]]:
    """What is not over; the trees of the raw traffic are nobody's."""
    with Resonate(url=home.embedded or home.urls[0], group="judge") as judge:
        send = judge._core.started().network.send
        promises = _all(lambda cursor: send([PromiseSearch(state="pending", limit=PAGE, cursor=cursor)])[0])
        tasks: list[Any] = []
        for state in ("pending", "acquired", "suspended", "halted"):
            tasks += _all(lambda cursor, state=state: send([TaskSearch(state, PAGE, cursor)])[0])  # type: ignore[misc]
    left = {"promises": promises, "tasks": tasks}
    if home.name == "postgres":
        with home.session() as session:
            for table, postgres in _POSTGRES.items():
                left[table] = session.execute(postgres, {"dead": home.dead, "raw": f"{PREFIX}%"}).fetchall()
    return {name: found[:10] for name, found in left.items()}


def _all(ask: Callable[[str | None], Response]) -> list[Any]:
    found: list[Any] = []
    cursor: str | None = None
    while True:
        answer = ask(cursor)
        assert answer.status == 200, answer.error
        found += [record for record in (answer.promises or answer.tasks or ()) if not record.id.startswith(PREFIX)]
        cursor = answer.cursor
        if cursor is None:
            return found


_POSTGRES: Final[dict[str, LiteralString]] = {
    # news for a process that is no more waits for its next life, which does not come here; callers have ended
    "outbox": "SELECT kind, id, channel FROM resonate.outbox "
    "WHERE NOT channel = ANY(%(dead)s) AND NOT channel LIKE 'callers/%%' AND NOT id LIKE %(raw)s LIMIT 10",
    "obligations": "SELECT awaited, awaiter FROM resonate.obligations WHERE NOT awaiter LIKE %(raw)s LIMIT 10",
}
