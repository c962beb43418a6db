"""Where a server may post to: what is public, and what the operator has allowed.

Whoever may create a promise names the address that the server posts to. Without a check the
server would reach for them what only it can reach: its own loopback, the hosts beside it,
the credentials that clouds serve at link-local addresses. So each address that a name stands
for is looked at, and the connection goes to one of those and nowhere else: a name that
changes its meaning between the look and the connection gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from resonate.errors import UsageError

LOOKUPS: Final = 16
"""Names that are looked up at the same time; a look-up holds a thread for as long as the name server takes."""

_GLOBAL_V6: Final = IPv6Network("2000::/3")  # everything else is local, special (IPv4 in IPv6 form) or not given out
_EMBEDDING_V6: Final = (
    IPv6Network("2001::/32"),  # Teredo
    IPv6Network("2002::/16"),  # 6to4
)  # addresses with an IPv4 address inside, which would have to be looked at in turn

Resolve = Callable[[str, int], Sequence[str]]
"""(host, port) -> every address of it, as text. Blocks; raises OSError if there is none."""

Network = IPv4Network | IPv6Network
Ip = IPv4Address | IPv6Address


class Refused(Exception):
    """The server does not post to this address; the text says why and how to allow it."""


class Destinations:
    """The addresses that may be posted to.

    Args:
        allow: hosts and networks that may be reached although they are not public: `10.2.0.0/16`,
            `127.0.0.1`, `worker.internal`, `*.internal` (everything below it). A listed name
            may stand for any address.
        public: whether public addresses may be reached without being listed.

    Raises:
        UsageError: an entry of `allow` is none of these.
    """

    def __init__(self, allow: Sequence[str] = (), *, public: bool = True) -> None:
        self._public = public
        self._networks: list[Network] = []
        self._names: set[str] = set()
        self._endings: list[str] = []
        for entry in allow:
            self._add(entry)

    def check_url(self, address: str) -> URL:
        """`address` as a URL that may be tried; names are checked when they are looked up.

        Raises:
            Refused: it cannot be posted to.
        """
        try:
            url = URL(address)
            host, port = url.raw_host, url.port
        except (ValueError, IndexError):  # the latter of brackets without a host
            raise Refused("it is no URL") from None
        if url.scheme not in ("http", "https") or not host or not port:
            raise Refused("it is no URL of a host")
        if url.user is not None or url.password is not None:
            raise Refused("it holds a user or password; configure how pushes are authenticated instead")
        literal = _literal(host)
        if literal is not None:
            self._check(host, literal)
        elif ":" in host or host.replace(".", "").isdigit():  # 2130706433, 127.1: spellings that only mislead
            raise Refused(f"{host} is neither a name nor an address in its usual form")
        return url

    def check_resolved(self, host: str, addresses: Sequence[str]) -> None:
        """Look at every address that `host` stands for.

        Raises:
            Refused: one of them may not be reached.
        """
        if self._listed(host):
            return
        for address in addresses:
            literal = _literal(address)
            if literal is None:
                raise Refused(f"{host} stands for {address}, which cannot be read")
            self._check(host, literal)

    # ---- inside ------------------------------------------------------------------------------

    def _add(self, entry: str) -> None:
        text = entry.strip().lower().rstrip(".")
        try:
            self._networks.append(ip_network(text))
            return
        except ValueError:
            pass
        name = text.removeprefix("*.")
        if not name or any(c in name for c in "/:*@ ") or name.replace(".", "").isdigit():
            raise UsageError(
                f"{entry!r} cannot be allowed: give a network (10.2.0.0/16), an address, a host or *.domain, "
                "without scheme and port"
            )
        if text.startswith("*."):
            self._endings.append(f".{name}")
        else:
            self._names.add(name)

    def _listed(self, host: str) -> bool:
        name = host.lower().rstrip(".")
        return name in self._names or any(name.endswith(ending) for ending in self._endings)

    def _check(self, host: str, address: Ip) -> None:
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if any(one in network for network in self._networks for one in (address, mapped) if one is not None):
            return
        shown = f"{address}" if host == str(address) else f"{host} stands for {address}, which"
        problem = _not_public(address)
        if problem is not None:
            raise Refused(f"{shown} is {problem}; allow it explicitly if pushes may go there")
        if not self._public:
            raise Refused(f"{shown} is not in the list of allowed destinations")


class CheckedResolver(AbstractResolver):
    """Looks names up, and lets the connection go only to addresses that were checked.

    Args:
        destinations: says which addresses may be reached.
        resolve: looks a name up; None asks the system.
    """

    def __init__(self, destinations: Destinations, resolve: Resolve | None = None) -> None:
        self._destinations = destinations
        self._resolve = resolve or system_resolve
        self._threads = ThreadPoolExecutor(LOOKUPS, "resonate-push-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Every address of `host`; `family` asks for those of one kind.

        Raises:
            Refused: one of them may not be reached.
            OSError: there is none.
        """
        addresses = await asyncio.get_running_loop().run_in_executor(self._threads, self._resolve, host, port)
        self._destinations.check_resolved(host, addresses)
        found = [_result(host, address, port) for address in addresses]
        wanted = [result for result in found if family in (socket.AF_UNSPEC, result["family"])]
        if not wanted:
            raise OSError(f"{host} stands for no address")
        return wanted

    async def close(self) -> None:
        """Let the threads go; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def system_resolve(host: str, port: int) -> list[str]:
    """Every address of `host`, as the system knows it."""
    found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )


def _literal(host: str) -> Ip | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _not_public(address: Ip) -> str | None:
    """Why `address` is not public; None if it is."""
    if any(address in network for network in _EMBEDDING_V6):
        return "an IPv6 address that leads to an IPv4 one"
    for problem in ("unspecified", "loopback", "link_local", "multicast", "private", "reserved"):
        if getattr(address, f"is_{problem}"):
            return problem.replace("_", "-")
    if not address.is_global or (isinstance(address, IPv6Address) and address not in _GLOBAL_V6):
        return "not public"
    return None
