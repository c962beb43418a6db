"""The grammar of addresses (protocol section 6.1)."""

from __future__ import annotations

import pytest

from resonate.protocol.addresses import PUSHED, Address, acceptable_to_specification, channel, parse


@pytest.mark.parametrize(
    ("address", "cast", "group", "id"),
    [
        ("poll://any@workers", "any", "workers", None),
        ("poll://any@workers/7", "any", "workers", "7"),
        ("poll://uni@workers/7", "uni", "workers", "7"),
        ("poll://uni@workers", "uni", "workers", None),
        ("POLL://any@Workers", "any", "Workers", None),
        ("Poll://uni@g.h_i-j/p%20q", "uni", "g.h_i-j", "p%20q"),
        ("poll://any@g/a/b", "any", "g", "a/b"),
    ],
)
def test_a_poll_address_names_a_cast_a_group_and_maybe_a_receiver(
    address: str, cast: str, group: str, id: str | None
) -> None:
    assert parse(address) == Address("poll", address, cast, group, id)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    ["http://h", "https://h", "HTTP://h", "http://h:80/p?q=1#f", "https://user:pw@host.test/hook", "http://[::1]:80"],
)
def test_a_web_address_needs_a_host_and_stays_as_written(address: str) -> None:
    assert parse(address) == Address("http", address)


def test_a_pubsub_address_names_a_project_and_a_topic() -> None:
    assert parse("gcps://project/topic") == Address("gcps", "gcps://project/topic")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "workers",
        "any@workers",
        "://",
        "poll:any@workers",
        "poll://workers",
        "poll://workers/7",
        "poll://all@workers",
        "poll://ANY@workers",
        "poll://any@",
        "poll://any@/7",
        "poll://any@workers/",
        "poll://any@two words",
        "poll://any@workers/two words",
        "poll://any@line\nbreak",
        "poll://any@nul\0",
        "http://",
        "https:///path",
        "http://:80",
        "http://user@",
        "http://?q",
        "http://#f",
        "http://two words/",
        "gcps://",
        "gcps://project",
        "gcps://project/",
        "gcps:///topic",
        "ftp://host/file",
        "mailto:a@b",
        "bash://",
        "bash://docker/image",
    ],
)
def test_what_nobody_can_be_reached_at_is_no_address(address: str) -> None:
    assert parse(address) is None


@pytest.mark.parametrize("address", ["http://", "https://", "poll://x@y", "poll://@", "poll://all@g"])
def test_the_specification_accepts_more_listeners_than_can_be_reached(address: str) -> None:
    assert acceptable_to_specification(address)


@pytest.mark.parametrize("address", ["", "HTTP://h", "poll://g", "gcps://p/t", "bash://", "any@g"])
def test_the_specification_accepts_no_other_schemes(address: str) -> None:
    assert not acceptable_to_specification(address)


@pytest.mark.parametrize(
    ("address", "listens_to"),
    [
        ("poll://any@workers", "workers"),
        ("poll://uni@workers/7", "workers"),
        ("https://h/hook", PUSHED),
        ("gcps://project/topic", None),
        ("nonsense", None),
    ],
)
def test_an_address_says_what_its_receiver_listens_to(address: str, listens_to: str | None) -> None:
    assert channel(address) == listens_to
