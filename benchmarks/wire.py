"""`python -m benchmarks.wire [URL]`: what a request over loopback costs a client, and what our calls make of it.

The first table sends one small request again and again by each HTTP client that is installed,
to a server that answers with fixed bytes: the difference is the client's own work. The second
runs our programs, against the server at URL or against the small one of the tests, which is
slow and in a process of its own.
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from resonate import Resonate
from resonate.network.http.connection import Connections, Server

REQUESTS: Final = 5000
WARM_UP: Final = 300
RUNS: Final = 300
STEPS: Final = 1000

BODY: Final = b'{"kind":"promise.get","head":{"corrId":"1","version":"2026-04-01"},"data":{"id":"order-7"}}'
HEADERS: Final = {"content-type": "application/json"}

FIXED: Final = """
import asyncio
BODY = b'{"kind":"promise.get","head":{"corrId":"1","status":404,"version":"2026-04-01"},"data":"no such promise"}'
HEAD = b"HTTP/1.1 404 Not Found\\r\\ndate: Mon, 23 Nov 2026 08:44:44 GMT\\r\\nserver: fixed\\r\\n"
HEAD += b"resonate-batch: 1\\r\\nresonate-now: 1790000000000\\r\\ncontent-type: application/json\\r\\n"
HEAD += b"content-length: %d\\r\\n\\r\\n" % len(BODY)

class Fixed(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.data = transport, b""

    def data_received(self, data):
        self.data += data
        end = self.data.find(b"\\r\\n\\r\\n")
        if end < 0:
            return
        length = int(self.data[:end].lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
        if len(self.data) >= end + 4 + length:
            self.data = self.data[end + 4 + length:]
            self.transport.write(HEAD + BODY)

async def main():
    server = await asyncio.get_running_loop().create_server(Fixed, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

TESTS: Final = """
import sys
from tests.wire_server import WireServer
print(WireServer(foreign={foreign!r}).start().url, flush=True)
sys.stdin.read()
"""

Row = tuple[str, str, str]


@contextmanager
def serving(program: str) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def measured(name: str, job: Callable[[], object], count: int = REQUESTS) -> Row:
    """Processor time and latency of `job`, microseconds."""
    for _ in range(min(WARM_UP, count)):
        job()
    busy, begun = time.process_time(), time.perf_counter()
    for _ in range(count):
        job()
    busy, begun = time.process_time() - busy, time.perf_counter() - begun
    return name, f"{busy / count * 1e6:.0f}", f"{begun / count * 1e6:.0f}"


async def measured_on_loop(name: str, job: Callable[[], Awaitable[object]]) -> Row:
    """`measured`, for a job that is awaited."""
    for _ in range(WARM_UP):
        await job()
    busy, begun = time.process_time(), time.perf_counter()
    for _ in range(REQUESTS):
        await job()
    busy, begun = time.process_time() - busy, time.perf_counter() - begun
    return name, f"{busy / REQUESTS * 1e6:.0f}", f"{begun / REQUESTS * 1e6:.0f}"


def blocking(url: str) -> Iterator[Row]:
    """The clients that block."""
    server = Server.at(url)
    connections = Connections(server)
    request = (
        server.head("POST", "/", "content-type: application/json") + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
    )
    yield measured("ours", lambda: connections.ask(request).body)

    plain = http.client.HTTPConnection(server.host, server.port)

    def ask_plain() -> bytes:
        plain.request("POST", "/", BODY, HEADERS)
        return plain.getresponse().read()

    yield measured("http.client", ask_plain)
    plain.close()
    if find_spec("urllib3"):
        pool = import_module("urllib3").HTTPConnectionPool(server.host, server.port)
        yield measured("urllib3", lambda: pool.urlopen("POST", "/", BODY, HEADERS, retries=False, redirect=False).data)
        pool.close()
    if find_spec("requests"):
        session = import_module("requests").Session()
        yield measured("requests", lambda: session.post(url, data=BODY, headers=HEADERS).content)
        session.close()
    if find_spec("httpx"):
        client = import_module("httpx").Client()
        yield measured("httpx", lambda: client.post(url, content=BODY, headers=HEADERS).content)
        client.close()
    yield from asyncio.run(awaiting(url, lambda: connections.ask(request).body))
    connections.close()


async def awaiting(url: str, ask: Callable[[], bytes]) -> list[Row]:
    """The clients of an event loop."""
    loop = asyncio.get_running_loop()
    rows = [await measured_on_loop("ours, on a thread", lambda: loop.run_in_executor(None, ask))]
    if find_spec("aiohttp"):
        async with import_module("aiohttp").ClientSession() as session:

            async def post() -> bytes:
                async with session.post(url, data=BODY, headers=HEADERS) as answer:
                    found: bytes = await answer.read()
                    return found

            rows.append(await measured_on_loop("aiohttp", post))
    return rows


def step(ctx: Any, value: int) -> int:
    return value + 1


def steps(ctx: Any, count: int) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(count):
        total = yield ctx.run(step, total)
    return total


def programs(url: str, name: str) -> Iterator[Row]:
    """Our own calls, by the server at `url`."""
    with Resonate(url=url) as client:
        client.register(steps)
        ids = iter(range(10**9))
        mark = time.time_ns()
        yield measured(f"run with one step, {name}", lambda: client.run(f"one-{mark}-{next(ids)}", steps, 1), RUNS)
        busy, begun = time.process_time(), time.perf_counter()
        client.run(f"many-{mark}", steps, STEPS)
        busy, begun = time.process_time() - busy, time.perf_counter() - begun
        yield f"one of {STEPS} steps in a row, {name}", f"{busy / STEPS * 1e6:.0f}", f"{begun / STEPS * 1e6:.0f}"


def show(title: str, rows: Iterator[Row]) -> None:
    """Print a table while it is measured."""
    print(f"\n{title:40} {'cpu µs':>8} {'wall µs':>8}")
    for name, busy, wall in rows:
        print(f"{name:40} {busy:>8} {wall:>8}", flush=True)


def main() -> None:
    """Measure and print."""
    with serving(FIXED) as url:
        show("one request", blocking(url))
    if len(sys.argv) > 1:
        show("our calls", programs(sys.argv[1], "server given"))
        return
    for name, foreign in (("in batches", None), ("one by one", ":")):
        with serving(TESTS.format(foreign=foreign)) as url:
            show("our calls, over the server of the tests", programs(url, name))


if __name__ == "__main__":
    main()
