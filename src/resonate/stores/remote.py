"""A store behind an HTTP server: names that programs import; a client is given the URL instead.

They raise when they are made, not when they are imported, so that a program which only
sometimes goes remote keeps running locally.
"""

from __future__ import annotations

from typing import Any

from resonate.errors import NotSupported


class RemoteStore:
    """Promises on a Resonate server; say `Resonate(url=...)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(
            "a client has no store of its own for a Resonate server any more: "
            "write Resonate(url='http://HOST:8001'), without store and message_source"
        )


class Poller:
    """Messages of a Resonate server; say `Resonate(url=...)`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(
            "a client has no message source of its own for a Resonate server any more: "
            "write Resonate(url='http://HOST:8001'), without store and message_source"
        )
