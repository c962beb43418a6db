"""`POST /batch`: several requests in one body, each answered as `POST /` would have answered it.

Ours, not of the protocol. A worker's writes go out together: `{"requests": [envelope, ...],
"chain": bool}` gets `{"responses": [...]}` in the same order. Each request is one transition
of its own; all of them share a transaction. With `chain` the answers end with the first one
that is not what its sender counted on (`protocol.chain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resonate.protocol import chain as chains
from resonate.protocol import wire
from resonate.protocol.requests import PromiseSearch, Response, ScheduleSearch, TaskSearch
from resonate.server.door import Door, Headers
from resonate.server.intake import Intake

MAX_ANSWERS: Final = 64 * 1024 * 1024
"""Bytes of answers after which the rest of a batch is refused: few bytes can ask for many."""

Outcome = tuple[str, int]
"""Kind and status of a request that has been answered."""

_MANY: Final = (PromiseSearch, TaskSearch, ScheduleSearch)  # each is answered by itself, so that its answer is counted
_FULL: Final = Response(503, error="The answers to this batch are too large. This request was not done; send it again")


async def answer_batch(body: bytes, headers: Headers, door: Door, intake: Intake) -> tuple[int, bytes, list[Outcome]]:
    """Answer the body of a batch: the HTTP status, the body of the answer, and what became of each request."""
    batch = wire.decode_batch(body)
    if isinstance(batch, wire.Refusal):
        return batch.status, batch.body, [(batch.kind, batch.status)]
    envelopes, chain = batch
    answers: list[bytes] = []
    outcomes: list[Outcome] = []
    size = 0
    for run in _runs([door.read(envelope, headers) for envelope in envelopes]):
        if isinstance(run, wire.Refusal):
            answers.append(run.body)
            outcomes.append((run.kind, run.status))
            broken = True
        else:
            if size <= MAX_ANSWERS:
                responses = await intake.ask([call.request for call in run], chain, run[0].now)
            else:
                responses = [_FULL] * (1 if chain else len(run))
            for call, response in zip(run, responses, strict=False):  # fewer answers where the chain broke
                answers.append(wire.encode(call, response))
                size += len(answers[-1])
                outcomes.append((call.kind, response.status))
            last = len(responses) - 1
            broken = len(responses) < len(run) or not chains.holds(run[last].request, responses[last])
        if chain and broken:
            break
    return 200, wire.encode_batch(answers), outcomes


def _runs(found: list[wire.Call | wire.Refusal]) -> Iterator[list[wire.Call] | wire.Refusal]:
    """What can be answered at once: requests in a row for one instant; refusals and searches stand alone."""
    run: list[wire.Call] = []
    for each in found:
        alone = isinstance(each, wire.Refusal) or isinstance(each.request, _MANY)
        if run and (isinstance(each, wire.Refusal) or alone or each.now != run[0].now):
            yield run
            run = []
        if isinstance(each, wire.Refusal):
            yield each
        elif alone:
            yield [each]
        else:
            run.append(each)
    if run:
        yield run
