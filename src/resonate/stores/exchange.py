"""One conversation with the service, written once for callers that block and callers that await.

A method of a low-level client is a generator: it yields the requests it wants answered and
is sent the answers, and returns its result. `run` and `arun` carry it over a network. A
refusal of the service becomes an error here, with the store codes that programs know.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

from msgspec import Struct

from resonate.errors import InvalidId, NotSupported, ResonateStoreError
from resonate.network.base import Network
from resonate.protocol import validation
from resonate.protocol.requests import Request, Response
from resonate.storable import UNSTORABLE, is_storable, is_unicode

R = TypeVar("R")

Exchange = Generator[Sequence[Request], Sequence[Response], R]
"""Yields requests, is sent as many answers, returns an R."""

TIMED_OUT: Final = 40303
NOT_CLAIMABLE: Final = 40305
REFUSED: Final = 40399
NO_PROMISE: Final = 40400
NO_TASK: Final = 40403
NO_SCHEDULE: Final = 40403


def run(network: Network, exchange: Exchange[R]) -> R:
    """Carry out `exchange`, blocking."""
    try:
        requests = next(exchange)
        while True:
            requests = exchange.send(network.send(_plain(requests)))
    except StopIteration as end:
        result: R = end.value
        return result


async def arun(network: Network, exchange: Exchange[R]) -> R:
    """Carry out `exchange` without blocking the event loop."""
    try:
        requests = next(exchange)
        while True:
            requests = exchange.send(await network.asend(_plain(requests)))
    except StopIteration as end:
        result: R = end.value
        return result


def _plain(given: Any) -> Any:
    """`given` with each text in it a `str` and no subclass, such as `ctx.promise().id`: those cannot be written."""
    if isinstance(given, str):
        return str.__str__(given)
    if isinstance(given, dict):
        return {_plain(key): _plain(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_plain(each) for each in given)
    if isinstance(given, Struct):
        return type(given)(*(_plain(getattr(given, name)) for name in given.__struct_fields__))
    return given


def checked(request: Request) -> Request:
    """`request`, if it breaks no field rule.

    Raises:
        InvalidId: an id that no promise can have.
        ValueError: any other value out of its range; the text names the field.
    """
    problem = validation.check(request)
    if problem is None:
        return request
    if problem.startswith("id must "):
        raise InvalidId(getattr(request, "id", ""), problem)
    raise ValueError(problem)


def refusal(answer: Response, code: int, what: str) -> Exception:
    """The error for an answer that is none: `code` if it is the expected refusal.

    Args:
        answer: what the service said; its status is 400 or above.
        code: the store code for what this request is usually refused for.
        what: what was asked, for a service that gives no reason.
    """
    text = answer.error or f"{what} was refused with status {answer.status}"
    if answer.status == 501:
        return NotSupported(f"{what}: {text}")
    if answer.status in (404, 409):
        return ResonateStoreError(text, code)
    return ResonateStoreError(text, answer.status * 100)


def check_text(**given: object) -> None:
    """Refuse what is no `str`.

    Raises:
        TypeError: names the parameter.
    """
    for name, value in given.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} must be `str`, got {type(value).__name__}")


def check_optional_text(**given: object) -> None:
    """Refuse what is neither `str` nor None, and text that is none.

    Raises:
        TypeError, ValueError: names the parameter.
    """
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, str):
            hint = "; encode it first: json.dumps(value)" if name.endswith("data") else ""
            raise TypeError(f"{name} must be `str | None`, got {type(value).__name__}{hint}")
        if name == "ikey" and not is_storable(value):
            raise ValueError(f"{name} {value[:80]!r} {UNSTORABLE}")
        if not is_unicode(value):
            raise ValueError(f"{name} {value[:80]!r} holds a lone surrogate, which is no character")


def check_whole(**given: object) -> None:
    """Refuse what is no `int`.

    Raises:
        TypeError: names the parameter.
    """
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be `int` (milliseconds), got {type(value).__name__}")


def check_texts(**given: object) -> None:
    """Refuse what is neither None nor a dict of text to text.

    Raises:
        TypeError, ValueError: names the parameter, and the key whose value is wrong.
    """
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, dict):
            raise TypeError(f"{name} must be `dict[str, str] | None`, got {type(value).__name__}")
        entries: dict[Any, Any] = value
        for key, entry in entries.items():
            if not isinstance(key, str) or not isinstance(entry, str):
                raise TypeError(f"{name}[{key!r}]: keys and values must be `str`, got {type(entry).__name__}")
            if not is_storable(key + entry):
                raise ValueError(f"{name}[{key!r}] {UNSTORABLE}")
