"""A server on its port: in the main thread until a signal comes, or beside a program in a thread.

Stopping drains: no new connections, streams end, requests under way are answered within the
shutdown time; then timers stop. The storage stays open, it belongs to whoever opened it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from resonate.errors import UsageError
from resonate.server.admission import Admission
from resonate.server.app import Application, create_app
from resonate.server.base import Listening, Settings
from resonate.server.connections import patient
from resonate.server.metrics import Metrics
from resonate.server.push import Pusher, PushSettings
from resonate.service.service import Service

BACKLOG: Final = 2_048
"""Connections that the kernel keeps while we are busy."""

SWITCH_INTERVAL: Final = 0.0001
"""Seconds after which a thread that runs must let another one go on."""

_LOG: Final = logging.getLogger("resonate.server")


class Server:
    """One service on one port (and its metrics on a second). Binds at once, so that `port` is known.

    Args:
        service: started when the server starts, stopped when it has stopped.
        settings: how to answer.
        listening: where.
        push: how to deliver to HTTP addresses; None leaves what is sent there in the outbox.

    Raises:
        UsageError: the address cannot be bound, the certificate cannot be used, or `push` cannot be followed.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings | None = None,
        listening: Listening | None = None,
        push: PushSettings | None = None,
    ) -> None:
        self.service = service
        self.listening = listening or Listening()
        wanted = self.listening.metrics_port is not None
        self._metrics = Metrics() if wanted else None
        self.app: Application = create_app(service, self._guarded(settings or Settings()), self._metrics)
        self._admission = Admission(self.app.settings.max_waiting, lambda: self.app.turned_away("busy"))
        if self._metrics is not None:
            self._metrics.watch(service, self.app)
        self._pusher = None if push is None else self._pushing(push)
        _check_certificate(self.listening)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: list[socket.socket] = []
        self._socket = self._bind(self.listening.port, "choose another with --server-port or server.port")
        self.port: int = self._socket.getsockname()[1]
        self.metrics_port: int | None = None
        self._main = _Uvicorn(self._config(self.app, tls=True), self.app.drain)
        self._second: _Uvicorn | None = None
        if self._metrics is not None and self.listening.metrics_port is not None:
            self._second_socket = self._bind(
                self.listening.metrics_port,
                "choose another with --observability-metrics-port or observability.metrics_port (0 is none)",
            )
            self.metrics_port = self._second_socket.getsockname()[1]
            self._second = _Uvicorn(self._config(self._metrics.app(), tls=False), lambda: None)

    @property
    def url(self) -> str:
        """Where clients on this machine find the server."""
        host = self.listening.bind
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
        return f"{'https' if self.listening.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM (in the main thread) or `stop`, then drain.

        Args:
            ready: called once connections are accepted.
        """
        _raise_file_limit()
        with self._switching_often():
            self._run(ready)

    def _run(self, ready: Callable[[], None] | None) -> None:
        loop_factory = self._main.config.get_loop_factory()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(self._serve(ready))

    def stop(self) -> None:
        """Have `run` drain and return. From any thread; idempotent."""
        self._main.should_exit = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of a server that runs."""
        assert self._loop is not None, "the server does not run yet"
        return self._loop

    @contextlib.contextmanager
    def _switching_often(self) -> Iterator[None]:
        """In a process that is ours, and with a thread that commits, have the interpreter change threads more often.

        The committer needs the interpreter between the statements of a transaction, and would get it
        back from a busy event loop only after 5 ms: 64 connections had 8,700 answers/s, and have 12,500.
        """
        own = threading.current_thread() is threading.main_thread() and not self.service.storage.immediate
        before = sys.getswitchinterval()
        if own:
            sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            yield
        finally:
            if own:
                sys.setswitchinterval(before)

    async def _serve(self, ready: Callable[[], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.service.start()
        if self._pusher is not None:
            self._pusher.start()
        second: asyncio.Task[None] | None = None
        try:
            if self._second is not None:
                second = asyncio.create_task(self._second.serve_quietly(self._second_socket))
            if ready is not None:
                self._main.when_started = ready
            await self._main.serve(sockets=[self._socket])
        finally:
            if self._second is not None and second is not None:
                self._second.should_exit = True
                await second
            await self.app.finish()
            if self._pusher is not None:
                await asyncio.to_thread(self._pusher.stop)
            self.service.stop()
            self.close()

    def close(self) -> None:
        """Free the ports of a server that never ran. Idempotent."""
        for bound in self._sockets:
            bound.close()

    def _guarded(self, settings: Settings) -> Settings:
        """Where all of this machine may do everything, pages in its browsers must not: they know us by other names."""
        if settings.auth is None and settings.hosts is None and self.listening.local:
            return replace(settings, hosts=())
        return settings

    def _pushing(self, push: PushSettings) -> Pusher:
        if push.server_url is None:
            push = replace(push, server_url=self.app.settings.server_url)
        return Pusher(self.service, push, observe=None if self._metrics is None else self._metrics.delivered)

    def _bind(self, port: int, remedy: str) -> socket.socket:
        host = self.listening.bind
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            bound = socket.socket(family, kind, protocol)
            self._sockets.append(bound)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _notice_dead_peers(bound, self.listening.request_timeout)
            bound.bind(address)
        except OSError as error:
            self.close()
            raise UsageError(
                f"cannot listen on {host or '*'} port {port}: {error.strerror or error}. "
                f"Stop what uses the port, or {remedy}"
            ) from error
        return bound

    def _config(self, app: ASGIApp, tls: bool) -> uvicorn.Config:
        listening = self.listening
        tls = tls and listening.tls
        return uvicorn.Config(
            app,
            http=patient(listening.header_timeout / 1000, listening.request_timeout / 1000, self._admission),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=max(1, listening.keep_alive // 1000),
            timeout_graceful_shutdown=max(1, -(-listening.shutdown_timeout // 1000)),
            ssl_certfile=listening.certificate if tls else None,
            ssl_keyfile=listening.key if tls else None,
            ssl_keyfile_password=listening.key_password if tls else None,
        )


class ServerThread:
    """A server beside the program, for tests and for programs that bring their own server.

    Use it as a context manager, or `start` and `stop` it. Arguments as for `Server`; the port
    is a free one unless `listening` names one.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings | None = None,
        listening: Listening | None = None,
        push: PushSettings | None = None,
    ) -> None:
        self.server = Server(service, settings, listening or Listening(port=0), push)
        self._thread = threading.Thread(target=self._run, name="resonate-server", daemon=True)
        self._started = threading.Event()
        self._failed: BaseException | None = None

    @property
    def url(self) -> str:
        """Where clients on this machine find the server."""
        return self.server.url

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self.server.port

    def start(self) -> ServerThread:
        """Serve; returns once connections are accepted.

        Raises:
            Exception: what kept the server from starting.
        """
        self._thread.start()
        self._started.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def stop(self) -> None:
        """Drain and end; returns when all is freed. Idempotent."""
        self.server.stop()
        if self._thread.ident is None:
            self.server.close()
        else:
            self._thread.join()

    def __enter__(self) -> ServerThread:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self.server.run(self._started.set)
        except BaseException as error:
            self._failed = error
            _LOG.exception("the server thread has ended")
        finally:
            self._started.set()


class _Uvicorn(uvicorn.Server):
    """uvicorn that tells the application when the end begins, and us when it has begun."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._drain = drain
        self.when_started: Callable[[], None] = lambda: None

    async def serve_quietly(self, bound: socket.socket) -> None:
        """Serve without touching the process's signals."""
        await self._serve([bound])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()  # streams would never end by themselves
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal again: the caller ends by returning."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def _check_certificate(listening: Listening) -> None:
    if listening.certificate is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            listening.certificate, listening.key, (lambda: listening.key_password or "")
        )
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the certificate {listening.certificate} with key {listening.key} cannot be used: {error}. "
            "Give PEM files that belong together, and the key's password if it has one"
        ) from error


def _notice_dead_peers(listener: socket.socket, patience: int) -> None:
    """Connections inherit these: what a peer does not acknowledge within `patience` ms ends its connection."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)


def _raise_file_limit() -> None:
    """As many open files as this user may have: each poll stream is one."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError, OSError):  # not on this system, or not allowed: it goes without
        return
