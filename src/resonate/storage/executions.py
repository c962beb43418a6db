"""How executions are found by several filters at once: one of them drives, the others are looked at.

Each storage keeps lists of executions, the newest first: by phase, by function and phase, by
group and phase, by label; and it can list a range of ids. The shortest of the lists that a
search may go by drives it. Lists that hold few of what is wanted are long only if all others
are longer, so the work is bounded (`EXAMINED`): a page may be short and yet have a next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct

from resonate.protocol.listing import PHASES, Fault, Holder, Load, Phase, Wanted, clip, fits, is_label
from resonate.protocol.rows import PromiseRow

EXAMINED: Final = 20_000
"""Entries that one search goes through at most."""

CHUNK: Final = 1_000
"""Entries read at once at most."""

WEIGHED: Final = (50, 1_000, EXAMINED)
"""Entries up to which lists are compared by their length: first a few, then more if all have those."""

SORTED: Final = 5_000
"""Entries in a range of ids up to which they are sorted by their instants for each page."""

NAMES: Final = 200
"""Functions or groups that are counted apart at most."""

PHASE: Final = "phase"
FUNCTION: Final = "function"
GROUP: Final = "group"
LABEL: Final = "label"
PREFIX: Final = "prefix"

Key = tuple[int, str]
"""The instant at which an execution was begun, and its id: what lists are ordered by."""


class Source(Struct, frozen=True):
    """A list that a search may go by.

    Attributes:
        kind: PHASE, FUNCTION, GROUP, LABEL or PREFIX.
        name: the function, group, label or prefix.
        value: of the label.
        is_mixed: whether it holds other functions and groups than those that are looked for.
    """

    kind: str
    name: str = ""
    value: str = ""
    is_mixed: bool = False


class Found(Struct, frozen=True, gc=False):
    """An entry as a list shows it."""

    begun: int
    id: str
    phase: str
    function: str | None = None
    group: str | None = None


class Index(Protocol):
    """What a storage keeps of its executions."""

    def newest(
        self, source: Source, phases: Sequence[Phase], since: int | None, before: Key | None, limit: int
    ) -> list[Found]:
        """Of a list, those that were begun from `since` on and before `before`, newest first.

        Lists by phase, function and group give only those in one of `phases`, the others all. Function and group
        are filled in only if the list `is_mixed`: that is another look for each entry.
        """

    def count(self, source: Source, phase: Phase, since: int | None, until: int | None, most: int) -> int:
        """How many there are in a list, in `phase` where it is one by phase, function or group; up to `most`.

        Of a range of ids, all instants.
        """

    def names(self, kind: str, limit: int) -> list[str]:
        """The functions or groups that executions have."""

    def labelled(self, ids: Sequence[str], name: str, value: str) -> set[str]:
        """Those of `ids` that have a label."""

    def rows(self, ids: Sequence[str]) -> list[PromiseRow]:
        """The promises with these ids, in any order."""

    def faults(self, limit: int, most: int, shown: int) -> list[Fault]:
        """See `Listing.faults`."""

    def loads(self, most: int) -> list[Load]:
        """See `Listing.loads`."""

    def holders(self, most: int) -> list[Holder]:
        """See `Listing.holders`."""


class Executions:
    """See `protocol.listing.Listing`.

    Args:
        index: of a storage.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self.faults = index.faults
        self.loads = index.loads
        self.holders = index.holders

    def search(self, wanted: Wanted, before: Key | None, limit: int) -> tuple[list[PromiseRow], Key | None]:
        page: list[Found] = []
        source = _mixed(self._driver(wanted), wanted)
        last, examined, chunk = before, 0, limit + 1
        while examined < EXAMINED:
            entries = self._entries(source, wanted, last, chunk)
            examined += len(entries)
            page += self._fitting(source, wanted, entries)
            if len(page) > limit:
                page = page[:limit]
                last = (page[-1].begun, page[-1].id)
                break
            if len(entries) < chunk:
                last = None
                break
            last = (entries[-1].begun, entries[-1].id)
            chunk = min(CHUNK, chunk * 4)
        return self._rows(wanted, page), last

    def count(self, wanted: Wanted, by: str, most: int) -> tuple[dict[str, dict[str, int]], bool]:
        if not by:
            counts, partial = self._count(wanted, most)
            return {"": counts}, partial
        found: dict[str, dict[str, int]] = {}
        names = self._index.names(by, NAMES + 1)
        some = len(names) > NAMES
        for name in names[:NAMES]:
            if getattr(wanted, by) in (None, name):
                function = name if by == FUNCTION else wanted.function
                group = name if by == GROUP else wanted.group
                narrowed = Wanted(
                    wanted.phases, function, group, wanted.tags, wanted.prefix, wanted.since, wanted.until
                )
                counts, partial = self._count(narrowed, most)
                some = some or partial
                if counts:
                    found[name] = counts
        return found, some

    # ---- inside --------------------------------------------------------------------------------

    def _count(self, wanted: Wanted, most: int) -> tuple[dict[str, int], bool]:
        alone = _alone(wanted)
        if alone is not None:
            since, until = wanted.since, wanted.until
            each = {phase: self._index.count(alone, phase, since, until, most + 1) for phase in _phases(wanted)}
            return {phase: count for phase, count in each.items() if count}, False
        source, found = _mixed(self._driver(wanted), wanted), Counter[str]()
        last: Key | None = None
        seen = 0
        while seen <= most:
            entries = self._entries(source, wanted, last, CHUNK)
            seen += len(entries)
            found.update(entry.phase for entry in self._fitting(source, wanted, entries))
            if len(entries) < CHUNK:
                return dict(found), False
            last = (entries[-1].begun, entries[-1].id)
        return dict(found), True

    def _driver(self, wanted: Wanted) -> Source:
        """The shortest list that holds all that is wanted."""
        sources = list(_sources(wanted))
        others = sources[:-1]
        if wanted.phases is None or any(source.kind in (FUNCTION, GROUP) for source in others):
            sources = others or sources  # the last one holds more than some other does
        source = sources[0]
        for bound in WEIGHED if len(sources) > 1 else ():
            lengths = [self._length(each, wanted, bound) for each in sources]
            shortest = min(lengths)
            source = sources[lengths.index(shortest)]
            if shortest < bound:
                break
        if source.kind != PREFIX or self._length(source, wanted, SORTED) < SORTED:
            return source
        return next((other for other in sources if other.kind != PREFIX), Source(PHASE))

    def _length(self, source: Source, wanted: Wanted, most: int) -> int:
        length = 0
        for phase in _phases(wanted) if source.kind in (PHASE, FUNCTION, GROUP) else PHASES[:1]:
            if length < most:
                length += self._index.count(source, phase, wanted.since, wanted.until, most - length)
        return length

    def _entries(self, source: Source, wanted: Wanted, last: Key | None, limit: int) -> list[Found]:
        before = last
        if wanted.until is not None and (last is None or last[0] >= wanted.until):
            before = (wanted.until, "")
        return self._index.newest(source, _phases(wanted), wanted.since, before, limit)

    def _fitting(self, source: Source, wanted: Wanted, entries: Sequence[Found]) -> list[Found]:
        """Of some entries those that have all that is wanted, in their order."""
        prefix, phases = wanted.prefix or "", _phases(wanted)
        function, group = (None if text is None else clip(text) for text in (wanted.function, wanted.group))
        found = [
            entry
            for entry in entries
            if entry.phase in phases
            and entry.id.startswith(prefix)
            and (function is None or entry.function in (None, function))
            and (group is None or entry.group in (None, group))
        ]
        for name, value in (wanted.tags or {}).items():
            own = (source.kind, source.name, source.value) == (LABEL, clip(name), clip(value))
            if found and is_label(name) and not own:
                labelled = self._index.labelled([entry.id for entry in found], clip(name), clip(value))
                found = [entry for entry in found if entry.id in labelled]
        return found

    def _rows(self, wanted: Wanted, entries: Sequence[Found]) -> list[PromiseRow]:
        """The promises of entries; a tag of the protocol is in no list, so it is looked at here."""
        rows = {row.promise.id: row for row in self._index.rows([entry.id for entry in entries])}
        found = (rows.get(entry.id) for entry in entries)
        return [row for row in found if row is not None and fits(wanted, row.promise)]


def _mixed(source: Source, wanted: Wanted) -> Source:
    """`source`, with what has to be looked at besides it."""
    function = wanted.function is not None and source.kind != FUNCTION
    group = wanted.group is not None and source.kind != GROUP
    return Source(source.kind, source.name, source.value, function or group)


def _phases(wanted: Wanted) -> tuple[Phase, ...]:
    """Each once."""
    return PHASES if wanted.phases is None else tuple(dict.fromkeys(wanted.phases))


def _sources(wanted: Wanted) -> Iterator[Source]:
    """The lists that hold all that is wanted; the one by phase, which always does, last."""
    for name, value in (wanted.tags or {}).items():
        if is_label(name):
            yield Source(LABEL, clip(name), clip(value))
    if wanted.function is not None:
        yield Source(FUNCTION, clip(wanted.function))
    if wanted.group is not None:
        yield Source(GROUP, clip(wanted.group))
    if wanted.prefix:
        yield Source(PREFIX, wanted.prefix)
    yield Source(PHASE)


def _alone(wanted: Wanted) -> Source | None:
    """The list that holds what is wanted and nothing else, if there is one."""
    if wanted.tags or wanted.prefix or (wanted.function is not None and wanted.group is not None):
        return None
    return next(_sources(wanted))
