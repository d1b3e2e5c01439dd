"""`headrace.testing.fold`: what a look-up would answer after these rows, computed without servers.

The parts are those of a worker and of an application: rows are judged, folded into tiles, written as fields to an
online store, here in memory, and read by a feature client::

    rows ──> RowsInMemory ──> ViewPartition ──> MemoryOnlineStore ──> FeatureClient ──> FoldedFeatures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import polars as pl

from headrace.app.in_memory.folded_features import FoldedFeatures
from headrace.app.in_memory.given_rows import GivenRows, RowsInMemory, judged_rows
from headrace.app.in_memory.record import Record
from headrace.base.arguments import expect, expect_items
from headrace.base.times import SettableClock, epoch_us, utc_datetime
from headrace.bus.stream import AfterEventTime, Stream
from headrace.errors import DefinitionError
from headrace.event_log.columns import ACCEPTED
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.view import FeatureView
from headrace.features.kernel.role_rows import view_rows
from headrace.features.online.cursor import CursorState
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_memory import ViewMemory
from headrace.streams.views.view_partition import ViewPartition

if TYPE_CHECKING:
    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import FencedWrite
    from headrace.serving.feature_vectors import FeatureVectors

_OWNER = bytes(16)


def fold(
    what: FeatureView | FeatureService,
    rows: GivenRows,
    *,
    at: datetime | Sequence[datetime] | None = None,
    entity: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    request: RequestValues = None,
    available_at: str | AfterEventTime | None = None,
    zone: str | None = None,
    rejected: Literal["raise", "keep"] = "raise",
) -> FoldedFeatures:
    """Fold rows into a view, or into the views of a service, and return what look-ups at ``at`` answer.

    ``rows`` are dicts, events or :class:`Record` objects, or a table of pandas, Polars or Arrow. If the views have
    several streams, ``rows`` maps each stream, or its topic, to its rows; a list of events needs no mapping. The rows
    of a stream are the records of one partition. Each is written, and known, at its event time. ``Record(row,
    timestamp=…)`` says another time for one row. ``available_at`` says it for all: ``"event_time+5m"``, or the name of
    a column of times. ``zone`` is that of times without one in a table.

    A look-up counts the rows that were known at its time. ``at`` is one time or several; by default the time of the
    newest row. ``entity`` is one entity or several, perhaps with the values of a request; by default all entities of
    the rows. ``request`` is that of :meth:`headrace.FeatureClient.get`.

    A row that a worker would reject raises DefinitionError, which names row and field. With ``rejected="keep"`` it is
    left out, as a worker does, and is in the answer's ``rejected``. DefinitionError also says what else does not fit.

    >>> from datetime import UTC, datetime
    >>> from headrace import Count, Entity, Event, FeatureView, Stream, Sum
    >>> from headrace.testing import fold
    >>> class Payment(Event):
    ...     card: str
    ...     amount: float
    ...     paid_at: datetime
    >>> payments = Stream("payments", Payment, event_time="paid_at")
    >>> card = FeatureView("card", Entity("card"), payments, ["1h"], {"n": Count(), "spent": Sum("amount")})
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> found = fold(card, [{"card": "c7", "amount": 20.0, "paid_at": noon}])
    >>> found["card__spent_1h"], found.status.value
    (20.0, 'present')
    """
    views = [what] if isinstance(what, FeatureView) else list(what.views)
    streams = streams_of(views)
    given = with_streams(streams, rows)
    judged = [
        judged_rows(stream, own, number, available_at=available_at, zone=zone)
        for number, (stream, own) in enumerate(given)
    ]
    if rejected == "raise":
        for each in judged:
            each.check()
    return fold_judged(what, judged, at=at, entity=entity, request=request)


def fold_judged(
    what: FeatureView | FeatureService,
    judged: Sequence[RowsInMemory],
    *,
    at: datetime | Sequence[datetime] | None = None,
    entity: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    request: RequestValues = None,
) -> FoldedFeatures:
    """Return what look-ups answer after rows that were judged: see :func:`fold`."""
    views = [what] if isinstance(what, FeatureView) else list(what.views)
    times = _times(at, judged)
    entities = _entities(views, judged) if entity is None else _given(entity, views)
    folding = MemoryFold(what, views, judged)
    answers: dict[datetime, FeatureVectors] = {time: folding.answer(time, entities, request) for time in sorted(times)}
    kinds = {column: kind for view in views for column, kind in view.spec.column_kinds.items()}
    return FoldedFeatures(entities, times, [answers[time] for time in times], judged, kinds)


class MemoryFold:
    """One partition of each stream, folded into views of a store in memory, step by step."""

    def __init__(
        self, what: FeatureView | FeatureService, views: Sequence[FeatureView], judged: Sequence[RowsInMemory]
    ) -> None:
        self._what, self._judged = what, judged
        self._clock = SettableClock()
        self._store = MemoryOnlineStore(self._clock)
        self._client = FeatureClient(self._store)
        for view in views:
            self._store.put_document(f"view:{view.spec.versioned_name}", to_document(view.spec))
        if isinstance(what, FeatureService):
            self._store.put_document(f"service:{what.name}", to_document(what.spec))
        memories = [ViewMemory(view.spec, self._store) for view in views]
        self._parts = [
            [
                ViewPartition(memory.kernel.spec, own.source, self._store, memory, topic=own.stream.topic)
                for memory in memories
                if own.stream.topic in memory.kernel.spec.topics
            ]
            for own in judged
        ]
        for part in (part for parts in self._parts for part in parts):
            part.acquire(_OWNER, 1)
            self._apply(part, part.marked(CursorState.LIVE))
        self._known = [own.frame.get_column("__available_at").to_physical().to_numpy() for own in judged]
        self._folded = [0] * len(judged)

    def answer(self, at: datetime, entities: Sequence[Mapping[str, Any]], request: RequestValues) -> FeatureVectors:
        """Fold the rows that were known at a time, and look the entities up. The times of the calls ascend."""
        self._clock.now = at
        for number, own in enumerate(self._judged):
            end = int(np.searchsorted(self._known[number], epoch_us(at), side="right"))
            rows = own.frame[self._folded[number] : end]
            self._folded[number] = end
            logged = LoggedRows.from_rows(rows, own.stream.event_time) if rows.height else None
            for part in self._parts[number]:
                self._apply(part, part.heartbeat() if logged is None else part.fold(logged, end))
        if isinstance(self._what, FeatureView):
            return self._client.get_views(self._what.spec.versioned_name, entities, as_of=at)
        return self._client.get(self._what.name, entities, as_of=at, request=request)

    def _apply(self, part: ViewPartition, writes: Sequence[FencedWrite]) -> None:
        self._store.write(writes)
        for write in writes:
            part.applied(write)


def streams_of(views: Sequence[FeatureView]) -> list[Stream]:
    """Return the streams of some views, each once."""
    by_topic = {stream.topic: stream for view in views for stream in view.streams}
    return list(by_topic.values())


def with_streams(streams: Sequence[Stream], rows: GivenRows) -> list[tuple[Stream, GivenRows]]:
    """Return the rows of each stream. Raises DefinitionError if it is not clear of which stream a row is."""
    topics = [stream.topic for stream in streams]
    if isinstance(rows, Mapping):
        of_topics = {key.topic if isinstance(key, Stream) else key: own for key, own in rows.items()}
        others = [topic for topic in of_topics if topic not in topics]
        if others:
            message = f"the rows are of {others}; the views have the streams {topics}. Give one row as a list: [row]"
            raise DefinitionError(message)
        return [(stream, of_topics.get(stream.topic, [])) for stream in streams]
    if len(streams) == 1:
        return [(streams[0], rows)]
    events: dict[Any, str] = {stream.event: stream.topic for stream in streams}
    kinds = [type(row.value if isinstance(row, Record) else row) for row in rows] if isinstance(rows, Sequence) else []
    if len(events) < len(streams) or not kinds or not all(kind in events for kind in kinds):
        message = f"the views have the streams {topics}: say of which each row is, such as {{{topics[0]!r}: […]}}"
        raise DefinitionError(message)
    return [
        (stream, [row for row, kind in zip(rows, kinds, strict=True) if events[kind] == stream.topic])
        for stream in streams
    ]


def _times(at: datetime | Sequence[datetime] | None, judged: Sequence[RowsInMemory]) -> list[datetime]:
    times = [newest(judged)] if at is None else [at] if isinstance(at, (datetime, str)) else list(at)
    for time in times:
        expect(
            "fold", "at", time, datetime, write="a time, such as datetime(2026, 1, 31, tzinfo=UTC), or a list of times"
        )
        if time.tzinfo is None:
            raise DefinitionError(f"at={time!r} has no time zone: give one, such as datetime(2026, 1, 31, tzinfo=UTC)")
    if not times:
        raise DefinitionError("at=[] has no time: give one or several, or leave it out")
    return list(dict.fromkeys(times))


def newest(judged: Sequence[RowsInMemory]) -> datetime:
    """Return the time of the newest row: when it was known, or its event time if that is later.

    Raises DefinitionError if there is no row.
    """
    found = [
        int(time)
        for own in judged
        for name in {"__available_at", own.stream.event_time.partition(".")[0]}
        for time in _times_us(own, name)
    ]
    if not found:
        raise DefinitionError("there are no rows: say with at=… at which time to look up")
    return utc_datetime(max(found))


def _times_us(own: RowsInMemory, name: str) -> list[int]:
    column = own.frame.filter(pl.col("__verdict") == ACCEPTED).get_column(name)
    if isinstance(column.dtype, pl.Struct):
        column = column.struct.field(own.stream.event_time.partition(".")[2])
    last = column.to_physical().max()
    return [] if last is None else [int(str(last))]


def _given(entity: object, views: Sequence[FeatureView]) -> list[Mapping[str, Any]]:
    """Return the entities that were asked for. Raises DefinitionError unless each is a dict of its join keys."""
    keys = ", ".join(f"'{key}': …" for key in dict.fromkeys(key for view in views for key in view.spec.key_names))
    if isinstance(entity, Mapping):
        return [entity]
    write = f"a dict with the join keys, such as {{{keys}}}, or a list of them"
    expect_items("fold", "entity", entity, Mapping, write=write)
    return [*cast("Sequence[Mapping[str, Any]]", entity)]


def _entities(views: Sequence[FeatureView], judged: Sequence[RowsInMemory]) -> list[dict[str, Any]]:
    """Return the entities of the rows, sorted. Raises DefinitionError if the views have different join keys."""
    views = [view for view in views if not view.spec.entity.is_global] or views
    names = views[0].spec.key_names
    if any(view.spec.key_names != names for view in views):
        keys = sorted({key for view in views for key in view.spec.key_names})
        raise DefinitionError(f"the views have different join keys: give entity={{{', '.join(map(repr, keys))}: …}}")
    parts = [
        view_rows(own.frame.filter(pl.col("__verdict") == ACCEPTED), view.spec, own.stream.topic).select(names)
        for view in views
        for own in judged
        if own.stream.topic in view.spec.topics
    ]
    return pl.concat(parts).drop_nulls().unique().sort(names).to_dicts()
