"""What our servers do with whole trees beside the protocol: store an exported one, delete a finished one.

Each is one request with one attempt: after one whose answer was lost, whoever asked has to look.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from resonate.errors import NotSupported, OutcomeUnknown, ResonateStoreError, StorageUnavailable, UsageError
from resonate.network.http.connection import FORBIDDEN, Answer, Connection, Lost, Server
from resonate.protocol.transfer import Tree, dump

SHOWN: Final = 200
"""Characters of a foreign answer that an error shows."""


class _Told(Struct):
    """An answer of ours that something was not done."""

    error: str


class WholeTrees:
    """Asks one server.

    Args:
        server: which.
        timeout: seconds of silence after which the one attempt is given up.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self._server = server
        self._timeout = timeout

    def purge(self, id: str) -> None:
        """Delete the finished tree of `id`; see `Network.purge`."""
        self._ask("/trees/purge", msgspec.json.encode({"id": id}), f"{id} cannot be purged")

    def bring(self, tree: Tree) -> None:
        """Store a whole exported tree; see `Network.bring`."""
        self._ask("/trees/import", dump(tree), f"{tree.root} cannot be imported")

    def _ask(self, path: str, body: bytes, refused: str) -> None:
        head = self._server.head("POST", path, "content-type: application/json")
        try:
            connection = Connection(self._server, self._timeout)
            try:
                answer = connection.ask(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            finally:
                connection.close()
        except Lost as lost:
            what = f"POST {path} got no answer from {self._server.shown}: {lost.reason}"
            if lost.sent:
                raise OutcomeUnknown(f"{what}. It may have been done: look before you try again") from None
            raise StorageUnavailable(
                f"{what}. Nothing was changed; see that the server runs and the url is right"
            ) from None
        if answer.status != 200:
            raise self._error(answer, refused)

    def _error(self, answer: Answer, refused: str) -> Exception:
        status, shown = answer.status, self._server.shown
        try:
            text = msgspec.json.decode(answer.body, type=_Told).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            body = answer.body[:SHOWN].decode(errors="replace").strip() or "empty"
            if status in (404, 405, 410, 501):
                return NotSupported(f"{refused}: the server at {shown} is of another make, which knows no such request")
            if status == 413:
                return UsageError(f"{refused}: {body}")
            return ResonateStoreError(f"{shown} answered with HTTP {status} ({body})", status * 100)
        if status == 404:
            return ResonateStoreError(text, 40400)
        if status in (400, 409, 413):
            return UsageError(text)
        if status == 503:
            return StorageUnavailable(text)
        hint = {401: f": {self._server.remedy}", 403: f": {FORBIDDEN}"}
        return ResonateStoreError(f"{refused}: {shown} answered {status} {text}{hint.get(status, '')}", status * 100)
