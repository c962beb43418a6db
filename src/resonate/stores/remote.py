"""A store behind an HTTP server: names that programs import, not offered by this version.

They raise when they are made, not when they are imported, so that a program which only
sometimes goes remote keeps running locally.
"""

from __future__ import annotations

from typing import Any

from resonate.errors import NotSupported


class RemoteStore:
    """Promises on a Resonate server; not offered by this version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(
            "RemoteStore needs a Resonate server, which this version of resonate cannot speak to yet. "
            "Use Resonate() without store to keep state in the memory of this process, or LocalStore() to share it"
        )


class Poller:
    """Messages of a Resonate server; not offered by this version."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotSupported(
            "Poller needs a Resonate server, which this version of resonate cannot speak to yet. "
            "Use Resonate() without message_source, or LocalStore().message_source(group, id)"
        )
