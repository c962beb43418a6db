"""Everything below a promise, asked for page by page, of services that know our request and of those that do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from resonate.errors import ResonateStoreError
from resonate.protocol.descent import PAGE, descend
from resonate.protocol.listing import function_of
from resonate.protocol.records import EMPTY, Promise, Value
from resonate.protocol.requests import (
    ExecutionCount,
    ExecutionFailures,
    ExecutionSearch,
    ExecutionTree,
    PromiseSearch,
    Request,
    Response,
)
from tests.protocol.bench import new_service

Answers = Callable[[Any], Response]


def promise(id: str, **tags: str) -> Promise:
    return Promise(
        id, "resolved", EMPTY, EMPTY, {f"resonate:{name}": value for name, value in tags.items()}, 100, 0, 50
    )


def ids(answers: Answers, id: str = "a") -> list[list[str]]:
    """The pages below `id`, by their ids."""

    def send(requests: Sequence[Request]) -> list[Response]:
        return [answers(request) for request in requests]

    return [[found.id for found in page] for page in descend(send, id, "a")]


def test_a_long_tree_comes_in_pages_each_promise_once() -> None:
    pages = {
        None: Response(200, promises=[promise("a"), promise("a:1", parent="a")], cursor="a:1"),
        "a:1": Response(200, promises=[promise("a:1", parent="a"), promise("a:2", parent="a")]),
    }

    assert ids(lambda asked: pages[asked.cursor]) == [["a", "a:1"], ["a:2"]]


def test_what_is_below_a_call_with_an_id_of_its_own_is_asked_for() -> None:
    trees = {
        "a": [promise("a"), promise("mine", parent="a", origin="a"), promise("else", parent="nowhere", origin="a")],
        "mine": [promise("mine", parent="a", origin="a"), promise("mine.1", parent="mine", origin="a")],
        "mine.1": [],
    }

    assert ids(lambda asked: Response(200, promises=trees[asked.id])) == [["a", "mine"], ["mine.1"], []]


def test_a_service_without_our_request_is_searched() -> None:
    pages = {
        None: Response(200, promises=[promise("a")], cursor="next"),
        "next": Response(200, promises=[promise("a:1", parent="a")]),
    }

    def answers(asked: Request) -> Response:
        if isinstance(asked, ExecutionTree):
            return Response(501, error="unknown kind")
        assert isinstance(asked, PromiseSearch)
        assert (asked.tags, asked.limit) == ({"resonate:origin": "a"}, PAGE)
        return pages[asked.cursor]

    assert ids(answers) == [["a"], ["a:1"]]


def test_a_service_that_can_neither_list_nor_search_is_an_error() -> None:
    with pytest.raises(ResonateStoreError, match=r"promises cannot be searched for here: no"):
        ids(lambda asked: Response(501, error="no"))


def test_a_service_that_refuses_is_an_error() -> None:
    with pytest.raises(ResonateStoreError, match=r"a cannot be read: not yours"):
        ids(lambda asked: Response(403, error="not yours"))


def test_a_service_bound_to_the_specification_does_not_know_our_searches() -> None:
    service = new_service(strict=True)
    requests: list[Request] = [ExecutionSearch(), ExecutionCount(), ExecutionTree("a"), ExecutionFailures()]

    assert [answer.status for answer in service.handle(requests)] == [501] * 4


@pytest.mark.parametrize("tag", ["", "run", "run|1|2"])
def test_a_call_tag_that_says_nothing_leaves_the_name_to_the_parameter(tag: str) -> None:
    found = promise("a", **{"py:call": tag})

    assert function_of(found) == ""
    named = Promise("a", "pending", Value(None, "eyJmdW5jIjoiZiJ9"), EMPTY, found.tags, 100, 0)
    assert function_of(named) == "f"
