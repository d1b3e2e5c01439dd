"""A look-up as a generator, which does not wait: it yields each read of the store, and is sent the reply.

:class:`LookUp` decides what to read, and a client reads it. The client gives each step to its store, with or without
``await``, and sends the reply back::

    steps = look_up.steps(ServiceName("delay"), {"origin": "JFK"})
    step = next(steps)              # GetDocuments(names=("service:delay",))
    step = steps.send([document])   # ReadViews(wanted=[("airport@9f…", [b"…JFK"]), …], documents=())
    steps.send(([], fields))        # StopIteration, whose value is the FeatureVectors
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

from headrace.base.times import SECOND, Clock, duration_us, epoch_us, utc_datetime, wall_clock
from headrace.errors import DefinitionError, EntityKeyError, FeaturesUnknownError, RequestValueError
from headrace.features.definitions.spec import read_spec
from headrace.features.definitions.store_documents import read_service, read_view_name, view_names
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.on_demand import NOTHING, OnDemandFeatures, on_demand, with_request
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.online.redis.store_options import StoreOptions
from headrace.serving.answer_cache import AnswerCache
from headrace.serving.feature_vectors import FeatureVectors
from headrace.serving.view_group import GroupRead, ViewGroup, ViewVersion

if TYPE_CHECKING:
    from headrace.base.times import Duration
    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import StoredFields, WantedKeys
    from headrace.serving.left_out import LeftOutRecords
    from headrace.serving.view_group import RowValues

    Document = Mapping[str, Any]
    Entities = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_FIRST_US = epoch_us(datetime.min.replace(tzinfo=UTC))
_LAST_US = epoch_us(datetime.max.replace(tzinfo=UTC))
_MOST_GROUPS = 256
"""The number of different lists of views that a client remembers."""


class LookUpOptions(TypedDict, total=False):
    """The options of a feature client without those of its store: see :class:`FeatureClient`."""

    clock: Clock | Literal["stream"]
    heartbeat_bound: Duration
    service_cache: Duration
    cache: Duration
    cache_entries: int
    monotonic: Callable[[], float]


class ClientOptions(StoreOptions, LookUpOptions, total=False):
    """All options of a feature client: see :class:`FeatureClient`."""


# -- what is looked up -------------------------------------------------------------------------------------------------


class ServiceName(NamedTuple):
    """A feature service, by its name."""

    name: str

    @property
    def documents(self) -> tuple[str, ...]:
        """The documents that say which views to read."""
        return (f"service:{self.name}",)

    def resolve(self, documents: Sequence[Document]) -> tuple[list[str], OnDemandFeatures]:
        """Return the service's views as ``name@version``, and its on-demand features."""
        service = read_service(documents[0])
        return view_names(service), on_demand(service.spec.on_demand)

    def unknown(self, _: int) -> FeaturesUnknownError:
        """Return the error for a document that the store does not have."""
        return FeaturesUnknownError(
            f"no feature service {self.name!r} in the online store: has a worker with this definition been started? "
            "A view is looked up with get_views"
        )


class ViewNames(NamedTuple):
    """Views: ``name`` for the version that is deployed, or ``name@version``."""

    names: tuple[str, ...]

    @property
    def documents(self) -> tuple[str, ...]:
        """The documents that name the deployed versions; none for a view that comes with its version."""
        return tuple(f"view:{name}" for name in self.names if "@" not in name)

    def resolve(self, documents: Sequence[Document]) -> tuple[list[str], OnDemandFeatures]:
        """Return the views as ``name@version``, and no on-demand features."""
        deployed = iter(documents)
        return [name if "@" in name else str(read_view_name(next(deployed)).views[0]) for name in self.names], NOTHING

    def unknown(self, place: int) -> FeaturesUnknownError:
        """Return the error for the document at this place, which the store does not have."""
        return _unknown_view(self.documents[place].removeprefix("view:"))


def _unknown_view(name: str) -> FeaturesUnknownError:
    return FeaturesUnknownError(
        f"no feature view {name!r} in the online store: has a worker with this definition been started?"
    )


# -- the steps ---------------------------------------------------------------------------------------------------------


class GetDocuments(NamedTuple):
    """Read these documents. The reply is a list: each document, or None."""

    names: Sequence[str]


class ReadViews(NamedTuple):
    """Read the fields of entities in views, after these documents. The reply is a pair: documents, and fields."""

    wanted: WantedKeys
    documents: Sequence[str] = ()


Step = GetDocuments | ReadViews
Steps = Generator[Step, Any, FeatureVectors]


@dataclass(frozen=True)
class _Resolved:
    """The views that a name stands for. They are read again from the store at ``until_s`` or later.

    ``found`` has the store's documents under the names ``documents``.
    """

    documents: Sequence[str]
    found: Sequence[Document]
    views: Sequence[str]
    on_demand: OnDemandFeatures
    until_s: float


class LookUp:
    """The part of a feature client that does not depend on the store. ``steps`` is called once for each look-up."""

    def __init__(
        self,
        *,
        clock: Clock | Literal["stream"] = wall_clock,
        heartbeat_bound: Duration = "5s",
        service_cache: Duration = "0s",
        cache: Duration = "0s",
        cache_entries: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        keep_s = duration_us(cache) / SECOND
        self._clock: Clock | Literal["stream"] = clock
        self._heartbeat_bound_us = duration_us(heartbeat_bound)
        self._resolved_for_s = max(duration_us(service_cache) / SECOND, keep_s)
        self._cache = AnswerCache(keep_s, cache_entries) if keep_s else None
        self._monotonic = monotonic
        self._views: dict[str, ViewVersion] = {}
        self._groups: dict[tuple[str, ...], ViewGroup] = {}
        self._resolved: dict[ServiceName | ViewNames, _Resolved] = {}

    def steps(
        self,
        name: ServiceName | ViewNames,
        entities: Entities,
        as_of: datetime | None = None,
        request: RequestValues = None,
        left_out: LeftOutRecords | None = None,
    ) -> Steps:
        """Return the steps of one look-up. They raise FeaturesUnknownError, EntityKeyError and RequestValueError."""
        as_of_us = None if as_of is None else instant_us(as_of)
        rows = _rows(entities)
        read, made = yield from self._read(name, rows)
        if left_out is not None:
            read = read.without(left_out, rows)
        at_us = self._at(read, as_of_us)
        answers = read.answers(at_us, self._heartbeat_bound_us)
        found = FeatureVectors(len(rows), utc_datetime(at_us), answers)
        return found.with_on_demand(made, made.given(with_request(rows, request))) if made.names else found

    def _at(self, read: GroupRead, as_of_us: int | None) -> int:
        if as_of_us is not None:
            return as_of_us
        if self._clock == "stream":
            return read.stream_us(wall_clock())
        return read.at_us(self._clock())

    # -- which views -------------------------------------------------------------------------------------------------

    def _read(
        self, name: ServiceName | ViewNames, rows: RowValues
    ) -> Generator[Step, Any, tuple[GroupRead, OnDemandFeatures]]:
        known = self._resolved.get(name)
        if known is None:
            documents = name.documents
            known = self._resolve(name, (yield GetDocuments(documents)) if documents else ())
        elif self._monotonic() >= known.until_s:
            return (yield from self._read_and_check(name, known, rows))
        return (yield from self._read_views(known.views, rows)), known.on_demand

    def _resolve(self, name: ServiceName | ViewNames, documents: Sequence[Document | None]) -> _Resolved:
        there = [document for document in documents if document is not None]
        if len(there) < len(documents):
            raise name.unknown(list(documents).index(None))
        until_s = self._monotonic() + self._resolved_for_s if documents else float("inf")
        known = self._resolved.get(name)
        if known is not None and known.found == there:
            known = replace(known, until_s=until_s)
        else:
            if len(self._resolved) >= _MOST_GROUPS:
                self._resolved.clear()
            known = _Resolved(name.documents, there, *name.resolve(there), until_s)
        self._resolved[name] = known
        return known

    def _read_and_check(
        self, name: ServiceName | ViewNames, known: _Resolved, rows: RowValues
    ) -> Generator[Step, Any, tuple[GroupRead, OnDemandFeatures]]:
        """Read the known views. In the same round trip, check that the name still stands for them."""
        group = yield from self._group(known.views)
        row_keys = group.row_keys(rows)
        documents, stored = yield from self._stored(group.wanted(row_keys), known.documents)
        if None not in documents:  # a store that was emptied is filled again: until then the known views stay
            now = self._resolve(name, documents)
            if now.views != known.views:
                return (yield from self._read_views(now.views, rows)), now.on_demand
            known = now
        return GroupRead(group, row_keys, stored), known.on_demand

    def _read_views(self, views: Sequence[str], rows: RowValues) -> Generator[Step, Any, GroupRead]:
        group = yield from self._group(views)
        row_keys = group.row_keys(rows)
        _, stored = yield from self._stored(group.wanted(row_keys))
        return GroupRead(group, row_keys, stored)

    def _group(self, views: Sequence[str]) -> Generator[Step, Any, ViewGroup]:
        """Return the group of these views. Specs that are not known yet are read, in one round trip."""
        wanted = tuple(views)
        known = self._groups.get(wanted)
        if known is None:
            yield from self._learn([view for view in wanted if view not in self._views])
            if len(self._groups) >= _MOST_GROUPS:
                self._groups.clear()
            known = self._groups[wanted] = ViewGroup([self._views[view] for view in wanted])
        return known

    def _learn(self, views: Sequence[str]) -> Generator[Step, Any, None]:
        if views:
            documents = yield GetDocuments([f"view:{view}" for view in views])
            for view, document in zip(views, documents, strict=True):
                if document is None:
                    raise _unknown_view(view)
                self._views[view] = ViewVersion(view, kernel(read_spec(document, ViewSpec, f"the view {view!r}")))

    # -- what is stored ----------------------------------------------------------------------------------------------

    def _stored(
        self, wanted: WantedKeys, documents: Sequence[str] = ()
    ) -> Generator[Step, Any, tuple[Sequence[Document | None], Sequence[StoredFields]]]:
        """Return the documents and the stored fields; some fields may come from the cache."""
        found: Sequence[Document | None]
        stored: Sequence[StoredFields]
        if self._cache is None:
            found, stored = yield ReadViews(wanted, documents)
            return found, stored
        now_s = self._monotonic()
        recalled = self._cache.recall(wanted, now_s)
        found, stored = (), ()
        if recalled.missing or documents:
            found, stored = yield ReadViews(recalled.missing, documents)
            self._cache.keep(recalled.missing, stored, now_s)
        return found, recalled.complete(stored, self._monotonic())


def _rows(entities: object) -> list[Mapping[str, Any]]:
    """Return the entities as a list. Raises EntityKeyError for anything but a mapping or a sequence of mappings."""
    if isinstance(entities, Mapping):
        return [entities]
    if isinstance(entities, Sequence) and not isinstance(entities, str | bytes):
        for row, entity in enumerate(entities):
            if not isinstance(entity, Mapping):
                message = f"entity {row} is a {type(entity).__name__}, not a mapping such as {{'shop': 'a'}}"
                raise EntityKeyError(message)
        return list(entities)
    message = (
        f"the entities are a {type(entities).__name__}: give a mapping such as {{'shop': 'a'}}, or a list of "
        "mappings; a pandas table gives them with .to_dict('records'), a Polars table with .to_dicts()"
    )
    raise EntityKeyError(message)


def instant_us(as_of: datetime) -> int:
    """Return a time as microseconds since the epoch.

    Raises DefinitionError for a time without a zone, and RequestValueError if its zone puts it out of the calendar.
    """
    if as_of.tzinfo is None:
        message = f"as_of={as_of!r} has no time zone: give one, such as datetime(2026, 1, 31, tzinfo=UTC)"
        raise DefinitionError(message)
    us = epoch_us(as_of)
    if not _FIRST_US <= us <= _LAST_US:
        message = f"as_of={as_of.isoformat()} is in no year from 1 to 9999 UTC: ask for a time that exists"
        raise RequestValueError(message)
    return us
