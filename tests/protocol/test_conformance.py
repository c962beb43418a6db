"""Recorded conversations with the official server, replayed through the wire codec.

150 recorded sequences on which the official server and the formal specification agree must
be answered equally, to the byte of every record. 48 questions on which some of them part are
listed with the side we take, which is the one that the protocol document recommends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from resonate.conformance import player
from resonate.conformance.player import BOTH, NEITHER, OFFICIAL, SPECIFICATION, Answer, side_of
from resonate.protocol import wire
from resonate.protocol.requests import Request, Response
from resonate.service.service import Service
from tests import databases, files

from . import bench

SIDES = {
    "C1-timer-wakes": SPECIFICATION,
    "C1-external-wakes": SPECIFICATION,
    "C1-listener-hears": SPECIFICATION,
    "C1-internal-not-armed": BOTH,
    "C2-callback-internal": SPECIFICATION,
    "C2-suspend-internal": SPECIFICATION,
    "C2-suspend-internal-settled": SPECIFICATION,
    "C3-listener-internal": SPECIFICATION,
    "C4-create-on-dead": BOTH,
    "C4-halt-on-dead": BOTH,
    "C4-continue-on-dead": BOTH,
    "C4-others-on-dead": BOTH,
    "C5-tick-on-dead": BOTH,
    "C6-dead-awaiter": SPECIFICATION,
    "C6-halted-dead-awaiter": SPECIFICATION,
    "C7-heartbeat-dead": NEITHER,  # the lease is not moved (specification), and a snapshot shows no dead lease (C8)
    "C8-search-projected": SPECIFICATION,
    "C8-task-search-projected": SPECIFICATION,
    "C8-preload-projected": SPECIFICATION,
    "C9-version": BOTH,
    "C10-one-claim": BOTH,
    "C11-callback-settled-suspended": SPECIFICATION,
    "C11-callback-settled-acquired": SPECIFICATION,
    "C11-listener-settled": BOTH,
    "V-timer-targeted": OFFICIAL,  # D3: accepted, never dispatched early
    "V-timer-targeted-task": OFFICIAL,
    "V-timer-targeted-schedule": OFFICIAL,
    "V-timer-targeted-fence": OFFICIAL,
    "V-suspend-twice": SPECIFICATION,  # D7
    "V-address-poll-cast": OFFICIAL,  # 6.1
    "V-address-gcps": OFFICIAL,
    "V-address-bash": SPECIFICATION,  # 6.4: not implemented, so not accepted
    "V-address-empty-host": OFFICIAL,
    "V-address-poll-no-group": OFFICIAL,
    "D-delay": SPECIFICATION,  # D9: honoured
    "D-delay-acquire-early": BOTH,
    "S-catch-up": SPECIFICATION,  # D12: all of them
    "S-tags": BOTH,
    "S-born-late": BOTH,
    "S-existing-id": BOTH,
    "S-year-field": NEITHER,  # 4.7: seven fields are refused
    "S-both-day-fields": NEITHER,  # 4.7: either may match, as in classic cron
    "S-sunday-is-one": NEITHER,  # 4.7: one is Monday, as in classic cron
    "R-resumes-count": BOTH,
    "R-release-keeps-resumes": BOTH,
    "R-lease-boundary": BOTH,
    "R-late-owner": BOTH,
    "L6-search": BOTH,
}

DATA_OF_NEITHER = {
    "C7-heartbeat-dead": (2, ["data", "taskTimeouts"], []),
    "S-year-field": (0, ["status"], 400),
    "S-both-day-fields": (0, ["data", "schedule", "nextRunAt"], 1_767_312_000_000),  # Friday 2026-01-02
    "S-sunday-is-one": (0, ["data", "schedule", "nextRunAt"], 1_767_571_200_000),  # Monday 2026-01-05
}
"""Where we agree with neither: the step, a part of our answer, and what it is instead."""


def _door(handle: Callable[[Request, int | None], Response]) -> Answer:
    return lambda body: wire.answer(body, handle, debug=True)


HANDLES: dict[str, Callable[[], Callable[[Request, int | None], Response]]] = {
    "machine": bench.machine_handle,
    "sqlite": lambda: bench.machine_handle(files.emptied()),
    "postgres": lambda: bench.machine_handle(databases.emptied()),
    "model": bench.model_handle,
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] if name == "postgres" else []) for name in HANDLES])
def answer(request: pytest.FixtureRequest) -> Answer:
    return _door(HANDLES[request.param]())


RECORDINGS = [name for name in player.recordings() if name != "divergences"]
QUESTIONS = {sequence.name: sequence for sequence in player.load("divergences")}


def test_all_recordings_are_here() -> None:
    assert RECORDINGS == [
        "fence", "invalid", "leases", "listeners", "mixed",
        "promises", "schedules", "search", "suspend", "tasks",
    ]  # fmt: skip
    assert sum(len(list(player.load(name))) for name in RECORDINGS) == 150
    assert set(QUESTIONS) == set(SIDES)


@pytest.mark.parametrize("recording", RECORDINGS)
def test_recorded_answers_are_ours(recording: str, answer: Answer) -> None:
    player.ask(answer, "debug.start", {})
    for sequence in player.load(recording):
        for played in player.play(sequence, answer):
            step = f"{sequence.name} step {played.step['i']}: {played.step.get('req', played.step.get('raw'))}"
            assert played.agrees, f"{step}\nexpected {played.step['expect']}\ngot      {played.got}"


@pytest.mark.parametrize("name", QUESTIONS)
def test_where_they_part_we_take_the_recommended_side(name: str, answer: Answer) -> None:
    assert side_of(QUESTIONS[name], answer) == SIDES[name]


@pytest.mark.parametrize("name", QUESTIONS)
def test_in_strict_mode_we_take_the_side_of_the_specification(name: str) -> None:
    question = QUESTIONS[name]
    asked = [step for step in question.steps if not step["req"]["kind"].endswith(".search")]  # 501 there
    service = bench.new_service(strict=True)

    def answer(body: bytes) -> tuple[int, bytes]:
        handle = partial(_handle, service)
        return wire.answer(body, handle, debug=True, strict=True)

    side = side_of(player.Sequence(question.name, question.question, asked), answer)

    assert side in ((NEITHER,) if name in DATA_OF_NEITHER else (SPECIFICATION, BOTH))


def _handle(service: Service, request: Request, now: int | None) -> Response:
    return service.handle([request], trusted=True, now=now)[0]


@pytest.mark.parametrize("name", DATA_OF_NEITHER)
def test_where_we_follow_neither_our_answer_is_the_recommended_one(name: str, answer: Answer) -> None:
    step, path, expected = DATA_OF_NEITHER[name]

    got: Any = next(p.got for p in player.play(QUESTIONS[name], answer) if p.step["i"] == step)

    for part in path:
        got = got[part]
    assert got == expected


def test_a_wrong_answer_is_noticed() -> None:
    handle = bench.model_handle()

    def off_by_one(request: Request, now: int | None) -> Response:
        return handle(request, None if now is None else now + 1)

    with pytest.raises(AssertionError, match="step"):
        test_recorded_answers_are_ours("leases", _door(off_by_one))
