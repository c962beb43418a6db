"""Async gather: durable async functions that fetch pages over HTTP at the same time.

`await ctx.run(f)` is a durable step, and `asyncio.gather` works over durable steps: each
asyncio task numbers its own calls, so a replay finds the same ones whatever the order in
which the pages arrived. The program starts the HTTP server that it asks.
"""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from resonate import Context, Resonate

resonate = Resonate()


async def fetch(ctx: Context, url: str) -> str:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=5) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(get)


async def measure(ctx: Context, url: str) -> tuple[str, int]:
    page: str = await ctx.run(fetch, url)
    return page.split()[0], len(page)


@resonate.register
async def crawl(ctx: Context, urls: list[str]) -> dict[str, int]:
    pages = await asyncio.gather(*(ctx.run(measure, url) for url in urls))
    return dict(pages)


class Pages(BaseHTTPRequestHandler):
    """Answers each path with its name and some text."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        body = f"{name} {'x' * len(name)}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the output for the result."""


@contextmanager
def pages_served() -> Iterator[str]:
    """Serve `Pages` on a free port of this machine; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def main() -> None:
    with pages_served() as address:
        async with resonate:
            urls = [f"{address}/{name}" for name in ("home", "about", "contact")]
            sizes = await resonate.aio.run("crawl-1", crawl, urls)
    for name, size in sizes.items():
        print(f"{name}: {size} characters")


if __name__ == "__main__":
    asyncio.run(main())
