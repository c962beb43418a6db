"""A user's own store and the protocol of today: each other's records, tags and messages.

Pure translation for `legacy`. Old stores name tags differently and keep text where the
wire has base64; both names of a tag are written, so that old and new readers agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resonate.models.encoder import Encoder
from resonate.models.message_source import PromiseMesg, ValueMesg
from resonate.models.store import PromiseRecord, ScheduleRecord, ValueRecord
from resonate.network.marks import KEY, MARK, OLD_TARGET, OLD_TIMER, from_wire, to_wire, todays_names
from resonate.protocol.records import ORIGIN, TARGET, TIMER, Promise, PromiseState, Schedule, Value

OLD_ROOT: Final = "resonate:root"

_STATES: Final[dict[str, PromiseState]] = {
    "PENDING": "pending",
    "RESOLVED": "resolved",
    "REJECTED": "rejected",
    "REJECTED_CANCELED": "rejected_canceled",
    "REJECTED_TIMEDOUT": "rejected_timedout",
}


def promise_of(record: PromiseRecord) -> Promise:
    """A store's promise as the protocol has it."""
    state = _STATES[record.state]
    return Promise(
        record.id,
        state,
        value_of(record.param),
        value_of(record.value),
        _tags_of(record.id, record.tags, record.ikey_for_create),
        record.timeout,
        record.created_on,
        None if state == "pending" else record.completed_on or record.timeout,
    )


def promise_told(mesg: PromiseMesg, encoder: Encoder[str | None, str | None]) -> Promise:
    """The promise of a `notify` message; its data is as the store's encoder writes it."""
    state = _STATES[mesg["state"]]
    return Promise(
        mesg["id"],
        state,
        _value_told(mesg["param"], encoder),
        _value_told(mesg["value"], encoder),
        _tags_of(mesg["id"], mesg["tags"], mesg["idempotencyKeyForCreate"]),
        mesg["timeout"],
        mesg["createdOn"],
        None if state == "pending" else mesg["completedOn"] or mesg["timeout"],
    )


def value_of(value: ValueRecord) -> Value:
    """A store's payload as the protocol has it."""
    return Value(dict(value.headers) if value.headers else None, to_wire(value.data))


def schedule_of(record: ScheduleRecord) -> Schedule:
    """A store's schedule as the protocol has it."""
    tags = dict(record.promise_tags or ())
    return Schedule(
        record.id,
        record.cron,
        record.promise_id,
        record.promise_timeout,
        value_of(record.promise_param),
        _without_old(tags),
        record.created_on,
        record.next_runtime,
        record.last_runtime,
    )


def old_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with the names that old stores route and time by beside today's."""
    both = dict(tags)
    if TARGET in tags:
        both.setdefault(OLD_TARGET, tags[TARGET])
    if tags.get(TIMER) == "true":
        both.setdefault(OLD_TIMER, "true")
    if ORIGIN in tags:
        both.setdefault(OLD_ROOT, tags[ORIGIN])
    return both


def key_of(id: str, tags: Mapping[str, str]) -> str | None:
    """The idempotency key for the creation of a promise: the id, unless its maker said otherwise."""
    return tags.get(KEY, None if MARK in tags else id)


def text_of(value: Value) -> str | None:
    """The text that a store is to keep."""
    return from_wire(value.data)


def _value_told(value: ValueMesg, encoder: Encoder[str | None, str | None]) -> Value:
    return Value(value["headers"] or None, to_wire(encoder.decode(value["data"])))


def _tags_of(id: str, given: Mapping[str, str] | None, key: str | None) -> dict[str, str]:
    tags = dict(given or ())
    tags.update(todays_names(tags))
    tags = _without_old(tags)
    if key is not None and key != id and MARK not in tags:
        tags[KEY] = key
    return tags


def _without_old(tags: dict[str, str]) -> dict[str, str]:
    """The tags without the old names that `old_tags` put beside today's; a program's own stay."""
    added = tags.get(MARK, "").split()[1:]
    for old, new in ((OLD_TARGET, TARGET), (OLD_TIMER, TIMER), (OLD_ROOT, ORIGIN)):
        if old in tags and tags[old] == tags.get(new) and (new == ORIGIN or new not in added):
            del tags[old]
    return tags
