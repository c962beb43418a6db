"""A program whose way to the database is cut without a word: `unshare --net python -m tests.postgres.cut_off`.

In a network of its own, which has nothing but a loopback device: taking that down drops every
packet and tells nobody. Prints how many seconds a caller waited for an error.
"""

from __future__ import annotations

import subprocess
import time

from resonate.errors import OutcomeUnknown, StorageUnavailable
from resonate.storage.postgres import connection
from tests.postgres.cluster import Cluster
from tests.postgres.test_failures import RESULT, Journal, insist


def network(state: str) -> None:
    """Take the network `up` or `down`."""
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def main() -> None:
    """Run programs before, while and after the network is away."""
    network("up")
    cluster = Cluster()
    try:
        cluster.start()
        journal = Journal()
        client = journal.client(cluster.url)
        assert insist(client, "before") == RESULT
        connection.PATIENCE = 0.5  # type: ignore[misc]
        network("down")
        began = time.monotonic()
        try:
            client.run("during", "program", "during")
        except (StorageUnavailable, OutcomeUnknown):
            print(time.monotonic() - began, flush=True)
        network("up")
        assert insist(client, "during") == RESULT
        assert insist(client, "after") == RESULT
        journal.check()
        client.stop()
    finally:
        cluster.remove()


if __name__ == "__main__":
    main()
