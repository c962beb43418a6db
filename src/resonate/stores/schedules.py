"""The low-level schedule client: what is behind `r.schedules`, and what `r.schedule` defines with.

A schedule creates one promise at each occurrence of its cron expression (UTC). Where the
protocol has no place for what a program gave (key, description, tags of the schedule
itself), it is kept as JSON in a header of the promises' param and not shown there.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any, Final

from msgspec.structs import replace

from resonate.errors import ResonateStoreError
from resonate.network import marks
from resonate.network.base import Network
from resonate.protocol import cron as crons
from resonate.protocol import pauses
from resonate.protocol.records import EXTERNAL, SCOPE, TARGET, Value
from resonate.protocol.records import Schedule as ScheduleRow
from resonate.protocol.requests import ScheduleCreate, ScheduleDelete, ScheduleGet, ScheduleSearch
from resonate.stores.exchange import (
    NO_SCHEDULE,
    REFUSED,
    Exchange,
    arun,
    check_optional_text,
    check_text,
    check_texts,
    check_whole,
    checked,
    refusal,
    run,
)
from resonate.stores.records import ABOUT, Schedule

SCHEDULE_EXISTS: Final = 40400
RUN_ID: Final = "{{.id}}-{{.timestamp}}"
"""The ids of the runs of `define`: a valid root in every dialect of the protocol."""

_LOG: Final = logging.getLogger("resonate")

Page = tuple[list[Schedule], str | None]


class ScheduleClient:
    """Schedules, over a network. `aio` has the same methods for async code.

    Every method raises `TypeError` or `ValueError` for arguments that cannot be, before
    anything is sent, and `ResonateStoreError` for what the store refuses.
    """

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def aio(self) -> AioScheduleClient:
        """The same methods for async code: `await r.schedules.aio.get(id)`."""
        return AioScheduleClient(self)

    def create(
        self,
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int,
        *,
        ikey: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        promise_headers: dict[str, str] | None = None,
        promise_data: str | None = None,
        promise_tags: dict[str, str] | None = None,
    ) -> Schedule:
        """Create a schedule, or give the one that was created with the same key.

        Args:
            id: unique among schedules.
            cron: 5 fields, or 6 with seconds first, in UTC; 0 and 7 are Sunday.
            promise_id: id of the promises; `{{.id}}` and `{{.timestamp}}` (ms) are replaced.
            promise_timeout: milliseconds from a run to its promise's deadline.
            ikey: idempotency key.
            description, tags: of the schedule itself.
            promise_headers, promise_data: param of the promises; to have a function run, its call as JSON.
            promise_tags: tags of the promises; `resonate:target` names who runs them.

        Raises:
            ValueError: a cron expression that cannot be read, or another value out of range.
            ResonateStoreError: 100.404 "Schedule already exists", with another key or none.
        """
        return run(
            self._network,
            self._create(
                id,
                cron,
                promise_id,
                promise_timeout,
                ikey,
                description,
                tags,
                promise_headers,
                promise_data,
                promise_tags,
            ),
        )

    def get(self, id: str) -> Schedule:
        """Read a schedule.

        Raises:
            ResonateStoreError: 100.40403 if there is none.
        """
        return run(self._network, self._get(id))

    def delete(self, id: str) -> None:
        """Delete a schedule; the promises it has created stay.

        Raises:
            ResonateStoreError: 100.40403 if there is none.
        """
        run(self._network, self._delete(id))

    def search(self, *, tags: dict[str, str] | None = None, limit: int = 100, cursor: str | None = None) -> Page:
        """Schedules in the order of their ids, a page at a time.

        Args:
            tags: only those whose promises have all of these tags.
            limit: length of the page, 1 to 1000.
            cursor: what the page before came with.

        Returns:
            The schedules, and the cursor of the next page: None if this was the last.

        Raises:
            NotSupported: the store has no search.
        """
        return run(self._network, self._search(tags, limit, cursor))

    def define(
        self,
        id: str,
        cron: str,
        data: str | None,
        headers: dict[str, str] | None,
        timeout: int,
        tags: dict[str, str],
    ) -> Schedule:
        """Have a call made at each occurrence; another definition under the same id is replaced.

        Args:
            id: unique among schedules; the runs are called `ID-MILLISECONDS`.
            cron: as for `create`.
            data, headers: the encoded call.
            timeout: milliseconds that a run may take.
            tags: of the runs; must name a target.
        """
        return run(self._network, self._define(id, cron, data, headers, timeout, tags))

    # ---- exchanges -------------------------------------------------------------------------------

    def _create(
        self,
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int,
        ikey: str | None,
        description: str | None,
        tags: Any,
        promise_headers: Any,
        promise_data: str | None,
        promise_tags: Any,
    ) -> Exchange[Schedule]:
        check_text(id=id, cron=cron, promise_id=promise_id)
        check_whole(promise_timeout=promise_timeout)
        check_optional_text(ikey=ikey, description=description, promise_data=promise_data)
        check_texts(tags=tags, promise_headers=promise_headers, promise_tags=promise_tags)
        given = promise_tags or {}
        added = _added(given)
        mark = uuid.uuid4().hex
        about = {"mark": mark, "ikey": ikey, "description": description, "tags": tags, "added": list(added)}
        headers, name = promise_headers or {}, ABOUT
        while name in headers:
            name += "+"
        param = Value({**headers, name: _json(about)}, marks.to_wire(promise_data))
        request = ScheduleCreate(id, cron, promise_id, promise_timeout, param, {**given, **added})
        _check(request)
        [answer] = yield [request]
        if answer.schedule is None:
            raise refusal(answer, REFUSED, f"creating schedule {id!r}")
        recorded = _about(answer.schedule)
        if recorded.get("mark") != mark and (ikey is None or recorded.get("ikey") != ikey):
            raise ResonateStoreError(f"Schedule already exists: {id}", SCHEDULE_EXISTS)
        return Schedule(answer.schedule, recorded, self)

    def _get(self, id: str) -> Exchange[Schedule]:
        check_text(id=id)
        [answer] = yield [checked(ScheduleGet(id))]
        if answer.schedule is None:
            raise _missing(id) if answer.status == 404 else refusal(answer, REFUSED, f"reading schedule {id!r}")
        return Schedule(answer.schedule, _about(answer.schedule), self)

    def _delete(self, id: str) -> Exchange[None]:
        check_text(id=id)
        [answer] = yield [checked(ScheduleDelete(id))]
        if answer.error is not None:
            raise _missing(id) if answer.status == 404 else refusal(answer, REFUSED, f"deleting schedule {id!r}")

    def _search(self, tags: Any, limit: int, cursor: str | None) -> Exchange[Page]:
        check_texts(tags=tags)
        check_whole(limit=limit)
        check_optional_text(cursor=cursor)
        [answer] = yield [checked(ScheduleSearch(tags, limit, cursor))]
        if answer.schedules is None:
            raise refusal(answer, REFUSED, "searching schedules")
        return [Schedule(row, _about(row), self) for row in answer.schedules], answer.cursor

    def _define(
        self, id: str, cron: str, data: str | None, headers: Any, timeout: int, tags: dict[str, str]
    ) -> Exchange[Schedule]:
        check_text(id=id, cron=cron)
        request = ScheduleCreate(id, cron, RUN_ID, timeout, Value(headers, data), tags)
        _check(request)
        [answer] = yield [request]
        if answer.schedule is not None and not pauses.is_same(answer.schedule, request):
            _LOG.warning("schedule %r is replaced: %s becomes %s", id, _text(answer.schedule), _text(request))
            _, answer = yield [ScheduleDelete(id), pauses.as_paused_as(answer.schedule, request)]
        if answer.schedule is None:
            raise refusal(answer, REFUSED, f"creating schedule {id!r}")
        return Schedule(answer.schedule, _about(answer.schedule), self)


class AioScheduleClient:
    """`ScheduleClient` for the inside of an event loop: nothing here blocks it."""

    __slots__ = ("_client",)

    def __init__(self, client: ScheduleClient) -> None:
        self._client = client

    async def create(
        self,
        id: str,
        cron: str,
        promise_id: str,
        promise_timeout: int,
        *,
        ikey: str | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        promise_headers: dict[str, str] | None = None,
        promise_data: str | None = None,
        promise_tags: dict[str, str] | None = None,
    ) -> Schedule:
        """`ScheduleClient.create`, awaited."""
        exchange = self._client._create(
            id,
            cron,
            promise_id,
            promise_timeout,
            ikey,
            description,
            tags,
            promise_headers,
            promise_data,
            promise_tags,
        )
        return await arun(self._client._network, exchange)

    async def get(self, id: str) -> Schedule:
        """`ScheduleClient.get`, awaited."""
        return await arun(self._client._network, self._client._get(id))

    async def delete(self, id: str) -> None:
        """`ScheduleClient.delete`, awaited."""
        await arun(self._client._network, self._client._delete(id))

    async def search(self, *, tags: dict[str, str] | None = None, limit: int = 100, cursor: str | None = None) -> Page:
        """`ScheduleClient.search`, awaited."""
        return await arun(self._client._network, self._client._search(tags, limit, cursor))

    async def define(
        self,
        id: str,
        cron: str,
        data: str | None,
        headers: dict[str, str] | None,
        timeout: int,
        tags: dict[str, str],
    ) -> Schedule:
        """`ScheduleClient.define`, awaited."""
        return await arun(self._client._network, self._client._define(id, cron, data, headers, timeout, tags))


def _added(given: dict[str, str]) -> dict[str, str]:
    """What the promises' tags lack: today's names, and for those without target what makes them awaitable."""
    added = marks.todays_names(given)
    if TARGET not in given and TARGET not in added:
        added.update({name: value for name, value in ((EXTERNAL, "true"), (SCOPE, "global")) if name not in given})
    return added


def _check(request: ScheduleCreate) -> None:
    """Check the field rules; that there is a target is a rule of servers, who say so themselves.

    Raises:
        ValueError: names the field. InvalidId: an id that cannot be one.
    """
    problem = crons.check(request.cron)
    if problem is not None:
        raise ValueError(f"cron must be a cron expression: {problem}, got {request.cron!r}")
    checked(replace(request, promise_tags={TARGET: "poll://any@default", **request.promise_tags}))


def _about(row: ScheduleRow) -> dict[str, Any]:
    """What a schedule has beside the protocol's fields; nothing if other writers made it."""
    headers = row.promise_param.headers or {}
    name = marks.mark_of(headers, ABOUT)
    try:
        about = json.loads(headers[name]) if name is not None else {}
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}


def _json(about: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in about.items() if value}, separators=(",", ":"))


def _text(schedule: ScheduleRow | ScheduleCreate) -> str:
    call = marks.from_wire(schedule.promise_param.data)
    return f"{schedule.cron!r} {call} for {schedule.promise_tags.get(TARGET)}"


def _missing(id: str) -> ResonateStoreError:
    return ResonateStoreError(f"The specified schedule was not found: {id}", NO_SCHEDULE)
