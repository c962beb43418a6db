"""Requests that a browser makes for a page of somebody else, told from those of our own pages and of programs.

A page of any site may have its visitor's browser send requests to a server that only this
machine or network reaches: simple ones at once, and by a name that suddenly stands for
127.0.0.1 (DNS rebinding) even ones whose answers it can read. Browsers say where a request
comes from in headers that no page can change; programs that are no browser do not send them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address
from typing import Final

SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing here and whose answers other sites cannot read."""

_OURS: Final = frozenset((b"same-origin", b"none"))
_HEADERS: Final = frozenset((b"host", b"origin", b"sec-fetch-site"))

OTHER_SITE: Final = (
    "Forbidden: a browser sent this for a page of another site. Nothing was done. Origins whose pages may ask are "
    "listed in server.cors.allow_origins"
)
OTHER_NAME: Final = (
    "Forbidden: this server is not known by that name. Nothing was done. Ask for it as localhost or by its address, "
    "or set server.host to the name"
)


class Guard:
    """Says which requests are those of other sites.

    Args:
        hosts: names, besides addresses and localhost, under which we are asked for; None: any. To be given where
            whoever reaches us may do everything: a page cannot choose an address as the name of its own host.
        origins: other sites that may ask; `*` is any.
    """

    def __init__(self, hosts: Iterable[str] | None = None, origins: Collection[str] = ()) -> None:
        self._hosts = None if hosts is None else {host.lower().encode("utf-8", "surrogatepass") for host in hosts}
        self._origins = {origin.lower().encode("utf-8", "surrogatepass") for origin in origins}
        self._known: set[bytes] = set()  # names that have passed, since nearly all requests have the same

    def problem(self, headers: Iterable[tuple[bytes, bytes]], *, open: bool) -> str | None:
        """Why a request with these headers is refused; None if it may pass.

        Args:
            headers: names in lower case.
            open: whether other sites may have browsers ask for it: it changes nothing, and they cannot read it.
        """
        host = origin = site = None
        for name, value in headers:
            if name not in _HEADERS:
                continue
            if name == b"host":
                if host is not None and host != value:
                    return OTHER_NAME
                host = value
            elif name == b"origin":
                origin = value
            else:
                site = value
        if self._hosts is not None and host is not None and host not in self._known and not self._is_ours(host):
            return OTHER_NAME
        if open:
            return None
        if origin is not None:
            return None if self._may_ask(origin, host) else OTHER_SITE
        return OTHER_SITE if site is not None and site not in _OURS else None

    def _may_ask(self, origin: bytes, host: bytes | None) -> bool:
        origin = origin.lower()
        if b"*" in self._origins or origin in self._origins:
            return True
        return host is not None and origin.partition(b"://")[2] == host.lower()

    def _is_ours(self, host: bytes) -> bool:
        assert self._hosts is not None
        name = _without_port(host.lower()).rstrip(b".")
        ours = name == b"localhost" or name.endswith(b".localhost") or name in self._hosts or _is_address(name)
        if ours and len(self._known) < 64:
            self._known.add(host)
        return ours


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0]
    return host.partition(b":")[0]


def _is_address(name: bytes) -> bool:
    try:
        ip_address(name.decode("ascii"))
    except ValueError:
        return False
    return True
