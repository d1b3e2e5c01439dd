"""All of a look-up but the waiting: what to ask the store, and what its answers mean at the reader's clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, overload

import numpy as np

from headrace.base.times import Clock, wall_clock
from headrace.bus.source_partition import NO_CLOCK, text_of
from headrace.errors import FeaturesUnknownError
from headrace.features.kernel.on_demand import NOTHING, OnDemandFeatures, on_demand, with_request
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.features.online.entity_key import serializer
from headrace.features.online.field_reader import FieldOffsets, FieldReader
from headrace.serving.answer_cache import AnswerCache
from headrace.serving.feature_vectors import FeatureVectors, Status, ViewAnswer

if TYPE_CHECKING:
    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import ShardSnapshot, StoredFields
    from headrace.features.online.value_columns import ValueColumns
    from headrace.serving.answer_cache import WantedKeys

    _Rows = Sequence[Mapping[str, Any]]

_HEARTBEAT_BOUND_US = 5_000_000
_FOR_EVER = 2**63
_MISSING, _STALE, _PRESENT = Status.MISSING, Status.STALE, Status.PRESENT
_VIEWS = 256
"""How many lists of views are remembered."""


class ClientOptions(TypedDict, total=False):
    """What clients can be told: see :class:`FeatureClient`."""

    clock: Clock | Literal["stream"]
    heartbeat_bound_us: int
    services_ms: int
    cache_ms: int
    cache_entries: int
    monotonic: Callable[[], float]


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
        cache_ms: int = 0,
        cache_entries: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock: Clock | Literal["stream"] = clock
        self._bound_us = heartbeat_bound_us
        self._services_s = max(services_ms, cache_ms) / 1_000
        self._cache = AnswerCache(cache_ms / 1_000, cache_entries) if cache_ms else None
        self._monotonic = monotonic
        self._readers: dict[str, _ViewReader] = {}
        self._views: dict[tuple[str, ...], _Views] = {}
        self._services: dict[str, _Service] = {}

    def steps(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        as_of_us: int | None,
        request: RequestValues = None,
    ) -> Generator[Step, Any, FeatureVectors]:
        """One look-up. Raises FeaturesUnknownError, EntityKeyError and RequestValueError."""
        rows = [entities] if isinstance(entities, Mapping) else list(entities)
        views, plans, answers, made = yield from self._found(features, rows)
        read = views.reading.read([p.placed(a.packed) for p, a in zip(plans, answers, strict=True)])
        clocks = [max(clock, answer.clock) for clock, answer in zip(read.clocks, answers, strict=True)]
        at_us = self._at(clocks, as_of_us)
        values, ages_us = read.values(at_us), read.ages_us(at_us)
        found = [
            reader.answer(_Found(*found), at_us, self._bound_us)
            for reader, *found in zip(views.readers, plans, answers, clocks, values, ages_us, read.offsets, strict=True)
        ]
        answer = FeatureVectors(len(rows), at_us, found)
        return answer.with_on_demand(made, made.given(with_request(rows, request))) if made.names else answer

    def _at(self, clocks: Sequence[int], as_of_us: int | None) -> int:
        if as_of_us is not None:
            return as_of_us
        newest = max(clocks, default=NO_CLOCK)
        if self._clock == "stream":
            return newest if newest > NO_CLOCK else 0
        return max(self._clock(), newest)

    def _found(self, features: str | Sequence[str], rows: _Rows) -> Generator[Step, Any, _Asked]:
        """What the store answers of the views that are asked for, or that a service has now."""
        if not isinstance(features, str):
            return (yield from self._of_views(features, rows))
        known = self._services.get(features)
        if known is None:
            known = yield from self._service(features)
        elif self._monotonic() >= known.until_s:
            return (yield from self._of_service(known, rows))
        return (yield from self._of_views(known.views, rows, known.made))

    def _service(self, name: str) -> Generator[Step, Any, _Service]:
        """A service that is not known yet."""
        document = yield lambda store: store.get_document(f"service:{name}")
        if document is None:
            message = (
                f"no feature service {name!r} in the online store: has a worker with this definition been started?"
            )
            raise FeaturesUnknownError(message)
        return self._remember(name, document)

    def _remember(self, name: str, document: Mapping[str, Any]) -> _Service:
        service = self._services[name] = _Service(name, document, self._monotonic() + self._services_s)
        return service

    def _of_service(self, known: _Service, rows: _Rows) -> Generator[Step, Any, _Asked]:
        """What the views of a known service say, in one round trip if they still are its views."""
        views = yield from self._known(known.views)
        plans, wanted = views.plans(rows)
        document, answers = yield from self._ask(wanted, f"service:{known.name}")
        service = known
        if document is not None:  # a store that was emptied is filled again: what it said still holds
            service = self._remember(known.name, document)
            if service.views != known.views:
                return (yield from self._of_views(service.views, rows, service.made))
        return _Asked(views, plans, answers, service.made)

    def _of_views(
        self, names: Sequence[str], rows: _Rows, made: OnDemandFeatures = NOTHING
    ) -> Generator[Step, Any, _Asked]:
        views = yield from self._known(names)
        plans, wanted = views.plans(rows)
        _, answers = yield from self._ask(wanted)
        return _Asked(views, plans, answers, made)

    def _known(self, names: Sequence[str]) -> Generator[Step, Any, _Views]:
        """Views that are looked up together."""
        wanted = tuple(names)
        known = self._views.get(wanted)
        if known is None:
            readers = []
            for name in names:
                readers.append((yield from self._reader(name)))  # noqa: PERF401 - it yields
            if len(self._views) >= _VIEWS:
                self._views.clear()
            known = self._views[wanted] = _Views(readers)
        return known

    def _ask(self, wanted: WantedKeys, document: str = "") -> Generator[Step, Any, tuple[Any, Sequence[StoredFields]]]:
        """The answers, of which some may be known, and a document if its name is given."""
        if self._cache is None:
            return (yield from _asked(wanted, document))
        now_s = self._monotonic()
        recalled = self._cache.recall(wanted, now_s)
        found: Any = None
        answers: Sequence[StoredFields] = []
        if recalled.missing or document:
            found, answers = yield from _asked(recalled.missing, document)
            self._cache.keep(recalled.missing, answers, now_s)
        return found, recalled.whole(answers, self._monotonic())

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


def _asked(wanted: WantedKeys, document: str) -> Generator[Step, Any, tuple[Any, Sequence[StoredFields]]]:
    if not document:
        return None, (yield lambda store: store.look_up(wanted))
    found, answers = yield lambda store: store.look_up_with(document, wanted)
    return found, answers


class _Service:
    """What the store said of a service, and until when nobody asks again."""

    def __init__(self, name: str, document: Mapping[str, Any], until_s: float) -> None:
        self.name, self.until_s = name, until_s
        self.views = [f"{view}@{version}" for view, version in document["views"]]
        self.made = on_demand(document)


class _Asked(NamedTuple):
    """What was asked, each view's answer, and what the service makes of them on demand."""

    views: _Views
    plans: Sequence[_Plan]
    answers: Sequence[StoredFields]
    made: OnDemandFeatures


class _Plan(NamedTuple):
    """Which distinct keys to read, and which of them each row means; None: each its own.

    Rows without a key mean one more, which is not read.
    """

    keys: Sequence[bytes]
    which: np.ndarray | None
    has_nowhere: bool

    def placed(self, packed: Sequence[Sequence[bytes]]) -> Sequence[Sequence[bytes]]:
        """What was read of each key."""
        return [*packed, ()] if self.has_nowhere else packed

    def shards(self, answer: StoredFields) -> Sequence[int]:
        """The shard of each key."""
        return [*answer.shards, min(answer.moments)] if self.has_nowhere else answer.shards


class _Found(NamedTuple):
    """What a look-up found of a view; values and ages have one item a key."""

    plan: _Plan
    answer: StoredFields
    clock: int
    values: ValueColumns
    ages_us: np.ndarray
    offsets: FieldOffsets


class _Views:
    """Views that are looked up together: what of it is the same each time."""

    def __init__(self, readers: Sequence[_ViewReader]) -> None:
        self.readers = readers
        self.reading = FieldReader([reader.kernel for reader in readers])
        by_entity = {reader.entity: reader for reader in readers}
        self._first = [*by_entity.values()]
        self._which = [[*by_entity].index(reader.entity) for reader in readers]

    def plans(self, rows: _Rows) -> tuple[Sequence[_Plan], WantedKeys]:
        """The plan of each view, and what to ask for; views of one entity have the same plan."""
        plans = [reader.plan(rows) for reader in self._first]
        of_views = [plans[which] for which in self._which]
        return of_views, [(reader.name, plan.keys) for reader, plan in zip(self.readers, of_views, strict=True)]


class _ViewReader:
    """Reads one view version."""

    def __init__(self, name: str, compiled: TileKernel) -> None:
        self.name = name
        self.kernel = compiled
        self.entity = tuple((key, kind) for key, kind in compiled.entity_keys)
        self._view: str = compiled.spec["view"]
        self._columns = compiled.columns
        self._keys = [key for key, _ in self.entity]
        self._serialize = serializer(self.entity)
        self._history_us: int = compiled.spec["history_us"]
        max_age_us: int | None = compiled.spec["max_age_us"]
        self._max_age_us = _FOR_EVER if max_age_us is None else max_age_us

    def plan(self, rows: Sequence[Mapping[str, Any]]) -> _Plan:
        keys = self._keys
        wanted = [tuple([row.get(key) for key in keys]) for row in rows]
        distinct = [values for values in dict.fromkeys(wanted) if None not in values]
        packed = [self._serialize(values) for values in distinct]
        if len(distinct) == len(rows):
            return _Plan(packed, None, has_nowhere=False)
        places = {values: place for place, values in enumerate(distinct)}
        which = np.array([places.get(values, len(places)) for values in wanted])
        return _Plan(packed, which, has_nowhere=bool((which == len(places)).any()))

    def answer(self, found: _Found, at_us: int, bound_us: int) -> ViewAnswer:
        """The values of each row, fanned out from the distinct keys."""
        plan, answer, clock, values, ages_us, offsets = found
        which, shards = plan.which, plan.shards(answer)
        common = {shard: self._common(moment, clock, at_us, bound_us) for shard, moment in answer.moments.items()}
        statuses = [common[shard] or self._of_age(age) for shard, age in zip(shards, ages_us.tolist(), strict=True)]
        if at_us < clock - self._history_us:
            values = values.absent()
        if which is not None:
            values = values.of_rows(which)
            statuses = [statuses[key] for key in which.tolist()]
            ages_us = ages_us[which]
        of_rows = _RowOffsets(answer.moments, shards, offsets, which)
        return ViewAnswer(
            self._view, self.kernel.version, self._columns, values, statuses, ages_us, of_rows, self._keys
        )

    def _of_age(self, age_us: int) -> Status:
        if age_us < 0:
            return _MISSING
        return _STALE if age_us > self._max_age_us else _PRESENT

    def _common(self, moment: ShardSnapshot, clock: int, at_us: int, bound_us: int) -> Status | None:
        """What holds for all entities of the view in one shard."""
        if at_us < clock - self._history_us:
            return Status.OUT_OF_RANGE
        _, is_live, heartbeat_us = moment.signs
        if not is_live:
            return Status.REBUILDING
        return Status.STALE if heartbeat_us < moment.now_us - bound_us else None


class _RowOffsets(Sequence[Mapping[str, int]]):
    """V of each row, worked out when it is asked for: of each partition the larger of cursor and field header."""

    def __init__(
        self,
        moments: Mapping[int, ShardSnapshot],
        shards: Sequence[int],
        offsets: FieldOffsets,
        which: np.ndarray | None,
    ) -> None:
        self._moments, self._shards, self._offsets = moments, shards, offsets
        self._which: Sequence[int] | np.ndarray = range(len(shards)) if which is None else which

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, int]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, int]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, int] | Sequence[Mapping[str, int]]:
        if isinstance(index, slice):
            return [self._of_key(int(key)) for key in self._which[index]]
        return self._of_key(int(self._which[index]))

    def _of_key(self, key: int) -> dict[str, int]:
        offsets = dict(self._moments[self._shards[key]].offsets)
        for name, next_offset in self._offsets.of_key(key):
            text = text_of(name)
            offsets[text] = max(offsets.get(text, 0), next_offset)
        return offsets
