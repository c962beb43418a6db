"""What a network cannot do whose promises are kept elsewhere: not beside the program's own tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from resonate.errors import NotSupported
from resonate.network.base import Work
from resonate.protocol.requests import Request, Response
from resonate.protocol.transfer import Tree


class Apart:
    """The methods of `Network` that need the storage itself; each raises `NotSupported`."""

    exclusive = False

    def keeper(self) -> str:
        """What keeps the promises, for the error."""
        raise NotImplementedError

    def transact(self, work: Work, seconds: float) -> list[Response]:
        """There is no connection to lend.

        Raises:
            NotSupported: always.
        """
        raise self._no_database()

    def write_in(
        self, connection: Any, requests: Sequence[Request], check: Callable[[Sequence[Response]], object]
    ) -> tuple[list[Response], Callable[[], bool]]:
        """There is no transaction to share.

        Raises:
            NotSupported: always.
        """
        raise self._no_database()

    def is_committed(self, id: str) -> bool:
        """Nothing is ever written within a transaction of the user's.

        Raises:
            NotSupported: always.
        """
        raise self._no_database()

    def purge(self, id: str) -> None:
        """The protocol has no word for it.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(f"{id} cannot be purged: {self.keeper()} has no way to be told so")

    def bring(self, tree: Tree) -> None:
        """The protocol has no word for it.

        Raises:
            NotSupported: always.
        """
        raise NotSupported(f"{tree.root} cannot be imported: {self.keeper()} has no way to be told so")

    def _no_database(self) -> NotSupported:
        return NotSupported(f"{self.keeper()} keeps promises in no database that this program shares")


__all__ = ["Apart"]
