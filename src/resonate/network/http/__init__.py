"""The network of a client whose promises are kept by a server, reached over HTTP.

`network.py` is the contract of `network.base` over the parts beside it: `connection.py` speaks
HTTP/1.1 on a socket, `exchange.py` repeats requests where that is safe, `remedies.py` finds out
what became of those where it is not, `batches.py` sends many at once, `stream.py` receives
messages. Nothing here is imported before a client with such a URL starts.
"""

from __future__ import annotations

from resonate.network.http.network import HttpNetwork

__all__ = ["HttpNetwork"]
