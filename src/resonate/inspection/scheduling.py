"""Schedules as a person steers them: paused, going on, run once beside their calendar."""

from __future__ import annotations

from collections.abc import Callable

from resonate.errors import ResonateStoreError
from resonate.inspection.commands import command
from resonate.inspection.steering import Refusal
from resonate.protocol.descent import Send
from resonate.protocol.pauses import PAUSED, is_paused, unpaused
from resonate.protocol.records import BRANCH, ORIGIN, PARENT, SCHEDULE, Promise, Schedule
from resonate.protocol.requests import PromiseCreate, PromiseGet, ScheduleCreate, ScheduleGet
from resonate.protocol.validation import expand


class Scheduling:
    """Acts on schedules through whatever carries requests to a service.

    Args:
        send: carries requests of the protocol; `Network.send`.
        now: milliseconds since the epoch, as the service has it.
    """

    def __init__(self, send: Send, now: Callable[[], int]) -> None:
        self._send = send
        self._now = now

    def pause(self, id: str) -> Schedule:
        """Leave out the occurrences of a schedule from now on; programs that define it again leave it paused.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: it is paused already, or the server is of a make that cannot pause schedules.
        """
        known = self._known(id)
        if is_paused(known):
            raise Refusal(f"schedule {id} is paused already; it goes on with: {command('schedules resume', id)}")
        return self._steered(known, "true")

    def resume(self, id: str) -> Schedule:
        """Let a paused schedule go on with its next occurrence; those that fell into the pause are left out.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: it is not paused.
        """
        known = self._known(id)
        if not is_paused(known):
            raise Refusal(f"schedule {id} is not paused")
        return self._steered(known, "false")

    def run_now(self, id: str) -> Promise:
        """Begin what a schedule begins, once and now, beside its calendar; works while it is paused too.

        Raises:
            ResonateStoreError: 100.404, there is none of this id.
            Refusal: what it would begin exists, or was refused.
        """
        schedule = self._known(id)
        now = self._now()
        begun = expand(schedule.promise_id, schedule.id, now)
        if self._send([PromiseGet(begun)])[0].promise is not None:
            raise Refusal(
                f"schedule {id} begins {begun}, which exists: without {{{{.timestamp}}}} in its promise id it begins "
                f"only one. What became of that: {command('show', begun)}"
            )
        tags = {**unpaused(schedule.promise_tags), SCHEDULE: id, ORIGIN: begun, BRANCH: begun, PARENT: begun}
        create = PromiseCreate(begun, now + schedule.promise_timeout, schedule.promise_param, tags)
        (answer,) = self._send([create])
        if answer.promise is None:
            raise Refusal(f"schedule {id} cannot be run: {answer.error}")
        return answer.promise

    def _known(self, id: str) -> Schedule:
        (answer,) = self._send([ScheduleGet(id)])
        if answer.schedule is None:
            if answer.status == 404:
                raise ResonateStoreError(f"The specified schedule was not found: {id}", 40400)
            raise Refusal(f"schedule {id} cannot be read: {answer.error}")
        return answer.schedule

    def _steered(self, known: Schedule, paused: str) -> Schedule:
        create = ScheduleCreate(
            known.id,
            known.cron,
            known.promise_id,
            known.promise_timeout,
            known.promise_param,
            {**known.promise_tags, PAUSED: paused},
        )
        (answer,) = self._send([create])
        if answer.schedule is None:
            raise Refusal(f"schedule {known.id} cannot be changed: {answer.error}")
        if is_paused(answer.schedule) != (paused == "true"):
            raise Refusal(
                f"this server does not know how to pause schedules; nothing was changed. Delete {known.id} instead, "
                f"and create it again later: {command('schedules get', known.id)} shows all of it"
            )
        return answer.schedule
