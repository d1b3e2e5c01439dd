"""Look-ups: value(V, t) of many entities over many views in one pipelined round trip, with V, t, age and status."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np

from headrace.bus.clock import Clock, wall_clock
from headrace.errors import FeaturesUnknownError
from headrace.features.entity_key import serializer
from headrace.features.field import Header, unpack
from headrace.features.kernel import Kernel, kernel
from headrace.features.online import NO_CLOCK, Answer, Cursor, Moment, OnlineStore, Source, is_live, present

if TYPE_CHECKING:
    import pandas as pd

    from headrace.features.states import Values

_HEARTBEAT_BOUND_US = 5_000_000


class Options(TypedDict, total=False):
    """What clients can be told: see :class:`FeatureClient`."""

    clock: Clock | Literal["stream"]
    heartbeat_bound_us: int
    services_ms: int
    monotonic: Callable[[], float]


class Status(StrEnum):
    """What is known of one entity in one view, worst first."""

    OUT_OF_RANGE = "out_of_range"
    """The time asked for is older than what the store still knows: there is no value."""
    REBUILDING = "rebuilding"
    """A source partition is missing or catching up: the value may lack events."""
    STALE = "stale"
    """No sign of life of a worker, or the newest event is older than the view's ``max_age``."""
    MISSING = "missing"
    """The store knows no event of this entity."""
    PRESENT = "present"
    """The value is complete at V."""


@dataclass(frozen=True)
class ViewAnswer:
    """One view's part of a look-up; arrays have one item a row. ``age_us`` is -1 where no event is known.

    ``keys`` are the join keys of its entity.
    """

    view: str
    version: str
    columns: Sequence[str]
    values: Sequence[Values]
    statuses: Sequence[Status]
    age_us: np.ndarray
    offsets: Sequence[Mapping[str, int]]
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class Features:
    """The answer to a look-up of ``rows`` rows at ``at_us`` (t, microseconds UTC)."""

    rows: int
    at_us: int
    views: Sequence[ViewAnswer]

    @cached_property
    def columns(self) -> list[str]:
        """The names of the feature columns, in the service's order."""
        return [column for view in self.views for column in view.columns]

    def to_lists(self) -> list[list[Any]]:
        """One list of values a row; None where there is no value."""
        columns = [_to_list(values) for view in self.views for values in view.values]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(self.rows)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row, by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.to_lists()]

    def to_numpy(self) -> np.ndarray:
        """A float64 matrix, one column a feature, NaN where there is no value."""
        columns = [np.where(present, values, np.nan) for view in self.views for values, present in view.values]
        return np.column_stack(columns) if columns else np.zeros((self.rows, 0))

    def to_pandas(self) -> pd.DataFrame:
        """A float64 DataFrame."""
        import pandas as pd  # noqa: PLC0415 - comes with headrace[serving]

        return pd.DataFrame(self.to_numpy(), columns=self.columns)

    def statuses(self, row: int = 0) -> dict[str, Status]:
        """View → status of one row."""
        return {view.view: view.statuses[row] for view in self.views}

    def ages_us(self, row: int = 0) -> dict[str, int | None]:
        """View → microseconds from the newest known event to t, None where there is none."""
        return {view.view: int(view.age_us[row]) if view.age_us[row] >= 0 else None for view in self.views}

    def offsets(self, row: int = 0) -> dict[str, Mapping[str, int]]:
        """V of one row: view → source partition → next offset."""
        return {view.view: view.offsets[row] for view in self.views}


def _to_list(values: Values) -> list[Any]:
    found, present = values
    return [value if there else None for value, there in zip(found.tolist(), present.tolist(), strict=True)]


Step = Callable[[Any], Any]
"""Asks a store; an asynchronous one gives an awaitable."""


class LookUp:
    """All of a client but the waiting: :meth:`steps` says what to ask the store, and is sent what it answered."""

    def __init__(
        self,
        *,
        clock: Clock | Literal["stream"] = wall_clock,
        heartbeat_bound_us: int = _HEARTBEAT_BOUND_US,
        services_ms: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock: Clock | Literal["stream"] = clock
        self._bound_us = heartbeat_bound_us
        self._services_s = services_ms / 1_000
        self._monotonic = monotonic
        self._readers: dict[str, _ViewReader] = {}
        self._services: dict[str, tuple[Sequence[str], float]] = {}

    def steps(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        as_of_us: int | None,
    ) -> Generator[Step, Any, Features]:
        """One look-up. Raises FeaturesUnknownError and EntityKeyError."""
        rows = [entities] if isinstance(entities, Mapping) else list(entities)
        views = (yield from self._views(features)) if isinstance(features, str) else features
        readers = []
        for view in views:
            readers.append((yield from self._reader(view)))  # noqa: PERF401 - it yields
        plans = [reader.plan(rows) for reader in readers]
        wanted = [(reader.name, plan.keys) for reader, plan in zip(readers, plans, strict=True)]
        answers = yield lambda store: store.look_up(wanted)
        founds = [reader.decode(answer) for reader, answer in zip(readers, answers, strict=True)]
        at_us = self._at(founds, as_of_us)
        found = [
            reader.answer(plan, found, at_us, self._bound_us)
            for reader, plan, found in zip(readers, plans, founds, strict=True)
        ]
        return Features(len(rows), at_us, found)

    def _at(self, founds: Sequence[_Found], as_of_us: int | None) -> int:
        if as_of_us is not None:
            return as_of_us
        newest = max((found.clock for found in founds), default=NO_CLOCK)
        if self._clock == "stream":
            return newest if newest > NO_CLOCK else 0
        return max(self._clock(), newest)

    def _views(self, service: str) -> Generator[Step, Any, Sequence[str]]:
        known, until_s = self._services.get(service, ((), 0.0))
        if known and self._monotonic() < until_s:
            return known
        document = yield lambda store: store.get_document(f"service:{service}")
        if document is not None:
            known = [f"{name}@{version}" for name, version in document["views"]]
            self._services[service] = known, self._monotonic() + self._services_s
        elif not known:  # a store that was emptied is filled again: what it said still holds
            message = (
                f"no feature service {service!r} in the online store: has a worker with this definition been started?"
            )
            raise FeaturesUnknownError(message)
        return known

    def _reader(self, view: str) -> Generator[Step, Any, _ViewReader]:
        reader = self._readers.get(view)
        if reader is None:
            spec = yield lambda store: store.get_document(f"view:{view}")
            if spec is None:
                message = (
                    f"no feature view {view!r} in the online store: has a worker with this definition been started?"
                )
                raise FeaturesUnknownError(message)
            reader = self._readers[view] = _ViewReader(view, kernel(spec))
        return reader


class FeatureClient:
    """Looks features up for an application, which needs no definition code: the specs travel through the store.

    ``clock`` gives t: a function returning microseconds (default the wall clock), or ``"stream"`` for the largest
    partition clock that the look-up finds. t is never behind that one, as clocks of machines differ: what is known has
    happened. The answer carries the t that was used. A heartbeat older than ``heartbeat_bound_us`` makes values
    ``stale``. ``services_ms``: how long, in milliseconds, the views of a service may be remembered (0: each look-up
    asks). Safe to share between threads if the store is.
    """

    def __init__(self, store: OnlineStore, **options: Unpack[Options]) -> None:
        self._store = store
        self._look_up = LookUp(**options)

    @classmethod
    def from_url(cls, redis_url: str, namespace: str = "headrace", **options: Any) -> FeatureClient:
        """A client of the store at a Redis URL."""
        from headrace.features.redis_store import RedisOnlineStore  # noqa: PLC0415

        return cls(RedisOnlineStore(redis_url, namespace), **options)

    def get(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        as_of_us: int | None = None,
    ) -> Features:
        """Look up a feature service by name, or a list of views ``name@version``, for one or many entities.

        Each entity is a mapping that holds the join keys (and perhaps more). A join key that is absent or None gives
        ``missing``. ``as_of_us`` asks for exactly that t instead of the clock's. Raises FeaturesUnknownError
        (no such service or view), EntityKeyError (a key of the wrong type) and OnlineStoreUnavailableError.
        """
        steps = self._look_up.steps(features, entities, as_of_us)
        reply = None
        try:
            while True:
                reply = steps.send(reply)(self._store)
        except StopIteration as end:
            found: Features = end.value
            return found


@dataclass(frozen=True)
class _Plan:
    """Which distinct keys to read, and which of them each row means; -1 for a row without a key."""

    keys: Sequence[bytes]
    which: np.ndarray


@dataclass(frozen=True)
class _Found:
    """What was read: tiles by size with the key that each is of, headers and shard of each key, the largest clock."""

    tiles: Sequence[np.ndarray]
    owner: Sequence[np.ndarray]
    rank: Sequence[np.ndarray]
    headers: Sequence[Mapping[Source, Header]]
    shards: Sequence[int]
    moments: Mapping[int, Moment]
    clock: int


class _ViewReader:
    """Reads one view version."""

    def __init__(self, name: str, compiled: Kernel) -> None:
        self.name = name
        self._kernel = compiled
        self._serialize = serializer(compiled.entity_keys)
        self._history_us: int = compiled.spec["history_us"]
        self._max_age_us: int | None = compiled.spec["max_age_us"]

    def plan(self, rows: Sequence[Mapping[str, Any]]) -> _Plan:
        places: dict[tuple[Any, ...], int] = {}
        names = [name for name, _ in self._kernel.entity_keys]
        which = [self._place(tuple(row.get(name) for name in names), places) for row in rows]
        return _Plan([self._serialize(values) for values in places], np.array(which, np.int64))

    @staticmethod
    def _place(values: tuple[Any, ...], places: dict[tuple[Any, ...], int]) -> int:
        return -1 if None in values else places.setdefault(values, len(places))

    def decode(self, answer: Answer) -> _Found:
        sizes = len(self._kernel.sizes)
        tiles: list[list[np.ndarray]] = [[] for _ in range(sizes)]
        owner: list[int] = []
        rank: list[int] = []
        headers: list[dict[Source, Header]] = []
        for key, fields in enumerate(answer.fields):
            headers.append({})
            for order, source in enumerate(sorted(fields)):
                header, found = unpack(fields[source], self._kernel.layout)
                headers[-1][source] = header
                owner.append(key)
                rank.append(order)
                for of_all, of_size in zip(tiles, found, strict=True):
                    of_all.append(of_size)
        clocks = [cursor.clock for moment in answer.moments.values() for cursor in moment.cursors.values()]
        clocks += [header.clock for of_key in headers for header in of_key.values()]
        counts = [np.array([len(part) for part in parts], np.int64) for parts in tiles]
        return _Found(
            [self._kernel.join_read(parts) for parts in tiles],
            [np.repeat(np.array(owner, np.int64), count) for count in counts],
            [np.repeat(np.array(rank, np.int64), count) for count in counts],
            headers,
            answer.shards,
            answer.moments,
            max(clocks, default=NO_CLOCK),
        )

    def answer(self, plan: _Plan, found: _Found, at_us: int, bound_us: int) -> ViewAnswer:
        """The values of each row, fanned out from the distinct keys; the last distinct one is no entity at all."""
        keys = len(plan.keys)
        values = self._kernel.evaluate(found.tiles, found.owner, found.rank, np.full(keys + 1, at_us))
        if at_us < found.clock - self._history_us:
            values = [(column, np.zeros(keys + 1, bool)) for column, _ in values]
        common = {shard: self._common(moment, found.clock, at_us, bound_us) for shard, moment in found.moments.items()}
        newest = [max((header.newest for header in of_key.values()), default=None) for of_key in found.headers]
        statuses = [self._status(common[shard], last, at_us) for shard, last in zip(found.shards, newest, strict=True)]
        ages = np.array([-1 if last is None else max(at_us - last, 0) for last in newest] + [-1])
        placed = zip(found.shards, found.headers, strict=True)
        offsets = [_offsets(found.moments[shard].cursors, of_key) for shard, of_key in placed]
        nowhere = min(found.moments)
        statuses.append(common[nowhere] or Status.MISSING)
        offsets.append(_offsets(found.moments[nowhere].cursors, {}))
        return ViewAnswer(
            self._kernel.spec["view"],
            self._kernel.version,
            self._kernel.columns,
            [(column[plan.which], present[plan.which]) for column, present in values],
            [statuses[key] for key in plan.which.tolist()],
            ages[plan.which],
            [offsets[key] for key in plan.which.tolist()],
            [name for name, _ in self._kernel.entity_keys],
        )

    def _common(self, moment: Moment, clock: int, at_us: int, bound_us: int) -> Status | None:
        """What holds for all entities of the view in one shard."""
        if at_us < clock - self._history_us:
            return Status.OUT_OF_RANGE
        if not is_live(moment.cursors):
            return Status.REBUILDING
        alive_us = min(cursor.heartbeat_us for cursor in present(moment.cursors))
        return Status.STALE if alive_us < moment.now_us - bound_us else None

    def _status(self, common: Status | None, newest: int | None, at_us: int) -> Status:
        if common is not None:
            return common
        if newest is None:
            return Status.MISSING
        too_old = self._max_age_us is not None and at_us - newest > self._max_age_us
        return Status.STALE if too_old else Status.PRESENT


def _offsets(cursors: Mapping[Source, Cursor], headers: Mapping[Source, Header]) -> dict[str, int]:
    """V of one entity: of each partition the larger of cursor and field header."""
    offsets = {source.text: cursor.next_offset for source, cursor in cursors.items()}
    for source, header in headers.items():
        offsets[source.text] = max(offsets.get(source.text, 0), header.next_offset)
    return offsets
