"""Pausing a schedule: a tag of ours among those of its promises, which the machine honours.

`schedule.create` of a schedule that exists changes nothing, as everywhere; except that the tag
`resonate:paused`, if it is `true` or `false`, says whether its occurrences are left out from
now on. So pausing is one request, whoever creates the schedule again without that tag (as
programs do when they start) leaves it paused, and a server of another make answers with a
schedule that does not have the tag, which tells whoever asked that it cannot pause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from resonate.protocol.records import Schedule
from resonate.protocol.requests import ScheduleCreate

PAUSED: Final = "resonate:paused"


def is_paused(schedule: Schedule) -> bool:
    """Whether the occurrences of a schedule are left out."""
    return schedule.promise_tags.get(PAUSED) == "true"


def unpaused(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a schedule without what is said of its pause."""
    return {name: value for name, value in tags.items() if name != PAUSED}


def new(tags: dict[str, str]) -> dict[str, str]:
    """Tags of a new schedule: that it is not paused need not be said."""
    return unpaused(tags) if tags.get(PAUSED) == "false" else tags


def wants_change(known: Schedule, tags: Mapping[str, str]) -> bool:
    """Whether a create with `tags` pauses `known`, or ends its pause."""
    wanted = tags.get(PAUSED)
    return wanted in ("true", "false") and (wanted == "true") != is_paused(known)


def steered(known: Schedule, next_run_at: int) -> Schedule:
    """`known` paused, or its pause ended: what fell into the pause is left out for good.

    Args:
        next_run_at: its first occurrence from now on.
    """
    tags = unpaused(known.promise_tags)
    if is_paused(known):
        return replace(known, promise_tags=tags, next_run_at=next_run_at)
    return replace(known, promise_tags={**tags, PAUSED: "true"})


def is_same(known: Schedule, create: ScheduleCreate) -> bool:
    """Whether `create` defines what is known already; whether that is paused is no part of the definition."""
    return (known.cron, known.promise_id, known.promise_timeout, known.promise_param, unpaused(known.promise_tags)) == (
        create.cron,
        create.promise_id,
        create.promise_timeout,
        create.promise_param,
        unpaused(create.promise_tags),
    )


def as_paused_as(known: Schedule, create: ScheduleCreate) -> ScheduleCreate:
    """`create`, for a schedule that is to take the place of `known`: a pause outlasts the definition."""
    if not is_paused(known):
        return create
    return replace(create, promise_tags={**create.promise_tags, PAUSED: "true"})
