"""Values on the wire: what is carried, in which form, and what is refused."""

from __future__ import annotations

import base64
import enum
import json
import math
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from resonate.encoders import Base64Encoder, CombinedEncoder, HeaderEncoder, JsonEncoder
from resonate.errors import DecodeError, EncodeError
from resonate.values import carry, decode, encode, fitting
from tests.homes import named

HEADER = "resonate:py"
T = TypeVar("T")


@dataclass
class Line:
    sku: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Order:
    id: int
    lines: tuple[Line, ...] = ()
    extra: Any = None


@dataclass
class Computed:
    a: int
    double: int = field(init=False)
    made = 0

    def __post_init__(self) -> None:
        type(self).made += 1
        self.double = 2 * self.a


class Point(msgspec.Struct, frozen=True, rename="camel", tag=True):
    x_axis: int
    y_axis: Any = None


class Model(pydantic.BaseModel):
    name: str
    when: datetime
    tags: set[str] = set()


class Aliased(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")


class Secret(pydantic.BaseModel):
    password: pydantic.SecretStr


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Words(str):
    pass


class Names(list[str]):
    def append(self, item: str) -> None:
        raise AssertionError("no method of the class is called")


class Table(dict[str, int]):
    pass


class Tagged(list[int]):
    __slots__ = ("tag",)


class Sorted(OrderedDict[str, int]):
    pass


@dataclass
class Mixed(dict[str, int]):
    a: int = 1


class Once(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError("too small")


class Marked(dict[str, int]):
    def __init__(self) -> None:
        super().__init__()
        self.mark = 1


class Slotted(str):
    __slots__ = ()


class Foreign:
    pass


Pair = namedtuple("Pair", "left right")


def text_of(data: str | None) -> str:
    assert data is not None
    return base64.b64decode(data).decode()


def plain_of(data: str | None) -> Any:
    return json.loads(text_of(data))


def wire(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


# ---- what comes back -----------------------------------------------------------------------------------

CARRIED: list[Any] = [
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    -0.0,
    1e300,
    "",
    "text é \U0001f600",
    [],
    {},
    [1, [2, {"a": None}]],
    (1, 2),
    ((), [()]),
    {1, 2},
    frozenset({(1, 2)}),
    {frozenset({1})},
    {"a", 1},
    b"\x00\xff",
    bytearray(b"ab"),
    {1: "a", 2: (3,)},
    {(1, 2): "x"},
    {1: "a", "1": "b"},
    {None: 1, True: 2},
    {"*": (1,), "0": {2}},
    math.inf,
    -math.inf,
    [1.0, math.inf],
    "\ud800",
    complex(1, -2),
    datetime(2024, 2, 29, 12, 30, 15, 123456),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-7))),
    datetime(2024, 10, 27, 2, 30, fold=1),
    datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
    datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris")),
    date(2024, 2, 29),
    time(1, 2, 3, 4),
    time(1, 2, tzinfo=UTC),
    timedelta(days=-3, microseconds=7),
    timedelta.max,
    timedelta.min,
    timedelta(0),
    UUID(int=7),
    Decimal("1.10"),
    Decimal("-Infinity"),
    deque([1, (2,)], 3),
    deque([1]),
    OrderedDict([("b", 1), ("a", 2)]),
    Counter("abca"),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {1: 2}),
    Order(1, (Line("a"), Line("b", 2)), {1}),
    Computed(3),
    Point(1, (2,)),
    Point(1),
    Model(name="a", when=datetime(2024, 1, 1), tags={"x"}),
    Aliased(fullName="x"),
    Colour.RED,
    Colour.PAIR,
    Level.LOW,
    Rights.READ | Rights.WRITE,
    Rights.WRITE,
    Words("abc"),
    Names(["a"]),
    Table(a=1),
    Slotted("x"),
    Pair(1, (2,)),
    [date(2024, 1, 1)] * 3,
    [date(2024, 1, 1), 1],
    {"a": {"b": [{"c": (1,)}]}},
]


@pytest.mark.parametrize("value", CARRIED, ids=named)
def test_a_value_comes_back_with_its_type_and_a_live_run_sees_the_same(value: Any) -> None:
    data, headers, seen = carry(value, Any, "result of f")
    replayed = decode(data, headers)

    for back in (seen, replayed):
        assert back == value
        assert type(back) is type(value)
        assert repr(back) == repr(value)
    assert encode(value, "result of f") == (data, headers)


@pytest.mark.parametrize("value", CARRIED, ids=named)
def test_the_data_is_always_plain_json(value: Any) -> None:
    data, _ = encode([value], "result of f")

    json.loads(text_of(data), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_not_a_number_comes_back() -> None:
    data, headers, seen = carry(math.nan, Any, "result of f")

    assert math.isnan(seen)
    assert math.isnan(decode(data, headers))
    assert plain_of(data) is None


def test_the_zone_and_the_fold_of_a_time_come_back() -> None:
    value = datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))

    seen = carry(value, Any, "result of f")[2]

    assert seen.tzinfo is ZoneInfo("Europe/Paris")
    assert (seen.fold, seen.utcoffset()) == (1, timedelta(hours=1))
    assert carry(time(1, fold=1), Any, "t")[2].fold == 1
    assert carry(datetime(2024, 1, 1, fold=1), Any, "t")[2].fold == 1


def test_a_zone_that_is_not_known_here_leaves_the_instant() -> None:
    value = decode(wire("2024-07-01T00:00:00+02:00"), {HEADER: '"datetime Mars/Phobos"'})

    assert value == datetime(2024, 6, 30, 22, tzinfo=UTC)


def test_the_fields_of_a_default_dict_keep_their_factory() -> None:
    seen = carry(defaultdict(list), Any, "result of f")[2]

    assert seen["new"] == []


def test_none_is_no_data() -> None:
    assert carry(None, Any, "r") == (None, None, None)
    assert carry(None, int, "r") == (None, None, None)
    assert encode(None, "r") == (None, None)
    assert decode(None, None) is None
    assert decode("", {}) is None
    assert decode(wire(None), None) is None


def test_mutable_values_are_handed_on_as_copies() -> None:
    value = {"a": [1]}
    seen = carry(value, Any, "r")[2]
    value["a"].append(2)

    assert seen == {"a": [1]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (b"ab", "YWI="),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00+00:00"),
        (timedelta(seconds=90), "PT90S"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        ({1: "a"}, {"1": "a"}),
        (Order(1, (Line("a"),)), {"id": 1, "lines": [{"sku": "a", "count": 1}], "extra": None}),
        (Point(1, 2), {"type": "Point", "xAxis": 1, "yAxis": 2}),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Words("a"), "a"),
        (math.inf, "__INF__"),
        (-math.inf, "__NEG_INF__"),
        (Aliased(fullName="x"), {"fullName": "x"}),
    ],
)
def test_other_languages_read_what_they_would_expect(value: Any, plain: Any) -> None:
    assert plain_of(encode(value, "r")[0]) == plain


def test_plain_json_has_no_header_and_other_values_a_short_one() -> None:
    assert encode({"a": [1, None]}, "r")[1] is None
    assert encode((1, 2), "r")[1] == {HEADER: '"tuple"'}
    assert encode([date(2024, 1, 1)] * 1000, "r")[1] == {HEADER: '["list",["date"]]'}
    assert encode({"a": 1, "b": {2}}, "r")[1] == {HEADER: '["dict",{"b":"set"}]'}


def test_equal_sets_are_equal_text() -> None:
    first, second = {0, 8}, {8, 0}

    assert list(first) != list(second), "two orders of one set, or the test shows nothing"
    assert encode(first, "r") == encode(second, "r")


def test_rebuilding_calls_no_constructor_of_a_dataclass() -> None:
    value = Computed(3)
    made = Computed.made

    assert carry(value, Any, "r")[2].double == 6
    assert Computed.made == made


# ---- annotations -----------------------------------------------------------------------------------------


class Plain(msgspec.Struct):
    a: int
    b: datetime | None = None


@pytest.mark.parametrize(
    ("data", "annotation", "expected"),
    [
        ({"sku": "a"}, Line, Line("a")),
        ([{"sku": "a", "count": 2}], list[Line], [Line("a", 2)]),
        ({"a": 1, "b": "2024-01-01T00:00:00Z"}, Plain, Plain(1, datetime(2024, 1, 1, tzinfo=UTC))),
        ("2024-01-01", date, date(2024, 1, 1)),
        ("YWI=", bytes, b"ab"),
        ("1.10", Decimal, Decimal("1.10")),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], set[int], {1, 2}),
        ({"1": "a"}, dict[int, str], {1: "a"}),
        ("red", Colour | None, "red"),
        (1, Level, Level.LOW),
        (1, float, 1.0),
        ("__INF__", float, math.inf),
        ("__NEG_INF__", float, -math.inf),
        ("1+2j", complex, 1 + 2j),
        ({"fullName": "x"}, Aliased, Aliased(fullName="x")),
        ([{"fullName": "x"}], list[Aliased], [Aliased(fullName="x")]),
        (None, int, None),
        (5, int | None, 5),
        ({"sku": "a"}, Line | Computed, {"sku": "a"}),
        ({"sku": "a"}, object, {"sku": "a"}),
    ],
)
def test_the_annotation_shapes_data_of_other_writers(data: Any, annotation: Any, expected: Any) -> None:
    value = decode(None if data is None else wire(data), None, annotation)

    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("data", "annotation"), [("x", int), (1, str), ([1], dict[str, int]), ("x", int | None), (["x"], list[int])]
)
def test_a_wrong_hint_for_a_json_type_is_no_reason_to_fail(data: Any, annotation: Any) -> None:
    assert decode(wire(data), None, annotation) == data


@pytest.mark.parametrize(
    ("data", "annotation"), [(1, Line), ({}, Line), ("soon", datetime), ({}, Aliased), ({}, Foreign), ([1], complex)]
)
def test_data_that_does_not_fit_a_class_is_a_decode_error_that_names_both(data: Any, annotation: Any) -> None:
    with pytest.raises(DecodeError, match=f"result of f does not fit {annotation.__name__}"):
        decode(wire(data), None, annotation, "result of f")


class Crate(Generic[T]):
    pass


def test_a_generic_class_that_nobody_can_build_is_named_with_its_parts() -> None:
    with pytest.raises(DecodeError, match=r"does not fit tests\.test_values\.Crate\[int\]"):
        decode(wire({}), None, Crate[int])


def test_the_annotation_wins_over_the_header() -> None:
    data, headers, seen = carry((1, 2), list[int], "r")

    assert seen == [1, 2]
    assert decode(data, headers, list[int]) == [1, 2]
    assert decode(data, headers) == (1, 2)


def test_the_header_fills_what_the_annotation_leaves_open() -> None:
    value = {"at": date(2024, 1, 1), "ids": (1,)}
    data, headers, seen = carry(value, dict[str, Any], "r")

    assert seen == value
    assert decode(data, headers, dict[str, Any]) == value


@pytest.mark.parametrize(
    ("value", "annotation"), [("x", int), ({"a": 1}, Line), ((1,), int), (Line("a"), int), (True, int), ([1], Line)]
)
def test_a_value_that_does_not_fit_its_annotation_keeps_its_own_type_live_and_replayed(
    value: Any, annotation: Any
) -> None:
    data, headers, seen = carry(value, annotation, "r")
    replayed = decode(data, headers, annotation)

    assert seen == replayed == value
    assert type(seen) is type(replayed) is type(value)


@pytest.mark.parametrize("value", [1, "a", [1, 2], {"a": 1}, Line("a"), Point(1), Colour.RED, 1.0, None, (1, "a")])
@pytest.mark.parametrize(
    "annotation", [Any, int, float, str, list, dict, Line, Point, Colour, tuple[int, str], list[Line]]
)
def test_whatever_the_annotation_says_live_and_replayed_are_equal(value: Any, annotation: Any) -> None:
    data, headers, seen = carry(value, annotation, "r")
    replayed = decode(data, headers, annotation)

    assert seen == replayed
    assert type(seen) is type(replayed)


def test_an_annotation_that_cannot_be_hashed_is_taken_too() -> None:
    from typing import Annotated

    unhashable = Annotated[date, []]

    assert decode(wire("2024-01-01"), None, unhashable) == date(2024, 1, 1)
    assert decode(wire("x"), None, Annotated[int, msgspec.Meta(extra={"a": []})]) == "x"


def test_a_local_class_is_carried_if_the_annotation_names_it() -> None:
    @dataclass
    class Local:
        a: int

    data, headers, seen = carry(Local(1), Local, "result of f")

    assert seen == decode(data, headers, Local) == Local(1)
    assert headers is None


def test_a_local_class_without_annotation_is_refused_with_the_reason() -> None:
    @dataclass
    class Local:
        a: int

    for annotation in (Any, int, Line, dict):
        for value in (Local(1), [Local(1)]):
            with pytest.raises(EncodeError, match="defined inside of a function"):
                carry(value, annotation, "result of f")


def test_decoders_of_annotations_made_at_run_time_do_not_pile_up() -> None:
    for at in range(fitting._KEPT + 10):
        decode(wire(1), None, msgspec.defstruct(f"S{at}", []) | int)

    assert len(fitting._DECODERS) <= fitting._KEPT


# ---- what is refused --------------------------------------------------------------------------------------


def cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def unset() -> Any:
    value = Line("a")
    del value.sku
    return value


@pytest.mark.parametrize(
    ("make", "path", "why"),
    [
        (lambda: {"items": [1, 2, 3, threading.Lock()]}, 'result["items"][3]', "no form is known"),
        (lambda: {5: {(1, 2): Foreign()}}, "result[5][0][1]", "no form is known"),
        (lambda: Order(1, extra={"f": print}), 'result.extra["f"]', "no form is known"),
        (lambda: Point(1, Foreign()), "result.y_axis|result.yAxis", "no form is known"),
        (lambda: Foreign(), "result", "no form is known"),
        (lambda: Foreign, "result", "no form is known"),
        (lambda: iter([]), "result", "no form is known"),
        (cycle, "result", "contains itself"),
        (lambda: deep(300), "result", "more than 200 levels"),
        (lambda: deep(100_000), "result", "levels|too deep"),
        (lambda: Marked(), "result", "attributes of its own"),
        (lambda: Tagged(), "result", "attributes of its own"),
        (lambda: Sorted(), "result", "no form is known"),
        (lambda: Model.model_construct(name=5, when="x"), "result", "does not read back:"),
        (lambda: Mixed(), "result", "extends a builtin class"),
        (lambda: defaultdict(lambda: 1), "result", "default factory <lambda>"),
        (unset, "result", "field sku has no value"),
        (lambda: Secret(password=pydantic.SecretStr("x")), "result", "read back"),
        (lambda: time(1, tzinfo=ZoneInfo("Europe/Paris")), "result", "no fixed offset"),
        (lambda: "\ud83d\ude00", "result", "surrogates"),
        (lambda: 10**5000, "result", "digits"),
    ],
    ids=range(21),
)
def test_what_cannot_be_carried_is_refused_with_its_path(make: Callable[[], Any], path: str, why: str) -> None:
    value = make()
    for attempt in (lambda: carry(value, Any, "result of f"), lambda: encode(value, "result of f")):
        with pytest.raises(EncodeError) as caught:
            attempt()

        assert caught.value.path.startswith(tuple(path.split("|")))
        assert any(reason in str(caught.value) for reason in why.split("|"))
        assert "result of f" in str(caught.value)


def test_a_class_that_is_shadowed_in_its_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    value = Line("a")
    monkeypatch.setattr(sys.modules[__name__], "Line", Order)

    with pytest.raises(EncodeError, match=f"cannot be found as Line in module {__name__}"):
        encode(value, "r")


class Exact(float):
    def __new__(cls, *args: Any) -> Exact:
        raise AssertionError("no constructor of the class is called")


def test_a_value_that_its_own_class_refuses_to_build_again_is_refused_while_it_is_live() -> None:
    value = Once(1)
    value.a = -1

    with pytest.raises(EncodeError, match=r"result: .*Once cannot be stored \(result of f: .*too small"):
        carry(value, Any, "result of f")


def test_a_subclass_of_a_builtin_is_built_by_the_builtin() -> None:
    value = float.__new__(Exact, 1.5)

    seen = carry(value, Any, "r")[2]

    assert type(seen) is Exact
    assert float(seen) == 1.5


def test_a_value_of_sensible_depth_is_carried() -> None:
    assert carry(deep(150), Any, "r")[2] == deep(150)
    assert carry((deep(150),), Any, "r")[2] == (deep(150),)


def frames_left(count: int, action: Callable[[], Any]) -> Any:
    """Call `action` where the interpreter allows about `count` more frames."""

    def descend(levels: int) -> Any:
        return action() if levels == 0 else descend(levels - 1)

    frame: Any = sys._getframe()
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return descend(sys.getrecursionlimit() - depth - count)


@pytest.mark.parametrize("value", [deep(150), (deep(150),)], ids=["plain", "typed"])
def test_deep_in_the_stack_a_value_is_refused_by_its_name_and_not_by_a_recursion_error(value: Any) -> None:
    assert frames_left(500, lambda: carry(value, Any, "result of f"))[2] == value
    with pytest.raises(EncodeError, match="nested too deep"):
        frames_left(60, lambda: carry(value, Any, "result of f"))


# ---- data from outside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("???", "result of f is not base64"),
        ("YQ", "result of f is not base64"),
        ("é", "result of f is not base64"),
        (base64.b64encode(b"{").decode(), "result of f is not JSON"),
        (base64.b64encode(b"\xff").decode(), "result of f is not JSON"),
        (base64.b64encode(b"[" * 100_000).decode(), "result of f is"),
        (base64.b64encode(b"[" * 100_000 + b"]" * 100_000).decode(), "result of f is nested too deep"),
    ],
)
def test_bad_data_is_a_decode_error_that_names_what_it_is(data: str, text: str) -> None:
    for annotation in (Any, int, list[int]):
        with pytest.raises(DecodeError, match=text):
            decode(data, None, annotation, "result of f")


@pytest.mark.parametrize(
    ("plain", "tree"),
    [
        ([1], "nonsense"),
        ([1], '"unknown"'),
        ([1], "5"),
        ([1], "[]"),
        ([1], '["list"]'),
        (1, '["list",{"0":"tuple"}]'),
        (1, '"tuple"'),
        (1, '["dict",{"a":"tuple"}]'),
        ("soon", '"datetime"'),
        ("x", '"decimal"'),
        ("x", '"float"'),
        ({"a": 1}, '"dict int"'),
        ([1], '["pairs",[null]]'),
        ([], f'"deque {-5}"'),
        ({}, '["defaultdict eval",[null]]'),
        ({}, '"dataclass os:system"'),
        ({}, '"dataclass no.such:Thing"'),
        ({}, f'"dataclass {__name__}:Foreign"'),
        ({}, f'"dataclass {__name__}:Order"'),
        ({}, f'"struct {__name__}:Point"'),
        ({}, f'"struct {__name__}:Order"'),
        ({}, f'"pydantic {__name__}:Model"'),
        ({}, f'"pydantic {__name__}:Order"'),
        ("blue", f'["enum {__name__}:Colour",[null]]'),
        (9, f'["enum {__name__}:Rights",[null]]'),
        ("x", f'["enum {__name__}:Order",[null]]'),
        ("x", f'["subclass {__name__}:Table",[null]]'),
        ("x", f'["subclass {__name__}:Foreign",[null]]'),
        (None, f'["subclass {__name__}:Words",[null]]'),
        (1, '["subclass builtins:bool",[null]]'),
        (1, '["subclass builtins:int",[null]]'),
        ({}, '["subclass collections:OrderedDict",[null]]'),
        (1.5, '["subclass builtins:object",[null]]'),
        ("x", '["subclass builtins:str.join",[null]]'),
        ({}, '["error",{}]'),
        ([1], "[" * 100_000),
        ([1], '["list",[' * 5000 + "null" + "]]" * 5000),
        ("\ud800", "\ud800"),
    ],
)
def test_a_bad_type_header_is_a_decode_error(plain: Any, tree: str) -> None:
    with pytest.raises(DecodeError):
        decode(wire(plain), {HEADER: tree})


def test_reading_never_imports_a_module() -> None:
    assert "antigravity" not in sys.modules

    with pytest.raises(DecodeError, match=r"is a Thing of module antigravity, which is not there: import it"):
        decode(wire({}), {HEADER: '"dataclass antigravity:Thing"'})

    assert "antigravity" not in sys.modules


def test_looking_up_a_class_runs_no_code_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        raise AssertionError("a lazy module was asked for a name")

    monkeypatch.setattr(sys.modules[__name__], "__getattr__", load, raising=False)

    with pytest.raises(DecodeError):
        decode(wire({}), {HEADER: f'"dataclass {__name__}:Missing"'})


def test_a_field_added_since_takes_its_default_and_a_removed_one_is_dropped() -> None:
    header = {HEADER: f'"dataclass {__name__}:Order"'}

    assert decode(wire({"id": 1, "gone": 2}), header) == Order(1)
    assert decode(wire({"xAxis": 1}), {HEADER: f'"struct {__name__}:Point"'}) == Point(1)
    with pytest.raises(DecodeError, match="has no field id, which has no default"):
        decode(wire({}), header)


@dataclass
class Grown:
    a: int
    items: list[int] = field(default_factory=list)


def test_a_field_added_since_gets_a_fresh_default_from_its_factory() -> None:
    header = {HEADER: f'"dataclass {__name__}:Grown"'}

    first, second = decode(wire({"a": 1}), header), decode(wire({"a": 1}), header)

    assert first == second == Grown(1)
    assert first.items is not second.items


def test_numbers_and_text_that_other_writers_allow_themselves_are_read() -> None:
    assert math.isnan(decode(base64.b64encode(b"NaN").decode(), None))
    assert decode(base64.b64encode(b"1e400").decode(), None) == math.inf
    assert decode(base64.b64encode(b'"\\ud800"').decode(), None) == "\ud800"
    assert decode(base64.b64encode(b'"\\ud800"').decode(), None, str) == "\ud800"


def test_other_headers_are_ignored() -> None:
    assert decode(wire([1]), {"content-type": "x"}) == [1]


# ---- the user's own encoder ------------------------------------------------------------------------------------


def test_with_an_encoder_data_is_its_text_and_there_is_no_header() -> None:
    encoder = JsonEncoder()
    data, headers, seen = carry((1, 2), Any, "r", encoder)

    assert (text_of(data), headers, seen) == ("[1, 2]", None, [1, 2])
    assert encode((1, 2), "r", encoder) == (data, headers)
    assert decode(data, headers, Any, "r", encoder) == [1, 2]
    assert carry(None, Any, "r", encoder) == (None, None, None)


def test_encoders_compose() -> None:
    encoder = CombinedEncoder(JsonEncoder(), Base64Encoder())

    assert decode(encode([1], "r", encoder)[0], None, encoder=encoder) == [1]


class Broken:
    def encode(self, obj: Any) -> str | None:
        return "\ud800" if obj == "surrogate" else "x"

    def decode(self, obj: str | None) -> Any:
        raise KeyError("lost")


def test_an_encoder_that_fails_is_named() -> None:
    with pytest.raises(DecodeError, match="r cannot be read by Broken: KeyError: 'lost'"):
        decode(wire(1), None, what="r", encoder=Broken())
    with pytest.raises(DecodeError, match="not base64"):
        decode("???", None, what="r", encoder=Broken())
    with pytest.raises(DecodeError, match="not JSON"):
        decode(base64.b64encode(b"{").decode(), None, what="r", encoder=JsonEncoder())
    with pytest.raises(EncodeError, match="surrogates"):
        encode("surrogate", "r", Broken())
    with pytest.raises(EncodeError, match=r"HeaderEncoder.encode must give `str \| None`"):
        encode(1, "r", HeaderEncoder("k", JsonEncoder()))  # type: ignore[arg-type]


WAYS: list[Callable[[Any], Any]] = [lambda v: v, lambda v: [v], lambda v: {"k": v}, lambda v: (v,)]


@pytest.mark.parametrize("wrap", WAYS)
@pytest.mark.parametrize("value", CARRIED, ids=named)
def test_a_value_comes_back_inside_of_any_container(value: Any, wrap: Callable[[Any], Any]) -> None:
    wrapped = wrap(value)
    data, headers, seen = carry(wrapped, Any, "r")

    assert repr(seen) == repr(decode(data, headers)) == repr(wrapped)
