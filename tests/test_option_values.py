"""Options: merging, checks and defaults, field by field."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from resonate.encoders import JsonEncoder
from resonate.errors import InvalidId
from resonate.options import Options
from resonate.retry_policies import Constant, Exponential, Never

NONE = Options()


def test_none_leaves_an_option_as_it_is() -> None:
    options = NONE.merged(timeout=5, target="a")

    assert options.merged(timeout=None, target=None) is options
    assert options.merged(timeout=6).target == "a"


def test_merging_changes_only_the_copy() -> None:
    NONE.merged(timeout=5)

    assert NONE.timeout is None


def test_tags_are_replaced_as_a_whole_and_copied() -> None:
    tags = {"a": "1"}
    options = NONE.merged(tags=tags).merged(tags={"b": "2"})
    first = NONE.merged(tags=tags)
    tags["c"] = "3"

    assert options.tags == {"b": "2"}
    assert first.tags == {"a": "1"}


def test_a_timeout_is_kept_in_seconds() -> None:
    assert NONE.merged(timeout=3).timeout == 3.0
    assert NONE.merged(timeout=timedelta(minutes=2)).timeout == 120.0
    assert NONE.merged(timeout=0).timeout == 0.0


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("encoder", object(), TypeError, "encoder must have encode"),
        ("idempotency_key", 1, TypeError, "idempotency_key must be"),
        ("idempotency_key", "\ud800", ValueError, "holds a NUL or a lone surrogate"),
        ("idempotency_key", "a\0", ValueError, "holds a NUL or a lone surrogate"),
        ("retry_policy", 1, TypeError, "retry_policy must be"),
        ("retry_policy", Never, TypeError, r"write Never\(\)"),
        ("tags", [("a", "b")], TypeError, "tags must be"),
        ("tags", {"a": 1}, TypeError, "tags must be"),
        ("tags", {1: "a"}, TypeError, "tags must be"),
        ("target", 1, TypeError, "target must be `str`"),
        ("target", "", ValueError, "target must name"),
        ("timeout", "1", TypeError, "timeout must be"),
        ("timeout", True, TypeError, "timeout must be"),
        ("timeout", -1, ValueError, "timeout must be greater than or equal to zero"),
        ("timeout", math.inf, ValueError, "timeout must be at most .* got inf"),
        ("timeout", math.nan, ValueError, "timeout must be a number"),
        ("timeout", 10**400, ValueError, "timeout must be at most .* got a number of over 50 digits"),
        ("timeout", -(10**500), ValueError, "timeout must be greater than or equal to zero"),
        ("version", "1", TypeError, "version must be `int`"),
        ("version", True, TypeError, "version must be `int`"),
        ("version", -1, ValueError, "version must be greater than or equal to zero"),
        ("durable", 1, TypeError, "durable must be `bool`"),
        ("check_args", "no", TypeError, "check_args must be `bool`"),
        ("id", 1, TypeError, "id must be `str`"),
        ("id", "", InvalidId, "holds no NUL"),
        ("id", "a\0b", InvalidId, "holds no NUL"),
        ("id", "\ud800", InvalidId, "text that UTF-8 can write"),
        ("non_retryable_exceptions", 1, TypeError, "non_retryable_exceptions must be"),
        ("non_retryable_exceptions", (int,), TypeError, "non_retryable_exceptions must be"),
        ("non_retryable_exceptions", int, TypeError, "got the class int"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        NONE.merged(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder", JsonEncoder()),
        ("idempotency_key", "key"),
        ("idempotency_key", str.upper),
        ("retry_policy", Constant()),
        ("retry_policy", lambda func: Never()),
        ("version", 0),
        ("version", 3),
        ("durable", False),
        ("check_args", False),
        ("id", "child"),
        ("non_retryable_exceptions", (ValueError, KeyError)),
    ],
)
def test_a_right_value_is_kept(name: str, value: Any) -> None:
    assert getattr(NONE.merged(**{name: value}), name) == value


def test_one_exception_class_or_a_list_of_them_becomes_a_tuple() -> None:
    assert NONE.merged(non_retryable_exceptions=ValueError).non_retryable_exceptions == (ValueError,)
    assert NONE.merged(non_retryable_exceptions=[ValueError]).non_retryable_exceptions == (ValueError,)


@pytest.mark.parametrize("name", ["durable", "id", "non_retryable_exceptions"])
def test_options_of_commands_are_not_offered_on_the_client(name: str) -> None:
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}': here it takes check_args, encoder"):
        NONE.merged(Options.CLIENT, **{name: "x"})


def test_an_unknown_option_is_refused_like_any_unknown_parameter() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'$"):
        NONE.merged(Options.CLIENT, colour="red")


def test_each_kind_of_call_has_the_options_of_the_contract() -> None:
    client = {"encoder", "idempotency_key", "retry_policy", "tags", "target", "timeout", "version"}
    local = {
        "durable",
        "encoder",
        "id",
        "idempotency_key",
        "non_retryable_exceptions",
        "retry_policy",
        "tags",
        "timeout",
    }
    remote = {"encoder", "id", "idempotency_key", "tags", "target", "timeout", "version"}

    assert client | {"check_args"} == Options.CLIENT
    assert local | {"check_args"} == Options.LOCAL
    assert remote | {"check_args"} == Options.REMOTE
    assert {"id"} == Options.SLEEP
    assert set(Options.__struct_fields__) == Options.ANY


def test_the_key_of_a_promise_is_its_id_unless_one_is_given() -> None:
    assert NONE.key_for("p") == "p"
    assert NONE.merged(idempotency_key="k").key_for("p") == "k"
    assert NONE.merged(idempotency_key=lambda id: f"{id}!").key_for("p") == "p!"
    with pytest.raises(TypeError, match="gave int for 'p'"):
        NONE.merged(idempotency_key=len).key_for("p")
    with pytest.raises(ValueError, match=r"gave for 'p', '.ud800', holds a NUL or a lone surrogate"):
        NONE.merged(idempotency_key=lambda id: "\ud800").key_for("p")


class Text(str):
    """Text of a class of the program's own."""

    __slots__ = ()


def test_text_of_any_class_is_kept_as_plain_text() -> None:
    text = Text("x")
    options = NONE.merged(id=text, target=text, tags={text: text}, idempotency_key=text)
    [(name, tag)] = (options.tags or {}).items()

    kept = [options.id, options.target, name, tag, options.key_for("p"), NONE.merged(idempotency_key=Text).key_for("p")]
    assert [type(each) for each in kept] == [str] * 6


def test_plain_functions_are_retried_and_generators_are_not() -> None:
    assert NONE.policy_for(None, "plain") == Exponential()
    assert NONE.policy_for(None, "generator") == Never()


def test_an_async_function_is_retried_if_it_made_no_durable_call() -> None:
    assert NONE.policy_for(None, "async") == Never()
    assert NONE.policy_for(None, "async", leaf=True) == Exponential()


def test_a_policy_may_depend_on_the_function() -> None:
    def choose(func: Any) -> Constant:
        return Constant(func.delay)

    class Func:
        delay = 3

    assert NONE.merged(retry_policy=choose).policy_for(Func, "generator") == Constant(3)
    assert NONE.merged(retry_policy=Constant(1)).policy_for(Func, "plain") == Constant(1)


def test_a_function_that_gives_no_policy_is_named() -> None:
    with pytest.raises(TypeError, match="gave int, which has no next"):
        NONE.merged(retry_policy=lambda func: 1).policy_for(None, "plain")
