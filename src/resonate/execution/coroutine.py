"""A generator behind one step, and the two ways a call can end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


class Returned:
    """A call ended with a value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Raised:
    """A call ended with an exception."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


Outcome = Returned | Raised

NOTHING = Returned(None)


def advance(generator: Generator[Any, Any, Any], resume: Outcome) -> tuple[Any, Outcome | None]:
    """Hand `resume` to the generator; return what it yields, or how it ended.

    An error is the same object for every waiter, so its traceback is reset before it is
    thrown: otherwise each replayed throw would make it longer.
    """
    try:
        if type(resume) is Returned:
            return generator.send(resume.value), None
        error = resume.error  # type: ignore[union-attr]
        return generator.throw(error.with_traceback(None)), None
    except StopIteration as stop:
        return None, Returned(stop.value)
    except BaseException as error:  # settled or re-raised by the driver, never dropped
        return None, Raised(error)
