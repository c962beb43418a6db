"""The error tree: its shape, its texts, and that every error survives pickling."""

from __future__ import annotations

import copy
import pickle

import pytest

from resonate import errors
from resonate.errors import (
    EncodeError,
    ExecutionStopped,
    FunctionNotFound,
    IdTooLong,
    NotACommand,
    RemoteError,
    ResonateError,
    ResonateStoreError,
    ResonateTimedoutError,
    UsageError,
)

EVERY: list[BaseException] = [
    errors.ResonateError("no", 7, {"a": 1}),
    errors.ResonateStoreError("no", 40400),
    errors.StorageUnavailable("gone"),
    errors.StorageUnusable("damaged"),
    errors.OutcomeUnknown("lost"),
    errors.ResonateCanceledError("p"),
    errors.ResonateTimedoutError("p", 1_000_000_000.5),
    errors.ResonateShutdownError("stopped"),
    errors.UsageError("no"),
    errors.FunctionNotFound("f", 2, ("g",)),
    errors.InvalidId("", "empty"),
    errors.IdConflict("p", "f(1)", "g(1)"),
    errors.NotACommand(print, "a.py:3"),
    errors.ForgottenCommand("ctx.run(f)", "a.py:3"),
    errors.InsideEventLoop("Resonate.run", "await r.aio.run(...)"),
    errors.EncodeError("result[0]", "lock", "result of f"),
    errors.CapacityError("full"),
    errors.TransactionTooLong("app.db", 5),
    errors.UnfitArguments("f(ctx): takes no more"),
    errors.UnfitValue("a class is no function"),
    errors.ForkedClient("forked"),
    errors.ClientStopped("stopped"),
    errors.NotSupported("search"),
    errors.DecodeError("bad"),
    errors.NonDeterminismError("p:1", "f at a.py:1", "g at a.py:2"),
    errors.ExecutionHalted("p", "differs"),
    errors.IdTooLong("p" * 3000, 9),
    errors.RemoteError("MyError", "boom", "Traceback"),
    errors.ExecutionStopped("the lease was lost"),
]


def test_the_list_above_holds_every_public_error() -> None:
    assert {type(error).__name__ for error in EVERY} == set(errors.__all__)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_and_copying(error: BaseException) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.__dict__ == error.__dict__


def test_a_subclass_with_its_own_constructor_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(_Odd(1, b=2))).b == 2


class _Odd(UsageError):
    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"{a}{b}")
        self.b = b


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (errors.FunctionNotFound, ValueError),
        (errors.UnfitArguments, TypeError),
        (errors.UnfitValue, ValueError),
        (errors.InvalidId, ValueError),
        (errors.NotACommand, TypeError),
        (errors.EncodeError, TypeError),
        (errors.InsideEventLoop, RuntimeError),
        (errors.ForkedClient, RuntimeError),
        (errors.ClientStopped, RuntimeError),
        (errors.DecodeError, ValueError),
        (errors.StorageUnavailable, ResonateStoreError),
        (errors.StorageUnusable, ResonateStoreError),
        (errors.OutcomeUnknown, ResonateStoreError),
    ],
)
def test_an_error_is_also_what_programs_caught_before(cls: type, base: type) -> None:
    assert issubclass(cls, base)
    assert issubclass(cls, ResonateError)


def test_an_except_clause_for_exceptions_lets_the_stop_of_an_execution_pass() -> None:
    assert not issubclass(ExecutionStopped, Exception)
    assert "except BaseException" in str(ExecutionStopped("shut down"))
    assert "shut down" in str(ExecutionStopped("shut down"))


@pytest.mark.parametrize(
    ("code", "number", "text"), [(404, 100.404, "[100.40400] no"), (40399, 100.40399, "[100.40399] no")]
)
def test_a_store_error_prints_the_code_of_the_store_behind_100(code: int, number: float, text: str) -> None:
    error = ResonateStoreError("no", code)

    assert error.code == number
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ResonateCanceledError("p"), "[200.00000]"),
        (errors.ResonateTimedoutError("p", 1.0), "[201.00000]"),
        (errors.ResonateShutdownError("x"), "[300.00000]"),
        (errors.StorageUnavailable("x"), "[100.00000]"),
    ],
)
def test_the_first_generation_of_errors_prints_its_code(error: ResonateError, code: str) -> None:
    assert str(error).startswith(code)


def test_details_are_printed_below_the_message() -> None:
    assert str(ResonateError("no", 1, {"a": 1})) == '[001.00000] no\n{\n  "a": 1\n}'
    assert str(ResonateError("no", 1, {1, 2})).startswith("[001.00000] no\n")
    cycle: list[object] = []
    cycle.append(cycle)
    assert str(ResonateError("no", 1, cycle)) == "[001.00000] no\n[[...]]"


def test_a_timeout_names_the_promise_and_its_deadline() -> None:
    error = ResonateTimedoutError("order-7", 1_000_000_000.5)

    assert "'order-7'" in str(error)
    assert "2001-09-09T01:46:40.500Z" in str(error)
    assert (error.promise_id, error.timeout) == ("order-7", 1_000_000_000.5)


def test_a_deadline_beyond_the_calendar_is_printed_in_seconds() -> None:
    assert "1e+30 s after the epoch" in str(ResonateTimedoutError("p", 1e30))


def test_an_unknown_function_is_named_with_its_version_only_if_one_was_asked_for() -> None:
    assert "function f not found in registry (registered here: none)" in str(FunctionNotFound("f", 0))
    assert "function f version 2 not found in registry (registered here: g)" in str(FunctionNotFound("f", 2, ("g",)))


def test_a_wrong_yield_shows_value_type_and_place_and_what_is_right() -> None:
    text = str(NotACommand([1], "shop.py:12"))

    assert text.startswith("shop.py:12 yields [1] (list), which is no durable call")
    assert "ctx.run" in text


def test_long_values_are_shortened_and_values_that_cannot_be_shown_are_named() -> None:
    assert "..." in str(NotACommand("x" * 500, "a.py:1"))
    assert len(str(NotACommand("x" * 500, "a.py:1"))) < 500
    assert "_Silent" in str(NotACommand(_Silent(), "a.py:1"))
    assert len(str(IdTooLong("p" * 5000, 40))) < 300
    assert "5,000 bytes at depth 40" in str(IdTooLong("p" * 5000, 40))


class _Silent:
    def __repr__(self) -> str:
        raise RuntimeError("not shown")


def test_a_value_that_cannot_be_stored_is_named_by_its_path() -> None:
    error = EncodeError('result["items"][3]', "_thread.lock", "result of checkout")

    assert str(error).startswith('result["items"][3]: _thread.lock cannot be stored (result of checkout)')


def test_the_stand_in_for_a_foreign_exception_has_its_text_and_name() -> None:
    error = RemoteError("MyError", "boom", "Traceback ...")

    assert str(error) == "MyError: boom"
    assert str(RemoteError("MyError", "")) == "MyError"
    assert str(RemoteError("Error", "not now")) == "not now"
    assert error.message == "boom"
    assert repr(error) == "RemoteError('MyError', 'boom')"
    assert error.traceback_text == "Traceback ..."


def test_both_sides_of_a_conflict_are_shown() -> None:
    for error in (errors.IdConflict("p", "f(1)", "g(2)"), errors.NonDeterminismError("p", "f(1)", "g(2)")):
        assert "recorded: f(1)" in str(error)
        assert "asked:    g(2)" in str(error)
        assert "'p'" in str(error)
