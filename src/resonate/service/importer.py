"""Stores a whole exported tree: in one transaction, all of it or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resonate.errors import UsageError
from resonate.protocol import transfer
from resonate.protocol.transfer import Tree

if TYPE_CHECKING:
    from resonate.service.service import Service
    from resonate.storage.base import Transaction

SHOWN = 3
"""Ids that an error names."""


def bring(service: Service, tree: Tree) -> None:
    """Store `tree`, as `transfer.load` has read it, and offer what of it is open; durable when this returns.

    Raises:
        UsageError: something of it exists already; nothing was stored.
        ResonateStoreError: it could not be stored; nothing was.
    """

    def store(transaction: Transaction) -> list[str]:
        taken = transfer.present(transaction, tree)
        if not taken:
            transaction.apply(transfer.stored(tree, service.now(), service.rules))
        return taken

    with service.leading():
        taken = service.run(lambda: transfer.rows(tree), store)
    if taken:
        raise UsageError(_exists(tree.root, taken))
    service.announce()


def _exists(root: str, taken: list[str]) -> str:
    more = f" and {len(taken) - SHOWN} more" if len(taken) > SHOWN else ""
    return (
        f"{root} cannot be imported: {', '.join(taken[:SHOWN])}{more} exist{'s' if len(taken) == 1 else ''} here "
        "already, and nothing was changed. If what is here is finished and not needed any more, purge it first"
    )
