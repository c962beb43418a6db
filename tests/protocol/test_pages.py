"""Where a page of executions ended, told to those who may know only some ids; and what a request is about."""

from __future__ import annotations

from typing import Any

import pytest

from resonate.protocol.footprint import subject
from resonate.protocol.listing import Wanted
from resonate.protocol.machine import HANDLERS
from resonate.protocol.requests import (
    ExecutionSearch,
    PromiseCreate,
    PromiseGet,
    PromiseRegisterListener,
    Request,
    TaskCreate,
)
from tests.protocol.bench import new_service


@pytest.mark.parametrize(
    ("ended_at", "cursor"), [("bob.1", "5.bob.1"), ("ann.9", "5.bob."), ("zoe.1", "5.bob.\U0010ffff")]
)
def test_a_cursor_names_no_id_that_whoever_asks_may_not_know(ended_at: str, cursor: str) -> None:
    class Source:
        def listing(self) -> Source:
            return self

        def search(self, *_: object) -> tuple[list[Any], tuple[int, str]]:
            return [], (5, ended_at)

    search: Any = HANDLERS[ExecutionSearch]
    answer, effects = search(Source(), ExecutionSearch(Wanted(prefix="bob.")), 0, new_service().rules)

    assert (answer.cursor, effects) == (cursor, ())


def test_a_request_is_about_the_promise_that_it_names() -> None:
    create = PromiseCreate("a", 100)

    requests: list[Request] = [
        create,
        PromiseGet("a"),
        TaskCreate("me", 100, create),
        PromiseRegisterListener("a", "poll://any@g"),
    ]

    assert [subject(request) for request in requests] == ["a"] * 4
