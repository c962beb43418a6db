"""The poll stream: messages to whoever listens, as server-sent events (protocol 2.6).

A stream costs one task that waits for its end and a receiver in the service's delivery; while
nothing is sent, nothing runs. Messages stay in the outbox until a stream can take them: one
that has not written its last ones takes none. What is addressed to a group is dealt out in
turn to its streams; what names a stream goes to it, to the newest of that name. A task that
comes back is offered to another stream than before: who gave it back may lack its function.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, zip_longest
from typing import Final, TypeVar
from urllib.parse import unquote

from msgspec.structs import replace
from starlette.types import Receive, Scope
from starlette.types import Send as AsgiSend

from resonate.errors import ResonateStoreError
from resonate.protocol import wire
from resonate.protocol.rows import Send
from resonate.server.base import Settings, Unauthorized
from resonate.server.dealing import Dealing
from resonate.server.door import Door
from resonate.server.metrics import Metrics
from resonate.service.service import Service, Subscription

ROUND: Final = 256
"""Messages, and streams, that one look at the outbox deals with."""

TURN: Final = 16
"""Messages a stream takes at once, so that a slow one does not sit on what others could have."""

CHUNK: Final = 64 * 1024
"""Bytes written at once; only a single message may be larger."""

AFTER_FAILURE: Final = 1.0
"""Seconds before the next look when the storage could not give its messages."""

REMEMBERED: Final = 3_600_000
"""Milliseconds for which is told who has listened and left."""

REMEMBERED_MOST: Final = 1_000
"""How many of those at most, the last ones."""

_LOG: Final = logging.getLogger("resonate.server")
_STOPPING: Final = "The server is stopping"
_COMMENT: Final = b":\n\n"
_EVENTS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
)
_PREFIX: Final = b"/poll/"

T = TypeVar("T")


class Stream:
    """One connection that listens."""

    def __init__(self, hub: Hub, group: Group, id: str, send: AsgiSend) -> None:
        self.group = group
        self.id = id
        self.send = send
        self.subscription = Subscription(group.name, id, partial(hub.wake, self), direct=True, prefix=group.prefix)
        self.open = False
        self.writing = False
        self.gone = False
        self.quiet_since = 0.0
        self.since = 0

    @property
    def takes(self) -> bool:
        """Whether it has written what it had and may be given more."""
        return self.open and not self.writing and not self.gone

    @property
    def has_room(self) -> bool:
        """Whether anybody can take its own messages."""
        return self.takes

    def ready(self) -> list[Stream]:
        """The streams that its own messages can go to."""
        return [self] if self.takes else []


class Group:
    """The streams of one group that may have the same messages, in turn."""

    def __init__(self, hub: Hub, name: str, prefix: str) -> None:
        self.name = name
        self.prefix = prefix
        self.key = (name, prefix)
        self.dealt = f"{name}\0{prefix}"
        self.streams: dict[Stream, None] = {}  # who had a message last is last
        self.subscription = Subscription(name, "", partial(hub.wake, self), prefix=prefix)  # no stream has an empty id

    @property
    def has_room(self) -> bool:
        """Whether anybody can take the group's messages."""
        return any(stream.takes for stream in self.streams)

    def ready(self) -> list[Stream]:
        """The streams that can be given more, as many as one round can serve, in turn."""
        return list(islice((stream for stream in self.streams if stream.takes), ROUND))

    def busy(self) -> list[str]:
        """The ids of the streams that still write what they had."""
        return [stream.id for stream in self.streams if stream.open and stream.writing and not stream.gone]

    def had(self, stream: Stream) -> None:
        """`stream` has had its turn."""
        del self.streams[stream]
        self.streams[stream] = None


class Hub:
    """All streams of one service. Runs on the event loop that serves them.

    Args:
        service: whose messages.
        settings: capacity, the time between comments, the server's own URL.
        door: who may listen.
        metrics: counts deliveries, if given.
    """

    def __init__(self, service: Service, settings: Settings, door: Door, metrics: Metrics | None) -> None:
        self._service = service
        self._settings = settings
        self._door = door
        self._metrics = metrics
        self._groups: dict[tuple[str, str], Group] = {}
        self._streams: dict[Stream, None] = {}  # in the order of their last sign of life
        self._left: dict[tuple[str, str], tuple[str, int, int]] = {}  # prefix, since, until, in the order of leaving
        self._joining: list[tuple[list[Subscription], asyncio.Future[None]]] = []
        self._leaving: list[Subscription] = []
        self._back: list[Send] = []
        self._dealing = Dealing()
        self._woken: deque[Stream | Group] = deque()
        self._waiting: dict[Stream | Group, None] = {}
        self._announced = False
        self._closed = False
        self._pump: asyncio.Task[None] | None = None
        self._comments: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._executor: ThreadPoolExecutor | None = None

    def listeners(self, prefix: str = "") -> dict[str, list[str]]:
        """The ids of the streams of each group; of those that get messages of ids with this prefix only."""
        found: dict[str, set[str]] = {}
        for group in self._groups.values():
            if group.prefix.startswith(prefix):
                found.setdefault(group.name, set()).update(stream.id for stream in group.streams)
        return {name: sorted(ids) for name, ids in found.items()}

    def seen(self, prefix: str = "") -> dict[str, dict[str, tuple[int, int | None]]]:
        """Who listens, and who listened lately: per group and id, since when, and when it went (None: it is there).

        Instants are milliseconds since the epoch.

        Args:
            prefix: only those that get messages of ids with this prefix only.
        """
        found: dict[str, dict[str, tuple[int, int | None]]] = {}
        recent = self._service.now() - REMEMBERED
        for (name, id), (reach, since, gone) in self._left.items():
            if gone >= recent and reach.startswith(prefix):
                found.setdefault(name, {})[id] = since, gone
        for stream in self._streams:
            if not stream.group.prefix.startswith(prefix):
                continue
            known = found.setdefault(stream.group.name, {}).get(stream.id)
            first = stream.since if known is None or known[1] is not None else min(stream.since, known[0])
            found[stream.group.name][stream.id] = first, None
        return found

    async def serve(self, scope: Scope, receive: Receive, send: AsgiSend) -> None:
        """Answer `GET /poll/{group}/{id}`; returns when the stream has ended."""
        name, id = _segments(scope)
        if not name or not id:
            await _refuse(send, 404, "")
            return
        try:
            prefix = self._door.enter(scope["headers"], name)
            if prefix is None:
                await _refuse(send, 403, "Forbidden")
                return
        except Unauthorized:
            await _refuse(send, 401, "Unauthorized")
            return
        if self.closed:
            await _refuse(send, 503, _STOPPING)
            return
        if len(self._streams) >= self._settings.poll_connections:
            await _refuse(send, 503, "Poll registration at capacity")
            return
        stream = await self._join(name, prefix, id, send)
        if stream is None:
            await _refuse(send, 503, _STOPPING)
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(_EVENTS)})
            stream.open = True
            self._back += self._dealing.joined(stream.group.dealt)
            self._alive(stream)
            self.wake(stream)
            self.wake(stream.group)
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._leave(stream)

    @property
    def streams(self) -> Collection[Stream]:
        """All streams there are."""
        return self._streams.keys()

    @property
    def closed(self) -> bool:
        """Whether no more streams are served."""
        return self._closed

    def close(self) -> None:
        """End all streams and serve no more. On the event loop; idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._comments is not None:
            self._comments.cancel()
            self._comments = None
        for stream in list(self._streams):
            if stream.takes:
                stream.writing = True
                self._spawn(self._written(stream))

    async def finish(self) -> None:
        """After `close`: return when everything is put back and freed."""
        while self._tasks or self._pump is not None:
            pending = [*self._tasks, *([] if self._pump is None else [self._pump])]
            await asyncio.wait(pending)
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    # ---- streams come and go ------------------------------------------------------------------------

    async def _join(self, name: str, prefix: str, id: str, send: AsgiSend) -> Stream | None:
        """Register a stream, so that it misses nothing from here on; None if all have ended meanwhile."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
        if self._comments is None:
            self._comments = self._loop.create_task(self._comment())
        group = self._groups.get((name, prefix))
        new = group is None
        if group is None:
            group = self._groups[name, prefix] = Group(self, name, prefix)
        stream = Stream(self, group, id, send)
        stream.since = self._service.now()
        group.streams[stream] = None
        self._streams[stream] = None
        joined: asyncio.Future[None] = self._loop.create_future()
        self._joining.append(([group.subscription, stream.subscription] if new else [stream.subscription], joined))
        self._look()
        try:
            await joined
        except BaseException:
            self._leave(stream)
            raise
        if self._closed:
            self._leave(stream)
            return None
        return stream

    def _leave(self, stream: Stream) -> None:
        if stream not in self._streams:
            return
        stream.gone = True
        del self._streams[stream]
        self._waiting.pop(stream, None)
        group = stream.group
        self._left.pop((group.name, stream.id), None)
        self._left[group.name, stream.id] = group.prefix, stream.since, self._service.now()
        if len(self._left) > REMEMBERED_MOST:
            del self._left[next(iter(self._left))]
        group.streams.pop(stream, None)
        self._leaving.append(stream.subscription)
        self._back += self._dealing.left(group.dealt, stream.id)
        if not group.streams:
            self._leaving.append(group.subscription)
            self._waiting.pop(group, None)
            del self._groups[group.key]
        self._look()

    # ---- messages: announced on any thread, moved by one task --------------------------------------------

    def wake(self, receiver: Stream | Group) -> None:
        """There may be something for `receiver`. From any thread."""
        self._woken.append(receiver)
        if self._loop is not None and not self._announced:
            self._announced = True
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self._look)
            else:
                try:
                    self._loop.call_soon_threadsafe(self._look)
                except RuntimeError:  # the loop is closed: nobody listens any more
                    return

    def _look(self) -> None:
        """Have the pump run, if it does not."""
        self._announced = False
        if self._pump is None and self._loop is not None:
            self._pump = self._loop.create_task(self._run())

    async def _run(self) -> None:
        """Move messages and receivers until there is nothing to do."""
        try:
            while self._collect():
                failed = await self._round()
                if failed:
                    await asyncio.sleep(AFTER_FAILURE)
        finally:
            self._pump = None

    def _collect(self) -> bool:
        self._announced = False
        while self._woken:
            receiver = self._woken.popleft()
            alive = receiver in self._streams if isinstance(receiver, Stream) else bool(receiver.streams)
            if alive:
                self._waiting[receiver] = None
        return bool(self._joining or self._leaving or self._back or any(each.has_room for each in self._waiting))

    async def _round(self) -> bool:
        """One exchange with the delivery; whether the storage failed."""
        joining, self._joining = self._joining, []
        leaving, self._leaving = self._leaving, []
        back, self._back = self._back, []
        wants = [(each, min(ROUND, TURN * len(ready))) for each in self._waiting if (ready := each.ready())]
        for each, _ in wants:
            del self._waiting[each]
        new = [subscription for subscriptions, _ in joining for subscription in subscriptions]
        taken: list[list[Send]] = []
        failed = False
        try:
            await self._away(partial(self._exchange, new, leaving, back, wants, taken))
        except ResonateStoreError as error:
            _LOG.error("messages cannot be moved, trying again in %g s: %s", AFTER_FAILURE, error)
            self._joining, joining = joining + self._joining, []
            self._leaving = leaving + self._leaving
            self._back = back + self._back
            failed = True
        for _, joined in joining:
            if not joined.done():
                joined.set_result(None)
        for (receiver, limit), sends in zip_longest(wants, taken):
            if sends is None or len(sends) == limit:
                self._waiting[receiver] = None  # it has not been asked, or there may be more
            if sends:
                self._deal(receiver, sends)
        return failed

    def _exchange(
        self,
        joining: list[Subscription],
        leaving: list[Subscription],
        back: list[Send],
        wants: list[tuple[Stream | Group, int]],
        taken: list[list[Send]],
    ) -> None:
        """What needs the storage, off the event loop where that does I/O; what is done is not done twice."""
        if back:
            self._service.give_back(back)
            back.clear()
        if joining:
            self._service.subscribe(*joining)
        while leaving:
            leaving[-1].close()
            leaving.pop()
        for receiver, limit in wants:
            taken.append(receiver.subscription.take_sends(limit))

    async def _away(self, job: Callable[[], T]) -> T:
        if self._service.storage.immediate:
            return job()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "resonate-poll")
        assert self._loop is not None
        return await self._loop.run_in_executor(self._executor, job)

    def _deal(self, receiver: Stream | Group, sends: list[Send]) -> None:
        """Hand out in turn what was taken for a receiver; what nobody can take any more goes back."""
        ready = receiver.ready()
        if not ready:
            self._back += sends
            return
        for stream, hand in self._hands(receiver, ready, sends).items():
            stream.writing = True
            if receiver is stream.group:
                stream.group.had(stream)
            self._spawn(self._write(stream, hand))

    def _hands(self, receiver: Stream | Group, ready: list[Stream], sends: list[Send]) -> dict[Stream, list[Send]]:
        """Which stream gets what: in turn, but a task goes to one that has not had it lately."""
        hands: dict[Stream, list[Send]] = {}
        ids = [stream.id for stream in ready]
        for number, send in enumerate(sends):
            chosen: int | str = number % len(ready)
            if send.key[0] == "execute" and isinstance(receiver, Group):
                chosen = self._dealing.choose(send, receiver.dealt, ids, number % len(ready), receiver.busy)
            elif send.key[0] == "execute":
                self._dealing.goes_to(send, ready[0].group.dealt, ids[0])
            if isinstance(chosen, str):  # it is to have it as soon as it has written what it has
                self._back.append(replace(send, prefer=chosen))
            else:
                hands.setdefault(ready[chosen], []).append(send)
        return hands

    # ---- writing -----------------------------------------------------------------------------------------

    async def _write(self, stream: Stream, sends: list[Send]) -> None:
        """Write messages to a stream; if it goes away meanwhile they go back, perhaps for a second time."""
        chunk, size = b"", 0
        for send in sends:
            chunk += b"data: " + wire.encode_message(send.message, self._settings.server_url) + b"\n\n"
            if len(chunk) >= CHUNK:
                size += len(chunk)
                await self._body(stream, chunk)
                chunk = b""
        if chunk:
            await self._body(stream, chunk)
        if size:
            await self._body(stream, b"")  # returns when the peer has read enough for more to be written
        await asyncio.sleep(0)  # a connection lost before we wrote has said so by now
        if stream.gone:
            self._back += sends
        if self._metrics is not None:
            for send in sends:
                self._metrics.delivered(send.key[0], "dropped" if stream.gone else "success")
        await self._written(stream)
        if not stream.gone:
            self._alive(stream)
            self._waiting[stream] = self._waiting[stream.group] = None
        self._look()

    async def _written(self, stream: Stream) -> None:
        """A stream has written what it had; at the end of all streams that is the end of this one too."""
        if self._closed and not stream.gone:
            await self._body(stream, b"", more=False)
        stream.writing = False

    async def _body(self, stream: Stream, body: bytes, more: bool = True) -> None:
        try:
            await stream.send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError:  # how some servers say that the peer has gone
            stream.gone = True

    async def _comment(self) -> None:
        """A sign of life on each stream that has been quiet for long, to be seen by both ends."""
        loop, patience = asyncio.get_running_loop(), self._settings.poll_comment / 1000
        while True:
            now = loop.time()
            due = now + patience
            for number, stream in enumerate(list(self._streams)):
                if stream.quiet_since + patience > now:
                    due = stream.quiet_since + patience
                    break
                self._alive(stream)
                if stream.takes:
                    stream.writing = True
                    self._spawn(self._say(stream))
                if number % ROUND == ROUND - 1:
                    await asyncio.sleep(0)  # thousands that came together do not hold up the rest
            await asyncio.sleep(max(0, due - loop.time()))

    async def _say(self, stream: Stream) -> None:
        await self._body(stream, _COMMENT)
        await self._written(stream)
        if self._waiting:
            self._look()

    def _alive(self, stream: Stream) -> None:
        if stream in self._streams and self._loop is not None:
            stream.quiet_since = self._loop.time()
            del self._streams[stream]
            self._streams[stream] = None

    def _spawn(self, work: Awaitable[None]) -> None:
        assert self._loop is not None
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _segments(scope: Scope) -> tuple[str, str]:
    """Group and id, split before they are decoded: an escaped slash belongs to its segment."""
    group, _, id = scope["raw_path"].removeprefix(_PREFIX).partition(b"/")
    if b"/" in id:
        return "", ""
    try:
        return unquote(group.decode("ascii"), errors="strict"), unquote(id.decode("ascii"), errors="strict")
    except UnicodeDecodeError:
        return "", ""


async def _refuse(send: AsgiSend, status: int, text: str) -> None:
    headers = [(b"content-length", b"%d" % len(text))]
    if text:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
