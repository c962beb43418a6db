"""Which promises are kept and deleted together, and when."""

from __future__ import annotations

import pytest

from resonate.protocol.records import EMPTY, Promise, PromiseState
from resonate.protocol.trees import holds_back, is_below, is_root, over_at, ranges, stray_of


def promise(
    id: str, state: PromiseState = "resolved", *, parent: str | None = None, origin: str | None = None, **tags: str
) -> Promise:
    named = {} if parent is None else {"resonate:parent": parent}
    named |= {} if origin is None else {"resonate:origin": origin}
    named |= {f"resonate:{name}": value for name, value in tags.items()}
    return Promise(id, state, EMPTY, EMPTY, named, 100, 0, None if state == "pending" else 50)


@pytest.mark.parametrize(
    ("id", "ancestor", "below"),
    [
        ("a:1", "a", True),
        ("a:1.2", "a", True),
        ("a:1.2", "a:1", True),
        ("a:1:2", "a:1", True),
        ("a:10", "a:1", False),
        ("a", "a", False),
        ("a.1", "a", False),
        ("ab", "a", False),
    ],
)
def test_an_id_says_what_it_is_below(id: str, ancestor: str, below: bool) -> None:
    assert is_below(id, ancestor) is below
    assert any(first < id < end for first, end in ranges(ancestor)) is below


@pytest.mark.parametrize(
    ("given", "above"),
    [
        (promise("a"), None),
        (promise("a", parent="a"), None),
        (promise("a:1", parent="a"), None),
        (promise("a:1.1", parent="a:1", origin="a"), None),
        (promise("mine", parent="a", origin="a"), "a"),
        (promise("b:1", parent="b", origin="a"), "b"),
        (promise("a.1", parent="a", origin="a"), "a"),
    ],
    ids=lambda value: getattr(value, "id", str(value)),
)
def test_a_promise_whose_id_does_not_say_what_it_is_below_is_a_stray_of_its_parent(
    given: Promise, above: str | None
) -> None:
    assert stray_of(given) == above


def test_a_root_is_over_when_it_was_settled_or_when_only_a_read_notices_its_deadline() -> None:
    assert over_at(promise("a")) == 50
    assert over_at(promise("a", "pending")) == 100
    assert over_at(promise("a", "pending", target="poll://any@g")) is None
    assert over_at(promise("a:1", parent="a")) is None
    assert is_root(promise("a"))
    assert not is_root(promise("a:1", parent="a"))


def test_what_is_live_and_roots_that_ended_lately_hold_their_tree_back() -> None:
    assert holds_back(promise("a:1", "pending", parent="a"), before=1000, now=99)
    assert holds_back(promise("a"), before=50, now=1000)
    assert not holds_back(promise("a"), before=51, now=1000)
    assert not holds_back(promise("a:1", parent="a"), before=10, now=1000)
    assert not holds_back(promise("a", "pending"), before=101, now=1000), "its deadline has passed"
