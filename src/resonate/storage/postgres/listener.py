"""Wakes this process when others have something for it, wakes others, and keeps the database's time.

One session listens: `LISTEN` for each group that this process receives for. Notifications
may be lost, so nothing depends on them: it looks by itself each second. Where they cannot
be had at all (a transaction pooler, an engine without them) looking is all there is, and it
is done more often. A few offers are told with the notification, so that nobody need look.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import selectors
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import psycopg

from resonate.daemons import Daemon
from resonate.errors import ResonateStoreError
from resonate.protocol.addresses import PUSHED
from resonate.protocol.rows import Send
from resonate.storage import codec
from resonate.storage.base import Conflict
from resonate.storage.postgres.connection import Connection
from resonate.storage.postgres.failures import Lost
from resonate.storage.postgres.location import Location
from resonate.storage.postgres.presence import Presence
from resonate.storage.postgres.rows import channel_of

POLL: Final = 1.0
"""Seconds after which a process looks by itself: repairs lost notifications, costs next to nothing."""

POLL_DEAF: Final = 0.05
"""Seconds between two looks where there are no notifications."""

GATHER: Final = 0.005
"""Seconds in which groups are notified at most once."""

GATHER_FEW: Final = 0.003
"""The same after a single offer: whoever makes one call after the other waits for each."""

TOLD: Final = 4_000
"""Characters of offers that go along with a notification; PostgreSQL takes up to 8,000 bytes."""

BUSY: Final = 0.02
"""Seconds that the workers of this process have to take a message before others hear of it."""

SURE: Final = 25.0
"""Milliseconds by which the clock may be wrong before the database is asked again."""

OURS: Final = 10_000
"""Messages that are watched for that."""

AWAY: Final = 1.0
"""Seconds before the listening session is opened again after a failure."""

NOTIFY: Final = "SELECT pg_notify(n, t) FROM unnest(%s::text[], %s::text[]) AS k(n, t)"

_LOG: Final = logging.getLogger("resonate.storage")


class Listener:
    """What this process hears from the others that use the schema.

    Args:
        location: the database and schema.
        presence: told whether the database is there.
        opened: called with each new listening session.
        look: called, on the listener's thread, when others may have done something: with True when somebody said so,
            each `POLL` seconds with False; and with the offers that are all that was told.
    """

    def __init__(
        self,
        location: Location,
        presence: Presence,
        opened: Callable[[psycopg.Connection[Any]], None],
        look: Callable[[bool, list[Send]], None],
    ) -> None:
        self._location = location
        self._look = look
        self._opened = opened
        self._connection = Connection(location, presence, self._prepare)
        self._groups: set[str] = set()
        self._changed = False
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._deaf = False
        self.listening = False
        """Whether the first session has been told what to listen for."""
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def open(self) -> None:
        """Open the session now.

        Raises:
            ResonateStoreError: it cannot be opened.
        """
        self._connection.session  # noqa: B018

    @property
    def connection(self) -> Connection:
        """The listening session; whoever else uses it before the thread runs does so alone."""
        return self._connection

    def watch(self, group: str) -> None:
        """Listen for messages to `group`."""
        self._groups.add(group)
        self._changed = True
        if self._thread is None:
            self._thread = Daemon(target=self._run, name="resonate-listener")
            self._thread.start()
        else:
            self.wake()

    def wake(self) -> None:
        """Have the listener look now, from any thread."""
        with contextlib.suppress(OSError):  # full: it will wake; closed: it is no more
            self._waker.send(b"!")

    def close(self) -> None:
        """Listen no longer. Idempotent."""
        self._stopped.set()
        self.wake()
        self._connection.give_up()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._connection.close()
        self._woken.close()
        self._waker.close()

    # ---- inside --------------------------------------------------------------------------------

    def _prepare(self, session: psycopg.Connection[Any]) -> None:
        self._changed = True
        self._opened(session)

    def _run(self) -> None:
        failed = 0
        while not self._stopped.is_set():
            try:
                session = self._connection.session
                self._deaf = self._connection.pooled
                if self._changed and not self._deaf:
                    self._listen(session)
                told, offers = self._wait(session)
                if not self._stopped.is_set():
                    self._look(told, offers)
                failed = 0
            except (psycopg.Error, Lost, Conflict, ResonateStoreError) as error:
                self._connection.drop()
                failed += 1
                if failed == 1:  # a session was lost, and another one may well be had
                    continue
                if failed == 2:
                    text = " ".join(str(error).split())
                    _LOG.warning("messages of other processes are not heard, trying each %g s: %s", AWAY, text)
                self._stopped.wait(AWAY)
            except Exception:
                _LOG.exception("looking for messages of other processes failed, trying again in %g s", AWAY)
                self._stopped.wait(AWAY)

    def _listen(self, session: psycopg.Connection[Any]) -> None:
        self._changed = False
        groups = list(self._groups)
        for group in groups:
            try:
                session.execute(f'LISTEN "{channel(self._location.schema, group)}"')
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.SyntaxError):
                self._deaf = True
                _LOG.info("this database has no LISTEN: messages are looked for each %g s", POLL_DEAF)
                return
        self.listening = bool(groups)

    def _wait(self, session: psycopg.Connection[Any]) -> tuple[bool, list[Send]]:
        """Return when there may be something: whether somebody has said so, and the offers if these are all of it."""
        if self._deaf:
            self._stopped.wait(POLL_DEAF)
            return False, []
        woken, heard = self._woken.fileno(), session.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(woken, selectors.EVENT_READ)
            selector.register(heard, selectors.EVENT_READ)
            ready = {key.fd for key, _ in selector.select(POLL)}
        if woken in ready:
            self._woken.recv(4096)
        told = [told_offers(notify.payload) for notify in session.notifies(timeout=0)] if heard in ready else []
        whole = woken not in ready and all(told)  # else there is something that has to be looked for
        return bool(ready), [offer for offers in told for offer in offers] if whole else []


class Teller:
    """Notifies the processes that listen for a group, a few hundred times a second at most, from a thread of its own.

    What somebody in this process can take is announced to others only if it has not been taken
    after `BUSY`: then those here have enough to do.

    Args:
        execute: carries a statement out.
        schema: whose groups.
    """

    def __init__(self, execute: Callable[..., Any], schema: str) -> None:
        self._execute = execute
        self._schema = schema
        self._groups: dict[str, list[Send]] = {}
        self._ours: dict[tuple[str, ...], tuple[float, str, Send]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def tell(self, sent: Sequence[Send], mine: Collection[str]) -> None:
        """Messages have been stored; this process receives for `mine`. Never waits, never raises."""
        now = time.monotonic()
        with self._changed:
            for send in sent:
                name = channel_of(send.address)
                group = _group_of(name)
                if not name:
                    continue
                elsewhere = send.prefer is not None and f"{group}/{send.prefer}" not in mine
                if name not in mine or elsewhere:
                    self._groups.setdefault(group, []).append(send)
                elif len(self._ours) < OURS and "/" not in name:
                    self._ours[send.key] = now + BUSY, group, send
            if not self._groups and not self._ours:
                return
            if self._thread is None and not self._stopped:
                self._thread = Daemon(target=self._run, name="resonate-teller")
                self._thread.start()
            if self._groups or len(self._ours) == 1:
                self._changed.notify()

    def taken(self, keys: Sequence[tuple[str, ...]]) -> None:
        """Somebody in this process has these in hand."""
        ours = self._ours
        if ours:
            for key in keys:
                ours.pop(key, None)

    def close(self) -> None:
        """Tell what is left, and no more. Idempotent."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._groups and not self._stopped:
                    self._changed.wait(BUSY if self._ours else None)
                    self._left()
                groups, self._groups = self._groups, {}
            if groups:
                self._notify(groups)
            if self._stopped:
                return
            single = all(len(sends) == 1 and sends[0].key[0] == "execute" for sends in groups.values())
            time.sleep(GATHER_FEW if single else GATHER)

    def _left(self) -> None:
        """What nobody here has taken in good time is for others too."""
        now = time.monotonic()
        for key, (at, group, send) in list(self._ours.items()):
            if at > now:  # in order of time
                return
            self._ours.pop(key, None)
            self._groups.setdefault(group, []).append(send)

    def _notify(self, groups: Mapping[str, Sequence[Send]]) -> None:
        try:
            self._execute(NOTIFY, _notices(self._schema, groups))
        except Exception as error:  # they look by themselves
            _LOG.debug("other processes could not be told: %s", error)


def notices(schema: str, sent: Sequence[Send]) -> tuple[list[str], list[str]]:
    """The parameters of `NOTIFY` that tell all who receive for them of messages."""
    groups: dict[str, list[Send]] = {}
    for send in sent:
        name = channel_of(send.address)
        if name:
            groups.setdefault(_group_of(name), []).append(send)
    return _notices(schema, groups)


def _notices(schema: str, groups: Mapping[str, Sequence[Send]]) -> tuple[list[str], list[str]]:
    return [channel(schema, group) for group in groups], [telling(sends) for sends in groups.values()]


def _group_of(name: str) -> str:
    return name.partition("/")[0] if name != PUSHED else name


def telling(sends: Sequence[Send]) -> str:
    """Offers as the text of a notification; empty, which asks for a look, for other news and for too many."""
    if any(send.key[0] != "execute" for send in sends):
        return ""
    text = b64encode(_encode([(send.key[1], codec.encode_send(send)) for send in sends])).decode()
    return text if len(text) <= TOLD else ""


def told_offers(text: str) -> list[Send]:
    """The offers in the text of a notification; none if there has to be a look."""
    try:
        return [codec.decode_send("execute", id, "", body) for id, body in _decode(b64decode(text))] if text else []
    except (ValueError, msgspec.MsgspecError):  # not one of ours
        return []


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


def channel(schema: str, group: str) -> str:
    """The name under which messages for `group` are announced."""
    digest = hashlib.sha256(f"{schema}\0{group}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"resonate_{digest}"


class DatabaseClock:
    """The database's clock, as this process knows it: the machine's monotonic clock and the offset between the two."""

    runs = True

    def __init__(self) -> None:
        self._offset: float | None = None
        self._doubt = float("inf")
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> int:
        """Milliseconds since the epoch; never goes backwards."""
        offset = self._offset
        now = time.time_ns() // 1_000_000 if offset is None else int(time.monotonic() * 1000 + offset)
        if now > self._last:
            self._last = now
            return now
        return self._last

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    def watch(self, changed: Callable[[], None]) -> None:
        """It only runs."""

    def told(self, now: int, asked: float, answered: float) -> None:
        """The database said `now` (ms) between two instants of the monotonic clock (seconds).

        An answer that took long says little: it counts only if it is better than what is known, which itself
        gets worse with time (0.1 ms a second, more than clocks drift).
        """
        with self._lock:
            doubt = (answered - asked) * 1000 / 2
            if doubt <= self._doubt or self._offset is None:
                self._offset = now + 0.5 - (asked + answered) * 500
                self._doubt = doubt
            self._doubt += 0.1

    @property
    def sure(self) -> bool:
        """Whether it is right within `SURE`; an answer that came by way of a new session may have taken seconds."""
        return self._doubt <= SURE
