"""Posts messages to `http://` and `https://` addresses (protocol 2026-04-01, 6.2 and 6.3).

One thread with an event loop of its own: a pushed worker runs its task inside the request,
so deliveries are many, long and idle, which is what a loop is good at and threads are not.
An offer is tried once, its timer repairs a loss. The news of a settled promise stays in the
outbox until a receiver has taken it, and is tried again for a bounded time; a receiver may
therefore see it twice, and so may one whose storage is shared by several servers.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import aiohttp

from resonate.errors import UsageError
from resonate.protocol import wire
from resonate.protocol.records import Unblock
from resonate.protocol.rows import Send
from resonate.server.destinations import CheckedResolver, Destinations, Refused, Resolve
from resonate.server.receivers import Receivers, host_of
from resonate.service.delivery import Pushing
from resonate.service.service import Service
from resonate.signing import SIGNATURE, TIMESTAMP, sign
from resonate.urls import shown

CONCURRENCY: Final = 256
"""Requests of one host under way at once; a pushed worker holds one for as long as its task runs."""

CONNECT_TIMEOUT: Final = 10_000
"""Milliseconds for looking a name up, connecting and greeting."""

REQUEST_TIMEOUT: Final = 180_000
"""Milliseconds for a whole request."""

UNBLOCK_AGE: Final = 24 * 3_600_000
"""Milliseconds after the settlement of a promise for which its news is tried again."""

MIN_ATTEMPTS: Final = 8
"""Attempts that news of any age gets: a server that was down for longer still tells what it missed."""

FIRST_RETRY: Final = 1_000
"""Milliseconds before news is tried again for the first time; doubled each time."""

LONGEST_RETRY: Final = 300_000
"""Milliseconds between two attempts at most."""

WAITING: Final = 100_000
"""News that wait for another attempt; beyond, they stay in the outbox for the next start of the server."""

STOPPING: Final = 5_000
"""Milliseconds in which requests under way may end when the server stops."""

BUSY: Final = 1.0
"""Seconds after which news are looked at again whose receiver has as many deliveries as it may have."""

AFTER_FAILURE: Final = 1.0
"""Seconds before the storage is asked again when it has failed."""

_REPORTED: Final = 1_024  # addresses whose last failure is not reported again: offers repeat without end
_LOG: Final = logging.getLogger("resonate.server")

P = ParamSpec("P")
R = TypeVar("R")
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How and where to push.

    Args:
        allow: destinations that are not public and may be reached; see `Destinations`.
        public: whether public destinations need no entry in `allow`.
        auth: `none`, or `bearer`: each request carries `token`, and only receivers in `allow` get any: whoever may
            create a promise names its receiver, and would be shown the token.
        token: sent as `Bearer <token>`.
        header: where the token is sent.
        signing_key: signs each request (`resonate.signing`); None signs nothing.
        server_url: where a pushed worker talks back to; None leaves it out.
        concurrency: requests of one host under way at once; of all hosts together four times as many.
        connect_timeout, request_timeout: milliseconds.
        unblock_age: milliseconds after the settlement for which news is tried again.
        first_retry, longest_retry: milliseconds between attempts.
        ca_file: certificates (PEM) to trust instead of the system's.
    """

    allow: tuple[str, ...] = ()
    public: bool = True
    auth: str = "none"
    token: str | None = field(default=None, repr=False)
    header: str = "Authorization"
    signing_key: str | None = field(default=None, repr=False)
    server_url: str | None = None
    concurrency: int = CONCURRENCY
    connect_timeout: int = CONNECT_TIMEOUT
    request_timeout: int = REQUEST_TIMEOUT
    unblock_age: int = UNBLOCK_AGE
    first_retry: int = FIRST_RETRY
    longest_retry: int = LONGEST_RETRY
    ca_file: str | None = None


Observe = Callable[[str, str], None]
"""(kind of message, `success`, `error` or `dropped`), called for each attempt on the pusher's thread."""


class Pusher:
    """Delivers what a service sends to HTTP addresses.

    Args:
        service: started and stopped by whoever made it, after this and before.
        settings: how and where.
        resolve: looks names up; None asks the system.
        observe: told how each attempt ended, for metrics.

    Raises:
        UsageError: the settings cannot be followed; says which and what to do.
    """

    def __init__(
        self,
        service: Service,
        settings: PushSettings | None = None,
        *,
        resolve: Resolve | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._service = service
        self._settings = settings or PushSettings()
        self._headers = _headers(self._settings)
        self._tls = _tls(self._settings)
        public = self._settings.public and self._settings.auth != "bearer"
        self._destinations = Destinations(self._settings.allow, public=public)
        self._resolve = resolve
        self._observe = observe or (lambda kind, outcome: None)
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._stopping = False
        self._grace = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._subscription = Pushing(self._wake)
        self._under_way: set[asyncio.Task[None]] = set()
        self._receivers = Receivers(self._settings.concurrency)
        self._waiting: list[tuple[float, Key, str]] = []  # when, what, for which host
        self._attempts: dict[Key, int] = {}  # failed ones, of each news that is under way or waits
        self._reported: dict[str, str] = {}

    def start(self) -> None:
        """Begin to deliver, what has waited included. Idempotent."""
        if self._thread is not None or self._stopping:
            return
        self._thread = threading.Thread(target=self._run, name="resonate-push", daemon=True)
        self._thread.start()
        self._started.wait()

    def stop(self, grace: int = STOPPING) -> None:
        """Deliver nothing more, ever; returns when all has ended. Idempotent.

        Args:
            grace: milliseconds in which requests under way may end; then they are cut off.
        """
        self._grace = grace / 1000
        self._stopping = True
        self._wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()  # whoever else stops it waits too

    # ---- the loop ----------------------------------------------------------------------------

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._woken.set)
            except RuntimeError:  # closed in between: nobody is left to wake
                return

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._store_thread = ThreadPoolExecutor(1, "resonate-push-store")
        timeout = aiohttp.ClientTimeout(
            total=self._settings.request_timeout / 1000, connect=self._settings.connect_timeout / 1000
        )
        # Each request has a connection of its own: receivers are many and seldom, a kept connection may
        # be dead when it is needed, and a message must not get lost on it.
        connector = aiohttp.TCPConnector(
            limit=0,  # `_receivers` has the limits
            force_close=True,
            use_dns_cache=False,  # it knows no bound
            resolver=CheckedResolver(self._destinations, self._resolve),
            ssl=self._tls,
        )
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            ) as self._session:
                await self._deliver_all()
        finally:
            self._loop = None
            self._started.set()
            self._store_thread.shutdown(wait=False)

    async def _deliver_all(self) -> None:
        subscribed = False
        while not self._stopping:
            self._woken.clear()
            pause: float | None = AFTER_FAILURE
            try:
                if not subscribed:
                    await self._stored(self._service.subscribe, self._subscription)
                    subscribed = True
                pause = await self._begin()
            except Exception:
                _LOG.exception("the outbox cannot be read, trying again in %g s", AFTER_FAILURE)
            self._started.set()
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                continue
        await self._end()

    async def _end(self) -> None:
        """Let requests under way end; what they leave undone is still in the outbox, or offered again."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self._grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        try:
            left = self._receivers.left()
            if left:
                await self._stored(self._service.give_back, left)
            await self._stored(self._subscription.close)
        except Exception:
            _LOG.exception("the pusher could not leave its service in order; nothing is lost by it")

    async def _begin(self) -> float | None:
        """Begin as many deliveries as there is room for; returns after how many seconds to look again."""
        now = self._now()
        planned: Counter[str] = Counter()
        due: list[Key] = []
        for host, waited in self._receivers.ready(planned):
            if isinstance(waited, tuple):
                due.append(waited)
                planned[host] += 1
            else:
                self._spawn(waited, again=False)
        due += self._due(now, planned)
        if due:
            await self._begin_again(due)
        while room := self._receivers.room:
            sends = await self._stored(self._subscription.pick, room)
            if not sends:
                break
            for send in sends:
                if send.key in self._attempts:  # it is under way or waits, and was routed twice
                    continue
                if send.key[0] != "execute":  # two offers of one task are two messages, of two versions perhaps
                    self._attempts[send.key] = 0
                self._begin_or_park(send)
        if not self._waiting or self._waiting[0][0] <= now:  # what is due waits for room: its end wakes us
            return None
        return max(0.0, self._waiting[0][0] - self._now())

    def _due(self, now: float, planned: Counter[str]) -> list[Key]:
        """What failed before and is due, of hosts that may have more."""
        due: list[Key] = []
        later: list[tuple[float, Key, str]] = []
        while self._waiting and self._waiting[0][0] <= now and len(due) + len(later) < self._receivers.total:
            _, key, host = heapq.heappop(self._waiting)
            if self._receivers.may_have_again(host, planned):
                due.append(key)
                planned[host] += 1
            else:
                later.append((now + BUSY, key, host))
        for waiting in later:
            heapq.heappush(self._waiting, waiting)
        return due

    def _begin_or_park(self, send: Send) -> None:
        """Begin a delivery, or have it wait while its host has its share: others find room meanwhile."""
        host = host_of(send.address)
        if self._receivers.may_have(host, Counter()):
            self._spawn(send, again=False)
        elif not self._receivers.park(host, send):
            if send.key[0] != "execute":
                self._wait(send.key, host, BUSY)
            else:
                self._tell(send, "too many messages wait for their hosts, the task is offered again later", "dropped")

    async def _begin_again(self, keys: list[Key]) -> None:
        try:
            sends = await self._stored(self._subscription.again, keys)
        except Exception:
            for key in keys:
                heapq.heappush(self._waiting, (self._now() + AFTER_FAILURE, key, ""))
            raise
        for key in set(keys) - {send.key for send in sends}:
            del self._attempts[key]  # another server of the same storage was faster
        for send in sends:
            self._spawn(send, again=self._attempts[send.key] > 0)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _spawn(self, send: Send, again: bool) -> None:
        deliver = self._deliver_offer if send.key[0] == "execute" else self._deliver_news
        task = asyncio.get_running_loop().create_task(deliver(send))
        host = host_of(send.address)
        self._under_way.add(task)
        self._receivers.begin(host, again)
        task.add_done_callback(partial(self._ended, again, host))

    def _ended(self, again: bool, host: str, task: asyncio.Task[None]) -> None:
        self._under_way.remove(task)
        self._receivers.end(host, again)
        self._woken.set()

    async def _stored(self, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask the storage without making the loop wait for a disk."""
        if self._service.storage.immediate:
            return ask(*args, **kwargs)
        call = partial(ask, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._store_thread, call)

    # ---- one delivery ------------------------------------------------------------------------

    async def _deliver_offer(self, send: Send) -> None:
        """One attempt; the task's own timer offers it again."""
        refused, problem = await self._try(send)
        self._tell(send, problem, "dropped" if refused else "error")

    async def _deliver_news(self, send: Send) -> None:
        """One attempt, and what follows from it: the news is done, or tried again later."""
        refused, problem = await self._try(send)
        dropped = problem is not None and (refused or self._too_old(send))
        self._tell(send, problem, "dropped" if dropped else "error")
        if problem is not None and not dropped:
            self._wait_for_another(send)
            return
        if dropped:
            _LOG.warning("%s is given up after %d attempts", _named(send.key), self._attempts[send.key] + 1)
        try:
            await self._stored(self._subscription.done, [send.key])
        except Exception as error:
            _LOG.error("%s is delivered and will be again, the outbox cannot be written: %s", _named(send.key), error)
            self._wait_for_another(send)
        else:
            del self._attempts[send.key]

    async def _try(self, send: Send) -> tuple[bool, str | None]:
        """One attempt: whether the address is refused for good, and what went wrong, if anything."""
        body = wire.encode_message(send.message, self._settings.server_url)
        try:
            url = self._destinations.check_url(send.address)
            async with self._session.post(
                url, data=body, headers=self._signed(body), allow_redirects=False
            ) as response:
                status = response.status
        except Refused as refusal:
            return True, str(refusal)
        except TimeoutError:
            return False, "no answer in time"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return False, f"{type(error).__name__}: {error}"
        return False, None if 200 <= status < 300 else f"it answered {status}"

    def _signed(self, body: bytes) -> dict[str, str]:
        key = self._settings.signing_key
        if key is None:
            return {}
        timestamp = self._service.clock.now()
        return {TIMESTAMP: str(timestamp), SIGNATURE: sign(key, body, timestamp)}

    def _too_old(self, send: Send) -> bool:
        message = send.message
        settled_at = message.promise.settled_at if isinstance(message, Unblock) else None
        age = self._service.now() - (settled_at or 0)
        return age > self._settings.unblock_age and self._attempts[send.key] + 1 >= MIN_ATTEMPTS

    def _wait_for_another(self, send: Send) -> None:
        failed = self._attempts[send.key]
        self._attempts[send.key] = failed + 1
        longest = min(self._settings.first_retry * 2 ** min(failed, 40), self._settings.longest_retry)
        # not all at once, when a receiver that many wait for comes back
        self._wait(send.key, host_of(send.address), longest / 1000 * random.uniform(0.5, 1))

    def _wait(self, key: Key, host: str, seconds: float) -> None:
        if len(self._waiting) >= WAITING:
            del self._attempts[key]
            _LOG.error("%d news wait already: %s stays in the outbox until the server restarts", WAITING, _named(key))
            return
        heapq.heappush(self._waiting, (self._now() + seconds, key, host))

    def _tell(self, send: Send, problem: str | None, outcome: str) -> None:
        """Count an attempt and report a failure: once, until the address works again."""
        if problem is None:
            self._observe(send.key[0], "success")
            self._reported.pop(send.address, None)
            return
        self._observe(send.key[0], outcome)
        level = logging.DEBUG if self._reported.get(send.address) == problem else logging.WARNING
        if send.address not in self._reported and len(self._reported) >= _REPORTED:
            del self._reported[next(iter(self._reported))]
        self._reported[send.address] = problem
        _LOG.log(level, "pushing %s to %s failed: %s", _named(send.key), _shown(send.address), problem)


def _headers(settings: PushSettings) -> dict[str, str]:
    if settings.concurrency < 1:
        raise UsageError(f"push concurrency is {settings.concurrency}: give 1 or more")
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "resonate"}
    if settings.signing_key == "":
        raise UsageError("the push signing key is empty: everybody could sign with it")
    match settings.auth:
        case "none":
            return headers
        case "bearer":
            token = settings.token or ""
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise UsageError("push auth mode 'bearer' needs a token of printable characters without spaces")
            if not settings.allow:
                raise UsageError(
                    "push auth mode 'bearer' shows the token to the receivers: list them "
                    "(transports.http_push.allow); nobody else is sent anything then"
                )
            return {**headers, settings.header: f"Bearer {token}"}
        case "gcp":
            raise UsageError("push auth mode 'gcp' is not supported: use 'bearer', or sign pushes with a signing key")
    raise UsageError(f"push auth mode {settings.auth!r} is unknown: use 'none' or 'bearer'")


def _tls(settings: PushSettings) -> Any:
    if settings.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificates in {settings.ca_file!r} cannot be read: {error}") from None


def _named(key: Key) -> str:
    return f"the offer of task {key[1]!r}" if key[0] == "execute" else f"the news of promise {key[1]!r}"


def _shown(address: str) -> str:
    """An address without user, password and query: those may hold secrets."""
    return shown(address).partition("?")[0].partition("#")[0]


__all__ = ["PushSettings", "Pusher"]
