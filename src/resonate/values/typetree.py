"""Values split into plain JSON and a type tree, and joined again.

A node of the tree says what a JSON value stands for: None for itself, a text such as
"tuple", "datetime" or "dataclass app:Order", or a list of that text and the nodes of its
children: a dict of those that have one, by key or position, or a list of one node that all
children share. The tree is JSON too. `split` raises for what it cannot say, with the path.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import inf, isfinite, isnan, nan
from typing import Any, Final
from uuid import UUID

import msgspec

from resonate.errors import DecodeError, EncodeError
from resonate.values import classes, exceptions
from resonate.values.payload import loads, pack, root_of, unpack

DEPTH: Final = 200
"""Levels of nesting that are carried: far beyond sensible data, well below the recursion limit."""

Node = Any
Path = tuple[Any, ...]
"""Where a value is: () at the top, else (path of its holder, step as text)."""

WORK: Final = 2
"""Values put together for each byte of a payload: `0,` in a list of one type needs both."""

SPARE: Final = 1_000

UNBOUNDED: Final = 2**60
"""The size of a value whose tree is our own."""

_work = threading.local()
_EXACT: Final = frozenset((str, int, bool, type(None)))
_INFINITE: Final = {"__INF__": inf, "__NEG_INF__": -inf, None: nan}
_FACTORIES: Final = {each.__name__: each for each in (int, float, str, list, dict, set, tuple, bool)}


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether `value` consists of exact JSON types, so that it needs no type tree."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items: Iterable[Any] = value.values()
    elif kind is list:
        items = value
    else:
        return kind in _EXACT or (kind is float and isfinite(value))
    try:
        for item in items:
            kind = type(item)
            if kind in _EXACT:
                continue
            if kind is float:
                if not isfinite(item):
                    return False
            elif depth > DEPTH or not is_plain(item, depth + 1):
                return False
    except RecursionError:
        return False
    return True


def split(value: Any, what: str) -> tuple[Any, Node]:
    """Plain JSON and the type tree of `value`.

    Args:
        value: any value.
        what: what it is, for messages; its first word begins the path.

    Raises:
        EncodeError: something inside cannot be carried.
    """
    try:
        return _split(value, (), 0)
    except _At as problem:
        raise EncodeError(root_of(what) + _text(problem.path), problem.type_name, f"{what}: {problem.why}") from None
    except RecursionError:
        raise EncodeError(root_of(what), type(value).__name__, f"{what}: it is nested too deep") from None


def join(plain: Any, node: Node, size: int) -> Any:
    """The value that `split` took apart.

    Args:
        plain: the JSON value.
        node: its type tree.
        size: bytes of both as text. A node may stand for many values, so a small tree could ask for hours of work:
            it is given up beyond what any value of that size needs.

    Raises:
        DecodeError: the tree does not fit the value, or a class of it is not here.
    """
    _work.left = SPARE + WORK * size
    return _joined(plain, node)


def _joined(plain: Any, node: Node) -> Any:
    try:
        return _join(plain, node)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"the type header does not fit the data: {type(error).__name__}: {error}") from error


class _At(Exception):
    """What cannot be carried, where and why."""

    def __init__(self, value: Any, path: Path, why: str) -> None:
        cls = type(value)
        self.type_name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        self.path = path
        self.why = why


# ---- splitting ---------------------------------------------------------------------------------------


def _split(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
    if depth > DEPTH:
        raise _At(value, _head(path), f"it is nested more than {DEPTH} levels deep, or contains itself")
    splitter = _SPLITTERS.get(type(value))
    return splitter(value, path, depth) if splitter is not None else _split_instance(value, path, depth)


def _split_exact(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
    return value, None


def _split_float(value: float, path: Path, depth: int) -> tuple[Any, Node]:
    if isfinite(value):
        return value, None
    return (None if isnan(value) else "__INF__" if value > 0 else "__NEG_INF__"), "float"


def _leaf(tag: str, write: Callable[[Any], Any]) -> Callable[[Any, Path, int], tuple[Any, Node]]:
    return lambda value, path, depth: (write(value), tag)


def _split_datetime(value: datetime, path: Path, depth: int) -> tuple[Any, Node]:
    zone = value.tzinfo
    text = value.isoformat()
    if zone is None:
        return text, "datetime 1" if value.fold else "datetime"
    key = getattr(zone, "key", None) if type(zone).__module__ == "zoneinfo" else None
    return text, f"datetime {key}" if key else "datetime"


def _split_time(value: time, path: Path, depth: int) -> tuple[Any, Node]:
    text = value.isoformat()
    if value.tzinfo is not None and value.utcoffset() is None:
        raise _At(value, path, "its zone has no fixed offset; use a datetime")
    return text, "time 1" if value.fold else "time"


def _split_items(value: Iterable[Any], path: Path, depth: int) -> tuple[list[Any], Node]:
    plain, nodes = [], []
    for at, item in enumerate(value):
        part, node = _split(item, (path, f"[{at}]"), depth + 1)
        plain.append(part)
        nodes.append(node)
    return plain, _kids(enumerate(nodes), nodes)


def _split_list(value: list[Any], path: Path, depth: int) -> tuple[Any, Node]:
    plain, kids = _split_items(value, path, depth)
    return plain, None if kids is None else ["list", kids]


def _sequence(tag: str) -> Callable[[Any, Path, int], tuple[Any, Node]]:
    def split_sequence(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
        plain, kids = _split_items(value, path, depth)
        return plain, tag if kids is None else [tag, kids]

    return split_sequence


def _set(tag: str) -> Callable[[Any, Path, int], tuple[Any, Node]]:
    def split_set(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
        try:
            items = sorted(value)  # so that equal sets are equal text, where that is possible
        except TypeError:
            items = list(value)
        plain, kids = _split_items(items, path, depth)
        return plain, tag if kids is None else [tag, kids]

    return split_set


def _split_dict(value: dict[Any, Any], path: Path, depth: int) -> tuple[Any, Node]:
    kinds = {type(key) for key in value}
    if kinds <= {str}:
        tag = "dict"
        named = value
    elif kinds == {int}:
        tag = "dict int"
        named = {str(key): item for key, item in value.items()}
    else:
        pairs, node = _split_list([[key, item] for key, item in value.items()], path, depth)
        return pairs, ["pairs", [node]]
    plain, nodes = {}, {}
    for key, original in zip(named, value, strict=True):
        plain[key], nodes[key] = _split(named[key], (path, _key_step(original)), depth + 1)
    kids = _kids(nodes.items(), list(nodes.values()))
    if kids is None:
        return plain, None if tag == "dict" else tag
    return plain, [tag, kids]


def _split_deque(value: deque[Any], path: Path, depth: int) -> tuple[Any, Node]:
    plain, kids = _split_items(value, path, depth)
    tag = "deque" if value.maxlen is None else f"deque {value.maxlen}"
    return plain, tag if kids is None else [tag, kids]


def _split_defaultdict(value: defaultdict[Any, Any], path: Path, depth: int) -> tuple[Any, Node]:
    name = "" if value.default_factory is None else getattr(value.default_factory, "__name__", "?")
    if name and _FACTORIES.get(name) is not value.default_factory:
        raise _At(value, path, f"its default factory {name} cannot be stored; return dict(...) of it")
    plain, node = _split_dict(value, path, depth)
    return plain, [f"defaultdict {name}".strip(), [node]]


def _mapping(tag: str) -> Callable[[Any, Path, int], tuple[Any, Node]]:
    def split_mapping(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
        plain, node = _split_dict(value, path, depth)
        return plain, [tag, [node]]

    return split_mapping


def _split_instance(value: Any, path: Path, depth: int) -> tuple[Any, Node]:
    cls = type(value)
    try:
        if isinstance(value, Enum):
            plain, node = _split(value._value_, (path, ".value"), depth + 1)
            return plain, [f"enum {classes.name_of(cls)}", [node]]
        if isinstance(value, BaseException):
            return exceptions.split_error(value, lambda part: _split(part, path, depth + 1))
        if isinstance(value, msgspec.Struct):
            return _split_struct(value, path, depth)
        if classes.is_dataclass(cls):
            name = classes.name_of(cls)
            plain, kids = _split_fields(classes.dataclass_values(value), path, depth)
            return plain, f"dataclass {name}" if kids is None else [f"dataclass {name}", kids]
        if classes.is_pydantic(cls):
            name = classes.name_of(cls)
            return loads(classes.pydantic_json(value), name), f"pydantic {name}"
        base = classes.builtin_base(value)
        plain, node = _SPLITTERS[base](base(value), path, depth)
        return plain, [f"subclass {classes.name_of(cls)}", [node]]
    except classes.Unfit as problem:
        raise _At(value, path, str(problem)) from None


def _split_struct(value: msgspec.Struct, path: Path, depth: int) -> tuple[Any, Node]:
    tag = f"struct {classes.name_of(type(value))}"
    plain, kids = _split_fields(classes.struct_values(value), path, depth)
    return {**classes.struct_tag(value), **plain}, tag if kids is None else [tag, kids]


def _split_fields(values: Mapping[str, Any], path: Path, depth: int) -> tuple[dict[str, Any], Node]:
    plain, nodes = {}, {}
    for name, item in values.items():
        plain[name], nodes[name] = _split(item, (path, f".{name}"), depth + 1)
    return plain, _kids(nodes.items(), list(nodes.values()))


def _kids(keyed: Iterable[tuple[Any, Node]], nodes: list[Node]) -> Node:
    """The nodes of children in their shortest form; None if none has one."""
    first = nodes[0] if nodes else None
    if first is not None and len(nodes) > 1 and all(node == first for node in nodes):
        return [first]
    typed = {str(key): node for key, node in keyed if node is not None}
    return typed or None


# ---- joining -----------------------------------------------------------------------------------------


def _join(plain: Any, node: Node) -> Any:
    if node is None:
        return plain
    kind = type(plain)
    _work.left -= 1 + (len(plain) if kind is list or kind is dict else len(plain) >> 4 if kind is str else 0)
    if _work.left < 0:
        raise DecodeError("the type header asks for more work than a value of this size can need")
    label, kids = (node, None) if isinstance(node, str) else (node[0], node[1])
    tag, _, extra = label.partition(" ")
    joiner = _JOINERS.get(tag)
    if joiner is None:
        raise DecodeError(f"the type header names {tag!r}, which this version does not know")
    return joiner(plain, kids, extra)


def _join_items(plain: Any, kids: Any) -> list[Any]:
    if not isinstance(plain, list):
        raise TypeError(f"expected an array, got {type(plain).__name__}")
    if kids is None:
        return plain
    if isinstance(kids, list):
        return [_join(item, kids[0]) for item in plain]
    return [_join(item, kids.get(str(at))) for at, item in enumerate(plain)]


def _join_fields(plain: Any, kids: Any) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise TypeError(f"expected an object, got {type(plain).__name__}")
    if kids is None:
        return plain
    if isinstance(kids, list):
        return {key: _join(item, kids[0]) for key, item in plain.items()}
    return {key: _join(item, kids.get(key)) for key, item in plain.items()}


def _join_dict(plain: Any, kids: Any, extra: str) -> dict[Any, Any]:
    fields = _join_fields(plain, kids)
    return {int(key): item for key, item in fields.items()} if extra == "int" else fields


def _join_pairs(plain: Any, kids: Any, extra: str) -> dict[Any, Any]:
    return {key: item for key, item in _join(plain, kids[0])}  # noqa: C416 - dict() would also take other shapes


def _join_datetime(plain: Any, kids: Any, extra: str) -> datetime:
    value = datetime.fromisoformat(plain)
    if extra == "1":
        return value.replace(fold=1)
    if not extra:
        return value
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # loads files: only for values that need it

    try:
        return value.astimezone(ZoneInfo(extra))
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a directory of zones is no zone
        return value  # the same instant, without the name of its zone


def _join_float(plain: Any, kids: Any, extra: str) -> float:
    return _INFINITE[plain]


def _join_error(plain: Any, kids: Any, extra: str) -> Exception:
    return exceptions.join_error(plain, kids, _joined)


def _wrapped(plain: Any, kids: Any) -> Any:
    return _join(plain, kids[0])


_SPLITTERS: Final[dict[type, Callable[[Any, Path, int], tuple[Any, Node]]]] = {
    str: _split_exact,
    int: _split_exact,
    bool: _split_exact,
    type(None): _split_exact,
    float: _split_float,
    list: _split_list,
    dict: _split_dict,
    tuple: _sequence("tuple"),
    set: _set("set"),
    frozenset: _set("frozenset"),
    bytes: _leaf("bytes", pack),
    bytearray: _leaf("bytearray", pack),
    datetime: _split_datetime,
    date: _leaf("date", date.isoformat),
    time: _split_time,
    timedelta: _leaf("timedelta", msgspec.to_builtins),
    UUID: _leaf("uuid", str),
    Decimal: _leaf("decimal", str),
    complex: _leaf("complex", repr),
    deque: _split_deque,
    OrderedDict: _mapping("ordered"),
    Counter: _mapping("counter"),
    defaultdict: _split_defaultdict,
}

_JOINERS: Final[dict[str, Callable[[Any, Any, str], Any]]] = {
    "float": _join_float,
    "list": lambda plain, kids, extra: _join_items(plain, kids),
    "dict": _join_dict,
    "pairs": _join_pairs,
    "tuple": lambda plain, kids, extra: tuple(_join_items(plain, kids)),
    "set": lambda plain, kids, extra: set(_join_items(plain, kids)),
    "frozenset": lambda plain, kids, extra: frozenset(_join_items(plain, kids)),
    "bytes": lambda plain, kids, extra: unpack(plain, "bytes"),
    "bytearray": lambda plain, kids, extra: bytearray(unpack(plain, "bytearray")),
    "datetime": _join_datetime,
    "date": lambda plain, kids, extra: date.fromisoformat(plain),
    "time": lambda plain, kids, extra: time.fromisoformat(plain).replace(fold=1 if extra else 0),
    "timedelta": lambda plain, kids, extra: msgspec.convert(plain, timedelta),
    "uuid": lambda plain, kids, extra: UUID(plain),
    "decimal": lambda plain, kids, extra: Decimal(plain),
    "complex": lambda plain, kids, extra: complex(plain),
    "deque": lambda plain, kids, extra: deque(_join_items(plain, kids), int(extra) if extra else None),
    "ordered": lambda plain, kids, extra: OrderedDict(_wrapped(plain, kids)),
    "counter": lambda plain, kids, extra: Counter(_wrapped(plain, kids)),
    "defaultdict": lambda plain, kids, extra: defaultdict(_FACTORIES[extra] if extra else None, _wrapped(plain, kids)),
    "enum": lambda plain, kids, extra: classes.build_enum(extra, _wrapped(plain, kids)),
    "dataclass": lambda plain, kids, extra: classes.build_dataclass(extra, _join_fields(plain, kids)),
    "struct": lambda plain, kids, extra: classes.build_struct(extra, _join_fields(plain, kids)),
    "pydantic": lambda plain, kids, extra: classes.build_pydantic(extra, plain),
    "subclass": lambda plain, kids, extra: classes.build_subclass(extra, _wrapped(plain, kids)),
    "error": _join_error,
}


def _key_step(key: Any) -> str:
    """A key as a step of a path: `["items"]`, `[3]`."""
    return f'["{key}"]' if isinstance(key, str) else f"[{key!r}]"


def _text(path: Path) -> str:
    steps: list[str] = []
    while path:
        path, step = path
        steps.append(step)
    return "".join(reversed(steps))


def _head(path: Path) -> Path:
    """The first steps of a path that is too long to show."""
    whole = []
    while path:
        whole.append(path)
        path = path[0]
    return whole[-3] if len(whole) > 2 else ()
