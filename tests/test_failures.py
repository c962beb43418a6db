"""Failures on the wire: exceptions keep type, text, attributes, notes, cause and traceback text."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from resonate.encoders import Base64Encoder, CombinedEncoder, JsonEncoder, NoopEncoder
from resonate.errors import FunctionNotFound, RemoteError, ResonateCanceledError
from resonate.values import decode, decode_error, encode, encode_error

HEADER = "resonate:py"


class Declined(Exception):
    def __init__(self, amount: int, *, card: str) -> None:
        super().__init__(f"declined {amount}")
        self.amount = amount
        self.card = card


class Watched(Exception):
    runs = 0

    def __init__(self, *args: Any) -> None:
        type(self).runs += 1
        super().__init__(*args)

    def __new__(cls, *args: Any) -> Watched:
        cls.runs += 1
        return super().__new__(cls, *args)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Quiet(BaseException):
    pass


class TwoBases(KeyError, AttributeError):
    pass


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unshown:
    def __repr__(self) -> str:
        raise RuntimeError("not shown")


class NeedsFile(OSError):
    pass


def plain_of(data: str | None) -> Any:
    assert data is not None
    return json.loads(base64.b64decode(data))


def wire(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def both(error: BaseException) -> list[Exception]:
    """The exception as the live run sees it, and as a replay does."""
    data, headers, seen = encode_error(error)
    return [seen, decode_error(data, headers)]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("boom"),
        ValueError(),
        KeyError("k"),
        ValueError("a", (1, 2), {3}, date(2024, 1, 1)),
        OSError(2, "no such file"),
        OSError(2, "no such file", "a.txt"),
        OSError(18, "cross-device link", "a.txt", None, "b.txt"),
        NeedsFile(2, "no such file", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        StopIteration(5),
        Declined(5, card="x"),
        TwoBases("x"),
        ResonateCanceledError("p"),
        FunctionNotFound("f", 2, ("g",)),
        RemoteError("Other", "text", "Traceback"),
        json.JSONDecodeError("bad", "doc", 1),
    ],
    ids=repr,
)
def test_an_exception_keeps_type_text_args_and_attributes(error: Exception) -> None:
    attributes = dict(error.__dict__)

    for back in both(raised(error)):
        assert type(back) is type(error)
        assert str(back) == str(error)
        assert back.args == error.args
        assert attributes.items() <= back.__dict__.items()


def test_slots_of_builtin_exceptions_are_restored() -> None:
    for back in both(OSError(2, "x", "a", None, "b")):
        assert isinstance(back, FileNotFoundError)
        assert (back.errno, back.filename, back.filename2) == (2, "a", "b")
    for back in both(StopIteration(5)):
        assert isinstance(back, StopIteration)
        assert back.value == 5


class Nameless(AttributeError):
    @property
    def name(self) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


def test_an_attribute_that_cannot_be_read_does_not_hide_the_failure() -> None:
    for back in both(raised(Nameless("boom"))):
        assert type(back) is Nameless
        assert str(back) == "boom"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("no", name="a", path="b"),
        ModuleNotFoundError("no", name="a"),
        NameError("no", name="a"),
        AttributeError("no", name="a"),
    ],
    ids=repr,
)
def test_attributes_that_builtin_exceptions_keep_apart_are_restored(error: Any) -> None:
    for back in both(raised(error)):
        assert [getattr(back, key, None) for key in ("name", "path")] == [error.name, getattr(error, "path", None)]
        assert "name" not in back.__dict__


def test_rebuilding_an_exception_runs_none_of_its_code() -> None:
    data, headers, _ = encode_error(Watched("a"))
    runs = Watched.runs

    back = decode_error(data, headers)

    assert type(back) is Watched
    assert back.args == ("a",)
    assert Watched.runs == runs


def test_a_frozen_exception_keeps_its_cause_and_notes() -> None:
    for back in both(raised(Frozen(3), KeyError("k"))):
        assert isinstance(back, Frozen)
        assert back.code == 3
        assert isinstance(back.__cause__, KeyError)
        assert back.__notes__


def test_causes_are_kept_up_to_a_limit() -> None:
    error: BaseException = ValueError(0)
    for at in range(1, 20):
        error = raised(ValueError(at), error)

    for back in both(error):
        numbers = []
        link: BaseException | None = back
        while link is not None:
            numbers.append(link.args[0])
            link = link.__cause__
        assert numbers == list(range(19, 10, -1))


def test_exceptions_that_cause_each_other_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert [str(back) for back in both(first)] == ["first", "first"]


def test_a_group_with_an_event_of_the_process_in_it_keeps_its_members() -> None:
    group = BaseExceptionGroup("several", [KeyboardInterrupt("now"), ValueError("a")])

    for back in both(raised(group)):
        assert type(back) is ExceptionGroup
        assert back.message == "several"
        assert [repr(each) for each in back.exceptions] == [
            "RemoteError('KeyboardInterrupt', 'now')",
            "ValueError('a')",
        ]


def test_a_group_keeps_its_members() -> None:
    group = ExceptionGroup("several", [ValueError("a"), ExceptionGroup("inner", [Declined(1, card="x")])])

    for back in both(raised(group)):
        assert isinstance(back, ExceptionGroup)
        assert str(back.exceptions[0]) == "a"
        inner = back.exceptions[1]
        assert isinstance(inner, ExceptionGroup)
        assert isinstance(inner.exceptions[0], Declined)
        assert inner.exceptions[0].amount == 1


def test_the_original_traceback_is_kept_as_text_and_printed_with_the_exception() -> None:
    for back in both(raised(ValueError("boom"))):
        assert "in raised" in back.__dict__["remote_traceback"]
        assert "ValueError: boom" in back.__dict__["remote_traceback"]
        assert any("in raised" in note for note in back.__notes__)


def test_notes_are_kept_and_the_traceback_is_noted_once_however_often_it_travels() -> None:
    error = ValueError("boom")
    error.add_note("mind the gap")
    _, _, seen = encode_error(raised(error))

    for _ in range(3):
        _, _, seen = encode_error(raised(seen))

    _, headers, _ = encode_error(seen)
    assert headers is not None
    assert "in raised" not in headers[HEADER], "the traceback is in the data, once"
    assert seen.__notes__[0] == "mind the gap"
    assert len(seen.__notes__) == 2


def test_a_traceback_does_not_grow_without_end() -> None:
    _, _, seen = encode_error(raised(ValueError("boom")))
    for _ in range(300):
        _, _, seen = encode_error(raised(seen))

    assert len(seen.__dict__["remote_traceback"]) < 10_100
    assert seen.__dict__["remote_traceback"].startswith("... ")


def test_an_error_that_was_not_raised_again_keeps_the_traceback_it_had() -> None:
    _, _, first = encode_error(raised(ValueError("boom")))
    _, _, second = encode_error(first)

    assert second.__dict__["remote_traceback"] == first.__dict__["remote_traceback"]


def test_the_data_is_the_form_of_other_languages() -> None:
    data, headers, _ = encode_error(raised(Declined(5, card="x")))
    plain = plain_of(data)

    assert set(plain) == {"__type", "message", "name", "stack"}
    assert (plain["__type"], plain["message"], plain["name"]) == ("error", "declined 5", "Declined")
    assert headers is not None
    assert set(headers) == {HEADER}
    assert "pickle" not in headers[HEADER]


def test_what_cannot_be_carried_of_an_exception_is_left_out_or_shown() -> None:
    error = Declined(5, card="x")
    error.args = ("declined", threading.Lock(), Unshown())
    error.connection = threading.Lock()  # type: ignore[attr-defined]

    for back in both(error):
        assert isinstance(back, Declined)
        assert back.amount == 5
        assert not hasattr(back, "connection")
        assert back.args[0] == "declined"
        assert "lock" in back.args[1]
        assert back.args[2] == "<Unshown>"


def test_an_exception_whose_text_cannot_be_made_is_still_stored() -> None:
    for back in both(Silent()):
        assert type(back) is Silent
        assert "text cannot be made" in back.__dict__["remote_traceback"]


def test_text_that_is_no_unicode_is_stored_as_it_can_be() -> None:
    for back in both(ValueError("\ud800")):
        assert type(back) is ValueError
        assert str(back) == "\ud800"
    for back in both(ValueError("\ud83d\ude00")):
        assert type(back) is RemoteError
        assert (back.type_name, back.message) == ("ValueError", "??")


def test_a_class_that_is_not_here_is_a_stand_in_with_name_text_and_traceback() -> None:
    class Local(Exception):
        pass

    for back in both(raised(Local("boom"), KeyError("k"))):
        assert type(back) is RemoteError
        assert (back.type_name, back.message) == ("Local", "boom")
        assert "in raised" in back.traceback_text


def test_what_is_no_exception_class_is_never_built() -> None:
    data = wire({"__type": "error", "message": "boom", "name": "X", "stack": ""})
    for name in ("builtins:dict", "os:system", "no.such:Thing", f"{__name__}:Quiet", "builtins:KeyboardInterrupt"):
        back = decode_error(data, {HEADER: json.dumps(["error", {"class": name, "args": [["x", None]]}])})
        assert isinstance(back, RemoteError)
        assert back.message == "boom"


def test_args_that_the_builtin_refuses_give_the_stand_in() -> None:
    data = wire({"__type": "error", "message": "boom", "name": "X", "stack": ""})
    header = {HEADER: json.dumps(["error", {"class": "builtins:UnicodeDecodeError", "args": [["x", None]]}])}

    assert type(decode_error(data, header)) is RemoteError


@pytest.mark.parametrize("error", [Quiet("x"), KeyboardInterrupt(), SystemExit(3)])
def test_a_base_exception_comes_back_as_an_exception(error: BaseException) -> None:
    for back in both(error):
        assert type(back) is RemoteError
        assert back.type_name == type(error).__name__


def test_exceptions_are_values_too() -> None:
    data, headers = encode([ValueError("a"), None], "result of f")
    back = decode(data, headers)

    assert type(back[0]) is ValueError
    assert str(back[0]) == "a"


# ---- from outside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "None"),
        ("", "None"),
        (wire(None), "None"),
        (wire("boom"), "boom"),
        (wire({"__error__": "boom"}), "boom"),
        (wire(5), "5"),
        (wire({"a": 1}), "{'a': 1}"),
        (wire({"__error__": "boom", "a": 1}), "{'__error__': 'boom', 'a': 1}"),
        (base64.b64encode(b"plain text").decode(), "plain text"),
        (base64.b64encode(b"\xff{").decode(), "�{"),
        ("not base64!", "not base64!"),
    ],
)
def test_any_value_of_a_rejection_is_the_content_of_an_exception(data: str | None, text: str) -> None:
    error = decode_error(data, None)

    assert type(error) is Exception
    assert str(error) == text


def test_the_value_itself_is_the_argument() -> None:
    assert decode_error(None, None).args == (None,)
    assert decode_error(wire({"a": 1}), None).args == ({"a": 1},)


def test_an_error_of_another_language_keeps_name_message_and_stack() -> None:
    error = decode_error(wire({"__type": "error", "name": "TypeError", "message": "x is y", "stack": "at z"}), None)

    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message, error.traceback_text) == ("TypeError", "x is y", "at z")


def test_an_error_with_less_than_usual_is_read_too() -> None:
    error = decode_error(wire({"__type": "error"}), None)

    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("Error", "")


def test_an_aggregate_error_is_a_group() -> None:
    errors = [{"__type": "error", "name": "E", "message": "a"}, "b"]
    group = decode_error(wire({"__type": "aggregate_error", "message": "two", "errors": errors}), None)

    assert isinstance(group, ExceptionGroup)
    assert [str(each) for each in group.exceptions] == ["E: a", "b"]
    assert type(decode_error(wire({"__type": "aggregate_error", "errors": []}), None)) is RemoteError


def test_a_pickle_is_never_read() -> None:
    data = wire({"__type": "error", "message": "boom", "__py_pickle": "gASVBQAAAAAAAACMAWGULg=="})

    assert str(decode_error(data, None)) == "boom"


@pytest.mark.parametrize("tree", ["nonsense", '"unknown"', '["error",5]', '["error",{"cause":[1]}]'])
def test_a_bad_type_header_leaves_the_plain_form(tree: str) -> None:
    error = decode_error(wire({"__type": "error", "message": "boom", "name": "X"}), {HEADER: tree})

    assert isinstance(error, RemoteError)
    assert error.message == "boom"


# ---- the user's own encoder ----------------------------------------------------------------------------------


class Picky:
    def encode(self, obj: Any) -> str | None:
        if isinstance(obj, BaseException):
            raise TypeError("no exceptions")
        return json.dumps(obj)

    def decode(self, obj: str | None) -> Any:
        return None if obj is None else json.loads(obj)


class Forgetful(Picky):
    def encode(self, obj: Any) -> str | None:
        return None


@pytest.mark.parametrize("encoder", [Forgetful(), NoopEncoder()])
def test_an_encoder_that_keeps_nothing_of_a_failure_does_not_hide_it(encoder: Any) -> None:
    data, headers, seen = encode_error(ValueError("boom"), encoder)

    for back in (seen, decode_error(data, headers, encoder)):
        assert "boom" in str(back)


class Refusing(Picky):
    def encode(self, obj: Any) -> str | None:
        raise TypeError("nothing at all")


@pytest.mark.parametrize("encoder", [JsonEncoder(), CombinedEncoder(JsonEncoder(), Base64Encoder()), Picky()])
def test_an_encoder_carries_the_text_of_an_exception(encoder: Any) -> None:
    data, headers, seen = encode_error(ValueError("boom"), encoder)

    for back in (seen, decode_error(data, headers, encoder)):
        assert type(back) is Exception
        assert str(back) == "boom"
    assert headers is None


def test_if_the_encoder_refuses_any_failure_our_form_is_written() -> None:
    data, headers, seen = encode_error(ValueError("boom"), Refusing())

    assert type(seen) is ValueError
    assert plain_of(data)["message"] == "boom"
    assert headers is not None


def test_what_the_encoder_cannot_read_is_read_in_our_form() -> None:
    data, headers, _ = encode_error(ValueError("boom"))
    encoder = CombinedEncoder(JsonEncoder(), Base64Encoder())

    assert type(decode_error(data, headers, encoder)) is ValueError
    assert str(decode_error(wire("text"), None, encoder)) == "text"
