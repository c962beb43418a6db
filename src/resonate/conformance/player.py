"""Plays recorded conversations with the official server to another one, and compares the answers.

The recordings hold what was asked, byte for byte, and what came back, normalised: error texts,
cursors and correlation ids are reduced to their being there, snapshots to what a client can
notice. `play` normalises answers in the same way and compares strictly: `true` is not 1, 1.0
is not 1, absent is not null. How a server is reached is the caller's affair.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = Any
Answer = Callable[[bytes], tuple[int, bytes]]
"""Request body in, HTTP status and response body out."""

RECORDINGS = Path(__file__).parent / "recordings"
DIVERGENCES = "divergences"
"""The recording of the questions on which the official server and the specification part."""

ERROR = "<error>"
SERVER_TAGS = {f"resonate:{name}" for name in ("schedule", "origin", "branch", "parent", "prefix")}
OFFICIAL, SPECIFICATION, BOTH, NEITHER = "official server", "specification", "both", "neither"
TIMER_OF_STATE = {"pending": 0, "acquired": 1}


class Unfit(Exception):
    """The server does not let itself be played to; says what it needs."""


@dataclass
class Sequence:
    """One conversation, on an empty server.

    Attributes:
        name: of it.
        question: what it asks, where the official server and the specification part.
        steps: as recorded.
    """

    name: str
    question: str | None
    steps: list[dict[str, Json]]


@dataclass
class Played:
    """One step as it went: the step, our answer, and whether it was the expected one."""

    step: dict[str, Json]
    got: Json
    agrees: bool


def recordings(directory: Path = RECORDINGS) -> list[str]:
    """The names of the recordings in a directory: its `*.ndjson.gz` and `*.ndjson`."""
    found = (path.name.removesuffix(".gz") for path in directory.iterdir())
    return sorted({name.removesuffix(".ndjson") for name in found if name.endswith(".ndjson")})


def load(recording: str, directory: Path = RECORDINGS) -> Iterator[Sequence]:
    """The sequences of a recording.

    Raises:
        ValueError: it is none.
    """
    packed = directory / f"{recording}.ndjson.gz"
    plain = directory / f"{recording}.ndjson"
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else plain.open(encoding="utf-8") as lines:
        current: Sequence | None = None
        for row in map(json.loads, lines):
            if "seq" in row:
                if current:
                    yield current
                current = Sequence(row["seq"], row.get("question"), [])
            elif current is None or "expect" not in row:
                raise ValueError(f"{recording} in {directory} is no recording: its steps follow a line with `seq`")
            else:
                current.steps.append(row)
        if current:
            yield current


def play(sequence: Sequence, answer: Answer) -> Iterator[Played]:
    """Play all steps on an emptied server; the caller may stop at the first that disagrees."""
    ask(answer, "debug.reset", {})
    cursors: dict[str, str] = {}
    for step in sequence.steps:
        got = _send(step, answer, cursors)
        expected = [step["expect"], step.get("spec", step["expect"])]
        agrees = any(same(want, got) for want in expected)
        yield Played(step, got, agrees)


def ask(answer: Answer, kind: str, data: Json, now: int | None = None) -> Json:
    """One request of the player's own.

    Raises:
        Unfit: the server did not answer it with 200.
    """
    head: dict[str, Json] = {"corrId": "player", "version": "2026-04-01"}
    if now is not None:
        head["resonate:debug_time"] = now
    status, body = answer(json.dumps({"kind": kind, "head": head, "data": data}).encode())
    if status != 200:
        text = body[:200].decode(errors="replace")
        raise Unfit(f"{kind} was answered with {status}: {text}. Its debug operations have to be enabled")
    return json.loads(body)["data"]


def side_of(question: Sequence, answer: Answer) -> str:
    """Whose answers those to a question are: `official server`, `specification`, `both` or `neither`."""
    alive = {"expect", "spec"}
    for played in play(question, answer):
        alive = {side for side in alive if same(played.step.get(side, played.step["expect"]), played.got)}
        if not alive:
            return NEITHER
    if len(alive) == 2:
        return BOTH
    return OFFICIAL if "expect" in alive else SPECIFICATION


def differences(want: Json, got: Json, path: str = "$") -> Iterator[str]:
    """Where two normalised answers differ, each as a line with its path."""
    if isinstance(want, dict) and isinstance(got, dict):
        for key in sorted({*want, *got}):
            if key not in got:
                yield f"{path}.{key}: expected {_text(want[key])}, got nothing"
            elif key not in want:
                yield f"{path}.{key}: expected nothing, got {_text(got[key])}"
            else:
                yield from differences(want[key], got[key], f"{path}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for number, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from differences(one, other, f"{path}[{number}]")
    elif _text(want) != _text(got):
        yield f"{path}: expected {_text(want)}, got {_text(got)}"


def same(want: Json, got: Json) -> bool:
    """Whether two normalised answers are equal, but for tags that servers add to what schedules begin."""
    return _text(want) == _text(got) or _text(_soften(want)) == _text(_soften(got))


def _text(value: Json) -> str:
    return json.dumps(value, sort_keys=True)


def _send(step: dict[str, Json], answer: Answer, cursors: dict[str, str]) -> Json:
    if "raw" in step:
        status, body = answer(step["raw"].encode())
        return _normal({}, status, json.loads(body), step.get("now", 0), False)
    request = step["req"]
    cursor = request["data"].get("cursor") if isinstance(request.get("data"), dict) else None
    if isinstance(cursor, str) and cursor.startswith("$cursor:"):
        request = {**request, "data": {**request["data"], "cursor": cursors[cursor[8:]]}}
    status, body = answer(json.dumps(request).encode())
    envelope = json.loads(body)
    if isinstance(envelope["data"], dict) and isinstance(envelope["data"].get("cursor"), str):
        cursors[str(step["i"])] = envelope["data"]["cursor"]
    return _normal(request, status, envelope, step.get("now", 0), step.get("offers", False))


def _normal(request: Json, status: int, envelope: Json, now: int, offers: bool) -> Json:
    head, data, kind = envelope["head"], envelope["data"], envelope["kind"]
    sent = request.get("head")
    corr_id = sent.get("corrId") if isinstance(sent, dict) else None
    out = {"http": status, "status": head["status"], "version": head["version"]}
    if isinstance(corr_id, str) and isinstance(request.get("kind"), str):
        out |= {"kind": kind, "echo": head["corrId"] == corr_id}
    if head["status"] >= 400:
        out["data"] = ERROR if isinstance(data, str) else data
    else:
        out["data"] = _normal_data(request, kind, data, now, offers) if isinstance(data, dict) else data
    return out


def _normal_data(request: Json, kind: str, data: Json, now: int, offers: bool) -> Json:
    if kind == "debug.snap":
        return _normal_snapshot(data, now, offers)
    if isinstance(data.get("preload"), list):
        data["preload"].sort(key=lambda promise: promise["id"])
    if isinstance(data.get("cursor"), str):
        data["cursor"] = "<cursor>"
    if isinstance(data.get("action"), dict):
        data["action"]["head"]["corrId"] = "<corrId>"
        if isinstance(data["action"]["data"], str):
            data["action"]["data"] = ERROR
    if kind.endswith(".search") and not request["data"].get("limit"):
        for found in data.values():
            if isinstance(found, list):
                found.sort(key=lambda record: record["id"])
    return data


def _normal_snapshot(data: Json, now: int, offers: bool) -> Json:
    """What the protocol fixes of a snapshot, without what a server may keep or drop at will."""
    promises = {p["id"]: _project(p, now) for p in data["promises"]}
    tasks = {t["id"]: t for t in data["tasks"]}
    delayed = set() if offers else {i for i, p in promises.items() if "resonate:delay" in p["tags"]}

    def pending(id: str) -> bool:
        return bool(promises[id]["state"] == "pending")

    def acceptable(message: Json) -> bool:
        if message["kind"] != "execute":
            return True
        offer = message["data"]["task"]
        own = tasks[offer["id"]]
        return (own["state"], own["version"]) == ("pending", offer["version"]) and offer["id"] not in delayed

    def timed(row: Json) -> bool:
        fits = TIMER_OF_STATE.get(tasks[row["id"]]["state"]) == row["type"]
        return fits and not (row["type"] == 0 and row["id"] in delayed)

    messages = [{**row, "message": {**row["message"], "head": {}}} for row in data["messages"]]
    kept = {
        "promises": list(promises.values()),
        "promiseTimeouts": [
            row
            for row in data["promiseTimeouts"]
            if pending(row["id"]) and "resonate:target" in promises[row["id"]]["tags"]
        ],
        "callbacks": [
            row
            for row in data["callbacks"]
            if pending(row["awaited"]) and tasks[row["awaiter"]]["state"] != "fulfilled"
        ],
        "listeners": data["listeners"],
        "tasks": data["tasks"],
        "taskTimeouts": [row for row in data["taskTimeouts"] if timed(row)],
        "messages": [row for row in messages if acceptable(row["message"])],
    }
    return {key: sorted(rows, key=_order) for key, rows in kept.items()}


def _order(row: Json) -> tuple[str, ...]:
    if "message" in row:
        return (_text(row),)
    return tuple(row.get(key, "") for key in ("id", "awaiter", "awaited", "address"))


def _project(promise: Json, now: int) -> Json:
    if promise["state"] != "pending" or promise["timeoutAt"] > now:
        return promise
    timer = promise["tags"].get("resonate:timer") == "true"
    return {**promise, "state": "resolved" if timer else "rejected_timedout", "settledAt": promise["timeoutAt"]}


def _soften(value: Json) -> Json:
    """Without the tags that a server adds to the promise of a schedule's occurrence."""
    if isinstance(value, list):
        return [_soften(x) for x in value]
    if isinstance(value, dict):
        if isinstance(value.get("tags"), dict) and "resonate:schedule" in value["tags"]:
            value = {**value, "tags": {k: v for k, v in value["tags"].items() if k not in SERVER_TAGS}}
        return {k: _soften(v) for k, v in value.items()}
    return value
