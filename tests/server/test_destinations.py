"""Where a server may post to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from resonate.errors import UsageError
from resonate.server.destinations import CheckedResolver, Destinations, Refused, system_resolve

PUBLIC = ["93.184.215.14", "1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4 in IPv6, an old form
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:93.184.215.14",
    "64:ff9b::7f00:1",  # IPv4 behind a translator
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4
    "4000::1",  # not given out
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


def url_of(address: str) -> str:
    return f"http://[{address}]/x" if ":" in address else f"https://{address}:99/x"


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    destinations = Destinations()

    assert destinations.check_url(url_of(address)).raw_host == address
    destinations.check_resolved("worker.test", [address])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_may_not(address: str) -> None:
    destinations = Destinations()

    with pytest.raises(Refused, match="allow it explicitly"):
        destinations.check_url(url_of(address))
    with pytest.raises(Refused, match=r"worker\.test stands for"):
        destinations.check_resolved("worker.test", [address])
    with pytest.raises(Refused, match=r"worker\.test stands for"):
        destinations.check_resolved("worker.test", [*PUBLIC, address])


@pytest.mark.parametrize(
    ("allow", "address"),
    [
        ("10.0.0.0/8", "10.9.8.7"),
        ("10.0.0.1", "10.0.0.1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("::1", "::1"),
        ("fd00::/8", "fd12::1"),
    ],
)
def test_networks_that_are_allowed_may_be_reached(allow: str, address: str) -> None:
    destinations = Destinations([allow])

    destinations.check_url(url_of(address))
    destinations.check_resolved("worker.test", [address])
    with pytest.raises(Refused):
        destinations.check_resolved("worker.test", [address, "192.168.0.1"])


@pytest.mark.parametrize(
    ("allow", "host", "listed"),
    [
        ("worker.internal", "worker.internal", True),
        ("Worker.Internal.", "WORKER.internal", True),
        ("worker.internal", "worker.internal.", True),
        ("worker.internal", "x.worker.internal", False),
        ("worker.internal", "xworker.internal", False),
        ("*.internal", "worker.internal", True),
        ("*.internal", "a.b.internal", True),
        ("*.internal", "internal", False),
        ("*.internal", "worker.internal.evil.test", False),
        ("*.internal", "workerinternal", False),
        ("localhost", "localhost", True),
    ],
)
def test_names_that_are_allowed_may_stand_for_anything(allow: str, host: str, listed: bool) -> None:
    destinations = Destinations([allow])

    if listed:
        destinations.check_resolved(host, ["127.0.0.1", "10.0.0.1"])
    else:
        with pytest.raises(Refused):
            destinations.check_resolved(host, ["127.0.0.1"])


def test_without_public_destinations_only_the_listed_ones_may_be_reached() -> None:
    destinations = Destinations(["93.184.215.0/24", "worker.test"], public=False)

    destinations.check_url("http://93.184.215.14/")
    destinations.check_resolved("worker.test", ["1.1.1.1"])
    destinations.check_resolved("other.test", ["93.184.215.14"])
    with pytest.raises(Refused, match="not in the list"):
        destinations.check_url("http://1.1.1.1/")
    with pytest.raises(Refused, match="not in the list"):
        destinations.check_resolved("other.test", ["1.1.1.1"])


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http:///x",
        "ftp://host/",
        "poll://any@g",
        "http://host:99999/",
        "http://host:port/",
        "http://[@/",
        "http://[::1/",
        "http://[nonsense]/",
        "http://user@host/",
        "http://user:password@host/",
        "http://:password@host/",
        "http://93.184.215.14@127.0.0.1/",
        "http://2130706433/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.1.:80/",
        "http://127。0。0。1/",
        "http://\uff11\uff12\uff17.0.0.1/",  # digits of another width
        "http://①②⑦.⓪.⓪.①/",
        "http://host:0/",
    ],
)
def test_addresses_that_mislead_are_refused(address: str) -> None:
    with pytest.raises(Refused):
        Destinations().check_url(address)


@pytest.mark.parametrize(
    "entry", ["", "http://x", "x:80", "10.0.0.1/8", "*", "*.", "a/b", "a b", "user@x", "1.2.3", "300.1.1.1"]
)
def test_entries_that_mean_nothing_are_errors(entry: str) -> None:
    with pytest.raises(UsageError, match="cannot be allowed"):
        Destinations([entry])


def resolved(addresses: Sequence[str], family: socket.AddressFamily = socket.AF_UNSPEC) -> list[str]:
    async def look_up() -> list[str]:
        resolver = CheckedResolver(Destinations(), lambda host, port: addresses)
        try:
            return [result["host"] for result in await resolver.resolve("worker.test", 80, family)]
        finally:
            await resolver.close()

    return asyncio.run(look_up())


def test_the_resolver_gives_every_address_that_was_checked() -> None:
    assert resolved(PUBLIC) == PUBLIC
    assert resolved(PUBLIC, socket.AF_INET) == PUBLIC[:3]
    assert resolved(PUBLIC, socket.AF_INET6) == PUBLIC[3:]


def test_the_resolver_gives_nothing_if_one_address_is_not_public() -> None:
    with pytest.raises(Refused):
        resolved(["1.1.1.1", "::1"], socket.AF_INET)


def test_the_resolver_fails_for_a_name_without_addresses() -> None:
    with pytest.raises(OSError, match="stands for no address"):
        resolved([])


def test_the_system_knows_the_loopback() -> None:
    assert "127.0.0.1" in system_resolve("localhost", 80)
