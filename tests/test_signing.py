"""Signed pushes, from the receiver's side."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys

import pytest

from resonate.signing import SIGNATURE, TIMESTAMP, TOLERANCE, sign, verify

NOW = 1_800_000_000_000
BODY = b'{"kind":"execute"}'
KEY = "s3cret"


def good(at: int = NOW) -> str:
    return sign(KEY, BODY, at)


def test_a_signature_is_the_hmac_of_instant_dot_body() -> None:
    expected = hmac.new(b"s3cret", b'1800000000000.{"kind":"execute"}', hashlib.sha256).hexdigest()

    assert good() == f"v1={expected}"
    assert (SIGNATURE, TIMESTAMP) == ("resonate-signature", "resonate-timestamp")


@pytest.mark.parametrize("age", [0, 1, TOLERANCE, -TOLERANCE])
def test_a_recent_push_verifies(age: int) -> None:
    assert verify(KEY, BODY, good(NOW - age), str(NOW - age), now=NOW)


@pytest.mark.parametrize("age", [TOLERANCE + 1, -TOLERANCE - 1, NOW])
def test_an_old_push_or_one_from_the_future_does_not(age: int) -> None:
    assert not verify(KEY, BODY, good(NOW - age), str(NOW - age), now=NOW)


def test_the_tolerance_can_be_chosen() -> None:
    assert verify(KEY, BODY, good(NOW - 10), str(NOW - 10), now=NOW, tolerance=10)
    assert not verify(KEY, BODY, good(NOW - 11), str(NOW - 11), now=NOW, tolerance=10)


@pytest.mark.parametrize(
    ("body", "signature", "timestamp"),
    [
        (BODY + b" ", good(), str(NOW)),
        (b"", good(), str(NOW)),
        (BODY, good(), str(NOW + 1)),
        (BODY, good(NOW + 1), str(NOW)),
        (BODY, good().removeprefix("v1="), str(NOW)),
        (BODY, good().upper(), str(NOW)),
        (BODY, good()[:-1], str(NOW)),
        (BODY, "é\ud800", str(NOW)),
        (BODY, "", str(NOW)),
        (BODY, None, str(NOW)),
        (BODY, good(), None),
        (BODY, good(), ""),
        (BODY, good(), "soon"),
        (BODY, good(), f"-{NOW}"),
        (BODY, good(), f" {NOW}"),
        (BODY, good(), "१२३"),
        (BODY, good(), "9" * 10_000),
    ],
)
def test_anything_changed_or_missing_does_not_verify(body: bytes, signature: str | None, timestamp: str | None) -> None:
    assert not verify(KEY, body, signature, timestamp, now=NOW)


def test_instant_and_body_cannot_be_shifted_against_each_other() -> None:
    signature = sign(KEY, b"5.x", 180)

    assert not verify(KEY, b"x", signature, "1805", now=1805)


def test_several_keys_count_while_one_is_replaced() -> None:
    assert verify(["new", KEY], BODY, good(), str(NOW), now=NOW)
    assert verify([KEY, "new"], BODY, good(), str(NOW), now=NOW)
    assert not verify(["new", "newer"], BODY, good(), str(NOW), now=NOW)


@pytest.mark.parametrize("key", ["", [], ["a", ""]])
def test_an_empty_key_is_an_error(key: str | list[str]) -> None:
    with pytest.raises(ValueError, match="without a key"):
        verify(key, BODY, good(), str(NOW), now=NOW)


def test_the_clock_is_asked_if_no_instant_is_given() -> None:
    assert not verify(KEY, BODY, good(), str(NOW - TOLERANCE * 100))


def test_a_receiver_needs_none_of_the_servers_packages() -> None:
    code = "import sys, resonate.signing; print({'aiohttp', 'jwt', 'cryptography', 'starlette'} & set(sys.modules))"

    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "set()"
