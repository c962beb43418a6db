"""The encoders that programs compose."""

from __future__ import annotations

import sys
from base64 import b64decode, b64encode
from types import SimpleNamespace
from typing import Any
from zlib import compress, decompress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resonate.encoders import (
    Base64Encoder,
    CombinedEncoder,
    Encoder,
    HeaderEncoder,
    JsonEncoder,
    JsonPickleEncoder,
    NoopEncoder,
    PairEncoder,
)
from resonate.errors import DecodeError, EncodeError, NotSupported
from resonate.values import encode_call

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner).filter(lambda d: d.keys() != {"__error__"}),
    max_leaves=10,
)


@given(JSON)
def test_json_comes_back(value: Any) -> None:
    encoder = JsonEncoder()

    assert encoder.decode(encoder.encode(value)) == value


def test_an_exception_is_json_with_its_text_and_comes_back_as_an_exception() -> None:
    text = JsonEncoder().encode(ValueError("boom"))
    back = JsonEncoder().decode(text)

    assert text == '{"__error__": "boom"}'
    assert type(back) is Exception
    assert str(back) == "boom"


@pytest.mark.parametrize("value", [object(), {"a": {1}}])
def test_json_refuses_what_it_cannot_say(value: Any) -> None:
    with pytest.raises(EncodeError, match="JsonEncoder"):
        JsonEncoder().encode(value)


def test_json_refuses_a_value_that_contains_itself() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)

    with pytest.raises(EncodeError, match="JsonEncoder"):
        JsonEncoder().encode(cycle)


def test_text_that_is_no_json_is_a_decode_error() -> None:
    with pytest.raises(DecodeError, match="not JSON"):
        JsonEncoder().decode("{")


@given(st.none() | st.text())
def test_base64_comes_back(text: str | None) -> None:
    encoder = Base64Encoder()

    assert encoder.decode(encoder.encode(text)) == text


@pytest.mark.parametrize("text", ["???", "a", "/w=="])
def test_text_that_is_no_base64_of_text_is_a_decode_error(text: str) -> None:
    with pytest.raises(DecodeError, match="not base64"):
        Base64Encoder().decode(text)


def test_noop_keeps_nothing() -> None:
    assert NoopEncoder().encode(1) is None  # type: ignore[func-returns-value]
    assert NoopEncoder().decode("1") is None  # type: ignore[func-returns-value]


def test_combined_goes_through_both_and_back() -> None:
    encoder = CombinedEncoder(JsonEncoder(), Base64Encoder())

    assert encoder.encode([1]) == b64encode(b"[1]").decode()
    assert encoder.decode(encoder.encode([1])) == [1]
    assert encoder.encode(None) is None


class Zlib:
    def encode(self, obj: str | None) -> str | None:
        return None if obj is None else b64encode(compress(obj.encode())).decode()

    def decode(self, obj: str | None) -> str | None:
        return None if obj is None else decompress(b64decode(obj)).decode()


def test_compression_composes_as_the_documentation_says() -> None:
    encoder: Encoder[Any, str | None] = CombinedEncoder(JsonEncoder(), Zlib())
    text = encoder.encode(["a" * 10_000])

    assert text is not None
    assert len(text) < 200
    assert encoder.decode(text) == ["a" * 10_000]


def test_a_header_is_one_entry_of_a_dict() -> None:
    encoder = HeaderEncoder("k", JsonEncoder())

    assert encoder.encode([1]) == {"k": "[1]"}
    assert encoder.decode({"k": "[1]", "other": "x"}) == [1]
    assert encoder.encode(None) is None
    assert encoder.decode(None) is None
    assert encoder.decode({"other": "x"}) is None


def test_a_pair_reads_the_first_form_that_holds_something() -> None:
    encoder = PairEncoder(HeaderEncoder("k", JsonEncoder()), JsonEncoder())

    assert encoder.encode(1) == ({"k": "1"}, "1")
    assert encoder.decode(({"k": "1"}, "2")) == 1
    assert encoder.decode((None, "2")) == 2
    assert encoder.decode(({}, "2")) == 2
    assert encoder.decode((None, None)) is None


@pytest.mark.parametrize("encoder", [NoopEncoder(), JsonEncoder(), JsonPickleEncoder(), Base64Encoder(), Zlib()])
def test_every_encoder_is_one_by_the_protocol(encoder: object) -> None:
    assert isinstance(encoder, Encoder)


def test_a_call_of_which_an_encoder_keeps_nothing_is_refused() -> None:
    with pytest.raises(EncodeError, match=r"call of f: NoopEncoder keeps nothing of it, so no worker could run it"):
        encode_call("f", (1,), {}, 1, encoder=NoopEncoder())


def test_jsonpickle_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonpickle", None)

    with pytest.raises(NotSupported, match="pip install jsonpickle"):
        JsonPickleEncoder().encode(1)


def test_jsonpickle_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(encode=lambda obj, unpicklable: f"pickled {obj}", decode=lambda text: text[8:])
    monkeypatch.setitem(sys.modules, "jsonpickle", stand_in)
    encoder = JsonPickleEncoder()

    assert encoder.encode("x") == "pickled x"
    assert encoder.decode("pickled x") == "x"
    assert encoder.encode(None) is None
    assert encoder.decode(None) is None
